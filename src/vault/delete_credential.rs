//! `DeleteCredential`: the credential and its password cease to exist.

use super::get::check_etag;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{DeleteCredential, Scope};
use crate::audit::Entry;
use crate::name::{Etag, ResourceId};
use crate::store::{self, Change, Write};

impl Vault {
    /// Deletes a credential.
    pub async fn delete_credential(
        &self,
        scope: &Scope<DeleteCredential>,
        id: &ResourceId,
        etag: Option<&Etag>,
        intent: &Intent,
    ) -> Result<(), Error> {
        if self.done_before(scope, intent).await?.is_some() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let old = self.find_credential(scope, id).await?.credential;
            check_etag(etag, &old.etag())?;
            let entry = Entry {
                version_before: old.version,
                ..self.entry_of(scope, intent, &old.name.to_string())
            };
            let once = self.once(scope, intent, id, old.version);
            let change = Change::DeleteCredential(old);
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
