//! The crash matrix of tokens: every call that a rotation makes × every place where it can be cut. Afterwards, and without
//! anybody's help, the vault holds a token that Twilio takes, and nothing is left behind there.
//!
//! As with passwords, the vault is a process that is killed with SIGKILL, and one in this process where time has to pass.
//! A confirmation ends the hold, so that no minute has to pass.

use std::fmt::Write as _;

use credvault::grpc::proto::{Rotation, RotationState, VerificationStatus};
use jiff::SignedDuration;

use super::{DISCARD, MAKE, PROMOTE, held, rotate_token, rotation_of, status, with_main};
use crate::at_carriers::matrix::{Cut, gone_on, told};
use crate::providers::{SID, TOKEN, create_provider};
use crate::rotations::{cancel, confirm, get};
use crate::support::Clients;
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::process::Process;

const MAIN: &str = "accounts/dev/providers/main";

/// The call that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Make,
    Discard,
    Verify,
    Finish,
    Probe,
    GiveUp,
}

impl At {
    const ALL: [Self; 6] =
        [Self::Make, Self::Discard, Self::Verify, Self::Finish, Self::Probe, Self::GiveUp];

    /// What its request has in it.
    fn call(self) -> String {
        match self {
            Self::Make => MAKE.to_owned(),
            Self::Discard | Self::GiveUp => DISCARD.to_owned(),
            Self::Finish => PROMOTE.to_owned(),
            Self::Verify | Self::Probe => format!("GET /2010-04-01/Accounts/{SID}.json"),
        }
    }

    /// How many calls like it come before it, from when it is prepared.
    fn skipped(self) -> u64 {
        // The new token is tried, and then the old one, before it is ended.
        if self == Self::Probe { 2 } else { 0 }
    }

    /// Whether it changes something.
    fn changes(self) -> bool {
        !matches!(self, Self::Verify | Self::Probe)
    }

    /// Whether Twilio has done it.
    fn is_done(self, twilio: &FakeTwilio) -> bool {
        let (first, second) = twilio.tokens_of(SID);
        match self {
            Self::Make => second.is_some(),
            Self::Discard | Self::GiveUp => second.is_none(),
            Self::Finish => first.as_deref() != Some(TOKEN),
            Self::Verify | Self::Probe => true,
        }
    }

    fn end(self) -> RotationState {
        if self == Self::GiveUp { RotationState::Cancelled } else { RotationState::Succeeded }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vault_holds_a_token_that_twilio_takes_wherever_a_rotation_is_cut() {
    let mut table = String::new();
    let mut row = |at: At, cut: &str, first: &str, steps: &str| {
        let (at, end) = (format!("{at:?}"), at.end().as_str_name().replace("ROTATION_STATE_", ""));
        writeln!(table, "  {at:<9} {cut:<21} {first}{end} after {steps}").unwrap();
    };
    for at in At::ALL {
        for cut in Cut::ALL {
            // A read that is refused for a while is one that did not work yet.
            if at.changes() || cut != Cut::CrashThenRefused {
                row(at, &format!("{cut:?}"), "", &cut_off(at, cut, &[]).await);
            }
        }
    }
    for at in At::ALL {
        row(at, "Down", "NEEDS_ATTENTION, then ", &down_for_an_hour(at).await);
    }
    println!("  call      cut                   end\n{table}");
}

/// Cuts a rotation and lets the vault go on. Says what its calls came to.
async fn cut_off(at: At, cut: Cut, more: &[(&str, &str)]) -> String {
    let what = format!("{at:?} {cut:?}");
    let twilio = FakeTwilio::start().await;
    twilio.add_account(SID, TOKEN);
    let url = twilio.url();
    let own = [("CREDVAULT_UPSTREAM_TWILIO_API_URL", url.as_str())];
    let environment: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::dev(dir.path(), &environment);
    let mut clients = process.clients();
    let mut provider = create_provider("main");
    "accounts/dev".clone_into(&mut provider.parent);
    clients.create_provider(provider).await.unwrap();

    if at == At::Discard {
        twilio.fail_call(MAKE, 0, Fault::CloseAfterEffect);
    }
    twilio.fail_call(&at.call(), at.skipped(), cut.fault());
    let before = twilio.calls_to(&at.call()) + at.skipped();
    let begun = {
        let clients = clients.clone();
        tokio::spawn(async move { drive(&clients, at).await })
    };
    while twilio.calls_to(&at.call()) <= before {
        tokio::task::yield_now().await;
    }
    if cut.crashes() {
        match cut {
            Cut::CrashBeforeTheCommit => {
                process.freeze();
                twilio.release();
                while !at.is_done(&twilio) || twilio.in_flight() > 0 {
                    tokio::task::yield_now().await;
                }
            }
            Cut::CrashBeforeTheAnswer | Cut::CrashThenRefused => {
                while !at.is_done(&twilio) {
                    tokio::task::yield_now().await;
                }
            }
            _ => {}
        }
        if cut == Cut::Stop {
            process.ask_to_stop();
            twilio.release();
            process.end();
        } else {
            process.kill();
        }
        begun.abort();
        drop(begun.await);
        if cut == Cut::CrashThenRefused {
            twilio.set_fault(Some(Fault::Status(401)));
        }
        process = Process::dev(dir.path(), &environment);
        clients = process.clients();
    } else {
        drop(begun.await);
    }

    let name = only(&clients).await;
    if cut == Cut::CrashThenRefused {
        // It may have changed there, so a no does not end it.
        let mut rotation = get(&clients, &name).await.unwrap().rotation.unwrap();
        while !matches!(rotation.state(), RotationState::NeedsAttention)
            && rotation.end_time.is_none()
        {
            rotation = gone_on(&clients, &name).await;
        }
        assert_eq!(rotation.state(), RotationState::NeedsAttention, "{what}: {rotation:?}");
        twilio.set_fault(None);
    }
    let rotation = finished(&clients, &name).await;
    assert_eq!(rotation.state(), at.end(), "{what}: {rotation:?}");
    agrees(&clients, MAIN, &twilio, at, &what).await;
    drop(process);
    told(&rotation)
}

/// Begins a rotation and goes on with it as far as the call that is cut. Whether it gets an answer does not matter.
async fn drive(clients: &Clients, at: At) {
    let Ok(answer) = rotate_token(clients, rotation_of(MAIN)).await else { return };
    let name = answer.rotation.unwrap().name;
    match at {
        At::GiveUp => drop(cancel(clients, &name).await),
        At::Finish | At::Probe => drop(confirm(clients, &name, Vec::new()).await),
        At::Make | At::Discard | At::Verify => {}
    }
}

/// The vault and Twilio have the same token, and there is no other.
async fn agrees(clients: &Clients, name: &str, twilio: &FakeTwilio, at: At, what: &str) {
    let verified = clients.verify_provider(name).await.unwrap();
    assert_eq!(status(&verified), VerificationStatus::Verified, "{what}: Twilio has another");
    let (first, second) = twilio.tokens_of(SID);
    assert_eq!(second, None, "{what}: something is left behind");
    let is_old = first.as_deref() == Some(TOKEN);
    assert_eq!((is_old, twilio.accepts_token(SID, TOKEN)), (at == At::GiveUp, at == At::GiveUp));
    assert_eq!(verified.token_version, if at == At::GiveUp { 1 } else { 2 }, "{what}");
}

async fn only(clients: &Clients) -> String {
    let request = credvault::grpc::proto::ListRotationsRequest {
        parent: MAIN.to_owned(),
        ..Default::default()
    };
    let listed = clients.rotations.clone().list_rotations(request).await.unwrap().into_inner();
    assert_eq!(listed.rotations.len(), 1);
    listed.rotations[0].name.clone()
}

/// A rotation once it has ended. A hold is ended; what waits for Twilio asks at once.
async fn finished(clients: &Clients, name: &str) -> Rotation {
    let mut rotation = get(clients, name).await.unwrap().rotation.unwrap();
    for _ in 0..200 {
        if rotation.end_time.is_some() {
            return rotation;
        }
        rotation = if rotation.state() == RotationState::Holding {
            confirm(clients, name, Vec::new()).await.unwrap()
        } else {
            gone_on(clients, name).await
        };
    }
    panic!("it does not end: {rotation:?}");
}

/// Twilio is away for an hour when the call is due.
async fn down_for_an_hour(at: At) -> String {
    let (mut vault, acme, name) = if matches!(at, At::Finish | At::Probe | At::GiveUp) {
        held(rotation_of(super::MAIN)).await
    } else {
        let (mut vault, acme) = with_main().await;
        match at {
            // What is due next is to remove what was made.
            At::Discard => vault.twilio.fail_call(MAKE, 0, Fault::CloseAfterEffect),
            At::Verify => vault.twilio.fail_call(&at.call(), 0, Fault::CloseBeforeAnswer),
            _ => vault.twilio.close().await,
        }
        let begun = rotate_token(&acme, rotation_of(super::MAIN)).await.unwrap();
        (vault, acme, begun.rotation.unwrap().name)
    };
    if at == At::Probe {
        vault.twilio.fail_call(&at.call(), 1, Fault::CloseBeforeAnswer);
        confirm(&acme, &name, Vec::new()).await.unwrap();
    }
    if at != At::Make {
        vault.twilio.close().await;
    }
    match at {
        At::Finish => drop(confirm(&acme, &name, Vec::new()).await.unwrap()),
        At::GiveUp => drop(cancel(&acme, &name).await.unwrap()),
        _ => {}
    }
    for _ in 0..12 {
        vault.clock.advance(SignedDuration::from_mins(5));
        gone_on(&acme, &name).await;
    }
    let rotation = get(&acme, &name).await.unwrap().rotation.unwrap();
    assert_eq!(rotation.state(), RotationState::NeedsAttention, "{at:?}: {rotation:?}");
    vault.twilio.open().await;
    // Longer than any pause, and than the circuit stays open.
    vault.clock.advance(SignedDuration::from_mins(7));
    let rotation = finished(&acme, &name).await;
    assert_eq!(rotation.state(), at.end(), "{at:?}: {rotation:?}");
    agrees(&acme, super::MAIN, &vault.twilio, at, &format!("{at:?} down")).await;
    told(&rotation)
}

/// A call that is made before it is written down is found out: after a crash the vault takes a no for the end, and leaves
/// a token behind.
#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_late_journal_of_a_token_is_caught() {
    let cut = async {
        let environment = [("CREDVAULT_DEFECT", "journal-late")];
        cut_off(At::Make, Cut::CrashThenRefused, &environment).await
    };
    let caught = tokio::spawn(cut).await.unwrap_err().into_panic();
    let said = caught.downcast_ref::<String>().unwrap();
    assert!(said.contains("left: Cancelled") && said.contains("right: NeedsAttention"), "{said}");
}
