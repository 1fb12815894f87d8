//! What every store promises of tokens beside the active one, and of their rotations.

use credvault::access::Worker;
use credvault::access_token::{AccessTokenPolicy, Grant, Lifetime};
use credvault::clock::Clock as _;
use credvault::provider::TokenKind;
use credvault::provider::twilio::ApiKeySid;
use credvault::recipient::Recipient;
use credvault::rotation::{
    Parent, Rotation, RotationFilter, RotationName, SealFor, Stage, State, Task, Work,
};
use credvault::store::{Change, Due, Error, StoredProvider, StoredRotation, StoredToken};
use jiff::{SignedDuration, Timestamp};

use super::samples::{Home, chain, id, provider, scope, sealed, write};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A provider with its next token pending, and with one that retires if there is one before.
fn with_pending(first: &StoredProvider, now: Timestamp) -> StoredProvider {
    let mut next = first.clone();
    let sid = ApiKeySid::parse(&format!("SK{}", "0b".repeat(16))).unwrap();
    let version = first.provider.versions.next_number(first.provider.token_version);
    next.provider.versions = first.provider.versions.with_pending(version, now);
    let kind = TokenKind::ApiKey { sid };
    next.others.push(StoredToken { version, kind, sealed: sealed(0x77) });
    next.provider.revision += 1;
    next
}

/// The same once the pending one has become the active one, and the one before retires for an hour.
fn activated(pending: &StoredProvider, now: Timestamp) -> StoredProvider {
    let mut next = pending.clone();
    let new = next.others.pop().unwrap();
    let (active, made) = (next.provider.token_version, next.provider.token_update_time);
    let versions = next.provider.versions.promoted();
    next.provider.versions = versions.replacing(active, made, now, HOUR).unwrap();
    let old = std::mem::replace(&mut next.token, new.sealed);
    let kind = std::mem::replace(&mut next.provider.token_kind, new.kind);
    next.others.push(StoredToken { version: active, kind, sealed: old });
    next.provider.token_version = new.version;
    next.provider.revision += 1;
    next
}

/// A rotation of the provider's token at its first revision, with all that work can have in it.
fn rotation(of: &StoredProvider, name: &str, now: Timestamp) -> StoredRotation {
    let task = Task::Token { stage: Stage::Make, hold: HOUR * 2, replaces: 1 };
    let key = credvault::recipient::PublicKey::parse(&[9; 32]).unwrap();
    let seal_for = Some(SealFor { key, request_id: "an id".to_owned() });
    let work = Work { seal_for, ..Work::new(task, Some(Recipient::Enrolled(id("edge"))), now) };
    let rotation = Rotation {
        name: RotationName { parent: Parent::Provider(of.provider.name.clone()), id: id(name) },
        resource: of.provider.uid,
        version: 2,
        revision: 1,
        state: State::Pending,
        overlap: SignedDuration::ZERO,
        require_confirmation: true,
        delivery: None,
        steps: Vec::new(),
        create_time: now,
        update_time: now,
        end_time: None,
        confirm_time: None,
        work: Some(work),
    };
    StoredRotation { rotation, sealed: None }
}

pub(super) async fn an_access_token_leaves_only_as_its_account_and_provider_are_by_then(
    home: &Home,
) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let stored = provider("main", 0x11);
    store.commit(write(&acme, Change::CreateProvider(stored.clone()))).await.unwrap();
    let nothing = AccessTokenPolicy::default();
    let video = AccessTokenPolicy::new(&[Grant::Video], Lifetime::USUAL);
    let minted = |policy, token_version| Change::MintAccessToken {
        policy,
        provider: stored.provider.uid,
        token_version,
    };
    let account = acme.account().uid;
    let allow = |policy| Change::SetAccessTokenPolicy { account, policy };
    let gone = Change::DeleteProvider { provider: stored.provider.clone(), rotation: None };
    for (change, leaves) in [
        (minted(nothing, 1), true),
        (minted(video, 1), false),
        (allow(video), true),
        (minted(video, 1), true),
        (minted(nothing, 1), false),
        (minted(video, 2), false),
        (gone, true),
        (minted(video, 1), false),
    ] {
        let entries = chain(&*store, &acme).await.len();
        let done = store.commit(write(&acme, change)).await;
        assert!(if leaves { done.is_ok() } else { matches!(done, Err(Error::Conflict)) });
        assert_eq!(chain(&*store, &acme).await.len(), entries + usize::from(leaves));
    }
}

fn replaced(expect: u64, new: &StoredProvider, rotation: Option<&StoredRotation>) -> Change {
    let rotation = rotation.cloned().map(Box::new);
    Change::ReplaceProvider { expect, new: new.clone(), rotation, leaves_to: None }
}

pub(super) async fn tokens_are_kept_with_their_provider_and_go_with_it(home: &Home) {
    let store = home.create();
    let (acme, now) = (scope(&*store, "acme").await, home.clock.now());
    let first = provider("main", 1);
    store.commit(write(&acme, Change::CreateProvider(first.clone()))).await.unwrap();
    let pending = with_pending(&first, now);
    let stored = rotation(&first, "x00a", now);
    let stale = store.commit(write(&acme, replaced(7, &pending, Some(&stored)))).await;
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    assert!(store.rotation(&acme, &id("x00a")).await.unwrap().is_none(), "both or neither");
    store.commit(write(&acme, replaced(1, &pending, Some(&stored)))).await.unwrap();
    let store = home.reopen(store).await;
    assert_eq!(store.provider(&acme, &id("main")).await.unwrap().unwrap(), pending);
    assert_eq!(store.rotation(&acme, &id("x00a")).await.unwrap().unwrap(), stored);
    let asking = stored.rotation.asking((first.provider.uid, false), now).unwrap();
    let asking = Box::new(StoredRotation { rotation: asking, sealed: None });
    let change = Change::ReplaceRotation { rotation: asking.clone(), leaves_to: None };
    store.commit(write(&acme, change)).await.unwrap();
    assert_eq!(store.rotation(&acme, &id("x00a")).await.unwrap().unwrap(), *asking);
    let filter = RotationFilter { resource: Some(first.provider.uid), state: None };
    let listed = store.list_rotations(&acme, filter, None, 10).await.unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&asking.rotation));

    let active = activated(&pending, now);
    store.commit(write(&acme, replaced(2, &active, None))).await.unwrap();
    assert_eq!(store.provider(&acme, &id("main")).await.unwrap().unwrap(), active);
    let due = async |time| {
        let due = store.due(&Worker::rotations(), Due::TokenRetirement, time, 10).await.unwrap();
        due.into_iter().map(|(account, id)| format!("{}/{id}", account.id)).collect::<Vec<_>>()
    };
    assert_eq!(due(now + HOUR - SignedDuration::from_micros(1)).await, [""; 0]);
    assert_eq!(due(now + HOUR).await, ["acme/main"]);

    let delete =
        write(&acme, Change::DeleteProvider { provider: active.provider.clone(), rotation: None });
    store.commit(delete).await.unwrap();
    assert!(store.rotation(&acme, &id("x00a")).await.unwrap().is_none());
    assert_eq!(due(now + HOUR).await, [""; 0]);
    // What comes after it under the same name has none of its tokens.
    let again = provider("main", 1);
    store.commit(write(&acme, Change::CreateProvider(again.clone()))).await.unwrap();
    assert_eq!(store.provider(&acme, &id("main")).await.unwrap().unwrap(), again);
}
