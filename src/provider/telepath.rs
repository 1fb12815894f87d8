//! What a provider at Telepath is.

use serde::{Deserialize, Serialize};

use super::path_id;

path_id!(
    /// The id of a trunk at Telepath, such as `conn_abc123xyz`.
    TrunkId,
    "must be 1 to 64 letters, digits, underscores and hyphens, such as conn_abc123xyz"
);

/// An account at Telepath. Its token, an API key, is all that says which: no id of an account is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelepathAccount {}
