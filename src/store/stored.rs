//! Resources with their secrets, as they are stored: sealed.

use crate::credential::Credential;
use crate::crypto::Sealed;
use crate::crypto::delivery::Delivered;
use crate::provider::{Provider, TokenKind};
use crate::rotation::Rotation;

/// A credential with its active password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// The configuration.
    pub credential: Credential,
    /// The active password.
    pub password: Sealed,
    /// The pending and the retiring ones, by version.
    pub others: Vec<StoredVersion>,
}

impl StoredCredential {
    /// The password of this version, if it is kept.
    pub fn sealed(&self, version: u64) -> Option<&Sealed> {
        if self.credential.version == version {
            return Some(&self.password);
        }
        let other = self.others.iter().find(|other| other.version == version);
        other.map(|other| &other.sealed)
    }
}

/// A version of a secret beside the active one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its number.
    pub version: u64,
    /// The secret.
    pub sealed: Sealed,
}

/// A provider with its active token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProvider {
    /// The configuration.
    pub provider: Provider,
    /// The active token.
    pub token: Sealed,
    /// The pending and the retiring ones, by version.
    pub others: Vec<StoredToken>,
}

impl StoredProvider {
    /// The token of this version, if it is kept.
    pub fn sealed(&self, version: u64) -> Option<&Sealed> {
        if self.provider.token_version == version {
            return Some(&self.token);
        }
        let other = self.others.iter().find(|other| other.version == version);
        other.map(|other| &other.sealed)
    }
}

/// A token beside the active one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its number.
    pub version: u64,
    /// What kind of secret it is.
    pub kind: TokenKind,
    /// The secret.
    pub sealed: Sealed,
}

/// A rotation with the secret that it delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRotation {
    /// What is known of it.
    pub rotation: Rotation,
    /// The secret, for its recipient alone. There is one as long as the rotation has a delivery.
    pub sealed: Option<Delivered>,
}
