//! Attacks on the door: what strangers can do to a server, while one honest caller rotates passwords, one asks for health,
//! and one comes anew twice a second. And the same against a server with nothing but tonic's own.
//!
//! Not part of `cargo test`: it takes minutes, and both cores. `.ci/run` runs it against the release build, which it names in
//! `CREDVAULT_BIN`, and its planted defects against a build that has them; both with `--test-threads 1`. What is asserted of
//! the vault: no honest call fails or takes more than two seconds, memory comes back, and it idles afterwards. Of the stock
//! server: what is certain. The rest is printed, a row an attack and server.

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

#[path = "attacks/connections.rs"]
mod connections;
#[path = "attacks/descriptors.rs"]
mod descriptors;
#[path = "attacks/drain.rs"]
mod drain;
#[path = "attacks/floods.rs"]
mod floods;
#[path = "attacks/frames.rs"]
mod frames;
#[path = "attacks/honest.rs"]
mod honest;
#[path = "attacks/requests.rs"]
mod requests;
#[path = "attacks/stock.rs"]
mod stock;
#[path = "attacks/streams.rs"]
mod streams;
#[path = "attacks/target.rs"]
mod target;

/// What is shared with `tests/it`.
#[path = "it"]
mod it {
    #[expect(dead_code, reason = "the other tests use the rest")]
    pub(crate) mod support;
}

use std::time::Duration;

use honest::{Honest, Seen};
use it::support;
use target::{Peak, Target};

/// How long any honest call may take. Generous: it is about being served at all.
const LONGEST: Duration = Duration::from_secs(2);

/// What memory may stay in use after an attack, besides what was in use before.
const LEFT: u64 = 96 << 20;

/// A row of the table.
#[derive(Debug)]
struct Row {
    seen: Seen,
    before: u64,
    peak: u64,
    after: u64,
    /// Of one core, in percent.
    cpu: f64,
    idle: f64,
    alive: bool,
}

impl Row {
    /// Attacks a server while honest callers go on, and then looks whether it is as before.
    async fn of(target: &Target, attack: impl Future<Output = ()>) -> Self {
        let honest = Honest::start(target);
        let (before, cpu) = (target.memory(), target.cpu());
        let peak = Peak::watch(target);
        attack.await;
        let cpu = cpu.since(target);
        let seen = honest.stop().await;
        let peak = peak.stop().await;
        let after = target.memory_at_most(before + LEFT, Duration::from_secs(30)).await;
        let idle = target.cpu();
        target::pass(Duration::from_secs(1)).await;
        let idle = idle.since(target);
        Self { seen, before, peak, after, cpu, idle, alive: target.is_alive() }
    }

    fn print(&self, attack: &str, server: &str, found: &str) {
        static HEAD: std::sync::Once = std::sync::Once::new();
        HEAD.call_once(|| {
            println!(
                "\n{:<24} {:<6} {:>5} {:>4} {:>7} {:>7} {:>7} {:>14} {:>5} {:>5}  found",
                "attack",
                "server",
                "calls",
                "errs",
                "p50 ms",
                "p99 ms",
                "max ms",
                "MiB b/peak/aft",
                "cpu %",
                "idle",
            );
        });
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let mib = |bytes: u64| bytes >> 20;
        println!(
            "\n{attack:<24} {server:<6} {:>5} {:>4} {:>7.1} {:>7.1} {:>7.1} {:>14} {:>5.0} {:>5.1}  {found}",
            self.seen.calls(),
            self.seen.errors.len(),
            ms(self.seen.quantile(0.5)),
            ms(self.seen.quantile(0.99)),
            ms(self.seen.quantile(1.0)),
            format!("{}/{}/{}", mib(self.before), mib(self.peak), mib(self.after)),
            self.cpu,
            self.idle,
        );
    }

    /// What is promised of the vault.
    #[track_caller]
    fn is_unharmed(&self) {
        assert!(self.seen.calls() > 20, "too few honest calls to prove anything: {self:?}");
        assert!(self.seen.errors.is_empty(), "honest calls failed: {:?}", self.seen.errors);
        assert!(
            self.seen.quantile(1.0) < LONGEST,
            "an honest call took {:?}",
            self.seen.quantile(1.0)
        );
        assert!(
            self.after <= self.before + LEFT,
            "memory stays: {} bytes, {} before",
            self.after,
            self.before
        );
        assert!(self.idle < 10.0, "it does not idle: {} % of a core", self.idle);
        assert!(self.alive, "it is gone");
    }
}
