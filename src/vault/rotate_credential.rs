//! `RotateCredential`: a new password, returned once; the old one dies in the same commit.

use super::create_credential::already_issued;
use super::get::check_etag;
use super::{ATTEMPTS, Error, Intent, Issued, Vault, place};
use crate::access::{RotateCredential, Scope};
use crate::audit::Entry;
use crate::credential::Credential;
use crate::crypto::Field;
use crate::crypto::password;
use crate::defect::{Defect, planted};
use crate::name::{Etag, ResourceId};
use crate::secret::{Password, PasswordLength};
use crate::store::{self, Change, StoredCredential, Write};

impl Vault {
    /// Replaces a credential's password by a generated one.
    pub async fn rotate_credential(
        &self,
        scope: &Scope<RotateCredential>,
        id: &ResourceId,
        etag: Option<&Etag>,
        length: PasswordLength,
        intent: &Intent,
    ) -> Result<(Credential, Issued), Error> {
        if let Some(done) = self.done_before(scope, intent).await? {
            let stored = self.find_credential(scope, &done.resource_id).await?;
            return Err(already_issued(&stored.credential.name, &done));
        }
        let password = password::generate(length)?;
        if planted(Defect::LogSecret) {
            leak(&password);
        }
        for _ in 0..ATTEMPTS {
            let old = self.find_credential(scope, id).await?.credential;
            check_etag(etag, &old.etag())?;
            let now = self.clock.now();
            let new = Credential {
                version: old.version + 1,
                revision: old.revision + 1,
                update_time: now,
                rotate_time: now,
                ..old.clone()
            };
            let place = place(scope, new.uid, Field::Password, new.version);
            let sealed = self.sealer.seal(&place, password.as_text())?;
            let entry = Entry {
                version_before: old.version,
                version_after: new.version,
                ..self.entry_of(scope, intent, &new.name.to_string())
            };
            let once = self.once(scope, intent, &new.name.id, new.version);
            let change = Change::ReplaceCredential {
                expect: old.revision,
                new: StoredCredential { credential: new.clone(), password: sealed },
            };
            match self.store.commit(Write::new(scope, change, entry, once)).await {
                Ok(()) => {
                    let issued = Issued::new(password, new.version);
                    return Ok((new, issued));
                }
                Err(store::Error::Conflict) => {}
                Err(store::Error::Repeated(done)) => {
                    return Err(already_issued(&new.name, &self.raced(intent, done)?));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }
}

/// The planted defect that the canary scan must find.
#[expect(clippy::disallowed_methods, reason = "exists in test builds only, to be found")]
fn leak(password: &Password) {
    tracing::trace!(password = password.as_text().expose(), "rotate");
}
