//! Behaviour of the service, through a real gRPC client, a real SQLite file and real processes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should stop there"
)]
#![expect(clippy::disallowed_types, reason = "tests look at statuses and into the file itself")]

mod access;
mod audit;
mod bad_input;
mod credentials;
mod idempotency;
mod lists;
mod providers;
mod races;
mod support;
mod upstream_faults;
