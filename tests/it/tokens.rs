//! Tokens that the carrier makes anew: the new one works before the old one ends, and the old one is seen dead.

mod matrix;
mod others;

use std::time::Duration;

use credvault::access::Role;
use credvault::crypto::delivery::PrivateKey;
use credvault::grpc::proto::{
    CheckStatus, Provider, RotateTokenRequest, RotateTokenResponse, Rotation, RotationState,
    RotationStep, RotationStepKind, RotationStepOutcome, VerificationCheck, VerificationStatus,
};
use jiff::SignedDuration;
use tonic::Status;

use crate::at_carriers::resume;
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider, delete, update_token};
use crate::rotations::{cancel, confirm, get, open, proof, to};
use crate::support::fakes::carrier::Fault;
use crate::support::{Clients, TestVault, outcome, uuid};

const MAIN: &str = "accounts/acme/providers/main";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What the calls are that make and drop a second token, and let it take the place of the first.
pub(super) const MAKE: &str = "POST /v1/AuthTokens/Secondary";
pub(super) const DISCARD: &str = "DELETE /v1/AuthTokens/Secondary";
pub(super) const PROMOTE: &str = "POST /v1/AuthTokens/Promote";

pub(super) fn rotation_of(name: &str) -> RotateTokenRequest {
    RotateTokenRequest { name: name.to_owned(), ..RotateTokenRequest::default() }
}

pub(super) async fn rotate_token(
    clients: &Clients,
    request: RotateTokenRequest,
) -> Result<RotateTokenResponse, Status> {
    Ok(clients.providers.clone().rotate_token(request).await?.into_inner())
}

/// A rotation once this is so of it. It goes on by itself; this only waits for it.
pub(super) async fn once(
    clients: &Clients,
    name: &str,
    is_so: impl Fn(&Rotation) -> bool,
) -> Rotation {
    let looked = async {
        loop {
            let rotation = get(clients, name).await.unwrap().rotation.unwrap();
            if is_so(&rotation) {
                return rotation;
            }
            tokio::task::yield_now().await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), looked).await {
        Ok(rotation) => rotation,
        Err(late) => panic!("it does not come to that, {late}: {:?}", get(clients, name).await),
    }
}

pub(super) async fn ended(clients: &Clients, name: &str) -> Rotation {
    once(clients, name, |rotation| rotation.end_time.is_some()).await
}

/// A vault with a provider at Twilio.
async fn with_main() -> (TestVault, Clients) {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    acme.create_provider(create_provider("main")).await.unwrap();
    (vault, acme)
}

/// The same with a rotation that is held.
async fn held(request: RotateTokenRequest) -> (TestVault, Clients, String) {
    let (vault, acme) = with_main().await;
    let answer = rotate_token(&acme, request).await.unwrap();
    let rotation = answer.rotation.unwrap();
    assert_eq!(rotation.state(), RotationState::Holding);
    (vault, acme, rotation.name)
}

fn kinds(rotation: &Rotation) -> Vec<RotationStepKind> {
    rotation.steps.iter().map(RotationStep::kind).collect()
}

/// The check that looks at the old token.
fn old_token(provider: &Provider) -> Option<CheckStatus> {
    let checks = &provider.verification.as_ref().unwrap().checks;
    checks.iter().find(|check| check.name == "old_token").map(VerificationCheck::status)
}

fn status(provider: &Provider) -> VerificationStatus {
    provider.verification.as_ref().unwrap().status()
}

#[tokio::test]
async fn a_token_takes_the_place_of_the_old_one_once_it_works_and_the_old_one_is_seen_dead() {
    let (vault, acme, name) = held(rotation_of(MAIN)).await;
    let (first, second) = vault.twilio.tokens_of(SID);
    assert_eq!(first.as_deref(), Some(TOKEN), "the old one is the first until the end");
    let second = second.unwrap();
    let provider = acme.get_provider(MAIN).await.unwrap();
    assert_eq!((provider.token_version, status(&provider)), (1, VerificationStatus::Verified));
    assert!(acme.verify_provider(MAIN).await.is_ok());

    vault.clock.advance(MINUTE - SignedDuration::from_secs(1));
    let waits = get(&acme, &name).await.unwrap().rotation.unwrap();
    assert_eq!(waits.state(), RotationState::Holding);
    assert_eq!(vault.twilio.calls_to(PROMOTE), 0);
    vault.clock.advance(SignedDuration::from_secs(1));
    let rotation = ended(&acme, &name).await;
    assert_eq!(rotation.state(), RotationState::Succeeded);
    let all = [
        RotationStepKind::Apply,
        RotationStepKind::Verify,
        RotationStepKind::Finish,
        RotationStepKind::Probe,
    ];
    assert_eq!(kinds(&rotation), all);
    assert!(rotation.steps.iter().all(|step| step.outcome() == RotationStepOutcome::Done));
    assert_eq!(vault.twilio.tokens_of(SID), (Some(second), None));
    assert!(!vault.twilio.accepts_token(SID, TOKEN));

    let provider = acme.get_provider(MAIN).await.unwrap();
    assert_eq!((provider.token_version, status(&provider)), (2, VerificationStatus::Verified));
    let verified = acme.verify_provider(MAIN).await.unwrap();
    assert_eq!(old_token(&verified), Some(CheckStatus::Passed));
    let log = acme.audit_log("acme").await;
    let of_rotation = log.iter().filter(|entry| entry.resource == name);
    let told: Vec<_> = of_rotation
        .map(|entry| (entry.detail.as_str(), entry.version_before, entry.version_after))
        .collect();
    assert_eq!(
        told,
        [("verifying", 1, 2), ("holding", 2, 2), ("finishing", 1, 2), ("succeeded", 2, 2)]
    );
}

#[tokio::test]
async fn a_token_that_takes_a_while_to_spread_is_tried_until_it_works() {
    let (vault, acme) = with_main().await;
    vault.twilio.set_token_delay(SignedDuration::from_secs(45));
    let answer = rotate_token(&acme, rotation_of(MAIN)).await.unwrap();
    let rotation = answer.rotation.unwrap();
    assert_eq!(rotation.state(), RotationState::Verifying);
    let refused = rotation.steps.last().unwrap();
    let why = (refused.kind(), refused.outcome(), refused.reason.as_str());
    let expected =
        (RotationStepKind::Verify, RotationStepOutcome::NotDone, "UPSTREAM_REJECTED_TOKEN");
    assert_eq!(why, expected);
    vault.twilio.advance(SignedDuration::from_secs(45));
    vault.clock.advance(SignedDuration::from_secs(2));
    once(&acme, &rotation.name, |it| it.state() == RotationState::Holding).await;
    assert!(vault.twilio.accepts_token(SID, TOKEN));
    vault.clock.advance(MINUTE);
    assert_eq!(ended(&acme, &rotation.name).await.state(), RotationState::Succeeded);
}

#[tokio::test]
async fn whoever_has_the_token_too_gets_the_new_one_sealed_and_ends_the_hold() {
    let key = PrivateKey::generate().unwrap();
    let request = RotateTokenRequest {
        recipient: Some(to(&key)),
        require_confirmation: true,
        request_id: uuid(1),
        ..rotation_of(MAIN)
    };
    let (vault, acme, name) = held(request.clone()).await;
    vault.clock.advance(HOUR * 24);
    let delivered = get(&acme, &name).await.unwrap();
    assert_eq!(delivered.rotation.unwrap().state(), RotationState::Holding, "nobody confirmed");
    let sealed = delivered.sealed.unwrap();
    assert_eq!((sealed.credential.as_str(), sealed.version), (MAIN, 2));
    let opened = open(&key, &sealed).unwrap();
    assert_eq!(vault.twilio.tokens_of(SID).1.as_deref(), Some(&*opened));
    assert_eq!(get(&acme, &name).await.unwrap().sealed.unwrap(), sealed, "the same bytes again");

    let bare = confirm(&acme, &name, Vec::new()).await;
    assert_eq!(outcome(&bare), "InvalidArgument INVALID_FIELD proof");
    let wrong = confirm(&acme, &name, proof(TOKEN, &name)).await;
    assert_eq!(outcome(&wrong), "InvalidArgument INVALID_FIELD proof");
    assert_eq!(vault.twilio.calls_to(PROMOTE), 0);
    confirm(&acme, &name, proof(&opened, &name)).await.unwrap();
    assert_eq!(ended(&acme, &name).await.state(), RotationState::Succeeded);
    assert!(get(&acme, &name).await.unwrap().sealed.is_none(), "it is gone with its confirmation");

    let again = rotate_token(&acme, request.clone()).await.unwrap();
    assert_eq!(again.rotation.unwrap().name, name, "a retry rotates nothing");
    let other = RotateTokenRequest { hold: None, require_confirmation: false, ..request };
    assert_eq!(outcome(&rotate_token(&acme, other).await), "AlreadyExists REQUEST_ID_REUSED");
    assert_eq!(vault.twilio.calls_to(MAKE), 1);
}

#[tokio::test]
async fn a_hold_ends_when_all_have_the_new_token_or_at_its_time() {
    let hold = Some(prost_types::Duration { seconds: 7200, nanos: 0 });
    for confirmed in [true, false] {
        let request = RotateTokenRequest { hold, ..rotation_of(MAIN) };
        let (vault, acme, name) = held(request).await;
        assert_eq!(get(&acme, &name).await.unwrap().rotation.unwrap().hold, hold);
        let sooner = resume(&acme, &name).await;
        assert_eq!(outcome(&sooner), "FailedPrecondition INVALID_STATE", "it waits for no carrier");
        if confirmed {
            confirm(&acme, &name, Vec::new()).await.unwrap();
        } else {
            vault.clock.advance(HOUR * 2);
        }
        assert_eq!(ended(&acme, &name).await.state(), RotationState::Succeeded);
    }
}

#[tokio::test]
async fn what_is_given_up_is_removed_at_twilio_and_the_old_token_stays() {
    let (mut vault, acme, name) = held(rotation_of(MAIN)).await;
    let cancelled = cancel(&acme, &name).await.unwrap();
    assert_eq!(cancelled.state(), RotationState::Cancelled, "{cancelled:?}");
    assert_eq!(vault.twilio.tokens_of(SID), (Some(TOKEN.to_owned()), None));
    assert_eq!(cancel(&acme, &name).await.unwrap(), cancelled, "again, it changes nothing");
    let late = confirm(&acme, &name, Vec::new()).await;
    assert_eq!(outcome(&late), "FailedPrecondition INVALID_STATE");
    let provider = acme.verify_provider(MAIN).await.unwrap();
    assert_eq!((provider.token_version, status(&provider)), (1, VerificationStatus::Verified));
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);

    let rotation = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
    assert_eq!(rotation.version, 3, "a number is never used again");
    vault.twilio.close().await;
    let given_up = cancel(&acme, &rotation.name).await;
    drop(vault);
    assert_eq!(given_up.unwrap().state(), RotationState::Cancelling);
}

#[tokio::test]
async fn what_is_lost_when_a_token_is_made_is_removed_before_another_is_made() {
    let (vault, acme) = with_main().await;
    vault.twilio.fail_call(MAKE, 0, Fault::CloseAfterEffect);
    let rotation = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
    assert_eq!(rotation.state(), RotationState::Applying);
    assert!(rotation.uncertain);
    let lost = vault.twilio.tokens_of(SID).1.unwrap();
    let rotation = resume(&acme, &rotation.name).await.unwrap();
    assert_eq!(rotation.state(), RotationState::Holding, "{rotation:?}");
    assert!(!vault.twilio.accepts_token(SID, &lost));
    assert_eq!((vault.twilio.calls_to(DISCARD), vault.twilio.calls_to(MAKE)), (1, 2));
}

#[tokio::test]
async fn nothing_else_touches_a_token_while_it_is_rotated() {
    let (vault, acme, name) = held(rotation_of(MAIN)).await;
    vault.twilio.add_token(SID, TOKEN_2);
    let busy = "Aborted ROTATION_IN_PROGRESS";
    assert_eq!(outcome(&rotate_token(&acme, rotation_of(MAIN)).await), busy);
    assert_eq!(outcome(&acme.update_token(update_token(MAIN, TOKEN_2)).await), busy);
    let deleted = acme.providers.clone().delete_provider(delete(MAIN)).await;
    assert_eq!(outcome(&deleted), busy);
    // Its configuration is another matter.
    acme.update_provider(crate::providers::display_name(MAIN, "Trunk")).await.unwrap();
    vault.clock.advance(MINUTE);
    assert_eq!(ended(&acme, &name).await.state(), RotationState::Succeeded);
    acme.update_token(update_token(MAIN, TOKEN_2)).await.unwrap();
}

#[tokio::test]
async fn each_kind_of_rotation_is_for_those_who_may_begin_it() {
    let (vault, _acme, name) = held(rotation_of(MAIN)).await;
    let rotator = vault.clients("acme", &[Role::Rotator]).await;
    let missing = "PermissionDenied ROLE_MISSING";
    assert!(get(&rotator, &name).await.is_ok(), "looking is for all");
    assert_eq!(outcome(&rotate_token(&rotator, rotation_of(MAIN)).await), missing);
    assert_eq!(outcome(&confirm(&rotator, &name, Vec::new()).await), missing);
    assert_eq!(outcome(&cancel(&rotator, &name).await), missing);
    assert_eq!(outcome(&resume(&rotator, &name).await), missing);
    let writer = vault.clients("acme", &[Role::TokenWriter]).await;
    let password = name.replace("providers/main", "credentials/desk");
    assert_eq!(outcome(&confirm(&writer, &password, Vec::new()).await), missing);
    assert_eq!(outcome(&cancel(&writer, &password).await), missing);
    assert_eq!(cancel(&writer, &name).await.unwrap().state(), RotationState::Cancelled);
}
