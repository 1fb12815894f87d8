//! Sealing for a recipient: HPKE base mode (RFC 9180), X25519, HKDF-SHA256, AES-256-GCM.
//!
//! The vault keeps no key that opens what is sealed here, so it may keep the ciphertext and hand it out again.

use std::convert::Infallible;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use super::{Error, random};
use crate::recipient::PublicKey;
use crate::secret::SecretText;

/// Sets this use of a key apart from every other.
const INFO: &[u8] = b"credvault/v1/delivery";

/// A secret that only its recipient opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The encapsulated key (RFC 9180: `enc`).
    pub encapsulated_key: [u8; 32],
    /// The ciphertext with its tag.
    pub ciphertext: Vec<u8>,
}

impl Delivered {
    /// As stored: the encapsulated key, then the ciphertext.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.encapsulated_key.as_slice(), &self.ciphertext].concat()
    }

    /// Takes it from the store.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (key, ciphertext) = bytes.split_first_chunk::<32>().ok_or(Error::Damaged)?;
        Ok(Self { encapsulated_key: *key, ciphertext: ciphertext.to_vec() })
    }
}

/// Seals `secret` for the holder of the private key, who must know `aad` as well.
pub fn seal_for(recipient: &PublicKey, aad: &str, secret: &SecretText) -> Result<Delivered, Error> {
    let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(recipient.as_bytes());
    let key = key.map_err(|_| Error::UnfitKey)?;
    let mut random = Drawn::new()?;
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &key,
            INFO,
            secret.expose().as_bytes(),
            aad.as_bytes(),
            &mut random,
        )
        .map_err(|_| Error::UnfitKey)?;
    Ok(Delivered { encapsulated_key: encapsulated.to_bytes().into(), ciphertext })
}

/// The private key of a recipient: made and used by the command line, never by a vault.
#[expect(missing_debug_implementations, reason = "holds a key")]
pub struct PrivateKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// A new one.
    pub fn generate() -> Result<Self, Error> {
        let mut random = Drawn::new()?;
        let (private, _) = X25519HkdfSha256::gen_keypair_with_rng(&mut random);
        Ok(Self(Zeroizing::new(private.to_bytes().into())))
    }

    /// One that was written down.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// To write it down.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What secrets are sealed for.
    pub fn public_key(&self) -> Result<PublicKey, Error> {
        let public = X25519HkdfSha256::sk_to_pk(&self.key()?);
        PublicKey::parse(&public.to_bytes()).map_err(|_| Error::UnfitKey)
    }

    /// Opens what was sealed for its public key.
    pub fn open(&self, delivered: &Delivered, aad: &str) -> Result<SecretText, Error> {
        let encapsulated =
            <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&delivered.encapsulated_key);
        let plaintext = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.key()?,
            &encapsulated.map_err(|_| Error::Damaged)?,
            INFO,
            &delivered.ciphertext,
            aad.as_bytes(),
        );
        let plaintext = Zeroizing::new(plaintext.map_err(|_| Error::Damaged)?);
        let text = std::str::from_utf8(&plaintext).map_err(|_| Error::Damaged)?;
        Ok(SecretText::new(text.to_owned()))
    }

    fn key(&self) -> Result<<X25519HkdfSha256 as Kem>::PrivateKey, Error> {
        <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(self.0.as_slice())
            .map_err(|_| Error::UnfitKey)
    }
}

/// Random bytes that were drawn before: HPKE cannot be told that there are none, and would panic.
struct Drawn {
    bytes: Zeroizing<[u8; 64]>,
    used: usize,
}

impl Drawn {
    /// Twice as many as a key pair takes.
    fn new() -> Result<Self, Error> {
        Ok(Self { bytes: Zeroizing::new(random::bytes()?), used: 0 })
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        let end = self.used + into.len();
        let drawn =
            self.bytes.get(self.used..end).expect("a key pair takes 32 bytes (RFC 9180 §7.1)");
        into.copy_from_slice(drawn);
        self.used = end;
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_recipient_opens_it_and_only_with_what_it_is_bound_to() {
        let (mine, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let secret = SecretText::new("a password".to_owned());
        let sealed = seal_for(&mine.public_key().unwrap(), "bound", &secret).unwrap();
        let sealed = Delivered::from_bytes(&sealed.to_bytes()).unwrap();
        assert_eq!(mine.open(&sealed, "bound").unwrap().expose(), "a password");
        assert!(mine.open(&sealed, "bounds").is_err() && other.open(&sealed, "bound").is_err());
        let again = seal_for(&mine.public_key().unwrap(), "bound", &secret).unwrap();
        assert_ne!(again, sealed, "a fresh key each time");
        let kept = PrivateKey::from_bytes(*mine.as_bytes());
        assert_eq!(kept.open(&again, "bound").unwrap().expose(), "a password");
    }

    /// RFC 7748 §6.1: with these "public keys" the shared secret would be zero, and everybody could open.
    #[test]
    fn keys_of_low_order_are_refused() {
        for bytes in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            let key = PublicKey::parse(&bytes).unwrap();
            let sealed = seal_for(&key, "", &SecretText::new(String::new()));
            assert!(matches!(sealed, Err(Error::UnfitKey)));
        }
    }
}
