//! SIP digests in all their forms: each algorithm and quality, and nonces of the vault's own that are good once.

mod computed;

use credvault::access::Role;
use credvault::grpc::proto::sip_digest_outcome::Outcome;
use credvault::grpc::proto::{
    BatchVerifySipDigestRequest, InvalidReason, IssueSipChallengeRequest,
    IssueSipChallengeResponse, VerifySipDigestRequest, VerifySipDigestResponse,
};
use jiff::SignedDuration;
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};

use crate::credentials::{create_with, update};
use crate::support::random::Rng;
use crate::support::{Clients, TestVault, outcome};

const PARENT: &str = "accounts/acme";
const REALM: &str = "sip.test";
pub(crate) const PASSWORD: &str = "right-password-1";

/// Each algorithm, and whether it is bound to a session.
const ALGORITHMS: [&str; 6] =
    ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"];

/// A phone that holds a password. It computes apart from the service's own code.
#[derive(Clone, Copy)]
pub(crate) struct Phone<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: &'a str,
}

pub(crate) const ALICE: Phone<'_> = Phone { username: "alice", password: PASSWORD };

fn hash(algorithm: &str, text: &[u8]) -> String {
    match algorithm.trim_end_matches("-sess") {
        "MD5" => hex::encode(Md5::digest(text)),
        "SHA-256" => hex::encode(Sha256::digest(text)),
        "SHA-512-256" => hex::encode(Sha512_256::digest(text)),
        other => panic!("{other} is no algorithm"),
    }
}

impl Phone<'_> {
    /// Its answer to a challenge, as an edge hands it on that looks after nonces itself.
    pub(crate) fn answers(
        self,
        nonce: &str,
        algorithm: &str,
        qop: &str,
        nc: u32,
    ) -> VerifySipDigestRequest {
        let body = if qop == "auth-int" { b"v=0\r\n\xff".to_vec() } else { Vec::new() };
        let mut request = VerifySipDigestRequest {
            parent: PARENT.to_owned(),
            username: self.username.to_owned(),
            realm: REALM.to_owned(),
            method: "REGISTER".to_owned(),
            uri: format!("sip:{REALM}"),
            nonce: nonce.to_owned(),
            algorithm: algorithm.to_owned(),
            qop: qop.to_owned(),
            body,
            ..VerifySipDigestRequest::default()
        };
        if !qop.is_empty() {
            request.nc = format!("{nc:08x}");
            "0a4f113b".clone_into(&mut request.cnonce);
        }
        request.response = self.response(&request, "REGISTER", &request.body);
        request
    }

    fn response(self, request: &VerifySipDigestRequest, method: &str, body: &[u8]) -> String {
        let VerifySipDigestRequest { algorithm, nonce, nc, cnonce, qop, uri, .. } = request;
        let h = |text: String| hash(algorithm, text.as_bytes());
        let mut ha1 = h(format!("{}:{REALM}:{}", self.username, self.password));
        if algorithm.ends_with("-sess") {
            ha1 = h(format!("{ha1}:{nonce}:{cnonce}"));
        }
        let ha2 = match qop.as_str() {
            "auth-int" => h(format!("{method}:{uri}:{}", hash(algorithm, body))),
            _ => h(format!("{method}:{uri}")),
        };
        match qop.as_str() {
            "" => h(format!("{ha1}:{nonce}:{ha2}")),
            qop => h(format!("{ha1}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}")),
        }
    }

    /// To a nonce of nobody's where that is checked, and with `-sess` to one of the vault's.
    async fn answers_to(
        self,
        clients: &Clients,
        algorithm: &str,
        qop: &str,
    ) -> VerifySipDigestRequest {
        if !algorithm.ends_with("-sess") {
            return self.answers("n0nce", algorithm, qop, 1);
        }
        self.registers(&challenge_for(clients, algorithm, qop).await, 1)
    }

    /// The same, of the vault's own nonce.
    pub(crate) fn registers(
        self,
        challenge: &IssueSipChallengeResponse,
        nc: u32,
    ) -> VerifySipDigestRequest {
        let IssueSipChallengeResponse { nonce, algorithm, qop, .. } = challenge;
        let answer = self.answers(nonce, algorithm, &qop[0], nc);
        VerifySipDigestRequest { check_nonce: true, ..answer }
    }
}

async fn ask(clients: &Clients, request: VerifySipDigestRequest) -> VerifySipDigestResponse {
    clients.uses.clone().verify_sip_digest(request).await.unwrap().into_inner()
}

pub(crate) async fn challenge(clients: &Clients) -> IssueSipChallengeResponse {
    challenge_of(clients, IssueSipChallengeRequest::default()).await
}

async fn challenge_for(clients: &Clients, algorithm: &str, qop: &str) -> IssueSipChallengeResponse {
    let (algorithm, qop) = (algorithm.to_owned(), vec![qop.to_owned()]);
    challenge_of(clients, IssueSipChallengeRequest { algorithm, qop, ..Default::default() }).await
}

async fn challenge_of(
    clients: &Clients,
    mut request: IssueSipChallengeRequest,
) -> IssueSipChallengeResponse {
    for (field, default) in [(&mut request.parent, PARENT), (&mut request.realm, REALM)] {
        if field.is_empty() {
            default.clone_into(field);
        }
    }
    clients.uses.clone().issue_sip_challenge(request).await.unwrap().into_inner()
}

/// What became of it, in a word.
pub(crate) async fn check(clients: &Clients, request: VerifySipDigestRequest) -> &'static str {
    let answer = ask(clients, request).await;
    let VerifySipDigestResponse { valid, credential, version, version_state, rspauth, .. } =
        &answer;
    if !valid {
        let nothing = (credential.as_str(), *version, *version_state, rspauth.as_str());
        assert_eq!(nothing, ("", 0, 0, ""));
    }
    let again =
        matches!(answer.invalid_reason(), InvalidReason::NonceStale | InvalidReason::NonceReplayed);
    assert_eq!(answer.stale, again);
    match (answer.valid, answer.invalid_reason()) {
        (true, InvalidReason::Unspecified) => "valid",
        (false, InvalidReason::Unspecified) => "wrong",
        (false, InvalidReason::NonceForeign) => "foreign",
        (false, InvalidReason::NonceStale) => "stale",
        (false, InvalidReason::NonceReplayed) => "replayed",
        (true, reason) => panic!("valid, and {reason:?}"),
    }
}

/// A vault with the credential `alice` and a client of its account.
async fn with_alice() -> (TestVault, Clients, String) {
    let vault = TestVault::start().await;
    let clients = vault.acme().await;
    let (credential, _) = clients.create(create_with("alice", PASSWORD)).await.unwrap();
    (vault, clients, credential.name)
}

/// Each algorithm with each quality that it can have.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    let kinds = ALGORITHMS.into_iter().flat_map(|it| ["", "auth", "auth-int"].map(|qop| (it, qop)));
    kinds.filter(|(algorithm, qop)| !(algorithm.ends_with("-sess") && qop.is_empty()))
}

#[tokio::test]
async fn every_algorithm_and_quality_verifies_quoted_or_not_and_is_answered() {
    let (_vault, clients, name) = with_alice().await;
    for (algorithm, qop) in kinds() {
        let request = ALICE.answers_to(&clients, algorithm, qop).await;
        let answer = ask(&clients, request.clone()).await;
        assert_eq!((answer.valid, answer.credential), (true, name.clone()), "{algorithm} {qop}");
        let rspauth =
            if qop.is_empty() { String::new() } else { ALICE.response(&request, "", b"") };
        assert_eq!(answer.rspauth, rspauth, "{algorithm} {qop}");

        let request = ALICE.answers_to(&clients, algorithm, qop).await;
        let quoted =
            |text: &String| if text.is_empty() { String::new() } else { format!("\"{text}\"") };
        let quotes = VerifySipDigestRequest {
            username: quoted(&request.username),
            realm: quoted(&request.realm),
            uri: quoted(&request.uri),
            nonce: quoted(&request.nonce),
            nc: quoted(&request.nc),
            cnonce: quoted(&request.cnonce),
            qop: quoted(&request.qop),
            algorithm: quoted(&request.algorithm.to_lowercase()),
            response: quoted(&request.response.to_uppercase()),
            ..request.clone()
        };
        assert_eq!(check(&clients, quotes).await, "valid", "{algorithm} {qop}");
        let wrong = Phone { password: "wrong-password-1", ..ALICE };
        let wrong = wrong.answers_to(&clients, algorithm, qop).await;
        assert_eq!(check(&clients, wrong).await, "wrong", "{algorithm} {qop}");
        if qop == "auth-int" {
            let request = ALICE.answers_to(&clients, algorithm, qop).await;
            let other = VerifySipDigestRequest { body: b"v=0\r\n".to_vec(), ..request };
            assert_eq!(check(&clients, other).await, "wrong", "{algorithm}: another body");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_wrong_responses_are_refused() {
    let (_vault, clients, _) = with_alice().await;
    let mut rng = Rng::new(26);
    let mut right = Vec::new();
    for (algorithm, qop) in kinds() {
        right.push(ALICE.answers_to(&clients, algorithm, qop).await);
    }
    let requests: Vec<_> = (0..10_000)
        .map(|number| {
            let mut request = right[number % right.len()].clone();
            let digits = request.response.len();
            // Of the right one a digit, or nothing.
            if number % 2 == 0 {
                request.response = rng.hex(digits);
            } else {
                let place = rng.below(digits);
                let digit = if &request.response[place..=place] == "0" { "1" } else { "0" };
                request.response.replace_range(place..=place, digit);
            }
            request
        })
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    for requests in requests.chunks(625).map(<[_]>::to_vec) {
        let clients = clients.clone();
        tasks.spawn(async move {
            for request in requests {
                assert_eq!(check(&clients, request).await, "wrong");
            }
        });
    }
    tasks.join_all().await;
    for request in right {
        assert_eq!(check(&clients, request).await, "valid");
    }
}

/// One overheard response is the session key of a `-sess` with a cnonce of one's own choice.
#[tokio::test]
async fn nobody_makes_a_session_of_what_he_overheard() {
    let (_vault, clients, _) = with_alice().await;
    let seen = challenge(&clients).await;
    let overheard = ALICE.registers(&seen, 1);
    let ha2 = |method: &str| hash("MD5", format!("{method}:{}", overheard.uri).as_bytes());
    let mut forged = VerifySipDigestRequest {
        method: "INVITE".to_owned(),
        algorithm: "MD5-sess".to_owned(),
        nc: "00000002".to_owned(),
        cnonce: format!("00000001:{}:auth:{}", overheard.cnonce, ha2("REGISTER")),
        ..overheard.clone()
    };
    let VerifySipDigestRequest { nonce, nc, cnonce, .. } = &forged;
    let text = format!("{}:{nonce}:{nc}:{cnonce}:auth:{}", overheard.response, ha2("INVITE"));
    forged.response = hash("MD5", text.as_bytes());
    for (check_nonce, field) in [(true, "cnonce"), (false, "algorithm")] {
        forged.check_nonce = check_nonce;
        let refused = clients.uses.clone().verify_sip_digest(forged.clone()).await;
        assert_eq!(outcome(&refused), format!("InvalidArgument INVALID_FIELD {field}"));
    }
    // Without a qop there is no colon in what was overheard, and the nonce is for another algorithm.
    let mut seen = ALICE.answers(&seen.nonce, "MD5", "", 1);
    (seen.algorithm, seen.qop) = ("MD5-sess".to_owned(), "auth".to_owned());
    (seen.nc, seen.cnonce) = ("00000002".to_owned(), ha2("REGISTER"));
    let VerifySipDigestRequest { nonce, nc, cnonce, .. } = &seen;
    let text = format!("{}:{nonce}:{nc}:{cnonce}:auth:{}", seen.response, ha2("REGISTER"));
    (seen.response, seen.check_nonce) = (hash("MD5", text.as_bytes()), true);
    assert_eq!(check(&clients, seen).await, "foreign");
}

#[tokio::test]
async fn a_challenge_says_what_a_header_says() {
    let (vault, clients, _) = with_alice().await;
    let made = challenge(&clients).await;
    assert_eq!((made.algorithm.as_str(), made.qop.join(",")), ("MD5", "auth".to_owned()));
    let expiry = vault.now() + SignedDuration::from_mins(5);
    assert_eq!(made.expire_time.unwrap().seconds, expiry.as_second());
    let nonce = &made.nonce;
    let expected =
        format!(r#"Digest realm="sip.test", nonce="{nonce}", qop="auth", algorithm=MD5"#);
    assert_eq!(made.challenge, expected);
    let request = IssueSipChallengeRequest {
        realm: "\"other.test\"".to_owned(),
        algorithm: "sha-512-256-SESS".to_owned(),
        qop: vec!["auth-int".to_owned(), "AUTH".to_owned()],
        stale: true,
        ..IssueSipChallengeRequest::default()
    };
    let made = challenge_of(&clients, request).await;
    let nonce = &made.nonce;
    let expected = format!(
        "Digest realm=\"other.test\", nonce=\"{nonce}\", qop=\"auth-int,auth\", \
         algorithm=SHA-512-256-sess, stale=true"
    );
    assert_eq!((made.challenge, made.stale), (expected, true));
}

#[tokio::test]
async fn a_nonce_of_the_vaults_is_good_for_each_count_once() {
    let (_vault, clients, _) = with_alice().await;
    for algorithm in ALGORITHMS {
        for qop in ["auth", "auth-int"] {
            let request = IssueSipChallengeRequest {
                algorithm: algorithm.to_owned(),
                qop: vec![qop.to_owned()],
                ..IssueSipChallengeRequest::default()
            };
            let made = challenge_of(&clients, request).await;
            for (nc, expected) in [
                (0, "replayed"),
                (1, "valid"),
                (1, "replayed"),
                (2, "valid"),
                (5, "valid"),
                (4, "valid"),
                (4, "replayed"),
                (5, "replayed"),
                (0, "replayed"),
                (1000, "valid"),
                (936, "valid"),
                (935, "replayed"),
                (3, "replayed"),
                (u32::MAX, "valid"),
                (u32::MAX, "replayed"),
            ] {
                let found = check(&clients, ALICE.registers(&made, nc)).await;
                assert_eq!(found, expected, "{algorithm} {qop} {nc}");
            }
        }
    }
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_replay_of_a_nonce_count_is_caught() {
    let suite = "digests::a_nonce_of_the_vaults_is_good_for_each_count_once";
    let said = crate::support::process::caught(suite, "replay-nonce");
    assert!(said.contains("left: \"valid\"") && said.contains("MD5 auth 1"), "{said}");
}

#[tokio::test]
async fn who_does_not_know_the_password_uses_up_nothing() {
    let (_vault, clients, name) = with_alice().await;
    let made = challenge(&clients).await;
    let eve = Phone { password: "wrong-password-1", ..ALICE };
    let nobody = Phone { username: "nobody", ..ALICE };
    for _ in 0..3 {
        assert_eq!(check(&clients, eve.registers(&made, 1)).await, "wrong");
        assert_eq!(check(&clients, nobody.registers(&made, 1)).await, "wrong");
    }
    let enabled =
        |on| credvault::grpc::proto::Credential { enabled: Some(on), ..Default::default() };
    clients.update(update(&name, enabled(false), &["enabled"])).await.unwrap();
    assert_eq!(check(&clients, ALICE.registers(&made, 1)).await, "wrong");
    clients.update(update(&name, enabled(true), &["enabled"])).await.unwrap();
    assert_eq!(check(&clients, ALICE.registers(&made, 1)).await, "valid");
}

#[tokio::test]
async fn a_nonce_that_is_too_old_is_said_to_be_stale_to_a_right_response_alone() {
    let (vault, clients, name) = with_alice().await;
    let made = challenge(&clients).await;
    let eve = Phone { password: "wrong-password-1", ..ALICE };
    vault.clock.advance(SignedDuration::from_millis(299_999));
    assert_eq!(check(&clients, ALICE.registers(&made, 1)).await, "valid");
    vault.clock.advance(SignedDuration::from_millis(1));
    for nc in [1, 2] {
        assert_eq!(check(&clients, ALICE.registers(&made, nc)).await, "stale");
        assert_eq!(check(&clients, eve.registers(&made, nc)).await, "wrong");
    }
    let off = credvault::grpc::proto::Credential { enabled: Some(false), ..Default::default() };
    clients.update(update(&name, off, &["enabled"])).await.unwrap();
    assert_eq!(check(&clients, ALICE.registers(&made, 3)).await, "wrong");
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_nonce_live_longer() {
    let (vault, clients, _) = with_alice().await;
    let made = challenge(&clients).await;
    vault.clock.advance(SignedDuration::from_hours(-1));
    assert_eq!(check(&clients, ALICE.registers(&made, 1)).await, "stale");
    let made = challenge(&clients).await;
    assert_eq!(check(&clients, ALICE.registers(&made, 1)).await, "valid");
    assert_eq!(check(&clients, ALICE.registers(&made, 1)).await, "replayed");
}

#[tokio::test]
async fn what_was_made_before_a_restart_is_stale_after_it() {
    let (vault, clients, _) = with_alice().await;
    let (used, unused) = (challenge(&clients).await, challenge(&clients).await);
    assert_eq!(check(&clients, ALICE.registers(&used, 1)).await, "valid");
    let vault = vault.restart().await;
    let clients = vault.acme().await;
    for made in [&used, &unused] {
        for nc in [1, 2] {
            assert_eq!(check(&clients, ALICE.registers(made, nc)).await, "stale");
        }
    }
    let made = challenge(&clients).await;
    assert_eq!(check(&clients, ALICE.registers(&made, 1)).await, "valid");
}

#[tokio::test]
async fn a_nonce_of_elsewhere_is_foreign_and_nothing_is_compared() {
    let (vault, clients, _) = with_alice().await;
    let others = vault.clients("other", &[Role::AccountAdmin, Role::Verifier]).await;
    let mut create = create_with("alice", PASSWORD);
    "accounts/other".clone_into(&mut create.parent);
    others.create(create).await.unwrap();
    let made = challenge(&clients).await;
    let good = ALICE.registers(&made, 1);

    let elsewhere = VerifySipDigestRequest { parent: "accounts/other".to_owned(), ..good.clone() };
    assert_eq!(check(&others, elsewhere).await, "foreign");
    let realm = IssueSipChallengeRequest { realm: "other.test".to_owned(), ..Default::default() };
    let of_realm = challenge_of(&clients, realm).await;
    assert_eq!(check(&clients, ALICE.registers(&of_realm, 1)).await, "foreign");
    // Neither a weaker algorithm nor another quality than was offered.
    let strong = IssueSipChallengeRequest { algorithm: "SHA-256".to_owned(), ..Default::default() };
    let strong = challenge_of(&clients, strong).await;
    let weaker = IssueSipChallengeResponse { algorithm: "MD5".to_owned(), ..strong };
    assert_eq!(check(&clients, ALICE.registers(&weaker, 1)).await, "foreign");
    let int = IssueSipChallengeResponse { qop: vec!["auth-int".to_owned()], ..made.clone() };
    assert_eq!(check(&clients, ALICE.registers(&int, 1)).await, "foreign");
    for nonce in ["n0nce".to_owned(), made.nonce.to_uppercase(), made.nonce[..55].to_owned()] {
        let forged = IssueSipChallengeResponse { nonce, ..made.clone() };
        assert_eq!(check(&clients, ALICE.registers(&forged, 1)).await, "foreign");
    }
    // Where nobody asks, nothing is looked at; and the count is not used by that.
    let unchecked = VerifySipDigestRequest { check_nonce: false, ..good.clone() };
    for _ in 0..2 {
        assert_eq!(check(&clients, unchecked.clone()).await, "valid");
    }
    assert_eq!(check(&clients, good).await, "valid");
}

/// Over UDP anybody can send in the name of another address, but he does not see what that one is asked.
#[tokio::test]
async fn a_nonce_that_was_made_for_an_address_is_good_from_there_and_saves_it_from_others() {
    let (_vault, clients, _) = with_alice().await;
    let bound = |source: &str| IssueSipChallengeRequest {
        source: source.to_owned(),
        ..IssueSipChallengeRequest::default()
    };
    let made = challenge_of(&clients, bound("2001:db8::1")).await;
    let from = |nc, source: &str| VerifySipDigestRequest {
        source: source.to_owned(),
        ..ALICE.registers(&made, nc)
    };
    for (nc, source, expected) in [
        (1, "2001:db8::1", "valid"),
        (2, "[2001:db8::ffff]:5060", "valid"),
        (3, "2001:db8:0:1::1", "foreign"),
        (3, "192.0.2.1", "foreign"),
        (3, "", "foreign"),
    ] {
        assert_eq!(check(&clients, from(nc, source)).await, expected, "{source}");
    }
    let mallory = challenge_of(&clients, bound("192.0.2.66")).await;
    let wrong = Phone { password: "wrong-password-1", ..ALICE };
    for _ in 0..20 {
        let forged = VerifySipDigestRequest {
            source: "2001:db8::1".to_owned(),
            ..wrong.registers(&mallory, 1)
        };
        assert_eq!(check(&clients, forged).await, "foreign");
    }
    assert_eq!(check(&clients, from(3, "2001:db8::1")).await, "valid");
}

#[tokio::test]
async fn only_what_was_compared_and_wrong_takes_from_the_bucket_of_a_source() {
    let (vault, clients, _) = with_alice().await;
    let made = challenge(&clients).await;
    let from = |request| VerifySipDigestRequest { source: "192.0.2.1".to_owned(), ..request };
    assert_eq!(check(&clients, from(ALICE.registers(&made, 1))).await, "valid");
    let forged = IssueSipChallengeResponse { nonce: "n0nce".to_owned(), ..made.clone() };
    for _ in 0..30 {
        assert_eq!(check(&clients, from(ALICE.registers(&made, 1))).await, "replayed");
        assert_eq!(check(&clients, from(ALICE.registers(&forged, 1))).await, "foreign");
    }
    vault.clock.advance(SignedDuration::from_mins(6));
    for _ in 0..30 {
        assert_eq!(check(&clients, from(ALICE.registers(&made, 1))).await, "stale");
    }
    let eve = Phone { password: "wrong-password-1", ..ALICE };
    for _ in 0..10 {
        assert_eq!(check(&clients, from(eve.registers(&made, 1))).await, "wrong");
    }
    let refused = clients.uses.clone().verify_sip_digest(from(ALICE.registers(&made, 1))).await;
    assert_eq!(outcome(&refused), "ResourceExhausted RATE_LIMITED retry 6s");
}

#[tokio::test]
async fn a_batch_has_an_outcome_for_each_in_their_order() {
    let (_vault, clients, name) = with_alice().await;
    let made = challenge(&clients).await;
    let source = || "192.0.2.1".to_owned();
    let eve = Phone { password: "wrong-password-1", ..ALICE };
    let bad = VerifySipDigestRequest { nonce: "a\"b".to_owned(), ..ALICE.registers(&made, 1) };
    let elsewhere = VerifySipDigestRequest { parent: "accounts/other".to_owned(), ..bad.clone() };
    let without = VerifySipDigestRequest { parent: String::new(), ..ALICE.registers(&made, 2) };
    let wrong = VerifySipDigestRequest { source: source(), ..eve.registers(&made, 3) };
    let mut requests = vec![ALICE.registers(&made, 1), bad, elsewhere, without];
    requests.push(ALICE.registers(&made, 1));
    requests.extend(vec![wrong; 11]);
    requests.push(VerifySipDigestRequest { source: source(), ..ALICE.registers(&made, 3) });
    requests.resize(256, ALICE.answers("n0nce", "SHA-256", "auth", 1));
    let batch = BatchVerifySipDigestRequest { parent: PARENT.to_owned(), requests };
    let answer = clients.uses.clone().batch_verify_sip_digest(batch).await.unwrap().into_inner();
    let told = answer.outcomes.iter().map(|it| match it.outcome.as_ref().unwrap() {
        Outcome::Response(answer) if answer.valid => answer.credential.clone(),
        Outcome::Response(answer) => format!("{:?}", answer.invalid_reason()),
        Outcome::Error(error) => {
            let delay = error.retry_delay.map(|delay| delay.seconds);
            format!("{} {} {} {delay:?}", error.code, error.reason, error.field)
        }
    });
    let told = told.collect::<Vec<_>>();
    let limited = "8 RATE_LIMITED  Some(6)".to_owned();
    let mut expected = vec![
        name.clone(),
        "3 INVALID_FIELD requests[1].nonce None".to_owned(),
        "3 INVALID_FIELD requests[2].parent None".to_owned(),
        name.clone(),
        "NonceReplayed".to_owned(),
    ];
    expected.extend(vec!["Unspecified".to_owned(); 10]);
    expected.extend([limited.clone(), limited]);
    expected.resize(256, name);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_batch_may_have_half_a_mebibyte_and_other_calls_no_more_than_before() {
    use prost::Message as _;
    let (vault, clients, _) = with_alice().await;
    // Of a response that is too long the field is wrong, and not the size.
    let of = |length: usize| BatchVerifySipDigestRequest {
        parent: PARENT.to_owned(),
        requests: vec![VerifySipDigestRequest {
            response: "0".repeat(length),
            ..Default::default()
        }],
    };
    let most = 512 * 1024;
    let fits = most - (of(most).encoded_len() - most);
    assert_eq!(of(fits).encoded_len(), most);
    let mut uses = clients.uses.clone();
    assert_eq!(
        uses.batch_verify_sip_digest(of(fits)).await.unwrap().into_inner().outcomes.len(),
        1
    );
    let refused = uses.batch_verify_sip_digest(of(fits + 1)).await;
    assert_eq!(outcome(&refused), "ResourceExhausted MESSAGE_TOO_LARGE");
    let refused = uses.verify_sip_digest(of(64 * 1024).requests.remove(0)).await;
    assert_eq!(outcome(&refused), "ResourceExhausted MESSAGE_TOO_LARGE");
    drop(vault);
}
