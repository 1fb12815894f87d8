//! Plaintext. Nothing here has Debug, Clone, Display, `PartialEq` or Serialize, and all of it is zeroized.
//!
//! Ciphertext has its own type, `crypto::Sealed`; the two never convert into each other without a key.

use zeroize::Zeroizing;

use crate::name::Invalid;

/// A secret in plaintext: a SIP password or a carrier's token.
#[expect(missing_debug_implementations, reason = "plaintext is never printed")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes ownership of a plaintext. The caller keeps no copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The plaintext, for the moment of its use. A fence (clippy.toml) lists who may call this.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A SIP password that is fit to be stored.
#[expect(missing_debug_implementations, reason = "plaintext is never printed")]
pub struct Password(SecretText);

impl Password {
    /// Checks a password that a caller chose: 8 to 128 characters (Vobiz: at least 8) of 0x20 to 0x7E.
    ///
    /// `"` and `\` are refused: they need escapes in a SIP digest header, which many phones get wrong.
    pub fn parse(text: String) -> Result<Self, Invalid> {
        let text = Zeroizing::new(text);
        let printable = text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\');
        if (8..=128).contains(&text.len()) && printable {
            Ok(Self(SecretText(text)))
        } else {
            Err(Invalid("must be 8 to 128 printable ASCII characters without \" and \\"))
        }
    }

    /// Wraps a password that the vault generated.
    pub fn from_generated(text: SecretText) -> Self {
        Self(text)
    }

    /// The password as plaintext to seal or to issue.
    pub fn into_text(self) -> SecretText {
        self.0
    }

    /// The password as plaintext to seal.
    pub fn as_text(&self) -> &SecretText {
        &self.0
    }
}

/// How long a generated password is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordLength(usize);

impl Default for PasswordLength {
    fn default() -> Self {
        Self(24)
    }
}

impl PasswordLength {
    /// 16 to 64 characters; 0 means 24.
    pub fn parse(length: u32) -> Result<Self, Invalid> {
        match length {
            0 => Ok(Self::default()),
            16..=64 => Ok(Self(usize::try_from(length).unwrap_or(24))),
            _ => Err(Invalid("must be 0 (meaning 24) or 16 to 64")),
        }
    }

    /// How many characters.
    pub fn characters(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_passwords_are_printable_and_long_enough() {
        for good in ["12345678", "pass word~!", &"x".repeat(128)] {
            assert!(Password::parse(good.to_owned()).is_ok(), "{good}");
        }
        for bad in
            ["", "1234567", "1234\"678", "1234\\678", "1234\n678", "pässwörd", &"x".repeat(129)]
        {
            assert!(Password::parse(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn length_is_bounded() {
        for (asked, got) in
            [(0, Some(24)), (16, Some(16)), (64, Some(64)), (1, None), (15, None), (65, None)]
        {
            assert_eq!(PasswordLength::parse(asked).ok().map(|length| length.0), got);
        }
    }
}
