//! Responses that the vault computes: it accepts them itself, and others compute the same.

use credvault::grpc::proto::{
    ComputeSipDigestRequest, ComputeSipDigestResponse, Credential, VerifySipDigestRequest,
};

use super::{ALICE, PARENT, REALM, challenge, challenge_for, check, kinds, with_alice};
use crate::credentials::{create_with, rotate, update};
use crate::support::random::Rng;
use crate::support::{Clients, TestVault, outcome};

fn compute(name: &str) -> ComputeSipDigestRequest {
    ComputeSipDigestRequest {
        name: name.to_owned(),
        method: "REGISTER".to_owned(),
        uri: format!("sip:{REALM}"),
        realm: REALM.to_owned(),
        nonce: "n0nce".to_owned(),
        ..ComputeSipDigestRequest::default()
    }
}

/// What an edge makes of an answer.
fn presented(answer: &ComputeSipDigestResponse, body: &[u8]) -> VerifySipDigestRequest {
    let answer = answer.clone();
    VerifySipDigestRequest {
        parent: PARENT.to_owned(),
        username: answer.username,
        realm: answer.realm,
        method: "REGISTER".to_owned(),
        uri: answer.uri,
        nonce: answer.nonce,
        nc: answer.nc,
        cnonce: answer.cnonce,
        body: if answer.qop == "auth-int" { body.to_vec() } else { Vec::new() },
        qop: answer.qop,
        algorithm: answer.algorithm,
        response: answer.response,
        ..VerifySipDigestRequest::default()
    }
}

/// A nonce of the vault's own where nothing else is checked, and whether it is one.
async fn nonce_for(clients: &Clients, algorithm: &str, qop: &str, other: &str) -> (String, bool) {
    if !algorithm.ends_with("-sess") {
        return (other.to_owned(), false);
    }
    (challenge_for(clients, algorithm, qop).await.nonce, true)
}

#[tokio::test]
async fn what_the_vault_computes_it_accepts_and_so_does_another() {
    let (_vault, clients, name) = with_alice().await;
    let body = b"v=0\r\n\xff";
    for (algorithm, qop) in kinds() {
        let (nonce, check_nonce) = nonce_for(&clients, algorithm, qop, "n0nce").await;
        let request = ComputeSipDigestRequest {
            nonce: nonce.clone(),
            algorithm: algorithm.to_lowercase(),
            qop: if qop.is_empty() { String::new() } else { format!("\"token, {qop}\"") },
            opaque: "\"5ccc\"".to_owned(),
            nonce_count: 31,
            body: body.to_vec(),
            ..compute(&name)
        };
        let answer = clients.uses.clone().compute_sip_digest(request).await.unwrap().into_inner();
        let request = VerifySipDigestRequest { check_nonce, ..presented(&answer, body) };
        assert_eq!(
            answer.response,
            ALICE.response(&request, "REGISTER", body),
            "{algorithm} {qop}"
        );
        assert_eq!(check(&clients, request).await, "valid", "{algorithm} {qop}");
        let ComputeSipDigestResponse { nc, cnonce, response, .. } = &answer;
        let mut header = format!(
            "Digest username=\"alice\", realm=\"sip.test\", nonce=\"{nonce}\", uri=\"sip:sip.test\", \
             response=\"{response}\", algorithm={algorithm}"
        );
        if !qop.is_empty() {
            assert_eq!((nc.as_str(), cnonce.len()), ("0000001f", 32));
            header.extend([", cnonce=\"", cnonce, "\", qop=", qop, ", nc=", nc]);
        }
        assert_eq!((answer.version, answer.qop.as_str()), (1, qop));
        assert_eq!(answer.authorization, header + ", opaque=\"5ccc\"");
    }
    let both = ComputeSipDigestRequest { qop: "auth-int,auth".to_owned(), ..compute(&name) };
    let ask =
        async || clients.uses.clone().compute_sip_digest(both.clone()).await.unwrap().into_inner();
    let (one, other) = (ask().await, ask().await);
    assert_eq!((one.qop.as_str(), one.nc.as_str()), ("auth", "00000001"));
    assert_ne!((one.cnonce, one.response), (other.cnonce, other.response));
}

#[tokio::test]
async fn a_challenge_of_the_vaults_is_answered_by_the_vault_with_the_active_password() {
    let (_vault, clients, name) = with_alice().await;
    let request = rotate(&name);
    clients.rotate(request).await.unwrap();
    let made = challenge(&clients).await;
    let request =
        ComputeSipDigestRequest { nonce: made.nonce, qop: made.qop.join(","), ..compute(&name) };
    let answer =
        clients.uses.clone().compute_sip_digest(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.version, 2);
    let presented = VerifySipDigestRequest { check_nonce: true, ..presented(&answer, b"") };
    assert_eq!(check(&clients, presented.clone()).await, "valid");
    assert_eq!(check(&clients, presented).await, "replayed");
    let off = Credential { enabled: Some(false), ..Default::default() };
    clients.update(update(&name, off, &["enabled"])).await.unwrap();
    let refused = clients.uses.clone().compute_sip_digest(request).await;
    assert_eq!(outcome(&refused), "FailedPrecondition INVALID_STATE");
}

/// With what is awkward in names, in challenges and in headers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_vault_computes_it_accepts_and_nothing_else() {
    const ROUNDS: usize = 25;
    const AWKWARD: [&str; 12] = ["a", "Z", "7", "-", "_", ".", "+", "%", "=", "~", "!", "$"];
    const QUOTED: [&str; 8] = ["a", "Z", "7", "/", "+", "=", ":", ";"];
    let vault = TestVault::start().await;
    let clients = vault.acme().await;
    let mut rng = Rng::new(0x5197);
    let text = |rng: &mut Rng, letters: &[&str], most: usize| -> String {
        (0..=rng.below(most)).map(|_| letters[rng.below(letters.len())]).collect()
    };
    for round in 0..ROUNDS {
        let username = format!("{}{round}", text(&mut rng, &AWKWARD, 20));
        let length = 12 + rng.below(40);
        let create = create_with(&username, &rng.password(length));
        let (credential, _) = clients.create(create).await.unwrap();
        for (algorithm, qop) in kinds() {
            let length = rng.below(2_000);
            let body: Vec<u8> = (0..length).map(|_| rng.draw().to_le_bytes()[0]).collect();
            let method = ["REGISTER", "INVITE", "MESSAGE", "PUBLISH"][rng.below(4)];
            let odd = text(&mut rng, &QUOTED, 90);
            let (nonce, check_nonce) = nonce_for(&clients, algorithm, qop, &odd).await;
            let request = ComputeSipDigestRequest {
                method: method.to_owned(),
                uri: format!("sip:{}@{REALM};x={}", text(&mut rng, &QUOTED, 9), rng.hex(4)),
                nonce,
                algorithm: algorithm.to_owned(),
                qop: qop.to_owned(),
                nonce_count: u32::try_from(rng.below(1 << 32)).unwrap(),
                body: body.clone(),
                ..compute(&credential.name)
            };
            let answer = clients.uses.clone().compute_sip_digest(request).await.unwrap();
            let right = VerifySipDigestRequest {
                method: method.to_owned(),
                check_nonce,
                ..presented(&answer.into_inner(), &body)
            };
            assert_eq!(check(&clients, right.clone()).await, "valid", "{right:?}");
            let other = VerifySipDigestRequest { method: "BYE".to_owned(), ..right.clone() };
            assert_eq!(check(&clients, other).await, "wrong", "{right:?}");
            if qop == "auth-int" {
                let more = [&*body, b"!"].concat();
                let other = VerifySipDigestRequest { body: more, ..right.clone() };
                assert_eq!(check(&clients, other).await, "wrong", "{right:?}");
            }
        }
    }
}
