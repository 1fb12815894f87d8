//! Cryptography: what turns plaintext into [`Sealed`] and back, and the keyed hashes of the vault.
//!
//! KEK (versioned [`Keyring`]) → random DEK per secret version → AES-256-GCM, with a key commitment.
//! Everything else that needs a key derives it from a random 32-byte root that is itself sealed under
//! the KEK. Nothing here stores anything, and no function takes a nonce.

mod aad;
pub mod delivery;
mod envelope;
pub mod kek_source;
mod keyring;
mod page_token;
pub mod password;
pub mod random;

use aes_gcm::{Aes256Gcm, KeyInit as _};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub use aad::{Field, Place};
pub use envelope::Sealed;
pub use keyring::{Kek, Keyring};

use crate::name::Uid;
use crate::secret::SecretText;

/// Why a cryptographic operation did not take place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gave no random bytes. Nothing was sealed.
    #[error("read random bytes from the operating system")]
    Random(#[from] random::Error),
    /// The record names a key version that the keyring does not hold.
    #[error("the keyring has no key version {0}")]
    UnknownKey(u32),
    /// The record is not what was sealed at this place.
    #[error("a record fails authentication")]
    Damaged,
    /// Nothing can be sealed for a recipient's key: whatever was, anybody could open.
    #[error("the recipient's key is of low order")]
    UnfitKey,
}

/// Seals and opens secrets, and computes the vault's keyed hashes.
#[expect(missing_debug_implementations, reason = "holds keys")]
pub struct Sealer {
    keyring: Keyring,
    vault: Uid,
    token_key: Hmac<Sha256>,
    fingerprint_key: Hmac<Sha256>,
    page_key: Aes256Gcm,
    nonce_key: Hmac<Sha256>,
}

/// A vault's root key, sealed, as the store keeps it.
#[derive(Debug, Clone)]
pub struct SealedRoot(pub Sealed);

impl Sealer {
    /// Makes the root key of a new vault.
    pub fn create_root(keyring: &Keyring, vault: Uid) -> Result<SealedRoot, Error> {
        let root = Zeroizing::new(random::bytes::<32>()?);
        envelope::seal(keyring, vault, &Place::root(), root.as_slice()).map(SealedRoot)
    }

    /// Opens a vault. Fails when the keyring is not the one that the vault was created with.
    pub fn open_vault(keyring: Keyring, vault: Uid, root: &SealedRoot) -> Result<Self, Error> {
        let root = envelope::open(&keyring, vault, &Place::root(), &root.0)?;
        let hkdf = Hkdf::<Sha256>::new(Some(b"credvault/v1/root"), &root);
        Ok(Self {
            keyring,
            vault,
            token_key: hmac_key(&hkdf, b"api-token"),
            fingerprint_key: hmac_key(&hkdf, b"request-fingerprint"),
            page_key: Aes256Gcm::new((&*derive(&hkdf, b"page-token")).into()),
            nonce_key: hmac_key(&hkdf, b"sip-nonce"),
        })
    }

    /// Seals a secret for one place. It opens nowhere else.
    pub fn seal(&self, place: &Place, plaintext: &SecretText) -> Result<Sealed, Error> {
        envelope::seal(&self.keyring, self.vault, place, plaintext.expose().as_bytes())
    }

    /// Opens a secret that was sealed for this place.
    pub fn open(&self, place: &Place, sealed: &Sealed) -> Result<SecretText, Error> {
        let plaintext = envelope::open(&self.keyring, self.vault, place, sealed)?;
        let text = std::str::from_utf8(&plaintext).map_err(|_| Error::Damaged)?;
        Ok(SecretText::new(text.to_owned()))
    }

    /// The keyed hash under which an API token's secret is stored. A fast hash is right for 256 random bits.
    pub fn token_hash(&self, secret: &[u8; 32]) -> [u8; 32] {
        finish(self.token_key.clone(), secret)
    }

    /// The keyed fingerprint of a request, to tell a retry from another request under the same id.
    pub fn request_fingerprint(&self, canonical_request: &[u8]) -> [u8; 32] {
        finish(self.fingerprint_key.clone(), canonical_request)
    }

    /// The tag of a SIP nonce that says this: the first half of an HMAC-SHA256 (NIST SP 800-107 §5.1).
    pub fn sip_nonce_tag(&self, says: &[u8]) -> [u8; 16] {
        let mut tag = [0; 16];
        tag.iter_mut()
            .zip(finish(self.nonce_key.clone(), says))
            .for_each(|(slot, byte)| *slot = byte);
        tag
    }

    /// Whether a tag is that of a SIP nonce, in time that does not depend on where it differs.
    pub fn is_sip_nonce_tag(&self, says: &[u8], tag: &[u8; 16]) -> bool {
        self.sip_nonce_tag(says).ct_eq(tag).into()
    }

    /// Seals where a list goes on into an opaque token that fits only the same list arguments.
    pub fn seal_page_token(&self, arguments: &[u8], position: &str) -> Result<String, Error> {
        page_token::seal(&self.page_key, arguments, position)
    }

    /// Opens a page token. `None`: not one of ours, or for other arguments.
    pub fn open_page_token(&self, arguments: &[u8], token: &str) -> Option<String> {
        page_token::open(&self.page_key, arguments, token)
    }
}

/// What proves that whoever sends it holds `secret`: HMAC-SHA256 of `message` under it.
pub fn proof_of(secret: &SecretText, message: &str) -> [u8; 32] {
    finish(hmac_of(secret.expose().as_bytes()), message.as_bytes())
}

/// Compares two hashes in time that does not depend on where they differ.
pub fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

fn derive(hkdf: &Hkdf<Sha256>, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf.expand(label, key.as_mut_slice()).expect("32 bytes are below HKDF's limit of 8,160");
    key
}

fn hmac_key(hkdf: &Hkdf<Sha256>, label: &[u8]) -> Hmac<Sha256> {
    hmac_of(derive(hkdf, label).as_slice())
}

fn hmac_of(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn finish(mut mac: Hmac<Sha256>, message: &[u8]) -> [u8; 32] {
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
