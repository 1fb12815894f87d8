//! The audit log: one entry for every change and refusal, in a chain that shows tampering.

use std::time::{Duration, Instant};

use credvault::access::Role;
use credvault::account::Account;
use credvault::audit::{Actor, Chain, Entry, Link, append};
use credvault::grpc::proto::{
    AuditEntry, CreateCredentialRequest, CreateProviderRequest, Credential, VerifyProviderRequest,
};
use credvault::name::{ResourceId, Uid};
use jiff::{SignedDuration, Timestamp};

use crate::credentials::{create, delete, rotate, set_password, update};
use crate::providers::{
    SID, TOKEN, TOKEN_2, create_provider, delete as delete_provider, display_name, update_token,
};
use crate::support::calls::Call;
use crate::support::database::tamper;
use crate::support::fakes::twilio::Fault;
use crate::support::{Clients, TestVault, channel, outcome, uuid};

const DESK: &str = "accounts/acme/credentials/desk";
const MAIN: &str = "accounts/acme/providers/main";

/// Reads an entry of the wire back into what was hashed.
fn parse(entry: &AuditEntry) -> Entry {
    let time = entry.time.unwrap();
    Entry {
        time: Timestamp::new(time.seconds, time.nanos).unwrap(),
        actor: Actor { principal: entry.principal.clone(), peer: entry.peer.clone() },
        method: entry.method.clone(),
        resource: entry.resource.clone(),
        outcome: entry.outcome.clone(),
        version_before: entry.version_before.try_into().unwrap(),
        version_after: entry.version_after.try_into().unwrap(),
        detail: entry.detail.clone(),
        request_id: entry.request_id.clone(),
        reason: entry.reason.clone(),
    }
}

/// The first entry that does not follow from those before it.
fn first_break(chain: &Chain, log: &[AuditEntry]) -> Option<i64> {
    let mut last: Option<Link> = None;
    for entry in log {
        let link = append(chain, last.as_ref(), &parse(entry));
        let told = (entry.sequence, &entry.previous_hash[..], &entry.hash[..]);
        if told != (link.sequence.try_into().unwrap(), &link.previous_hash[..], &link.hash[..]) {
            return Some(entry.sequence);
        }
        last = Some(link);
    }
    None
}

/// An account's chain, as anybody who has its name can check it.
fn chain_of(account: &str) -> Chain {
    Chain::of_account(&Account {
        uid: Uid::ZERO,
        id: ResourceId::parse(account).unwrap(),
        disabled: false,
        enrolled_keys_only: false,
        create_time: Timestamp::UNIX_EPOCH,
    })
}

/// What is recorded of a step: resource, outcome, versions before and after.
type Record = Option<(&'static str, &'static str, i64, i64)>;

/// A call by an admin or a reader, the number in its request id and reason, and what is recorded of it.
type Step = (u64, Call, &'static str, Record);

fn reason(number: u64) -> String {
    format!("why {number}: a \"test\" – ü")
}

/// A request with the request id and the reason of this number.
macro_rules! stated {
    ($number:expr, $request:expr) => {{
        let mut request = $request;
        request.request_id = uuid($number);
        request.reason = reason($number);
        request.into()
    }};
}

fn steps() -> Vec<Step> {
    let desk = || {
        let credential_id = "desk".to_owned();
        CreateCredentialRequest { credential_id, ..create("alice") }
    };
    let described = |text: &str| {
        let credential = Credential { description: Some(text.to_owned()), ..Default::default() };
        update(DESK, credential, &[])
    };
    let main = || create_provider("main");
    let refused = || CreateProviderRequest { auth_token: TOKEN_2.to_owned(), ..main() };
    let token = |token: &str| update_token(MAIN, token);
    let verify = || VerifyProviderRequest { name: MAIN.to_owned() };
    let rejected = "UPSTREAM_REJECTED_TOKEN";
    let denied = |name| Some((name, "ROLE_MISSING", 0, 0));

    vec![
        (1, stated!(1, desk()), "admin", Some((DESK, "OK", 0, 1))),
        (1, stated!(1, desk()), "admin", None),
        (2, stated!(2, create("alice")), "admin", None),
        (3, stated!(3, described("one")), "admin", Some((DESK, "OK", 1, 1))),
        (4, stated!(4, described("one")), "admin", Some((DESK, "OK", 1, 1))),
        (5, stated!(5, rotate(DESK)), "reader", denied(DESK)),
        (5, stated!(5, rotate(DESK)), "admin", Some((DESK, "OK", 1, 2))),
        (5, stated!(5, rotate(DESK)), "admin", None),
        (6, stated!(6, described("two")), "admin", Some((DESK, "OK", 2, 2))),
        (7, stated!(7, set_password(DESK, "password-1")), "admin", Some((DESK, "OK", 2, 3))),
        (8, stated!(8, main()), "reader", denied("accounts/acme")),
        (8, stated!(8, refused()), "admin", Some((MAIN, rejected, 0, 0))),
        (8, stated!(8, main()), "admin", Some((MAIN, "OK", 0, 1))),
        (9, stated!(9, display_name(MAIN, "one")), "admin", Some((MAIN, "OK", 1, 1))),
        (10, stated!(10, token(TOKEN_2)), "admin", Some((MAIN, rejected, 1, 1))),
        (11, stated!(11, token("no token")), "admin", None),
        (12, stated!(12, token(TOKEN)), "admin", Some((MAIN, "OK", 1, 2))),
        (12, stated!(12, token(TOKEN)), "admin", None),
        (13, stated!(13, display_name(MAIN, "two")), "admin", Some((MAIN, "OK", 2, 2))),
        (0, verify().into(), "admin", Some((MAIN, "OK", 2, 2))),
        (0, verify().into(), "reader", denied(MAIN)),
        (14, stated!(14, delete_provider(MAIN)), "admin", Some((MAIN, "OK", 2, 0))),
        (14, stated!(14, delete_provider(MAIN)), "admin", None),
        (15, stated!(15, delete(DESK)), "reader", denied(DESK)),
        (15, stated!(15, delete(DESK)), "admin", Some((DESK, "OK", 3, 0))),
        (16, stated!(16, delete(DESK)), "admin", None),
    ]
}

#[tokio::test]
async fn every_change_and_every_refusal_leaves_exactly_one_entry() {
    let vault = TestVault::start().await;
    vault.twilio.add_account(SID, TOKEN);
    let admin_token = vault.token("acme", &[Role::AccountAdmin]).await;
    let reader_token = vault.token("acme", &[Role::Reader]).await;
    let clients = |token: &str| Clients::new(&channel(vault.address), token);
    let (admin, reader) = (clients(&admin_token), clients(&reader_token));
    let principal = |token: &str| format!("token:{}", token.split('_').nth(1).unwrap());

    let mut expected = 0;
    for (step, (number, call, who, record)) in steps().into_iter().enumerate() {
        vault.clock.advance(SignedDuration::from_millis(1500));
        let (clients, token) =
            if who == "admin" { (&admin, &admin_token) } else { (&reader, &reader_token) };
        let method = call.method();
        let told = outcome(&call.send(clients).await);
        let log = admin.audit_log("acme").await;
        expected += usize::from(record.is_some());
        assert_eq!(log.len(), expected, "step {step}: {method}: {told}");

        let Some((resource, result, before, after)) = record else { continue };
        assert!(told.contains(result), "step {step}: {method}: {told}");
        let entry = log.last().unwrap();
        let found = (entry.method.as_str(), entry.resource.as_str(), entry.outcome.as_str());
        assert_eq!(found, (method, resource, result), "step {step}");
        let versions = (entry.version_before, entry.version_after);
        assert_eq!(versions, (before, after), "step {step}: {method}");
        assert_eq!((&entry.principal, entry.peer.as_str()), (&principal(token), "127.0.0.1"));
        assert_eq!(parse(entry).time, vault.now());
        // What was not read is not recorded; a verification states neither.
        let read = result != "ROLE_MISSING" && number > 0;
        let expected = if read { (uuid(number), reason(number)) } else { Default::default() };
        let stated = (entry.request_id.clone(), entry.reason.clone());
        assert_eq!(stated, expected, "step {step}: {method}");
    }
    assert_eq!(first_break(&chain_of("acme"), &admin.audit_log("acme").await), None);
}

#[tokio::test]
async fn entries_hold_no_secret() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let (alice, issued) = acme.create(create("alice")).await.unwrap();
    acme.update(set_password(&alice.name, "password-1")).await.unwrap();
    acme.create_provider(create_provider("main")).await.unwrap();
    vault.twilio.fail_next(Fault::Status(401));
    acme.update_token(update_token(MAIN, TOKEN_2)).await.unwrap_err();
    let log = format!("{:?}", acme.audit_log("acme").await);
    for secret in [issued.unwrap().password.as_str(), "password-1", TOKEN, TOKEN_2] {
        assert!(!log.contains(secret));
    }
}

#[tokio::test]
async fn who_is_refused_over_and_over_does_not_fill_the_log() {
    let vault = TestVault::start().await;
    let admin = vault.acme().await;
    admin.create(create("desk")).await.unwrap();
    let reader = vault.clients("acme", &[Role::Reader]).await;
    for _ in 0..100 {
        reader.rotate(rotate(DESK)).await.unwrap_err();
    }
    assert_eq!(admin.audit_log("acme").await.len(), 1 + 20, "the first twenty have an entry each");

    vault.clock.advance(SignedDuration::from_mins(1));
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut log = admin.audit_log("acme").await;
    while log.len() < 1 + 20 + 1 {
        assert!(Instant::now() < deadline, "no entry for the other eighty");
        log = admin.audit_log("acme").await;
    }
    let last = parse(log.last().unwrap());
    assert_eq!((last.method.as_str(), last.outcome.as_str()), ("RotateCredential", "ROLE_MISSING"));
    assert!(last.detail.starts_with("80 calls "), "{}", last.detail);
    assert_eq!((&last.actor, &*last.resource), (&parse(&log[20]).actor, "accounts/acme"));

    reader.rotate(rotate(DESK)).await.unwrap_err();
    assert_eq!(admin.audit_log("acme").await.len(), 23, "another minute has entries again");
    assert_eq!(first_break(&chain_of("acme"), &admin.audit_log("acme").await), None);
}

#[tokio::test]
async fn a_chain_goes_on_after_a_restart_and_accounts_have_chains_of_their_own() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let other = vault.clients("other", &[Role::AccountAdmin]).await;
    let elsewhere = |username: &str| CreateCredentialRequest {
        parent: "accounts/other".to_owned(),
        ..create(username)
    };
    for number in 0..3 {
        acme.create(create(&format!("user{number}"))).await.unwrap();
        other.create(elsewhere(&format!("user{number}"))).await.unwrap();
    }
    let before = acme.audit_log("acme").await;

    let vault = vault.restart().await;
    let acme = vault.acme().await;
    acme.create(create("later")).await.unwrap();
    let log = acme.audit_log("acme").await;
    assert_eq!((&log[..3], log.len()), (&before[..], 4));
    assert_eq!(first_break(&chain_of("acme"), &log), None);
    assert_eq!(first_break(&chain_of("other"), &log), Some(1), "a chain has its account");
    let other = vault.clients("other", &[Role::Auditor]).await.audit_log("other").await;
    assert_eq!((other.len(), first_break(&chain_of("other"), &other)), (3, None));
    assert_ne!(other[0].hash, log[0].hash);
}

#[tokio::test]
async fn a_changed_a_removed_and_a_swapped_entry_show() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    for number in 0..5 {
        acme.create(create(&format!("user{number}"))).await.unwrap();
    }
    let mut vault = vault;
    let row = "WHERE chain <> zeroblob(16) AND sequence";
    for (sql, expected) in [
        (format!("UPDATE audit_entry SET reason = 'because' {row} = 4"), Some(4)),
        (format!("UPDATE audit_entry SET version_after = 2 {row} = 3"), Some(3)),
        (format!("UPDATE audit_entry SET time = time + 1 {row} = 2"), Some(2)),
        (format!("DELETE FROM audit_entry {row} = 1"), Some(2)),
    ] {
        tamper(&vault.database(), &sql);
        vault = vault.restart().await;
        let log = vault.acme().await.audit_log("acme").await;
        assert_eq!(first_break(&chain_of("acme"), &log), expected, "{sql}");
    }
    let log = vault.acme().await.audit_log("acme").await;
    assert_eq!(log.len(), 4, "a broken chain is still shown");
}
