//! Drives the release binary with grpcurl, as a person does.

fn main() {}
