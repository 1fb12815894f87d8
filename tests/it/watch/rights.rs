//! A watch lasts no longer than its caller's right.

use std::sync::Arc;

use credvault::access::spiffe::{SpiffeId, Workload};
use credvault::access::{Caller, LocalOperator, Role};
use credvault::grpc::proto::{
    DeleteAccountRequest, DisableAccountRequest, EnableAccountRequest, Role as WireRole,
};
use credvault::name::ResourceId;
use credvault::vault::{self, News};
use jiff::SignedDuration;

use super::{ACME, Watch, named};
use crate::support::{Clients, TestVault, channel, outcome};

/// The public part of a token.
fn id(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

#[tokio::test]
async fn a_watch_ends_with_its_callers_right_as_a_new_call_would() {
    let vault = TestVault::start().await;
    let (acme, operator) = (vault.acme().await, vault.operator().await);
    acme.create(named("alice")).await.unwrap();
    for (what, expected) in [
        ("the token is revoked", "Unauthenticated UNAUTHENTICATED"),
        ("the roles are others", "PermissionDenied ROLE_MISSING"),
        ("the roles are gone", "NotFound NOT_FOUND"),
        ("the account is disabled", "FailedPrecondition ACCOUNT_DISABLED"),
        ("the token expires", "Unauthenticated UNAUTHENTICATED"),
    ] {
        let token = vault.token("acme", &[Role::Reader]).await;
        let reader = Clients::new(&channel(vault.address), &token);
        let mut watch = Watch::begin(&reader).await;
        watch.until_caught_up().await;
        let (name, principal) = (format!("{ACME}/apiTokens/{}", id(&token)), id(&token));
        let principal = format!("token:{principal}");
        match what {
            "the token is revoked" => drop(acme.revoke(&name).await.unwrap()),
            "the roles are others" => {
                drop(acme.bind(ACME, &principal, &[WireRole::Auditor]).await.unwrap());
            }
            "the roles are gone" => acme.unbind(ACME, &principal).await.unwrap(),
            "the account is disabled" => {
                let request = DisableAccountRequest { name: ACME.to_owned(), ..Default::default() };
                operator.access.clone().disable_account(request).await.unwrap();
            }
            _ => vault.clock.advance(SignedDuration::from_hours(24 * 30)),
        }
        let ended = watch.next().await.map(drop);
        assert_eq!(outcome(&ended), expected, "{what}");
        let again = Watch::resume(&reader, ACME, &watch.token, watch.known).await;
        assert_eq!(outcome(&again), expected, "{what}, and a new call");
        if what == "the account is disabled" {
            let request = EnableAccountRequest { name: ACME.to_owned(), ..Default::default() };
            operator.access.clone().enable_account(request).await.unwrap();
        }
    }
}

/// A watch of `accounts/acme` without a wire: it reads when it is asked.
async fn watch(vault: &TestVault, caller: &Caller) -> vault::Watch {
    let account = ResourceId::parse("acme").unwrap();
    let scope = vault.vault.authorize(caller, &account, ACME).await.unwrap();
    let begun = Arc::clone(&vault.vault).watch_credentials(caller.clone(), scope, "", Vec::new());
    begun.await.unwrap()
}

/// Deletes `accounts/acme`, and makes another one of that name.
async fn made_anew(vault: &TestVault, operator: &Clients, workload: &str) {
    let mut access = operator.access.clone();
    let name = || ACME.to_owned();
    let disable = DisableAccountRequest { name: name(), ..Default::default() };
    access.disable_account(disable).await.unwrap();
    let delete = DeleteAccountRequest { name: name(), ..Default::default() };
    access.delete_account(delete).await.unwrap();
    let operator = LocalOperator::beside_the_store();
    assert!(
        vault
            .vault
            .get_account(&operator.scope(), &ResourceId::parse("acme").unwrap())
            .await
            .is_err()
    );
    vault.token("acme", &[Role::AccountAdmin]).await;
    vault.bind("acme", workload, &[Role::Reader]).await;
}

#[tokio::test]
async fn an_account_that_was_deleted_and_made_again_is_another_one() {
    const WORKLOAD: &str = "spiffe://example.org/edge";
    let vault = TestVault::start().await;
    let (acme, operator) = (vault.acme().await, vault.operator().await);
    acme.create(named("alice")).await.unwrap();
    let token = vault.token("acme", &[Role::Reader]).await;
    vault.bind("acme", WORKLOAD, &[Role::Reader]).await;
    let expire_time = vault.now() + SignedDuration::from_hours(1);
    let workload = Workload { id: SpiffeId::parse(WORKLOAD).unwrap(), expire_time };

    let by_token = vault.vault.authenticate(&token, String::new()).await.unwrap();
    let by_certificate = vault.vault.authenticate_workload(&workload, String::new()).await.unwrap();
    let (mut first, mut second) =
        (watch(&vault, &by_token).await, watch(&vault, &by_certificate).await);
    for watch in [&mut first, &mut second] {
        assert!(matches!(watch.next().await.unwrap().news, News::Credential(_)));
    }
    made_anew(&vault, &operator, WORKLOAD).await;
    assert_eq!(first.next().await.unwrap_err().reason(), "UNAUTHENTICATED");
    assert_eq!(second.next().await.unwrap_err().reason(), "NOT_FOUND");

    // A certificate ends by itself.
    let mut third = watch(&vault, &by_certificate_of(&vault, &workload).await).await;
    assert!(matches!(third.next().await.unwrap().news, News::CaughtUp));
    vault.clock.advance(SignedDuration::from_hours(1));
    assert_eq!(third.next().await.unwrap_err().reason(), "UNAUTHENTICATED");
}

async fn by_certificate_of(vault: &TestVault, workload: &Workload) -> Caller {
    vault.vault.authenticate_workload(workload, String::new()).await.unwrap()
}
