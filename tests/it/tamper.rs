//! A writer of the database file who has no key: what does not belong where it lies is refused.
//!
//! - `tamper/swap.rs`: sealed records moved between rows, and old ones put back.
//! - `tamper/flip.rs`: single bits flipped, ten thousand times.
//! - `tamper/checksums.rs`: what was damaged before rows had checksums.

mod checksums;
mod flip;
mod swap;
