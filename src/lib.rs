//! Credvault: a credential vault for telephony.

pub mod name;
pub mod secret;
pub mod clock;
pub mod account;
pub mod credential;
pub mod provider;
pub mod crypto;
