//! The record format: one secret, sealed under its own DEK, with the DEK wrapped under a KEK.
//!
//! ```text
//! record v1
//!  0      2  "CV"
//!  2      1  format = 1
//!  3      1  suite  = 1  (AES-256-GCM, HKDF-SHA256)
//!  4      4  KEK version, big-endian
//!  8     12  wrap nonce
//! 20     48  AES-256-GCM(KEK, wrap nonce, DEK, aad = aad(wrap))
//! 68     32  commitment = HKDF-Expand(prk, "commit" | aad(data) | nonce)
//! 100    12  nonce
//! 112  n+16  AES-256-GCM(key, nonce, secret, aad = aad(data))
//!
//! prk = HKDF-Extract(salt = "credvault/v1", DEK)      key = HKDF-Expand(prk, "enc" | aad(data))
//! ```
//!
//! The commitment is compared before anything is decrypted: a ciphertext that opens under two keys
//! (partitioning oracles, Len, Grubbs, Ristenpart 2021) is of no use here.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::aad::{Layer, Place};
use super::{Error, Keyring, equal, random};
use crate::name::Uid;

const MAGIC: [u8; 3] = *b"CV\x01";
const SUITE: u8 = 1;
const TAG: usize = 16;
const HEADER: usize = 112;

/// A sealed secret. The only form in which one is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// The parts of a record, by reference; lengths are checked once, here.
struct Parts<'a> {
    kek_version: u32,
    wrap_nonce: &'a [u8; 12],
    wrapped_dek: &'a [u8; 48],
    commitment: &'a [u8; 32],
    nonce: &'a [u8; 12],
    ciphertext: &'a [u8],
}

impl Sealed {
    /// Takes a record from the store. Refuses what cannot be one.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        let sealed = Self(bytes);
        sealed.parts()?;
        Ok(sealed)
    }

    /// The record as stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn parts(&self) -> Result<Parts<'_>, Error> {
        fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), Error> {
            bytes.split_first_chunk::<N>().ok_or(Error::Damaged)
        }
        let (magic, rest) = split::<3>(&self.0)?;
        let (suite, rest) = split::<1>(rest)?;
        let (kek_version, rest) = split::<4>(rest)?;
        let (wrap_nonce, rest) = split::<12>(rest)?;
        let (wrapped_dek, rest) = split::<48>(rest)?;
        let (commitment, rest) = split::<32>(rest)?;
        let (nonce, ciphertext) = split::<12>(rest)?;
        if *magic != MAGIC || *suite != [SUITE] || ciphertext.len() < TAG {
            return Err(Error::Damaged);
        }
        let kek_version = u32::from_be_bytes(*kek_version);
        Ok(Parts { kek_version, wrap_nonce, wrapped_dek, commitment, nonce, ciphertext })
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Seals `plaintext` for `place` under a fresh DEK and the keyring's primary KEK.
pub(super) fn seal(
    keyring: &Keyring,
    vault: Uid,
    place: &Place,
    plaintext: &[u8],
) -> Result<Sealed, Error> {
    let random = Zeroizing::new(random::bytes::<56>()?);
    let (dek, nonces) = random.split_first_chunk::<32>().expect("56 bytes hold 32");
    let (wrap_nonce, nonces) = nonces.split_first_chunk::<12>().expect("24 bytes hold 12");
    let nonce = nonces.first_chunk::<12>().expect("12 bytes hold 12");

    let kek = keyring.primary();
    let aad = place.aad(vault, SUITE, Layer::Wrap { kek_version: kek.version() });
    let wrapped_dek = encrypt(kek.cipher(), wrap_nonce, dek, &aad);

    let aad = place.aad(vault, SUITE, Layer::Data);
    let (key, commitment) = data_keys(dek, &aad, nonce);
    let ciphertext = encrypt(&key, nonce, plaintext, &aad);

    let mut record = Vec::with_capacity(HEADER + plaintext.len() + TAG);
    record.extend_from_slice(&MAGIC);
    record.push(SUITE);
    record.extend_from_slice(&kek.version().to_be_bytes());
    record.extend_from_slice(wrap_nonce);
    record.extend_from_slice(&wrapped_dek);
    record.extend_from_slice(&commitment);
    record.extend_from_slice(nonce);
    record.extend_from_slice(&ciphertext);
    Ok(Sealed(record))
}

/// Opens a record that was sealed for `place`. The key is the one that the record names, never a guess.
pub(super) fn open(
    keyring: &Keyring,
    vault: Uid,
    place: &Place,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let parts = sealed.parts()?;
    let kek = keyring.get(parts.kek_version).ok_or(Error::UnknownKey(parts.kek_version))?;
    let aad = place.aad(vault, SUITE, Layer::Wrap { kek_version: parts.kek_version });
    let dek = decrypt(kek.cipher(), parts.wrap_nonce, parts.wrapped_dek, &aad)?;
    let dek = dek.first_chunk::<32>().ok_or(Error::Damaged)?;

    let aad = place.aad(vault, SUITE, Layer::Data);
    let (key, commitment) = data_keys(dek, &aad, parts.nonce);
    if !equal(&commitment, parts.commitment) {
        return Err(Error::Damaged);
    }
    decrypt(&key, parts.nonce, parts.ciphertext, &aad)
}

fn data_keys(dek: &[u8; 32], aad: &[u8; 32], nonce: &[u8; 12]) -> (Aes256Gcm, [u8; 32]) {
    const FITS: &str = "32 bytes are below HKDF's limit of 8,160";
    let hkdf = Hkdf::<Sha256>::new(Some(b"credvault/v1"), dek);
    let mut key = Zeroizing::new([0_u8; 32]);
    hkdf.expand_multi_info(&[b"enc", aad], key.as_mut_slice()).expect(FITS);
    let mut commitment = [0; 32];
    hkdf.expand_multi_info(&[b"commit", aad, nonce], &mut commitment).expect(FITS);
    (Aes256Gcm::new((&*key).into()), commitment)
}

pub(super) fn encrypt(key: &Aes256Gcm, nonce: &[u8; 12], msg: &[u8], aad: &[u8]) -> Vec<u8> {
    key.encrypt(&Nonce::from(*nonce), Payload { msg, aad })
        .expect("a message far below AES-GCM's limit of 64 GiB")
}

/// Allocating on purpose: the in-place form leaves plaintext behind on failure (RUSTSEC-2023-0096).
pub(super) fn decrypt(
    key: &Aes256Gcm,
    nonce: &[u8; 12],
    msg: &[u8],
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    key.decrypt(&Nonce::from(*nonce), Payload { msg, aad })
        .map(Zeroizing::new)
        .map_err(|_| Error::Damaged)
}
