//! P1, P2, P10, P11: what a server answers per second, next to another that does less.

use crate::calls::{self, Work};
use crate::load::Outcome;
use crate::rows::{Report, each, float, median};
use crate::server::Server;
use crate::{Bench, CALLERS};

impl Bench {
    /// P1, P2: a vault with many credentials next to a bare echo.
    pub(crate) async fn against_echo(&self, vault: &Server, echo: &Server, report: &mut Report) {
        let credentials = self.options.credentials;
        for (id, work) in [("P1", calls::get(credentials)), ("P2", calls::verify(credentials))] {
            if !self.options.wants(&[id]) {
                continue;
            }
            let (mut ours, mut theirs, mut random) = (vec![], vec![], vec![]);
            for _ in 0..self.options.rounds {
                ours.push(self.throughput(vault, &work).await);
                theirs.push(self.throughput(echo, &calls::get(credentials)).await);
                random.push(self.load(vault, &work, CALLERS).await);
            }
            report.add_ratio(id, &ours, &theirs, &self.how(&random));
        }
    }

    /// P10, P11: three small vaults, of which one encrypts and one writes a line for each call.
    pub(crate) async fn against_plain(&self, report: &mut Report) {
        const CREDENTIALS: u64 = 1_000;
        let work = calls::get(CREDENTIALS);
        let plain = self.yard.vault("plain");
        let encrypted = self.yard.encrypted_vault("encrypted");
        let (logging, lines) = self.yard.logging_vault("logging");
        for vault in [&plain, &encrypted, &logging] {
            vault.fill(0, CREDENTIALS).await;
        }
        let (mut bare, mut tls, mut logged) = (vec![], vec![], vec![]);
        for _ in 0..self.options.rounds {
            bare.push(self.throughput(&plain, &work).await);
            if self.options.wants(&["P10"]) {
                tls.push(self.throughput(&encrypted, &work).await);
            }
            if self.options.wants(&["P11"]) {
                let before = count_lines(&lines);
                let rate = self.throughput(&logging, &work).await;
                let written = count_lines(&lines) - before;
                assert!(
                    float(written) > rate * self.options.round.as_secs_f64() * 0.9,
                    "{written} lines"
                );
                logged.push(rate);
            }
        }
        if !tls.is_empty() {
            report.add_ratio("P10", &tls, &bare, self.loader());
        }
        if !logged.is_empty() {
            report.add_ratio(
                "P11",
                &logged,
                &bare,
                &format!("{}, to a file in memory", self.loader()),
            );
        }
    }

    /// Answers per second to one question, by h2load; without it to all of them.
    pub(crate) async fn throughput(&self, server: &Server, work: &Work) -> f64 {
        let warm = self.short_load(server, work, CALLERS).await;
        if self.h2load.is_none() {
            return self.load(server, work, CALLERS).await.rate;
        }
        let (dir, round) = (&self.yard.dir, self.options.round);
        crate::h2load::rate(dir, &server.target, work, CALLERS, round, warm.size)
    }

    /// How a ratio to the echo was measured, and what came of `random`.
    pub(crate) fn how(&self, random: &[Outcome]) -> String {
        let rate = median(&each(random, |outcome| outcome.rate));
        let p99 = median(&each(random, |outcome| outcome.p99_micros));
        let loader = self.loader();
        format!("{loader}; random keys, each answer checked: {rate:.0} per s, p99 {p99:.0} µs")
    }

    fn loader(&self) -> &'static str {
        if self.h2load.is_some() { "h2load, one key" } else { "own load, as there is no h2load" }
    }

    /// What the bare echo is: so that nobody has to guess.
    pub(crate) async fn describe_echo(&self, vault: &Server, echo: &Server, report: &mut Report) {
        let work = calls::get(self.options.credentials);
        let size = self.short_load(echo, &work, 1).await.size;
        let own = self.short_load(vault, &work, 1).await.size;
        assert!(size.abs_diff(own) < 20, "the echo answers {size} bytes, the vault {own}");
        report.notes.push(format!(
            "The bare echo is a unary call of a stock tonic server that answers {size} bytes: the same build \
             profile, allocator and runtime as the vault, whose answers have {own}; one worker each."
        ));
    }
}

fn count_lines(file: &std::path::Path) -> u64 {
    let text = std::fs::read(file).unwrap();
    u64::try_from(text.split(|byte| *byte == b'\n').count()).unwrap()
}
