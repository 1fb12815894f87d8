//! What the metrics say after real calls, and what they never say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use credvault::access::api_token::{ApiToken, TokenId};
use credvault::clock::{Clock as _, SystemClock};
use credvault::grpc::proto::{UpdateProviderRequest, VerifySipDigestRequest};
use zeroize::Zeroizing;

use super::exposition::Metrics;
use super::http::{get, metrics};
use super::{LISTENS, vault, whole};
use crate::credentials::{create, rotate, update, verifies};
use crate::providers::{SID, TOKEN, create_provider, update_token};
use crate::support::fakes::twilio::{FakeTwilio, Fault};
use crate::support::process::{Process, run};
use crate::support::raw::{Raw, framed};
use crate::support::{Clients, channel, exposed, md5_response, outcome};

const USERNAME: &str = "canary-username";
const REALM: &str = "canary.realm.test";

/// `credvault dev` with a small Twilio and a listener for operations.
struct World {
    dir: tempfile::TempDir,
    twilio: FakeTwilio,
    dev: Process,
    operations: SocketAddr,
}

impl World {
    async fn start(environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let twilio = FakeTwilio::start().await;
        twilio.add_account(SID, TOKEN);
        let dev = Self::dev(&dir, &twilio, environment);
        let operations = dev.operations();
        Self { dir, twilio, dev, operations }
    }

    fn dev(dir: &tempfile::TempDir, twilio: &FakeTwilio, environment: &[(&str, &str)]) -> Process {
        let url = twilio.url();
        let own = [LISTENS, ("CREDVAULT_UPSTREAM_TWILIO_API_URL", url.as_str())];
        Process::dev(dir.path(), &[&own[..], environment].concat())
    }

    async fn metrics(&self) -> Metrics {
        metrics(self.operations).await
    }

    async fn count(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        whole(self.metrics().await.value(name, labels))
    }

    /// Waits until the metrics are so.
    async fn until(&self, what: &str, holds: impl Fn(&Metrics) -> bool) {
        let began = Instant::now();
        while !holds(&self.metrics().await) {
            assert!(began.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        }
    }

    fn clients(&self) -> Clients {
        self.dev.clients()
    }

    /// Makes the one credential; its name and password.
    async fn credential(&self) -> (String, String) {
        let mut request = create(USERNAME);
        "accounts/dev".clone_into(&mut request.parent);
        REALM.clone_into(&mut request.credential.as_mut().unwrap().realm);
        let (credential, issued) = self.clients().create(request).await.unwrap();
        (credential.name, issued.unwrap().password)
    }

    async fn verifies(&self, username: &str, password: &str) -> bool {
        self.verify(username, password, "").await == "true"
    }

    /// Whether it is valid, or how it was refused.
    async fn verify(&self, username: &str, password: &str, source: &str) -> String {
        let request = VerifySipDigestRequest {
            parent: "accounts/dev".to_owned(),
            username: username.to_owned(),
            realm: REALM.to_owned(),
            method: "REGISTER".to_owned(),
            uri: format!("sip:{REALM}"),
            nonce: "n0nce".to_owned(),
            response: md5_response(username, REALM, password, "n0nce"),
            source: source.to_owned(),
            ..VerifySipDigestRequest::default()
        };
        match self.clients().uses.verify_sip_digest(request).await {
            Ok(answer) => answer.into_inner().valid.to_string(),
            refused => outcome(&refused),
        }
    }

    async fn provider(&self) -> String {
        let mut request = create_provider("canary-provider");
        "accounts/dev".clone_into(&mut request.parent);
        self.clients().create_provider(request).await.unwrap().name
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digest_checks_are_counted_by_outcome_and_version() {
    let world = World::start(&[]).await;
    let (name, first) = world.credential().await;
    assert!(world.verifies(USERNAME, &first).await);
    assert!(!world.verifies(USERNAME, "wrong").await);
    let (credential, issued) = world.clients().rotate(rotate(&name)).await.unwrap();
    assert!(!world.verifies(USERNAME, &first).await, "dead since the rotation");
    assert!(world.verifies(USERNAME, &issued.password).await);
    assert!(world.verifies(USERNAME, &issued.password).await);
    assert!(!world.verifies("nobody", &first).await);
    let off = credvault::grpc::proto::Credential { enabled: Some(false), ..credential };
    world.clients().update(update(&name, off, &["enabled"])).await.unwrap();
    assert!(!world.verifies(USERNAME, &issued.password).await);

    let metrics = world.metrics().await;
    let checks = |outcome, version| {
        let age = if version == "none" { "none" } else { "under_10m" };
        let labels = [("outcome", outcome), ("version", version), ("age", age)];
        whole(metrics.value("credvault_digest_checks_total", &labels))
    };
    assert_eq!(checks("valid", "active"), 3);
    assert_eq!(checks("wrong", "active"), 2);
    assert_eq!(checks("disabled", "active"), 1);
    assert_eq!(checks("damaged", "active"), 0);
    assert_eq!(checks("unknown", "none"), 1);
    let rpc = [
        ("grpc_type", "unary"),
        ("grpc_service", "credvault.v1.UseService"),
        ("grpc_method", "VerifySipDigest"),
    ];
    assert_eq!(whole(metrics.value("grpc_server_started_total", &rpc)), 7);
    assert_eq!(whole(metrics.value("grpc_server_handled_total", &rpc)), 7);
    assert_eq!(whole(metrics.value("grpc_server_handling_seconds_count", &rpc)), 7);
    let ok = [rpc[0], rpc[1], rpc[2], ("grpc_code", "OK")];
    assert_eq!(whole(metrics.value("grpc_server_handled_total", &ok)), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_beyond_the_limit_are_counted_as_refused() {
    let world = World::start(&[("CREDVAULT_LIMITS_FAILED_DIGEST_CHECKS", "2")]).await;
    let (_, password) = world.credential().await;
    for username in [USERNAME, "nobody"] {
        for expected in ["false", "false", "ResourceExhausted RATE_LIMITED retry "] {
            let found = world.verify(username, "wrong", "192.0.2.1").await;
            assert!(found.starts_with(expected), "{found}");
        }
    }
    assert_eq!(world.verify(USERNAME, &password, "192.0.2.2").await, "true");
    let limit = [("limit", "failed_digest_checks")];
    assert_eq!(world.count("credvault_refused_calls_total", &limit).await, 2);
    let refused = world.count("credvault_digest_checks_total", &[("outcome", "wrong")]).await;
    assert_eq!(refused, 2, "what was refused was not checked");
}

#[tokio::test]
async fn digest_checks_are_counted_by_the_age_of_the_password() {
    // In this process, where the clock can be moved and others count as well: more than before.
    let (vault, operations) = vault().await;
    let clients = vault.acme().await;
    let (_, issued) = clients.create(create("ageing")).await.unwrap();
    let password = issued.unwrap().password;
    let (minute, hour) = (jiff::SignedDuration::from_mins(1), jiff::SignedDuration::from_hours(1));
    for (age, then) in [
        ("under_10m", minute * 10),
        ("under_1h", minute * 50),
        ("under_1d", hour * 23),
        ("older", hour),
    ] {
        let labels = [("outcome", "valid"), ("version", "active"), ("age", age)];
        let counted = async || {
            whole(metrics(operations).await.value("credvault_digest_checks_total", &labels))
        };
        let before = counted().await;
        assert!(verifies(&clients, "ageing", &password).await);
        assert!(counted().await > before, "{age}");
        vault.clock.advance(then);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_the_log_and_its_checkpoints_are_measured() {
    let world = World::start(&[]).await;
    let (name, _) = world.credential().await;
    // Until the log is large enough to be moved, which is looked at once a second.
    let passive = [("mode", "passive"), ("outcome", "done")];
    let mut rotations = 0;
    while world.count("credvault_checkpoints_total", &passive).await == 0 {
        assert!(rotations < 20_000, "no checkpoint");
        for _ in 0..50 {
            world.clients().rotate(rotate(&name)).await.unwrap();
            rotations += 1;
        }
    }
    let metrics = world.metrics().await;
    let value = |name| whole(metrics.value(name, &[]));
    // The account's token and the credential as well.
    let commits = value("credvault_commit_batch_size_count");
    assert!(commits >= rotations + 2, "{commits} for {rotations}");
    assert_eq!(
        value("credvault_commit_batch_size_sum"),
        value("credvault_commit_wait_seconds_count")
    );
    assert_eq!(commits, value("credvault_commit_seconds_count"));
    assert_eq!(value("credvault_commit_queue_length"), 0);
    assert_eq!(value("credvault_commit_failures_total"), 0);
    assert!(value("credvault_wal_bytes") >= 4 << 20);
    assert!(metrics.value("process_cpu_seconds_total", &[]) > 0.0);
    assert!(value("process_resident_memory_bytes") > 1 << 20);
    assert!(value("process_open_fds") > 5 && value("process_max_fds") > 5);
    let age = SystemClock.now().as_second()
        - whole(metrics.value("process_start_time_seconds", &[]).floor());
    assert!((-2..300).contains(&age), "started {age} s ago");
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(whole(metrics.value("credvault_build_info", &build)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carriers_are_measured_by_how_calls_end() {
    let world = World::start(&[("CREDVAULT_LIMITS_TOKEN_TRIES_PER_PROVIDER", "2")]).await;
    let calls = async |outcome| {
        let labels = [("carrier", "twilio"), ("outcome", outcome)];
        world.count("credvault_upstream_calls_total", &labels).await
    };
    let verified =
        async |status| world.count("credvault_verifications_total", &[("status", status)]).await;
    let name = world.provider().await;
    let asked = calls("ok").await;
    assert!(asked > 0);
    assert_eq!((calls("refused").await, verified("verified").await), (0, 1));

    let clients = world.clients();
    for _ in 0..3 {
        clients.update_token(update_token(&name, &"f".repeat(32))).await.unwrap_err();
    }
    assert_eq!(calls("refused").await, 2, "and the third try was not made");
    let limit = [("limit", "token_tries_per_provider")];
    assert_eq!(world.count("credvault_refused_calls_total", &limit).await, 1);
    let update = [("grpc_method", "UpdateToken"), ("grpc_code", "FailedPrecondition")];
    assert_eq!(world.count("grpc_server_handled_total", &update).await, 2);

    clients.verify_provider(&name).await.unwrap();
    world.twilio.set_token(SID, &"e".repeat(32));
    clients.verify_provider(&name).await.unwrap();
    assert_eq!((verified("verified").await, verified("failed").await), (2, 1));

    world.twilio.set_fault(Some(Fault::Status(503)));
    for _ in 0..11 {
        clients.verify_provider(&name).await.unwrap_err();
    }
    assert_eq!((calls("server_error").await, calls("circuit_open").await), (10, 1));
    assert_eq!(verified("unavailable").await, 11);
    let carrier = [("carrier", "twilio")];
    assert_eq!(world.count("credvault_upstream_circuits_open", &carrier).await, 1);
    let metrics = world.metrics().await;
    let made = whole(metrics.value("credvault_upstream_call_seconds_count", &carrier));
    let all = whole(metrics.value("credvault_upstream_calls_total", &carrier));
    assert_eq!(made, all - 1, "all but the one that was not made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_caller_goes_away_counts_as_canceled() {
    let world = World::start(&[]).await;
    world.twilio.set_fault(Some(Fault::Hold));
    let clients = world.clients();
    let mut request = create_provider("twilio");
    "accounts/dev".clone_into(&mut request.parent);
    let call = tokio::spawn(async move { clients.create_provider(request).await.map(drop) });
    world.twilio.called(1).await;
    call.abort();
    let labels = [("grpc_method", "CreateProvider"), ("grpc_code", "Canceled")];
    world
        .until("canceled", |metrics| {
            let upstream = [("outcome", "canceled")];
            whole(metrics.value("grpc_server_handled_total", &labels)) == 1
                && whole(metrics.value("credvault_upstream_calls_total", &upstream)) == 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authentication_failures_are_counted_by_reason() {
    let mut world = World::start(&[]).await;
    // One that is revoked, which takes a stopped server.
    let data = world.dev.data_dir.clone();
    let data = data.to_str().unwrap();
    assert!(world.dev.terminate().success());
    let made =
        run(["tokens", "create", "--data-dir", data, "--account", "dev", "--role", "reader"]);
    let revoked = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let id = revoked.split('_').nth(1).unwrap();
    assert!(run(["tokens", "revoke", "--data-dir", data, id]).status.success());
    world.dev = World::dev(&world.dir, &world.twilio, &[]);
    world.operations = world.dev.operations();

    let good = world.dev.token();
    let id = good.split('_').nth(1).unwrap();
    let text = |token: ApiToken| exposed(&token.to_text());
    let zero = || Zeroizing::new([0; 32]);
    let wrong = text(ApiToken::new(TokenId::parse(id).unwrap(), zero()));
    let unknown = text(ApiToken::new(TokenId::from_random([7; 12]), zero()));
    let two = format!("{good}\n{good}");
    for (reason, token, times) in [
        ("missing", "", 1),
        ("missing", two.as_str(), 2),
        ("malformed", "cv1_nonsense", 1),
        ("unknown", unknown.as_str(), 1),
        ("wrong_secret", wrong.as_str(), 1),
        ("revoked", revoked.as_str(), 1),
    ] {
        let clients = Clients::new(&channel(world.dev.address), token);
        clients.get("accounts/dev/credentials/alice").await.unwrap_err();
        let labels = [("reason", reason)];
        let count = world.count("credvault_authentication_failures_total", &labels).await;
        assert_eq!(count, times, "{reason}");
    }
    let all = world.count("credvault_authentication_failures_total", &[]).await;
    let labels = [("grpc_code", "Unauthenticated"), ("grpc_method", "GetCredential")];
    assert_eq!(world.count("grpc_server_handled_total", &labels).await, all);

    // Too much metadata, too large a message.
    let raw = Raw::connect(world.dev.address, &good).await;
    let path = "/credvault.v1.CredentialService/GetCredential";
    raw.call(path, framed(&vec![0; 100_000])).await;
    let mut head = raw.head(path);
    head.headers_mut().insert("x-large", "x".repeat(9000).parse().unwrap());
    raw.try_call(head, framed(b"")).await.unwrap();
    for limit in ["message_size", "metadata_size"] {
        let refused = world.count("credvault_refused_calls_total", &[("limit", limit)]).await;
        assert_eq!(refused, 1, "{limit}");
    }
}

#[tokio::test]
async fn an_expired_token_is_counted_as_such() {
    // In this process, where the clock can be moved and others count as well: more than before.
    let (vault, operations) = vault().await;
    let clients = vault.acme().await;
    let expired = [("reason", "expired")];
    let before =
        metrics(operations).await.value("credvault_authentication_failures_total", &expired);
    vault.clock.advance(jiff::SignedDuration::from_hours(24 * 31));
    clients.get("accounts/acme/credentials/alice").await.unwrap_err();
    let after =
        metrics(operations).await.value("credvault_authentication_failures_total", &expired);
    assert!(after > before);
}

/// Calls full of names and secrets; what of them shows in the metrics, and whether these grew.
async fn told(environment: &[(&str, &str)]) -> Result<(), String> {
    let world = World::start(environment).await;
    let before = world.metrics().await;
    let (name, first) = world.credential().await;
    let (_, second) = world.clients().rotate(rotate(&name)).await.unwrap();
    world.verifies(USERNAME, &first).await;
    world.verifies(USERNAME, &second.password).await;
    let provider = world.provider().await;
    let wrong = "c".repeat(32);
    world.clients().update_token(update_token(&provider, &wrong)).await.unwrap_err();
    let unknown = UpdateProviderRequest::default();
    world.clients().update_provider(unknown).await.unwrap_err();
    let token = world.dev.token();
    let raw = Raw::connect(world.dev.address, &token).await;
    for path in [
        "/credvault.v1.CredentialService/CanaryMethod",
        "/canary.v1.CanaryService/GetCredential",
        "/accounts/dev/credentials/canary",
        "/grpc.health.v1.Health/Canary",
    ] {
        raw.call(path, framed(b"")).await;
    }

    let text = get(world.operations, "/metrics").await.body;
    let id = token.split('_').nth(1).unwrap();
    let canaries = [
        ("a password", first.as_str()),
        ("a new password", second.password.as_str()),
        ("an API token", token.as_str()),
        ("the id of an API token", id),
        ("the stored token of a carrier", TOKEN),
        ("a token that was tried", wrong.as_str()),
        ("the account at the carrier", SID),
        ("a username, a path or a name", "canary"),
        ("a path", "Canary"),
        ("an account", "accounts/"),
        ("an account", "\"dev\""),
        ("a caller's address", "127.0.0.1"),
    ];
    for (what, canary) in canaries {
        if text.contains(canary) {
            return Err(format!("{what} is in the metrics"));
        }
    }
    let after = Metrics::parse(&text)?;
    // The series of the carrier and of each RPC were there before the first call.
    if after.count() != before.count() {
        return Err(format!("{} series became {}", before.count(), after.count()));
    }
    let other = [("grpc_service", "other"), ("grpc_method", "other")];
    assert!(whole(after.value("grpc_server_started_total", &other)) >= 3);
    for label in ["grpc_service", "grpc_method", "grpc_code", "grpc_type"] {
        assert!(after.labels("grpc_server_handled_total", label).len() < 60, "{label}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_callers_send_is_in_the_metrics() {
    told(&[]).await.unwrap();
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_label_paths_is_found() {
    let problem = told(&[("CREDVAULT_DEFECT", "label-paths")]).await.unwrap_err();
    assert!(problem.contains("is in the metrics"), "{problem}");
    println!("{problem}");
}
