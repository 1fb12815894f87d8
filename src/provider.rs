//! Providers: accounts at carriers, and what their carriers last said of the token.
//!
//! The token is not here: it exists as `crypto::Sealed` beside the provider, in the store. How a carrier
//! is asked is `upstream`'s business; what its answers make of the status is decided in `verification`.

pub mod twilio;
mod verification;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::twilio::{ApiKeySid, TwilioAccount};
pub use self::verification::{
    Check, CheckStatus, Facts, Refusal, Status, Survey, Verdict, Verification, check_name,
};
use crate::name::{Etag, ProviderName, Uid, bounded_text};
use crate::secret::SecretText;

bounded_text!(
    /// A name for people.
    DisplayName,
    |text| text.chars().count() <= 100 && !text.chars().any(char::is_control),
    "must be at most 100 characters without control characters"
);

/// Whether `text` is exactly `length` lower-case hexadecimal digits.
pub fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Which carrier, and which account there. Stored as JSON with the type's name as its tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// A Twilio account.
    Twilio(TwilioAccount),
}

impl Kind {
    /// The carrier alone.
    pub fn provider_type(&self) -> ProviderType {
        match self {
            Self::Twilio(_) => ProviderType::Twilio,
        }
    }
}

/// What kind of secret the stored token is. Stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TokenKind {
    /// The account's own token, as in Twilio's Auth Token.
    #[default]
    AuthToken,
    /// A Twilio API key.
    ApiKey {
        /// Its public part.
        sid: ApiKeySid,
    },
}

/// A token as it is used at a carrier.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Token {
    /// What kind of secret it is.
    pub kind: TokenKind,
    /// The secret itself.
    pub secret: SecretText,
}

/// A carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderType {
    /// Twilio.
    Twilio,
}

impl ProviderType {
    /// As stored, equal to [`Kind`]'s tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
        }
    }
}

/// A provider as it is configured now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Internal identity; the sealed token is bound to it.
    pub uid: Uid,
    /// Full name.
    pub name: ProviderName,
    /// A name for people.
    pub display_name: DisplayName,
    /// Which carrier and account.
    pub kind: Kind,
    /// What kind of secret the token is.
    pub token_kind: TokenKind,
    /// What the carrier last said.
    pub verification: Verification,
    /// Version of the stored token, from 1; never reused.
    pub token_version: u64,
    /// Counts changes of configuration and token, not verifications; what the etag is made of.
    pub revision: u64,
    /// When the stored token was set.
    pub token_update_time: Timestamp,
    /// When it was created.
    pub create_time: Timestamp,
    /// When configuration or token last changed.
    pub update_time: Timestamp,
}

impl Provider {
    /// The etag of this state.
    pub fn etag(&self) -> Etag {
        Etag::of(&self.uid, self.revision)
    }
}

/// Which providers to list. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct ProviderFilter {
    /// Only this carrier.
    pub provider_type: Option<ProviderType>,
    /// Only those whose last verification ended so.
    pub status: Option<Status>,
}
