//! Resource names, ids and etags: parsed once at the edge, typed from there on.
//!
//! Knows the shape of names only. Whether a resource exists, and for whom, is not decided here.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a value from outside is not acceptable, in words for the person who sent it.
///
/// Never contains the value itself, so that a secret in the wrong field is not echoed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// The last part of a resource name: `[a-z][a-z0-9-]{2,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceId(Box<str>);

impl ResourceId {
    /// Parses an id that a caller chose.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let shaped = (3..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if shaped {
            Ok(Self(text.into()))
        } else {
            Err(Invalid(
                "must be 3 to 63 characters: a lower-case letter, then lower-case letters, digits and hyphens",
            ))
        }
    }

    /// An id for a resource whose creator chose none: the time in milliseconds and 80 random bits, in hexadecimal.
    /// So lists have them in the order in which they were made, and what was made together lies together.
    pub fn made_at(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(format!("x{millis:012x}{}", hex::encode(random)).into())
    }

    /// The id that stands for an API token among those of other resources.
    pub fn of_token(id: [u8; 12]) -> Self {
        Self(format!("t{}", hex::encode(id)).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ResourceId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The internal identity of an account, credential, provider or vault: 128 random bits, never reused.
///
/// Ciphertext is bound to it, so a resource that is deleted and created again under the same name
/// cannot be confused with its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid([u8; 16]);

impl Uid {
    /// No resource has this one: it stands for "the vault as a whole".
    pub const ZERO: Self = Self([0; 16]);

    /// Wraps 16 bytes, from the random source or from the store.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// `accounts/{account}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName(pub ResourceId);

impl AccountName {
    /// Parses a full account name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("must have the form accounts/{account}");
        let id = text.strip_prefix("accounts/").ok_or(SHAPE)?;
        ResourceId::parse(id).map(Self).map_err(|_| SHAPE)
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accounts/{}", self.0)
    }
}

/// `accounts/{account}`, or `vault` for the vault itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerName {
    /// The vault itself.
    Vault,
    /// An account.
    Account(ResourceId),
}

impl OwnerName {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("must have the form accounts/{account}, or be vault");
        if text == "vault" {
            return Ok(Self::Vault);
        }
        AccountName::parse(text).map(|name| Self::Account(name.0)).map_err(|_| SHAPE)
    }
}

impl fmt::Display for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault => f.write_str("vault"),
            Self::Account(id) => write!(f, "accounts/{id}"),
        }
    }
}

/// Declares the name of what lies in an account.
macro_rules! child_name {
    ($(#[$doc:meta])* $type:ident, $collection:literal, $shape:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $type {
            /// The account that owns it.
            pub account: $crate::name::ResourceId,
            /// Its id within the account.
            pub id: $crate::name::ResourceId,
        }

        impl $type {
            /// Parses a full name.
            pub fn parse(text: &str) -> Result<Self, $crate::name::Invalid> {
                use $crate::name::{Invalid, ResourceId};
                const SHAPE: Invalid = Invalid(concat!("must have the form ", $shape));
                let rest = text.strip_prefix("accounts/").ok_or(SHAPE)?;
                let (account, rest) = rest.split_once('/').ok_or(SHAPE)?;
                let id = rest.strip_prefix(concat!($collection, "/")).ok_or(SHAPE)?;
                Ok(Self {
                    account: ResourceId::parse(account).map_err(|_| SHAPE)?,
                    id: ResourceId::parse(id).map_err(|_| SHAPE)?,
                })
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!("accounts/{}/", $collection, "/{}"), self.account, self.id)
            }
        }
    };
}
pub(crate) use child_name;

child_name!(
    /// `accounts/{account}/credentials/{credential}`.
    CredentialName,
    "credentials",
    "accounts/{account}/credentials/{credential}"
);
child_name!(
    /// `accounts/{account}/providers/{provider}`.
    ProviderName,
    "providers",
    "accounts/{account}/providers/{provider}"
);

/// An opaque mark of a resource's state (AIP-154), quoted as RFC 9110 asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// The etag of a resource at a revision. The identity is part of it: a resource that was deleted and
    /// created again does not have the etags of its predecessor.
    pub fn of(uid: &Uid, revision: u64) -> Self {
        let mark = uid.as_bytes().first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
        Self(format!("\"{mark:08x}.{revision}\""))
    }

    /// What a caller expects. Any text: one that no state ever had simply does not match.
    pub fn expected(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Declares a text type with its rule; past the edge nothing is a raw `String`.
macro_rules! bounded_text {
    ($(#[$doc:meta])* $type:ident, $accept:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Box<str>);

        impl $type {
            #[doc = concat!("Parses it; the rule: ", $rule, ".")]
            pub fn parse(text: &str) -> Result<Self, $crate::name::Invalid> {
                let accept: fn(&str) -> bool = $accept;
                if accept(text) {
                    Ok(Self(text.into()))
                } else {
                    Err($crate::name::Invalid($rule))
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}
pub(crate) use bounded_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_shape() {
        for good in
            ["abc", "a-1", "x23456789012345678901234567890123456789012345678901234567890123"]
        {
            assert!(ResourceId::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "ab", "1ab", "-ab", "Abc", "a_b", "a/b", "a b", "ab\n", "aé1", &"a".repeat(64)]
        {
            assert!(ResourceId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn made_ids_are_ids_and_lie_in_the_order_of_their_times() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let made =
            [(at(0), [255; 10]), (at(15), [1; 10]), (at(16), [0; 10]), (Timestamp::MAX, [0; 10])];
        let ids = made.map(|(time, random)| ResourceId::made_at(time, random));
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(
            ids.iter().all(|id| id.as_str().len() == 33 && ResourceId::parse(id.as_str()).is_ok())
        );
    }

    #[test]
    fn names_parse_what_they_print() {
        let text = "accounts/acme/credentials/desk-1";
        assert_eq!(CredentialName::parse(text).unwrap().to_string(), text);
        for bad in [
            "",
            "accounts/acme",
            "accounts/acme/providers/x11",
            "accounts//credentials/abc",
            "accounts/acme/credentials/abc/",
            "/accounts/acme/credentials/abc",
        ] {
            assert!(CredentialName::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(AccountName::parse("accounts/acme").unwrap().to_string(), "accounts/acme");
        assert!(AccountName::parse("accounts/acme/x").is_err());
    }
}
