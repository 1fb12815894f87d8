//! The crash matrix: every carrier × every place where a rotation can be cut. Afterwards, and without anybody's help, the
//! vault holds a password that the carrier accepts.
//!
//! The vault is a process of its own that is killed with SIGKILL. Only where time has to pass it is in this process, with
//! a clock that is moved.

use std::fmt::Write as _;

use credvault::grpc::proto::{Rotation, RotationState, RotationStepOutcome};
use jiff::SignedDuration;

use super::{Carriers, adopted, adoption, create, only, resume, retried, state};
use crate::carriers::{AUTH_ID, At};
use crate::credentials::{check_in, verifies};
use crate::providers::SID;
use crate::rotations::{get, whole};
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::telepath::FakeTelepath;
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::fakes::vobiz::FakeVobiz;
use crate::support::process::Process;
use crate::support::{Clients, outcome};

/// Where a rotation is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The vault is killed before the carrier has done anything.
    CrashBeforeTheCall,
    /// It is killed when the carrier has done it and said nothing yet.
    CrashBeforeTheAnswer,
    /// It is killed when the answer has arrived, and is not stored.
    CrashBeforeTheCommit,
    /// The same, and then the carrier refuses the vault's token for a while.
    CrashThenRefused,
    /// It is stopped in order, with a call under way.
    Stop,
    /// The call never arrives.
    CallLost,
    /// The carrier does it, and its answer is lost.
    AnswerLost,
}

impl Cut {
    pub(crate) const ALL: [Self; 7] = [
        Self::CrashBeforeTheCall,
        Self::CrashBeforeTheAnswer,
        Self::CrashBeforeTheCommit,
        Self::CrashThenRefused,
        Self::Stop,
        Self::CallLost,
        Self::AnswerLost,
    ];

    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::CrashBeforeTheCall => Fault::Hang,
            Self::CrashBeforeTheAnswer | Self::CrashThenRefused => Fault::HangAfterEffect,
            Self::CrashBeforeTheCommit | Self::Stop => Fault::Hold,
            Self::CallLost => Fault::CloseBeforeAnswer,
            Self::AnswerLost => Fault::CloseAfterEffect,
        }
    }

    pub(crate) fn crashes(self) -> bool {
        !matches!(self, Self::CallLost | Self::AnswerLost)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vault_holds_what_the_carrier_accepts_wherever_a_rotation_is_cut() {
    let mut table = String::new();
    for at in At::ALL {
        for cut in Cut::ALL {
            let steps = cut_off(at, cut, &[]).await;
            writeln!(
                table,
                "  {:<9} {:<21} SUCCEEDED after {steps}",
                format!("{at:?}"),
                format!("{cut:?}")
            )
            .unwrap();
        }
        for uncertain in [false, true] {
            let steps = down_for_an_hour(at, uncertain).await;
            let cut = if uncertain { "AnswerLostAndThenDown" } else { "Down" };
            writeln!(
                table,
                "  {:<9} {cut:<21} NEEDS_ATTENTION, then SUCCEEDED after {steps}",
                format!("{at:?}")
            )
            .unwrap();
        }
    }
    println!("  carrier   cut                   end\n{table}");
}

/// Cuts a rotation and lets the vault go on. Says what its calls came to.
async fn cut_off(at: At, cut: Cut, more: &[(&str, &str)]) -> String {
    let (twilio, vobiz, telepath) =
        (FakeTwilio::start().await, FakeVobiz::start().await, FakeTelepath::start().await);
    let carriers = Carriers { twilio: &twilio, vobiz: &vobiz, telepath: &telepath };
    match at {
        At::Twilio => twilio.add_account(SID, at.tokens()[0]),
        At::Vobiz => vobiz.add_account(AUTH_ID, at.tokens()[0]),
        At::Telepath => telepath.add_account(at.tokens()[0]),
    }
    let urls = [
        ("CREDVAULT_UPSTREAM_TWILIO_API_URL", twilio.url()),
        ("CREDVAULT_UPSTREAM_VOBIZ_API_URL", vobiz.url()),
        ("CREDVAULT_UPSTREAM_TELEPATH_API_URL", telepath.url()),
    ];
    let urls = urls.iter().map(|(name, url)| (*name, url.as_str()));
    let environment: Vec<_> = urls.chain(more.iter().copied()).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::dev(dir.path(), &environment);
    let mut clients = process.clients();
    let mut provider = at.create(at.id());
    "accounts/dev".clone_into(&mut provider.parent);
    clients.providers.create_provider(provider).await.unwrap();
    let there = carriers.add(at, "phone", 1);
    let credential = create(&clients, adoption("dev", at, "phone", there)).await.unwrap();

    carriers.fail_next(at, cut.fault());
    let calls = carriers.calls(at);
    let request = retried(&credential.name, 1);
    let mut answered = None;
    if cut.crashes() {
        let (caller, request) = (clients.clone(), request.clone());
        let call = tokio::spawn(async move { whole(&caller, request).await });
        carriers.called(at, calls + 1).await;
        if cut == Cut::CrashBeforeTheCommit {
            process.freeze();
            carriers.release(at);
            carriers.changed(at).await;
            carriers.idle(at).await;
        } else if matches!(cut, Cut::CrashBeforeTheAnswer | Cut::CrashThenRefused) {
            carriers.changed(at).await;
        }
        if cut == Cut::Stop {
            process.ask_to_stop();
            carriers.release(at);
            process.end();
            let answer = call.await.unwrap().unwrap();
            answered = answer.issued.map(|issued| issued.password);
            assert!(
                answered.is_some(),
                "{at:?}: a stop waits for the carrier, and its caller for both"
            );
        } else {
            process.kill();
            assert!(call.await.unwrap().is_err(), "the caller has no answer");
        }
        if cut == Cut::CrashThenRefused {
            carriers.set_fault(at, Some(Fault::Status(401)));
        }
        process = Process::dev(dir.path(), &environment);
        clients = process.clients();
    } else {
        let answer = whole(&clients, request.clone()).await.unwrap();
        assert_eq!(state(&answer), RotationState::Applying, "{at:?} {cut:?}");
    }

    let name = only(&clients, &credential.name).await;
    if cut == Cut::CrashThenRefused {
        // It may have changed there, so a no does not end it.
        let mut rotation = get(&clients, &name).await.unwrap().rotation.unwrap();
        while matches!(rotation.state(), RotationState::Pending | RotationState::Applying) {
            rotation = gone_on(&clients, &name).await;
        }
        assert_eq!(rotation.state(), RotationState::NeedsAttention, "{at:?}: {rotation:?}");
        carriers.set_fault(at, None);
    }
    let rotation = ended(&clients, &name).await;
    assert_eq!(rotation.state(), RotationState::Succeeded, "{at:?} {cut:?}: {rotation:?}");
    let password = match answered {
        Some(password) => password,
        None => whole(&clients, request.clone()).await.unwrap().issued.unwrap().password,
    };
    assert!(carriers.accepts(at, "phone", &password), "{at:?} {cut:?}: the carrier has another");
    assert!(
        check_in(&clients, "dev", "phone", &password).await.valid,
        "{at:?} {cut:?}: the vault has another"
    );
    let again = whole(&clients, request).await;
    assert_eq!(outcome(&again), "FailedPrecondition SECRET_ALREADY_ISSUED");
    told(&rotation)
}

/// The carrier is away for an hour, with or without having done what it was asked before.
async fn down_for_an_hour(at: At, uncertain: bool) -> String {
    let (mut vault, acme, credential) = adopted(at).await;
    let request = retried(&credential.name, 1);
    if uncertain {
        Carriers::of(&vault).fail_next(at, Fault::CloseAfterEffect);
        let answer = whole(&acme, request.clone()).await.unwrap();
        assert_eq!(state(&answer), RotationState::Applying);
    }
    match at {
        At::Twilio => vault.twilio.close().await,
        At::Vobiz => vault.vobiz.close().await,
        At::Telepath => vault.telepath.close().await,
    }
    if !uncertain {
        let answer = whole(&acme, request.clone()).await.unwrap();
        assert_eq!(state(&answer), RotationState::Applying);
    }
    let name = only(&acme, &credential.name).await;
    for _ in 0..12 {
        vault.clock.advance(SignedDuration::from_mins(5));
        gone_on(&acme, &name).await;
    }
    let rotation = get(&acme, &name).await.unwrap().rotation.unwrap();
    assert_eq!(rotation.state(), RotationState::NeedsAttention);
    assert_eq!(rotation.uncertain, uncertain);
    match at {
        At::Twilio => vault.twilio.open().await,
        At::Vobiz => vault.vobiz.open().await,
        At::Telepath => vault.telepath.open().await,
    }
    // Longer than any pause, and than the circuit stays open.
    vault.clock.advance(SignedDuration::from_mins(7));
    let rotation = ended(&acme, &name).await;
    assert_eq!(rotation.state(), RotationState::Succeeded, "{at:?}: {rotation:?}");
    let password = whole(&acme, request).await.unwrap().issued.unwrap().password;
    assert!(Carriers::of(&vault).accepts(at, "phone", &password));
    assert!(verifies(&acme, "phone", &password).await);
    told(&rotation)
}

/// A rotation after its next call, if there is one to make. It goes on by itself; this only waits for it.
pub(crate) async fn gone_on(clients: &Clients, name: &str) -> Rotation {
    match resume(clients, name).await {
        Ok(rotation) => rotation,
        Err(_) => get(clients, name).await.unwrap().rotation.unwrap(),
    }
}

/// A rotation once it has ended.
async fn ended(clients: &Clients, name: &str) -> Rotation {
    let mut rotation = gone_on(clients, name).await;
    for _ in 0..20 {
        if rotation.end_time.is_some() {
            return rotation;
        }
        rotation = gone_on(clients, name).await;
    }
    panic!("it does not end: {rotation:?}");
}

pub(crate) fn told(rotation: &Rotation) -> String {
    let steps = rotation.steps.iter().filter(|step| !step.reason.is_empty());
    let mut steps: Vec<_> = steps
        .map(|step| match step.outcome() {
            RotationStepOutcome::Unknown => format!("{}?", step.reason),
            _ => step.reason.clone(),
        })
        .collect();
    let all = steps.len();
    steps.dedup();
    format!("{all} calls in vain ({})", steps.join(", "))
}

/// A call that is made before it is written down is found out: after a crash the vault takes a no for the end.
#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_late_journal_is_caught() {
    for at in At::ALL {
        let cut = || cut_off(at, Cut::CrashThenRefused, &[("CREDVAULT_DEFECT", "journal-late")]);
        let caught = tokio::spawn(cut()).await.unwrap_err().into_panic();
        let said = caught.downcast_ref::<String>().unwrap();
        let given_up = said.contains("left: Cancelled") && said.contains("right: NeedsAttention");
        assert!(given_up, "{at:?}: {said}");
    }
}
