//! `CreateCredential`: a username gets its first password.

use super::intent::Committed;
use super::{Error, Intent, Issued, Vault, place};
use crate::access::{CreateCredential, Scope};
use crate::audit::Entry;
use crate::credential::{Credential, Description, Labels, Realm, Username};
use crate::crypto::password;
use crate::crypto::{Field, random};
use crate::name::{CredentialName, ResourceId, Uid};
use crate::secret::{Password, PasswordLength};
use crate::store::{Change, Done, StoredCredential};

/// A credential to be.
#[expect(missing_debug_implementations, reason = "may hold a password")]
pub struct NewCredential {
    /// Its id; None: a random one.
    pub id: Option<ResourceId>,
    /// SIP username.
    pub username: Username,
    /// SIP realm.
    pub realm: Realm,
    /// Whether it verifies.
    pub enabled: bool,
    /// Free text.
    pub description: Description,
    /// Labels.
    pub labels: Labels,
    /// Where its password comes from.
    pub password: NewPassword,
}

/// Where a first password comes from.
#[expect(missing_debug_implementations, reason = "may hold a password")]
pub enum NewPassword {
    /// The caller brings it; nothing is issued.
    Chosen(Password),
    /// The vault generates it and issues it.
    Generated(PasswordLength),
}

impl Vault {
    /// Creates a credential; returns the password if it was generated, this once.
    pub async fn create_credential(
        &self,
        scope: &Scope<CreateCredential>,
        new: NewCredential,
        intent: &Intent,
    ) -> Result<(Credential, Option<Issued>), Error> {
        let generated = matches!(new.password, NewPassword::Generated(_));
        if let Some(done) = self.done_before(scope, intent).await? {
            return self.created_before(scope, done, generated).await;
        }
        let password = match new.password {
            NewPassword::Chosen(password) => password,
            NewPassword::Generated(length) => password::generate(length)?,
        };
        let now = self.clock.now();
        let id = match new.id {
            Some(id) => id,
            None => ResourceId::made_at(now, random::bytes()?),
        };
        let credential = Credential {
            uid: Uid::from_bytes(random::bytes()?),
            name: CredentialName { account: scope.account().id.clone(), id },
            username: new.username,
            realm: new.realm,
            enabled: new.enabled,
            description: new.description,
            labels: new.labels,
            version: 1,
            revision: 1,
            create_time: now,
            update_time: now,
            rotate_time: now,
        };
        let place = place(scope, credential.uid, Field::Password, credential.version);
        let sealed = self.sealer.seal(&place, password.as_text())?;
        let entry = Entry {
            version_after: credential.version,
            ..self.entry_of(scope, intent, &credential.name.to_string())
        };
        let change = Change::CreateCredential(StoredCredential {
            credential: credential.clone(),
            password: sealed,
        });
        let resource = (&credential.name.id, credential.uid);
        match self.commit(scope, intent, resource, change, entry).await? {
            Committed::Now => {
                let issued = generated.then(|| Issued::new(password, credential.version));
                Ok((credential, issued))
            }
            Committed::Before(done) => self.created_before(scope, done, generated).await,
            Committed::Moved => Err(Error::VersionConflict),
        }
    }

    async fn created_before(
        &self,
        scope: &Scope<CreateCredential>,
        done: Done,
        generated: bool,
    ) -> Result<(Credential, Option<Issued>), Error> {
        let credential = self.credential_of(scope, &done).await?;
        if generated {
            return Err(already_issued(&credential.name, &done));
        }
        Ok((credential, None))
    }
}

/// The answer to a retry whose first answer carried the plaintext.
pub(super) fn already_issued(name: &CredentialName, done: &Done) -> Error {
    Error::SecretAlreadyIssued { name: name.to_string(), version: done.version, time: done.time }
}
