//! The KEKs: at least one, each with a version; the highest version seals, all of them open.

use std::collections::BTreeMap;

use aes_gcm::{Aes256Gcm, KeyInit as _};

/// A key-encryption key of one version, ready for use.
#[expect(missing_debug_implementations, reason = "holds a key")]
pub struct Kek {
    version: u32,
    cipher: Box<Aes256Gcm>,
}

impl Kek {
    /// Takes a key. The caller zeroizes its copy.
    pub fn new(version: u32, key: &[u8; 32]) -> Self {
        Self { version, cipher: Box::new(Aes256Gcm::new(key.into())) }
    }

    /// Its version.
    pub fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn cipher(&self) -> &Aes256Gcm {
        &self.cipher
    }
}

/// The KEKs of a vault. Cannot be empty.
#[expect(missing_debug_implementations, reason = "holds keys")]
pub struct Keyring {
    primary: Kek,
    older: BTreeMap<u32, Kek>,
}

impl Keyring {
    /// A keyring of these keys. `None`: no keys, or two of the same version.
    pub fn new(keys: Vec<Kek>) -> Option<Self> {
        let count = keys.len();
        let mut older: BTreeMap<u32, Kek> =
            keys.into_iter().map(|kek| (kek.version, kek)).collect();
        if older.len() != count {
            return None;
        }
        let (_, primary) = older.pop_last()?;
        Some(Self { primary, older })
    }

    /// The key that seals.
    pub fn primary(&self) -> &Kek {
        &self.primary
    }

    /// The key of one version.
    pub fn get(&self, version: u32) -> Option<&Kek> {
        if version == self.primary.version { Some(&self.primary) } else { self.older.get(&version) }
    }
}
