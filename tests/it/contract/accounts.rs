//! What every store promises of accounts that close while calls in them are under way.

use credvault::access::{DeleteAccount, LocalOperator};
use credvault::audit::Chain;
use credvault::store::{Change, Error, Write};

use super::samples::{Home, chain_of, close, create, credential, entry, scope};

pub(super) async fn an_account_that_closed_meanwhile_takes_nothing_in(home: &Home) {
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let refusal = || Write::refusal(Chain::of_account(acme.account()), entry("Refused"));
    let new = credential("desk", "alice", 1);
    let before = chain_of(&*store, Some(&acme)).await.len();

    close(&*store, acme.account()).await;
    assert!(matches!(store.commit(create(&acme, &new)).await, Err(Error::Disabled)));
    store.commit(refusal()).await.unwrap();
    assert_eq!(chain_of(&*store, Some(&acme)).await.len(), before + 1, "a refusal is recorded");

    let change = Change::DeleteAccount(acme.account().clone());
    let operator = LocalOperator::beside_the_store().scope::<DeleteAccount>();
    store.commit(Write::new(&operator, change, entry("DeleteAccount"), None)).await.unwrap();
    assert!(matches!(store.commit(create(&acme, &new)).await, Err(Error::Conflict)));
    assert!(matches!(store.commit(refusal()).await, Err(Error::Conflict)));
    let store = home.reopen(store).await;
    assert_eq!(chain_of(&*store, Some(&acme)).await, []);
}
