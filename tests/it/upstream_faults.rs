//! What can go wrong at a carrier: each fault has its answer, and only the audit log changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use credvault::access::Role;
use credvault::grpc::Peer;
use credvault::grpc::proto::{CreateProviderRequest, Provider, UpdateTokenRequest};
use futures_util::future::join_all;
use http_body_util::Full;
use prost::Message;
use tonic::{Code, Status};

use crate::providers::{
    SID, TOKEN, TOKEN_2, create_provider, delete, display_name, twilio, update_token,
};
use crate::support::database::locked;
use crate::support::fakes::twilio::{ErrorShape, FakeTwilio, Fault};
use crate::support::{Clients, TestVault, outcome};

const REJECTED: &str = "FailedPrecondition UPSTREAM_REJECTED_TOKEN";
const INACTIVE: &str = "FailedPrecondition UPSTREAM_ACCOUNT_INACTIVE";
const NOT_FOUND: &str = "FailedPrecondition UPSTREAM_ACCOUNT_NOT_FOUND";
const MISMATCH: &str = "FailedPrecondition UPSTREAM_SID_MISMATCH";
const ERROR: &str = "Unavailable UPSTREAM_ERROR retry 1s";
pub(crate) const UNREACHABLE: &str = "Unavailable UPSTREAM_UNREACHABLE retry 1s";
const TIMEOUT: &str = "Unavailable UPSTREAM_TIMEOUT retry 1s";
const PROTOCOL: &str = "Unavailable UPSTREAM_PROTOCOL";
const REDIRECT: &str = "Unavailable UPSTREAM_REDIRECT";

/// A vault with `providers/main`, and an admin of its account.
pub(crate) async fn with_main() -> (TestVault, Clients, Provider) {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    (vault, acme, main)
}

/// Makes both calls that ask the carrier, each with `fault`: each is refused, and only recorded.
pub(crate) async fn refused(
    vault: &TestVault,
    acme: &Clients,
    what: &str,
    fault: &dyn Fn(),
    expected: &str,
) {
    let main = "accounts/acme/providers/main";
    let before = (vault.state(), acme.get_provider(main).await.unwrap());
    for method in ["CreateProvider", "UpdateToken"] {
        let recorded = acme.audit_log("acme").await.len();
        fault();
        let (resource, version, result) = if method == "UpdateToken" {
            (main, 1, acme.update_token(update_token(main, TOKEN)).await)
        } else {
            let new = create_provider("new");
            ("accounts/acme/providers/new", 0, acme.create_provider(new).await)
        };
        assert_eq!(outcome(&result), expected, "{method}: {what}");
        let after = (vault.state(), acme.get_provider(main).await.unwrap());
        assert_eq!(after, before, "{method}: {what}");

        let log = acme.audit_log("acme").await.split_off(recorded);
        let [entry] = log.as_slice() else { panic!("{method}: {what}: {log:?}") };
        let told = (entry.method.as_str(), entry.resource.as_str(), entry.outcome.as_str());
        assert_eq!(told, (method, resource, expected.split(' ').nth(1).unwrap()), "{what}");
        assert_eq!((entry.version_before, entry.version_after), (version, version), "{what}");
    }
}

/// 429 with or without this Retry-After.
fn rate_limit(retry_after: Option<&str>) -> Fault {
    let headers = retry_after.map(|value| ("retry-after", value.to_owned()));
    Fault::StatusWith { status: 429, headers: headers.into_iter().collect(), body: Vec::new() }
}

/// 200 with this body.
fn says(body: &str) -> Fault {
    let headers = vec![("content-type", "application/json".to_owned())];
    Fault::StatusWith { status: 200, headers, body: body.as_bytes().to_vec() }
}

/// A good answer, but for a field that nobody reads and that is this deep.
fn deep(depth: usize) -> String {
    let more = "[".repeat(depth - 1) + &"]".repeat(depth - 1);
    format!("{{\"sid\": \"{SID}\", \"status\": \"active\", \"more\": {more}}}")
}

/// Twilio's error bodies, and what is none, with what status and code mean together.
fn errors() -> Vec<(Fault, &'static str)> {
    let codes = [
        (401, 20_003, REJECTED),
        (403, 20_403, INACTIVE),
        (404, 20_404, NOT_FOUND),
        (401, 20_404, REJECTED),
        (401, 0, REJECTED),
        (403, 20_003, INACTIVE),
        (400, 20_001, PROTOCOL),
        (422, 20_422, PROTOCOL),
        (429, 20_429, "Unavailable UPSTREAM_RATE_LIMITED retry 5s"),
        (500, 20_500, ERROR),
        // A failure of theirs says nothing of the account, whatever it says.
        (503, 20_005, ERROR),
    ];
    let inactive = [20_005, 10_001, 90_010];
    let inactive =
        inactive.into_iter().flat_map(|code| [400, 401, 403, 404].map(|it| (it, code, INACTIVE)));
    let codes: Vec<_> = codes.into_iter().chain(inactive).collect();
    let shapes = [ErrorShape::Classic, ErrorShape::Newer, ErrorShape::Problem];
    let shaped = shapes.into_iter().flat_map(|shape| {
        let fault =
            move |(status, code, expected)| (Fault::Error { shape, status, code }, expected);
        codes.clone().into_iter().map(fault)
    });
    let statuses = [(400, PROTOCOL), (401, REJECTED), (403, INACTIVE), (404, NOT_FOUND)];
    let long = " ".repeat(64 * 1024);
    let bodies: [&[u8]; 8] = [
        b"",
        b"<html><title>code 20005</title></html>",
        b"20005",
        b"\xff\xfe{\"code\": 20005}",
        b"{\"code\": 20005",
        b"{\"code\": {\"code\": 20005}}",
        b"{\"code\": 4294987301}",
        long.as_bytes(),
    ];
    let unshaped = bodies.into_iter().flat_map(|body| {
        let headers = vec![("content-type", "text/html".to_owned())];
        statuses.map(|(status, expected)| {
            let (headers, body) = (headers.clone(), body.to_vec());
            (Fault::StatusWith { status, headers, body }, expected)
        })
    });
    shaped.chain(unshaped).collect()
}

#[tokio::test]
async fn every_shape_of_an_error_is_understood_and_none_is_needed() {
    let (vault, acme, _) = with_main().await;
    let good = CreateProviderRequest { validate_only: true, ..create_provider("") };
    for (fault, expected) in errors() {
        // Only failures in a row have the carrier left alone.
        acme.create_provider(good.clone()).await.unwrap();
        let mut what = format!("{fault:?}");
        what.truncate(200);
        let calls = vault.twilio.calls();
        let next = || vault.twilio.fail_next(fault.clone());
        refused(&vault, &acme, &what, &next, expected).await;
        assert_eq!(vault.twilio.calls(), calls + 2, "one try each: {what}");
    }
    // More than is read of an answer is no answer, whatever its status.
    let body = " ".repeat(64 * 1024 + 1).into_bytes();
    let next = || {
        let (headers, body) = (Vec::new(), body.clone());
        vault.twilio.fail_next(Fault::StatusWith { status: 401, headers, body });
    };
    refused(&vault, &acme, "a long 401", &next, PROTOCOL).await;
}

#[tokio::test]
async fn a_refusal_is_never_remembered() {
    let (vault, acme, main) = with_main().await;
    let create = CreateProviderRequest { auth_token: TOKEN_2.to_owned(), ..create_provider("new") };
    for round in 1..=3 {
        let calls = vault.twilio.calls();
        let told = acme.update_token(update_token(&main.name, TOKEN_2)).await;
        assert_eq!(outcome(&told), REJECTED, "{round}");
        assert_eq!(outcome(&acme.create_provider(create.clone()).await), REJECTED, "{round}");
        assert_eq!(vault.twilio.calls(), calls + 2, "asked each time");
    }
    // Twilio may take a minute to know a new token: the moment that it does, the vault does. No clock moved.
    vault.twilio.set_token(SID, TOKEN_2);
    let updated = acme.update_token(update_token(&main.name, TOKEN_2)).await.unwrap();
    assert_eq!(updated.token_version, 2);
    acme.create_provider(create).await.unwrap();
    // Nor is a confirmation: what was good is asked about again.
    vault.twilio.set_token(SID, TOKEN);
    assert_eq!(outcome(&acme.update_token(update_token(&main.name, TOKEN_2)).await), REJECTED);
}

#[tokio::test]
async fn every_fault_has_its_answer_and_changes_nothing() {
    let (vault, acme, _) = with_main().await;
    let elsewhere = FakeTwilio::start().await;
    let rate_limited = |seconds: u32| format!("Unavailable UPSTREAM_RATE_LIMITED retry {seconds}s");
    let redirect = |status, to: String| Fault::StatusWith {
        status,
        headers: vec![("location", to)],
        body: Vec::new(),
    };
    let redirects = [301, 302, 303, 307, 308]
        .map(|status| (redirect(status, format!("{}/x", elsewhere.url())), REDIRECT.to_owned()));
    let statuses = [
        (401, REJECTED),
        (403, INACTIVE),
        (404, NOT_FOUND),
        (400, PROTOCOL),
        (405, PROTOCOL),
        (409, PROTOCOL),
        (418, PROTOCOL),
        (204, PROTOCOL),
        (500, ERROR),
        (502, ERROR),
        (503, ERROR),
        (504, ERROR),
    ]
    .map(|(status, expected)| (Fault::Status(status), expected.to_owned()));
    let rate_limits = [
        (Some("7"), 7),
        (Some("60"), 60),
        (Some("1000000000"), 60),
        (Some("0"), 1),
        (None, 5),
        (Some("soon"), 5),
        (Some("-1"), 5),
        (Some("Fri, 31 Dec 1999 23:59:59 GMT"), 1),
        (Some("Fri, 01 May 2026 12:00:20 GMT"), 20),
        (Some("Fri, 01 May 2026 13:00:00 GMT"), 60),
    ]
    .map(|(header, seconds)| (rate_limit(header), rate_limited(seconds)));
    let bodies = [
        "",
        "[]",
        "null",
        "{",
        "{\"sid\": 1, \"status\": \"active\"}",
        &format!("{{\"sid\": \"{SID}\"}}"),
        &format!("{{\"sid\": \"{SID}\", \"status\": \"new\"}}"),
        &"[".repeat(10_000),
        &deep(10_000),
        &deep(65),
        &format!("{{\"sid\": \"{SID}\", \"sid\": \"{SID}\", \"status\": \"active\"}}"),
        &format!("{{\"sid\": \"{SID}\", \"status\": \"closed\", \"status\": \"active\"}}"),
    ]
    .map(|body| (says(body), PROTOCOL.to_owned()));
    let ways = [
        (Fault::SidMismatch, MISMATCH),
        (Fault::MissingSid, MISMATCH),
        (Fault::Redirect(elsewhere.url()), REDIRECT),
        (Fault::NotJson, PROTOCOL),
        (Fault::HugeBody, PROTOCOL),
        (Fault::EndlessBody, PROTOCOL),
        (Fault::PaddedTo(64 * 1024 + 1), PROTOCOL),
        (Fault::HalfBody, UNREACHABLE),
        (Fault::HalfHead, UNREACHABLE),
        (Fault::CloseBeforeAnswer, UNREACHABLE),
        (Fault::ResetBeforeAnswer, UNREACHABLE),
    ]
    .map(|(fault, expected)| (fault, expected.to_owned()));

    let faults = redirects.into_iter().chain(statuses).chain(rate_limits).chain(bodies);
    let good = CreateProviderRequest { validate_only: true, ..create_provider("") };
    for (fault, expected) in faults.chain(ways) {
        // Only failures in a row have the carrier left alone.
        acme.create_provider(good.clone()).await.unwrap();
        let mut what = format!("{fault:?}");
        what.truncate(200);
        let calls = vault.twilio.calls();
        let next = || vault.twilio.fail_next(fault.clone());
        refused(&vault, &acme, &what, &next, &expected).await;
        assert_eq!(vault.twilio.calls(), calls + 2, "one try each: {what}");
    }
    assert_eq!(elsewhere.connections(), 0, "no redirect is followed");
}

#[tokio::test]
async fn what_the_carrier_itself_says_of_account_and_token_decides() {
    let (vault, acme, main) = with_main().await;
    for status in ["suspended", "closed"] {
        let fault = || vault.twilio.set_status(SID, status);
        refused(&vault, &acme, status, &fault, INACTIVE).await;
    }
    vault.twilio.set_status(SID, "active");
    let fault = || vault.twilio.set_token(SID, TOKEN_2);
    refused(&vault, &acme, "another token", &fault, REJECTED).await;

    let mut unknown = create_provider("new");
    unknown.provider.as_mut().unwrap().kind = Some(twilio("AC00000000000000000000000000000000"));
    assert_eq!(outcome(&acme.create_provider(unknown).await), NOT_FOUND);

    // The deepest and the largest body that is read.
    vault.twilio.set_token(SID, TOKEN);
    vault.twilio.fail_next(says(&deep(64)));
    acme.create_provider(create_provider("deep")).await.unwrap();
    vault.twilio.set_fault(Some(Fault::PaddedTo(64 * 1024)));
    acme.create_provider(create_provider("new")).await.unwrap();
    let after = acme.update_token(update_token(&main.name, TOKEN)).await.unwrap();
    assert_eq!(after.token_version, 2);
}

#[tokio::test]
async fn a_carrier_that_is_not_there_is_unreachable() {
    let (mut vault, acme, _) = with_main().await;
    // The vault knows the address of the first one only.
    vault.twilio = FakeTwilio::start().await;
    refused(&vault, &acme, "connection refused", &|| {}, UNREACHABLE).await;
    assert_eq!(vault.twilio.connections(), 0);
}

/// A call through the front door itself: what it answers, whatever a client makes of it.
pub(crate) async fn update_token_within(vault: &TestVault, token: &str, timeout: &str) -> Status {
    let message = update_token("accounts/acme/providers/main", TOKEN).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = Bytes::from([&[0], length.as_slice(), &message].concat());
    let request = http::Request::post("/credvault.v1.ProviderService/UpdateToken")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(frame))
        .unwrap();
    let health = credvault::grpc::Health::starting().await;
    let front = credvault::grpc::front(Arc::clone(&vault.vault), &health).unwrap();
    let peer = Peer::stranger("127.0.0.1".to_owned());
    let response = front.answer(request, peer).await;
    Status::from_header_map(response.headers()).unwrap()
}

#[tokio::test]
async fn a_carrier_that_does_not_answer_costs_five_seconds_or_the_callers_deadline() {
    let (vault, acme, main) = with_main().await;
    let token = vault.token("acme", &[Role::TokenWriter]).await;
    let sids = ['1', '2', '3'].map(|digit| format!("AC{}", digit.to_string().repeat(32)));
    for sid in &sids {
        vault.twilio.add_account(sid, TOKEN);
        let mut request = create_provider(&format!("p{}", &sid[2..5]));
        request.provider.as_mut().unwrap().kind = Some(twilio(sid));
        acme.create_provider(request).await.unwrap();
    }
    vault.twilio.set_account_fault(SID, Some(Fault::Hang));
    for (sid, fault) in sids.iter().zip([Fault::Hang, Fault::SlowHead, Fault::SlowBody]) {
        vault.twilio.set_account_fault(sid, Some(fault));
    }
    let (state, log) = (vault.state(), acme.audit_log("acme").await);

    let started = Instant::now();
    let slow_update = |sid: &str| {
        let name = format!("accounts/acme/providers/p{}", &sid[2..5]);
        let acme = &acme;
        async move { acme.update_token(update_token(&name, TOKEN)).await }
    };
    let slow_create = |sid: &str| {
        let mut request = create_provider("");
        request.provider.as_mut().unwrap().kind = Some(twilio(sid));
        acme.create_provider(request)
    };
    let impatient = async {
        let told = update_token_within(&vault, &token, "200m").await;
        assert_eq!(outcome(&Err::<(), _>(told)), "DeadlineExceeded DEADLINE_EXCEEDED");
        // A client keeps its own time as well, and may be first to give up.
        let mut request = tonic::Request::new(update_token(&main.name, TOKEN));
        request.set_timeout(Duration::from_millis(200));
        let told = acme.providers.clone().update_token(request).await.unwrap_err();
        assert!(matches!(told.code(), Code::DeadlineExceeded | Code::Cancelled), "{told:?}");
        assert!(started.elapsed() < Duration::from_secs(4), "the caller's deadline counts");
    };
    let (updated, created, ()) = tokio::join!(
        join_all(sids.iter().map(|sid| slow_update(sid))),
        join_all(sids.iter().map(|sid| slow_create(sid))),
        impatient,
    );
    let took = started.elapsed();
    for result in updated.iter().chain(&created) {
        assert_eq!(outcome(result), TIMEOUT);
    }
    assert!((4_900..7_500).contains(&took.as_millis()), "{took:?}");
    assert_eq!(vault.state(), state);
    let log = acme.audit_log("acme").await.split_off(log.len());
    let outcomes: Vec<_> = log.iter().map(|entry| entry.outcome.as_str()).collect();
    assert_eq!(outcomes, ["UPSTREAM_TIMEOUT"; 6]);
}

#[tokio::test]
async fn a_provider_that_changes_while_its_token_is_checked_keeps_the_change() {
    let (vault, acme, main) = with_main().await;
    vault.twilio.add_token(SID, TOKEN_2);
    let held = |request: UpdateTokenRequest| {
        vault.twilio.fail_next(Fault::Hold);
        acme.update_token(request)
    };
    let conflict = "Aborted VERSION_CONFLICT";

    // Another name, another token, no provider at all: each is newer than the check that was held.
    let calls = vault.twilio.calls();
    let rename = async {
        vault.twilio.called(calls + 1).await;
        acme.update_provider(display_name(&main.name, "renamed")).await.unwrap();
        vault.twilio.release();
    };
    let (result, ()) = tokio::join!(held(update_token(&main.name, TOKEN_2)), rename);
    assert_eq!(outcome(&result), conflict);

    let calls = vault.twilio.calls();
    let replace = async {
        vault.twilio.called(calls + 1).await;
        acme.update_token(update_token(&main.name, TOKEN_2)).await.unwrap();
        vault.twilio.release();
    };
    let (result, ()) = tokio::join!(held(update_token(&main.name, TOKEN)), replace);
    assert_eq!(outcome(&result), conflict);
    let now = acme.get_provider(&main.name).await.unwrap();
    assert_eq!((now.token_version, now.display_name.as_deref()), (2, Some("renamed")));
    vault.twilio.set_token(SID, TOKEN_2);
    let verified = acme.verify_provider(&main.name).await.unwrap();
    assert_eq!(verified.verification, now.verification, "the newer token is the one stored");

    let calls = vault.twilio.calls();
    let remove = async {
        vault.twilio.called(calls + 1).await;
        acme.providers.clone().delete_provider(delete(&main.name)).await.unwrap();
        acme.create_provider(CreateProviderRequest {
            auth_token: TOKEN_2.to_owned(),
            ..create_provider("main")
        })
        .await
        .unwrap();
        vault.twilio.release();
    };
    let (result, ()) = tokio::join!(held(update_token(&main.name, TOKEN_2)), remove);
    assert_eq!(outcome(&result), conflict, "a successor of the same name is another provider");
    assert_eq!(acme.get_provider(&main.name).await.unwrap().token_version, 1);
}

#[tokio::test]
async fn a_token_that_is_confirmed_but_cannot_be_stored_changes_nothing_and_may_be_sent_again() {
    let (vault, acme, main) = with_main().await;
    vault.twilio.add_token(SID, TOKEN_2);
    let state = vault.state();
    let request = UpdateTokenRequest {
        request_id: "8f14e45f-ceea-467f-a8f5-5e3b0e7f1c11".to_owned(),
        ..update_token(&main.name, TOKEN_2)
    };
    let calls = vault.twilio.calls();
    vault.twilio.fail_next(Fault::Hold);
    let lock = async {
        vault.twilio.called(calls + 1).await;
        let lock = locked(&vault.database());
        vault.twilio.release();
        lock
    };
    let (result, lock) = tokio::join!(acme.update_token(request.clone()), lock);
    assert_eq!(outcome(&result), "Unavailable STORAGE_UNAVAILABLE retry 1s");
    drop(lock);
    assert_eq!(vault.state(), state);
    assert_eq!(acme.get_provider(&main.name).await.unwrap(), main);
    let stored = acme.update_token(request.clone()).await.unwrap();
    assert_eq!(stored.token_version, 2);
    assert_eq!(acme.update_token(request).await.unwrap(), stored, "once");
}

#[tokio::test]
async fn an_id_that_is_taken_while_its_token_is_checked_stays_with_its_first_owner() {
    let (vault, acme, _) = with_main().await;
    let calls = vault.twilio.calls();
    vault.twilio.fail_next(Fault::Hold);
    let first = async {
        vault.twilio.called(calls + 1).await;
        let first = acme.create_provider(create_provider("new")).await.unwrap();
        vault.twilio.release();
        first
    };
    let (second, first) = tokio::join!(acme.create_provider(create_provider("new")), first);
    assert_eq!(outcome(&second), "AlreadyExists ALREADY_EXISTS");
    assert_eq!(acme.get_provider(&first.name).await.unwrap(), first);
}

#[tokio::test]
async fn a_verdict_on_a_token_that_was_replaced_meanwhile_is_not_stored() {
    let (vault, acme, main) = with_main().await;
    vault.twilio.set_token(SID, TOKEN_2);
    let calls = vault.twilio.calls();
    vault.twilio.fail_next(Fault::Hold);
    let replace = async {
        vault.twilio.called(calls + 1).await;
        let new = acme.update_token(update_token(&main.name, TOKEN_2)).await.unwrap();
        vault.twilio.release();
        new
    };
    let (held, new) = tokio::join!(acme.verify_provider(&main.name), replace);
    assert_eq!(outcome(&held), "Aborted VERSION_CONFLICT");
    assert_eq!(acme.get_provider(&main.name).await.unwrap(), new);

    // A new name is no new token: the verdict holds, and so does the name.
    let calls = vault.twilio.calls();
    vault.twilio.fail_next(Fault::Hold);
    let rename = async {
        vault.twilio.called(calls + 1).await;
        acme.update_provider(display_name(&main.name, "renamed")).await.unwrap();
        vault.twilio.release();
    };
    let (held, ()) = tokio::join!(acme.verify_provider(&main.name), rename);
    assert_eq!(held.unwrap().display_name.as_deref(), Some("renamed"));
}

/// The defect has to be in the process that asks the carrier: this program, once more.
#[cfg(feature = "planted-defects")]
#[test]
fn planted_trust_refused_is_caught() {
    let table = "upstream_faults::every_fault_has_its_answer_and_changes_nothing";
    let said = crate::support::process::caught(table, "trust-refused");
    assert!(said.contains("CreateProvider: Status(401)"), "{said}");
    println!("{}", said.lines().find(|line| line.contains("Status(401)")).unwrap());
}
