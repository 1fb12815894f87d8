//! Twilio's own library for Python, on the other side: it signs webhooks that must verify here, both judge the same requests, and
//! it reads access tokens that were minted here.
//!
//! Not part of `cargo test`: it wants the library. `.ci/run` installs it and names its Python in `TWILIO_PYTHON`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected should stop there, and reads the environment, the time and what it made"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use credvault::access_token::{Grants, Identity, Lifetime, Service, Sid, Signer, Video, mint};
use credvault::provider::twilio::{AccountSid, ApiKeySid, Region};
use credvault::secret::SecretText;
use credvault::webhook::{Content, Signature, Url, Webhook};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const REQUESTS: usize = 10_000;
const SEED: u64 = 0x7011_1150_0000_0001;

/// What the library answers, line by line.
fn library(asked: &[Value]) -> Vec<Value> {
    let python = std::env::var("TWILIO_PYTHON");
    let python = python.unwrap_or_else(|_| panic!("TWILIO_PYTHON names a Python with twilio"));
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/twilio_python/peer.py"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<_> = asked.iter().map(Value::to_string).collect();
    let lines = lines.join("\n");
    // It reads all before it answers.
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<_> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), asked.len());
    answers
}

/// xorshift64*: the same requests each time.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn text(&mut self, letters: &[&str], longest: usize) -> String {
        (0..self.below(longest + 1)).map(|_| self.one(letters)).collect()
    }
}

#[derive(Debug, Clone)]
struct Request {
    token: String,
    url: String,
    content: Content,
}

/// A request as Twilio might make it, with what is awkward in URLs and fields.
fn request(rng: &mut Rng) -> Request {
    const WORD: [&str; 12] = ["a", "b", "B", "Sid", "-", "_", "%20", "%2F", "+", "~", "0", "é"];
    const VALUE: [&str; 12] = ["a", "B", " ", "+", "&", "=", "%", "\n", "é", "1", "本", ""];
    let token: String = (0..32).map(|_| rng.one(&["0", "3", "7", "a", "c", "f"])).collect();
    let scheme = rng.one(&["http", "https"]);
    let host = rng.one(&["example.com", "a.b.example", "user:pass@example.com", "203.0.113.7"]);
    // The library takes a user with a password and a port for a host of another name.
    let port = if host.contains('@') { "" } else { rng.one(&["", "", ":80", ":443", ":8443"]) };
    let path = ["", "/", "/voice", "/a/b.php"][rng.below(4)].to_owned() + &rng.text(&WORD, 4);
    let path = if path.is_empty() || path.starts_with('/') { path } else { format!("/{path}") };
    let mut url = format!("{scheme}://{host}{port}{path}");
    for number in 0..rng.below(4) {
        let separator = if number == 0 { "?" } else { "&" };
        let (name, value) = (rng.text(&WORD, 2), rng.text(&WORD, 4));
        url.extend([separator, "x", &name, "=", &value]);
    }
    let content = match rng.below(6) {
        0 => Content::Nothing,
        1 => {
            let body = format!("{{\"a\": \"{}\"}}", rng.text(&["b", "é", "1", " "], 9));
            let separator = if url.contains('?') { "&" } else { "?" };
            url.extend([separator, "bodySHA256=", &hex::encode(Sha256::digest(&body))]);
            Content::Body(body.into_bytes())
        }
        _ => {
            let field = |rng: &mut Rng| {
                (rng.one(&["A", "a", "Ab", "B", "Digits", "é"]).to_owned(), rng.text(&VALUE, 3))
            };
            Content::Form((0..rng.below(9)).map(|_| field(rng)).collect())
        }
    };
    Request { token, url, content }
}

/// The same with something else in one place, or nothing else.
fn changed(rng: &mut Rng, request: &Request) -> Request {
    let mut changed = request.clone();
    match (rng.below(6), &mut changed.content) {
        (0, _) => changed.token = changed.token.replace('a', "b"),
        // Not into a port: the library takes no odd one.
        (1, _) => changed.url += rng.one(&["", "/x", "/&y=1"]),
        (2, Content::Form(fields)) => {
            fields.reverse();
            fields.extend(fields.first().cloned());
        }
        (3, Content::Form(fields)) => fields.push(("B".to_owned(), "1".to_owned())),
        (2 | 3, Content::Body(body)) => body.push(b'x'),
        (4, _) => {
            // Behind a proxy the port goes.
            for port in [":80/", ":443/", ":8443/"] {
                changed.url = changed.url.replacen(port, "/", 1);
            }
        }
        _ => {}
    }
    changed
}

fn asked(request: &Request, signature: Option<&str>) -> Value {
    let mut asked = json!({ "token": request.token, "url": request.url });
    match &request.content {
        Content::Nothing => asked["fields"] = json!([]),
        Content::Form(fields) => asked["fields"] = json!(fields),
        Content::Body(body) => asked["body"] = json!(String::from_utf8(body.clone()).unwrap()),
    }
    if let Some(signature) = signature {
        asked["signature"] = json!(signature);
    }
    asked
}

fn verifies(request: &Request, signature: &str) -> bool {
    let webhook = Webhook::new(Url::parse(&request.url).unwrap(), request.content.clone());
    let token = SecretText::new(request.token.clone());
    let signature = Signature::parse(signature);
    signature.is_some_and(|it| webhook.is_signed_by(&token, &it) && webhook.has_its_body())
}

#[test]
fn ten_thousand_requests_are_judged_alike() {
    println!("seed {SEED:#x}");
    let mut rng = Rng(SEED);
    let requests: Vec<_> = (0..REQUESTS).map(|_| request(&mut rng)).collect();
    let signatures = library(&requests.iter().map(|it| asked(it, None)).collect::<Vec<_>>());
    let signatures: Vec<_> =
        signatures.iter().map(|it| it["signature"].as_str().unwrap()).collect();
    for (request, signature) in requests.iter().zip(&signatures) {
        assert!(verifies(request, signature), "{request:?} {signature}");
    }
    let others: Vec<_> = requests.iter().map(|request| changed(&mut rng, request)).collect();
    let others: Vec<_> = others.iter().zip(&signatures).collect();
    let judged: Vec<_> = others.iter().map(|(it, signature)| asked(it, Some(signature))).collect();
    let mut verdicts = BTreeMap::new();
    for ((request, signature), theirs) in others.iter().zip(library(&judged)) {
        let ours = verifies(request, signature);
        assert_eq!(Some(ours), theirs["valid"].as_bool(), "{request:?} {signature}");
        *verdicts.entry(ours).or_insert(0) += 1;
    }
    println!("{REQUESTS} signed by the library verify; of as many changed ones {verdicts:?}");
    assert!(verdicts.values().all(|count| *count > REQUESTS / 10), "{verdicts:?}");
}

#[test]
fn the_library_reads_what_is_minted_and_nothing_that_is_not() {
    let sid = |prefix: &str| format!("{prefix}{}", "0a".repeat(16));
    let account = AccountSid::parse(&sid("AC")).unwrap();
    let key = ApiKeySid::parse(&sid("SK")).unwrap();
    let grants = Grants {
        identity: Identity::parse("é\"alice\\@example.com").unwrap(),
        voice: None,
        video: Some(Video { room: None }),
        chat: None,
        data_sync: Some(Service {
            service_sid: Sid::parse("IS", &sid("IS")).unwrap(),
            endpoint_id: None,
            deployment_role_sid: None,
            push_credential_sid: None,
        }),
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let now = Timestamp::now();
    let mut lines = Vec::new();
    for region in [Region::Us1, Region::Ie1] {
        let signer = Signer { account: &account, key: &key, region };
        for begin in [now, now - SignedDuration::from_hours(2)] {
            let made = mint(
                signer,
                &SecretText::new(secret.to_owned()),
                &grants,
                (begin, Lifetime::USUAL),
                [7; 8],
            );
            for secret in [secret, "another secret, which did not sign"] {
                lines.push(json!({ "jwt": made.token.expose(), "secret": secret }));
            }
        }
    }
    let answers = library(&lines);
    for (number, region) in [(0, Value::Null), (4, json!("ie1"))] {
        let [good, wrong, expired, _] = &answers[number..number + 4] else { panic!("four each") };
        let seconds = now.as_second();
        assert_eq!(good["headers"]["cty"], "twilio-fpa;v=1");
        assert_eq!(good["headers"]["twr"], region);
        let expected = json!({
            "jti": format!("{}-{seconds}-0707070707070707", sid("SK")), "iss": sid("SK"), "sub": sid("AC"),
            "nbf": seconds, "exp": seconds + 3600,
            "grants": {
                "identity": "é\"alice\\@example.com", "video": {}, "data_sync": { "service_sid": sid("IS") },
            },
        });
        assert_eq!(good["payload"], expected);
        assert!(wrong["error"].as_str().unwrap().contains("ignature"), "{wrong}");
        assert!(expired["error"].as_str().unwrap().contains("expired"), "{expired}");
    }
}
