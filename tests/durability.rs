//! Durability under fire: kill -9, power loss, I/O errors, a full disk.
//!
//! Not part of `cargo test`: it takes minutes, compiles a shim in C, and mounts a tmpfs. `.ci/run` runs it
//! against the release build, which it names in `CREDVAULT_BIN`, and its planted defects against a build
//! that has them. Each test prints its figures, and its seed if it has one. `DURABILITY_SEED` repeats the choices
//! of a seed: what is asked, when is the kill, which images are made. How threads meet is never repeated.

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

#[path = "durability/disk.rs"]
mod disk;
#[path = "durability/errors.rs"]
mod errors;
#[path = "durability/full.rs"]
mod full;
#[path = "durability/journal.rs"]
mod journal;
#[path = "durability/kill.rs"]
mod kill;
#[path = "durability/power.rs"]
mod power;

/// What is shared with `tests/it`.
#[path = "it"]
mod it {
    #[expect(dead_code, reason = "the other tests use the rest")]
    pub(crate) mod support;

    pub(crate) mod crash {
        mod oracle;
        pub(crate) mod rounds;
    }
}

use std::hash::{BuildHasher as _, RandomState};

use it::support;

/// `DURABILITY_SEED`, or one that no run had before.
#[expect(clippy::disallowed_methods, reason = "a test is told what to repeat")]
fn seed() -> u64 {
    let told = std::env::var("DURABILITY_SEED").ok();
    told.map_or_else(
        || RandomState::new().hash_one("seed"),
        |seed| {
            u64::from_str_radix(seed.trim_start_matches("0x"), 16)
                .expect("DURABILITY_SEED is hexadecimal")
        },
    )
}
