//! Holds the small Twilio, and what the vault asks of it, to the descriptions that Twilio publishes.
//!
//! [Prism](https://github.com/stoplightio/prism) stands between the two, and reports every request
//! and every answer that is not as described. Error answers are not described, so only good ones
//! are sent through.
//!
//! Not part of `cargo test`: it wants a build and tools. `.ci/run` makes and installs them and names
//! them in `CREDVAULT_BIN`, `GRPCURL`, `PRISM` (the program) and `TWILIO_OPENAPI` (the folder with the
//! descriptions).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should stop there"
)]

#[path = "../examples/fakes/fakes.rs"]
#[expect(dead_code, unreachable_pub, reason = "programs of their own; tests use parts of them")]
mod fakes;
#[path = "grpcurl/server.rs"]
#[expect(dead_code, reason = "one call is enough here")]
mod server;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use fakes::twilio::{FakeTwilio, Fault, Trunk};
use server::{PATIENCE, Server, lines_of, named, text, variable};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "11111111111111111111111111111111";
const KEY: &str = "SK0123456789abcdef0123456789abcdef";
const KEY_SECRET: &str = "a secret of 32 characters, as it is";
const TRUNK: &str = "TK0123456789abcdef0123456789abcdef";
const LIST: &str = "CL0123456789abcdef0123456789abcdef";

#[test]
fn every_good_answer_is_as_described() {
    let world = World::start();
    let account = format!("/2010-04-01/Accounts/{ACCOUNT}");
    let trunk = format!("/v1/Trunks/{TRUNK}");
    for status in ["active", "suspended", "closed"] {
        world.twilio.set_status(ACCOUNT, status);
        let body = world.api.asks(&format!("{account}.json"), ACCOUNT, TOKEN);
        assert_eq!(body["status"], status);
    }
    world.twilio.set_status(ACCOUNT, "active");
    for (user, secret) in [(ACCOUNT, TOKEN), (KEY, KEY_SECRET)] {
        let mut seen = 0;
        let mut pages = 0;
        let mut next = json!(format!("{account}/IncomingPhoneNumbers.json"));
        while let Some(path) = next.as_str() {
            let body = world.api.asks(path, user, secret);
            seen += body["incoming_phone_numbers"].as_array().unwrap().len();
            pages += 1;
            next = body["next_page_uri"].clone();
        }
        assert_eq!((seen, pages), (120, 3));
        let path = format!("{account}/IncomingPhoneNumbers.json?PageSize=1000");
        assert_eq!(world.api.asks(&path, user, secret)["next_page_uri"], Value::Null);

        assert_eq!(world.trunking.asks(&trunk, user, secret)["sid"], TRUNK);
        let lists = world.trunking.asks(&format!("{trunk}/CredentialLists"), user, secret);
        assert_eq!(lists["credential_lists"][0]["sid"], LIST);
        let list = world.trunking.asks(&format!("{trunk}/CredentialLists/{LIST}"), user, secret);
        assert_eq!(list["trunk_sid"], TRUNK);
    }
    // What a trunk may be as well.
    for (transfer_mode, auth_type) in [("enable-all", ""), ("sip-only", "IP_ACL,CREDENTIAL_LIST")] {
        let (transfer_mode, auth_type) = (transfer_mode.to_owned(), auth_type.to_owned());
        let sid = TRUNK.to_owned();
        let domain_name = None;
        let other = Trunk { sid, domain_name, transfer_mode, auth_type, ..Trunk::default() };
        world.twilio.set_trunk(ACCOUNT, other);
        world.trunking.asks(&trunk, ACCOUNT, TOKEN);
        world.trunking.asks(&format!("{trunk}/CredentialLists"), ACCOUNT, TOKEN);
    }
    assert_eq!(world.reports(), [""; 0]);
}

/// Without this, silence would prove nothing.
#[test]
fn planted_what_is_not_as_described_is_reported() {
    let world = World::start();
    let numbers = format!("/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json");
    let number = json!({"incoming_phone_numbers": [{"sid": "PN1"}]}).to_string();
    for (prism, path, fault) in [
        (&world.api, format!("/2010-04-01/Accounts/{ACCOUNT}.json"), says(r#"{"sid": 5}"#)),
        (&world.api, format!("/2010-04-01/Accounts/{ACCOUNT}.json"), Fault::MissingSid),
        (&world.api, numbers.clone(), says(&number)),
        (
            &world.api,
            numbers.clone(),
            Fault::StatusWith { status: 202, headers: Vec::new(), body: Vec::new() },
        ),
        (&world.trunking, format!("/v1/Trunks/{TRUNK}"), says(r#"{"secure": "no"}"#)),
        (&world.trunking, format!("/v1/Trunks/{TRUNK}"), Fault::MissingSid),
        (&world.trunking, format!("/v1/Trunks/{TRUNK}/CredentialLists/{LIST}"), says("[]")),
    ] {
        world.twilio.fail_next(fault);
        let answer = prism.get(&path, ACCOUNT, TOKEN);
        assert_eq!(answer.status, 500, "{path}: {answer:?}");
        assert!(answer.violations.is_some(), "{path}: {answer:?}");
        assert!(!world.reports().is_empty(), "{path}: nothing reported");
    }
    let passed = world.twilio.calls();
    for path in [format!("{numbers}?PageSize=1001"), numbers.replace("AC", "ac")] {
        assert_ne!(world.api.get(&path, ACCOUNT, TOKEN).status, 200, "{path}");
        assert!(!world.reports().is_empty(), "{path}: nothing reported");
    }
    assert_eq!(world.twilio.calls(), passed, "no such request gets through");
}

#[test]
fn the_vault_asks_and_understands_what_is_described() {
    let world = World::start();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(
        dir.path(),
        &[
            ("CREDVAULT_UPSTREAM_TWILIO_API_URL", &world.api.url()),
            ("CREDVAULT_UPSTREAM_TWILIO_TRUNKING_URL", &world.trunking.url()),
        ],
    );
    let twilio =
        json!({"account_sid": ACCOUNT, "sip_trunk_sid": TRUNK, "credential_list_sid": LIST});
    let request = json!({
        "parent": "accounts/dev", "provider_id": "twilio", "auth_token": TOKEN,
        "provider": {"twilio": twilio},
    });
    let created = server.ask("credvault.v1.ProviderService", "CreateProvider", &request).answer();
    let verification = &created["provider"]["verification"];
    assert_eq!(verification["status"], "VERIFICATION_STATUS_VERIFIED", "{created}");
    let checks = verification["checks"].as_array().unwrap().iter();
    let checks = checks.map(|check| (text(&check["name"]), text(&check["status"])));
    let names = ["credentials", "account_active", "sip_trunk", "credential_list", "phone_numbers"];
    let passed = names.map(|name| (name.to_owned(), "CHECK_STATUS_PASSED".to_owned()));
    assert_eq!(checks.collect::<Vec<_>>(), passed);

    assert_eq!(world.reports(), [""; 0]);
    let asked = world.twilio.requests();
    for part in [
        format!("/2010-04-01/Accounts/{ACCOUNT}.json"),
        format!("/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json"),
        format!("/v1/Trunks/{TRUNK}"),
        format!("/v1/Trunks/{TRUNK}/CredentialLists"),
    ] {
        assert!(world.twilio.calls_to(&part) > 0, "{part} was not asked for: {asked:?}");
    }
}

/// 200 with this body.
fn says(body: &str) -> Fault {
    let headers = vec![("content-type", "application/json".to_owned())];
    Fault::StatusWith { status: 200, headers, body: body.as_bytes().to_vec() }
}

/// The small Twilio, with a Prism in front of each of its products.
struct World {
    api: Prism,
    trunking: Prism,
    twilio: FakeTwilio,
    _runtime: Runtime,
    _descriptions: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let twilio = runtime.block_on(FakeTwilio::start());
        twilio.add_account(ACCOUNT, TOKEN);
        twilio.add_api_key(ACCOUNT, KEY, KEY_SECRET);
        twilio.add_numbers(ACCOUNT, 100, Some(TRUNK));
        twilio.add_numbers(ACCOUNT, 20, None);
        twilio.pad_numbers(ACCOUNT, 100);
        let credential_lists = vec![LIST.to_owned()];
        let trunk = Trunk { sid: TRUNK.to_owned(), credential_lists, ..Trunk::default() };
        twilio.set_trunk(ACCOUNT, trunk);
        let dir = tempfile::tempdir().unwrap();
        let prism = |name| Prism::start(&stricter(name, dir.path()), &twilio.url());
        let (api, trunking) = (prism("twilio_api_v2010.json"), prism("twilio_trunking_v1.json"));
        Self { api, trunking, twilio, _runtime: runtime, _descriptions: dir }
    }

    /// What either Prism had to say against what passed since this was asked last.
    fn reports(&self) -> Vec<String> {
        [self.api.reports(), self.trunking.reports()].concat()
    }
}

/// Copies a description into `dir`, made stricter where it would let the fake leave things out.
fn stricter(name: &str, dir: &Path) -> PathBuf {
    let published = Path::new(&variable("TWILIO_OPENAPI")).join(name);
    let mut description = serde_json::from_str(&server::read(&published)).unwrap();
    tighten(&mut description);
    let copy = dir.join(name);
    std::fs::write(&copy, description.to_string()).unwrap();
    copy
}

/// - No field is required in what is published, and any may be added: here all are, and none may.
/// - `nullable` without a type, as in a trunk's `recording`, makes Prism check nothing of the answer
///   and say nothing about it. It goes: any value is allowed there anyway.
/// - Fields called `…uri` are said to be absolute; Twilio's own examples, and its answers, have paths.
fn tighten(description: &mut Value) {
    match description {
        Value::Object(fields) => {
            if !fields.contains_key("type") {
                fields.remove("nullable");
            }
            if let Some(Value::Object(properties)) = fields.get_mut("properties") {
                for (name, schema) in properties.iter_mut() {
                    if name.ends_with("uri") && schema["format"] == "uri" {
                        schema["format"] = json!("uri-reference");
                    }
                }
                let names = properties.keys().cloned().collect::<Vec<_>>();
                fields.insert("required".to_owned(), json!(names));
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(tighten);
        }
        Value::Array(items) => items.iter_mut().for_each(tighten),
        _ => {}
    }
}

/// A Prism that passes requests on and reports what is not as described. Killed when dropped.
struct Prism {
    child: Child,
    said: Receiver<String>,
    address: String,
}

/// An answer, as far as it matters here.
#[derive(Debug)]
struct Answer {
    status: u16,
    violations: Option<String>,
    body: String,
}

impl Prism {
    /// Starts it on a free port and waits until it says which.
    fn start(description: &Path, upstream: &str) -> Self {
        let mut command = Command::new(named("PRISM"));
        command.arg("proxy").arg(description).arg(upstream);
        command.args(["--errors", "--host", "127.0.0.1", "--port", "0"]);
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let said = lines_of(child.stdout.take().unwrap());
        // It owns the process from here on, and ends it whatever happens.
        let mut prism = Self { child, said, address: String::new() };
        while prism.address.is_empty() {
            let line = prism.line();
            let address = line.split_once("is listening on http://");
            prism.address = address.map_or_else(String::new, |(_, it)| it.trim().to_owned());
        }
        prism
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks for what is there and well described.
    #[track_caller]
    fn asks(&self, path: &str, user: &str, secret: &str) -> Value {
        let answer = self.get(path, user, secret);
        assert_eq!((answer.status, &answer.violations), (200, &None), "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    fn get(&self, path: &str, user: &str, secret: &str) -> Answer {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{secret}"));
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nauthorization: Basic {credentials}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let violations = head.lines().find_map(|line| line.strip_prefix("sl-violations: "));
        Answer { status, violations: violations.map(str::to_owned), body: body.to_owned() }
    }

    /// Its warnings and errors since this was asked last. A request that nobody else makes tells
    /// when all before it has been said.
    fn reports(&self) -> Vec<String> {
        let end = "/the-end-of-the-report";
        self.get(end, ACCOUNT, TOKEN);
        let mut reports = Vec::new();
        loop {
            let line = self.line();
            let ours = line.contains(end);
            if ours && line.contains("Request received") {
                return reports;
            }
            let told = ["warn", "error", "iolation"].iter().any(|word| line.contains(word));
            if told && !ours {
                reports.push(line);
            }
        }
    }

    fn line(&self) -> String {
        self.said.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Prism {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
