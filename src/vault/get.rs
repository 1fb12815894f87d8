//! `GetCredential` and `GetProvider`: configuration, never a secret.

use jiff::Timestamp;

use super::{Error, Outlook, Vault};
use crate::access::{AccountScope, GetCredential, GetProvider, Scope};
use crate::credential::Credential;
use crate::name::{CredentialName, ProviderName, ResourceId};
use crate::provider::Provider;
use crate::store::{StoredCredential, StoredProvider, VersionKey};

/// A credential as it is looked at.
#[derive(Debug, Clone)]
pub struct CredentialView {
    /// Its configuration.
    pub credential: Credential,
    /// When its active password was last presented.
    pub last_success_time: Option<Timestamp>,
    /// What its schedule will do with it.
    pub outlook: Option<Outlook>,
}

impl Vault {
    /// A credential's configuration, with what is known of it beside.
    pub async fn get_credential(
        &self,
        scope: &Scope<GetCredential>,
        id: &ResourceId,
    ) -> Result<CredentialView, Error> {
        let credential = self.find_credential(scope, id).await?.credential;
        let uses = self.uses_of(&[active_version(scope, &credential)]).await?;
        let last_success_time = uses.first().and_then(|uses| uses.last_success_time);
        let outlook = self.outlooks(scope, &[&credential]).await?.pop().flatten();
        Ok(CredentialView { credential, last_success_time, outlook })
    }

    /// A provider's configuration and verification.
    pub async fn get_provider(
        &self,
        scope: &Scope<GetProvider>,
        id: &ResourceId,
    ) -> Result<Provider, Error> {
        self.find_provider(scope, id).await.map(|stored| stored.provider)
    }

    /// A credential with its sealed password, for the operations.
    pub(super) async fn find_credential(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<StoredCredential, Error> {
        self.store.credential(scope, id).await?.ok_or_else(|| {
            let name = CredentialName { account: scope.account().id.clone(), id: id.clone() };
            Error::NotFound { name: name.to_string() }
        })
    }

    /// A provider with its sealed token, for the operations.
    pub(super) async fn find_provider(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<StoredProvider, Error> {
        self.store.provider(scope, id).await?.ok_or_else(|| {
            let name = ProviderName { account: scope.account().id.clone(), id: id.clone() };
            Error::NotFound { name: name.to_string() }
        })
    }
}

/// The active version of a credential, as its uses are counted.
pub(super) fn active_version(scope: &AccountScope, credential: &Credential) -> VersionKey {
    let (account, resource) = (scope.account().uid, credential.uid);
    VersionKey { account, resource, version: credential.version }
}

/// Whether a resource is still in the state that a caller expects; no expectation is always met.
pub(super) fn check_etag(
    expected: Option<&crate::name::Etag>,
    actual: &crate::name::Etag,
) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != actual => Err(Error::EtagMismatch),
        _ => Ok(()),
    }
}
