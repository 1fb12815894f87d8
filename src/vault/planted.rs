//! Planted defects that need the vault itself: refusals that tell too much, or come too late. In test builds only.

use super::{Error, Intent, Vault};
use crate::access::{Action as _, DisableAccount, LocalOperator};
use crate::defect::{Defect, planted};
use crate::name::ResourceId;

/// What the authorization matrix must find: what a caller is told, once the defects have had their way.
pub(super) async fn refusal(vault: &Vault, method: &str, resource: &str, error: Error) -> Error {
    let (tell, act) = (planted(Defect::TellForeign), planted(Defect::ActBeforeRefusal));
    if !tell && !act {
        return error;
    }
    let scope = LocalOperator::beside_the_store().scope::<DisableAccount>();
    let id = resource.split('/').nth(1).and_then(|id| ResourceId::parse(id).ok());
    let Some(id) = id else { return error };
    let Ok(Some(account)) = vault.store.account(&scope, &id).await else { return error };
    match error {
        Error::NotFound { name } if tell => Error::NotFound { name: format!("{name} ") },
        error => {
            if act && method == DisableAccount::METHOD {
                vault.disable_account(&scope, &account.id, &Intent::default()).await.ok();
            }
            error
        }
    }
}
