//! What can be amiss at Twilio, old tokens that come back, API keys, and carriers that have one token at a time.

use credvault::crypto::delivery::PrivateKey;
use credvault::grpc::proto::recipient::Key;
use credvault::grpc::proto::{
    CheckStatus, CreateRecipientKeyRequest, ListRotationsRequest, Recipient, RecipientKey,
    RevokeRecipientKeyRequest, RotateTokenRequest, RotationState, RotationStepKind, TwilioApiKey,
    UpdateTokenRequest, VerificationStatus,
};
use jiff::SignedDuration;

use super::{
    HOUR, MAIN, MINUTE, ended, held, old_token, once, rotate_token, rotation_of, status, with_main,
};
use crate::at_carriers::resume;
use crate::carriers::At;
use crate::providers::{SID, TOKEN, TOKEN_2, update_token};
use crate::rotations::{cancel, confirm, get};
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::twilio::SecondSecondary;
use crate::support::{Clients, TestVault, outcome, uuid};

#[tokio::test]
async fn a_dead_token_that_works_again_is_told_for_a_day() {
    let (vault, acme, name) = held(rotation_of(MAIN)).await;
    vault.clock.advance(MINUTE);
    ended(&acme, &name).await;
    let dead = acme.verify_provider(MAIN).await.unwrap();
    assert_eq!(old_token(&dead), Some(CheckStatus::Passed));
    vault.twilio.add_token(SID, TOKEN);
    let alive = acme.verify_provider(MAIN).await.unwrap();
    assert_eq!(old_token(&alive), Some(CheckStatus::Failed));
    assert_eq!(status(&alive), VerificationStatus::Warning);
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [1]);

    vault.clock.advance(HOUR * 24);
    while vault.column::<i64>("SELECT count(*) FROM secret_version") != [0] {
        tokio::task::yield_now().await;
    }
    let later = acme.verify_provider(MAIN).await.unwrap();
    assert_eq!((old_token(&later), status(&later)), (None, VerificationStatus::Verified));
    assert_eq!(later.token_version, 2);
}

#[tokio::test]
async fn an_old_token_that_still_works_after_its_end_is_tried_again() {
    let (vault, acme, name) = held(rotation_of(MAIN)).await;
    // The end is answered, and for a while the old one is taken all the same.
    let get_account = format!("GET /2010-04-01/Accounts/{SID}.json");
    vault.twilio.fail_call(&get_account, 1, Fault::Status(500));
    vault.clock.advance(MINUTE);
    let tried = |it: &credvault::grpc::proto::Rotation| {
        it.steps.iter().any(|step| step.kind() == RotationStepKind::Probe)
    };
    let rotation = once(&acme, &name, tried).await;
    let (state, probe) = (rotation.state(), rotation.steps.last().unwrap());
    assert_eq!((state, probe.reason.as_str()), (RotationState::Finishing, "UPSTREAM_ERROR"));
    assert_eq!(acme.get_provider(MAIN).await.unwrap().token_version, 2, "the new one is in force");
    let too_late = cancel(&acme, &name).await;
    assert_eq!(outcome(&too_late), "FailedPrecondition INVALID_STATE");

    // Somebody makes it valid again before it was seen dead.
    vault.twilio.add_token(SID, TOKEN);
    let rotation = resume(&acme, &name).await.unwrap();
    assert_eq!(rotation.steps.last().unwrap().reason, "OLD_TOKEN_WORKS");
    vault.clock.advance(SignedDuration::from_mins(20));
    let told = once(&acme, &name, |it| it.state() == RotationState::NeedsAttention).await;
    let advice = &told.steps.last().unwrap().message;
    assert!(advice.contains("the old one still works"), "{advice}");
    // It is kept as long as it was not seen dead.
    vault.clock.advance(HOUR * 30);
    vault.vault.end_due(vault.now()).await.unwrap();
    let still = resume(&acme, &name).await.unwrap();
    assert_eq!(still.state(), RotationState::NeedsAttention);
    assert_eq!(still.steps.last().unwrap().reason, "OLD_TOKEN_WORKS");
    // Whoever sends another token of his own ends this, too.
    vault.twilio.add_token(SID, TOKEN_2);
    acme.update_token(update_token(MAIN, TOKEN_2)).await.unwrap();
    resume(&acme, &name).await.unwrap();
    let rotation = ended(&acme, &name).await;
    assert_eq!(rotation.state(), RotationState::Succeeded);
    assert_eq!(rotation.steps.last().unwrap().reason, "TOKEN_REPLACED", "it was not seen dead");
}

#[tokio::test]
async fn a_new_token_that_somebody_removes_leaves_the_old_one_and_a_person_decides() {
    for by_update in [false, true] {
        let (vault, acme, name) = held(rotation_of(MAIN)).await;
        // As in the Console: all others end.
        vault.twilio.set_token(SID, TOKEN);
        vault.clock.advance(MINUTE);
        let refused = |it: &credvault::grpc::proto::Rotation| {
            it.steps.iter().any(|step| step.kind() == RotationStepKind::Finish)
        };
        let rotation = once(&acme, &name, refused).await;
        assert_eq!(rotation.steps.last().unwrap().reason, "UPSTREAM_REJECTED_TOKEN");
        assert!(!rotation.uncertain, "the old one was asked: it works");
        let provider = acme.verify_provider(MAIN).await.unwrap();
        assert_eq!((provider.token_version, status(&provider)), (1, VerificationStatus::Verified));
        if by_update {
            vault.twilio.add_token(SID, TOKEN_2);
            let early = acme.update_token(update_token(MAIN, TOKEN_2)).await;
            assert_eq!(outcome(&early), "Aborted ROTATION_IN_PROGRESS", "it goes on by itself");
            vault.clock.advance(SignedDuration::from_mins(20));
            once(&acme, &name, |it| it.state() == RotationState::NeedsAttention).await;
            let updated = acme.update_token(update_token(MAIN, TOKEN_2)).await.unwrap();
            assert_eq!(updated.token_version, 3, "the number of the other is gone");
        } else {
            cancel(&acme, &name).await.unwrap();
        }
        assert_eq!(ended(&acme, &name).await.state(), RotationState::Cancelled);
        assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);
    }
}

#[tokio::test]
async fn a_new_token_that_somebody_promotes_is_the_one_in_force_whatever_was_meant() {
    for cancels in [false, true] {
        let (vault, acme, name) = held(rotation_of(MAIN)).await;
        let new = vault.twilio.tokens_of(SID).1.unwrap();
        vault.twilio.promote_token(SID);
        // The next secondary token is somebody else's: it must not be promoted.
        vault.twilio.add_token(SID, TOKEN_2);
        if cancels {
            cancel(&acme, &name).await.unwrap();
        } else {
            vault.clock.advance(MINUTE);
        }
        assert_eq!(ended(&acme, &name).await.state(), RotationState::Succeeded, "{cancels}");
        assert_eq!(vault.twilio.tokens_of(SID), (Some(new), Some(TOKEN_2.to_owned())));
        let provider = acme.verify_provider(MAIN).await.unwrap();
        assert_eq!((provider.token_version, status(&provider)), (2, VerificationStatus::Verified));
    }
}

#[tokio::test]
async fn tokens_can_be_rotated_as_often_as_somebody_likes() {
    let (vault, acme) = with_main().await;
    for version in 2..=12 {
        let rotation = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
        confirm(&acme, &rotation.name, Vec::new()).await.unwrap();
        assert_eq!(ended(&acme, &rotation.name).await.state(), RotationState::Succeeded);
        vault.clock.advance(MINUTE);
        assert_eq!(acme.get_provider(MAIN).await.unwrap().token_version, version);
        assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [1]);
    }
}

#[tokio::test]
async fn what_was_found_of_a_trunk_stays_known_with_a_new_token() {
    let (_vault, acme, main) = crate::verifications::with_trunk().await;
    let name = rotate_token(&acme, rotation_of(&main.name)).await.unwrap().rotation.unwrap().name;
    confirm(&acme, &name, Vec::new()).await.unwrap();
    ended(&acme, &name).await;
    let after = acme.get_provider(&main.name).await.unwrap();
    assert_eq!(after.kind, main.kind, "with the termination URI");
    assert_eq!(
        (after.phone_number_count, status(&after)),
        (main.phone_number_count, status(&main))
    );
}

#[tokio::test]
async fn a_token_for_somebody_who_may_not_have_it_any_more_is_removed_again() {
    let (vault, acme) = with_main().await;
    let key = PrivateKey::generate().unwrap();
    let name = enroll(&acme, &key).await;
    vault.twilio.fail_call(super::MAKE, 0, Fault::CloseBeforeAnswer);
    let recipient = Some(Recipient { key: Some(Key::RecipientKey(name.clone())) });
    let request = RotateTokenRequest { recipient, ..rotation_of(MAIN) };
    let rotation = rotate_token(&acme, request).await.unwrap().rotation.unwrap();
    assert_eq!(rotation.state(), RotationState::Applying);
    let revoke = RevokeRecipientKeyRequest { name, ..Default::default() };
    acme.access.clone().revoke_recipient_key(revoke).await.unwrap();
    resume(&acme, &rotation.name).await.unwrap();
    let rotation = ended(&acme, &rotation.name).await;
    assert_eq!(rotation.state(), RotationState::Cancelled);
    let why = rotation.steps.iter().find(|it| it.kind() == RotationStepKind::Cancel).unwrap();
    assert!(why.message.contains("may not have it any more"), "{why:?}");
    assert_eq!(vault.twilio.tokens_of(SID), (Some(TOKEN.to_owned()), None));
    assert_eq!(acme.get_provider(MAIN).await.unwrap().token_version, 1);
}

async fn enroll(acme: &Clients, key: &PrivateKey) -> String {
    let public_key = key.public_key().unwrap().as_bytes().to_vec();
    let request = CreateRecipientKeyRequest {
        parent: "accounts/acme".to_owned(),
        recipient_key_id: "edge".to_owned(),
        recipient_key: Some(RecipientKey { public_key, ..RecipientKey::default() }),
        ..CreateRecipientKeyRequest::default()
    };
    let answer = acme.access.clone().create_recipient_key(request).await.unwrap().into_inner();
    answer.recipient_key.unwrap().name
}

#[tokio::test]
async fn where_a_second_secondary_is_refused_so_is_a_rotation() {
    let (vault, acme) = with_main().await;
    vault.twilio.set_second_secondary(SecondSecondary::IsRefused(400));
    vault.twilio.add_token(SID, TOKEN_2);
    let refused = rotate_token(&acme, rotation_of(MAIN)).await;
    assert_eq!(outcome(&refused), "FailedPrecondition UPSTREAM_REFUSED");
    assert!(vault.twilio.accepts_token(SID, TOKEN_2), "somebody else's is left alone");
}

#[tokio::test]
async fn a_carrier_that_says_no_to_a_new_token_changes_nothing() {
    let (vault, acme) = with_main().await;
    vault.twilio.fail_call(super::MAKE, 0, Fault::Status(403));
    let request = RotateTokenRequest { request_id: uuid(1), ..rotation_of(MAIN) };
    for _ in 0..2 {
        let refused = rotate_token(&acme, request.clone()).await;
        assert_eq!(outcome(&refused), "FailedPrecondition UPSTREAM_ACCOUNT_INACTIVE");
    }
    assert_eq!(vault.twilio.calls_to(super::MAKE), 1);
    assert_eq!(vault.twilio.tokens_of(SID), (Some(TOKEN.to_owned()), None));
    let provider = acme.get_provider(MAIN).await.unwrap();
    assert_eq!(provider.token_version, 1);
    assert!(rotate_token(&acme, rotation_of(MAIN)).await.is_ok(), "and it can be tried again");
}

#[tokio::test]
async fn a_main_key_is_replaced_by_a_key_that_cannot_be_replaced_in_turn() {
    let (vault, acme) = with_main().await;
    let (sid, secret) = (format!("SK{}", "1".repeat(32)), "1".repeat(32));
    vault.twilio.add_main_key(SID, &sid, &secret);
    let api_key = Some(TwilioApiKey { sid: sid.clone(), secret });
    let update = UpdateTokenRequest { api_key, ..update_token(MAIN, "") };
    acme.update_token(update).await.unwrap();
    let name = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap().name;
    once(&acme, &name, |it| it.state() == RotationState::Holding).await;
    assert_eq!(vault.twilio.api_keys(SID).len(), 2);
    let label = vault.twilio.api_key_names(SID).into_iter().find(|it| it.starts_with("credvault"));
    assert!(name.ends_with(label.unwrap().trim_start_matches("credvault ")), "by its rotation");
    confirm(&acme, &name, Vec::new()).await.unwrap();
    assert_eq!(ended(&acme, &name).await.state(), RotationState::Succeeded);
    let left = vault.twilio.api_keys(SID);
    assert!(left.len() == 1 && left[0] != sid, "{left:?}");
    let provider = acme.verify_provider(MAIN).await.unwrap();
    assert_eq!((provider.token_version, status(&provider)), (3, VerificationStatus::Verified));

    let refused = rotate_token(&acme, rotation_of(MAIN)).await;
    let not_allowed = "FailedPrecondition UPSTREAM_NOT_ALLOWED";
    assert_eq!(outcome(&refused), not_allowed, "a Standard key may not make keys");
}

#[tokio::test]
async fn carriers_with_one_token_at_a_time_say_what_to_do() {
    for at in [At::Vobiz, At::Telepath] {
        let vault = TestVault::start().await;
        let acme = vault.acme().await;
        at.add_account(&vault);
        acme.create_provider(at.create(at.id())).await.unwrap();
        let refused = rotate_token(&acme, rotation_of(&at.name())).await;
        assert_eq!(outcome(&refused), "FailedPrecondition INVALID_STATE", "{at:?}");
        assert!(refused.unwrap_err().message().contains("UpdateToken"));
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_told_by_its_field() {
    let (_vault, acme) = with_main().await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (request, field) in [
        (RotateTokenRequest { hold: seconds(-1), ..rotation_of(MAIN) }, "hold"),
        (RotateTokenRequest { hold: seconds(31 * 86_400), ..rotation_of(MAIN) }, "hold"),
        (RotateTokenRequest { require_confirmation: true, ..rotation_of(MAIN) }, "recipient"),
    ] {
        let refused = rotate_token(&acme, request).await;
        assert_eq!(outcome(&refused), format!("InvalidArgument INVALID_FIELD {field}"));
    }
    let stale = RotateTokenRequest { etag: "\"x\"".to_owned(), ..rotation_of(MAIN) };
    assert_eq!(outcome(&rotate_token(&acme, stale).await), "Aborted ETAG_MISMATCH");
}

#[tokio::test]
async fn rotations_of_tokens_are_listed_by_their_provider_and_go_with_it() {
    let (vault, acme, name) = held(rotation_of(MAIN)).await;
    vault.clock.advance(MINUTE);
    ended(&acme, &name).await;
    for parent in [MAIN, "accounts/acme"] {
        let request =
            ListRotationsRequest { parent: parent.to_owned(), ..ListRotationsRequest::default() };
        let listed = acme.rotations.clone().list_rotations(request).await.unwrap().into_inner();
        let names: Vec<_> = listed.rotations.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, [name.as_str()], "{parent}");
    }
    let deleted = acme.providers.clone().delete_provider(crate::providers::delete(MAIN)).await;
    deleted.unwrap();
    assert_eq!(outcome(&get(&acme, &name).await), "NotFound NOT_FOUND");
    let left = "SELECT (SELECT count(*) FROM rotation) + (SELECT count(*) FROM secret_version)";
    assert_eq!(vault.column::<i64>(left), [0]);
}
