//! Wrong digest responses: who sends many is held up, and nobody else.

use credvault::access::Role;
use credvault::grpc::proto::VerifySipDigestRequest;
use jiff::SignedDuration;

use crate::credentials::{create_with, set_password};
use crate::support::{Clients, TestVault, md5_response, outcome};

const LIMITED: &str = "ResourceExhausted RATE_LIMITED retry 6s";
const PHONE: &str = "192.0.2.1";
const GUESSER: &str = "203.0.113.9";

/// Whether a password is the one of a username, as `source` asks; or how that was refused.
async fn check(clients: &Clients, username: &str, password: &str, source: &str) -> String {
    let answer = clients.uses.clone().verify_sip_digest(request(username, password, source)).await;
    match answer {
        Ok(answer) => answer.into_inner().valid.to_string(),
        refused => outcome(&refused),
    }
}

fn request(username: &str, password: &str, source: &str) -> VerifySipDigestRequest {
    VerifySipDigestRequest {
        parent: "accounts/acme".to_owned(),
        username: username.to_owned(),
        realm: "sip.test".to_owned(),
        method: "REGISTER".to_owned(),
        uri: "sip:sip.test".to_owned(),
        nonce: "n0nce".to_owned(),
        response: md5_response(username, "sip.test", password, "n0nce"),
        source: source.to_owned(),
        ..VerifySipDigestRequest::default()
    }
}

/// A vault with the credential `alice` and a client of its account.
async fn with_alice() -> (TestVault, Clients, String) {
    let vault = TestVault::start().await;
    let clients = vault.acme().await;
    let (credential, _) = clients.create(create_with("alice", "right-password-1")).await.unwrap();
    (vault, clients, credential.name)
}

/// Guesses until the bucket is empty.
async fn exhaust(clients: &Clients, username: &str, source: &str) {
    for _ in 0..10 {
        assert_eq!(check(clients, username, "wrong", source).await, "false");
    }
    assert_eq!(check(clients, username, "wrong", source).await, LIMITED);
}

#[tokio::test]
async fn who_guesses_is_held_up_and_no_phone_is() {
    let (vault, clients, _) = with_alice().await;
    exhaust(&clients, "alice", GUESSER).await;
    assert_eq!(check(&clients, "alice", "right-password-1", GUESSER).await, LIMITED);
    for source in [PHONE, "", "2001:db8::1"] {
        assert_eq!(check(&clients, "alice", "right-password-1", source).await, "true", "{source}");
    }
    clients.create(create_with("bob", "another-password-1")).await.unwrap();
    assert_eq!(check(&clients, "bob", "another-password-1", GUESSER).await, "true");

    vault.clock.advance(SignedDuration::from_secs(6));
    assert_eq!(check(&clients, "alice", "wrong", GUESSER).await, "false");
    assert_eq!(check(&clients, "alice", "wrong", GUESSER).await, LIMITED);
    vault.clock.advance(SignedDuration::from_secs(6));
    for _ in 0..100 {
        // What is right takes nothing.
        assert_eq!(check(&clients, "alice", "right-password-1", GUESSER).await, "true");
    }
}

#[tokio::test]
async fn a_storm_of_right_responses_passes_and_without_a_source_nothing_is_limited() {
    let (_vault, clients, _) = with_alice().await;
    for _ in 0..200 {
        assert_eq!(check(&clients, "alice", "right-password-1", PHONE).await, "true");
        assert_eq!(check(&clients, "alice", "wrong", "").await, "false");
    }
}

#[tokio::test]
async fn what_does_not_exist_or_is_disabled_is_limited_alike() {
    let (_vault, clients, name) = with_alice().await;
    exhaust(&clients, "nobody", GUESSER).await;
    let off = credvault::grpc::proto::Credential { enabled: Some(false), ..Default::default() };
    clients.update(crate::credentials::update(&name, off, &["enabled"])).await.unwrap();
    for _ in 0..10 {
        assert_eq!(check(&clients, "alice", "right-password-1", GUESSER).await, "false");
    }
    assert_eq!(check(&clients, "alice", "right-password-1", GUESSER).await, LIMITED);
}

#[tokio::test]
async fn other_accounts_and_realms_have_their_own() {
    let (vault, clients, name) = with_alice().await;
    exhaust(&clients, "alice", GUESSER).await;
    let others = vault.clients("other", &[Role::Verifier]).await;
    let elsewhere = VerifySipDigestRequest {
        parent: "accounts/other".to_owned(),
        ..request("alice", "wrong", GUESSER)
    };
    let realm = VerifySipDigestRequest {
        realm: "other.test".to_owned(),
        ..request("alice", "wrong", GUESSER)
    };
    for (clients, request) in [(&others, elsewhere), (&clients, realm)] {
        let answer = clients.uses.clone().verify_sip_digest(request).await.unwrap();
        assert!(!answer.into_inner().valid);
    }
    // The bucket is the username's: a new password does not free who guessed the old one.
    clients.update(set_password(&name, "right-password-2")).await.unwrap();
    assert_eq!(check(&clients, "alice", "right-password-2", GUESSER).await, LIMITED);
}

#[tokio::test]
async fn the_limit_can_be_switched_off() {
    let vault =
        TestVault::start_with(|options, _| options.limits_failed_digest_checks = Some(0)).await;
    let clients = vault.acme().await;
    for _ in 0..100 {
        assert_eq!(check(&clients, "alice", "wrong", GUESSER).await, "false");
    }
}
