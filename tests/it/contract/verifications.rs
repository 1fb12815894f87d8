//! What every store promises of verifications. The list of tests, and of stores, is in `store.rs`.

use credvault::access::{AccountScope, Worker};
use credvault::audit::Entry;
use credvault::name::Uid;
use credvault::provider::twilio::{CredentialListSid, Trunk, TrunkSid};
use credvault::provider::{CheckStatus, DisplayName, Kind, Provider, Status, Verification};
use credvault::store::{Change, Error, Store, StoredProvider, Taken, Write};
use jiff::{SignedDuration, Timestamp};

use super::samples::{
    Home, add_account, chain, close, entry, id, provider, scope, time, verification, write,
};

/// The n-th minute after noon.
fn minute(n: i64) -> Timestamp {
    time("2026-05-01T12:00:00.000001Z") + SignedDuration::from_mins(n)
}

/// The provider with a verification of this minute.
fn verified(provider: &Provider, n: i64, status: Status) -> Provider {
    let last_verify_time = Some(minute(n));
    let verification =
        Verification { last_verify_time, ..verification(status, CheckStatus::Passed) };
    Provider { verification, ..provider.clone() }
}

/// The minutes of a page of the history, and whether there are more.
async fn listed(
    store: &dyn Store,
    scope: &AccountScope,
    before: Option<i64>,
    limit: usize,
) -> (Vec<i64>, bool) {
    let before = before.map(minute);
    let page = store.list_verifications(scope, &id("twilio-eu"), before, limit).await.unwrap();
    let minutes = page.items.iter().map(|it| {
        let time = it.last_verify_time.unwrap();
        time.duration_since(minute(0)).as_mins()
    });
    (minutes.collect(), page.more)
}

pub(super) async fn the_last_hundred_verifications_are_listed_newest_first(home: &Home) {
    let store = home.create();
    // Those to come would be taken for those of a clock that was wrong.
    home.clock.advance(SignedDuration::from_hours(2));
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let mut stored = provider("twilio-eu", 1);
    stored.provider = verified(&stored.provider, 0, Status::Verified);
    let mut neighbour = provider("twilio-us", 1);
    neighbour.provider = verified(&neighbour.provider, 50, Status::Verified);
    for new in [&stored, &neighbour] {
        store.commit(write(&acme, Change::CreateProvider(new.clone()))).await.unwrap();
    }
    assert_eq!(
        listed(&*store, &acme, None, 9).await,
        (vec![0], false),
        "the first is of its creation"
    );
    let record = |n, status| {
        let provider = verified(&stored.provider, n, status);
        Write::verification(&acme, provider, None)
    };
    for n in 1..=4 {
        store.commit(record(n, Status::Verified)).await.unwrap();
    }
    for (before, limit, expected, more) in [
        (None, 9, &[4, 3, 2, 1, 0][..], false),
        (None, 5, &[4, 3, 2, 1, 0], false),
        (None, 2, &[4, 3], true),
        (Some(3), 2, &[2, 1], true),
        (Some(1), 2, &[0], false),
        (Some(0), 2, &[], false),
        (Some(99), 1, &[4], true),
    ] {
        let expected = (expected.to_vec(), more);
        assert_eq!(listed(&*store, &acme, before, limit).await, expected, "{before:?} {limit}");
    }
    assert_eq!(listed(&*store, &other, None, 9).await, (vec![], false), "not of that account");

    // One of the same time is the same one, complete.
    store.commit(record(4, Status::Warning)).await.unwrap();
    assert_eq!(listed(&*store, &acme, None, 9).await.0, [4, 3, 2, 1, 0]);
    let newest = store.list_verifications(&acme, &id("twilio-eu"), None, 1).await.unwrap();
    assert_eq!(newest.items[0], verified(&stored.provider, 4, Status::Warning).verification);

    for n in 5..120 {
        store.commit(record(n, Status::Verified)).await.unwrap();
    }
    let store = home.reopen(store).await;
    let (minutes, more) = listed(&*store, &acme, None, 1000).await;
    assert!(minutes.iter().copied().eq((20..120).rev()), "{minutes:?}");
    assert!(!more);
    // One that is older than all of them is not kept in the place of a newer one.
    store.commit(record(10, Status::Failed)).await.unwrap();
    assert_eq!(listed(&*store, &acme, None, 1000).await.0, minutes);

    // The history of a provider is its own, and ends with it.
    let us = store.list_verifications(&acme, &id("twilio-us"), None, 9).await.unwrap();
    assert_eq!(us.items, [neighbour.provider.verification.clone()]);
    let read = store.provider(&acme, &id("twilio-eu")).await.unwrap().unwrap();
    store
        .commit(write(&acme, Change::DeleteProvider { provider: read.provider, rotation: None }))
        .await
        .unwrap();
    assert_eq!(listed(&*store, &acme, None, 9).await, (vec![], false));
    store.commit(write(&acme, Change::CreateProvider(stored.clone()))).await.unwrap();
    assert_eq!(listed(&*store, &acme, None, 9).await, (vec![0], false), "a successor begins anew");
}

pub(super) async fn a_verification_is_kept_only_for_the_token_it_is_of(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let stored = provider("twilio-eu", 1);
    store.commit(write(&acme, Change::CreateProvider(stored.clone()))).await.unwrap();
    let mut verified = stored.provider.clone();
    verified.verification = verification(Status::Failed, CheckStatus::Failed);
    // What it was read with beside the verdict must not come back with it.
    verified.display_name = DisplayName::parse("stale").unwrap();
    store.commit(write(&acme, Change::RecordVerification(verified.clone()))).await.unwrap();
    let read = store.provider(&acme, &id("twilio-eu")).await.unwrap().unwrap();
    assert_eq!(read.provider.verification, verified.verification);
    assert_eq!(read.provider.etag(), stored.provider.etag());
    assert_eq!(read.provider.display_name, stored.provider.display_name);
    assert_eq!(read.token.as_bytes(), stored.token.as_bytes());

    verified.token_version = 2;
    let result = store.commit(write(&acme, Change::RecordVerification(verified))).await;
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
}

pub(super) async fn a_verification_moves_nothing_but_forward(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let mut stored = provider("twilio-eu", 1);
    stored.provider = verified(&stored.provider, 5, Status::Verified);
    store.commit(write(&acme, Change::CreateProvider(stored.clone()))).await.unwrap();
    let read = async || store.provider(&acme, &id("twilio-eu")).await.unwrap().unwrap();
    let commit = |provider| store.commit(Write::verification(&acme, provider, None));

    // A time to come, of a clock that was wrong, holds nothing up.
    commit(verified(&stored.provider, 9, Status::Failed)).await.unwrap();
    commit(verified(&stored.provider, 8, Status::Failed)).await.unwrap();
    assert_eq!(read().await.provider.verification.last_verify_time, Some(minute(8)));
    commit(verified(&stored.provider, 5, Status::Verified)).await.unwrap();
    assert_eq!(read().await.provider.verification.last_verify_time, Some(minute(5)));

    // Newer, and of the same time: the last one counts. Older: it only enters the history.
    home.clock.advance(SignedDuration::from_hours(1));
    for (n, status, kept) in [
        (6, Status::Failed, 6),
        (6, Status::Warning, 6),
        (4, Status::Verified, 6),
        (7, Status::Verified, 7),
    ] {
        let new = verified(&stored.provider, n, status);
        commit(new.clone()).await.unwrap();
        let after = read().await;
        assert_eq!(after.provider.verification.last_verify_time, Some(minute(kept)), "{n}");
        if n == kept {
            assert_eq!(after.provider, new);
        }
        assert_eq!(after.token.as_bytes(), stored.token.as_bytes());
    }
    assert_eq!(listed(&*store, &acme, None, 9).await.0, [7, 6, 5, 4]);

    // Of another token, another trunk, another provider or account: of nothing that there is.
    let newest = verified(&stored.provider, 8, Status::Failed);
    let next_token = Provider { token_version: 2, ..newest.clone() };
    let successor = Provider { uid: Uid::from_bytes([9; 16]), ..newest.clone() };
    let mut on_trunk = newest.clone();
    let Kind::Twilio(account) = &mut on_trunk.kind else { panic!("another carrier") };
    account.trunk = Some(Trunk {
        sid: TrunkSid::parse(&format!("TK{}", "0".repeat(32))).unwrap(),
        credential_list_sid: Some(
            CredentialListSid::parse(&format!("CL{}", "0".repeat(32))).unwrap(),
        ),
    });
    let mut absent = newest.clone();
    absent.name.id = id("twilio-us");
    let before = read().await;
    for (what, result) in [
        ("another token", commit(next_token).await),
        ("another trunk", commit(on_trunk).await),
        ("another provider", commit(successor).await),
        ("none", commit(absent).await),
        ("another account", store.commit(Write::verification(&other, newest.clone(), None)).await),
    ] {
        assert!(matches!(result, Err(Error::Conflict)), "{what}: {result:?}");
    }
    assert_eq!(read().await, before);
    assert_eq!(listed(&*store, &acme, None, 9).await.0, [7, 6, 5, 4]);

    // Of a later revision it is: a name is neither token nor trunk.
    let mut renamed = StoredProvider { provider: newest.clone(), ..before.clone() };
    renamed.provider.verification = before.provider.verification.clone();
    renamed.provider.display_name = DisplayName::parse("Europe").unwrap();
    renamed.provider.revision = 2;
    let change = replaced(1, renamed.clone());
    store.commit(write(&acme, change)).await.unwrap();
    commit(newest.clone()).await.unwrap();
    let after = read().await.provider;
    assert_eq!(after, Provider { verification: newest.verification, ..renamed.provider });
}

pub(super) async fn a_verification_is_recorded_with_its_entry_or_without(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let stored = provider("twilio-eu", 1);
    store.commit(write(&acme, Change::CreateProvider(stored.clone()))).await.unwrap();
    let entries = chain(&*store, &acme).await.len();
    let record = |n, entry| {
        Write::verification(&acme, verified(&stored.provider, n, Status::Verified), entry)
    };
    store.commit(record(5, None)).await.unwrap();
    assert_eq!(chain(&*store, &acme).await.len(), entries);
    let changed = Entry { detail: "verified to failed".to_owned(), ..entry("VerifyProvider") };
    store.commit(record(6, Some(changed.clone()))).await.unwrap();
    let log = chain(&*store, &acme).await;
    assert_eq!((log.len(), &log.last().unwrap().entry), (entries + 1, &changed));
    // What is not kept is not recorded either.
    let mut stale = verified(&stored.provider, 7, Status::Verified);
    stale.token_version = 2;
    store.commit(Write::verification(&acme, stale, Some(changed))).await.unwrap_err();
    assert_eq!(chain(&*store, &acme).await.len(), entries + 1);
}

pub(super) async fn a_new_token_or_trunk_takes_its_verification_along(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let mut stored = provider("twilio-eu", 1);
    stored.provider = verified(&stored.provider, 1, Status::Verified);
    store.commit(write(&acme, Change::CreateProvider(stored.clone()))).await.unwrap();
    let commit = async |expect, new: &StoredProvider| {
        let change = replaced(expect, new.clone());
        store.commit(write(&acme, change)).await.unwrap();
        store.provider(&acme, &id("twilio-eu")).await.unwrap().unwrap().provider
    };

    let mut next = provider("twilio-eu", 2);
    next.provider = Provider {
        uid: stored.provider.uid,
        token_version: 2,
        revision: 2,
        ..verified(&stored.provider, 2, Status::Warning)
    };
    assert_eq!(commit(1, &next).await, next.provider);
    assert_eq!(listed(&*store, &acme, None, 9).await.0, [2, 1], "it is in the history at once");

    next.provider.revision = 3;
    next.provider.verification = Verification::pending();
    let Kind::Twilio(account) = &mut next.provider.kind else { panic!("another carrier") };
    let sid = TrunkSid::parse(&format!("TK{}", "0".repeat(32))).unwrap();
    account.trunk = Some(Trunk { sid, credential_list_sid: None });
    assert_eq!(commit(2, &next).await, next.provider);
    assert_eq!(listed(&*store, &acme, None, 9).await.0, [2, 1], "nothing was found of this trunk");

    // After a change, any time is newer: there is nothing to be older than.
    let first = verified(&next.provider, 1, Status::Verified);
    store.commit(Write::verification(&acme, first.clone(), None)).await.unwrap();
    let read = store.provider(&acme, &id("twilio-eu")).await.unwrap().unwrap();
    assert_eq!(read.provider, first);
}

pub(super) async fn providers_of_all_accounts_are_walked_through_by_uid(home: &Home) {
    let store = home.create();
    let worker = Worker::verifier();
    let uid = |n: u128| Uid::from_bytes(n.to_be_bytes());
    let accounts = ["acme", "other"];
    // Neighbours are in different accounts, and the ends of the range are taken.
    let numbers = [0, 1, 2, 1 << 64, (1 << 64) + 1, u128::MAX - 1, u128::MAX];
    let mut expected = Vec::new();
    for (n, number) in numbers.into_iter().enumerate() {
        let account = accounts[n % 2];
        let scope = scope(&*store, account).await;
        let mut new = provider(&format!("twilio-{n}"), u8::try_from(n).unwrap());
        (new.provider.uid, new.provider.name.account) = (uid(number), id(account));
        store.commit(write(&scope, Change::CreateProvider(new.clone()))).await.unwrap();
        expected.push((scope.account().clone(), new.provider.name.id, new.provider.uid));
    }
    // Those of an account that is disabled are left out, also where they would fill a page.
    let closed = add_account(&*store, "closed").await;
    for number in [0, 1, 3, 1 << 64, u128::MAX] {
        let mut new = provider(&format!("closed-{}", number % 10), 1);
        (new.provider.uid, new.provider.name.account) = (uid(number ^ (1 << 32)), id("closed"));
        let write = write(&worker.scope(closed.clone()), Change::CreateProvider(new));
        store.commit(write).await.unwrap();
    }
    close(&*store, &closed).await;
    let store = home.reopen(store).await;
    for (first, last, limit, found, more) in [
        (0, u128::MAX, 9, 0..7, false),
        (0, u128::MAX, 7, 0..7, false),
        (0, u128::MAX, 3, 0..3, true),
        (3, u128::MAX, 3, 3..6, true),
        (u128::MAX, u128::MAX, 3, 6..7, false),
        (0, 0, 3, 0..1, false),
        (1, 2, 3, 1..3, false),
        (1, 2, 1, 1..2, true),
        (3, (1 << 64) - 1, 3, 0..0, false),
        (1 << 64, 1 << 64, 3, 3..4, false),
        (2, 1, 3, 0..0, false),
        (1 << 32, 1 << 33, 3, 0..0, false),
    ] {
        let page = store.providers_between(&worker, uid(first), uid(last), limit).await.unwrap();
        assert_eq!((page.items, page.more), (expected[found].to_vec(), more), "{first} {last}");
    }
}

pub(super) async fn providers_are_kept_like_credentials(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let first = provider("twilio-eu", 1);
    let create = |scope, new: &StoredProvider| write(scope, Change::CreateProvider(new.clone()));
    store.commit(create(&acme, &first)).await.unwrap();
    let store = home.reopen(store).await;
    assert_eq!(store.provider(&acme, &id("twilio-eu")).await.unwrap().unwrap(), first);
    assert!(store.provider(&other, &id("twilio-eu")).await.unwrap().is_none());
    let taken = store.commit(create(&acme, &first)).await;
    assert!(matches!(taken, Err(Error::Taken(Taken::Id))), "{taken:?}");
    let mut elsewhere = provider("twilio-eu", 3);
    elsewhere.provider.name.account = id("other");
    store.commit(create(&other, &elsewhere)).await.unwrap();

    let mut second = provider("twilio-eu", 2);
    second.provider.uid = first.provider.uid;
    second.provider.display_name = DisplayName::parse("Europe").unwrap();
    (second.provider.revision, second.provider.token_version) = (2, 2);
    let replace = |expect| {
        let new = second.clone();
        write(&acme, replaced(expect, new))
    };
    store.commit(replace(1)).await.unwrap();
    let stale = store.commit(replace(1)).await;
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    assert_eq!(store.provider(&acme, &id("twilio-eu")).await.unwrap().unwrap(), second);

    let delete = |stored: &StoredProvider| {
        write(&acme, Change::DeleteProvider { provider: stored.provider.clone(), rotation: None })
    };
    let stale = store.commit(delete(&first)).await;
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    store.commit(delete(&second)).await.unwrap();
    assert!(store.provider(&acme, &id("twilio-eu")).await.unwrap().is_none());
    assert_eq!(store.provider(&other, &id("twilio-eu")).await.unwrap().unwrap(), elsewhere);
}

fn replaced(expect: u64, new: StoredProvider) -> Change {
    Change::ReplaceProvider { expect, new, rotation: None, leaves_to: None }
}
