//! U1 to U6: secrets at work that nobody sees. Digests and webhooks next to a bare echo, among few and many
//! credentials, and while passwords are rotated.

use futures_util::future::join;
use serde_json::json;

use crate::calls::{self, Work};
use crate::load::Outcome;
use crate::rows::{Report, each, median};
use crate::server::Server;
use crate::{Bench, CALLERS};

/// Few enough to wait for nothing but the vault.
const CHECKERS: usize = 16;

impl Bench {
    /// U1 to U4: next to a bare echo, all in the same rounds.
    pub(crate) async fn uses_among_many(
        &self,
        (small, few): (&Server, u64),
        (large, many): (&Server, u64),
        report: &mut Report,
    ) {
        let echo = self.yard.naive("echo", false);
        let question = calls::get(few);
        let rows = [
            ("U1", small, calls::verify(few)),
            ("U2", large, calls::verify(many)),
            ("U3", small, calls::webhook()),
            ("U4", large, calls::webhook()),
        ];
        let (mut theirs, mut ours) = (vec![], rows.each_ref().map(|_| (vec![], vec![])));
        for _ in 0..self.options.rounds {
            theirs.push(self.throughput(&echo, &question).await);
            for ((_, server, work), (one, random)) in rows.iter().zip(&mut ours) {
                one.push(self.throughput(server, work).await);
                random.push(self.load(server, work, CALLERS).await);
            }
        }
        for ((id, ..), (one, random)) in rows.iter().zip(&ours) {
            report.add_ratio(id, one, &theirs, &self.how(random));
        }
    }

    /// U5, U6: what rotations do to those who check, among the credentials that nobody rotates.
    pub(crate) async fn uses_in_a_storm(&self, vault: &Server, report: &mut Report) {
        let half = self.options.credentials / 2;
        let rotate = calls::rotate(half..self.options.credentials);
        for (id, work) in [("U5", calls::verify(half)), ("U6", calls::webhook())] {
            if self.options.wants(&[id]) {
                self.in_a_storm(id, vault, (&work, &rotate), report).await;
            }
        }
    }

    async fn in_a_storm(
        &self,
        id: &str,
        vault: &Server,
        (work, rotate): (&Work, &Work),
        report: &mut Report,
    ) {
        let (mut alone, mut beside, mut rotations) = (vec![], vec![], vec![]);
        for _ in 0..self.options.rounds {
            alone.push(self.load(vault, work, CHECKERS).await);
            let both =
                join(self.load(vault, work, CHECKERS), self.load(vault, rotate, CALLERS)).await;
            beside.push(both.0);
            rotations.push(both.1);
        }
        let p99 = |outcome: &Outcome| outcome.p99_micros;
        let rate = |outcomes: &[Outcome]| median(&each(outcomes, |outcome| outcome.rate));
        let (quiet, busy) = (each(&alone, p99), each(&beside, p99));
        let detail = format!(
            "{:.0} µs / {:.0} µs; {:.0} / {:.0} checks per s, beside {:.0} rotations per s",
            median(&busy),
            median(&quiet),
            rate(&beside),
            rate(&alone),
            rate(&rotations)
        );
        let rounds = json!({ "ours": busy, "theirs": quiet });
        report.add(id, median(&busy) / median(&quiet), detail, rounds);
    }
}
