//! To whom a new secret goes: whether the account allows it, the seal, and the rotation that keeps it.

use jiff::{SignedDuration, Timestamp};

use super::create_credential::already_issued;
use super::{Error, Intent, Issued, Outgoing, SealedSecret, Vault};
use crate::access::AccountScope;
use crate::credential::Credential;
use crate::crypto::delivery::{Delivered, seal_for};
use crate::crypto::{self, random};
use crate::name::{Invalid, ResourceId};
use crate::recipient::{PublicKey, Recipient, RecipientKeyName};
use crate::rotation::{Delivery, Parent, Rotation, RotationName, State, StepKind};
use crate::secret::{Password, SecretText};
use crate::store::{Done, StoredRotation};

/// How a new version takes the place of the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) overlap: SignedDuration,
    pub(super) require_confirmation: bool,
}

/// The answer to a call that made a version of a secret.
#[expect(missing_debug_implementations, reason = "may hold a password")]
pub struct Made {
    /// The credential as it is now.
    pub credential: Credential,
    /// The secret. None: the caller brought it.
    pub secret: Option<Outgoing>,
    /// The rotation, if it outlives its call.
    pub rotation: Option<Rotation>,
}

impl Vault {
    /// The key to seal for; None: the answer carries the plaintext.
    pub(super) async fn recipient_of(
        &self,
        scope: &AccountScope,
        recipient: &Recipient,
    ) -> Result<Option<PublicKey>, Error> {
        match recipient {
            Recipient::Caller | Recipient::Key(_) if scope.account().enrolled_keys_only => {
                Err(Error::RecipientKeyRequired)
            }
            Recipient::Caller => Ok(None),
            Recipient::Key(key) => Ok(Some(*key)),
            Recipient::Enrolled(id) => {
                let key = self.store.recipient_key(scope, id).await?;
                let account = scope.account().id.clone();
                let name = RecipientKeyName { account, id: id.clone() };
                let key = key.ok_or_else(|| Error::NotFound { name: name.to_string() })?;
                match key.revoke_time {
                    Some(_) => {
                        Err(Error::InvalidState("the recipient key is revoked: name another"))
                    }
                    None => Ok(Some(key.public_key)),
                }
            }
        }
    }

    /// The answer to a retry: what was sealed, the same bytes; a plaintext only the first answer carried.
    pub(super) async fn rotated_before(
        &self,
        scope: &AccountScope,
        done: &Done,
    ) -> Result<Made, Error> {
        let credential = self.credential_of(scope, done).await?;
        let found = self.store.rotation_of_version(scope, done.resource, done.version).await?;
        if let Some(stored) = found.as_ref().filter(|stored| stored.rotation.work.is_some()) {
            return self.carried_out(scope, &stored.rotation.name).await;
        }
        let rotation = found.as_ref().map(|stored| stored.rotation.clone());
        let now = self.clock.now();
        let sealed = found.and_then(|stored| {
            let verifies = verifies(&credential, &stored.rotation, now);
            SealedSecret::again(stored, verifies, now)
        });
        match sealed {
            Some(sealed) => {
                Ok(Made { credential, secret: Some(Outgoing::Sealed(sealed)), rotation })
            }
            None => Err(already_issued(&credential.name, done)),
        }
    }
}

/// Whether a credential verifies the version that a rotation of it made.
pub(super) fn verifies(credential: &Credential, rotation: &Rotation, now: Timestamp) -> bool {
    credential.uid == rotation.resource && credential.verifies(rotation.version, now)
}

/// The first answer: what was sealed does not leave in plaintext, whatever the time is by now.
pub(super) fn made_now(
    credential: Credential,
    (password, version): (Password, u64),
    rotation: Option<StoredRotation>,
) -> Made {
    let known = rotation.as_ref().map(|stored| stored.rotation.clone());
    let sealed = rotation.and_then(SealedSecret::of);
    let secret =
        sealed.map_or_else(|| Outgoing::Issued(Issued::new(password, version)), Outgoing::Sealed);
    Made { credential, secret: Some(secret), rotation: known }
}

/// The rotation that a new version is part of, with its secret sealed for `key`. None if it is over with its call.
pub(super) fn begin_rotation(
    credential: &Credential,
    version: u64,
    plan: Plan,
    (password, key, intent): (&Password, Option<PublicKey>, &Intent),
    now: Timestamp,
) -> Result<Option<StoredRotation>, Error> {
    let Plan { overlap, require_confirmation } = plan;
    if key.is_none() && !require_confirmation {
        return Ok(None);
    }
    let delivery = key.map(|key| {
        let of = (&key, intent.request_id());
        (key, Delivery::starting(now, overlap, require_confirmation, of))
    });
    let sealed = match &delivery {
        Some((key, delivery)) => {
            let aad = delivery.aad(&credential.name, version);
            Some(sealed_for("recipient.hpke_public_key", key, &aad, password.as_text())?)
        }
        None => None,
    };
    let id = ResourceId::made_at(now, random::bytes()?);
    let state = if require_confirmation { State::Holding } else { State::Succeeded };
    let rotation = Rotation {
        name: RotationName { parent: Parent::Credential(credential.name.clone()), id },
        resource: credential.uid,
        version,
        revision: 0,
        state,
        overlap,
        require_confirmation,
        delivery: delivery.map(|(_, delivery)| delivery),
        steps: Vec::new(),
        create_time: now,
        update_time: now,
        end_time: None,
        confirm_time: None,
        work: None,
    };
    let kind = if require_confirmation { StepKind::Store } else { StepKind::Activate };
    Ok(Some(StoredRotation { rotation: rotation.after(kind, state, now, ""), sealed }))
}

/// What an audit entry says of where a secret went.
pub(super) fn described(recipient: &Recipient, key: Option<&PublicKey>) -> Option<String> {
    match (recipient, key) {
        (Recipient::Enrolled(id), _) => Some(format!("sealed for recipientKeys/{id}")),
        (_, Some(key)) => Some(format!("sealed for key {}", key.fingerprint())),
        (_, None) => None,
    }
}

/// Seals for a key that `field` named, or that was enrolled.
pub(super) fn sealed_for(
    field: &str,
    key: &PublicKey,
    aad: &str,
    secret: &SecretText,
) -> Result<Delivered, Error> {
    const UNFIT: Invalid = Invalid("is of low order: whoever reads the ciphertext could open it");
    seal_for(key, aad, secret).map_err(|error| match error {
        crypto::Error::UnfitKey => Error::field(field, UNFIT),
        other => other.into(),
    })
}
