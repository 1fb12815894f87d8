//! SIP credentials: who authenticates where, without the password.
//!
//! The password is not here: it exists as `crypto::Sealed` beside the credential, in the store.

mod carrier;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::name::{CredentialName, Etag, Invalid, ResourceId, Uid, bounded_text};
use crate::provider::ProviderType;
use crate::rotation::policy::Schedule;
use crate::rotation::sweep::{self, Block, Item};
use crate::versions::{State, Versions};
pub use carrier::{CarrierCredential, Chooser, Residence};

/// What a SIP username and a realm are made of: `:` would make HA1 ambiguous, `"` and `\` would need
/// escapes in the digest header, a space splits it.
fn is_sip_text(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b':' | b'"' | b'\\'))
}

bounded_text!(
    /// A SIP username, unique within account and realm, immutable.
    Username,
    is_sip_text,
    "must be 1 to 128 printable ASCII characters without : \" \\ and space"
);
bounded_text!(
    /// A SIP realm, immutable.
    Realm,
    is_sip_text,
    "must be 1 to 128 printable ASCII characters without : \" \\ and space"
);
bounded_text!(
    /// Free text for people.
    Description,
    |text| text.chars().count() <= 1024
        && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'),
    "must be at most 1,024 characters without control characters"
);

/// Labels to find a credential by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Parses at most 32 labels.
    pub fn parse(labels: BTreeMap<String, String>) -> Result<Self, Invalid> {
        let key_ok = |key: &str| {
            (1..=63).contains(&key.len())
                && key.starts_with(|c: char| c.is_ascii_lowercase())
                && key.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-')
                })
        };
        let value_ok =
            |value: &str| value.chars().count() <= 255 && !value.chars().any(char::is_control);
        if labels.len() > 32 {
            return Err(Invalid("must be at most 32 labels"));
        }
        if !labels.keys().all(|key| key_ok(key)) {
            return Err(Invalid("each key must match [a-z][a-z0-9_.-]{0,62}"));
        }
        if !labels.values().all(|value| value_ok(value)) {
            return Err(Invalid(
                "each value must be at most 255 characters without control characters",
            ));
        }
        Ok(Self(labels))
    }

    /// The labels.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// A credential as it is configured now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Internal identity; the sealed password is bound to it.
    pub uid: Uid,
    /// Full name.
    pub name: CredentialName,
    /// SIP username.
    pub username: Username,
    /// SIP realm.
    pub realm: Realm,
    /// A disabled credential verifies nothing.
    pub enabled: bool,
    /// Free text.
    pub description: Description,
    /// Labels.
    pub labels: Labels,
    /// Version of the active password, from 1; never reused.
    pub version: u64,
    /// Counts changes of configuration and password; what the etag is made of.
    pub revision: u64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When configuration or password last changed.
    pub update_time: Timestamp,
    /// When the active password was set.
    pub rotate_time: Timestamp,
    /// The versions beside the active one.
    pub versions: Versions,
    /// At which carrier it lives. None: the vault's word on it counts.
    pub residence: Option<Residence>,
    /// When the vault rotates it by itself.
    pub schedule: Option<Schedule>,
}

impl Credential {
    /// Whether a version of its password verifies at `now`, if the credential is enabled.
    pub fn verifies(&self, version: u64, now: Timestamp) -> bool {
        let beside = || self.versions.iter().find(|it| it.number == version);
        version == self.version || beside().is_some_and(|it| it.verifies(now))
    }

    /// What its schedule sees of it, with what is in the way; None: it has no schedule.
    pub fn item(&self, block: Option<Block>) -> Option<Item<'_>> {
        // A version above the active one that is gone was given up before it became active.
        let given_up = self.versions.iter().rev().find_map(|version| match version.state {
            State::Destroyed { time } if version.number > self.version => Some(time),
            _ => None,
        });
        let (uid, last) = (self.uid, self.rotate_time);
        self.schedule.as_ref().map(|schedule| Item { uid, schedule, last, given_up, block })
    }

    /// When it is due by its schedule, whatever is in the way.
    pub fn next_rotation_time(&self) -> Option<Timestamp> {
        self.item(None).map(|item| sweep::due_time(&item))
    }

    /// The etag of this state.
    pub fn etag(&self) -> Etag {
        Etag::of(&self.uid, self.revision)
    }
}

/// Which credentials to list. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct CredentialFilter {
    /// Only enabled, or only disabled ones.
    pub enabled: Option<bool>,
    /// Only this realm.
    pub realm: Option<Realm>,
    /// Only usernames that start so.
    pub username_prefix: Option<Username>,
    /// Only those with all these labels.
    pub labels: Labels,
    /// Only those whose password was set before this.
    pub rotated_before: Option<Timestamp>,
    /// Only those that live at this provider.
    pub provider: Option<ResourceId>,
    /// Only those that live at this carrier.
    pub provider_type: Option<ProviderType>,
    /// Only those that are due by their schedule before this.
    pub due_before: Option<Timestamp>,
}

impl CredentialFilter {
    /// Where a list of what fits stands at a credential. It is ordered by username and id if usernames are asked for, and
    /// by id alone otherwise, as the positions are.
    pub fn position(&self, username: &str, id: &str) -> String {
        match self.username_prefix {
            // The space comes before every character of a username.
            Some(_) => format!("{username} {id}"),
            None => id.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_and_realms_cannot_confuse_a_digest() {
        for good in ["alice", "+15551234", "a@b", "sip.example.com", "!#$%&'()*+,-./;<=>?[]^_`{|}~"]
        {
            assert!(Username::parse(good).is_ok() && Realm::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a:b", "a\"b", "a\\b", "a b", "a\tb", "é", "a\0", &"x".repeat(129)] {
            assert!(Username::parse(bad).is_err() && Realm::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let one = |k: &str, v: &str| Labels::parse(BTreeMap::from([(k.to_owned(), v.to_owned())]));
        assert!(one("site", "berlin").is_ok() && one("a", "").is_ok());
        for (k, v) in [("", "x"), ("1a", "x"), ("A", "x"), ("a b", "x"), ("a", "\n")] {
            assert!(one(k, v).is_err(), "{k:?}={v:?}");
        }
        let many = (0..33).map(|i| (format!("k{i}"), String::new())).collect();
        assert!(Labels::parse(many).is_err());
    }
}
