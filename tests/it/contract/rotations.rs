//! What every store promises of versions, rotations, counts and recipient keys.

use credvault::access::{AccountScope, DisableAccount, LocalOperator, Worker};
use credvault::clock::Clock as _;
use credvault::credential::CredentialFilter;
use credvault::crypto::delivery::Delivered;
use credvault::name::ResourceId;
use credvault::provider::DisplayName;
use credvault::recipient::{PublicKey, Recipient, RecipientKey, RecipientKeyName};
use credvault::rotation::policy::{Draft, Receiver, RotationPolicy, Schedule};
use credvault::rotation::{
    Delivery, Parent, Rotation, RotationFilter, RotationName, State, StepKind,
};
use credvault::store::{
    Change, Counted, Due, Error, Store, StoredCredential, StoredRotation, StoredVersion, Taken,
    VersionKey, VersionUse, Write,
};
use jiff::{SignedDuration, Timestamp};

use super::samples::{
    Home, all_credentials, create, credential, entry, id, next, realm, replace, scope, time,
    username, write,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The state after a rotation that keeps the version before for `overlap`.
fn overlapping(
    stored: &StoredCredential,
    fill: u8,
    now: Timestamp,
    overlap: SignedDuration,
) -> StoredCredential {
    let old = &stored.credential;
    let mut new = next(stored, fill);
    let replaced = old.versions.replacing(old.version, old.rotate_time, now, overlap);
    new.credential.versions = replaced.unwrap();
    let before = StoredVersion { version: old.version, sealed: stored.password.clone() };
    new.others.push(before);
    new.others.retain(|other| new.credential.versions.keeps(other.version));
    new
}

pub(super) async fn versions_are_kept_with_their_credential_and_go_with_it(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let now = home.clock.now();
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();
    store.commit(create(&other, &credential("desk", "alice", 1))).await.unwrap();
    let second = overlapping(&first, 2, now, HOUR);
    store.commit(replace(&acme, 1, &second)).await.unwrap();
    let third = overlapping(&second, 3, now, HOUR * 2);
    store.commit(replace(&acme, 2, &third)).await.unwrap();
    let store = home.reopen(store).await;
    let read = store.credential(&acme, &id("desk")).await.unwrap().unwrap();
    assert_eq!(read, third);
    assert_eq!(read.others.len(), 2);
    let (realm, user) = (realm("sip.test"), username("alice"));
    let found = store.credential_by_username(&acme, &realm, &user).await.unwrap().unwrap();
    assert_eq!(found, third);
    assert_eq!(all_credentials(&*store, &acme).await.items[0], third.credential);
    let foreign = store.credential(&other, &id("desk")).await.unwrap().unwrap();
    assert_eq!(foreign.others, []);

    let fourth = next(&third, 4);
    let mut fourth = StoredCredential { others: Vec::new(), ..fourth };
    fourth.credential.versions = third.credential.versions.at(now + HOUR * 3);
    store.commit(replace(&acme, 3, &fourth)).await.unwrap();
    assert_eq!(store.credential(&acme, &id("desk")).await.unwrap().unwrap(), fourth);
    let delete = write(&acme, Change::DeleteCredential(fourth.credential.clone()));
    store.commit(delete).await.unwrap();
    store.commit(create(&acme, &first)).await.unwrap();
    assert_eq!(store.credential(&acme, &id("desk")).await.unwrap().unwrap(), first);
}

pub(super) async fn retirements_come_when_their_time_does_and_not_in_disabled_accounts(
    home: &Home,
) {
    let store = home.create();
    let worker = Worker::rotations();
    let now = home.clock.now();
    let mut scopes = Vec::new();
    for (account, overlap) in [("acme", HOUR), ("other", HOUR * 2), ("closed", HOUR)] {
        let scope = scope(&*store, account).await;
        let mut first = credential("desk", "alice", 1);
        first.credential.name.account = id(account);
        store.commit(create(&scope, &first)).await.unwrap();
        let second = overlapping(&first, 2, now, overlap);
        store.commit(replace(&scope, 1, &second)).await.unwrap();
        scopes.push(scope);
    }
    disable(&*store, &scopes[2]).await;
    let due = async |time| {
        let due = store.due(&worker, Due::Retirement, time, 10).await.unwrap();
        due.into_iter().map(|(account, id)| format!("{}/{id}", account.id)).collect::<Vec<_>>()
    };
    assert_eq!(due(now + HOUR - SignedDuration::from_micros(1)).await, [""; 0]);
    assert_eq!(due(now + HOUR).await, ["acme/desk"]);
    assert_eq!(due(now + HOUR * 2).await, ["acme/desk", "other/desk"]);
    assert_eq!(store.due(&worker, Due::Retirement, now + HOUR * 2, 1).await.unwrap().len(), 1);
}

pub(super) async fn schedules_are_kept_and_come_in_their_order_and_not_where_somebody_is_disabled(
    home: &Home,
) {
    let store = home.create();
    let worker = Worker::rotations();
    let hours = SignedDuration::from_hours;
    let schedule = |interval: i64| {
        let draft = Draft {
            interval: hours(interval),
            window: None,
            overlap: HOUR,
            receiver: Some(Receiver::Key(id("ops"))),
            require_confirmation: false,
        };
        let since = time("2026-01-01T00:00:00Z");
        Some(Schedule { policy: RotationPolicy::parse(draft).unwrap(), since })
    };
    let (acme, closed) = (scope(&*store, "acme").await, scope(&*store, "closed").await);
    for (scope, name, interval, enabled) in [
        (&acme, "late", 300, true),
        (&acme, "early", 100, true),
        (&acme, "middle", 200, true),
        (&acme, "off", 100, false),
        (&closed, "desk", 100, true),
    ] {
        let mut new = credential(name, name, 1);
        new.credential.name.account = scope.account().id.clone();
        new.credential.enabled = enabled;
        new.credential.schedule = schedule(interval);
        store.commit(create(scope, &new)).await.unwrap();
        let read = store.credential(scope, &id(name)).await.unwrap();
        assert_eq!(read.as_ref(), Some(&new));
    }
    store.commit(create(&acme, &credential("never", "never", 1))).await.unwrap();
    disable(&*store, &closed).await;
    let store = home.reopen(store).await;
    let late = store.credential(&acme, &id("late")).await.unwrap().unwrap();
    let end = late.credential.next_rotation_time().unwrap();
    let due = async |until, after, limit| {
        let due = store.scheduled(&worker, until, after, limit).await.unwrap();
        let names: Vec<_> = due.iter().map(|(_, at)| at.id.to_string()).collect();
        assert!(due.iter().all(|(account, at)| account.uid == at.account && at.time <= until));
        (names.join(" "), due.last().map(|(_, at)| at.clone()))
    };
    assert_eq!(due(end, None, 9).await.0, "early middle late");
    assert_eq!(due(end - SignedDuration::from_micros(1), None, 9).await.0, "early middle");
    let (first, reached) = due(end, None, 2).await;
    assert_eq!((first.as_str(), due(end, reached, 9).await.0.as_str()), ("early middle", "late"));

    let filter =
        |before| CredentialFilter { due_before: Some(before), ..CredentialFilter::default() };
    let listed = async |before| {
        let page = store.list_credentials(&acme, filter(before), None, 9).await.unwrap();
        page.items.iter().map(|it| it.name.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(listed(end).await, "early middle off");
    assert_eq!(listed(end + HOUR).await, "early late middle off");

    // Each change of the row says again when it is due.
    let mut without = next(&late, 2);
    without.credential.schedule = None;
    store.commit(replace(&acme, 1, &without)).await.unwrap();
    assert_eq!(store.credential(&acme, &id("late")).await.unwrap().as_ref(), Some(&without));
    assert_eq!(due(end, None, 9).await.0, "early middle");
    let mut again = next(&without, 3);
    again.credential.schedule = schedule(1);
    store.commit(replace(&acme, 2, &again)).await.unwrap();
    assert_eq!(store.credential(&acme, &id("late")).await.unwrap().as_ref(), Some(&again));
    assert_eq!(due(end, None, 9).await.0, "late early middle");
}

async fn disable(store: &dyn Store, scope: &AccountScope) {
    let operator = LocalOperator::beside_the_store().scope::<DisableAccount>();
    let change = Change::SetAccountDisabled { account: scope.account().uid, disabled: true };
    store.commit(Write::new(&operator, change, entry("DisableAccount"), None)).await.unwrap();
}

/// A rotation of `stored` at its first revision, which delivers until an hour has passed.
fn rotation(stored: &StoredCredential, name: &str, now: Timestamp) -> StoredRotation {
    let rotation = Rotation {
        name: RotationName {
            parent: Parent::Credential(stored.credential.name.clone()),
            id: id(name),
        },
        resource: stored.credential.uid,
        version: stored.credential.version + 1,
        revision: 0,
        state: State::Holding,
        overlap: SignedDuration::from_millis(1500),
        require_confirmation: true,
        delivery: Some(Delivery {
            request_id: "an id".to_owned(),
            key_fingerprint: "0a".repeat(32),
            expire_time: now + HOUR,
        }),
        steps: Vec::new(),
        create_time: now,
        update_time: now,
        end_time: None,
        confirm_time: None,
        work: None,
    };
    let rotation = rotation.after(StepKind::Store, State::Holding, now, "ü\"'");
    let sealed = Delivered { encapsulated_key: [7; 32], ciphertext: vec![8; 40] };
    StoredRotation { rotation, sealed: Some(sealed) }
}

fn rotated(
    scope: &AccountScope,
    expect: u64,
    new: &StoredCredential,
    rotation: &StoredRotation,
) -> Write {
    let change = Change::ReplaceCredential {
        expect,
        new: Box::new(new.clone()),
        rotation: Some(Box::new(rotation.clone())),
        leaves_to: None,
    };
    write(scope, change)
}

pub(super) async fn a_rotation_is_stored_with_its_credential_and_moves_by_its_revision(
    home: &Home,
) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let now = home.clock.now();
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();
    let (second, stored) = (next(&first, 2), rotation(&first, "x00a", now));
    let stale = store.commit(rotated(&acme, 7, &second, &stored)).await;
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    assert!(store.rotation(&acme, &id("x00a")).await.unwrap().is_none(), "both or neither");
    store.commit(rotated(&acme, 1, &second, &stored)).await.unwrap();
    let store = home.reopen(store).await;
    let read = async |scope: &AccountScope| store.rotation(scope, &id("x00a")).await.unwrap();
    assert_eq!(read(&acme).await.unwrap(), stored);
    assert!(read(&other).await.is_none());
    let of_version = store.rotation_of_version(&acme, first.credential.uid, 2).await.unwrap();
    assert_eq!(of_version.unwrap(), stored);
    assert!(store.rotation_of_version(&acme, first.credential.uid, 1).await.unwrap().is_none());

    let confirmed = stored.rotation.confirmed(now + HOUR);
    let confirmed = StoredRotation { rotation: confirmed, sealed: None };
    let change =
        || Change::ReplaceRotation { rotation: Box::new(confirmed.clone()), leaves_to: None };
    store.commit(write(&acme, change())).await.unwrap();
    let again = store.commit(write(&acme, change())).await;
    assert!(matches!(again, Err(Error::Conflict)), "{again:?}");
    assert_eq!(read(&acme).await.unwrap(), confirmed);
    let taken = rotation(&first, "x00a", now);
    let taken = store.commit(rotated(&acme, 2, &next(&second, 3), &taken)).await;
    assert!(matches!(taken, Err(Error::Taken(Taken::Id))), "{taken:?}");
    let delete = write(&acme, Change::DeleteCredential(second.credential.clone()));
    store.commit(delete).await.unwrap();
    assert!(read(&acme).await.is_none());
}

pub(super) async fn rotations_are_listed_newest_first_and_those_that_are_over_are_forgotten(
    home: &Home,
) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let now = home.clock.now();
    let mut desk = credential("desk", "alice", 1);
    store.commit(create(&acme, &desk)).await.unwrap();
    let hall = credential("hall", "bob", 1);
    store.commit(create(&acme, &hall)).await.unwrap();
    let of_hall = rotation(&hall, "x50", now);
    store.commit(rotated(&acme, 1, &next(&hall, 2), &of_hall)).await.unwrap();
    // The first two stay open; of the others the newest are remembered.
    for number in 0..30 {
        let name = format!("x{:02}", 10 + number);
        let stored = rotation(&desk, &name, now);
        let new = next(&desk, 2);
        store.commit(rotated(&acme, desk.credential.revision, &new, &stored)).await.unwrap();
        desk = new;
        if number > 1 {
            let over = stored.rotation.cancelled(now);
            let over = StoredRotation { rotation: over, sealed: None };
            let change = Change::ReplaceRotation { rotation: Box::new(over), leaves_to: None };
            store.commit(write(&acme, change)).await.unwrap();
        }
    }
    let list = async |filter: RotationFilter, before: Option<&str>, limit| {
        let before = before.map(str::to_owned);
        let page = store.list_rotations(&acme, filter, before, limit).await.unwrap();
        let names = page.items.iter().map(|it| it.name.id.to_string()).collect::<Vec<_>>();
        (names, page.more)
    };
    let all = list(RotationFilter::default(), None, 100).await.0;
    assert!(all.iter().is_sorted_by(|a, b| a > b), "{all:?}");
    assert_eq!(all.first().unwrap(), "x50");
    assert!(all.ends_with(&["x11".to_owned(), "x10".to_owned()]), "{all:?}");
    assert!((22..=24).contains(&all.len()), "{all:?}");
    let (first, more) = list(RotationFilter::default(), None, 5).await;
    assert!(more && first == all[..5]);
    assert_eq!(list(RotationFilter::default(), Some(&all[4]), 5).await.0, all[5..10]);
    let of_desk =
        RotationFilter { resource: Some(desk.credential.uid), state: Some(State::Holding) };
    assert_eq!(list(of_desk, None, 100).await.0, ["x11", "x10"]);
    let of_desk = RotationFilter { resource: Some(desk.credential.uid), state: None };
    let older = list(of_desk, Some("5"), 100).await.0;
    assert_eq!(older, ["x11", "x10"], "before version 5");
    let foreign = store.list_rotations(&other, RotationFilter::default(), None, 5).await.unwrap();
    assert!(foreign.items.is_empty());

    let worker = Worker::rotations();
    let due = async |time| {
        let due = store.due(&worker, Due::Expiry, time, 10).await.unwrap();
        let mut names: Vec<_> =
            due.into_iter().map(|(_, id): (_, ResourceId)| id.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(due(now).await, ["x10", "x11"], "their versions are gone");
    assert_eq!(due(now + HOUR).await, ["x10", "x11", "x50"]);
    disable(&*store, &acme).await;
    assert_eq!(due(now + HOUR).await, [""; 0]);
}

pub(super) async fn uses_add_up_and_are_of_what_exists(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let now = home.clock.now();
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();
    let key = |version| VersionKey {
        account: acme.account().uid,
        resource: first.credential.uid,
        version,
    };
    let uses =
        |successes, failures, time| VersionUse { last_success_time: time, successes, failures };
    let ghost = VersionKey { resource: credential("hall", "bob", 1).credential.uid, ..key(1) };
    let worker = Worker::rotations();
    let counted = |key, uses| Counted { key, credential: id("desk"), uses };
    for batch in [
        vec![counted(key(1), uses(2, 1, Some(now + HOUR))), counted(ghost, uses(1, 1, Some(now)))],
        vec![counted(key(1), uses(3, 0, Some(now))), counted(key(2), uses(0, 4, None))],
        vec![counted(key(2), uses(1, 0, Some(now)))],
    ] {
        store.commit(Write::uses(&worker, batch)).await.unwrap();
    }
    let store = home.reopen(store).await;
    let read = store.version_uses(&[key(2), key(1), key(3), ghost]).await.unwrap();
    let expected = [
        uses(1, 4, Some(now)),
        uses(5, 1, Some(now + HOUR)),
        VersionUse::default(),
        VersionUse::default(),
    ];
    assert_eq!(read, expected);
    store.commit(write(&acme, Change::DeleteCredential(first.credential.clone()))).await.unwrap();
    assert_eq!(store.version_uses(&[key(1)]).await.unwrap(), [VersionUse::default()]);
}

pub(super) async fn recipient_keys_are_listed_by_id_and_end_once(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let created = time("2026-05-01T12:00:00.000001Z");
    let key = |name: &str| RecipientKey {
        name: RecipientKeyName { account: id("acme"), id: id(name) },
        public_key: PublicKey::parse(&[9; 32]).unwrap(),
        display_name: DisplayName::parse("the edge, Köln").unwrap(),
        create_time: created,
        revoke_time: None,
    };
    for name in ["edge-2", "edge-1", "edge-3"] {
        store.commit(write(&acme, Change::CreateRecipientKey(key(name)))).await.unwrap();
    }
    let taken = store.commit(write(&acme, Change::CreateRecipientKey(key("edge-1")))).await;
    assert!(matches!(taken, Err(Error::Taken(Taken::Id))), "{taken:?}");
    let revoke = |name: &str, time| Change::RevokeRecipientKey { id: id(name), time };
    store.commit(write(&acme, revoke("edge-2", created + HOUR))).await.unwrap();
    store.commit(write(&acme, revoke("edge-2", created + HOUR * 2))).await.unwrap();
    let absent = store.commit(write(&other, revoke("edge-2", created))).await;
    assert!(matches!(absent, Err(Error::Conflict)), "{absent:?}");
    let store = home.reopen(store).await;
    assert_eq!(store.recipient_key(&acme, &id("edge-1")).await.unwrap().unwrap(), key("edge-1"));
    assert!(store.recipient_key(&other, &id("edge-1")).await.unwrap().is_none());
    let revoked = RecipientKey { revoke_time: Some(created + HOUR), ..key("edge-2") };
    let page = store.list_recipient_keys(&acme, None, 2).await.unwrap();
    assert_eq!((page.items, page.more), (vec![key("edge-1"), revoked], true));
    let page = store.list_recipient_keys(&acme, Some("edge-2".to_owned()), 2).await.unwrap();
    assert_eq!((page.items, page.more), (vec![key("edge-3")], false));
}

pub(super) async fn a_password_leaves_only_as_the_account_allows_it_by_then(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let created = time("2026-05-01T12:00:00.000001Z");
    let key = RecipientKey {
        name: RecipientKeyName { account: id("acme"), id: id("edge") },
        public_key: PublicKey::parse(&[9; 32]).unwrap(),
        display_name: DisplayName::parse("").unwrap(),
        create_time: created,
        revoke_time: None,
    };
    store.commit(write(&acme, Change::CreateRecipientKey(key.clone()))).await.unwrap();
    let mut made = 0;
    let mut create_for = async |leaves_to: Option<Recipient>| {
        made += 1;
        let new = Box::new(credential(&format!("desk-{made}"), &format!("user-{made}"), 1));
        let change = Change::CreateCredential { new, rotation: None, leaves_to };
        store.commit(write(&acme, change)).await
    };
    let recipients = [
        None,
        Some(Recipient::Enrolled(id("edge"))),
        Some(Recipient::Key(key.public_key)),
        Some(Recipient::Caller),
    ];
    let mut allowed = async |expected: [bool; 4]| {
        for (recipient, expected) in recipients.iter().zip(expected) {
            let created = create_for(recipient.clone()).await;
            assert_eq!(created.is_ok(), expected, "{recipient:?}: {created:?}");
        }
    };
    allowed([true; 4]).await;
    let account = acme.account().uid;
    let policy = Change::SetDeliveryPolicy { account, enrolled_keys_only: true };
    store.commit(write(&acme, policy)).await.unwrap();
    allowed([true, true, false, false]).await;
    let revoke = Change::RevokeRecipientKey { id: id("edge"), time: created };
    store.commit(write(&acme, revoke)).await.unwrap();
    allowed([true, false, false, false]).await;
}

pub(super) async fn a_delivery_policy_is_known_to_the_next_call(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    for enrolled_keys_only in [true, false] {
        let account = acme.account().uid;
        let change = Change::SetDeliveryPolicy { account, enrolled_keys_only };
        store.commit(Write::new(&acme, change, entry("Test"), None)).await.unwrap();
        let now = scope(&*store, "acme").await;
        assert_eq!(now.account().enrolled_keys_only, enrolled_keys_only);
    }
}
