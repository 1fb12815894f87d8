//! What the rotation of a password has to do at its carrier: its call, and what is stored of its end.

use jiff::{SignedDuration, Timestamp};

use super::at_carrier::KEY;
use super::carrier_work::{Brought, Ended, ended};
use super::delivery::sealed_for;
use super::rotations::promoted;
use super::{Error, Vault, place};
use crate::access::AccountScope;
use crate::credential::{Chooser, Residence};
use crate::crypto::Field;
use crate::provider::{Kind, Objection, Token};
use crate::rotation::{Delivery, LONGEST_WAIT, Rotation, State, Unanswered, Work};
use crate::secret::SecretText;
use crate::store::{Change, StoredCredential, StoredRotation, StoredVersion, Write};
use crate::upstream::Effect;

/// All that a call about a password needs.
pub(super) struct PasswordCall {
    kind: Kind,
    token: Token,
    residence: Residence,
    /// The password to set. None: the carrier chooses it.
    password: Option<SecretText>,
    /// Whether the token itself is being rotated, and may have ended already.
    is_token_in_doubt: bool,
}

impl Vault {
    /// What a rotation of a password needs for its next call.
    pub(super) async fn password_call(
        &self,
        scope: &AccountScope,
        rotation: &Rotation,
    ) -> Result<PasswordCall, Error> {
        let stored = self.find_credential(scope, rotation.name.parent.id()).await?;
        let gone = || Error::InvalidState("what is rotated does not live at a carrier");
        let residence = stored.credential.residence.clone().ok_or_else(gone)?;
        let provider = self.find_provider(scope, &residence.provider).await?;
        let token = self.token_of(scope, &provider)?;
        let chooser = rotation.work.as_ref().and_then(Work::chooser);
        let password = match chooser {
            Some(Chooser::Vault) => {
                let pending = stored.sealed(rotation.version).ok_or_else(gone)?;
                let place = place(scope, rotation.resource, Field::Password, rotation.version);
                Some(self.sealer.open(&place, pending)?)
            }
            _ => None,
        };
        let is_token_in_doubt = provider.provider.versions.pending().is_some();
        let kind = provider.provider.kind;
        Ok(PasswordCall { kind, token, residence, password, is_token_in_doubt })
    }

    pub(super) async fn make_password_call(&self, call: PasswordCall) -> Ended {
        let PasswordCall { kind, token, residence, password, is_token_in_doubt } = call;
        let upstream = match self.upstream_of(&kind) {
            Ok(upstream) => upstream,
            Err(error) => return Ended::Unanswered(Unanswered::NotDone, error.reason(), None),
        };
        let Some(credentials) = upstream.credentials() else {
            return Ended::Objected(Objection::Other);
        };
        let effect = if let Some(password) = password {
            let set = credentials.set_password(&token, &residence.at, &password).await;
            set.map(|()| Brought::Nothing)
        } else {
            let made = credentials.make_password(&token, &residence.at).await;
            made.map(Brought::Password)
        };
        match effect {
            Effect::Refused(objection @ Objection::Token(_)) if is_token_in_doubt => {
                Ended::Unanswered(Unanswered::NotDone, Error::from(objection).reason(), None)
            }
            effect => ended(effect),
        }
    }

    /// The new version becomes the active one. None: its credential is gone.
    pub(super) async fn password_done(
        &self,
        scope: &AccountScope,
        stored: StoredRotation,
        (brought, leaves): (&Brought, bool),
    ) -> Result<Option<Write>, Error> {
        let StoredRotation { rotation, sealed } = stored;
        let Some(credential) = self.rotated(scope, &rotation).await? else { return Ok(None) };
        let entry = self.ended(scope, &rotation, State::Succeeded, credential.credential.version);
        let now = entry.time;
        let change = match brought {
            Brought::Nothing | Brought::Token(_) | Brought::InForce | Brought::NotTried => {
                let change = promoted(credential, &rotation, rotation.applied(now), now)?;
                // What is sealed already stays.
                change.map(|change| with_sealed(change, sealed))
            }
            Brought::Password(password) => {
                let of = (password, leaves);
                let made = self.made_there(scope, credential, rotation, of, now).await?;
                Some(made)
            }
        };
        Ok(change.map(|change| Write::new(scope, change, entry, None)))
    }

    /// The same with a password that the carrier chose. It must be kept whatever becomes of its delivery.
    async fn made_there(
        &self,
        scope: &AccountScope,
        mut stored: StoredCredential,
        rotation: Rotation,
        (password, leaves): (&SecretText, bool),
        now: Timestamp,
    ) -> Result<Change, Error> {
        let (expect, version) = (stored.credential.revision, rotation.version);
        let place = place(scope, rotation.resource, Field::Password, version);
        let sealed = self.sealer.seal(&place, password)?;
        stored.credential.versions = stored.credential.versions.promoted();
        let new = stored.activated(StoredVersion { version, sealed }, SignedDuration::ZERO, now)?;
        let (recipient, seal_for) = match &rotation.work {
            Some(work) => (work.recipient.clone(), work.seal_for.clone()),
            None => (None, None),
        };
        let mut next = rotation.applied(now);
        let (mut delivered, mut leaves_to) = (None, None);
        if let Some((recipient, seal_for)) = recipient.zip(seal_for).filter(|_| leaves) {
            let of = (&seal_for.key, seal_for.request_id);
            // Whoever began it may come late: the carrier may have taken long.
            let delivery = Delivery::starting(now, LONGEST_WAIT, false, of);
            let aad = delivery.aad(&rotation.name.parent, version);
            let may = self.recipient_of(scope, &recipient).await;
            match may.and_then(|_| sealed_for(KEY, &seal_for.key, &aad, password)) {
                Ok(sealed) => {
                    (delivered, next.delivery) = (Some(sealed), Some(delivery));
                    leaves_to = Some(recipient);
                }
                Err(error) => {
                    let reason = error.reason();
                    tracing::warn!(rotation = %next.name, reason, "a new password is not delivered");
                }
            }
        }
        let rotation = Some(Box::new(StoredRotation { rotation: next, sealed: delivered }));
        Ok(Change::ReplaceCredential { expect, new: Box::new(new), rotation, leaves_to })
    }
}

fn with_sealed(change: Change, sealed: Option<crate::crypto::delivery::Delivered>) -> Change {
    match change {
        Change::ReplaceCredential { expect, new, rotation: Some(mut rotation), leaves_to } => {
            rotation.sealed = sealed;
            Change::ReplaceCredential { expect, new, rotation: Some(rotation), leaves_to }
        }
        other => other,
    }
}
