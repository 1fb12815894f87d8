//! Drives the release binary with grpcurl, as people do: the first minute, what carriers do, and the README's story.
//!
//! Not part of `cargo test`: it wants a build and a tool. `.ci/run` makes both and names them in
//! `CREDVAULT_BIN` and `GRPCURL`; it builds the examples as well, and has bash and curl.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should stop there"
)]

#[path = "../examples/fakes/fakes.rs"]
#[expect(dead_code, unreachable_pub, reason = "programs of their own; tests use parts of them")]
mod fakes;

#[path = "grpcurl/readme.rs"]
mod readme;
#[path = "grpcurl/server.rs"]
mod server;
#[path = "it/transcript/steps.rs"]
mod steps;

use std::time::Instant;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use fakes::twilio::{FakeTwilio, Fault};
use server::{Outcome, OutputOf as _, Server, grpcurl, text, tool};

const CREDENTIALS: &str = "credvault.v1.CredentialService";
const PROVIDERS: &str = "credvault.v1.ProviderService";
const USES: &str = "credvault.v1.UseService";
const AUDIT: &str = "credvault.v1.AuditService";

const SID: &str = "AC0123456789abcdef0123456789abcdef";
const PROVIDER: &str = "accounts/dev/providers/twilio";
const FIRST_TOKEN: &str = "11111111111111111111111111111111";
const SECOND_TOKEN: &str = "22222222222222222222222222222222";
const WRONG_TOKEN: &str = "ffffffffffffffffffffffffffffffff";

#[test]
fn the_first_minute() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);

    // The line that `dev` prints, as a shell takes it.
    let mut shell = tool("timeout");
    shell.args(["60", "sh", "-c", &server.line]).current_dir(dir.path());
    let created = shell.output_of("").answer();
    let credential = created["credential"].clone();
    let (name, user) = (text(&credential["name"]), text(&credential["username"]));
    let first = text(&created["issued"]["password"]);
    assert_eq!((credential["version"].clone(), first.len()), (json!("1"), 24));
    assert!(server.verifies(&user, &first));

    let rotated = server.ask(CREDENTIALS, "RotateCredential", &json!({"name": name})).answer();
    let second = text(&rotated["issued"]["password"]);
    assert_ne!(first, second);
    assert!(!server.verifies(&user, &first), "the old password dies with the rotation");
    assert!(server.verifies(&user, &second));

    let update = json!({"credential": {"name": name, "enabled": false, "description": "away"}});
    let updated = server.ask(CREDENTIALS, "UpdateCredential", &update).answer();
    assert_eq!(updated["credential"]["description"], "away");
    assert!(!server.verifies(&user, &second), "a disabled credential verifies nothing");
    let own = "my Own password 1";
    let update = json!({"credential": {"name": name, "enabled": true}, "password": own});
    let updated = server.ask(CREDENTIALS, "UpdateCredential", &update);
    assert!(!updated.both().contains(own), "an own password is not echoed");
    assert!(server.verifies(&user, own));

    let got = server.ask(CREDENTIALS, "GetCredential", &json!({"name": name}));
    let listed =
        server.ask(CREDENTIALS, "ListCredentials", &json!({"parent": "accounts/dev"})).both();
    let history = server.ask(AUDIT, "ListAuditEntries", &json!({"parent": "accounts/dev"})).both();
    for secret in [&first, &second, own] {
        for shown in [&got.both(), &listed, &history] {
            assert!(!shown.contains(secret), "a secret was shown again");
        }
    }
    assert_eq!(history.matches(r#""outcome": "OK""#).count(), 4);

    let address = server.address.clone();
    let log = server.stop();
    for secret in [&first, &second, own] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    let server = Server::start(dir.path(), &[]);
    assert_ne!(server.address, address, "another process");
    let again = server.ask(CREDENTIALS, "GetCredential", &json!({"name": name}));
    assert_eq!(again.answer(), got.answer(), "a restart forgets nothing");
    assert!(server.verifies(&user, own));
}

#[test]
fn reflection_shows_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    // No token: in dev reflection is open, and grpcurl needs it before it can send one.
    let show = |words: &[&str]| {
        let shown = grpcurl().arg(&server.address).args(words).output_of("");
        assert!(shown.status.success(), "{}", shown.both());
        shown.both()
    };
    let services = show(&["list"]);
    for service in [CREDENTIALS, PROVIDERS, USES, AUDIT, "grpc.health.v1.Health"] {
        assert!(services.contains(service), "{services}");
    }
    let service = show(&["describe", CREDENTIALS]);
    assert!(service.contains("rpc RotateCredential"), "{service}");
    assert!(service.contains("The old password dies at once"), "comments come along: {service}");
    let message = show(&["describe", "credvault.v1.IssuedSecret"]);
    assert!(message.contains("SENSITIVITY_SECRET_OUT_ONCE"), "{message}");
    // Without these grpcurl could not read the details of errors.
    show(&["describe", "google.rpc.ErrorInfo"]);

    let health = grpcurl().args([&server.address, "grpc.health.v1.Health/Check"]).output_of("");
    assert_eq!(health.answer()["status"], "SERVING");

    let command = grpcurl()
        .args(["-format-error", &server.address])
        .arg(format!("{CREDENTIALS}/ListCredentials"))
        .output_of("");
    assert_eq!(command.refusal(), (80, "UNAUTHENTICATED".to_owned(), None));
}

#[test]
fn a_token_is_stored_only_after_the_carrier_confirmed_it() {
    let runtime = Runtime::new().unwrap();
    let twilio = runtime.block_on(FakeTwilio::start());
    twilio.add_account(SID, FIRST_TOKEN);
    twilio.add_token(SID, SECOND_TOKEN);
    let dir = tempfile::tempdir().unwrap();
    let url = twilio.url();
    // More tokens are tried here than a person tries in a minute.
    let server = Server::start(
        dir.path(),
        &[
            ("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url),
            ("CREDVAULT_LIMITS_TOKEN_TRIES_PER_PROVIDER", "0"),
        ],
    );

    let created = server.ask(
        PROVIDERS,
        "CreateProvider",
        &json!({
            "parent": "accounts/dev", "provider_id": "twilio", "auth_token": FIRST_TOKEN,
            "provider": {"display_name": "Trunk", "twilio": {"account_sid": SID}},
        }),
    );
    assert_verified(&created.answer()["provider"], "1");
    let updated = server.update_token(SECOND_TOKEN);
    assert_verified(&updated.answer()["provider"], "2");
    assert_eq!(server.provider(), updated.answer());

    let slow_down = Fault::StatusWith {
        status: 429,
        headers: vec![("retry-after", "7".to_owned())],
        body: Vec::new(),
    };
    let carrier = |fault| twilio.set_account_fault(SID, fault);
    carrier(None);
    server.refuses(WRONG_TOKEN, 73, "UPSTREAM_REJECTED_TOKEN", None);
    server.refuses("not a token", 67, "INVALID_FIELD", None);
    for status in ["suspended", "closed"] {
        twilio.set_status(SID, status);
        server.refuses(FIRST_TOKEN, 73, "UPSTREAM_ACCOUNT_INACTIVE", None);
    }
    twilio.set_status(SID, "active");
    for (fault, exit, reason, retry) in [
        (Fault::Status(403), 73, "UPSTREAM_ACCOUNT_INACTIVE", None),
        (Fault::Status(404), 73, "UPSTREAM_ACCOUNT_NOT_FOUND", None),
        (Fault::SidMismatch, 73, "UPSTREAM_SID_MISMATCH", None),
        (slow_down, 78, "UPSTREAM_RATE_LIMITED", Some("7s")),
        (Fault::Status(500), 78, "UPSTREAM_ERROR", Some("1s")),
        (Fault::ResetBeforeAnswer, 78, "UPSTREAM_UNREACHABLE", Some("1s")),
        (Fault::NotJson, 78, "UPSTREAM_PROTOCOL", None),
        (Fault::Redirect("http://127.0.0.1:9/".to_owned()), 78, "UPSTREAM_REDIRECT", None),
    ] {
        carrier(Some(fault));
        server.refuses(FIRST_TOKEN, exit, reason, retry);
    }
    carrier(Some(Fault::Hang));
    let started = Instant::now();
    server.refuses(FIRST_TOKEN, 78, "UPSTREAM_TIMEOUT", Some("1s"));
    let took = started.elapsed();
    assert!((5..8).contains(&took.as_secs()), "the carrier has 5 seconds: {took:?}");

    carrier(None);
    assert_verified(&server.update_token(FIRST_TOKEN).answer()["provider"], "3");
    // With its runtime the fake is gone for certain, and its port refuses connections.
    drop(twilio);
    drop(runtime);
    server.refuses(SECOND_TOKEN, 78, "UPSTREAM_UNREACHABLE", Some("1s"));

    let filter = json!({"parent": "accounts/dev", "filter": {"resource": PROVIDER}});
    let history = server.ask(AUDIT, "ListAuditEntries", &filter);
    let entries = history.answer()["entries"].as_array().unwrap().clone();
    let is = |outcome: &str| entries.iter().filter(|it| it["outcome"] == outcome).count();
    assert_eq!((is("OK"), is("UPSTREAM_REJECTED_TOKEN"), is("UPSTREAM_TIMEOUT")), (3, 1, 1));
    let all = [server.provider().to_string(), history.both(), server.stop()].concat();
    for token in [FIRST_TOKEN, SECOND_TOKEN, WRONG_TOKEN] {
        assert!(!all.contains(token), "a token was shown");
    }
}

fn assert_verified(provider: &Value, version: &str) {
    let verification = &provider["verification"];
    assert_eq!(verification["status"], "VERIFICATION_STATUS_VERIFIED", "{provider}");
    assert_eq!(provider["tokenVersion"], version);
    let checks = verification["checks"].as_array().unwrap().iter();
    let checks = checks.map(|check| (text(&check["name"]), text(&check["status"])));
    let passed = "CHECK_STATUS_PASSED".to_owned();
    let names = ["credentials", "account_active", "phone_numbers"];
    let expected = names.map(|it| (it.to_owned(), passed.clone()));
    assert_eq!(checks.collect::<Vec<_>>(), expected);
}

impl Server {
    /// Whether the vault confirms what a phone with this password answers to a challenge.
    fn verifies(&self, user: &str, password: &str) -> bool {
        use md5::{Digest as _, Md5};
        let md5 = |text: String| hex::encode(Md5::digest(text));
        let (realm, nonce, uri) = ("sip.example.com", "n0nce", "sip:sip.example.com");
        let ha1 = md5(format!("{user}:{realm}:{password}"));
        let response = md5(format!("{ha1}:{nonce}:{}", md5(format!("REGISTER:{uri}"))));
        let request = json!({
            "parent": "accounts/dev", "username": user, "realm": realm, "method": "REGISTER",
            "uri": uri, "nonce": nonce, "response": response,
        });
        self.ask(USES, "VerifySipDigest", &request).answer()["valid"] == true
    }

    fn update_token(&self, token: &str) -> Outcome {
        let request = json!({"name": PROVIDER, "auth_token": token});
        self.ask(PROVIDERS, "UpdateToken", &request)
    }

    fn provider(&self) -> Value {
        self.ask(PROVIDERS, "GetProvider", &json!({"name": PROVIDER})).answer()
    }

    /// Asserts that this token is refused so, and that nothing changed.
    #[track_caller]
    fn refuses(&self, token: &str, exit: i32, reason: &str, retry: Option<&str>) {
        let before = self.provider();
        let refusal = self.update_token(token).refusal();
        assert_eq!(refusal, (exit, reason.to_owned(), retry.map(str::to_owned)));
        assert_eq!(self.provider(), before, "{reason} changed something");
    }
}
