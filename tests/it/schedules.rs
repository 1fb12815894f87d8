//! Credentials that the vault rotates by itself: when, for whom, and what is in the way.

mod planning;
mod policies;
mod workers;

use credvault::crypto::delivery::PrivateKey;
use credvault::grpc::proto::rotation_policy::Delivery;
use credvault::grpc::proto::{
    CreateCredentialRequest, CreateRecipientKeyRequest, Credential, DayOfWeek,
    ListRotationsRequest, RecipientKey, RevokeRecipientKeyRequest, Rotation, RotationBlock,
    RotationPolicy, RotationState, RotationWindow, VersionState,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::credentials::{check, create, update};
use crate::rotations::{HOUR, cancel, confirm, get, open, proof};
use crate::support::{Clients, TestVault, outcome};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

#[expect(clippy::unnecessary_wraps, reason = "that is what the fields hold")]
fn length(length: SignedDuration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: length.as_secs(), nanos: length.subsec_nanos() })
}

/// Enrols a key of the account.
async fn enrol(clients: &Clients, id: &str) -> PrivateKey {
    let key = PrivateKey::generate().unwrap();
    let request = CreateRecipientKeyRequest {
        parent: "accounts/acme".to_owned(),
        recipient_key_id: id.to_owned(),
        recipient_key: Some(RecipientKey {
            public_key: key.public_key().unwrap().as_bytes().to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    clients.access.clone().create_recipient_key(request).await.unwrap();
    key
}

async fn revoke(clients: &Clients, id: &str) {
    let name = format!("accounts/acme/recipientKeys/{id}");
    let request = RevokeRecipientKeyRequest { name, ..Default::default() };
    clients.access.clone().revoke_recipient_key(request).await.unwrap();
}

fn to_key(id: &str) -> Delivery {
    Delivery::RecipientKey(format!("accounts/acme/recipientKeys/{id}"))
}

/// Every 90 days at any time, for `ops`, with a day's overlap.
fn for_ops() -> RotationPolicy {
    RotationPolicy {
        interval: length(DAY * 90),
        overlap: length(DAY),
        delivery: Some(to_key("ops")),
        ..RotationPolicy::default()
    }
}

fn for_nobody(interval: SignedDuration) -> RotationPolicy {
    let delivery = Some(Delivery::DeliverToNobody(true));
    RotationPolicy { interval: length(interval), delivery, ..RotationPolicy::default() }
}

fn with_policy(username: &str, policy: RotationPolicy) -> CreateCredentialRequest {
    let mut request = create(username);
    request.credential.as_mut().unwrap().rotation_policy = Some(policy);
    request
}

fn setting(policy: RotationPolicy) -> Credential {
    Credential { rotation_policy: Some(policy), ..Credential::default() }
}

fn next(credential: &Credential) -> Timestamp {
    time(credential.next_rotation_time.unwrap())
}

fn time(stamp: prost_types::Timestamp) -> Timestamp {
    Timestamp::new(stamp.seconds, stamp.nanos).unwrap()
}

/// The version that a password matches, and what that version is.
async fn matches(clients: &Clients, username: &str, password: &str) -> (i64, VersionState) {
    let answer = check(clients, username, password).await;
    (answer.version, answer.version_state())
}

async fn rotations(clients: &Clients, name: &str) -> Vec<Rotation> {
    let request = ListRotationsRequest { parent: name.to_owned(), ..Default::default() };
    clients.rotations.clone().list_rotations(request).await.unwrap().into_inner().rotations
}

impl TestVault {
    /// Moves the clock to a time, and has what is due then rotated. The vault's own worker looks as well. A token of
    /// before may have expired by then.
    async fn rotates_at(&self, time: Timestamp) -> Clients {
        self.clock.advance(time.duration_since(self.now()));
        self.vault.rotate_due(self.now(), None).await.unwrap();
        self.acme().await
    }
}

#[tokio::test]
async fn it_is_rotated_at_its_time_for_its_recipient_and_the_old_password_works_for_the_overlap() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let key = enrol(&acme, "ops").await;
    let (new, first) = acme.create(with_policy("alice", for_ops())).await.unwrap();
    let first = first.unwrap().password;
    let due = next(&new);
    let made = vault.now();
    assert!(due >= made + DAY * 81 && due < made + DAY * 90, "{due}");
    assert_eq!(new.rotation_policy, Some(for_ops()));

    let acme = vault.rotates_at(due - SignedDuration::from_micros(1)).await;
    assert_eq!(acme.get(&new.name).await.unwrap().version, 1, "not before");
    let acme = vault.rotates_at(due).await;
    let rotated = acme.get(&new.name).await.unwrap();
    assert_eq!((rotated.version, time(rotated.rotate_time.unwrap())), (2, due));
    assert!(next(&rotated) >= due + DAY * 81);
    let [rotation] = &rotations(&acme, &new.name).await[..] else { panic!("there is one") };
    assert_eq!((rotation.version, rotation.state()), (2, RotationState::Succeeded));
    let sealed = get(&acme, &rotation.name).await.unwrap().sealed.unwrap();
    let second = open(&key, &sealed).unwrap();
    assert_eq!(matches(&acme, "alice", &second).await, (2, VersionState::Active));
    assert_eq!(matches(&acme, "alice", &first).await, (1, VersionState::Retiring));
    let acme = vault.rotates_at(due + DAY).await;
    assert_eq!(matches(&acme, "alice", &first).await.0, 0);
    assert_eq!(acme.get(&new.name).await.unwrap().version, 2);

    let log = acme.audit_log("acme").await;
    let entry = log.iter().rev().find(|entry| entry.method == "RotateCredential").unwrap();
    assert_eq!(entry.principal, "vault:rotations");
    let detail = "on schedule, every 90d, sealed for recipientKeys/ops, overlap 24h";
    assert_eq!((entry.detail.as_str(), entry.version_after), (detail, 2));
    // Nothing of it hangs on this process.
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    assert_eq!(next(&acme.get(&new.name).await.unwrap()), next(&rotated));
}

#[tokio::test]
async fn with_a_confirmation_it_holds_until_that_came_and_what_was_cancelled_comes_again_later() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let key = enrol(&acme, "ops").await;
    let policy = RotationPolicy { overlap: None, require_confirmation: true, ..for_ops() };
    let (new, first) = acme.create(with_policy("alice", policy)).await.unwrap();
    let first = first.unwrap().password;
    let acme = vault.rotates_at(next(&new)).await;
    let [rotation] = &rotations(&acme, &new.name).await[..] else { panic!("there is one") };
    assert_eq!(rotation.state(), RotationState::Holding);
    let held = acme.get(&new.name).await.unwrap();
    assert_eq!((held.version, held.rotation_block()), (1, RotationBlock::InProgress));
    let sealed = get(&acme, &rotation.name).await.unwrap().sealed.unwrap();
    let second = open(&key, &sealed).unwrap();
    assert_eq!(matches(&acme, "alice", &first).await, (1, VersionState::Active));
    assert_eq!(matches(&acme, "alice", &second).await, (2, VersionState::Pending));
    // It does not begin another one beside it.
    let acme = vault.rotates_at(vault.now() + DAY * 20).await;
    assert_eq!(rotations(&acme, &new.name).await.len(), 1);
    confirm(&acme, &rotation.name, proof(&second, &rotation.name)).await.unwrap();
    let confirmed = acme.get(&new.name).await.unwrap();
    assert_eq!((confirmed.version, confirmed.rotation_block), (2, 0));
    assert!(next(&confirmed) >= vault.now() + DAY * 81, "from the confirmation on");
    assert_eq!(matches(&acme, "alice", &first).await.0, 0);

    let acme = vault.rotates_at(next(&confirmed)).await;
    let second = &rotations(&acme, &new.name).await[0];
    assert_eq!(second.state(), RotationState::Holding);
    cancel(&acme, &second.name).await.unwrap();
    let cancelled = acme.get(&new.name).await.unwrap();
    assert_eq!((cancelled.version, cancelled.rotation_block), (2, 0));
    let again = next(&cancelled);
    assert!(again >= vault.now() + DAY * 9 && again < vault.now() + DAY * 18, "{again}");
    let acme = vault.rotates_at(again - SECOND).await;
    assert_eq!(rotations(&acme, &new.name).await.len(), 2);
    let acme = vault.rotates_at(again).await;
    assert_eq!(rotations(&acme, &new.name).await[0].state(), RotationState::Holding);
}

#[tokio::test]
async fn what_nobody_needs_is_rotated_and_leaves_nowhere() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(with_policy("alice", for_nobody(DAY * 30))).await.unwrap();
    let acme = vault.rotates_at(next(&new)).await;
    assert_eq!(acme.get(&new.name).await.unwrap().version, 2);
    assert_eq!(matches(&acme, "alice", &first.unwrap().password).await.0, 0, "it died");
    assert_eq!(rotations(&acme, &new.name).await, []);
    let log = acme.audit_log("acme").await;
    let detail = &log.iter().rev().find(|it| it.method == "RotateCredential").unwrap().detail;
    assert_eq!(detail, "on schedule, every 30d, for nobody");
}

#[tokio::test]
async fn what_is_in_the_way_is_said_and_nothing_is_rotated_until_it_is_gone() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    enrol(&acme, "ops").await;
    enrol(&acme, "other").await;
    let (new, _) = acme.create(with_policy("alice", for_ops())).await.unwrap();
    let state = async |clients: &Clients| {
        let it = clients.get(&new.name).await.unwrap();
        (it.version, it.rotation_block(), next(&it))
    };
    revoke(&acme, "ops").await;
    let due = next(&new);
    let acme = vault.rotates_at(due + DAY).await;
    assert_eq!(state(&acme).await, (1, RotationBlock::KeyRevoked, due));
    // Another key: what is overdue is rotated within a tenth of the interval.
    let policy = RotationPolicy { delivery: Some(to_key("other")), ..for_ops() };
    let off = Credential { enabled: Some(false), ..setting(policy) };
    let updated = acme.update(update(&new.name, off, &[])).await.unwrap();
    let due = next(&updated);
    assert!(due >= vault.now() && due < vault.now() + DAY * 9, "{due}");
    let acme = vault.rotates_at(due).await;
    assert_eq!(state(&acme).await, (1, RotationBlock::Disabled, due));
    let on = Credential { enabled: Some(true), ..Credential::default() };
    acme.update(update(&new.name, on, &[])).await.unwrap();

    // So is an account that is closed; its credentials wait for it.
    let operator = vault.operator().await;
    let account = || "accounts/acme".to_owned();
    let mut access = operator.access.clone();
    let closing =
        credvault::grpc::proto::DisableAccountRequest { name: account(), ..Default::default() };
    access.disable_account(closing).await.unwrap();
    // The vault may have looked by itself between the two, where that takes long.
    let versions = "SELECT version FROM credential";
    let closed = vault.column::<i64>(versions);
    vault.vault.rotate_due(vault.now(), None).await.unwrap();
    assert_eq!(vault.column::<i64>(versions), closed);
    let opening =
        credvault::grpc::proto::EnableAccountRequest { name: account(), ..Default::default() };
    access.enable_account(opening).await.unwrap();
    let acme = vault.rotates_at(vault.now() + SECOND * 20).await;
    let (version, block, again) = state(&acme).await;
    assert_eq!((version, block), (2, RotationBlock::Unspecified));
    assert!(again > vault.now());
}

/// 02:00 to 04:00 in Berlin.
fn nightly(interval: SignedDuration) -> RotationPolicy {
    let window = RotationWindow {
        start: "02:00".to_owned(),
        length: length(HOUR * 2),
        days: Vec::new(),
        time_zone: "Europe/Berlin".to_owned(),
    };
    RotationPolicy { window: Some(window), ..for_nobody(interval) }
}

/// The clock of Berlin is set back on 25 October 2026, and forward on 28 March 2027.
#[tokio::test]
async fn each_rotation_happens_in_its_window_also_when_the_clocks_change() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let mut names = Vec::new();
    for number in 0..8 {
        let request = with_policy(&format!("user-{number}"), nightly(DAY));
        names.push(acme.create(request).await.unwrap().0.name);
    }
    for (start, nights) in
        [("2026-10-23T12:00:00Z", 8 * 4..=8 * 4), ("2027-03-26T12:00:00Z", 8 * 3..=8 * 4)]
    {
        let start: Timestamp = start.parse().unwrap();
        let (mut now, mut seen) = (start, 0);
        let mut last = vec![start; names.len()];
        while now < start + DAY * 4 {
            let acme = vault.rotates_at(now).await;
            // At each time that is named, and once an hour.
            let mut then = now + HOUR;
            for (name, last) in names.iter().zip(&mut last) {
                let credential = acme.get(name).await.unwrap();
                let (rotated, named) = (time(credential.rotate_time.unwrap()), next(&credential));
                assert!(named > now, "what was due is done");
                then = then.min(named);
                if rotated > *last {
                    let there = rotated.to_zoned(berlin.clone());
                    assert!((2..4).contains(&there.hour()), "outside of its window: {there}");
                    (*last, seen) = (rotated, seen + 1);
                }
            }
            now = then;
        }
        // In spring a night is short: what is due in its missing hour is done in the next one.
        assert!(nights.contains(&seen), "{seen}");
        println!("{seen} rotations from {start}, all in their windows");
    }
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_schedule_without_a_window_is_caught() {
    let harness = "schedules::each_rotation_happens_in_its_window_also_when_the_clocks_change";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", harness, "--nocapture"])
        .env("CREDVAULT_DEFECT", "ignore-window")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("outside of its window"), "{said}");
    println!("{}", said.lines().find(|line| line.contains("outside of its window")).unwrap());
}

fn weekdays() -> Vec<i32> {
    [DayOfWeek::Monday, DayOfWeek::Tuesday, DayOfWeek::Wednesday].map(i32::from).to_vec()
}

/// What a refused call was told.
fn told<T>(result: &Result<T, tonic::Status>) -> (String, String) {
    let message = result.as_ref().err().map(|status| status.message().to_owned());
    (outcome(result), message.unwrap_or_default())
}
