//! Credvault: a credential vault for telephony.

pub mod access;
pub mod account;
pub mod audit;
pub mod clock;
pub mod credential;
pub mod crypto;
pub mod defect;
pub mod digest;
pub mod name;
pub mod provider;
pub mod secret;
pub mod store;
pub mod upstream;
