//! What every store promises of those who call: what it says of them is never older than the last change that was
//! acknowledged, however often it was asked before. The list of tests, and of stores, is in `store.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use credvault::access::api_token::TokenId;
use credvault::access::principal::{Principal, RoleBinding};
use credvault::access::spiffe::SpiffeId;
use credvault::access::{
    DeleteAccount, LocalOperator, Owner, RevokeApiToken, Role, SetRoleBinding, Standing,
};
use credvault::account::Account;
use credvault::store::{Change, Store, Write};

use super::samples::{Home, add_account, add_token, entry, id, time};

fn said(standing: &Standing) -> String {
    let memberships = standing.memberships.iter().map(|membership| {
        let roles: Vec<_> = membership.roles.iter().map(|role| role.as_str()).collect();
        let closed = if membership.account.disabled { " (disabled)" } else { "" };
        format!("{}{closed}: {}", membership.account.id, roles.join("+"))
    });
    let mut memberships: Vec<_> = memberships.collect();
    memberships.sort();
    memberships.join(", ")
}

/// What the store says of a token: nothing, that it is revoked, or its roles.
async fn of_token(store: &dyn Store, id: &TokenId) -> String {
    match store.api_token(id).await.unwrap() {
        None => "unknown".to_owned(),
        Some(token) if token.revoke_time.is_some() => "revoked".to_owned(),
        Some(token) => said(&token.standing),
    }
}

fn bind(account: &Account, principal: &Principal, roles: &[Role]) -> Write {
    let owner = Owner::Account(account.clone());
    let scope = LocalOperator::beside_the_store().owner_scope::<SetRoleBinding>(owner);
    let (principal, roles) = (principal.clone(), roles.to_vec());
    let change = if roles.is_empty() {
        Change::DeleteRoleBinding { principal, keep_last_admin: false }
    } else {
        let binding = RoleBinding { principal, roles, update_time: time("2026-05-01T12:00:00Z") };
        Change::SetRoleBinding { binding, keep_last_admin: false }
    };
    Write::new(&scope, change, entry("SetRoleBinding"), None)
}

fn revoke(account: &Account, token: &TokenId) -> Write {
    let owner = Owner::Account(account.clone());
    let scope = LocalOperator::beside_the_store().owner_scope::<RevokeApiToken>(owner);
    let (token, time) = (token.clone(), time("2026-05-01T12:00:00Z"));
    let change = Change::RevokeApiToken { token, time, keep_last_admin: false };
    Write::new(&scope, change, entry("RevokeApiToken"), None)
}

/// A change of the account itself.
fn of_account(change: Change) -> Write {
    let scope = LocalOperator::beside_the_store().scope::<DeleteAccount>();
    Write::new(&scope, change, entry("DeleteAccount"), None)
}

fn close(account: &Account, disabled: bool) -> Write {
    of_account(Change::SetAccountDisabled { account: account.uid, disabled })
}

pub(super) async fn what_callers_may_do_is_never_older_than_the_last_change(home: &Home) {
    let store = home.create();
    let (token, admin) = (TokenId::from_random([1; 12]), TokenId::from_random([2; 12]));
    assert_eq!(of_token(&*store, &token).await, "unknown");
    add_token(&*store, [1; 12], "acme", &[Role::Reader]).await;
    assert_eq!(of_token(&*store, &token).await, "acme: reader", "asked for before it was made");
    add_token(&*store, [2; 12], "acme", &[Role::AccountAdmin]).await;
    let operator = LocalOperator::beside_the_store().scope::<DeleteAccount>();
    let acme = store.account(&operator, &id("acme")).await.unwrap().unwrap();
    let other = add_account(&*store, "other").await;
    let principal = Principal::Token(token.clone());
    let steps = [
        (bind(&acme, &principal, &[Role::Auditor]), "acme: auditor"),
        (close(&acme, true), "acme (disabled): auditor"),
        (close(&acme, false), "acme: auditor"),
        (bind(&other, &principal, &[Role::Reader]), "acme: auditor, other: reader"),
        (bind(&acme, &principal, &[]), "other: reader"),
        (revoke(&acme, &admin), "other: reader"),
        (revoke(&acme, &token), "revoked"),
    ];
    for (write, expected) in steps {
        store.commit(write).await.unwrap();
        assert_eq!(of_token(&*store, &token).await, expected);
    }
    assert_eq!(of_token(&*store, &admin).await, "revoked");

    let workload = SpiffeId::parse("spiffe://example.org/ns/voice").unwrap();
    let of_workload = async || said(&store.standing(&workload).await.unwrap());
    assert_eq!(of_workload().await, "");
    let exact = Principal::parse("spiffe://example.org/ns/voice").unwrap();
    let below = Principal::parse("spiffe://example.org/*").unwrap();
    let steps = [
        (bind(&acme, &exact, &[Role::Reader]), "acme: reader"),
        (bind(&other, &below, &[Role::Verifier]), "acme: reader, other: verifier"),
        (close(&acme, true), "acme (disabled): reader, other: verifier"),
        (of_account(Change::DeleteAccount(acme.clone())), "other: verifier"),
        (bind(&other, &below, &[]), ""),
    ];
    for (write, expected) in steps {
        store.commit(write).await.unwrap();
        assert_eq!(of_workload().await, expected);
    }
    assert_eq!(of_token(&*store, &token).await, "unknown", "it went with its account");
    // What was known in between is read from the file again.
    let store = home.reopen(store).await;
    assert_eq!(of_token(&*store, &token).await, "unknown");
}

/// The same while many ask: whoever asks after the answer to the revocation is told of it.
pub(super) async fn no_call_after_a_revocation_finds_the_token_good(home: &Home) {
    const ASKING: usize = 3;
    let store = home.create();
    let acme = add_account(&*store, "acme").await;
    for number in 0..100 {
        let token = TokenId::from_random([number; 12]);
        add_token(&*store, [number; 12], "acme", &[Role::Reader]).await;
        let revoked = Arc::new(AtomicBool::new(false));
        let ask = |_| {
            let (store, token, revoked) = (Arc::clone(&store), token.clone(), Arc::clone(&revoked));
            tokio::spawn(async move {
                let mut good = 0_u64;
                loop {
                    let must = revoked.load(Ordering::SeqCst);
                    match (of_token(&*store, &token).await.as_str(), must) {
                        ("revoked", true) => return good,
                        ("revoked", false) => {}
                        (_, false) => good += 1,
                        (found, true) => panic!("{found} after it was revoked"),
                    }
                    tokio::task::yield_now().await;
                }
            })
        };
        let asking: Vec<_> = (0..ASKING).map(ask).collect();
        store.commit(revoke(&acme, &token)).await.unwrap();
        revoked.store(true, Ordering::SeqCst);
        for asking in asking {
            asking.await.unwrap();
        }
    }
}

/// The defect has to be in the process with the store: this program, once more.
#[cfg(feature = "planted-defects")]
#[test]
fn planted_remember_revoked_is_caught() {
    for test in [
        "what_callers_may_do_is_never_older_than_the_last_change",
        "no_call_after_a_revocation_finds_the_token_good",
    ] {
        let test = format!("contract::store::sqlite::{test}");
        let said = crate::support::process::caught(&test, "remember-revoked");
        assert!(said.contains("tests/it/contract/callers.rs"), "{said}");
        println!("{}", said.lines().find(|line| line.contains("panicked")).unwrap());
    }
}
