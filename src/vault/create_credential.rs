//! `CreateCredential`: a username gets its first password.

use super::delivery::{Plan, begin_rotation, described, made_now};
use super::intent::Committed;
use super::{Error, Intent, Made, Vault, place};
use crate::access::{CreateCredential, Scope};
use crate::audit::Entry;
use crate::credential::{
    CarrierCredential, Credential, Description, Labels, Realm, Residence, Username,
};
use crate::crypto::password;
use crate::crypto::{Field, random};
use crate::name::{CredentialName, Invalid, ResourceId, Uid};
use crate::recipient::Recipient;
use crate::rotation::policy::{RotationPolicy, Schedule};
use crate::secret::{Password, PasswordLength};
use crate::store::{Change, Done, StoredCredential};
use crate::upstream::Effect;
use crate::versions::Versions;

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
    /// When the vault rotates it by itself.
    pub rotation_policy: Option<RotationPolicy>,
    /// Where its password comes from.
    pub password: NewPassword,
    /// The provider at whose carrier it lives, and what it is there. None: the vault's word on it counts.
    pub residence: Option<(ResourceId, CarrierCredential)>,
}

/// Where a first password comes from.
#[expect(missing_debug_implementations, reason = "may hold a password")]
pub enum NewPassword {
    /// The caller brings it; nothing is issued.
    Chosen(Password),
    /// The vault generates it, and it goes to a recipient.
    Generated(PasswordLength, Recipient),
}

impl Vault {
    /// Creates a credential; gives the password out if it was generated.
    pub async fn create_credential(
        &self,
        scope: &Scope<CreateCredential>,
        mut new: NewCredential,
        intent: &Intent,
    ) -> Result<Made, Error> {
        let generated = matches!(new.password, NewPassword::Generated(..));
        if let Some(done) = self.done_before(scope, intent).await? {
            return self.created_before(scope, done, generated).await;
        }
        let residence = match new.residence.take() {
            Some((provider, at)) => Some(self.residence_of(scope, provider, at, &new).await?),
            None => None,
        };
        let (password, recipient) = match new.password {
            NewPassword::Chosen(password) => (password, None),
            NewPassword::Generated(length, recipient) => {
                let key = self.recipient_of(scope, &recipient).await?;
                (password::generate(length)?, Some((recipient, key)))
            }
        };
        if let Some(policy) = &new.rotation_policy {
            self.check_receiver(scope, policy).await?;
            if let Some(residence) = &residence {
                self.check_policy_there(scope, residence, policy).await?;
            }
        }
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
            versions: Versions::default(),
            residence,
            schedule: new.rotation_policy.map(|policy| Schedule { policy, since: now }),
        };
        let place = place(scope, credential.uid, Field::Password, credential.version);
        let sealed = self.sealer.seal(&place, password.as_text())?;
        let plan = Plan { overlap: jiff::SignedDuration::ZERO, require_confirmation: false };
        let (rotation, receiver) = match &recipient {
            None => (None, None),
            Some((recipient, key)) => {
                let sent = (&password, *key, intent);
                let rotation = begin_rotation(&credential, credential.version, plan, sent, now)?;
                (rotation, described(recipient, key.as_ref()))
            }
        };
        let policy = credential.schedule.as_ref().map(|it| format!("rotated {}", it.policy));
        let detail: Vec<_> = [receiver, policy].into_iter().flatten().collect();
        let entry = Entry {
            version_after: credential.version,
            detail: detail.join(", "),
            ..self.entry_of(scope, intent, &credential.name.to_string())
        };
        let stored = StoredCredential {
            credential: credential.clone(),
            password: sealed,
            others: Vec::new(),
        };
        let change = Change::CreateCredential {
            new: Box::new(stored),
            rotation: rotation.clone().map(Box::new),
            leaves_to: recipient.map(|(recipient, _)| recipient),
        };
        let resource = (&credential.name.id, credential.uid);
        match self.commit(scope, intent, resource, change, entry).await? {
            Committed::Now if generated => {
                let secret = (password, credential.version);
                Ok(made_now(credential, secret, rotation))
            }
            Committed::Now => Ok(Made { credential, secret: None, rotation: None }),
            Committed::Before(done) => self.created_before(scope, done, generated).await,
            Committed::Moved => Err(Error::VersionConflict),
        }
    }

    /// Where a new credential lives, which its carrier has to confirm.
    async fn residence_of(
        &self,
        scope: &Scope<CreateCredential>,
        provider: ResourceId,
        at: CarrierCredential,
        new: &NewCredential,
    ) -> Result<Residence, Error> {
        const OTHER: Invalid = Invalid("is not at the carrier of this provider");
        const UNKNOWN: Invalid = Invalid(
            "is required: the password in force at the carrier; if nobody knows it, send any, and call RotateCredential",
        );
        const USERNAME: Invalid = Invalid("is not the username that it has at the carrier");
        const ENABLED: Invalid = Invalid(
            "is not what it is at the carrier: create it as it is there, then call UpdateCredential",
        );
        if matches!(new.password, NewPassword::Generated(..)) {
            return Err(Error::field("password", UNKNOWN));
        }
        let stored = self.find_provider(scope, &provider).await?;
        let field = format!("credential.{}", at.provider_type().as_str());
        if !at.fits(&stored.provider.kind) {
            return Err(Error::field(field, OTHER));
        }
        let token = self.token_of(scope, &stored)?;
        let upstream = self.upstream_of(&stored.provider.kind)?;
        let credentials = upstream.credentials();
        let credentials = credentials.ok_or_else(|| Error::field(field, OTHER))?;
        let found = match credentials.find(&token, &at).await {
            Effect::Done(found) => found,
            Effect::Refused(objection) => return Err(objection.into()),
            Effect::NotDone(outage) | Effect::Unknown(outage) => return Err(outage.into()),
        };
        if found.username != new.username.as_str() {
            return Err(Error::field("credential.username", USERNAME));
        }
        if found.enabled.is_some_and(|enabled| enabled != new.enabled) {
            return Err(Error::field("credential.enabled", ENABLED));
        }
        Ok(Residence { provider, provider_uid: stored.provider.uid, at })
    }

    async fn created_before(
        &self,
        scope: &Scope<CreateCredential>,
        done: Done,
        generated: bool,
    ) -> Result<Made, Error> {
        if generated {
            return self.rotated_before(scope, &done).await;
        }
        let credential = self.credential_of(scope, &done).await?;
        Ok(Made { credential, secret: None, rotation: None })
    }
}

/// The answer to a retry whose first answer carried the plaintext.
pub(super) fn already_issued(name: &CredentialName, done: &Done) -> Error {
    Error::SecretAlreadyIssued { name: name.to_string(), version: done.version, time: done.time }
}
