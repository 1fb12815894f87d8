//! `UpdateProvider`: the name for people. The carrier's account is immutable.

use super::get::check_etag;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{Scope, UpdateProvider};
use crate::audit::Entry;
use crate::name::{Etag, Invalid, ResourceId};
use crate::provider::{DisplayName, Kind, Provider};
use crate::store::{self, Change, StoredProvider, Write};

/// What to change. None: leave as it is.
#[derive(Debug, Default)]
pub struct ProviderChanges {
    /// A name for people.
    pub display_name: Option<DisplayName>,
    /// The carrier's account that the caller takes it to have; another one is refused (immutable).
    pub kind: Option<Kind>,
}

impl Vault {
    /// Changes a provider. Nothing to change: the current one, no audit entry.
    pub async fn update_provider(
        &self,
        scope: &Scope<UpdateProvider>,
        id: &ResourceId,
        etag: Option<&Etag>,
        changes: ProviderChanges,
        intent: &Intent,
    ) -> Result<Provider, Error> {
        if let Some(done) = self.done_before(scope, intent).await? {
            return Ok(self.find_provider(scope, &done.resource_id).await?.provider);
        }
        for _ in 0..ATTEMPTS {
            let StoredProvider { provider: old, token } = self.find_provider(scope, id).await?;
            check_etag(etag, &old.etag())?;
            if changes.kind.as_ref().is_some_and(|kind| *kind != old.kind) {
                let rule = Invalid("is immutable: create another provider and delete this one");
                return Err(Error::field("provider.twilio.account_sid", rule));
            }
            let mut new = old.clone();
            if let Some(display_name) = &changes.display_name {
                new.display_name = display_name.clone();
            }
            if new == old {
                return Ok(old);
            }
            new.revision = old.revision + 1;
            new.update_time = self.clock.now();
            let entry = Entry {
                version_before: old.token_version,
                version_after: new.token_version,
                ..self.entry_of(scope, intent, &new.name.to_string())
            };
            let once = self.once(scope, intent, id, new.token_version);
            let new_row = StoredProvider { provider: new.clone(), token };
            let change = Change::ReplaceProvider { expect: old.revision, new: new_row };
            match self.store.commit(Write::new(scope, change, entry, once)).await {
                Ok(()) => return Ok(new),
                Err(store::Error::Conflict) => {}
                Err(store::Error::Repeated(done)) => {
                    self.raced(intent, done)?;
                    return Ok(self.find_provider(scope, id).await?.provider);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }
}
