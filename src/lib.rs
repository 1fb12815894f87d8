//! Credvault: a credential vault for telephony.
//!
//! The map, in dependency order; `docs/architecture.md` walks through it.
//!
//! | module | what it owns |
//! |---|---|
//! | [`name`], [`secret`], [`clock`], [`shares`] | names and ids; plaintext; the time; how many each may have |
//! | [`account`], [`credential`], [`provider`] | what exists |
//! | [`versions`], [`rotation`], [`recipient`] | how a secret is replaced, and who receives the new one |
//! | [`access`], [`audit`] | who may call, and what happened |
//! | [`crypto`], [`digest`], [`webhook`], [`access_token`] | sealing and opening; SIP digest; Twilio's signature and tokens |
//! | [`store`], [`upstream`] | what the vault remembers; carriers |
//! | [`vault`] | the operations, one file each |
//! | [`grpc`], [`server`] | the wire; the process |
//! | [`config`], [`telemetry`], [`cli`] | how people run it |
//!
//! The `#[expect(clippy::disallowed_…)]` below are the fences' gates: a grep for them lists who touches what.

#[expect(clippy::disallowed_methods, reason = "the only reader of the system time")]
pub mod clock;
pub mod name;
pub mod secret;
pub mod shares;

pub mod account;
pub mod credential;
pub mod provider;
pub mod recipient;
pub mod rotation;
pub mod versions;

pub mod access;
pub mod audit;

#[expect(clippy::disallowed_methods, reason = "signs with plaintext keys")]
pub mod access_token;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "turns plaintext into ciphertext and back, with the one AEAD"
)]
pub mod crypto;
#[expect(clippy::disallowed_methods, reason = "computes digests from plaintext passwords")]
pub mod digest;
#[expect(clippy::disallowed_methods, reason = "computes signatures from plaintext tokens")]
pub mod webhook;

#[expect(clippy::disallowed_types, reason = "the SQLite store holds connections")]
pub mod store;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "presents tokens to carriers, with the one HTTP client"
)]
pub mod upstream;

pub mod vault;

#[expect(clippy::disallowed_types, reason = "the wire speaks in statuses")]
pub mod grpc;
pub mod server;

pub mod cli;
pub mod config;
pub mod telemetry;

#[cfg_attr(
    feature = "planted-defects",
    expect(clippy::disallowed_methods, reason = "reads which defect a test build has")
)]
pub mod defect;
