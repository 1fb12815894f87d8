//! What a provider at Vobiz is: an account.

use serde::{Deserialize, Serialize};

use super::path_id;

path_id!(
    /// The Auth ID of a Vobiz account, such as `MA_XXXXXXXX`.
    AuthId,
    "must be 1 to 64 letters, digits, underscores and hyphens, such as MA_XXXXXXXX"
);
path_id!(
    /// The id of a SIP credential at Vobiz, such as `a1b2c3d4-e5f6-7890-abcd-ef1234567890`.
    CredentialId,
    "must be 1 to 64 letters, digits, underscores and hyphens: the id that Vobiz shows for the credential"
);

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
