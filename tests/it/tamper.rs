//! A writer of the database file who has no key: what does not belong where it lies is refused.
//!
//! - `tamper/swap.rs`: sealed records moved between rows, and old ones put back.
//! - `tamper/flip.rs`: single bits flipped, ten thousand times.
//! - `tamper/checksums.rs`: what was damaged before rows had checksums.
//! - `tamper/versions.rs`: a version of a password that does not open, beside one that does.

mod checksums;
mod flip;
mod swap;
mod versions;
