//! Behaviour of the service, through a real gRPC client, a real SQLite file and real processes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should stop there"
)]

mod credentials;
mod support;
