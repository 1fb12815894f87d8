//! `UpdateProvider`: the name for people. The carrier's account is immutable.

use super::get::check_etag;
use super::intent::Committed;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{Scope, UpdateProvider};
use crate::audit::Entry;
use crate::name::{Etag, Invalid, ResourceId};
use crate::provider::{DisplayName, Kind, Provider};
use crate::store::{Change, StoredProvider};

/// What to change. None: leave as it is.
#[derive(Debug, Default)]
pub struct ProviderChanges {
    /// A name for people.
    pub display_name: Option<DisplayName>,
    /// The carrier's account that the caller takes it to have; another one is refused (immutable).
    pub kind: Option<Kind>,
}

impl Vault {
    /// Changes a provider. Nothing to change: the current one.
    pub async fn update_provider(
        &self,
        scope: &Scope<UpdateProvider>,
        id: &ResourceId,
        etag: Option<&Etag>,
        changes: ProviderChanges,
        intent: &Intent,
    ) -> Result<Provider, Error> {
        for _ in 0..ATTEMPTS {
            let found = self.find_provider(scope, id).await;
            if let Some(done) = self.done_before(scope, intent).await? {
                return self.provider_of(scope, &done).await;
            }
            let StoredProvider { provider: old, token } = found?;
            check_etag(etag, &old.etag())?;
            if changes.kind.as_ref().is_some_and(|kind| *kind != old.kind) {
                let rule = Invalid("is immutable: create another provider and delete this one");
                return Err(Error::field("provider.twilio.account_sid", rule));
            }
            let display_name = changes.display_name.clone();
            let mut new = Provider {
                display_name: display_name.unwrap_or_else(|| old.display_name.clone()),
                ..old.clone()
            };
            if new == old && intent.request.is_none() {
                return Ok(old);
            }
            let mut entry = Entry {
                version_before: old.token_version,
                version_after: old.token_version,
                detail: "display_name".to_owned(),
                ..self.entry_of(scope, intent, &new.name.to_string())
            };
            let change = if new == old {
                // A request id must be remembered even so, or a retry could act later.
                "nothing to change".clone_into(&mut entry.detail);
                Change::AuditOnly
            } else {
                new.revision = old.revision + 1;
                new.update_time = entry.time;
                let new = StoredProvider { provider: new.clone(), token };
                Change::ReplaceProvider { expect: old.revision, new }
            };
            match self.commit(scope, intent, (id, new.uid), change, entry).await? {
                Committed::Now => return Ok(new),
                Committed::Before(done) => return self.provider_of(scope, &done).await,
                Committed::Moved => {}
            }
        }
        Err(Error::VersionConflict)
    }
}
