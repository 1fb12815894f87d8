//! What the metrics say of secrets that were used. In this process, where the clock can be moved and others count as
//! well: more than before.

use credvault::grpc::proto::verify_twilio_webhook_request::Content;
use jiff::SignedDuration;

use super::http::metrics;
use super::{vault, whole};
use crate::credentials::create_with;
use crate::digests::{ALICE, PASSWORD, challenge, check};
use crate::providers::{SID, TOKEN, create_provider};
use crate::webhooks::{CALL, URL, form, request, sign, verdict};

/// Counts up by at least one where `act` is done.
macro_rules! counts {
    ($operations:expr, $name:literal, $labels:expr, $act:expr) => {{
        let counted = async || whole(metrics($operations).await.value($name, &$labels));
        let before = counted().await;
        $act;
        assert!(counted().await > before, "{:?}", $labels);
    }};
}

#[tokio::test]
async fn each_end_of_a_checked_nonce_is_counted() {
    let (vault, operations) = vault().await;
    let clients = vault.acme().await;
    clients.create(create_with("alice", PASSWORD)).await.unwrap();
    let challenge = challenge(&clients).await;
    let (first, late) = (ALICE.registers(&challenge, 1), ALICE.registers(&challenge, 2));
    let mut foreign = first.clone();
    foreign.realm = "elsewhere.test".to_owned();
    for (answer, label, version, age) in [
        (&first, "valid", "active", "under_10m"),
        (&first, "replayed", "active", "under_10m"),
        (&foreign, "foreign", "none", "none"),
        (&late, "stale", "active", "under_1h"),
    ] {
        if label == "stale" {
            vault.clock.advance(SignedDuration::from_mins(11));
        }
        let labels = [("outcome", label), ("version", version), ("age", age)];
        counts!(operations, "credvault_digest_checks_total", labels, {
            assert_eq!(check(&clients, answer.clone()).await, label);
        });
    }
}

#[tokio::test]
async fn webhooks_are_counted_by_what_is_wrong_and_by_who_signed() {
    let (vault, operations) = vault().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    acme.create_provider(create_provider("main")).await.unwrap();
    let good = sign(TOKEN, URL, &CALL);
    let body = Content::Body(b"{}".to_vec());
    for (asked, said, outcome, version) in [
        (request(URL, form(&CALL), &good), "1 Active", "valid", "active"),
        (request(URL, form(&CALL), ""), "NotSigned", "not_signed", "none"),
        (request(URL, form(&CALL[1..]), &good), "WrongSignature", "wrong_signature", "none"),
        (request(URL, form(&CALL), "x"), "WrongSignature", "wrong_signature", "none"),
        (request(URL, body, &sign(TOKEN, URL, &[])), "WrongBody", "wrong_body", "none"),
    ] {
        let labels = [("outcome", outcome), ("version", version)];
        counts!(operations, "credvault_webhook_checks_total", labels, {
            assert_eq!(verdict(&acme, asked).await, said);
        });
    }
}
