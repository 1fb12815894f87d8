//! Digests and challenges that are none.

use credvault::grpc::proto::{IssueSipChallengeRequest, VerifySipDigestRequest};

use super::{Case, TOO_LARGE, digest, each};

fn challenge() -> IssueSipChallengeRequest {
    IssueSipChallengeRequest {
        parent: "accounts/acme".to_owned(),
        realm: "sip.test".to_owned(),
        ..Default::default()
    }
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
        each("-sess without qop", &["MD5-sess", "SHA-256-sess"], "qop", |algorithm| {
            VerifySipDigestRequest { algorithm, ..new() }
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
    ]
    .concat()
}
