//! What every store promises, through its public API alone: the same tests for each of them.
//!
//! A new store is one line in `stores!`.

use std::path::Path;
use std::sync::Arc;

use credvault::access::api_token::TokenId;
use credvault::access::principal::Principal;
use credvault::access::{Caller, Role};
use credvault::audit::{Chain, Entry};
use credvault::credential::{CredentialFilter, Description};
use credvault::name::Uid;
use credvault::provider::{CheckStatus, ProviderFilter, ProviderType, Status};
use credvault::store::{
    self, Change, Error, Location, OnceKey, Store, StoredCredential, Taken, Write,
};
use futures_util::future::join_all;
use jiff::SignedDuration;

use super::accounts::an_account_that_closed_meanwhile_takes_nothing_in;
use super::callers::{
    no_call_after_a_revocation_finds_the_token_good,
    what_callers_may_do_is_never_older_than_the_last_change,
};
use super::changes::changes_are_found_by_the_entries_that_name_them;
use super::rotations::{
    a_delivery_policy_is_known_to_the_next_call,
    a_password_leaves_only_as_the_account_allows_it_by_then,
    a_rotation_is_stored_with_its_credential_and_moves_by_its_revision,
    recipient_keys_are_listed_by_id_and_end_once,
    retirements_come_when_their_time_does_and_not_in_disabled_accounts,
    rotations_are_listed_newest_first_and_those_that_are_over_are_forgotten,
    schedules_are_kept_and_come_in_their_order_and_not_where_somebody_is_disabled,
    uses_add_up_and_are_of_what_exists, versions_are_kept_with_their_credential_and_go_with_it,
};
use super::samples::{
    Home, add_token, all_credentials, audit_scope, chain, chain_of, create, creation, credential,
    entry, id, ids, labels, next, provider, realm, replace, replacement, scope, time, username,
    verification, write,
};
use super::tokens::{
    an_access_token_leaves_only_as_its_account_and_provider_are_by_then,
    tokens_are_kept_with_their_provider_and_go_with_it,
};
use super::verifications::{
    a_new_token_or_trunk_takes_its_verification_along,
    a_verification_is_kept_only_for_the_token_it_is_of,
    a_verification_is_recorded_with_its_entry_or_without, a_verification_moves_nothing_but_forward,
    providers_are_kept_like_credentials, providers_of_all_accounts_are_walked_through_by_uid,
    the_last_hundred_verifications_are_listed_newest_first,
};

macro_rules! stores {
    ($($store:ident: $location:expr;)*) => {
        $(mod $store {
            use super::{Home, Path, Location};
            tests! {
                $location;
                it_is_created_once_and_opened_by_one;
                tokens_and_their_roles_read_back;
                what_callers_may_do_is_never_older_than_the_last_change;
                no_call_after_a_revocation_finds_the_token_good;
                a_credential_reads_back_as_it_was_written;
                ids_and_usernames_are_taken_once;
                a_replacement_needs_the_revision_it_was_made_from;
                of_many_writers_from_one_revision_one_wins;
                a_deletion_needs_the_revision_and_frees_the_names;
                providers_are_kept_like_credentials;
                a_verification_is_kept_only_for_the_token_it_is_of;
                the_last_hundred_verifications_are_listed_newest_first;
                a_verification_moves_nothing_but_forward;
                a_verification_is_recorded_with_its_entry_or_without;
                a_new_token_or_trunk_takes_its_verification_along;
                providers_of_all_accounts_are_walked_through_by_uid;
                tokens_are_kept_with_their_provider_and_go_with_it;
                an_access_token_leaves_only_as_its_account_and_provider_are_by_then;
                versions_are_kept_with_their_credential_and_go_with_it;
                retirements_come_when_their_time_does_and_not_in_disabled_accounts;
                schedules_are_kept_and_come_in_their_order_and_not_where_somebody_is_disabled;
                a_rotation_is_stored_with_its_credential_and_moves_by_its_revision;
                rotations_are_listed_newest_first_and_those_that_are_over_are_forgotten;
                uses_add_up_and_are_of_what_exists;
                recipient_keys_are_listed_by_id_and_end_once;
                a_delivery_policy_is_known_to_the_next_call;
                a_password_leaves_only_as_the_account_allows_it_by_then;
                a_request_id_counts_once_until_it_expires;
                each_chain_is_its_own_and_without_gaps;
                changes_are_found_by_the_entries_that_name_them;
                a_write_that_fails_leaves_nothing;
                reads_see_every_acknowledged_write;
                concurrent_commits_are_all_there_after_a_new_start;
                a_closed_store_is_unavailable;
                an_account_that_closed_meanwhile_takes_nothing_in;
                lists_go_on_where_they_ended;
                lists_filter;
                a_page_ends_before_an_answer_grows_too_large;
            }
        })*
    };
}

macro_rules! tests {
    ($location:expr; $($test:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let location: fn(&Path) -> Location = $location;
                super::$test(&Home::new(location)).await;
            }
        )*
    };
}

stores! {
    sqlite: |dir| Location::Sqlite(dir.join("credvault.db"));
}

async fn it_is_created_once_and_opened_by_one(home: &Home) {
    let identity = &home.identity;
    assert!(home.try_open().is_err(), "there is nothing to open");
    let store = home.create();
    assert!(store::create(&home.location, identity).is_err(), "nothing is ever overwritten");
    assert!(home.try_open().is_err(), "one at a time");

    let store = home.reopen(store).await;
    let kept = store.identity();
    assert_eq!((kept.uid, kept.dev), (identity.uid, identity.dev));
    assert_eq!(kept.create_time, identity.create_time);
    assert_eq!(kept.root.0.as_bytes(), identity.root.0.as_bytes());
}

async fn tokens_and_their_roles_read_back(home: &Home) {
    let store = home.create();
    let first = add_token(&*store, [1; 12], "acme", &[Role::Reader, Role::Verifier]).await;
    let second = add_token(&*store, [2; 12], "acme", &[Role::Auditor]).await;
    let other = add_token(&*store, [3; 12], "other", &[Role::Reader]).await;
    assert!(!first.standing.operator);
    assert_eq!(first.standing.memberships.len(), 1);
    let membership = &first.standing.memberships[0];
    assert_eq!((membership.account.id.as_str(), membership.account.disabled), ("acme", false));
    assert_eq!(membership.roles.len(), 2);
    assert!([Role::Reader, Role::Verifier].iter().all(|role| membership.roles.contains(role)));
    let account = |caller: &Caller| caller.standing.memberships[0].account.uid;
    assert_eq!(account(&first), account(&second), "an account that exists is kept");
    assert_ne!(account(&first), account(&other));

    let store = home.reopen(store).await;
    let stored = store.api_token(&TokenId::from_random([1; 12])).await.unwrap().unwrap();
    assert_eq!((stored.hash, stored.revoke_time), ([7; 32], None));
    assert_eq!(stored.expire_time, time("2030-01-01T00:00:00Z"));
    assert_eq!(stored.standing, first.standing);
    assert!(store.api_token(&TokenId::from_random([9; 12])).await.unwrap().is_none());
}

async fn a_credential_reads_back_as_it_was_written(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let mut written = credential("desk", "alice", 1);
    written.credential.enabled = false;
    written.credential.version = 7;
    written.credential.revision = 9;
    written.credential.labels = labels(&[("site", "Köln \"1\""), ("team", "")]);
    written.credential.description = Description::parse("a\nb\t'\u{1f4de}' %_").unwrap();
    written.credential.update_time = time("9999-01-01T00:00:00Z");
    written.credential.rotate_time = time("1969-12-31T23:59:59.999999Z");
    store.commit(create(&acme, &written)).await.unwrap();

    let (realm, username) = (realm("sip.test"), username("alice"));
    let check = async |store: &dyn Store| {
        let by_id = store.credential(&acme, &id("desk")).await.unwrap().unwrap();
        let by_name = store.credential_by_username(&acme, &realm, &username).await;
        for read in [by_id, by_name.unwrap().unwrap()] {
            assert_eq!(read.credential, written.credential);
            assert_eq!(read.password.as_bytes(), written.password.as_bytes());
        }
        assert!(store.credential(&acme, &id("desk2")).await.unwrap().is_none());
        assert!(store.credential(&other, &id("desk")).await.unwrap().is_none());
        let others = store.credential_by_username(&other, &realm, &username).await;
        assert!(others.unwrap().is_none());
    };
    check(&*store).await;
    check(&*home.reopen(store).await).await;
}

async fn ids_and_usernames_are_taken_once(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();

    let taken = store.commit(create(&acme, &credential("desk", "bob", 2))).await;
    assert!(matches!(taken, Err(Error::Taken(Taken::Id))), "{taken:?}");
    let taken = store.commit(create(&acme, &credential("hall", "alice", 3))).await;
    assert!(matches!(taken, Err(Error::Taken(Taken::Username))), "{taken:?}");

    let mut elsewhere = credential("hall", "alice", 4);
    elsewhere.credential.realm = realm("other.test");
    store.commit(create(&acme, &elsewhere)).await.unwrap();
    store.commit(create(&acme, &credential("lobby", "Alice", 5))).await.unwrap();
    store.commit(create(&other, &credential("desk", "alice", 6))).await.unwrap();
    assert_eq!(store.credential(&acme, &id("desk")).await.unwrap().unwrap(), first);
    assert_eq!(ids(&all_credentials(&*store, &acme).await.items), ["desk", "hall", "lobby"]);
}

async fn a_replacement_needs_the_revision_it_was_made_from(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();
    let second = next(&first, 2);
    store.commit(replace(&acme, 1, &second)).await.unwrap();

    let third = next(&second, 3);
    let mut reborn = third.clone();
    reborn.credential.uid = Uid::from_bytes([99; 16]);
    let mut unknown = third.clone();
    unknown.credential.name.id = id("hall");
    for (case, result) in [
        ("a revision of the past", store.commit(replace(&acme, 1, &third)).await),
        ("a revision of the future", store.commit(replace(&acme, 3, &third)).await),
        ("another credential of this id", store.commit(replace(&acme, 2, &reborn)).await),
        ("none of this id", store.commit(replace(&acme, 2, &unknown)).await),
        ("another account", store.commit(replace(&other, 2, &third)).await),
    ] {
        assert!(matches!(result, Err(Error::Conflict)), "{case}: {result:?}");
    }
    let store = home.reopen(store).await;
    assert_eq!(store.credential(&acme, &id("desk")).await.unwrap().unwrap(), second);
    store.commit(replace(&acme, 2, &third)).await.unwrap();
    assert_eq!(store.credential(&acme, &id("desk")).await.unwrap().unwrap(), third);
}

async fn of_many_writers_from_one_revision_one_wins(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();
    let results = join_all((2..34).map(|fill| {
        let write = replace(&acme, 1, &next(&first, fill));
        store.commit(write)
    }));
    let results = results.await;
    let won: Vec<_> = results.iter().enumerate().filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(won.len(), 1, "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Error::Conflict))));
    let fill = u8::try_from(won[0].0).unwrap() + 2;
    let read = store.credential(&acme, &id("desk")).await.unwrap().unwrap();
    assert_eq!(read, next(&first, fill), "the winner's, and nothing of the others");

    let results = join_all((0..8).map(|n| {
        let same_name = credential(&format!("hall-{n}"), "bob", n);
        store.commit(create(&acme, &same_name))
    }));
    let results = results.await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
}

async fn a_deletion_needs_the_revision_and_frees_the_names(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();
    let second = next(&first, 2);
    store.commit(replace(&acme, 1, &second)).await.unwrap();

    let delete = |scope, stored: &StoredCredential| {
        write(scope, Change::DeleteCredential(stored.credential.clone()))
    };
    for (case, result) in [
        ("a revision of the past", store.commit(delete(&acme, &first)).await),
        ("another account", store.commit(delete(&other, &second)).await),
    ] {
        assert!(matches!(result, Err(Error::Conflict)), "{case}: {result:?}");
    }
    store.commit(delete(&acme, &second)).await.unwrap();
    assert!(store.credential(&acme, &id("desk")).await.unwrap().is_none());
    let again = store.commit(delete(&acme, &second)).await;
    assert!(matches!(again, Err(Error::Conflict)), "{again:?}");

    let reborn = credential("desk", "alice", 3);
    store.commit(create(&acme, &reborn)).await.unwrap();
    assert_eq!(store.credential(&acme, &id("desk")).await.unwrap().unwrap(), reborn);
}

async fn a_request_id_counts_once_until_it_expires(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let first = credential("desk", "alice", 1);
    let (key, done) = home.once(&acme, 1);
    let repeat = |new: &StoredCredential, key: &OnceKey| {
        let change = creation(new.clone());
        Write::new(&acme, change, entry("CreateCredential"), Some((key.clone(), done.clone())))
    };
    assert_eq!(store.done(&key).await.unwrap(), None);
    store.commit(repeat(&first, &key)).await.unwrap();
    let store = home.reopen(store).await;
    assert_eq!(store.done(&key).await.unwrap(), Some(done.clone()));

    let second = credential("hall", "bob", 2);
    match store.commit(repeat(&second, &key)).await {
        Err(Error::Repeated(before)) => assert_eq!(before, done),
        result => panic!("{result:?}"),
    }
    assert!(store.credential(&acme, &id("hall")).await.unwrap().is_none(), "no second effect");

    let foreign = [
        OnceKey { account: other.account().uid, ..key.clone() },
        OnceKey { principal: "token:another".to_owned(), ..key.clone() },
        OnceKey { method: "RotateCredential", ..key.clone() },
        OnceKey { request_id: [2; 16], ..key.clone() },
    ];
    for key in &foreign {
        assert_eq!(store.done(key).await.unwrap(), None, "{key:?}");
    }
    home.clock.advance(SignedDuration::from_hours(24) - SignedDuration::from_micros(1));
    assert_eq!(store.done(&key).await.unwrap(), Some(done.clone()), "not yet");
    home.clock.advance(SignedDuration::from_micros(1));
    assert_eq!(store.done(&key).await.unwrap(), None);
    let (_, later) = home.once(&acme, 1);
    let change = creation(second);
    let again = Write::new(&acme, change, entry("x"), Some((key.clone(), later.clone())));
    store.commit(again).await.unwrap();
    assert_eq!(store.done(&key).await.unwrap(), Some(later), "it serves once more");
}

async fn each_chain_is_its_own_and_without_gaps(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let acme_chain = Chain::of_account(acme.account());
    for round in 0..5 {
        let acts = |name: &str| Entry { reason: format!("{name} {round}"), ..entry("Act") };
        store.commit(Write::new(&acme, Change::AuditOnly, acts("acme"), None)).await.unwrap();
        store.commit(Write::new(&other, Change::AuditOnly, acts("other"), None)).await.unwrap();
        store.commit(Write::refusal(Chain::of_vault(), acts("vault"))).await.unwrap();
        store.commit(Write::refusal(acme_chain.clone(), acts("acme refused"))).await.unwrap();
    }
    let store = home.reopen(store).await;
    // Four entries of the vault's are of the accounts and tokens that the scopes were made from.
    for (scope, name, length) in
        [(Some(&acme), "acme", 10), (Some(&other), "other", 5), (None, "vault", 9)]
    {
        let entries = chain_of(&*store, scope).await;
        assert_eq!(entries.len(), length, "{name}");
        let acts = entries.iter().filter(|linked| linked.entry.method == "Act");
        assert!(acts.clone().count() >= 5);
        assert!(acts.clone().all(|linked| linked.entry.reason.starts_with(name)), "{name}");
    }
    let resource = Some("accounts/acme/credentials/none".to_owned());
    let acme = audit_scope(Some(&acme));
    let page = store.list_audit_entries(&acme, resource, 0, 9).await.unwrap();
    assert!(page.items.is_empty() && !page.more);
    let page = store.list_audit_entries(&acme, None, 3, 4).await.unwrap();
    let sequences: Vec<_> = page.items.iter().map(|linked| linked.link.sequence).collect();
    assert_eq!((sequences, page.more), (vec![4, 5, 6, 7], true));
    assert!(store.list_audit_entries(&acme, None, u64::MAX, 4).await.unwrap().items.is_empty());
}

async fn a_write_that_fails_leaves_nothing(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let first = credential("desk", "alice", 1);
    store.commit(create(&acme, &first)).await.unwrap();
    let before = chain(&*store, &acme).await;

    let (key, done) = home.once(&acme, 5);
    let once = || Some((key.clone(), done.clone()));
    let new = next(&first, 2);
    let changes = [
        replacement(8, new),
        creation(credential("desk", "bob", 3)),
        creation(credential("hall", "alice", 4)),
        Change::DeleteCredential(credential("hall", "alice", 4).credential),
        // Fails when its change is made already.
        Change::DeleteRoleBinding {
            principal: Principal::parse(&acme.actor().principal).unwrap(),
            keep_last_admin: true,
        },
    ];
    let failures = changes.len();
    // One by one, and beside writes that succeed in what may be the same commit.
    for change in changes {
        let failing = Write::new(&acme, change, entry("Fails"), once());
        let audited = || Write::new(&acme, Change::AuditOnly, entry("Succeeds"), None);
        let succeeding = || join_all((0..4).map(|_| store.commit(audited())));
        let (some, failed, more) = tokio::join!(succeeding(), store.commit(failing), succeeding());
        assert!(some.iter().chain(&more).all(Result::is_ok) && failed.is_err(), "{failed:?}");
    }
    let store = home.reopen(store).await;
    assert_eq!(store.done(&key).await.unwrap(), None);
    assert_eq!(store.credential(&acme, &id("desk")).await.unwrap().unwrap(), first);
    assert_eq!(ids(&all_credentials(&*store, &acme).await.items), ["desk"]);
    let after = chain(&*store, &acme).await;
    assert_eq!(after.len(), before.len() + 8 * failures);
    let admin = TokenId::parse(acme.actor().principal.trim_start_matches("token:")).unwrap();
    let admin = store.api_token(&admin).await.unwrap().unwrap();
    assert_eq!(admin.standing.memberships[0].roles, [Role::AccountAdmin]);
    assert!(after.iter().all(|linked| linked.entry.method != "Fails"));

    let change = creation(credential("hall", "bob", 3));
    store.commit(Write::new(&acme, change, entry("Succeeds"), once())).await.unwrap();
    assert_eq!(store.done(&key).await.unwrap(), Some(done));
}

async fn reads_see_every_acknowledged_write(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let runs = (0..4_u8).map(|run| {
        let (store, acme) = (Arc::clone(&store), acme.clone());
        tokio::spawn(async move {
            let name = format!("desk-{run}");
            let mut stored = credential(&name, &name, 1);
            store.commit(create(&acme, &stored)).await.unwrap();
            for fill in 2..32 {
                let new = next(&stored, fill);
                let expect = stored.credential.revision;
                store.commit(replace(&acme, expect, &new)).await.unwrap();
                let read = store.credential(&acme, &id(&name)).await.unwrap().unwrap();
                assert_eq!(read, new, "what was acknowledged is read");
                let listed = all_credentials(&*store, &acme).await.items;
                assert!(listed.contains(&new.credential), "and listed");
                stored = new;
            }
        })
    });
    for run in join_all(runs).await {
        run.unwrap();
    }
}

async fn concurrent_commits_are_all_there_after_a_new_start(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let new: Vec<_> =
        (0..64).map(|n| credential(&format!("desk-{n:02}"), &format!("user-{n}"), n)).collect();
    let committed = join_all(new.iter().map(|new| store.commit(create(&acme, new)))).await;
    assert!(committed.iter().all(Result::is_ok), "{committed:?}");

    let store = home.reopen(store).await;
    for written in &new {
        let read = store.credential(&acme, &written.credential.name.id).await.unwrap().unwrap();
        assert_eq!(read, *written);
    }
    assert_eq!(chain(&*store, &acme).await.len(), 64, "one entry each");
}

async fn a_closed_store_is_unavailable(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    store.close().await;
    let result = store.commit(create(&acme, &credential("desk", "alice", 1))).await;
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    store.close().await; // a second time: nothing is left to do
    let store = home.reopen(store).await;
    assert!(store.credential(&acme, &id("desk")).await.unwrap().is_none());
}

async fn lists_go_on_where_they_ended(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    for name in ["bbb", "aaa", "b-b", "ddd", "b01"] {
        store.commit(create(&acme, &credential(name, name, 1))).await.unwrap();
        let new = provider(name, 1);
        store.commit(write(&acme, Change::CreateProvider(new))).await.unwrap();
    }
    store.commit(create(&other, &credential("ccc", "ccc", 1))).await.unwrap();
    for (after, limit, expected, more) in [
        (None, 2, &["aaa", "b-b"][..], true),
        (Some("b-b"), 2, &["b01", "bbb"], true),
        (Some("bbb"), 2, &["ddd"], false),
        (Some("ddd"), 2, &[], false),
        (Some("bc"), 9, &["ddd"], false),
        (None, 5, &["aaa", "b-b", "b01", "bbb", "ddd"], false),
        (None, 4, &["aaa", "b-b", "b01", "bbb"], true),
    ] {
        let from = || after.map(str::to_owned);
        let page = store.list_credentials(&acme, CredentialFilter::default(), from(), limit);
        let page = page.await.unwrap();
        assert_eq!((ids(&page.items), page.more), (expected.to_vec(), more), "{after:?} {limit}");
        let page = store.list_providers(&acme, ProviderFilter::default(), from(), limit);
        let page = page.await.unwrap();
        let names: Vec<_> = page.items.iter().map(|item| item.name.id.as_str()).collect();
        assert_eq!((names, page.more), (expected.to_vec(), more), "{after:?} {limit}");
    }
}

async fn lists_filter(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    for (n, name, enabled, in_realm, tags) in [
        (1, "a-1", true, "sip.test", &[("site", "berlin"), ("team", "support")][..]),
        (2, "a-2", false, "sip.test", &[("site", "berlin")]),
        (3, "a%3", true, "other.test", &[("site", "paris"), ("team", "support")]),
        (4, "b-4", true, "sip.test", &[]),
    ] {
        let mut new = credential(&format!("desk-{n}"), name, n);
        new.credential.enabled = enabled;
        new.credential.realm = realm(in_realm);
        new.credential.labels = labels(tags);
        new.credential.rotate_time = time(&format!("2026-01-0{n}T00:00:00Z"));
        store.commit(create(&acme, &new)).await.unwrap();
    }
    let all = CredentialFilter::default;
    for (filter, expected) in [
        (all(), "1 2 3 4"),
        (CredentialFilter { enabled: Some(true), ..all() }, "1 3 4"),
        (CredentialFilter { enabled: Some(false), ..all() }, "2"),
        (CredentialFilter { realm: Some(realm("sip.test")), ..all() }, "1 2 4"),
        (CredentialFilter { username_prefix: Some(username("a")), ..all() }, "3 1 2"),
        (CredentialFilter { username_prefix: Some(username("a-")), ..all() }, "1 2"),
        (CredentialFilter { username_prefix: Some(username("a%")), ..all() }, "3"),
        (CredentialFilter { username_prefix: Some(username("A")), ..all() }, ""),
        (CredentialFilter { labels: labels(&[("site", "berlin")]), ..all() }, "1 2"),
        (
            CredentialFilter {
                labels: labels(&[("site", "berlin"), ("team", "support")]),
                ..all()
            },
            "1",
        ),
        (CredentialFilter { labels: labels(&[("site", "Berlin")]), ..all() }, ""),
        (CredentialFilter { rotated_before: Some(time("2026-01-03T00:00:00Z")), ..all() }, "1 2"),
        (
            CredentialFilter {
                enabled: Some(true),
                realm: Some(realm("sip.test")),
                username_prefix: Some(username("b")),
                ..all()
            },
            "4",
        ),
    ] {
        let page = store.list_credentials(&acme, filter.clone(), None, 9).await.unwrap();
        let found: Vec<_> = ids(&page.items).iter().map(|id| id.replace("desk-", "")).collect();
        assert_eq!(found.join(" "), expected, "{filter:?}");
    }

    let mut failed = provider("twilio-us", 1);
    failed.provider.verification = verification(Status::Failed, CheckStatus::Failed);
    for new in [provider("twilio-eu", 1), failed] {
        store.commit(write(&acme, Change::CreateProvider(new))).await.unwrap();
    }
    let twilio = Some(ProviderType::Twilio);
    for (provider_type, status, expected) in [
        (twilio, None, "twilio-eu twilio-us"),
        (None, Some(Status::Verified), "twilio-eu"),
        (twilio, Some(Status::Failed), "twilio-us"),
        (None, Some(Status::Pending), ""),
    ] {
        let filter = ProviderFilter { provider_type, status };
        let page = store.list_providers(&acme, filter, None, 9).await.unwrap();
        let names: Vec<_> = page.items.iter().map(|item| item.name.id.as_str()).collect();
        assert_eq!(names.join(" "), expected, "{status:?}");
    }
}

/// An answer has at most 1 MiB (design: a page ends early at 768 KiB).
async fn a_page_ends_before_an_answer_grows_too_large(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let large = "é".repeat(255);
    let tags: Vec<_> = (0..32).map(|n| (format!("label-{n}-{}", "x".repeat(50)), &large)).collect();
    let tags: Vec<_> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let new: Vec<_> = (0..100)
        .map(|n| {
            let mut new = credential(&format!("desk-{n:02}"), &format!("user-{n}"), n);
            new.credential.labels = labels(&tags);
            new
        })
        .collect();
    for result in join_all(new.iter().map(|new| store.commit(create(&acme, new)))).await {
        result.unwrap();
    }
    let (mut listed, mut after) = (0, None);
    for _ in 0..new.len() {
        let filter = CredentialFilter::default();
        let page = store.list_credentials(&acme, filter, after, 200).await.unwrap();
        let size = |key: &str, value: &str| key.len() + value.len();
        let labels = page.items.iter().flat_map(|item| item.labels.as_map());
        let bytes: usize = labels.map(|(key, value)| size(key, value)).sum();
        assert!(bytes <= 768 * 1024, "{bytes} bytes of labels alone");
        assert!(!page.items.is_empty(), "every page gets on");
        listed += page.items.len();
        after = page.items.last().map(|last| last.name.id.as_str().to_owned());
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, new.len());
}
