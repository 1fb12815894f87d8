//! `DeleteProvider`: the provider and its token cease to exist here; at the carrier the token lives on.

use super::get::check_etag;
use super::intent::Committed;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{DeleteProvider, Scope};
use crate::audit::Entry;
use crate::name::{Etag, ResourceId};
use crate::store::Change;

impl Vault {
    /// Deletes a provider.
    pub async fn delete_provider(
        &self,
        scope: &Scope<DeleteProvider>,
        id: &ResourceId,
        etag: Option<&Etag>,
        intent: &Intent,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let found = self.find_provider(scope, id).await;
            if self.done_before(scope, intent).await?.is_some() {
                return Ok(());
            }
            let old = found?.provider;
            check_etag(etag, &old.etag())?;
            // Its carrier is asked by nobody else to remove what a rotation has made there.
            let rotation = self.superseded(scope, &old, self.clock.now()).await?;
            let entry = Entry {
                version_before: old.token_version,
                ..self.entry_of(scope, intent, &old.name.to_string())
            };
            let resource = (id, old.uid);
            let change = Change::DeleteProvider { provider: old, rotation };
            match self.commit(scope, intent, resource, change, entry).await? {
                Committed::Now | Committed::Before(_) => return Ok(()),
                Committed::Moved => {}
            }
        }
        Err(Error::VersionConflict)
    }
}
