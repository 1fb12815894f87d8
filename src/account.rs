//! Accounts: the wall between teams. Everything a caller stores belongs to exactly one.

use jiff::Timestamp;

use crate::name::{ResourceId, Uid};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Internal identity; ciphertext is bound to it.
    pub uid: Uid,
    /// What callers call it: the `{account}` of `accounts/{account}`.
    pub id: ResourceId,
    /// A disabled account answers nothing but `ACCOUNT_DISABLED`.
    pub disabled: bool,
    /// Whether new secrets leave only sealed for an enrolled recipient key.
    pub enrolled_keys_only: bool,
    /// When it was created.
    pub create_time: Timestamp,
}
