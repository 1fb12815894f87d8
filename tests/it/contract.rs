//! Contract suites: what every implementation of a joint must do.

mod accounts;
mod callers;
mod changes;
mod rotations;
pub(crate) mod samples;
mod store;
mod tokens;
mod verifications;
