//! What a provider at Vobiz is: an account.

use serde::{Deserialize, Serialize};

use crate::name::Invalid;

/// The Auth ID of a Vobiz account, such as `MA_XXXXXXXX`.
///
/// Vobiz publishes examples and no rule, so this one only makes it safe in a URL's path and in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuthId(String);

impl AuthId {
    /// Parses an Auth ID.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let shaped = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if shaped {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid(
                "must be 1 to 64 letters, digits, underscores and hyphens, such as MA_XXXXXXXX",
            ))
        }
    }

    /// The Auth ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AuthId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<AuthId> for String {
    fn from(id: AuthId) -> Self {
        id.0
    }
}

/// An account at Vobiz.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VobizAccount {
    /// Its Auth ID. Immutable.
    pub auth_id: AuthId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auth_id_stays_in_its_segment_and_its_header() {
        for good in ["MA_XXXXXXXX", "a", "SA-1", &"x".repeat(64)] {
            assert!(AuthId::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a?b", "a%2fb", "a\r\nb", "ä", &"x".repeat(65)] {
            assert!(AuthId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
