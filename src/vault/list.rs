//! Lists: pages in a fixed order, with tokens that fit only the list that they came from.

use super::get::active_version;
use super::{CredentialView, Error, Vault};
use crate::access::api_token::TokenMetadata;
use crate::access::principal::RoleBinding;
use crate::access::{
    Authorized, ListAccounts, ListApiTokens, ListAuditEntries, ListCredentials, ListProviders,
    ListRoleBindings, ListVerifications, OperatorScope, OwnerScope, Scope,
};
use crate::account::Account;
use crate::audit::Linked;
use crate::credential::CredentialFilter;
use crate::name::{Invalid, ResourceId};
use crate::provider::{Provider, ProviderFilter, Verification};
use crate::store::{Page, VersionUse};

/// Which page of a list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// How many items at the most, 1 to 200.
    pub size: usize,
    /// The token of the page before; empty: the first page.
    pub token: String,
    /// Every other argument of the list in canonical form; a page token is bound to it.
    pub arguments: Vec<u8>,
}

/// A page of a list.
#[derive(Debug)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// The token of the next page; empty: there is none.
    pub next_page_token: String,
}

impl Vault {
    /// Credentials, ordered by name; by username, if the filter asks for some. With each what is known
    /// of it beside.
    pub async fn list_credentials(
        &self,
        scope: &Scope<ListCredentials>,
        filter: CredentialFilter,
        mut request: PageRequest,
    ) -> Result<Listed<CredentialView>, Error> {
        if filter.username_prefix.is_some() {
            // A token says where in this order. One by id, as an older vault made it, would be misread.
            request.arguments.extend_from_slice(b"by username");
        }
        let after = self.position(scope, &request)?;
        let page = self.store.list_credentials(scope, filter.clone(), after, request.size).await?;
        let Listed { items, next_page_token } = self.listed(scope, &request, page, |last| {
            filter.position(last.username.as_str(), last.name.id.as_str())
        })?;
        let keys: Vec<_> = items.iter().map(|it| active_version(scope, it)).collect();
        let uses = self.uses_of(&keys).await?;
        let outlooks = self.outlooks(scope, &items.iter().collect::<Vec<_>>()).await?;
        let view = |((credential, uses), outlook): ((_, VersionUse), _)| CredentialView {
            credential,
            last_success_time: uses.last_success_time,
            outlook,
        };
        let items = items.into_iter().zip(uses).zip(outlooks).map(view).collect();
        Ok(Listed { items, next_page_token })
    }

    /// Providers, ordered by name.
    pub async fn list_providers(
        &self,
        scope: &Scope<ListProviders>,
        filter: ProviderFilter,
        request: PageRequest,
    ) -> Result<Listed<Provider>, Error> {
        let after = self.position(scope, &request)?;
        let page = self.store.list_providers(scope, filter, after, request.size).await?;
        self.listed(scope, &request, page, |last| last.name.id.as_str().to_owned())
    }

    /// The last verifications of a provider, newest first.
    pub async fn list_verifications(
        &self,
        scope: &Scope<ListVerifications>,
        id: &ResourceId,
        request: PageRequest,
    ) -> Result<Listed<Verification>, Error> {
        self.find_provider(scope, id).await?;
        let before = self.position(scope, &request)?;
        let before = before.and_then(|position| position.parse().ok());
        let page = self.store.list_verifications(scope, id, before, request.size).await?;
        self.listed(scope, &request, page, |last| {
            last.last_verify_time.map(|time| time.to_string()).unwrap_or_default()
        })
    }

    /// All accounts, ordered by name.
    pub async fn list_accounts(
        &self,
        scope: &Scope<ListAccounts, OperatorScope>,
        request: PageRequest,
    ) -> Result<Listed<Account>, Error> {
        let after = self.position(scope, &request)?;
        let page = self.store.list_accounts(scope, after, request.size).await?;
        self.listed(scope, &request, page, |last| last.id.as_str().to_owned())
    }

    /// What is known of the owner's tokens, ordered by name.
    pub async fn list_api_tokens(
        &self,
        scope: &Scope<ListApiTokens, OwnerScope>,
        request: PageRequest,
    ) -> Result<Listed<TokenMetadata>, Error> {
        let after = self.position(scope, &request)?;
        let page = self.store.list_api_tokens(scope, after, request.size).await?;
        self.listed(scope, &request, page, |last| last.name.id.to_string())
    }

    /// Who has which roles with the owner, ordered by principal.
    pub async fn list_role_bindings(
        &self,
        scope: &Scope<ListRoleBindings, OwnerScope>,
        request: PageRequest,
    ) -> Result<Listed<RoleBinding>, Error> {
        let after = self.position(scope, &request)?;
        let page = self.store.list_role_bindings(scope, after, request.size).await?;
        self.listed(scope, &request, page, |last| last.principal.to_string())
    }

    /// The owner's audit entries, oldest first.
    pub async fn list_audit_entries(
        &self,
        scope: &Scope<ListAuditEntries, OwnerScope>,
        resource: Option<String>,
        request: PageRequest,
    ) -> Result<Listed<Linked>, Error> {
        let after = self.position(scope, &request)?;
        let after = after.and_then(|position| position.parse().ok()).unwrap_or(0);
        let page = self.store.list_audit_entries(scope, resource, after, request.size).await?;
        self.listed(scope, &request, page, |last| last.link.sequence.to_string())
    }

    pub(super) fn position(
        &self,
        scope: &impl Authorized,
        request: &PageRequest,
    ) -> Result<Option<String>, Error> {
        if request.token.is_empty() {
            return Ok(None);
        }
        let position = self.sealer.open_page_token(&binding(scope, request), &request.token);
        position.map(Some).ok_or_else(|| {
            Error::field(
                "page_token",
                Invalid("must be a next_page_token of this list with the same other arguments"),
            )
        })
    }

    pub(super) fn listed<T>(
        &self,
        scope: &impl Authorized,
        request: &PageRequest,
        page: Page<T>,
        position: impl Fn(&T) -> String,
    ) -> Result<Listed<T>, Error> {
        let reached = page.reached.or_else(|| page.items.last().map(position));
        let next_page_token = match reached {
            Some(reached) if page.more => {
                self.sealer.seal_page_token(&binding(scope, request), &reached)?
            }
            _ => String::new(),
        };
        Ok(Listed { items: page.items, next_page_token })
    }
}

/// What a page token is bound to: the list's method, its account and its other arguments.
fn binding(scope: &impl Authorized, request: &PageRequest) -> Vec<u8> {
    let mut binding = scope.method().as_bytes().to_vec();
    binding.push(0);
    binding.extend_from_slice(scope.owner_uid().as_bytes());
    binding.extend_from_slice(&request.arguments);
    binding
}
