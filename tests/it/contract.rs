//! Contract suites: what every implementation of a joint must do.

mod callers;
pub(crate) mod samples;
mod store;
mod verifications;
