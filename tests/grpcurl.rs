//! Drives the release binary with grpcurl, as people do: the first minute, and what carriers do.
//!
//! Not part of `cargo test`: it wants a build and a tool. `.ci/run` makes both and names them in
//! `CREDVAULT_BIN` and `GRPCURL`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should stop there"
)]

#[path = "../examples/fake-twilio.rs"]
#[expect(dead_code, unreachable_pub, reason = "a program of its own; tests use parts of it")]
mod fake_twilio;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use fake_twilio::{FakeTwilio, Fault};

/// How long a start or a stop may take; both are far quicker unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

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
    let server = Server::start(dir.path(), &[("CREDVAULT_UPSTREAM_TWILIO_API_URL", &twilio.url())]);

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
    let expected = ["credentials", "account_active"].map(|it| (it.to_owned(), passed.clone()));
    assert_eq!(checks.collect::<Vec<_>>(), expected);
}

/// The string in a JSON value.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}

/// `credvault dev` as a process. Killed when dropped.
struct Server {
    child: Child,
    said: Receiver<String>,
    log: PathBuf,
    address: String,
    token: String,
    /// The command that it printed to be pasted.
    line: String,
}

impl Server {
    /// Starts it in `dir` and waits until it has said what to type next.
    fn start(dir: &Path, environment: &[(&str, &str)]) -> Self {
        let log = dir.join("credvault.log");
        let mut child = Command::new(named("CREDVAULT_BIN"))
            .args(["dev", "--listen", "127.0.0.1:0", "--log", "trace"])
            .current_dir(dir)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = lines_of(child.stdout.take().unwrap());
        let mut address = None;
        let line = loop {
            match said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains("grpcurl -plaintext") => break line.trim().to_owned(),
                Ok(line) if address.is_none() && line.contains("is ready on ") => {
                    address = line.split(' ').find(|word| word.starts_with("127.")).map(Into::into);
                }
                Ok(_) => {}
                Err(_) => {
                    child.kill().ok();
                    child.wait().ok();
                    panic!("the server did not become ready: {}", read(&log));
                }
            }
        };
        let token = read(&dir.join("credvault-data/dev.token")).trim().to_owned();
        Self { child, said, log, address: address.unwrap(), token, line }
    }

    /// Sends a request through grpcurl's stdin, so that what is in it shows in no process list.
    fn ask(&self, service: &str, method: &str, request: &Value) -> Outcome {
        grpcurl()
            .env("CREDVAULT_TOKEN", &self.token)
            .args(["-format-error", "-expand-headers", "-d", "@"])
            .args(["-H", "authorization: Bearer ${CREDVAULT_TOKEN}", &self.address])
            .arg(format!("{service}/{method}"))
            .output_of(&request.to_string())
    }

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

    /// SIGTERM, and waits for the end. Returns the log.
    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(tool("kill").args(["-TERM", &pid]).output_of("").status.success());
        // Its output ends when the process does.
        while match self.said.recv_timeout(PATIENCE) {
            Ok(_) => true,
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => panic!("the server did not stop"),
        } {}
        assert!(self.child.wait().unwrap().success());
        read(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads on, so that the process never waits for a full pipe.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.for_each(|line| drop(sender.send(line)));
    });
    receiver
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// How a command ended and what it said.
struct Outcome {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The answer of a call that succeeded.
    #[track_caller]
    fn answer(&self) -> Value {
        assert!(self.status.success(), "{}", self.both());
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("not JSON: {}", self.both()))
    }

    /// Exit code (64 + gRPC code), reason and retry delay of a call that was refused.
    #[track_caller]
    fn refusal(&self) -> (i32, String, Option<String>) {
        let status: Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|_| panic!("{}", self.both()));
        let detail = |name: &str| {
            let details = status["details"].as_array().unwrap().iter();
            let of_type = |it: &&Value| it["@type"] == format!("type.googleapis.com/{name}");
            details.clone().find(of_type).cloned()
        };
        let exit = self.status.code().unwrap();
        assert_eq!(status["code"], exit - 64, "{status}");
        let info = detail("google.rpc.ErrorInfo").unwrap();
        assert_eq!(info["domain"], "credvault");
        let retry = detail("google.rpc.RetryInfo").map(|retry| text(&retry["retryDelay"]));
        (exit, text(&info["reason"]), retry)
    }
}

trait OutputOf {
    /// Runs the command with this input. Not for input beyond what a pipe holds.
    fn output_of(&mut self, input: &str) -> Outcome;
}

impl OutputOf for Command {
    fn output_of(&mut self, input: &str) -> Outcome {
        let piped = self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // An error is a command that does not read: its output says why.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Outcome { status: output.status, stdout, stderr }
    }
}

/// grpcurl with what every call here has: plaintext, and an end.
fn grpcurl() -> Command {
    let mut command = Command::new(named("GRPCURL"));
    command.args(["-plaintext", "-connect-timeout", "10", "-max-time", "20"]);
    command
}

/// A program by its name, grpcurl included.
fn tool(name: &str) -> Command {
    let grpcurl = named("GRPCURL");
    assert!(grpcurl.ends_with("grpcurl"), "GRPCURL must be called grpcurl, as in what dev prints");
    let folder = grpcurl.with_file_name("");
    let path = format!("{}:{}", folder.display(), variable("PATH"));
    let mut command = Command::new(name);
    command.env("PATH", path);
    command
}

/// The program that an environment variable names.
fn named(name: &str) -> PathBuf {
    let path = std::path::absolute(variable(name)).unwrap();
    assert!(path.is_file(), "{name} names {}, which is no file", path.display());
    path
}

#[expect(clippy::disallowed_methods, reason = "the runner says where the programs are")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `.ci/run`, or set CREDVAULT_BIN and GRPCURL to the programs")
    })
}
