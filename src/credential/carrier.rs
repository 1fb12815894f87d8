//! What a credential is at the carrier whose word on it counts.

use serde::{Deserialize, Serialize};

use crate::name::{ResourceId, Uid};
use crate::provider::telepath::TrunkId;
use crate::provider::twilio::{CredentialListSid, CredentialSid};
use crate::provider::vobiz::CredentialId;
use crate::provider::{Kind, ProviderType};

/// A credential's id at its carrier. Stored as JSON with the carrier's name as its tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CarrierCredential {
    /// A credential of a SIP Credential List.
    Twilio {
        /// The list.
        credential_list_sid: CredentialListSid,
        /// The credential in it.
        credential_sid: CredentialSid,
    },
    /// A SIP credential.
    Vobiz {
        /// Its id.
        credential_id: CredentialId,
    },
    /// A trunk, which has one username and one password.
    Telepath {
        /// Its id.
        trunk_id: TrunkId,
    },
}

impl CarrierCredential {
    /// The carrier that it is at.
    pub fn provider_type(&self) -> ProviderType {
        match self {
            Self::Twilio { .. } => ProviderType::Twilio,
            Self::Vobiz { .. } => ProviderType::Vobiz,
            Self::Telepath { .. } => ProviderType::Telepath,
        }
    }

    /// Whether it can be in an account of this kind.
    pub fn fits(&self, kind: &Kind) -> bool {
        self.provider_type() == kind.provider_type()
    }
}

/// Where a credential lives that does not live in the vault alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residence {
    /// The provider whose token opens the account there.
    pub provider: ResourceId,
    /// That provider itself.
    pub provider_uid: Uid,
    /// Its id there.
    pub at: CarrierCredential,
}

/// Who chooses a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chooser {
    /// The vault, and the carrier takes it.
    Vault,
    /// The carrier, which says it once.
    Carrier,
}
