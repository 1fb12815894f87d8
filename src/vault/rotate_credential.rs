//! `RotateCredential`: a new password, returned once; the old one dies in the same commit.

use super::create_credential::already_issued;
use super::get::check_etag;
use super::intent::Committed;
use super::{ATTEMPTS, Error, Intent, Issued, Vault, place};
use crate::access::{RotateCredential, Scope};
use crate::audit::Entry;
use crate::credential::Credential;
use crate::crypto::Field;
use crate::crypto::password;
use crate::defect::{Defect, planted};
use crate::name::{Etag, ResourceId};
use crate::secret::{Password, PasswordLength};
use crate::store::{Change, StoredCredential};

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
        let password = password::generate(length)?;
        if planted(Defect::LogSecret) {
            leak(&password);
        }
        for _ in 0..ATTEMPTS {
            let found = self.find_credential(scope, id).await;
            if let Some(done) = self.done_before(scope, intent).await? {
                let credential = self.credential_of(scope, &done).await?;
                return Err(already_issued(&credential.name, &done));
            }
            let old = found?.credential;
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
            let change = Change::ReplaceCredential {
                expect: old.revision,
                new: StoredCredential { credential: new.clone(), password: sealed },
            };
            match self.commit(scope, intent, (&new.name.id, new.uid), change, entry).await? {
                Committed::Now => {
                    let issued = Issued::new(password, new.version);
                    return Ok((new, issued));
                }
                Committed::Before(done) => {
                    let credential = self.credential_of(scope, &done).await?;
                    return Err(already_issued(&credential.name, &done));
                }
                Committed::Moved => {}
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
