//! What a provider at Twilio is: an account in one region, and the trunk in it that calls go through.

use serde::{Deserialize, Serialize};

use super::{FIXED, is_lower_hex};
use crate::name::Invalid;

macro_rules! sid {
    ($(#[$doc:meta])* $type:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Parses a SID.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                match text.strip_prefix($prefix) {
                    Some(digits) if is_lower_hex(digits, 32) => Ok(Self(text.to_owned())),
                    _ => Err(Invalid(concat!(
                        "must be ", $prefix, " followed by 32 lower-case hexadecimal digits"
                    ))),
                }
            }

            /// The SID as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(sid: $type) -> Self {
                sid.0
            }
        }
    };
}

sid!(
    /// A Twilio Account SID.
    AccountSid,
    "AC"
);
sid!(
    /// The SID of an Elastic SIP Trunk.
    TrunkSid,
    "TK"
);
sid!(
    /// The SID of a SIP Credential List.
    CredentialListSid,
    "CL"
);
sid!(
    /// The SID of a SIP credential in a list.
    CredentialSid,
    "CR"
);
sid!(
    /// The SID of an API key.
    ApiKeySid,
    "SK"
);

/// A Twilio region. Tokens and keys are valid in the one they were made in.
///
/// Each has one edge location: together they make the host (twilio.com/docs/global-infrastructure).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// United States, the default: its hosts name neither edge nor region.
    #[default]
    Us1,
    /// Ireland.
    Ie1,
    /// Australia.
    Au1,
    /// Japan.
    Jp1,
}

impl Region {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Us1, Self::Ie1, Self::Au1, Self::Jp1];

    /// Parses a region; empty means us1.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "" | "us1" => Ok(Self::Us1),
            "ie1" => Ok(Self::Ie1),
            "au1" => Ok(Self::Au1),
            "jp1" => Ok(Self::Jp1),
            "br1" | "de1" | "sg1" | "us2" => Err(Invalid(
                "is a region whose hosts Twilio retired: use us1, ie1, au1 or jp1, and a token made there",
            )),
            _ => Err(Invalid("must be us1, ie1, au1 or jp1")),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Us1 => "us1",
            Self::Ie1 => "ie1",
            Self::Au1 => "au1",
            Self::Jp1 => "jp1",
        }
    }

    /// The edge location in its hosts; empty for us1.
    pub fn edge(self) -> &'static str {
        match self {
            Self::Us1 => "",
            Self::Ie1 => "dublin",
            Self::Au1 => "sydney",
            Self::Jp1 => "tokyo",
        }
    }

    /// Whether `edge` may be said beside this region: its own, or none.
    pub fn check_edge(self, edge: &str) -> Result<(), Invalid> {
        if edge.is_empty() || edge == self.edge() {
            Ok(())
        } else {
            Err(Invalid(
                "must be the region's own: dublin (ie1), sydney (au1), tokyo (jp1), none for us1; or left out",
            ))
        }
    }
}

/// An account at Twilio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwilioAccount {
    /// Its SID. Immutable.
    pub account_sid: AccountSid,
    /// Where the token was made. Immutable.
    #[serde(default)]
    pub region: Region,
    /// The trunk that verifications look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Trunk>,
}

/// The SIP trunk of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// Its SID.
    pub sid: TrunkSid,
    /// The credential list that must be attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_list_sid: Option<CredentialListSid>,
}

/// What to change of an account. None: leave as it is.
#[derive(Debug, Default)]
pub struct TwilioChanges {
    /// The account that the caller takes it to be; another one is refused (immutable).
    pub account_sid: Option<AccountSid>,
    /// The region that the caller takes it to be in; another one is refused (immutable).
    pub region: Option<Region>,
    /// The edge that the caller takes it to have; another one is refused.
    pub edge: Option<String>,
    /// The trunk, or none.
    pub sip_trunk_sid: Option<Option<TrunkSid>>,
    /// The credential list, or none.
    pub credential_list_sid: Option<Option<CredentialListSid>>,
}

impl TwilioAccount {
    /// An account with what a caller said of its trunk.
    pub fn new(
        account_sid: AccountSid,
        region: Region,
        sip_trunk_sid: Option<TrunkSid>,
        credential_list_sid: Option<CredentialListSid>,
    ) -> Result<Self, (&'static str, Invalid)> {
        let trunk = match (sip_trunk_sid, credential_list_sid) {
            (Some(sid), credential_list_sid) => Some(Trunk { sid, credential_list_sid }),
            (None, None) => None,
            (None, Some(_)) => {
                let rule = Invalid("needs sip_trunk_sid: set both, or clear both");
                return Err(("credential_list_sid", rule));
            }
        };
        Ok(Self { account_sid, region, trunk })
    }

    /// The account after `changes`, or the field at fault.
    pub fn changed(&self, changes: &TwilioChanges) -> Result<Self, (&'static str, Invalid)> {
        if changes.account_sid.as_ref().is_some_and(|sid| *sid != self.account_sid) {
            return Err(("account_sid", FIXED));
        }
        if changes.region.is_some_and(|region| region != self.region) {
            return Err(("region", FIXED));
        }
        if let Some(edge) = &changes.edge {
            self.region.check_edge(edge).map_err(|problem| ("edge", problem))?;
        }
        let trunk = self.trunk.as_ref();
        let sip_trunk_sid =
            changes.sip_trunk_sid.clone().unwrap_or_else(|| trunk.map(|trunk| trunk.sid.clone()));
        let credential_list_sid = changes
            .credential_list_sid
            .clone()
            .unwrap_or_else(|| trunk.and_then(|trunk| trunk.credential_list_sid.clone()));
        Self::new(self.account_sid.clone(), self.region, sip_trunk_sid, credential_list_sid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sids_have_one_shape() {
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

    #[test]
    fn regions_parse_what_they_print_and_take_no_foreign_edge() {
        for region in Region::ALL {
            assert_eq!(Region::parse(region.as_str()), Ok(region));
            assert_eq!(region.check_edge(""), Ok(()));
            for other in Region::ALL {
                let fits = other == region || other == Region::Us1;
                assert_eq!(region.check_edge(other.edge()).is_ok(), fits, "{region:?} {other:?}");
            }
        }
        assert!(Region::parse("de1").unwrap_err().0.contains("retired"));
        assert!(Region::parse("US1").is_err());
    }

    #[test]
    fn an_account_stored_before_regions_and_trunks_reads_as_one_in_us1_without_a_trunk() {
        let sid = format!("AC{}", "0a".repeat(16));
        let account: TwilioAccount =
            serde_json::from_str(&format!("{{\"account_sid\":\"{sid}\"}}")).unwrap();
        assert_eq!((account.region, account.trunk), (Region::Us1, None));
    }
}
