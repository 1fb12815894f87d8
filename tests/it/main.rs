//! Behaviour of the service, through a real gRPC client, a real SQLite file and real processes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]
#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests stand outside of the fences: they look at statuses and files, and say what they saw"
)]

mod access_tokens;
mod accounts;
mod at_carriers;
mod audit;
mod authorization;
mod bad_input;
mod canary;
mod carriers;
mod cli_access;
mod cli_audit;
mod cli_carriers;
mod cli_commands;
mod cli_connection;
mod cli_credentials;
mod cli_import;
mod cli_providers;
mod cli_recipients;
mod cli_rotations;
mod cli_terminal;
mod cli_tokens;
mod cli_watch;
mod contract;
mod crash;
mod credentials;
mod deletion;
mod descriptors;
mod dev_and_serve;
mod digests;
mod doctor;
mod door;
mod failed_digests;
mod health;
mod idempotency;
mod lists;
mod operations;
#[cfg(feature = "planted-defects")]
mod panics;
mod providers;
mod races;
mod refusals;
mod remnants;
mod rotations;
mod scheduled;
mod schedules;
mod sqlite;
mod stop;
mod support;
mod tamper;
mod tokens;
mod transcript;
mod upstream_faults;
mod upstream_transport;
mod verifications;
mod watch;
mod webhooks;
mod wire;
