//! Providers: accounts at carriers, and what their carriers last said of the token.
//!
//! The token is not here: it exists as `crypto::Sealed` beside the provider, in the store. How a carrier
//! is asked is `upstream`'s business; what its answers make of the status is decided in `verification`.

pub mod telepath;
pub mod twilio;
mod verification;
pub mod vobiz;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::telepath::TelepathAccount;
use self::twilio::{ApiKeySid, TwilioAccount, TwilioChanges};
pub use self::verification::{
    Check, CheckStatus, Facts, Refusal, Status, Survey, Verdict, Verification, check_name,
};
use self::vobiz::{AuthId, VobizAccount};
use crate::name::{Etag, Invalid, ProviderName, Uid, bounded_text};
use crate::secret::SecretText;
use crate::versions::Versions;

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

/// An id of a carrier that publishes examples and no rule. What it may hold makes it safe in a URL's path and in a
/// header.
macro_rules! path_id {
    ($(#[$doc:meta])* $type:ident, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Parses an id.
            pub fn parse(text: &str) -> Result<Self, crate::name::Invalid> {
                let shaped = (1..=64).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                if shaped { Ok(Self(text.to_owned())) } else { Err(crate::name::Invalid($rule)) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = crate::name::Invalid;

            fn try_from(text: String) -> Result<Self, crate::name::Invalid> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0
            }
        }
    };
}

use path_id;

/// Which carrier, and which account there. Stored as JSON with the type's name as its tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// A Twilio account.
    Twilio(TwilioAccount),
    /// A Vobiz account.
    Vobiz(VobizAccount),
    /// A Telepath account.
    Telepath(TelepathAccount),
}

/// What a change of a provider says of its kind: only what the caller named.
#[derive(Debug, Default)]
pub enum KindChanges {
    /// Nothing.
    #[default]
    None,
    /// That it is at Twilio, and this of it.
    Twilio(TwilioChanges),
    /// That it is at Vobiz, and this account there.
    Vobiz(Option<AuthId>),
    /// That it is at Telepath.
    Telepath,
}

/// A field of a kind that is immutable.
const FIXED: Invalid = Invalid("is immutable: create another provider and delete this one");

impl Kind {
    /// The carrier alone.
    pub fn provider_type(&self) -> ProviderType {
        match self {
            Self::Twilio(_) => ProviderType::Twilio,
            Self::Vobiz(_) => ProviderType::Vobiz,
            Self::Telepath(_) => ProviderType::Telepath,
        }
    }

    /// The kind after `changes`, or the field at fault.
    pub fn changed(&self, changes: &KindChanges) -> Result<Self, (String, Invalid)> {
        let elsewhere = |named: ProviderType| {
            let rule = Invalid(
                "is not this provider's carrier, which is immutable: create another provider",
            );
            Err((named.as_str().to_owned(), rule))
        };
        match (self, changes) {
            (_, KindChanges::None) | (Self::Telepath(_), KindChanges::Telepath) => Ok(self.clone()),
            (Self::Twilio(account), KindChanges::Twilio(changes)) => account
                .changed(changes)
                .map(Self::Twilio)
                .map_err(|(field, problem)| (format!("twilio.{field}"), problem)),
            (Self::Vobiz(account), KindChanges::Vobiz(auth_id)) => {
                if auth_id.as_ref().is_some_and(|id| *id != account.auth_id) {
                    return Err(("vobiz.auth_id".to_owned(), FIXED));
                }
                Ok(self.clone())
            }
            (_, KindChanges::Twilio(_)) => elsewhere(ProviderType::Twilio),
            (_, KindChanges::Vobiz(_)) => elsewhere(ProviderType::Vobiz),
            (_, KindChanges::Telepath) => elsewhere(ProviderType::Telepath),
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
    /// Vobiz.
    Vobiz,
    /// Telepath.
    Telepath,
}

impl ProviderType {
    /// As stored, equal to [`Kind`]'s tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Vobiz => "vobiz",
            Self::Telepath => "telepath",
        }
    }
}

/// Why a carrier did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objection {
    /// It does not take the token, or serves its account no more.
    Token(Refusal),
    /// It has no such credential.
    NotFound,
    /// It does not take such a password.
    Password,
    /// The token may not do this.
    NotAllowed,
    /// It did not like the request, and what it says of why is not known here.
    Other,
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
    /// Version of the active token, from 1; never reused.
    pub token_version: u64,
    /// The tokens before it, and one that is to take its place.
    pub versions: Versions,
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

    /// Whether this version is the active one or is to take its place. One that was replaced is dead at the carrier.
    pub fn holds(&self, version: u64) -> bool {
        let pending = self.versions.pending();
        version == self.token_version || pending.is_some_and(|it| it.number == version)
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
    fn a_kind_is_stored_under_the_name_of_its_type() {
        let auth_id = AuthId::parse("MA_XXXXXXXX").unwrap();
        let sid = format!("AC{}", "0".repeat(32));
        let twilio = format!(r#"{{"type":"twilio","account_sid":"{sid}","region":"us1"}}"#);
        for (kind, stored) in [
            (Kind::Vobiz(VobizAccount { auth_id }), r#"{"type":"vobiz","auth_id":"MA_XXXXXXXX"}"#),
            (Kind::Telepath(TelepathAccount {}), r#"{"type":"telepath"}"#),
            (serde_json::from_str(&twilio).unwrap(), twilio.as_str()),
        ] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Kind>(stored).unwrap(), kind);
            assert!(stored.contains(&format!(r#""type":"{}""#, kind.provider_type().as_str())));
        }
        assert!(serde_json::from_str::<Kind>(r#"{"type":"vobiz","auth_id":"../x"}"#).is_err());
        assert!(serde_json::from_str::<Kind>(r#"{"type":"other"}"#).is_err());
    }
}
