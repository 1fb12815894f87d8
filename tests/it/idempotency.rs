//! `request_id`: a retry has no second effect, and nothing else passes for a retry.

use credvault::access::Role;
use credvault::grpc::proto::{
    CreateCredentialRequest, CreateProviderRequest, Credential, DeleteCredentialRequest,
    DeleteProviderRequest, RotateCredentialRequest, UpdateCredentialRequest, UpdateProviderRequest,
    UpdateTokenRequest,
};
use jiff::SignedDuration;
use tonic::Code;
use tonic_types::ErrorDetails;

use crate::credentials::{
    create, create_with, delete, rotate, set_password, update as update_fields, verifies,
};
use crate::providers::{SID, TOKEN, TOKEN_2, asked, create_provider, display_name, update_token};
use crate::support::calls::Call;
use crate::support::{Clients, TestVault, channel, outcome, refusal, uuid};

const REUSED: &str = "AlreadyExists REQUEST_ID_REUSED";
const ISSUED: &str = "FailedPrecondition SECRET_ALREADY_ISSUED";

fn rotate_once(name: &str, number: u64) -> RotateCredentialRequest {
    RotateCredentialRequest { request_id: uuid(number), ..rotate(name) }
}

fn describe_once(name: &str, text: &str, number: u64) -> UpdateCredentialRequest {
    let credential = Credential { description: Some(text.to_owned()), ..Default::default() };
    UpdateCredentialRequest { request_id: uuid(number), ..update_fields(name, credential, &[]) }
}

#[tokio::test]
async fn a_retry_of_an_issue_says_what_was_issued_and_issues_nothing() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
    let acme = Clients::new(&channel(vault.address), &token);
    let request = CreateCredentialRequest { request_id: uuid(1), ..create("alice") };
    let (created, first) = acme.create(request.clone()).await.unwrap();
    let created_at = vault.now().to_string();
    vault.clock.advance(SignedDuration::from_mins(1));
    let (_, second) = acme.rotate(rotate_once(&created.name, 1)).await.unwrap();
    let rotated_at = vault.now().to_string();
    vault.clock.advance(SignedDuration::from_mins(1));
    let (state, log) = (vault.state(), acme.audit_log("acme").await);

    // Two methods, so the same id is two ids. A restart does not forget them.
    let vault = vault.restart().await;
    let acme = Clients::new(&channel(vault.address), &token);
    let told = |(_, reason, details): (Code, String, ErrorDetails)| {
        assert_eq!(reason, "SECRET_ALREADY_ISSUED");
        let metadata = details.error_info().unwrap().metadata.clone();
        ["name", "version", "time"].map(|key| metadata[key].clone())
    };
    let name = created.name.as_str();
    for _ in 0..2 {
        let told_create = told(refusal(acme.create(request.clone()).await));
        assert_eq!(told_create, [name, "1", &created_at]);
        let told_rotate = told(refusal(acme.rotate(rotate_once(name, 1)).await));
        assert_eq!(told_rotate, [name, "2", &rotated_at]);
    }
    assert_eq!(vault.state(), state);
    assert_eq!(acme.audit_log("acme").await, log);
    assert!(!verifies(&acme, "alice", &first.unwrap().password).await);
    assert!(verifies(&acme, "alice", &second.password).await);
}

#[tokio::test]
async fn a_retry_of_anything_else_answers_the_resource_as_it_is_now() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    vault.twilio.add_token(SID, TOKEN_2);

    let own = CreateCredentialRequest { request_id: uuid(1), ..create_with("bob", "password-1") };
    let (bob, _) = acme.create(own.clone()).await.unwrap();
    let password =
        UpdateCredentialRequest { request_id: uuid(1), ..set_password(&bob.name, "password-2") };
    acme.update(password.clone()).await.unwrap();
    acme.update(describe_once(&bob.name, "later", 2)).await.unwrap();
    let now = acme.get(&bob.name).await.unwrap();
    assert_eq!(now.version, 2);

    let provider = CreateProviderRequest { request_id: uuid(1), ..create_provider("main") };
    let main = acme.create_provider(provider.clone()).await.unwrap();
    let token = UpdateTokenRequest { request_id: uuid(1), ..update_token(&main.name, TOKEN_2) };
    acme.update_token(token.clone()).await.unwrap();
    let named = UpdateProviderRequest { request_id: uuid(1), ..display_name(&main.name, "named") };
    acme.update_provider(named.clone()).await.unwrap();
    let main = acme.get_provider(&main.name).await.unwrap();
    assert_eq!(main.token_version, 2);

    let (state, log, calls) = (vault.state(), acme.audit_log("acme").await, vault.twilio.calls());
    let (again, issued) = acme.create(own).await.unwrap();
    assert_eq!((again, issued.is_none()), (now.clone(), true));
    assert_eq!(acme.update(password).await.unwrap(), now);
    assert_eq!(acme.update(describe_once(&bob.name, "later", 2)).await.unwrap(), now);
    assert_eq!(acme.create_provider(provider).await.unwrap(), main);
    assert_eq!(acme.update_token(token).await.unwrap(), main);
    assert_eq!(acme.update_provider(named).await.unwrap(), main);
    assert_eq!((vault.state(), acme.audit_log("acme").await), (state, log));
    assert_eq!(vault.twilio.calls(), calls, "the carrier is not asked again");
}

#[tokio::test]
async fn a_retry_of_a_deletion_succeeds_and_of_a_change_to_what_is_gone_does_not() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let created = CreateCredentialRequest { request_id: uuid(1), ..create("alice") };
    let (alice, _) = acme.create(created.clone()).await.unwrap();
    acme.update(describe_once(&alice.name, "x", 1)).await.unwrap();
    acme.rotate(rotate_once(&alice.name, 1)).await.unwrap();
    let deletion = DeleteCredentialRequest { request_id: uuid(1), ..delete(&alice.name) };
    acme.delete(deletion.clone()).await.unwrap();

    let provider = CreateProviderRequest { request_id: uuid(1), ..create_provider("main") };
    let main = acme.create_provider(provider.clone()).await.unwrap();
    let token = UpdateTokenRequest { request_id: uuid(1), ..update_token(&main.name, TOKEN) };
    acme.update_token(token.clone()).await.unwrap();
    let removal =
        DeleteProviderRequest { name: main.name, request_id: uuid(1), ..Default::default() };
    acme.providers.clone().delete_provider(removal.clone()).await.unwrap();
    let (state, log) = (vault.state(), acme.audit_log("acme").await);

    let gone = "NotFound NOT_FOUND";
    let retries: [(Call, &str); 7] = [
        (created.into(), gone),
        (describe_once(&alice.name, "x", 1).into(), gone),
        (rotate_once(&alice.name, 1).into(), gone),
        (deletion.into(), "OK"),
        (provider.into(), gone),
        (token.into(), gone),
        (removal.into(), "OK"),
    ];
    for (retry, expected) in retries {
        let method = retry.method();
        assert_eq!(outcome(&retry.send(&acme).await), expected, "{method}");
    }
    assert_eq!((vault.state(), acme.audit_log("acme").await), (state, log));
}

#[tokio::test]
async fn another_request_under_the_same_id_is_refused() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    vault.twilio.add_token(SID, TOKEN_2);
    let request = CreateCredentialRequest { request_id: uuid(1), ..create("alice") };
    let (alice, _) = acme.create(request.clone()).await.unwrap();
    acme.update(describe_once(&alice.name, "x", 1)).await.unwrap();
    acme.rotate(rotate_once(&alice.name, 1)).await.unwrap();
    let (carol, _) = acme.create(create("carol")).await.unwrap();
    let deletion = DeleteCredentialRequest { request_id: uuid(1), ..delete(&carol.name) };
    acme.delete(deletion.clone()).await.unwrap();
    let provider = CreateProviderRequest { request_id: uuid(1), ..create_provider("main") };
    let main = acme.create_provider(provider.clone()).await.unwrap();
    let token = UpdateTokenRequest { request_id: uuid(1), ..update_token(&main.name, TOKEN_2) };
    acme.update_token(token.clone()).await.unwrap();
    let named = UpdateProviderRequest { request_id: uuid(1), ..display_name(&main.name, "named") };
    acme.update_provider(named).await.unwrap();
    let state = vault.state();

    let password =
        UpdateCredentialRequest { request_id: uuid(1), ..set_password(&alice.name, "password-1") };
    let others: [(&str, Call); 10] = [
        ("username", CreateCredentialRequest { request_id: uuid(1), ..create("bob") }.into()),
        ("reason", CreateCredentialRequest { reason: "why".to_owned(), ..request }.into()),
        ("description", describe_once(&alice.name, "y", 1).into()),
        ("password", password.into()),
        ("name", rotate_once(&carol.name, 1).into()),
        (
            "length",
            RotateCredentialRequest { password_length: 16, ..rotate_once(&alice.name, 1) }.into(),
        ),
        ("etag", DeleteCredentialRequest { etag: "\"x\"".to_owned(), ..deletion }.into()),
        ("id", CreateProviderRequest { provider_id: "other".to_owned(), ..provider }.into()),
        ("token", UpdateTokenRequest { auth_token: TOKEN.to_owned(), ..token }.into()),
        (
            "display name",
            UpdateProviderRequest { request_id: uuid(1), ..display_name(&main.name, "other") }
                .into(),
        ),
    ];
    for (what, call) in others {
        assert_eq!(outcome(&call.send(&acme).await), REUSED, "another {what}");
    }
    assert_eq!(vault.state(), state);
}

#[tokio::test]
async fn an_id_belongs_to_one_principal_one_method_and_one_account() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (alice, _) = acme.create(create("alice")).await.unwrap();
    acme.rotate(rotate_once(&alice.name, 1)).await.unwrap();
    assert_eq!(outcome(&acme.rotate(rotate_once(&alice.name, 1)).await), ISSUED);

    let rotator = vault.clients("acme", &[Role::Rotator]).await;
    let (after, _) = rotator.rotate(rotate_once(&alice.name, 1)).await.unwrap();
    assert_eq!(after.version, 3, "another principal");
    let after = acme.update(describe_once(&alice.name, "x", 1)).await.unwrap();
    assert_eq!(after.description.as_deref(), Some("x"), "another method");
    let other = vault.clients("other", &[Role::AccountAdmin]).await;
    let parent = "accounts/other".to_owned();
    let request = CreateCredentialRequest { parent, request_id: uuid(1), ..create("alice") };
    assert!(other.create(request).await.is_ok(), "another account");
}

#[tokio::test]
async fn an_id_is_forgotten_after_a_day() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (alice, _) = acme.create(create("alice")).await.unwrap();
    acme.rotate(rotate_once(&alice.name, 1)).await.unwrap();

    vault.clock.advance(SignedDuration::from_hours(24) - SignedDuration::from_micros(1));
    assert_eq!(outcome(&acme.rotate(rotate_once(&alice.name, 1)).await), ISSUED);
    vault.clock.advance(SignedDuration::from_micros(1));
    let (after, _) = acme.rotate(rotate_once(&alice.name, 1)).await.unwrap();
    assert_eq!(after.version, 3);
    assert_eq!(outcome(&acme.rotate(rotate_once(&alice.name, 1)).await), ISSUED);
    let request = RotateCredentialRequest { password_length: 16, ..rotate_once(&alice.name, 1) };
    assert_eq!(outcome(&acme.rotate(request).await), REUSED);
}

#[tokio::test]
async fn only_a_uuid4_is_a_request_id() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (alice, _) = acme.create(create("alice")).await.unwrap();
    let state = vault.state();
    for bad in [
        "1",
        "00000000-0000-0000-0000-000000000000",
        "00000000-0000-1000-8000-000000000001",
        "00000000-0000-7000-8000-000000000001",
        "00000000000040008000000000000001",
        "{00000000-0000-4000-8000-000000000001}",
        "urn:uuid:00000000-0000-4000-8000-000000000001",
        "00000000-0000-4000-8000-00000000000g",
        "00000000-0000-4000-8000-0000000000011",
        " 00000000-0000-4000-8000-00000000000",
        "00000000\u{0}0000-4000-8000-000000000001",
    ] {
        let request_id = bad.to_owned();
        let request = RotateCredentialRequest { request_id, ..rotate(&alice.name) };
        let refused = outcome(&acme.rotate(request).await);
        assert_eq!(refused, "InvalidArgument INVALID_FIELD request_id", "{bad}");
    }
    assert_eq!(vault.state(), state);
}

#[tokio::test]
async fn a_refused_call_does_not_use_its_id_up() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let (alice, _) = acme.create(create("alice")).await.unwrap();
    let stale = RotateCredentialRequest { etag: "\"x\"".to_owned(), ..rotate_once(&alice.name, 1) };
    assert_eq!(outcome(&acme.rotate(stale).await), "Aborted ETAG_MISMATCH");
    acme.rotate(rotate_once(&alice.name, 1)).await.unwrap();

    let taken = CreateCredentialRequest { request_id: uuid(2), ..create("alice") };
    assert_eq!(outcome(&acme.create(taken).await), "AlreadyExists ALREADY_EXISTS");
    let free = CreateCredentialRequest { request_id: uuid(2), ..create("bob") };
    acme.create(free).await.unwrap();

    let create_main = CreateProviderRequest { request_id: uuid(3), ..create_provider("main") };
    let refused = CreateProviderRequest { auth_token: TOKEN_2.to_owned(), ..create_main.clone() };
    let refused = acme.create_provider(refused).await;
    assert_eq!(outcome(&refused), "FailedPrecondition UPSTREAM_REJECTED_TOKEN");
    let trial = CreateProviderRequest { validate_only: true, ..create_main.clone() };
    acme.create_provider(trial.clone()).await.unwrap();
    let main = acme.create_provider(create_main).await.unwrap();

    // validate_only ignores the id: it is no other request under it, and no retry either.
    let calls = asked(&vault);
    let trial = CreateProviderRequest { provider_id: "trial".to_owned(), ..trial };
    acme.create_provider(trial).await.unwrap();
    assert_eq!(asked(&vault), calls + 1);
    let trial = UpdateTokenRequest {
        validate_only: true,
        request_id: uuid(3),
        ..update_token(&main.name, TOKEN)
    };
    acme.update_token(trial.clone()).await.unwrap();
    let real = UpdateTokenRequest { validate_only: false, ..trial };
    assert_eq!(acme.update_token(real).await.unwrap().token_version, 2);
}
