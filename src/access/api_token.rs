//! The format of API tokens.
//!
//! ```text
//! cv1_{id, 24 hex}_{secret, 64 hex}_{first 8 hex of SHA-256 of all before}
//! ```
//!
//! The checksum lets a scanner recognise a leaked token, and lets a mistyped one be refused without a
//! look-up. What is stored is a keyed hash of the secret, never the token.

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Role;
use crate::name::{Invalid, OwnerName, ResourceId};
use crate::provider::DisplayName;
use crate::secret::SecretText;

/// The public part of a token, by which it is found, listed and audited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 12]);

impl TokenId {
    /// Wraps 12 random bytes.
    pub fn from_random(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// Parses an id as it is printed: it has one spelling.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut id = Self([0; 12]);
        match hex::decode_to_slice(text, &mut id.0) {
            Ok(()) if !text.bytes().any(|b| b.is_ascii_uppercase()) => Ok(id),
            _ => Err(Invalid("must be 24 hexadecimal digits, in lower case")),
        }
    }

    /// The id under which a request is remembered that made it.
    pub fn as_resource_id(&self) -> ResourceId {
        ResourceId::of_token(self.0)
    }

    /// The principal that this token stands for.
    pub fn principal(&self) -> String {
        format!("token:{self}")
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text_of(&mut [0; 24], &self.0))
    }
}

/// `{owner}/apiTokens/{token}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenName {
    /// The account, or the vault.
    pub owner: OwnerName,
    /// The token's public part.
    pub id: TokenId,
}

impl ApiTokenName {
    /// Parses a full name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid(
            "must have the form accounts/{account}/apiTokens/{token} or vault/apiTokens/{token}",
        );
        let (owner, id) = text.split_once("/apiTokens/").ok_or(SHAPE)?;
        let owner = OwnerName::parse(owner).map_err(|_| SHAPE)?;
        Ok(Self { owner, id: TokenId::parse(id).map_err(|_| SHAPE)? })
    }
}

impl fmt::Display for ApiTokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/apiTokens/{}", self.owner, self.id)
    }
}

/// What the vault knows of a token, besides the keyed hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMetadata {
    /// Its name.
    pub name: ApiTokenName,
    /// What it is for.
    pub display_name: DisplayName,
    /// Its roles with its owner.
    pub roles: Vec<Role>,
    /// When it was made.
    pub create_time: Timestamp,
    /// It is refused from then on.
    pub expire_time: Timestamp,
    /// When it was revoked.
    pub revoke_time: Option<Timestamp>,
}

/// A token as its holder presents it.
#[expect(missing_debug_implementations, reason = "a token is a secret")]
pub struct ApiToken {
    /// The public part.
    pub id: TokenId,
    secret: Zeroizing<[u8; 32]>,
}

impl ApiToken {
    /// Puts a new token together.
    pub fn new(id: TokenId, secret: Zeroizing<[u8; 32]>) -> Self {
        Self { id, secret }
    }

    /// Parses a token; says only that it is none, not why.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("is not an API token");
        let (body, sum) = text.rsplit_once('_').ok_or(SHAPE)?;
        let (id, secret) =
            body.strip_prefix("cv1_").and_then(|rest| rest.split_once('_')).ok_or(SHAPE)?;
        let mut token = Self { id: TokenId([0; 12]), secret: Zeroizing::new([0; 32]) };
        hex::decode_to_slice(id, &mut token.id.0).map_err(|_| SHAPE)?;
        hex::decode_to_slice(secret, token.secret.as_mut_slice()).map_err(|_| SHAPE)?;
        if checksum(body, &mut [0; 8]) == sum { Ok(token) } else { Err(SHAPE) }
    }

    /// The token as text, to hand to its holder once.
    pub fn to_text(&self) -> SecretText {
        let secret = Zeroizing::new(hex::encode(self.secret.as_slice()));
        let body = Zeroizing::new(format!("cv1_{}_{}", self.id, *secret));
        SecretText::new(format!("{}_{}", *body, checksum(&body, &mut [0; 8])))
    }

    /// The secret part, to be hashed.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

fn checksum<'a>(body: &str, digits: &'a mut [u8; 8]) -> &'a str {
    let hash = Sha256::digest(body.as_bytes());
    text_of(digits, hash.first_chunk::<4>().expect("a hash of 32 bytes has four"))
}

/// Hexadecimal digits without an allocation: every call asks for some.
fn text_of<'a>(digits: &'a mut [u8], bytes: &[u8]) -> &'a str {
    hex::encode_to_slice(bytes, digits).expect("two digits a byte");
    str::from_utf8(digits).expect("digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "looks at the token that it made")]
    fn tokens_parse_what_they_print_and_nothing_else() {
        let token = ApiToken::new(TokenId([7; 12]), Zeroizing::new([9; 32]));
        let text = token.to_text();
        let text = text.expose();
        let again = ApiToken::parse(text).ok().unwrap();
        assert_eq!((again.id.clone(), again.secret()), (token.id.clone(), token.secret()));

        let mut flipped = text.to_owned();
        flipped.replace_range(30..31, if &text[30..31] == "0" { "1" } else { "0" });
        let long = format!("{text}0");
        for bad in [
            "",
            "_",
            "__",
            "cv1___",
            "cv1_00_00_00",
            &text[1..],
            &text[..text.len() - 1],
            &flipped,
            &long,
        ] {
            assert!(ApiToken::parse(bad).is_err(), "{bad}");
        }
    }
}
