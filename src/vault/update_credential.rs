//! `UpdateCredential`: what a caller may choose, the password included, which is never echoed.

use super::get::check_etag;
use super::{ATTEMPTS, Error, Intent, Vault, place};
use crate::access::{Scope, UpdateCredential};
use crate::audit::Entry;
use crate::credential::{Credential, Description, Labels, Realm, Username};
use crate::crypto::Field;
use crate::name::{Etag, Invalid, ResourceId};
use crate::secret::Password;
use crate::store::{self, Change, StoredCredential, Write};

/// What to change. None: leave as it is.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "may hold a password")]
pub struct CredentialChanges {
    /// Whether it verifies.
    pub enabled: Option<bool>,
    /// Free text.
    pub description: Option<Description>,
    /// Labels, all of them.
    pub labels: Option<Labels>,
    /// A new password.
    pub password: Option<Password>,
    /// The username that the caller takes it to have; another one is refused (immutable).
    pub username: Option<Username>,
    /// The realm that the caller takes it to have; another one is refused (immutable).
    pub realm: Option<Realm>,
}

impl Vault {
    /// Changes a credential. Nothing to change: the current one, no new version, no audit entry.
    pub async fn update_credential(
        &self,
        scope: &Scope<UpdateCredential>,
        id: &ResourceId,
        etag: Option<&Etag>,
        changes: CredentialChanges,
        intent: &Intent,
    ) -> Result<Credential, Error> {
        if let Some(done) = self.done_before(scope, intent).await? {
            return Ok(self.find_credential(scope, &done.resource_id).await?.credential);
        }
        for _ in 0..ATTEMPTS {
            let stored = self.find_credential(scope, id).await?;
            let old = stored.credential;
            check_etag(etag, &old.etag())?;
            changes.check_immutable(&old)?;
            let mut new = changes.apply(&old);
            if changes.password.is_none() && new == old {
                return Ok(old);
            }
            new.revision = old.revision + 1;
            new.update_time = self.clock.now();
            let sealed = match &changes.password {
                None => stored.password,
                Some(password) => {
                    new.version = old.version + 1;
                    new.rotate_time = new.update_time;
                    let place = place(scope, new.uid, Field::Password, new.version);
                    self.sealer.seal(&place, password.as_text())?
                }
            };
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
                Ok(()) => return Ok(new),
                Err(store::Error::Conflict) => {}
                Err(store::Error::Repeated(done)) => {
                    self.raced(intent, done)?;
                    return Ok(self.find_credential(scope, id).await?.credential);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }
}

impl CredentialChanges {
    fn apply(&self, old: &Credential) -> Credential {
        Credential {
            enabled: self.enabled.unwrap_or(old.enabled),
            description: self.description.clone().unwrap_or_else(|| old.description.clone()),
            labels: self.labels.clone().unwrap_or_else(|| old.labels.clone()),
            ..old.clone()
        }
    }

    fn check_immutable(&self, old: &Credential) -> Result<(), Error> {
        const RULE: Invalid =
            Invalid("is immutable: create another credential and delete this one");
        if self.username.as_ref().is_some_and(|username| *username != old.username) {
            return Err(Error::field("credential.username", RULE));
        }
        if self.realm.as_ref().is_some_and(|realm| *realm != old.realm) {
            return Err(Error::field("credential.realm", RULE));
        }
        Ok(())
    }
}
