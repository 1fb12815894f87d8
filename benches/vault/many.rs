//! P9, P12, U1 to U4 and the pages of lists: what changes when there are a million credentials.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use credvault::grpc::proto::CredentialFilter;
use serde_json::json;

use crate::calls;
use crate::load::{self, End};
use crate::rows::{Report, float, median};
use crate::server::{self, Server};
use crate::{Bench, CALLERS};

const FEW: u64 = 1_000;

impl Bench {
    /// P9, P12, U1 to U4 and lists, with this many credentials.
    pub(crate) async fn many(&self, many: u64, report: &mut Report) {
        let small = self.yard.vault("small");
        small.fill(0, FEW).await;
        let large = self.yard.vault("large");
        println!("filling a vault with {many} credentials …");
        let begun = Instant::now();
        large.fill(0, many).await;
        report.notes.push(format!(
            "{many} credentials were created in {:.0} s, without waiting for a disk; their files take {:.0} MiB.",
            begun.elapsed().as_secs_f64(),
            server::size(&large.data)
        ));
        if self.options.wants(&["P9"]) {
            self.reads_among_many(&small, &large, many, report).await;
        }
        if self.options.wants(&["U1", "U2", "U3", "U4"]) {
            self.yard.fill_providers(&small).await;
            self.yard.fill_providers(&large).await;
            self.uses_among_many((&small, FEW), (&large, many), report).await;
        }
        if self.options.wants(&["lists"]) {
            self.pages(&small, &large, many, report).await;
        }
        if self.options.wants(&["P12"]) {
            self.memory_and_start(large, many, report).await;
        }
    }

    async fn reads_among_many(
        &self,
        small: &Server,
        large: &Server,
        many: u64,
        report: &mut Report,
    ) {
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..self.options.rounds {
            ours.push(self.load(large, &calls::get(many), CALLERS).await.rate);
            theirs.push(self.load(small, &calls::get(FEW), CALLERS).await.rate);
        }
        report.add_ratio(
            "P9",
            &ours,
            &theirs,
            &format!("{many} credentials, own load, random keys"),
        );
    }

    async fn memory_and_start(&self, mut large: Server, many: u64, report: &mut Report) {
        // After everything else that a vault does: random reads, digests and rotations.
        self.load(&large, &calls::get(many), CALLERS).await;
        self.load(&large, &calls::verify(many), CALLERS).await;
        let reading = large.memory("VmRSS");
        self.load(&large, &calls::rotate(0..many), CALLERS).await;
        let memory = large.memory("VmRSS");
        let (own, of_files) = (large.memory("RssAnon"), large.memory("RssFile"));
        let (mut times, mut stops, mut fresh, mut unclean) = (vec![], vec![], vec![], 0);
        for _ in 0..self.options.rounds {
            let (clean, stop) = large.stop();
            unclean += u32::from(!clean);
            stops.push(stop.as_secs_f64());
            let begun = Instant::now();
            large = self.yard.vault("large");
            large.is_serving().await;
            times.push(begun.elapsed().as_secs_f64());
            fresh.push(large.memory("VmRSS"));
            // Something to close.
            self.short_load(&large, &calls::rotate(0..many), CALLERS).await;
        }
        let detail = format!(
            "{many} credentials; {own:.0} MiB its own, {of_files:.0} MiB of files; {:.0} MiB after a start, \
             {reading:.0} MiB with the file mapped, while there are reads alone",
            median(&fresh)
        );
        report.add(
            "resident memory",
            memory,
            detail,
            json!({ "anon": own, "file": of_files, "reading": reading }),
        );
        let stop = median(&stops);
        let how =
            if unclean == 0 { "all clean".to_owned() } else { format!("{unclean} NOT CLEAN") };
        let detail = format!("{many} credentials; the stops before took {stop:.2} s, {how}");
        let numbers = json!({ "starts": times, "stops": stops, "unclean_stops": unclean });
        report.add("start-up", median(&times), detail, numbers);
    }

    /// Pages of 50, one caller: among a thousand and among many.
    async fn pages(&self, small: &Server, large: &Server, many: u64, report: &mut Report) {
        let all = CredentialFilter::default;
        let prefix = |text: &str| CredentialFilter { username_prefix: text.to_owned(), ..all() };
        let site = |value: &str| CredentialFilter {
            labels: BTreeMap::from([("site".to_owned(), value.to_owned())]),
            ..all()
        };
        let before = |seconds| CredentialFilter {
            rotated_before: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..all()
        };
        let filters = [
            ("no filter", all()),
            ("realm, a fourth of all", CredentialFilter { realm: calls::realm(1), ..all() }),
            ("realm, none", CredentialFilter { realm: "sip.nowhere".to_owned(), ..all() }),
            ("username_prefix, a ninth of all", prefix("user-7")),
            ("username_prefix, a thousandth of all", prefix("user-777")),
            ("enabled", CredentialFilter { enabled: Some(true), ..all() }),
            ("disabled, a fiftieth of all", CredentialFilter { enabled: Some(false), ..all() }),
            ("label, a hundredth of all", site("berlin")),
            ("label, none", site("rome")),
            ("rotated_before, all", before(4_000_000_000)),
            ("rotated_before, none", before(1)),
            (
                "realm and label, 1 in 100",
                CredentialFilter { realm: calls::realm(0), ..site("berlin") },
            ),
        ];
        println!(
            "\n| page of 50 | p50 among {FEW} | p50 among {many} | ratio |\n|---|---|---|---|"
        );
        for (what, filter) in filters {
            let first = || (filter.clone(), String::new());
            self.page(what, (small, first()), (large, first()), report).await;
        }
        let (few, lots) = (middle(small, FEW).await, middle(large, many).await);
        self.page(
            "no filter, in the middle",
            (small, (all(), few)),
            (large, (all(), lots)),
            report,
        )
        .await;
        println!();
    }

    async fn page(
        &self,
        what: &str,
        (small, few): (&Server, (CredentialFilter, String)),
        (large, lots): (&Server, (CredentialFilter, String)),
        report: &mut Report,
    ) {
        let (few, lots) = (calls::list(few.0, few.1), calls::list(lots.0, lots.1));
        let (mut theirs, mut ours) = (vec![], vec![]);
        for _ in 0..self.options.rounds {
            theirs.push(self.short_load(small, &few, 1).await.p50_micros);
            ours.push(self.short_load(large, &lots, 1).await.p50_micros);
        }
        let (their, our) = (median(&theirs), median(&ours));
        println!("| {what} | {their:.0} µs | {our:.0} µs | {:.2} |", our / their);
        report
            .lists
            .push(json!({ "what": what, "few": theirs, "many": ours, "ratio": our / their }));
    }
}

/// The token of the page in the middle of a list.
async fn middle(server: &Server, credentials: u64) -> String {
    let token = Rc::new(RefCell::new(String::new()));
    let walk = calls::walk(&token);
    let pages = (credentials / 2).div_ceil(calls::WALK);
    let walked = load::run(&server.target, &walk, 1, End::Calls(pages), None).await;
    assert_eq!(walked.wrong, 0, "{} pages have a next one", float(pages));
    token.take()
}
