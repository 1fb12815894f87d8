//! What a caller can do to the wire, and what comes of it: an answer that says what was wrong, never
//! INTERNAL or UNKNOWN, and never harm to anybody else.

use std::time::{Duration, Instant};

use bytes::Bytes;
use credvault::access::Role;
use credvault::grpc::proto::{
    CreateProviderRequest, GetCredentialRequest, Provider, RotateCredentialRequest, TwilioProvider,
    VerifySipDigestRequest, provider,
};
use http::HeaderValue;
use jiff::SignedDuration;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::credentials::create;
use crate::support::fakes::twilio::Fault;
use crate::support::raw::{Raw, answer, declared, framed};
use crate::support::{Clients, TestVault};

const GET: &str = "/credvault.v1.CredentialService/GetCredential";

const MALFORMED: &str = "InvalidArgument MALFORMED_MESSAGE";

const TOO_LARGE: &str = "ResourceExhausted MESSAGE_TOO_LARGE";

const BATCH: &str = "/credvault.v1.UseService/BatchVerifySipDigest";

const MAX: usize = 64 * 1024;

/// A message that decodes, and then finds nothing.
fn nothing() -> Vec<u8> {
    GetCredentialRequest { name: "accounts/acme/credentials/none".to_owned() }.encode_to_vec()
}

/// Field `number` with wire type 2 and this content.
fn bytes_field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = varint(u64::from(number << 3 | 2));
    field.extend(varint(u64::try_from(content.len()).unwrap()));
    field.extend(content);
    field
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(std::mem::take(&mut value), &mut bytes);
    bytes
}

/// Groups (wire types 3 and 4) of an unknown field, one in the other.
fn nested_groups(depth: usize) -> Vec<u8> {
    let (start, end) = (varint(100 << 3 | 3), varint(100 << 3 | 4));
    [start.repeat(depth), end.repeat(depth)].concat()
}

async fn connect(vault: &TestVault) -> Raw {
    let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
    Raw::connect(vault.address, &token).await
}

/// A caller who does nothing wrong, on a connection of his own.
async fn honest_call(clients: &mut Clients) {
    let request = GetCredentialRequest { name: "accounts/acme/credentials/none".to_owned() };
    let answer = clients.credentials.get_credential(request).await;
    assert_eq!(answer.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_does_not_decode_is_the_callers_fault_and_said_so() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let good = nothing();
    let flagged = |flag| declared(flag, u32::try_from(good.len()).unwrap(), &good);
    let lone = u32::try_from(good.len()).unwrap();
    for (case, body) in [
        ("bad UTF-8", framed(&bytes_field(1, &[0xff, 0xfe]))),
        ("an overlong UTF-8 form", framed(&bytes_field(1, &[0xc0, 0xaf]))),
        ("a truncated varint", framed(&[0x80])),
        ("a varint of eleven bytes", framed(&[&[0xff; 10][..], &[1]].concat())),
        ("a field that ends early", framed(&[0x0a, 5, b'a'])),
        ("a length beyond all bounds", framed(&[&[0x0a][..], &varint(u64::MAX)].concat())),
        ("the wrong wire type", framed(&[0x08, 1])),
        ("field number 0", framed(&[0x02, 0])),
        ("wire type 7", framed(&[0x0f])),
        ("a group that does not end", framed(&varint(100 << 3 | 3))),
        ("a group that did not begin", framed(&varint(100 << 3 | 4))),
        ("101 groups", framed(&[good.clone(), nested_groups(101)].concat())),
        ("10,000 groups", framed(&nested_groups(10_000))),
        ("the compressed flag", flagged(1)),
        ("a flag that nobody knows", flagged(255)),
        ("an empty body", Vec::new()),
        ("half a frame header", vec![0, 0, 0]),
        ("a header alone", declared(0, 1, &[])),
        ("an early end", declared(0, lone + 1, &good)),
        ("bytes behind the message", [framed(&good), vec![0]].concat()),
        ("two messages", [framed(&good), framed(&good)].concat()),
        ("two messages, one of them empty", [framed(&good), framed(&[])].concat()),
    ] {
        let answer = raw.call(GET, body).await;
        let said = (answer.code, answer.reason.as_str());
        assert_eq!(said, (Code::InvalidArgument, "MALFORMED_MESSAGE"), "{case}");
    }
    honest_call(&mut vault.acme().await).await;
}

/// Health and reflection are other people's code, open to strangers.
#[tokio::test]
async fn what_does_not_decode_is_the_callers_fault_in_health_and_never_ours_in_reflection() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
        for message in [&[0x80][..], &[0x0a, 1, 0xff], &[0x08, 1], &nested_groups(101)] {
            let answer = raw.call(path, framed(message)).await;
            let said = (answer.code, answer.reason.as_str());
            assert_eq!(said, (Code::InvalidArgument, "MALFORMED_MESSAGE"), "{path} {message:?}");
        }
    }
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        for message in [&[0x80][..], &[0x0a, 1, 0xff], &nested_groups(101)] {
            let answer = raw.call(&path, framed(message)).await;
            assert!(!matches!(answer.code, Code::Internal | Code::Unknown), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_decodes_is_taken_however_odd_it_is() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let good = nothing();
    let unknown = [varint(99 << 3), varint(7), bytes_field(98, b"from the future")].concat();
    let fixed = [varint(97 << 3 | 1), vec![1; 8], varint(96 << 3 | 5), vec![1; 4]].concat();
    let last_wins = [bytes_field(1, b"accounts/acme/credentials/first"), good.clone()].concat();
    for (case, message) in [
        ("unknown fields", [unknown.clone(), good.clone(), unknown.clone()].concat()),
        ("unknown fields of fixed width", [fixed, good.clone()].concat()),
        ("10,000 unknown fields", [unknown[..3].repeat(10_000), good.clone()].concat()),
        ("99 unknown groups", [nested_groups(99), good.clone()].concat()),
        ("a field twice", last_wins),
    ] {
        let answer = raw.call(GET, framed(&message)).await;
        assert_eq!((answer.code, answer.reason.as_str()), (Code::NotFound, "NOT_FOUND"), "{case}");
    }

    // The same bytes, one at a time.
    let (response, mut stream) = raw.start(raw.head(GET)).await;
    for byte in framed(&good) {
        stream.send_data(Bytes::from(vec![byte]), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(answer(response).await.unwrap().code, Code::NotFound);
}

#[tokio::test]
async fn a_message_has_at_most_64_kib() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let padded = |size: usize| {
        let good = nothing();
        let padding = |length: usize| bytes_field(50, &vec![b'x'; length]);
        let framing = padding(size - good.len()).len() - (size - good.len());
        let message = [good.clone(), padding(size - good.len() - framing)].concat();
        assert_eq!(message.len(), size);
        framed(&message)
    };
    let answer = raw.call(GET, padded(MAX)).await;
    assert_eq!((answer.code, answer.reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    for body in [padded(MAX + 1), padded(1 << 20)] {
        let answer = raw.call(GET, body).await;
        let said = (answer.code, answer.reason.as_str());
        assert_eq!(said, (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    }
    honest_call(&mut vault.acme().await).await;
}

/// An empty item has two bytes on the wire, and some hundred where it is decoded.
#[tokio::test]
async fn what_a_request_has_too_many_of_is_refused_before_it_is_decoded() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let checks = |count: usize| bytes_field(2, b"").repeat(count);
    let field = bytes_field(1, b"");
    let form = |count: usize| bytes_field(3, &field.repeat(count));
    let batch = |of: &[u8], checks| framed(&[bytes_field(1, of), checks].concat());
    let webhook = |form| framed(&[bytes_field(1, b"accounts/other/providers/main"), form].concat());
    let (acme, other) = (b"accounts/acme", b"accounts/other");
    let verify = "/credvault.v1.UseService/VerifyTwilioWebhook";
    for (case, path, body, expected) in [
        ("256 checks", BATCH, batch(acme, checks(256)), "OK"),
        ("257", BATCH, batch(acme, checks(257)), "InvalidArgument INVALID_FIELD requests"),
        // Those are validated, and so after it is known whether the caller may ask.
        ("257 elsewhere", BATCH, batch(other, checks(257)), "NotFound NOT_FOUND"),
        ("2,000 elsewhere", BATCH, batch(other, checks(2_000)), "NotFound NOT_FOUND"),
        // This is a limit, and the same to everybody.
        ("2,001", BATCH, batch(acme, checks(2_001)), TOO_LARGE),
        ("2,001 elsewhere", BATCH, batch(other, checks(2_001)), TOO_LARGE),
        ("262,000", BATCH, batch(acme, checks(262_000)), TOO_LARGE),
        ("2,000 fields", verify, webhook(form(2_000)), "NotFound NOT_FOUND"),
        ("2,001 fields", verify, webhook(form(2_001)), TOO_LARGE),
        ("in two forms", verify, webhook([form(1_000), form(1_001)].concat()), TOO_LARGE),
        ("261,000 fields", verify, webhook(form(261_000)), TOO_LARGE),
        (
            "cut",
            BATCH,
            framed(&[checks(1_990), bytes_field(50, &[0; 99]), vec![0x12, 1]].concat()),
            MALFORMED,
        ),
        ("no field", BATCH, framed(&[vec![0x02, 0], checks(2_001)].concat()), MALFORMED),
    ] {
        assert_eq!(raw.call(path, body).await.outcome, expected, "{case}");
    }
}

/// Of requests above 64 KiB a connection has eight under way and three that wait. Others, and small ones, go on.
#[tokio::test]
async fn large_requests_that_do_not_end_hold_up_themselves_alone() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let batch = |length: usize| {
        framed(&[bytes_field(1, b"accounts/acme"), bytes_field(50, &vec![0; length])].concat())
    };
    let (small, large) = (batch(1_000), batch(2 * MAX));
    let empty = "InvalidArgument INVALID_FIELD requests";
    let mut held = Vec::new();
    for _ in 0..11 {
        let (response, mut stream) = raw.start(raw.head(BATCH)).await;
        let (begin, rest) = large.split_at(1_000);
        stream.send_data(Bytes::copy_from_slice(begin), false).unwrap();
        // When this is answered that has begun.
        assert_eq!(raw.call(BATCH, small.clone()).await.outcome, empty);
        stream.send_data(Bytes::copy_from_slice(&rest[..rest.len() - 1]), false).unwrap();
        held.push((response, stream));
    }
    let refused = "ResourceExhausted RATE_LIMITED retry 1s";
    assert_eq!(raw.call(BATCH, large.clone()).await.outcome, refused);
    assert_eq!(raw.call(BATCH, small).await.outcome, empty);
    assert_eq!(connect(&vault).await.call(BATCH, large.clone()).await.outcome, empty);
    // One after the other gets what it lacks, those that wait among them.
    for (response, mut stream) in held {
        stream.send_data(Bytes::copy_from_slice(&large[large.len() - 1..]), true).unwrap();
        assert_eq!(answer(response).await.unwrap().outcome, empty);
    }
    assert_eq!(raw.call(BATCH, large).await.outcome, empty);
}

#[tokio::test]
async fn a_declared_length_is_refused_without_waiting_for_it() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let started = Instant::now();
    for length in [u32::MAX, 1 << 31, u32::try_from(MAX).unwrap() + 1] {
        let (response, mut stream) = raw.start(raw.head(GET)).await;
        stream.send_data(declared(0, length, b"hello").into(), false).unwrap();
        // The body stays open: what was declared never comes.
        let answer = answer(response).await.unwrap();
        let said = (answer.code, answer.reason.as_str());
        assert_eq!(said, (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "{length}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn without_a_good_token_every_answer_is_the_same_bytes() {
    let vault = TestVault::start().await;
    let good = vault.token("acme", &[Role::AccountAdmin]).await;
    let expired = vault.token("acme", &[Role::AccountAdmin]).await;
    vault.clock.advance(SignedDuration::from_hours(24 * 31));
    let valid = vault.token("acme", &[Role::AccountAdmin]).await;
    let flipped = |at: usize| {
        let mut token = valid.clone();
        let digit = if &token[at..=at] == "0" { "1" } else { "0" };
        token.replace_range(at..=at, digit);
        token
    };
    let raw = Raw::connect(vault.address, "").await;
    let head = |path: &str, values: &[&str]| {
        let mut head = raw.head(path);
        for value in values {
            head.headers_mut().append("authorization", HeaderValue::from_str(value).unwrap());
        }
        head
    };
    let none = raw.try_call(head(GET, &[]), framed(&nothing())).await.unwrap();
    assert_eq!((none.code, none.reason.as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));

    let bearer = |token: &str| format!("Bearer {token}");
    for (case, values) in [
        ("nonsense", vec!["nonsense".to_owned()]),
        ("another scheme", vec![format!("Basic {valid}")]),
        ("an empty token", vec![bearer("")]),
        ("an unknown id", vec![bearer(&flipped(10))]),
        ("a wrong secret", vec![bearer(&flipped(40))]),
        ("a wrong checksum", vec![bearer(&flipped(valid.len() - 1))]),
        ("an expired token", vec![bearer(&expired)]),
        ("a token and another", vec![bearer(&valid), bearer(&good)]),
        ("a token twice", vec![bearer(&valid), bearer(&valid)]),
        ("two tokens in one value", vec![format!("Bearer {valid}, Bearer {valid}")]),
        ("a token of 7 KiB", vec![bearer(&"x".repeat(7 * 1024))]),
    ] {
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let answer = raw.try_call(head(GET, &values), framed(&nothing())).await.unwrap();
        assert_eq!(answer, none, "{case}");
    }
    for (case, path, body) in [
        ("an unknown method", "/credvault.v1.CredentialService/Reveal", framed(&nothing())),
        ("an unknown service", "/credvault.v1.BackDoor/Open", framed(&nothing())),
        ("no method", "/", framed(&nothing())),
        ("reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Vec::new()),
        ("a message that does not decode", GET, framed(&[0x80])),
        ("a message that is too large", GET, declared(0, u32::MAX, b"")),
        ("a compressed message", GET, declared(1, 0, b"")),
        ("no message", GET, Vec::new()),
    ] {
        let answer = raw.try_call(head(path, &[]), body).await.unwrap();
        assert_eq!(answer, none, "{case}");
    }
    let served = raw.try_call(head(GET, &[&bearer(&valid)]), framed(&nothing())).await.unwrap();
    assert_eq!(served.code, Code::NotFound);
}

#[tokio::test]
async fn with_a_token_an_unknown_method_is_unimplemented() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    for path in ["/credvault.v1.CredentialService/Reveal", "/credvault.v1.BackDoor/Open", "/"] {
        let answer = raw.call(path, framed(&nothing())).await;
        assert_eq!(answer.code, Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn the_callers_deadline_is_kept() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let sid = format!("AC{}", "1".repeat(32));
    vault.twilio.add_account(&sid, &"a".repeat(32));
    vault.twilio.set_fault(Some(Fault::Hang));
    let request = CreateProviderRequest {
        parent: "accounts/acme".to_owned(),
        provider_id: "twilio".to_owned(),
        provider: Some(Provider {
            kind: Some(provider::Kind::Twilio(TwilioProvider {
                account_sid: sid,
                ..Default::default()
            })),
            ..Provider::default()
        }),
        auth_token: "a".repeat(32),
        ..CreateProviderRequest::default()
    };
    for timeout in ["100m", "100000u", "00000000n"] {
        let mut head = raw.head("/credvault.v1.ProviderService/CreateProvider");
        head.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
        let started = Instant::now();
        let answer = raw.try_call(head, framed(&request.encode_to_vec())).await.unwrap();
        let said = (answer.code, answer.reason.as_str());
        assert_eq!(said, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{timeout}");
        // Twilio itself is given up after 5 s, the call after 8.
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
    vault.twilio.set_fault(None);
    let answer = raw
        .call("/credvault.v1.ProviderService/CreateProvider", framed(&request.encode_to_vec()))
        .await;
    assert_eq!(answer.code, Code::Ok, "nothing was stored by the calls that were given up");
}

#[tokio::test]
async fn oversized_headers_are_refused_and_only_the_call_suffers() {
    let vault = TestVault::start().await;
    let raw = connect(&vault).await;
    let mut one = raw.head(GET);
    one.headers_mut().insert("x-large", HeaderValue::from_str(&"x".repeat(9 * 1024)).unwrap());
    let mut many = raw.head(GET);
    for _ in 0..300 {
        many.headers_mut().append("x-many", HeaderValue::from_static("a value"));
    }
    for head in [one, many] {
        if let Ok(answer) = raw.try_call(head, framed(&nothing())).await {
            let refused = answer.http.is_client_error() || answer.code == Code::ResourceExhausted;
            assert!(refused, "{answer:?}");
        }
    }
    assert_eq!(raw.call(GET, framed(&nothing())).await.code, Code::NotFound);
}

#[tokio::test]
async fn what_does_not_speak_http2_is_closed_without_harm() {
    let vault = TestVault::start().await;
    let mut clients = vault.acme().await;
    for greeting in [
        &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
        b"POST /credvault.v1.CredentialService/GetCredential HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03ClientHello, more or less",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthese are not frames, not at all",
        &[0; 1024],
    ] {
        let mut stream = TcpStream::connect(vault.address).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        let mut said = Vec::new();
        // A reset is as good a goodbye as an end.
        let closed = stream.read_to_end(&mut said);
        let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
        assert!(closed.is_ok(), "still open after {}", greeting.escape_ascii());
        honest_call(&mut clients).await;
    }
}

/// The three calls that the malformed ones are made from, and one that does not exist.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let rotate = RotateCredentialRequest {
        name: "accounts/acme/credentials/desk".to_owned(),
        request_id: "3f2b0c9e-8a1d-4c55-9d0e-2f6a7b8c9d10".to_owned(),
        password_length: 20,
        ..RotateCredentialRequest::default()
    };
    let digest = VerifySipDigestRequest {
        parent: "accounts/acme".to_owned(),
        username: "alice".to_owned(),
        realm: "sip.test".to_owned(),
        method: "REGISTER".to_owned(),
        uri: "sip:sip.test".to_owned(),
        nonce: "n0nce".to_owned(),
        response: "0".repeat(32),
        ..VerifySipDigestRequest::default()
    };
    let credential = create("alice");
    vec![
        ("/credvault.v1.CredentialService/CreateCredential", credential.encode_to_vec()),
        ("/credvault.v1.CredentialService/RotateCredential", rotate.encode_to_vec()),
        ("/credvault.v1.CredentialService/UpdateCredential", credential.encode_to_vec()),
        ("/credvault.v1.ProviderService/ListProviders", digest.encode_to_vec()),
        ("/credvault.v1.UseService/VerifySipDigest", digest.encode_to_vec()),
        ("/credvault.v1.AuditService/ListAuditEntries", rotate.encode_to_vec()),
        ("/credvault.v1.BackDoor/Open", rotate.encode_to_vec()),
        ("/grpc.health.v1.Health/Check", bytes_field(1, b"credvault.v1.UseService")),
    ]
}

/// xorshift64* (Vigna 2016): the same run for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    /// A body with one to four things wrong with it.
    fn malformed(&mut self, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let mut flag = 0;
        let mut length = None;
        let mut tail = Vec::new();
        for _ in 0..=self.below(4) {
            let at = self.below(message.len());
            match self.below(11) {
                0 => message.truncate(at),
                1 => message.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
                2 => message.insert(at, self.byte()),
                3 => message.extend((0..at).map(|_| self.byte()).collect::<Vec<_>>()),
                4 => message.splice(at..at, [0xff; 10]).for_each(drop),
                5 => message.splice(at..at, [0xc3, 0x28]).for_each(drop),
                6 => message.extend(nested_groups(self.below(300))),
                7 => message.extend(varint(self.next()).repeat(self.below(1000))),
                8 => flag = self.byte(),
                9 => length = u32::try_from(self.next() >> self.below(64).max(32)).ok(),
                _ => tail = (0..self.below(20)).map(|_| self.byte()).collect(),
            }
        }
        let length = length.unwrap_or_else(|| u32::try_from(message.len()).unwrap());
        let mut body = declared(flag, length, &message);
        body.extend(tail);
        if self.below(10) == 0 {
            body.truncate(self.below(body.len()));
        }
        body
    }
}

#[tokio::test]
async fn two_thousand_malformed_frames_are_nobodys_problem() {
    const SEED: u64 = 0x005e_ed0f_c4ed_7a17;
    println!("seed {SEED:#x}");
    let vault = TestVault::start().await;
    let mut honest = vault.acme().await;
    let raw = connect(&vault).await;
    let seeds = seeds();
    let mut random = Random(SEED);
    let mut refused = 0;
    for round in 0..2_000 {
        let (path, message) = &seeds[random.below(seeds.len())];
        let body = random.malformed(message);
        let shown = hex::encode(&body[..body.len().min(200)]);
        let answer = raw.try_call(raw.head(path), body).await;
        let answer = answer.unwrap_or_else(|error| panic!("round {round}: {error} {path} {shown}"));
        assert!(
            !matches!(answer.code, Code::Internal | Code::Unknown | Code::DataLoss),
            "round {round}, seed {SEED:#x}: {answer:?} {path} {shown}"
        );
        refused += usize::from(answer.reason == "MALFORMED_MESSAGE");
        if round % 50 == 0 {
            honest_call(&mut honest).await;
        }
    }
    assert!(refused > 500, "only {refused} were malformed: the generator does not do its work");
    honest_call(&mut honest).await;
}
