//! Providers: accounts at carriers, and what their carriers last said of the token.
//!
//! The token is not here: it exists as `crypto::Sealed` beside the provider, in the store. How a carrier
//! is asked is `upstream`'s business.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{Etag, Invalid, ProviderName, Uid, bounded_text};

bounded_text!(
    /// A name for people.
    DisplayName,
    |text| text.chars().count() <= 100 && !text.chars().any(char::is_control),
    "must be at most 100 characters without control characters"
);

/// A Twilio Account SID: `AC` and 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountSid(String);

impl AccountSid {
    /// Parses a SID.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("AC") {
            Some(digits) if is_lower_hex(digits, 32) => Ok(Self(text.to_owned())),
            _ => Err(Invalid("must be AC followed by 32 lower-case hexadecimal digits")),
        }
    }

    /// The SID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AccountSid {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<AccountSid> for String {
    fn from(sid: AccountSid) -> Self {
        sid.0
    }
}

/// Whether `text` is exactly `length` lower-case hexadecimal digits.
pub fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Which carrier, and which account there. Immutable. Stored as JSON with the type's name as its tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// A Twilio account.
    Twilio {
        /// Its SID.
        account_sid: AccountSid,
    },
}

impl Kind {
    /// The carrier alone.
    pub fn provider_type(&self) -> ProviderType {
        match self {
            Self::Twilio { .. } => ProviderType::Twilio,
        }
    }
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

/// The verdict of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No check has finished yet.
    Pending,
    /// Every check passed.
    Verified,
    /// The token works; a check beside it did not pass.
    Warning,
    /// The carrier refuses the token.
    Failed,
}

impl Status {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It passed.
    Passed,
    /// It did not pass.
    Failed,
    /// It was not made, because one before it failed.
    Skipped,
}

/// One named check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub status: CheckStatus,
    /// What it means and what to do. Our words, never the carrier's.
    pub message: String,
    /// When it ended.
    pub time: Timestamp,
}

/// The last verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The verdict.
    pub status: Status,
    /// When the carrier last answered.
    pub last_verify_time: Option<Timestamp>,
    /// The checks of which it consisted.
    pub checks: Vec<Check>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_sids_have_one_shape() {
        assert!(AccountSid::parse(&format!("AC{}", "0a".repeat(16))).is_ok());
        for bad in [
            "",
            "AC",
            &format!("AC{}", "0A".repeat(16)),
            &format!("SK{}", "0a".repeat(16)),
            &format!("AC{}0", "0a".repeat(16)),
            &format!(" AC{}", "0a".repeat(16)),
        ] {
            assert!(AccountSid::parse(bad).is_err(), "{bad:?}");
        }
    }
}
