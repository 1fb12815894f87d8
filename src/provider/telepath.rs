//! What a provider at Telepath is.

use serde::{Deserialize, Serialize};

/// An account at Telepath. Its token, an API key, is all that says which: no id of an account is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelepathAccount {}
