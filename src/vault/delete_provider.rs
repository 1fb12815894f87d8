//! `DeleteProvider`: the provider and its token cease to exist here; at the carrier the token lives on.

use super::get::check_etag;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{DeleteProvider, Scope};
use crate::audit::Entry;
use crate::name::{Etag, ResourceId};
use crate::store::{self, Change, Write};

impl Vault {
    /// Deletes a provider.
    pub async fn delete_provider(
        &self,
        scope: &Scope<DeleteProvider>,
        id: &ResourceId,
        etag: Option<&Etag>,
        intent: &Intent,
    ) -> Result<(), Error> {
        if self.done_before(scope, intent).await?.is_some() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let old = self.find_provider(scope, id).await?.provider;
            check_etag(etag, &old.etag())?;
            let entry = Entry {
                version_before: old.token_version,
                ..self.entry_of(scope, intent, &old.name.to_string())
            };
            let once = self.once(scope, intent, id, old.token_version);
            let change = Change::DeleteProvider(old);
            match self.store.commit(Write::new(scope, change, entry, once)).await {
                Ok(()) => return Ok(()),
                Err(store::Error::Conflict) => {}
                Err(store::Error::Repeated(done)) => return self.raced(intent, done).map(drop),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }
}
