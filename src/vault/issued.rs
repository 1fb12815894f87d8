//! A secret on its way out: once as it is, or as often as asked for in a form that only its recipient opens.

use jiff::Timestamp;

use crate::crypto::delivery::Delivered;
use crate::rotation::{Delivery, Parent};
use crate::secret::{Password, SecretText};
use crate::store::StoredRotation;

/// A password that was just issued and is already durable. Not Clone: consumed by the conversion to the
/// wire. Only this module's parents, create and rotate, make one; there is no way from an id to it.
#[expect(missing_debug_implementations, reason = "holds a password")]
pub struct Issued {
    password: SecretText,
    version: u64,
}

impl Issued {
    pub(super) fn new(password: Password, version: u64) -> Self {
        Self { password: password.into_text(), version }
    }

    /// Gives the password up, for the one answer that carries it.
    pub fn into_parts(self) -> (SecretText, u64) {
        (self.password, self.version)
    }
}

/// A secret that only its recipient opens, with all that it is bound to.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// Whose secret it is.
    pub resource: Parent,
    /// Its version.
    pub version: u64,
    /// The request that it answers, whose key it is sealed for, and until when it is kept.
    pub delivery: Delivery,
    /// The ciphertext.
    pub delivered: Delivered,
}

impl SealedSecret {
    /// What a rotation delivers.
    pub(super) fn of(stored: StoredRotation) -> Option<Self> {
        let StoredRotation { rotation, sealed } = stored;
        let (delivery, delivered) = rotation.delivery.zip(sealed)?;
        let (resource, version) = (rotation.name.parent, rotation.version);
        Some(Self { resource, version, delivery, delivered })
    }

    /// The same once more: until its time, and as long as the secret that it is `verifies`.
    pub(super) fn again(stored: StoredRotation, verifies: bool, now: Timestamp) -> Option<Self> {
        Self::of(stored).filter(|sealed| verifies && now < sealed.delivery.expire_time)
    }
}

/// What an answer carries of a secret that the vault generated.
#[expect(missing_debug_implementations, reason = "may hold a password")]
pub enum Outgoing {
    /// The password itself, this once.
    Issued(Issued),
    /// The password for its recipient, now and at every retry.
    Sealed(SealedSecret),
}
