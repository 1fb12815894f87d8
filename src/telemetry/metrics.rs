//! Metrics: what is counted and measured, under which names. The only module that knows the crate `prometheus`.
//!
//! - They are of the process, as Prometheus sees it: one static, which each layer records in through the functions
//!   here.
//! - The values of a label are few and ours. Nothing that a caller sends becomes one, and no name of a customer:
//!   whoever may read metrics may read neither.
//! - Every series exists from the start (those of a carrier or an RPC: from when it is known), so that recording
//!   neither allocates nor locks, and `rate()` sees the first event.
//!
//! docs/operations.md says what each means to those who run a vault.

mod label;
#[cfg(target_os = "linux")]
mod process;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub use label::{
    AuthenticationFailure, Checkpoint, CheckpointEnd, DigestCheck, Limit, SecretVersion,
    UpstreamCall, Verification, VersionAge, WebhookCheck,
};
use label::{Counters, Value};

/// What `/metrics` answers with: the text format 0.0.4, which every Prometheus reads.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of histograms of time, in seconds: from a read in memory to the longest that a call may take.
const SECONDS: &[f64] = &[
    0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Bounds of the size of a group commit, up to the most that there can be.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The gRPC codes by number, as the libraries of the gRPC ecosystem write them in `grpc_code`.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The code of a call that nobody waits for any more.
const CANCELED: usize = 1;

/// A name that is registered once, with labels that fit: what is made of it cannot fail.
const FIXED: &str = "names and labels are constants of this file, each used once";

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

type ByAge = Vec<(VersionAge, Counters<DigestCheck>)>;

struct Metrics {
    registry: Registry,
    started: IntCounterVec,
    handled: IntCounterVec,
    handling: HistogramVec,
    queue: IntGauge,
    wait: prometheus::Histogram,
    batch: prometheus::Histogram,
    commit: prometheus::Histogram,
    commit_failures: IntCounter,
    checkpoints: Vec<(Checkpoint, Counters<CheckpointEnd>)>,
    log_size: IntGauge,
    upstream_calls: IntCounterVec,
    upstream_seconds: HistogramVec,
    circuits: IntGaugeVec,
    verifications: Counters<Verification>,
    digest_checks: Vec<(SecretVersion, ByAge)>,
    webhook_checks: Vec<(WebhookCheck, Counters<SecretVersion>)>,
    authentication_failures: Counters<AuthenticationFailure>,
    refused: Counters<Limit>,
    panics: IntCounter,
    #[cfg(target_os = "linux")]
    process: process::Process,
}

/// Makes metrics and registers them.
struct Maker(Registry);

impl Maker {
    fn register(&self, metric: impl prometheus::core::Collector + 'static) {
        self.0.register(Box::new(metric)).expect(FIXED);
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counter = IntCounter::new(name, help).expect(FIXED);
        self.register(counter.clone());
        counter
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let counters = IntCounterVec::new(Opts::new(name, help), labels).expect(FIXED);
        self.register(counters.clone());
        counters
    }

    /// Counters with one label, one for each of its values.
    fn by<V: Value>(&self, name: &str, help: &str, label: &str) -> Counters<V> {
        let counters = self.counters(name, help, &[label]);
        Counters::new(V::ALL, |value| counters.with_label_values(&[value]))
    }

    /// Counters with two labels, one for each pair of values that there can be.
    fn pairs<V: Value, W: Value>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        seconds: impl Fn(V) -> &'static [W],
    ) -> Vec<(V, Counters<W>)> {
        let counters = self.counters(name, help, &labels);
        let of = |first: &V| {
            let counter = |second: &str| counters.with_label_values(&[first.text(), second]);
            (*first, Counters::new(seconds(*first), counter))
        };
        V::ALL.iter().map(of).collect()
    }

    fn digest_checks(&self) -> Vec<(SecretVersion, ByAge)> {
        let counters = self.counters(
            "credvault_digest_checks_total",
            "SIP digest responses that were checked, by outcome, version of the password, and its age.",
            &["version", "age", "outcome"],
        );
        let of = |version: &SecretVersion| {
            let of_age = |age: &VersionAge| {
                let labels = [version.text(), age.text()];
                let counter =
                    |outcome: &str| counters.with_label_values(&[labels[0], labels[1], outcome]);
                (*age, Counters::new(version.outcomes(), counter))
            };
            (*version, version.ages().iter().map(of_age).collect())
        };
        SecretVersion::ALL.iter().map(of).collect()
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::new(name, help).expect(FIXED);
        self.register(gauge.clone());
        gauge
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect(FIXED);
        self.register(gauges.clone());
        gauges
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let histograms = HistogramVec::new(options, labels).expect(FIXED);
        self.register(histograms.clone());
        histograms
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> prometheus::Histogram {
        self.histograms(name, help, &[], bounds).with_label_values::<&str>(&[])
    }
}

impl Metrics {
    fn new() -> Self {
        let make = Maker(Registry::new());
        let rpc = ["grpc_type", "grpc_service", "grpc_method"];
        let [kind, service, method] = rpc;
        make.gauges(
            "credvault_build_info",
            "Constant 1, with the version of this Credvault.",
            &["version"],
        )
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
        Self {
            started: make.counters("grpc_server_started_total", "Calls that began.", &rpc),
            handled: make.counters(
                "grpc_server_handled_total",
                "Calls that ended, by code; a call whose caller went away counts as Canceled.",
                &[kind, service, method, "grpc_code"],
            ),
            handling: make.histograms(
                "grpc_server_handling_seconds",
                "How long calls took, whatever their code.",
                &rpc,
                SECONDS,
            ),
            queue: make.gauge("credvault_commit_queue_length", "Changes that wait for the writer."),
            wait: make.histogram(
                "credvault_commit_wait_seconds",
                "How long changes waited for the writer.",
                SECONDS,
            ),
            batch: make.histogram(
                "credvault_commit_batch_size",
                "How many changes one commit carried.",
                BATCH,
            ),
            commit: make.histogram(
                "credvault_commit_seconds",
                "How long commits took, their flush to the disk included.",
                SECONDS,
            ),
            commit_failures: make.counter(
                "credvault_commit_failures_total",
                "Commits that failed, with every change in them.",
            ),
            checkpoints: make.pairs(
                "credvault_checkpoints_total",
                "Checkpoints of the store's log, by what they were to do and how they ended.",
                ["mode", "outcome"],
                |_: Checkpoint| CheckpointEnd::ALL,
            ),
            log_size: make.gauge("credvault_wal_bytes", "Size of the store's write-ahead log."),
            upstream_calls: make.counters(
                "credvault_upstream_calls_total",
                "Calls to carriers, by how they ended; also those that were not made.",
                &["carrier", "outcome"],
            ),
            upstream_seconds: make.histograms(
                "credvault_upstream_call_seconds",
                "How long calls to carriers took that were made.",
                &["carrier"],
                SECONDS,
            ),
            circuits: make.gauges(
                "credvault_upstream_circuits_open",
                "Hosts of a carrier that are left alone because they kept failing.",
                &["carrier"],
            ),
            verifications: make.by(
                "credvault_verifications_total",
                "Verifications of providers, by the status that they ended with.",
                "status",
            ),
            digest_checks: make.digest_checks(),
            webhook_checks: make.pairs(
                "credvault_webhook_checks_total",
                "Webhooks that were checked, by outcome and version of the token that signed them.",
                ["outcome", "version"],
                WebhookCheck::versions,
            ),
            authentication_failures: make.by(
                "credvault_authentication_failures_total",
                "Calls that proved no identity, by what was wrong.",
                "reason",
            ),
            refused: make.by(
                "credvault_refused_calls_total",
                "Calls refused by a limit of the vault, by limit.",
                "limit",
            ),
            panics: make.counter("credvault_panics_total", "Panics: each is a bug."),
            #[cfg(target_os = "linux")]
            process: process::Process::new(&make),
            registry: make.0,
        }
    }
}

/// Everything in Prometheus' text format.
pub fn render() -> String {
    #[cfg(target_os = "linux")]
    METRICS.process.refresh();
    TextEncoder::new().encode_to_string(&METRICS.registry.gather()).unwrap_or_else(|error| {
        tracing::error!(%error, "write the metrics");
        String::new()
    })
}

/// What is measured of one RPC.
#[derive(Debug)]
pub struct Rpc {
    started: IntCounter,
    handled: Vec<IntCounter>,
    handling: prometheus::Histogram,
}

impl Rpc {
    /// Makes the series of an RPC. `kind` is `unary`, `server_stream`, `client_stream` or `bidi_stream`.
    pub fn new(kind: &str, service: &str, method: &str) -> Self {
        let handled = |code| METRICS.handled.with_label_values(&[kind, service, method, code]);
        Self {
            started: METRICS.started.with_label_values(&[kind, service, method]),
            handled: CODES.into_iter().map(handled).collect(),
            handling: METRICS.handling.with_label_values(&[kind, service, method]),
        }
    }

    /// Counts a call that begins.
    pub fn begin(&'static self) -> Running {
        self.started.inc();
        Running { rpc: self, since: Instant::now(), code: CANCELED }
    }
}

/// A call under way. Counts as canceled if it is dropped without an end.
#[derive(Debug)]
pub struct Running {
    rpc: &'static Rpc,
    since: Instant,
    code: usize,
}

impl Running {
    /// Counts the call with its gRPC code.
    pub fn end(mut self, code: i32) {
        self.code = usize::try_from(code).unwrap_or(usize::MAX);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(handled) = self.rpc.handled.get(self.code) {
            handled.inc();
        }
        self.rpc.handling.observe(self.since.elapsed().as_secs_f64());
    }
}

/// What is measured of the calls to one carrier.
#[derive(Debug)]
pub struct Upstream {
    calls: Counters<UpstreamCall>,
    seconds: prometheus::Histogram,
    circuits: IntGauge,
}

impl Upstream {
    /// Makes the series of a carrier.
    pub fn new(carrier: &str) -> Self {
        let calls = |outcome: &str| METRICS.upstream_calls.with_label_values(&[carrier, outcome]);
        Self {
            calls: Counters::new(UpstreamCall::ALL, calls),
            seconds: METRICS.upstream_seconds.with_label_values(&[carrier]),
            circuits: METRICS.circuits.with_label_values(&[carrier]),
        }
    }

    /// Counts a call that ended, or was not made.
    pub fn called(&self, outcome: UpstreamCall) {
        self.calls.count(outcome);
    }

    /// Notes how long a call took that was made.
    pub fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }

    /// Notes how many hosts of the carrier are left alone now.
    pub fn circuits_open(&self, count: usize) {
        self.circuits.set(count.try_into().unwrap_or(i64::MAX));
    }
}

/// A change waits for the writer.
pub fn queued() {
    METRICS.queue.inc();
}

/// A change does not wait for the writer after all: there was no room.
pub fn unqueued() {
    METRICS.queue.dec();
}

/// The writer took a change that had waited since then.
pub fn taken(since: Instant) {
    METRICS.queue.dec();
    METRICS.wait.observe(since.elapsed().as_secs_f64());
}

/// A commit of this many changes ended, after a time.
pub fn committed(changes: usize, time: Duration, good: bool) {
    METRICS.batch.observe(u32::try_from(changes).unwrap_or(u32::MAX).into());
    METRICS.commit.observe(time.as_secs_f64());
    if !good {
        METRICS.commit_failures.inc();
    }
}

/// A checkpoint of the store's log ended.
pub fn checkpoint(mode: Checkpoint, end: CheckpointEnd) {
    label::of(&METRICS.checkpoints, mode, |ends| ends.count(end));
}

/// The store's log has this size now.
pub fn log_size(bytes: u64) {
    METRICS.log_size.set(bytes.try_into().unwrap_or(i64::MAX));
}

/// A provider was verified, or could not be.
pub fn verification(status: Verification) {
    METRICS.verifications.count(status);
}

/// A digest response was checked against this version of a password, which has this age.
pub fn digest_check(outcome: DigestCheck, version: SecretVersion, age: VersionAge) {
    label::of(&METRICS.digest_checks, version, |ages| {
        label::of(ages, age, |outcomes| outcomes.count(outcome));
    });
}

/// A webhook was checked; this version of a token signed it.
pub fn webhook_check(outcome: WebhookCheck, version: SecretVersion) {
    label::of(&METRICS.webhook_checks, outcome, |versions| versions.count(version));
}

/// A call proved no identity.
pub fn authentication_failure(reason: AuthenticationFailure) {
    METRICS.authentication_failures.count(reason);
}

/// A call was refused by a limit.
pub fn refused(limit: Limit) {
    METRICS.refused.count(limit);
}

/// Something panicked.
pub fn panicked() {
    METRICS.panics.inc();
}
