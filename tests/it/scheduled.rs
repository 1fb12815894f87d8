//! The scheduled re-check: each provider once an interval, a few at a time, and nothing at once after a stop.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use credvault::access::Role;
use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{
    CreateProviderRequest, GetProviderRequest, Provider, VerificationStatus, VerifyProviderRequest,
};
use futures_util::{StreamExt as _, stream};
use jiff::SignedDuration;

use crate::providers::{TOKEN, create_provider, twilio};
use crate::support::TestVault;
use crate::support::database::tamper;
use crate::support::fakes::twilio::{Fault, Trunk};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// The minutes of an hour.
const STEPS: u64 = 60;

/// The SID of the account of a provider: each has one of its own, so that the carrier can tell them apart.
fn sid(number: usize) -> String {
    format!("AC{number:032x}")
}

fn trunk_sid(number: usize) -> String {
    format!("TK{number:032x}")
}

/// A request for the provider of this number, with all that a verification can look at.
fn new(account: &str, number: usize) -> CreateProviderRequest {
    let mut request = create_provider(&format!("p-{number}"));
    request.parent = format!("accounts/{account}");
    let mut kind = twilio(&sid(number));
    let Kind::Twilio(account) = &mut kind else { panic!("another carrier") };
    account.sip_trunk_sid = Some(trunk_sid(number));
    account.credential_list_sid = Some(format!("CL{number:032x}"));
    request.provider.as_mut().unwrap().kind = Some(kind);
    request
}

/// Adds so many providers to an account, a few at a time.
async fn add(vault: &TestVault, account: &str, numbers: Range<usize>) -> Vec<Provider> {
    let clients = vault.clients(account, &[Role::AccountAdmin]).await;
    let requests = numbers.map(|number| {
        vault.twilio.add_account(&sid(number), TOKEN);
        let trunk = Trunk {
            sid: trunk_sid(number),
            credential_lists: vec![format!("CL{number:032x}")],
            ..Trunk::default()
        };
        vault.twilio.set_trunk(&sid(number), trunk);
        vault.twilio.add_numbers(&sid(number), 1, Some(&trunk_sid(number)));
        clients.create_provider(new(account, number))
    });
    let added = stream::iter(requests.collect::<Vec<_>>()).buffered(3);
    added.map(Result::unwrap).collect().await
}

/// How often the carrier was asked about the token of each account, by number.
fn asked(vault: &TestVault, numbers: Range<usize>) -> Vec<u64> {
    let mut asked = BTreeMap::new();
    for request in vault.twilio.requests() {
        *asked.entry(request).or_default() += 1;
    }
    let about = |number| format!("GET /2010-04-01/Accounts/{}.json", sid(number));
    numbers.map(|number| asked.get(&about(number)).copied().unwrap_or(0)).collect()
}

/// In which of so many equal parts of the hour each provider comes, by its number: its uid as a fraction.
fn slots(vault: &TestVault, parts: u64) -> BTreeMap<usize, u64> {
    let ids = vault.column::<String>("SELECT id FROM provider ORDER BY uid");
    let uids = vault.column::<Vec<u8>>("SELECT uid FROM provider ORDER BY uid");
    let slot = |uid: &[u8]| {
        let fraction = u128::from(u64::from_be_bytes(*uid.first_chunk().unwrap()));
        u64::try_from((fraction * u128::from(parts)) >> 64).unwrap()
    };
    let number = |id: &str| id.strip_prefix("p-").unwrap().parse().unwrap();
    ids.iter().zip(&uids).map(|(id, uid)| (number(id), slot(uid))).collect()
}

async fn step(vault: &TestVault, by: SignedDuration) {
    vault.clock.advance(by);
    vault.vault.verify_due(HOUR, vault.now() - by, vault.now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_provider_comes_once_an_hour_and_they_spread_over_it() {
    let vault = TestVault::start().await;
    add(&vault, "acme", 0..70).await;
    add(&vault, "other", 70..140).await;
    add(&vault, "closed", 140..200).await;
    tamper(&vault.database(), "UPDATE account SET disabled = 1 WHERE id = 'closed'");
    let entries = || vault.column::<i64>("SELECT count(*) FROM audit_entry")[0];
    let (created, calls, recorded) = (asked(&vault, 0..200), vault.twilio.calls(), entries());
    assert_eq!(created, [1; 200]);

    // The clock stands at twelve o'clock, so the parts of the hour are its minutes.
    vault.clock.advance(HOUR);
    let expected = slots(&vault, STEPS);
    for minute in 0..STEPS {
        let before = asked(&vault, 0..200);
        step(&vault, MINUTE).await;
        let after = asked(&vault, 0..200);
        let served: Vec<_> = (0..200).filter(|&it| after[it] > before[it]).collect();
        let due: Vec<_> = (0..140).filter(|it| expected[it] == minute).collect();
        assert_eq!(served, due, "minute {minute}");
        // 140 over 60 minutes are 2.3 each: sixteen in one of them come once in millions of runs.
        assert!(served.len() <= 15, "{} in minute {minute}", served.len());
    }
    assert_eq!(asked(&vault, 0..140), [2; 140], "once each");
    assert_eq!(asked(&vault, 140..200), [1; 60], "of a disabled account none");
    assert_eq!(vault.twilio.calls(), calls + 4 * 140, "with all that there is to look at");
    let minutes: BTreeSet<_> = expected.values().collect();
    assert!(minutes.len() > 35, "they are all in {} minutes", minutes.len());
    assert!(vault.twilio.most_in_flight() <= 12, "{}", vault.twilio.most_in_flight());
    assert_eq!(entries(), recorded, "nothing new, so nothing recorded");
    let rows = vault.column::<i64>("SELECT count(*) FROM provider_verification");
    assert_eq!(rows, [200 + 140]);

    // Whoever is enabled again is served again, whatever was missed meanwhile.
    tamper(&vault.database(), "UPDATE account SET disabled = 0 WHERE id = 'closed'");
    vault.clock.advance(HOUR);
    for _ in 0..STEPS {
        step(&vault, MINUTE).await;
    }
    assert_eq!(asked(&vault, 140..200), [2; 60]);
    assert_eq!(asked(&vault, 0..140), [3; 140]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_four_are_verified_at_once_and_callers_have_places_beside_them() {
    let vault = TestVault::start().await;
    let providers = add(&vault, "acme", 0..8).await;
    let acme = vault.acme().await;
    vault.clock.advance(HOUR);
    vault.twilio.set_fault(Some(Fault::Hold));
    let called = async |times: u64| {
        let called = vault.twilio.called(times);
        tokio::time::timeout(Duration::from_secs(10), called).await.expect("nobody asks");
        assert_eq!(vault.twilio.calls(), times);
    };
    let calls = vault.twilio.calls();
    let schedule = {
        let (vault, to) = (Arc::clone(&vault.vault), vault.now());
        tokio::spawn(async move { vault.verify_due(HOUR, to - HOUR, to).await })
    };
    called(calls + 4).await;
    vault.twilio.release();
    called(calls + 12).await;
    assert!(vault.twilio.most_in_flight() < 12, "what decides nothing takes half of the places");

    // A caller is served meanwhile.
    for provider in &providers {
        vault.twilio.fail_next(Fault::Status(401));
        let request = VerifyProviderRequest { name: provider.name.clone() };
        let told = acme.providers.clone().verify_provider(request).await.unwrap().into_inner();
        let verification = told.provider.unwrap().verification.unwrap();
        assert_eq!(verification.status(), VerificationStatus::Failed);
    }
    vault.twilio.set_fault(None);
    vault.twilio.release();
    schedule.await.unwrap().unwrap();
    assert!(vault.twilio.most_in_flight() <= 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_verified_lately_and_what_was_missed_wait_for_their_slot() {
    let vault = TestVault::start().await;
    let providers = add(&vault, "acme", 0..20).await;
    let acme = vault.acme().await;
    let all = async |after: SignedDuration| {
        vault.clock.advance(after);
        let before = asked(&vault, 0..20);
        vault.vault.verify_due(HOUR, vault.now() - HOUR, vault.now()).await.unwrap();
        let asked = asked(&vault, 0..20);
        (0..20).filter(|&it| asked[it] > before[it]).collect::<Vec<_>>()
    };
    let half = SignedDuration::from_mins(30);
    assert!(all(half - SignedDuration::from_secs(1)).await.is_empty(), "made within half an hour");
    acme.verify_provider(&providers[3].name).await.unwrap();
    assert_eq!(all(SignedDuration::from_secs(1)).await, {
        let mut others: Vec<_> = (0..20).collect();
        others.remove(3);
        others
    });
    // One that could not be asked keeps its place in the next interval, and is not left out there.
    vault.twilio.set_account_fault(&sid(7), Some(Fault::Status(500)));
    assert_eq!(all(HOUR).await.len(), 20);
    vault.twilio.set_account_fault(&sid(7), None);
    assert_eq!(all(half - SignedDuration::from_secs(1)).await, [7]);

    // Three hours without a process: its first minute serves the slots of that minute.
    vault.clock.advance(SignedDuration::from_hours(3) - half + SignedDuration::from_secs(1));
    let vault = vault.restart().await;
    let minute = u64::try_from(vault.now().as_second() / 60 % 60).unwrap();
    let due = slots(&vault, STEPS);
    let due: Vec<_> = (0..20).filter(|it| due[it] == minute).collect();
    let before = asked(&vault, 0..20);
    step(&vault, MINUTE).await;
    let after = asked(&vault, 0..20);
    let served: Vec<_> = (0..20).filter(|&it| after[it] > before[it]).collect();
    assert_eq!(served, due, "at {}", vault.now());
}

#[tokio::test]
async fn the_served_vault_does_it_by_itself_unless_it_is_told_not_to() {
    let vault = TestVault::start_with(|options, _| {
        options.verification_interval = Some("1h".to_owned());
    });
    let mut vault = vault.await;
    add(&vault, "acme", 0..12).await;
    let mut slots: Vec<_> = slots(&vault, 3600).into_iter().collect();
    slots.sort_by_key(|&(_, second)| second);

    // It was down for three hours: what it missed does not come at once, but each in its slot.
    vault.clock.advance(SignedDuration::from_hours(3));
    vault = vault.restart().await;
    is_served(&vault).await;
    let start = vault.twilio.calls();
    let mut now = 0;
    for (served, (_, second)) in (1..).zip(&slots) {
        // The schedule is looked at every ten seconds, so twenty after the slot it has passed.
        while now < second + 20 {
            now += 10;
            vault.clock.advance(SignedDuration::from_secs(10));
            is_served(&vault).await;
        }
        let called = vault.twilio.called(start + 4 * served);
        tokio::time::timeout(Duration::from_secs(10), called).await.expect("it is not verified");
    }
    let requests = vault.twilio.requests();
    let first = |number: usize| {
        let path = format!("GET /2010-04-01/Accounts/{}.json", sid(number));
        let skipped = usize::try_from(start).unwrap();
        requests.iter().skip(skipped).position(|request| *request == path).unwrap()
    };
    // Those of one look at the schedule are made at once, in any order.
    let order = slots.windows(2).filter(|pair| pair[0].1 / 20 + 1 < pair[1].1 / 20);
    for pair in order {
        assert!(first(pair[0].0) < first(pair[1].0), "{slots:?}");
    }
    assert_eq!(asked(&vault, 0..12), [2; 12]);

    vault.options.verification_interval = Some("off".to_owned());
    let vault = vault.restart().await;
    let calls = vault.twilio.calls();
    for _ in 0..400 {
        vault.clock.advance(SignedDuration::from_secs(20));
        is_served(&vault).await;
    }
    assert_eq!(vault.twilio.calls(), calls, "two hours, and nobody was asked");
}

/// Makes a call, by which the server and what it has started have run.
async fn is_served(vault: &TestVault) {
    let acme = vault.acme().await;
    let request = GetProviderRequest { name: "accounts/acme/providers/p-0".to_owned() };
    acme.providers.clone().get_provider(request).await.unwrap();
}

/// The defect has to be in the process with the schedule: this program, once more.
#[cfg(feature = "planted-defects")]
#[test]
fn planted_hurried_schedule_is_caught() {
    let limit = "scheduled::at_most_four_are_verified_at_once_and_callers_have_places_beside_them";
    let said = crate::support::process::caught(limit, "hurried-schedule");
    assert!(said.contains("tests/it/scheduled.rs"), "{said}");
    println!("{}", said.lines().find(|line| line.contains("panicked")).unwrap());
}
