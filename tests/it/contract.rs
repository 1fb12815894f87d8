//! Contract suites: what every implementation of a joint must do.

pub(crate) mod samples;
mod store;
mod verifications;
