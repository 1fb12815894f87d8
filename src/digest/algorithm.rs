//! The hashes of a digest, and the names that the header gives them.

use md5::Md5;
use sha2::{Sha256, Sha512_256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::name::Invalid;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    /// RFC 3261; every phone has it.
    Md5,
    /// RFC 8760.
    Sha256,
    /// RFC 8760: SHA-512/256 of FIPS 180-4, whose initial values differ from those of SHA-512. The example of RFC 7616
    /// §3.9.2 was made with a SHA-512 that was cut off, and is wrong (erratum 4897).
    Sha512_256,
}

/// The `algorithm` of a digest: a hash, and whether HA1 is bound to a session (`-sess`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm {
    hash: Hash,
    session: bool,
}

impl Algorithm {
    /// What no name means.
    pub const MD5: Self = Self { hash: Hash::Md5, session: false };

    /// All that there are, with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::MD5, "MD5"),
        (Self { hash: Hash::Md5, session: true }, "MD5-sess"),
        (Self { hash: Hash::Sha256, session: false }, "SHA-256"),
        (Self { hash: Hash::Sha256, session: true }, "SHA-256-sess"),
        (Self { hash: Hash::Sha512_256, session: false }, "SHA-512-256"),
        (Self { hash: Hash::Sha512_256, session: true }, "SHA-512-256-sess"),
    ];

    /// Parses the `algorithm` parameter; absent means MD5 (RFC 7616 §3.4).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let name = if text.is_empty() { "MD5" } else { text };
        let known = Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        known.map(|(algorithm, _)| *algorithm).ok_or(Invalid(
            "must be MD5 (also when empty), SHA-256 or SHA-512-256, or one of them with -sess",
        ))
    }

    /// Its name in a header.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    /// Whether HA1 is bound to nonce and cnonce.
    pub fn is_session(self) -> bool {
        self.session
    }

    /// Its place in [`Self::ALL`], for what is kept short.
    pub fn number(self) -> u8 {
        let place = Self::ALL.iter().position(|(known, _)| *known == self);
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
    }

    /// How many hexadecimal digits its hashes have.
    pub(super) fn digits(self) -> usize {
        match self.hash {
            Hash::Md5 => 32,
            Hash::Sha256 | Hash::Sha512_256 => 64,
        }
    }

    /// The hash of `parts` joined by `:`, as lower-case hexadecimal digits.
    pub(super) fn hash(self, parts: &[&str]) -> Zeroizing<String> {
        fn digest<D: sha2::Digest>(parts: &[&str]) -> Zeroizing<String> {
            let mut hash = D::new();
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    hash.update(b":");
                }
                hash.update(part.as_bytes());
            }
            let mut hash = hash.finalize();
            let digits = in_digits(&hash);
            // It may be as good as the password.
            hash.as_mut_slice().zeroize();
            digits
        }
        match self.hash {
            Hash::Md5 => digest::<Md5>(parts),
            Hash::Sha256 => digest::<Sha256>(parts),
            Hash::Sha512_256 => digest::<Sha512_256>(parts),
        }
    }

    /// The hash of a message's body, which need not be text.
    pub(super) fn hash_of_body(self, body: &[u8]) -> Zeroizing<String> {
        use sha2::Digest as _;
        match self.hash {
            Hash::Md5 => in_digits(&Md5::digest(body)),
            Hash::Sha256 => in_digits(&Sha256::digest(body)),
            Hash::Sha512_256 => in_digits(&Sha512_256::digest(body)),
        }
    }
}

fn in_digits(hash: &[u8]) -> Zeroizing<String> {
    let mut digits = vec![0; 2 * hash.len()];
    hex::encode_to_slice(hash, &mut digits).expect("two digits a byte");
    Zeroizing::new(String::from_utf8(digits).expect("digits are ASCII"))
}
