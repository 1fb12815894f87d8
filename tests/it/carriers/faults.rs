//! What can go wrong at a carrier: each fault has its answer, which tells no token, and only the audit log changes.

use std::time::Instant;

use credvault::upstream::Network;

use super::{AUTH_ID, At, with_all};
use crate::providers::update_token;
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::telepath::ErrorBody;
use crate::support::{Clients, TestVault, outcome};

const REJECTED: &str = "FailedPrecondition UPSTREAM_REJECTED_TOKEN";
const INACTIVE: &str = "FailedPrecondition UPSTREAM_ACCOUNT_INACTIVE";
const NOT_FOUND: &str = "FailedPrecondition UPSTREAM_ACCOUNT_NOT_FOUND";
const MISMATCH: &str = "FailedPrecondition UPSTREAM_SID_MISMATCH";
const ERROR: &str = "Unavailable UPSTREAM_ERROR retry 1s";
const UNREACHABLE: &str = "Unavailable UPSTREAM_UNREACHABLE retry 1s";
const TIMEOUT: &str = "Unavailable UPSTREAM_TIMEOUT retry 1s";
const PROTOCOL: &str = "Unavailable UPSTREAM_PROTOCOL";
const REDIRECT: &str = "Unavailable UPSTREAM_REDIRECT";
const RATE_LIMITED: &str = "Unavailable UPSTREAM_RATE_LIMITED retry 7s";

/// Makes each call that asks the carrier, with `fault`: each is refused, and only recorded.
async fn refused(vault: &TestVault, acme: &Clients, at: At, fault: &Fault, expected: &str) {
    let mut what = format!("{at:?}: {fault:?}");
    what.truncate(200);
    let [token, ..] = at.tokens();
    let before = (vault.state(), acme.get_provider(&at.name()).await.unwrap());
    for method in ["CreateProvider", "UpdateToken"] {
        // Only failures in a row have the carrier left alone.
        acme.verify_provider(&at.name()).await.unwrap();
        let before_call = (vault.state(), at.asked(vault));
        let recorded = acme.audit_log("acme").await.len();
        at.fail_next(vault, fault.clone());
        let result = match method {
            "UpdateToken" => acme.update_token(update_token(&at.name(), token)).await,
            _ => acme.create_provider(at.create("new")).await,
        };
        assert_eq!(outcome(&result), expected, "{method}: {what}");
        assert!(!format!("{:?}", result.unwrap_err()).contains(token), "{method}: {what}");
        assert_eq!(vault.state(), before_call.0, "{method}: {what}");
        assert_eq!(at.asked(vault), before_call.1 + 1, "{method}: one try: {what}");
        let log = acme.audit_log("acme").await.split_off(recorded);
        let [entry] = log.as_slice() else { panic!("{method}: {what}: {log:?}") };
        let told = (entry.method.as_str(), entry.outcome.as_str());
        assert_eq!(told, (method, expected.split(' ').nth(1).unwrap()), "{what}");
        assert!(!format!("{entry:?}").contains(token), "{method}: {what}");
    }
    let after = acme.get_provider(&at.name()).await.unwrap();
    assert_eq!((after.etag, after.kind), (before.1.etag, before.1.kind), "{what}");
}

fn says(status: u16, body: &str) -> Fault {
    let headers = vec![("content-type", "application/json".to_owned())];
    Fault::StatusWith { status, headers, body: body.as_bytes().to_vec() }
}

fn faults() -> Vec<(Fault, &'static str)> {
    let statuses = [
        (401, REJECTED),
        (403, INACTIVE),
        (400, PROTOCOL),
        (402, PROTOCOL),
        (405, PROTOCOL),
        (409, PROTOCOL),
        (204, PROTOCOL),
        (500, ERROR),
        (503, ERROR),
    ]
    .map(|(status, expected)| (Fault::Status(status), expected));
    let empty = [(401, REJECTED), (403, INACTIVE), (422, PROTOCOL)]
        .map(|(status, expected)| (says(status, ""), expected));
    let nonsense = ["", "[]", "{}", "null", "\"yes\"", "{", &"[".repeat(10_000)]
        .map(|body| (says(200, body), PROTOCOL));
    let ways = [
        (Fault::RateLimit(7), RATE_LIMITED),
        (Fault::Redirect("http://127.0.0.1:1/x".to_owned()), REDIRECT),
        (Fault::NotJson, PROTOCOL),
        (Fault::HugeBody, PROTOCOL),
        (Fault::EndlessBody, PROTOCOL),
        (Fault::PaddedTo(64 * 1024 + 1), PROTOCOL),
        (Fault::HalfBody, UNREACHABLE),
        (Fault::HalfHead, UNREACHABLE),
        (Fault::CloseBeforeAnswer, UNREACHABLE),
        (Fault::CloseAfterEffect, UNREACHABLE),
        (Fault::ResetBeforeAnswer, UNREACHABLE),
        (Fault::ResetAfterEffect, UNREACHABLE),
    ];
    statuses.into_iter().chain(empty).chain(nonsense).chain(ways).collect()
}

#[tokio::test]
async fn every_fault_has_its_answer_at_every_carrier() {
    let (vault, acme) = with_all().await;
    for at in At::ALL {
        for (fault, expected) in faults() {
            refused(&vault, &acme, at, &fault, expected).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_almost_right_is_no_yes() {
    let (vault, acme) = with_all().await;
    let long = format!(r#"{{"meta":{{"total":1}},"objects":[{}]}}"#, "[".repeat(70));
    for (at, fault, expected) in [
        (At::Vobiz, Fault::Status(404), NOT_FOUND),
        (At::Vobiz, Fault::SidMismatch, MISMATCH),
        (At::Vobiz, says(200, r#"{"objects":[]}"#), PROTOCOL),
        (At::Vobiz, says(200, r#"{"meta":{"total":1}}"#), PROTOCOL),
        (At::Vobiz, says(200, r#"{"meta":{"total":-1},"objects":[]}"#), PROTOCOL),
        (At::Vobiz, says(200, r#"{"meta":{"total":1},"objects":{}}"#), PROTOCOL),
        (At::Vobiz, says(200, r#"{"meta":{"total":1},"objects":[{"account_id":5}]}"#), PROTOCOL),
        (At::Vobiz, says(200, &long), PROTOCOL),
        // Its path names no account: that there is nothing says nothing of the token.
        (At::Telepath, Fault::Status(404), PROTOCOL),
        (At::Telepath, says(200, r#"{"data":[]}"#), PROTOCOL),
        (At::Telepath, says(200, r#"{"trunks":{}}"#), PROTOCOL),
        (At::Telepath, says(200, r#"{"trunks":[],"pagination":{"total":"x"}}"#), PROTOCOL),
        (At::Telepath, says(200, r#"{"error":{"code":"INVALID_API_KEY"}}"#), PROTOCOL),
    ] {
        refused(&vault, &acme, at, &fault, expected).await;
    }
    // What is not published, or left out, is not needed for one.
    for (at, fault) in [
        (At::Vobiz, Fault::MissingSid),
        (At::Vobiz, says(200, r#"{"meta":{"total":0},"objects":[],"more":1}"#)),
        (At::Telepath, says(200, r#"{"trunks":[]}"#)),
        (At::Telepath, says(200, r#"{"trunks":[{"id":"x"}],"pagination":{"total":1,"x":2}}"#)),
    ] {
        at.fail_next(&vault, fault);
        acme.update_token(update_token(&at.name(), at.tokens()[0])).await.unwrap();
    }
}

#[tokio::test]
async fn each_shape_of_telepaths_errors_will_do() {
    let (vault, acme) = with_all().await;
    for body in [ErrorBody::WithStatus, ErrorBody::Named] {
        vault.telepath.set_error_body(body);
        let nobodys = At::Telepath.tokens()[2];
        let told = acme.update_token(update_token(&At::Telepath.name(), nobodys)).await;
        assert_eq!(outcome(&told), REJECTED, "{body:?}");
        for (status, expected) in [(403, INACTIVE), (404, PROTOCOL), (500, ERROR)] {
            refused(&vault, &acme, At::Telepath, &Fault::Status(status), expected).await;
        }
    }
}

#[tokio::test]
async fn a_carrier_whose_port_is_closed_is_unreachable_and_the_others_go_on() {
    let (mut vault, acme) = with_all().await;
    vault.vobiz.close().await;
    let verify = async |at: At| outcome(&acme.verify_provider(&at.name()).await);
    let told = [verify(At::Twilio).await, verify(At::Vobiz).await, verify(At::Telepath).await];
    assert_eq!(told, ["OK", UNREACHABLE, "OK"]);
    vault.vobiz.open().await;
    assert_eq!(verify(At::Vobiz).await, "OK");
}

#[tokio::test]
async fn a_carriers_own_name_leads_to_public_addresses_only() {
    let (mut vault, _) = with_all().await;
    let names = ["api.vobiz.ai", "api.telepathvoice.com"];
    let private = || vec!["10.1.2.3:443".parse().unwrap()];
    let names = names.map(|name| (name.to_owned(), private()));
    vault.network = Network::internet().with_names(names.into());
    vault.options.upstream_vobiz_api_url = None;
    vault.options.upstream_telepath_api_url = None;
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    for at in [At::Vobiz, At::Telepath] {
        let calls = at.asked(&vault);
        let told = outcome(&acme.verify_provider(&at.name()).await);
        assert_eq!(told, "Unavailable UPSTREAM_BLOCKED_ADDRESS", "{at:?}");
        assert_eq!(at.asked(&vault), calls);
    }
}

#[tokio::test]
async fn a_carrier_that_does_not_answer_costs_five_seconds() {
    let (vault, acme) = with_all().await;
    vault.vobiz.set_account_fault(AUTH_ID, Some(Fault::Hang));
    let [token, ..] = At::Telepath.tokens();
    vault.telepath.set_account_fault(token, Some(Fault::HangAfterEffect));
    let began = Instant::now();
    let (vobiz, telepath) = tokio::join!(
        acme.verify_provider("accounts/acme/providers/vobiz"),
        acme.update_token(update_token("accounts/acme/providers/telepath", token)),
    );
    assert_eq!([outcome(&vobiz), outcome(&telepath)], [TIMEOUT; 2]);
    assert!((4_900..7_500).contains(&began.elapsed().as_millis()));
}

#[tokio::test]
async fn a_failing_carrier_is_left_alone_and_the_others_are_not() {
    let (vault, acme) = with_all().await;
    vault.telepath.set_fault(Some(Fault::Status(500)));
    let name = At::Telepath.name();
    for _ in 0..10 {
        assert_eq!(outcome(&acme.verify_provider(&name).await), ERROR);
    }
    let calls = vault.telepath.calls();
    let told = outcome(&acme.verify_provider(&name).await);
    assert!(told.starts_with("Unavailable UPSTREAM_UNREACHABLE retry "), "{told}");
    assert_eq!(vault.telepath.calls(), calls, "it was not asked");
    assert_eq!(outcome(&acme.verify_provider(&At::Vobiz.name()).await), "OK");
}
