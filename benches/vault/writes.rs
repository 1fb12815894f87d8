//! P3 to P8: rotations, durable, with a flush of 1 ms; next to a server that commits each by itself.

use futures_util::future::join;
use serde_json::json;

use crate::calls;
use crate::load::{self, End, Outcome};
use crate::rows::{Report, each, float, median};
use crate::server::Server;
use crate::{Bench, CALLERS};

const MANY_CALLERS: usize = 256;
const READERS: usize = 16;

/// Flushes of a server between two looks.
#[derive(Clone, Copy)]
struct Flushed {
    count: u64,
    micros: u64,
}

impl Flushed {
    fn now(server: &Server) -> Self {
        let (count, micros) = server.flushes.count_and_micros();
        Self { count, micros }
    }

    fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, micros: self.micros - before.micros }
    }

    /// What one took.
    fn each_micros(self) -> f64 {
        float(self.micros) / float(self.count)
    }
}

impl Bench {
    /// P3 to P7.
    pub(crate) async fn rotations(&self, vault: &Server, naive: &Server, report: &mut Report) {
        let (options, work) = (&self.options, calls::rotate(0..self.options.credentials));
        if options.wants(&["P3", "P5", "P7"]) {
            let (mut ours, mut theirs) = (vec![], vec![]);
            let before = Flushed::now(vault);
            for _ in 0..options.rounds {
                ours.push(self.watched_rotations(vault, CALLERS).await);
                if options.wants(&["P3"]) {
                    theirs.push(self.load(naive, &work, CALLERS).await);
                }
            }
            let flushed = Flushed::now(vault).since(before);
            let flush = flushed.each_micros();
            if options.wants(&["P3"]) {
                let rate = |outcome: &Outcome| outcome.rate;
                report.add_ratio(
                    "P3",
                    &each(&ours, rate),
                    &each(&theirs, rate),
                    "own load, random keys",
                );
            }
            if options.wants(&["P5"]) {
                latency("P5", &each(&ours, |outcome| outcome.p99_micros), flush, report);
            }
            if options.wants(&["P7"]) {
                let rotations: u64 = ours.iter().map(|outcome| outcome.calls).sum();
                let detail = format!(
                    "{rotations} rotations, {} flushes of any file; {}",
                    flushed.count,
                    self.early_answers_are_noticed().await
                );
                let numbers = json!({ "rotations": rotations, "flushes": flushed.count });
                report.add("P7", float(rotations) / float(flushed.count), detail, numbers);
            }
        }
        if options.wants(&["P4"]) {
            let (mut ours, mut theirs) = (vec![], vec![]);
            for _ in 0..options.rounds {
                ours.push(self.watched_rotations(vault, MANY_CALLERS).await.rate);
                theirs.push(self.load(naive, &work, MANY_CALLERS).await.rate);
            }
            report.add_ratio("P4", &ours, &theirs, "own load, random keys");
        }
        if options.wants(&["P6"]) {
            let (mut p50, before) = (vec![], Flushed::now(vault));
            for _ in 0..options.rounds {
                p50.push(self.watched_rotations(vault, 1).await.p50_micros);
            }
            latency("P6", &p50, Flushed::now(vault).since(before).each_micros(), report);
        }
    }

    /// Rotations, none of which may be answered before its flush.
    async fn watched_rotations(&self, vault: &Server, callers: usize) -> Outcome {
        let work = calls::rotate(0..self.options.credentials);
        let end = End::After(self.options.round);
        let outcome = load::run(&vault.target, &work, callers, end, Some(&vault.flushes)).await;
        assert_eq!(outcome.wrong, 0, "every rotation is answered as it should be");
        assert_eq!(outcome.early, 0, "no rotation is answered before its flush");
        outcome
    }

    /// The watch proves something only if it notices a server that does not wait for the disk.
    async fn early_answers_are_noticed(&self) -> String {
        let relaxed = self.yard.naive("relaxed", true);
        let work = calls::rotate(0..100);
        let some =
            load::run(&relaxed.target, &work, CALLERS, End::Calls(2_000), Some(&relaxed.flushes));
        let noticed = some.await.early;
        assert!(noticed > 1_000, "of 2,000 answers before their flush only {noticed} were noticed");
        format!(
            "none answered before its flush (of a server that does not wait: {noticed} of 2000)"
        )
    }

    /// P8: what rotations do to those who read.
    pub(crate) async fn readers(&self, vault: &Server, report: &mut Report) {
        let (options, credentials) = (&self.options, self.options.credentials);
        if !options.wants(&["P8"]) {
            return;
        }
        let (get, rotate) = (calls::get(credentials), calls::rotate(0..credentials));
        let (mut alone, mut beside) = (vec![], vec![]);
        for _ in 0..options.rounds {
            alone.push(self.load(vault, &get, READERS).await);
            let both = join(self.load(vault, &get, READERS), self.load(vault, &rotate, CALLERS));
            beside.push(both.await.0);
        }
        let p99 = |outcome: &Outcome| outcome.p99_micros;
        let (alone, beside) = (each(&alone, p99), each(&beside, p99));
        let (quiet, busy) = (median(&alone), median(&beside));
        let detail = format!("{busy:.0} µs / {quiet:.0} µs");
        report.add("P8", busy / quiet, detail, json!({ "ours": beside, "theirs": alone }));
    }
}

fn latency(id: &str, micros: &[f64], flush: f64, report: &mut Report) {
    let value = median(micros);
    let detail = format!("{value:.0} µs / {flush:.0} µs");
    report.add(id, value / flush, detail, json!({ "ours": micros, "flush_micros": flush }));
}
