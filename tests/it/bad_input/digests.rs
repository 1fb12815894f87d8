//! Digests and challenges that are none.

use credvault::grpc::proto::{
    BatchVerifySipDigestRequest, ComputeSipDigestRequest, IssueSipChallengeRequest,
    VerifySipDigestRequest,
};

use super::{Case, DESK, NOT_FOUND, TOO_LARGE, digest, each};

fn challenge() -> IssueSipChallengeRequest {
    IssueSipChallengeRequest {
        parent: "accounts/acme".to_owned(),
        realm: "sip.test".to_owned(),
        ..Default::default()
    }
}

fn compute() -> ComputeSipDigestRequest {
    ComputeSipDigestRequest {
        name: DESK.to_owned(),
        method: "REGISTER".to_owned(),
        uri: "sip:sip.test".to_owned(),
        realm: "sip.test".to_owned(),
        nonce: "n0nce".to_owned(),
        ..Default::default()
    }
}

/// What nobody answers a challenge with, and batches that are none.
fn others() -> Vec<Case> {
    let words = ["", "a\"b", "a\\b", "line\n", "é", &"x".repeat(3000)];
    let parent = || "accounts/acme".to_owned();
    let of =
        |count| BatchVerifySipDigestRequest { parent: parent(), requests: vec![digest(); count] };
    let nobody = "accounts/acme/credentials/nobody";
    [
        each("name", &["", "desk", "accounts/acme"], "name", |name| ComputeSipDigestRequest {
            name,
            ..compute()
        }),
        each("name", &[nobody, "accounts/other/credentials/desk"], NOT_FOUND, |name| {
            ComputeSipDigestRequest { name, ..compute() }
        }),
        each("method", &["", "get"], "method", |method| ComputeSipDigestRequest {
            method,
            ..compute()
        }),
        each("uri", &words, "uri", |uri| ComputeSipDigestRequest { uri, ..compute() }),
        each("realm", &["", "a b", "other.test"], "realm", |realm| ComputeSipDigestRequest {
            realm,
            ..compute()
        }),
        each("nonce", &words, "nonce", |nonce| ComputeSipDigestRequest { nonce, ..compute() }),
        each("a nonce with qop", &["n:00000001:c:auth"], "nonce", |nonce| {
            ComputeSipDigestRequest { nonce, ..compute() }
        }),
        each("algorithm", &["SHA"], "algorithm", |algorithm| ComputeSipDigestRequest {
            algorithm,
            ..compute()
        }),
        each("-sess without qop", &["MD5-sess"], "qop", |algorithm| ComputeSipDigestRequest {
            algorithm,
            ..compute()
        }),
        each("qop", &["x", ",", "authint"], "qop", |qop| ComputeSipDigestRequest {
            qop,
            ..compute()
        }),
        each("opaque", &words[1..], "opaque", |opaque| ComputeSipDigestRequest {
            opaque,
            ..compute()
        }),
        each("too large", &[&"x".repeat(64 * 1024)], TOO_LARGE, |opaque| ComputeSipDigestRequest {
            opaque,
            ..compute()
        }),
        each("too large", &[&"x".repeat(512 * 1024)], TOO_LARGE, |parent| {
            BatchVerifySipDigestRequest { parent, ..of(1) }
        }),
        vec![("none", of(0).into(), "requests"), ("too many", of(257).into(), "requests")],
    ]
    .concat()
}

/// Digest parameters.
pub(super) fn cases() -> Vec<Case> {
    let words = ["", "a\"b", "a\\b", "line\n", "é", &"x".repeat(3000)];
    let sip = ["", "a:b", "a\"b", "a b", "é", &"x".repeat(129)];
    let with_qop = || VerifySipDigestRequest {
        qop: "auth".to_owned(),
        nc: "00000001".to_owned(),
        cnonce: "c".to_owned(),
        ..digest()
    };
    let new = || digest();
    [
        each("username", &sip, "username", |username| VerifySipDigestRequest { username, ..new() }),
        each("realm", &sip, "realm", |realm| VerifySipDigestRequest { realm, ..new() }),
        each("method", &["", "a b", "get", &"X".repeat(33)], "method", |method| {
            VerifySipDigestRequest { method, ..new() }
        }),
        each("uri", &words, "uri", |uri| VerifySipDigestRequest { uri, ..new() }),
        each("nonce", &words, "nonce", |nonce| VerifySipDigestRequest { nonce, ..new() }),
        each("qop", &["x", "auth,auth", "auth,auth-int"], "qop", |qop| VerifySipDigestRequest {
            qop,
            ..with_qop()
        }),
        each("nc", &["", "1", "0000000g", "000000001"], "nc", |nc| VerifySipDigestRequest {
            nc,
            ..with_qop()
        }),
        each("cnonce", &words, "cnonce", |cnonce| VerifySipDigestRequest { cnonce, ..with_qop() }),
        each("nc without qop", &["00000001"], "nc", |nc| VerifySipDigestRequest { nc, ..new() }),
        each("algorithm", &["SHA", "SHA-512", "x", "\"MD5"], "algorithm", |algorithm| {
            VerifySipDigestRequest { algorithm, ..new() }
        }),
        each("-sess unchecked", &["MD5-sess", "SHA-256-sess"], "algorithm", |algorithm| {
            VerifySipDigestRequest { algorithm, ..with_qop() }
        }),
        each("-sess without qop", &["MD5-sess", "SHA-256-sess"], "qop", |algorithm| {
            VerifySipDigestRequest { algorithm, check_nonce: true, ..new() }
        }),
        each("a cnonce with more", &["c:d", "00000001:c:auth:0a"], "cnonce", |cnonce| {
            let algorithm = "MD5-sess".to_owned();
            VerifySipDigestRequest { algorithm, cnonce, check_nonce: true, ..with_qop() }
        }),
        each("a nonce with qop", &["n:00000001:c:auth", ":auth-int"], "nonce", |nonce| {
            VerifySipDigestRequest { nonce, ..new() }
        }),
        each("a body without auth-int", &["", "auth"], "body", |qop| VerifySipDigestRequest {
            qop,
            body: vec![0],
            ..with_qop()
        }),
        each("quotes", &["\"", "\"\"", "\"\"a\"\"", "\"a"], "username", |username| {
            VerifySipDigestRequest { username, ..new() }
        }),
        each("response", &["", "0", &"g".repeat(32), &"0".repeat(64)], "response", |response| {
            VerifySipDigestRequest { response, ..new() }
        }),
        each("check_nonce without qop", &[""], "qop", |qop| VerifySipDigestRequest {
            qop,
            check_nonce: true,
            ..new()
        }),
        each("realm", &sip, "realm", |realm| IssueSipChallengeRequest { realm, ..challenge() }),
        each("algorithm", &["SHA", "x", "\""], "algorithm", |algorithm| IssueSipChallengeRequest {
            algorithm,
            ..challenge()
        }),
        each("too large", &[&"x".repeat(64 * 1024)], TOO_LARGE, |realm| IssueSipChallengeRequest {
            realm,
            ..challenge()
        }),
        each("qop", &["", "x", "auth,auth-int", "auth"], "qop[1]", |qop| {
            IssueSipChallengeRequest { qop: vec!["auth".to_owned(), qop], ..challenge() }
        }),
        each("source", &[" ", "192.0.2.1 5060", "é", "a\n", &"x".repeat(65)], "source", |source| {
            VerifySipDigestRequest { source, ..new() }
        }),
        each("source", &[" ", &"x".repeat(65)], "source", |source| IssueSipChallengeRequest {
            source,
            ..challenge()
        }),
        others(),
    ]
    .concat()
}
