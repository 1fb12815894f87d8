//! Role bindings: who may do what in an account, and who operates the vault.

use super::api_tokens::{check_roles, names};
use super::{Error, Intent, Vault};
use crate::access::principal::{Principal, RoleBinding};
use crate::access::{DeleteRoleBinding, OwnerScope, Role, Scope, SetRoleBinding};
use crate::audit::Entry;
use crate::store::{self, Change, Write};

impl Vault {
    /// Gives a principal exactly these roles.
    pub async fn set_role_binding(
        &self,
        scope: &Scope<SetRoleBinding, OwnerScope>,
        principal: Principal,
        roles: Vec<Role>,
        intent: &Intent,
    ) -> Result<RoleBinding, Error> {
        check_roles("role_binding.roles", scope.owner(), &roles)?;
        let entry = Entry {
            detail: names(&roles),
            ..self.entry_of(scope, intent, &resource(scope, &principal))
        };
        let binding = RoleBinding { principal, roles, update_time: entry.time };
        let change = Change::SetRoleBinding {
            binding: binding.clone(),
            keep_last_admin: scope.keeps_last_admin(),
        };
        self.store.commit(Write::new(scope, change, entry, None)).await?;
        Ok(binding)
    }

    /// Takes all roles from a principal.
    pub async fn delete_role_binding(
        &self,
        scope: &Scope<DeleteRoleBinding, OwnerScope>,
        principal: Principal,
        intent: &Intent,
    ) -> Result<(), Error> {
        let name = resource(scope, &principal);
        let entry = self.entry_of(scope, intent, &name);
        let keep_last_admin = scope.keeps_last_admin();
        let change = Change::DeleteRoleBinding { principal, keep_last_admin };
        match self.store.commit(Write::new(scope, change, entry, None)).await {
            Err(store::Error::Conflict) => Err(Error::NotFound { name }),
            result => Ok(result?),
        }
    }
}

/// What an audit entry says a binding is of.
fn resource(scope: &OwnerScope, principal: &Principal) -> String {
    format!("{}/roleBindings/{principal}", scope.owner())
}
