//! Recipients of secrets: public keys that passwords are sealed for, and which of them an account accepts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::name::{Invalid, ResourceId, child_name};
use crate::provider::DisplayName;

child_name!(
    /// `accounts/{account}/recipientKeys/{recipient_key}`.
    RecipientKeyName,
    "recipientKeys",
    "accounts/{account}/recipientKeys/{recipient_key}"
);

/// An X25519 public key (RFC 7748). What is sealed for it only the holder of its private key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Parses the 32 bytes of a key.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let bytes =
            bytes.try_into().map_err(|_| Invalid("must be the 32 bytes of an X25519 key"))?;
        Ok(Self(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// By what it is told from others: SHA-256 of its bytes, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.0))
    }
}

/// A public key that an account's admin has enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientKey {
    /// Full name.
    pub name: RecipientKeyName,
    /// The key.
    pub public_key: PublicKey,
    /// A name for people.
    pub display_name: DisplayName,
    /// When it was enrolled.
    pub create_time: Timestamp,
    /// Nothing is sealed for it from then on.
    pub revoke_time: Option<Timestamp>,
}

/// To whom a new secret goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// To the caller, in plaintext, in the one answer.
    Caller,
    /// To whoever holds the private key, as often as the same request is repeated.
    Key(PublicKey),
    /// The same with a key that is enrolled under this id.
    Enrolled(ResourceId),
}
