//! Secrets that are sealed for a recipient: who may be one, who opens them, and until when they are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use credvault::access::Role;
use credvault::crypto::delivery::{Delivered, PrivateKey};
use credvault::grpc::proto::recipient::Key;
use credvault::grpc::proto::{
    CreateCredentialRequest, CreateRecipientKeyRequest, DeliveryPolicy, GetDeliveryPolicyRequest,
    ListRecipientKeysRequest, Recipient, RecipientKey, RevokeRecipientKeyRequest,
    RotateCredentialRequest, RotationState, SealedSecret, UpdateDeliveryPolicyRequest,
};
use jiff::{SignedDuration, Timestamp};
use tonic::Status;

use super::{HOUR, confirm, get, held, overlapping, proof, whole};
use crate::credentials::{check, create, create_with, rotate, verifies};
use crate::support::{Clients, TestVault, channel, exposed, outcome, uuid};

const ISSUED: &str = "FailedPrecondition SECRET_ALREADY_ISSUED";
const KEY_REQUIRED: &str = "FailedPrecondition RECIPIENT_KEY_REQUIRED";

/// For whoever has the private key.
pub(crate) fn to(key: &PrivateKey) -> Recipient {
    let public = key.public_key().unwrap().as_bytes().to_vec();
    Recipient { key: Some(Key::HpkePublicKey(public)) }
}

fn enrolled(name: &str) -> Recipient {
    Recipient { key: Some(Key::RecipientKey(name.to_owned())) }
}

/// Opens a sealed secret as its documentation says, apart from the vault's own code for what it is bound to.
pub(crate) fn open(key: &PrivateKey, sealed: &SealedSecret) -> Option<String> {
    let expire_time = sealed.expire_time.unwrap();
    assert_eq!(expire_time.nanos, 0, "whole seconds");
    let expire_time = Timestamp::from_second(expire_time.seconds).unwrap();
    let lines = [
        sealed.credential.clone(),
        sealed.version.to_string(),
        sealed.request_id.clone(),
        sealed.public_key_sha256.clone(),
        expire_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    ];
    let delivered = Delivered {
        encapsulated_key: sealed.encapsulated_key.clone().try_into().unwrap(),
        ciphertext: sealed.ciphertext.clone(),
    };
    key.open(&delivered, &lines.join("\n")).ok().map(|text| exposed(&text))
}

pub(super) fn sealed_rotation(name: &str, key: &PrivateKey, id: u64) -> RotateCredentialRequest {
    RotateCredentialRequest { recipient: Some(to(key)), request_id: uuid(id), ..rotate(name) }
}

#[tokio::test]
async fn a_sealed_password_is_delivered_again_byte_for_byte_until_it_is_confirmed() {
    let vault = TestVault::start().await;
    // A retry is one of the same caller, so the token must outlive the restart.
    let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
    let acme = Clients::new(&channel(vault.address), &token);
    let (mine, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let creation = CreateCredentialRequest {
        recipient: Some(to(&mine)),
        request_id: uuid(1),
        credential_id: "desk".to_owned(),
        ..create("alice")
    };
    let created = acme.credentials.clone().create_credential(creation.clone()).await;
    let created = created.unwrap().into_inner();
    assert_eq!(created.issued, None);
    let (sealed, rotation) = (created.sealed.unwrap(), created.rotation.unwrap());
    assert_eq!(rotation.state(), RotationState::Succeeded);
    assert_eq!(open(&other, &sealed), None);
    let password = open(&mine, &sealed).unwrap();
    assert!(verifies(&acme, "alice", &password).await);

    let again = acme.credentials.clone().create_credential(creation.clone()).await.unwrap();
    assert_eq!(again.into_inner().sealed.as_ref(), Some(&sealed));

    let desk = "accounts/acme/credentials/desk";
    let request = sealed_rotation(desk, &mine, 2);
    let answer = whole(&acme, request.clone()).await.unwrap();
    let (second, rotation) = (answer.sealed.unwrap(), answer.rotation.unwrap());
    let password = open(&mine, &second).unwrap();
    assert!(verifies(&acme, "alice", &password).await);
    let log = acme.audit_log("acme").await;

    let vault = vault.restart().await;
    let acme = Clients::new(&channel(vault.address), &token);
    for _ in 0..2 {
        let again = whole(&acme, request.clone()).await.unwrap();
        assert_eq!((again.sealed.as_ref(), again.issued), (Some(&second), None));
        let got = get(&acme, &rotation.name).await.unwrap();
        assert_eq!((got.sealed, got.rotation), (Some(second.clone()), again.rotation));
        let first = acme.credentials.clone().create_credential(creation.clone()).await;
        assert_eq!(outcome(&first), ISSUED, "what it issued is dead by now");
    }
    assert_eq!(acme.audit_log("acme").await, log, "a retry changes nothing");
    let other_key = RotateCredentialRequest { recipient: Some(to(&other)), ..request.clone() };
    assert_eq!(outcome(&whole(&acme, other_key).await), "AlreadyExists REQUEST_ID_REUSED");

    let wrong = confirm(&acme, &rotation.name, proof("not it", &rotation.name)).await;
    assert_eq!(outcome(&wrong), "InvalidArgument INVALID_FIELD proof");
    let confirmed = confirm(&acme, &rotation.name, Vec::new()).await.unwrap();
    assert!(confirmed.confirm_time.is_some() && confirmed.expire_time.is_none());
    assert_eq!(outcome(&whole(&acme, request).await), ISSUED);
    assert_eq!(get(&acme, &rotation.name).await.unwrap().sealed, None);
    assert!(verifies(&acme, "alice", &password).await);
    vault.vault.end_due(vault.now()).await.unwrap();
    let kept = "SELECT count(*) FROM rotation WHERE sealed IS NOT NULL";
    assert_eq!(vault.column::<i64>(kept), [0]);
}

#[tokio::test]
async fn a_sealed_password_is_kept_for_a_quarter_of_an_hour_or_as_long_as_the_old_one_verifies() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let key = PrivateKey::generate().unwrap();
    let (new, _) = acme.create(create("alice")).await.unwrap();
    for (overlap, kept) in [
        (SignedDuration::ZERO, SignedDuration::from_mins(15)),
        (SignedDuration::from_mins(1), SignedDuration::from_mins(15)),
        (HOUR * 48, HOUR * 48),
    ] {
        let request_id = uuid(kept.as_secs().unsigned_abs() + overlap.as_secs().unsigned_abs());
        let request = RotateCredentialRequest {
            recipient: Some(to(&key)),
            request_id,
            ..overlapping(&new.name, overlap)
        };
        let first = whole(&acme, request.clone()).await.unwrap();
        vault.clock.advance(kept - SignedDuration::from_secs(1));
        vault.vault.end_due(vault.now()).await.unwrap();
        let again = whole(&acme, request.clone()).await.unwrap();
        assert_eq!(again.sealed, first.sealed, "{overlap:#}");
        vault.clock.advance(SignedDuration::from_secs(2));
        let rotation = first.rotation.unwrap().name;
        // Whether or not the vault got to destroy it.
        assert_eq!(get(&acme, &rotation).await.unwrap().sealed, None);
        vault.vault.end_due(vault.now()).await.unwrap();
        let kept = "SELECT count(*) FROM rotation WHERE sealed IS NOT NULL";
        assert_eq!(vault.column::<i64>(kept), [0], "{overlap:#}");
        let entry = acme.audit_log("acme").await.pop().unwrap();
        assert_eq!((entry.method.as_str(), entry.resource), ("ExpireRotation", rotation));
        // As long as the request is remembered.
        if overlap < HOUR {
            assert_eq!(outcome(&whole(&acme, request).await), ISSUED);
        }
    }
}

#[tokio::test]
async fn nothing_of_a_sealed_password_is_left_in_the_files_after_its_time() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let key = PrivateKey::generate().unwrap();
    let (new, _) = acme.create(create("alice")).await.unwrap();
    let mut sealed = Vec::new();
    for number in 0..20 {
        let answer = whole(&acme, sealed_rotation(&new.name, &key, number)).await.unwrap();
        sealed.push(answer.sealed.unwrap().ciphertext);
    }
    vault.clock.advance(HOUR);
    vault.vault.end_due(vault.now()).await.unwrap();
    let (dir, _, _) = vault.stop().await;
    let mut looked_at = 0;
    for file in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        looked_at += bytes.len();
        for window in sealed.iter().flat_map(|record| record.windows(16)) {
            assert!(memory_find(&bytes, window).is_none(), "a piece of a sealed secret is left");
        }
    }
    assert!(looked_at > 4096);
}

fn memory_find(bytes: &[u8], piece: &[u8]) -> Option<usize> {
    let first = piece[0];
    let mut starts = (0..bytes.len()).filter(|&at| bytes[at] == first);
    starts.find(|&at| bytes[at..].starts_with(piece))
}

#[tokio::test]
async fn a_held_and_sealed_rotation_is_confirmed_by_whoever_opened_it() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let key = PrivateKey::generate().unwrap();
    let (new, _) = acme.create(create_with("alice", "the old password")).await.unwrap();
    let request = RotateCredentialRequest {
        recipient: Some(to(&key)),
        request_id: uuid(1),
        ..held(&new.name, SignedDuration::ZERO)
    };
    let answer = whole(&acme, request.clone()).await.unwrap();
    let (rotation, sealed) = (answer.rotation.unwrap(), answer.sealed.unwrap());
    vault.clock.advance(HOUR * 24 * 20);
    assert_eq!(whole(&acme, request).await.unwrap().sealed.unwrap(), sealed, "20 days later");
    let password = open(&key, &sealed).unwrap();
    assert!(verifies(&acme, "alice", "the old password").await);
    confirm(&acme, &rotation.name, proof(&password, &rotation.name)).await.unwrap();
    assert!(!verifies(&acme, "alice", "the old password").await);
    assert_eq!(check(&acme, "alice", &password).await.version, 2);
}

async fn enroll(clients: &Clients, id: &str, key: &PrivateKey) -> Result<RecipientKey, Status> {
    let public_key = key.public_key().unwrap().as_bytes().to_vec();
    let request = CreateRecipientKeyRequest {
        parent: "accounts/acme".to_owned(),
        recipient_key_id: id.to_owned(),
        recipient_key: Some(RecipientKey { public_key, ..RecipientKey::default() }),
        ..CreateRecipientKeyRequest::default()
    };
    let answer = clients.access.clone().create_recipient_key(request).await?.into_inner();
    Ok(answer.recipient_key.unwrap())
}

async fn set_policy(clients: &Clients, enrolled_keys_only: bool) {
    let name = "accounts/acme/deliveryPolicy".to_owned();
    let enrolled_keys_only = Some(enrolled_keys_only);
    let delivery_policy = Some(DeliveryPolicy { name: name.clone(), enrolled_keys_only });
    let request = UpdateDeliveryPolicyRequest { delivery_policy, ..Default::default() };
    clients.access.clone().update_delivery_policy(request).await.unwrap();
    let request = GetDeliveryPolicyRequest { name };
    let read = clients.access.clone().get_delivery_policy(request).await.unwrap().into_inner();
    assert_eq!(read.delivery_policy.unwrap().enrolled_keys_only, enrolled_keys_only);
}

#[tokio::test]
async fn an_account_may_let_passwords_out_for_its_own_recipients_alone() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let edge = PrivateKey::generate().unwrap();
    let enrolled_key = enroll(&acme, "edge", &edge).await.unwrap();
    assert_eq!(enrolled_key.name, "accounts/acme/recipientKeys/edge");
    assert_eq!(
        enrolled_key.public_key_sha256,
        edge.public_key().unwrap().fingerprint(),
        "by which it is recognised"
    );
    let taken = enroll(&acme, "edge", &PrivateKey::generate().unwrap()).await;
    assert_eq!(outcome(&taken), "AlreadyExists ALREADY_EXISTS");
    set_policy(&acme, true).await;
    let vault = vault.restart().await;
    let acme = vault.acme().await;

    assert_eq!(outcome(&acme.create(create("alice")).await), KEY_REQUIRED);
    let (new, issued) = acme.create(create_with("alice", "an own password")).await.unwrap();
    assert_eq!(issued, None, "what is chosen does not leave");
    let any = PrivateKey::generate().unwrap();
    for recipient in [None, Some(to(&any)), Some(to(&edge))] {
        let request = RotateCredentialRequest { recipient, ..rotate(&new.name) };
        assert_eq!(outcome(&whole(&acme, request).await), KEY_REQUIRED);
    }
    assert!(verifies(&acme, "alice", "an own password").await);
    let request = RotateCredentialRequest {
        recipient: Some(enrolled(&enrolled_key.name)),
        request_id: uuid(1),
        ..rotate(&new.name)
    };
    let answer = whole(&acme, request.clone()).await.unwrap();
    let password = open(&edge, answer.sealed.as_ref().unwrap()).unwrap();
    assert!(verifies(&acme, "alice", &password).await);
    let entry = acme.audit_log("acme").await.pop().unwrap();
    assert_eq!(entry.detail, "sealed for recipientKeys/edge");

    // A key that is revoked receives nothing new; what was sealed before is delivered again.
    let name = enrolled_key.name.clone();
    let revoke = RevokeRecipientKeyRequest { name, ..Default::default() };
    let revoked = acme.access.clone().revoke_recipient_key(revoke).await.unwrap().into_inner();
    assert!(revoked.recipient_key.unwrap().revoke_time.is_some());
    assert_eq!(whole(&acme, request.clone()).await.unwrap().sealed, answer.sealed);
    let new_request = RotateCredentialRequest { request_id: uuid(2), ..request };
    let refused = whole(&acme, new_request).await;
    assert_eq!(outcome(&refused), "FailedPrecondition INVALID_STATE");
    let list =
        ListRecipientKeysRequest { parent: "accounts/acme".to_owned(), ..Default::default() };
    let listed = acme.access.clone().list_recipient_keys(list).await.unwrap().into_inner();
    assert_eq!(listed.recipient_keys.len(), 1);

    set_policy(&acme, false).await;
    acme.rotate(rotate(&new.name)).await.unwrap();
}

/// Rotates while another task moves the clock far ahead: a machine that slept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_to_be_sealed_never_leaves_in_plaintext() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let edge = PrivateKey::generate().unwrap();
    let name = enroll(&acme, "edge", &edge).await.unwrap().name;
    let (new, _) = acme.create(create_with("alice", "an own password")).await.unwrap();
    set_policy(&acme, true).await;
    let clock = Arc::clone(&vault.clock);
    let done = Arc::new(AtomicBool::new(false));
    let sleeping = {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                clock.advance(SignedDuration::from_mins(1));
                tokio::task::yield_now().await;
            }
        })
    };
    for _ in 0..100 {
        let request =
            RotateCredentialRequest { recipient: Some(enrolled(&name)), ..rotate(&new.name) };
        // The token has an end as well.
        let Ok(answer) = whole(&acme, request).await else { break };
        assert_eq!((answer.issued, answer.sealed.is_some()), (None, true));
    }
    done.store(true, Ordering::Relaxed);
    sleeping.await.unwrap();
}

#[tokio::test]
async fn a_sealed_password_goes_with_the_version_that_it_is() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let key = PrivateKey::generate().unwrap();
    let (new, _) = acme.create(create("alice")).await.unwrap();
    let month = HOUR * 24 * 30;
    let sealed = |id| RotateCredentialRequest {
        recipient: Some(to(&key)),
        request_id: uuid(id),
        ..overlapping(&new.name, month)
    };
    let first = whole(&acme, sealed(1)).await.unwrap();
    // However many are given up after it, it is delivered while it verifies.
    for _ in 0..25 {
        let waits = whole(&acme, held(&new.name, HOUR)).await.unwrap().rotation.unwrap();
        super::cancel(&acme, &waits.name).await.unwrap();
    }
    assert_eq!(whole(&acme, sealed(1)).await.unwrap().sealed, first.sealed);
    whole(&acme, sealed(2)).await.unwrap();
    assert_eq!(whole(&acme, sealed(1)).await.unwrap().sealed, first.sealed, "it retires");

    // A leak: every password but the new one dies, and what delivers them.
    acme.rotate(rotate(&new.name)).await.unwrap();
    let rotation = first.rotation.unwrap().name;
    assert_eq!(get(&acme, &rotation).await.unwrap().sealed, None);
    assert_eq!(outcome(&whole(&acme, sealed(1)).await), ISSUED);
    vault.vault.end_due(vault.now()).await.unwrap();
    let kept = "SELECT count(*) FROM rotation WHERE sealed IS NOT NULL OR due_time IS NOT NULL";
    assert_eq!(vault.column::<i64>(kept), [0]);
}
