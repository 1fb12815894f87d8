//! Rotations with an overlap, with a recipient, and with a confirmation.

mod concurrent;
pub(crate) mod delivery;
mod lost_answers;

use credvault::access::Role;
use credvault::crypto;
use credvault::grpc::proto::{
    CancelRotationRequest, ConfirmRotationRequest, Credential, CredentialVersion,
    GetRotationRequest, GetRotationResponse, ListRotationsRequest, ListVersionsRequest,
    RotateCredentialRequest, RotateCredentialResponse, Rotation, RotationFilter, RotationState,
    RotationStep, RotationStepKind, VersionState,
};
use credvault::secret::SecretText;
use jiff::SignedDuration;
use tonic::Status;

use crate::credentials::{check, create, delete, rotate, set_password, update};
use crate::support::database::tamper;
use crate::support::{Clients, TestVault, channel, outcome, uuid};
pub(crate) use delivery::{open, to};

pub(super) const HOUR: SignedDuration = SignedDuration::from_hours(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const IN_PROGRESS: &str = "Aborted ROTATION_IN_PROGRESS";
const INVALID_STATE: &str = "FailedPrecondition INVALID_STATE";

/// The version that a password matches, and what that version is; 0 for none.
async fn matches(clients: &Clients, username: &str, password: &str) -> (i64, VersionState) {
    let answer = check(clients, username, password).await;
    assert_eq!(answer.valid, answer.version > 0);
    (answer.version, answer.version_state())
}

const NONE: (i64, VersionState) = (0, VersionState::Unspecified);

pub(super) fn overlapping(name: &str, overlap: SignedDuration) -> RotateCredentialRequest {
    let overlap = prost_types::Duration { seconds: overlap.as_secs(), nanos: 0 };
    RotateCredentialRequest { overlap: Some(overlap), ..rotate(name) }
}

pub(super) fn held(name: &str, overlap: SignedDuration) -> RotateCredentialRequest {
    RotateCredentialRequest { require_confirmation: true, ..overlapping(name, overlap) }
}

pub(super) async fn whole(
    clients: &Clients,
    request: RotateCredentialRequest,
) -> Result<RotateCredentialResponse, Status> {
    clients.credentials.clone().rotate_credential(request).await.map(tonic::Response::into_inner)
}

/// A rotation that waits, and the new password.
async fn hold(clients: &Clients, request: RotateCredentialRequest) -> (Rotation, String) {
    let answer = whole(clients, request).await.unwrap();
    (answer.rotation.unwrap(), answer.issued.unwrap().password)
}

pub(super) fn proof(password: &str, rotation: &str) -> Vec<u8> {
    crypto::proof_of(&SecretText::new(password.to_owned()), rotation).to_vec()
}

pub(super) async fn confirm(
    clients: &Clients,
    name: &str,
    proof: Vec<u8>,
) -> Result<Rotation, Status> {
    let request = ConfirmRotationRequest { name: name.to_owned(), proof, ..Default::default() };
    let answer = clients.rotations.clone().confirm_rotation(request).await?.into_inner();
    Ok(answer.rotation.unwrap())
}

pub(super) async fn cancel(clients: &Clients, name: &str) -> Result<Rotation, Status> {
    let request = CancelRotationRequest { name: name.to_owned(), ..Default::default() };
    let answer = clients.rotations.clone().cancel_rotation(request).await?.into_inner();
    Ok(answer.rotation.unwrap())
}

pub(super) async fn get(clients: &Clients, name: &str) -> Result<GetRotationResponse, Status> {
    let request = GetRotationRequest { name: name.to_owned() };
    clients.rotations.clone().get_rotation(request).await.map(tonic::Response::into_inner)
}

async fn versions(clients: &Clients, name: &str) -> Vec<CredentialVersion> {
    let request = ListVersionsRequest { parent: name.to_owned() };
    clients.credentials.clone().list_versions(request).await.unwrap().into_inner().versions
}

async fn states(clients: &Clients, name: &str) -> Vec<(i64, VersionState)> {
    let versions = versions(clients, name).await;
    versions.iter().map(|version| (version.version, version.state())).collect()
}

fn steps(rotation: &Rotation) -> Vec<RotationStepKind> {
    rotation.steps.iter().map(RotationStep::kind).collect()
}

#[tokio::test]
async fn with_an_overlap_the_old_password_verifies_until_its_time_and_is_gone_then() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    let first = first.unwrap().password;
    let answer = whole(&acme, overlapping(&new.name, HOUR)).await.unwrap();
    assert_eq!(answer.rotation, None, "it is over with its call");
    let second = answer.issued.unwrap().password;
    assert_eq!(matches(&acme, "alice", &second).await, (2, VersionState::Active));
    assert_eq!(matches(&acme, "alice", &first).await, (1, VersionState::Retiring));
    let kept = "SELECT count(*) FROM secret_version";
    assert_eq!(vault.column::<i64>(kept), [1]);
    let etag = acme.get(&new.name).await.unwrap().etag;

    let vault = vault.restart().await;
    let acme = vault.acme().await;
    vault.clock.advance(HOUR - SignedDuration::from_micros(1));
    assert_eq!(matches(&acme, "alice", &first).await, (1, VersionState::Retiring), "not yet");
    vault.clock.advance(SignedDuration::from_micros(1));
    // Whether or not the vault got to destroy it.
    assert_eq!(matches(&acme, "alice", &first).await, NONE);
    assert_eq!(matches(&acme, "alice", &second).await, (2, VersionState::Active));
    vault.vault.end_due(vault.now()).await.unwrap();
    assert_eq!(vault.column::<i64>(kept), [0]);
    assert_eq!(acme.get(&new.name).await.unwrap().etag, etag, "nobody has changed anything");
    let destroyed = [(2, VersionState::Active), (1, VersionState::Destroyed)];
    assert_eq!(states(&acme, &new.name).await, destroyed);
    let entry = acme.audit_log("acme").await.pop().unwrap();
    assert_eq!((entry.method.as_str(), entry.detail.as_str()), ("RetireVersion", "destroyed: 1"));
    assert_eq!(entry.principal, "vault:rotations");
    vault.vault.end_due(vault.now()).await.unwrap();
    assert_eq!(acme.audit_log("acme").await.pop().unwrap(), entry, "once");
}

#[tokio::test]
async fn a_served_vault_destroys_what_retired_by_itself() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, _) = acme.create(create("alice")).await.unwrap();
    whole(&acme, overlapping(&new.name, HOUR)).await.unwrap();
    vault.clock.advance(HOUR);
    for _ in 0..10_000 {
        vault.clock.advance(SignedDuration::from_secs(10));
        if vault.column::<i64>("SELECT count(*) FROM secret_version") == [0] {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the old version is still there");
}

#[tokio::test]
async fn without_an_overlap_nothing_but_the_new_password_verifies() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    let mut old = vec![first.unwrap().password];
    for _ in 0..8 {
        let answer = whole(&acme, overlapping(&new.name, DAY)).await.unwrap();
        old.push(answer.issued.unwrap().password);
    }
    for (version, password) in (1..).zip(&old) {
        assert_eq!(matches(&acme, "alice", password).await.0, version);
    }
    let ninth = whole(&acme, overlapping(&new.name, DAY)).await;
    assert_eq!(outcome(&ninth), INVALID_STATE, "eight retire already");
    let held_ninth = whole(&acme, held(&new.name, HOUR)).await;
    assert_eq!(outcome(&held_ninth), INVALID_STATE, "or it could not be confirmed");
    let (_, last) = acme.rotate(rotate(&new.name)).await.unwrap();
    for password in &old {
        assert_eq!(matches(&acme, "alice", password).await, NONE);
    }
    assert_eq!(matches(&acme, "alice", &last.password).await, (10, VersionState::Active));
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);

    // A password of the caller's own does the same.
    whole(&acme, overlapping(&new.name, DAY)).await.unwrap();
    acme.update(set_password(&new.name, "a password of hers")).await.unwrap();
    assert_eq!(matches(&acme, "alice", &last.password).await, NONE);
    assert_eq!(matches(&acme, "alice", "a password of hers").await.0, 12);
    assert_eq!(versions(&acme, &new.name).await.len(), 11, "the active one and ten before it");
}

#[tokio::test]
async fn a_held_rotation_ends_with_a_proof_and_until_then_both_passwords_verify() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    let first = first.unwrap().password;
    let (rotation, second) = hold(&acme, held(&new.name, HOUR)).await;
    assert_eq!((rotation.state(), rotation.version), (RotationState::Holding, 2));
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    vault.clock.advance(HOUR * 2);
    assert_eq!(matches(&acme, "alice", &first).await, (1, VersionState::Active));
    assert_eq!(matches(&acme, "alice", &second).await, (2, VersionState::Pending));

    // Nothing else replaces the password meanwhile; its configuration may change.
    assert_eq!(outcome(&acme.rotate(rotate(&new.name)).await), IN_PROGRESS);
    assert_eq!(outcome(&acme.update(set_password(&new.name, "long enough")).await), IN_PROGRESS);
    let described = Credential { description: Some("desk".to_owned()), ..Default::default() };
    acme.update(update(&new.name, described, &[])).await.unwrap();

    let name = rotation.name.as_str();
    let before = vault.state();
    for (case, proof) in [
        ("none", Vec::new()),
        ("of the old password", proof(&first, name)),
        ("of another name", proof(&second, &format!("{name}0"))),
    ] {
        let refused = confirm(&acme, name, proof).await;
        assert_eq!(outcome(&refused), "InvalidArgument INVALID_FIELD proof", "{case}");
    }
    assert_eq!(vault.state(), before);
    let confirmed = confirm(&acme, name, proof(&second, name)).await.unwrap();
    assert_eq!(confirmed.state(), RotationState::Succeeded);
    assert_eq!(steps(&confirmed), [RotationStepKind::Store, RotationStepKind::Confirm]);
    assert_eq!(matches(&acme, "alice", &first).await, (1, VersionState::Retiring));
    assert_eq!(matches(&acme, "alice", &second).await, (2, VersionState::Active));
    vault.clock.advance(HOUR);
    assert_eq!(matches(&acme, "alice", &first).await, NONE);
    assert_eq!(confirm(&acme, name, proof(&second, name)).await.unwrap(), confirmed, "again");
    assert_eq!(outcome(&cancel(&acme, name).await), INVALID_STATE);

    // Without an overlap the old one dies with the proof.
    let (rotation, third) = hold(&acme, held(&new.name, SignedDuration::ZERO)).await;
    confirm(&acme, &rotation.name, proof(&third, &rotation.name)).await.unwrap();
    assert_eq!(matches(&acme, "alice", &second).await, NONE);
    assert_eq!(matches(&acme, "alice", &third).await, (3, VersionState::Active));
}

#[tokio::test]
async fn a_cancelled_rotation_leaves_the_old_password_and_its_number_is_not_used_again() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    let first = first.unwrap().password;
    let (rotation, second) = hold(&acme, held(&new.name, HOUR)).await;
    let cancelled = cancel(&acme, &rotation.name).await.unwrap();
    assert_eq!(cancelled.state(), RotationState::Cancelled);
    assert_eq!(cancel(&acme, &rotation.name).await.unwrap(), cancelled, "again");
    assert_eq!(matches(&acme, "alice", &first).await, (1, VersionState::Active));
    assert_eq!(matches(&acme, "alice", &second).await, NONE);
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);
    let late = confirm(&acme, &rotation.name, proof(&second, &rotation.name)).await;
    assert_eq!(outcome(&late), INVALID_STATE);
    let (after, _) = acme.rotate(rotate(&new.name)).await.unwrap();
    assert_eq!(after.version, 3);
}

#[tokio::test]
async fn a_rotation_that_nobody_confirms_asks_for_a_person_and_both_passwords_still_verify() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    let (rotation, second) = hold(&acme, held(&new.name, SignedDuration::ZERO)).await;
    vault.clock.advance(DAY * 30 - HOUR);
    vault.vault.end_due(vault.now()).await.unwrap();
    assert_eq!(get(&acme, &rotation.name).await.unwrap().rotation.unwrap(), rotation);
    vault.clock.advance(HOUR);
    vault.vault.end_due(vault.now()).await.unwrap();
    // A token of before has expired by now.
    let acme = vault.acme().await;
    let stuck = get(&acme, &rotation.name).await.unwrap().rotation.unwrap();
    assert_eq!(stuck.state(), RotationState::NeedsAttention);
    assert!(stuck.steps.last().unwrap().message.contains("confirm it"), "{stuck:?}");
    assert_eq!(matches(&acme, "alice", &first.unwrap().password).await.0, 1);
    assert_eq!(matches(&acme, "alice", &second).await.0, 2);
    let filter = RotationFilter { state: RotationState::NeedsAttention.into() };
    let request = ListRotationsRequest {
        parent: "accounts/acme".to_owned(),
        filter: Some(filter),
        ..Default::default()
    };
    let listed = acme.rotations.clone().list_rotations(request).await.unwrap().into_inner();
    assert_eq!(listed.rotations, [stuck]);
    vault.vault.end_due(vault.now()).await.unwrap();
    let confirmed = confirm(&acme, &rotation.name, proof(&second, &rotation.name)).await.unwrap();
    assert_eq!(confirmed.state(), RotationState::Succeeded);
}

#[tokio::test]
async fn uses_are_counted_by_version_and_outlive_the_process() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    assert_eq!(acme.get(&new.name).await.unwrap().last_success_time, None);
    let first = first.unwrap().password;
    for _ in 0..3 {
        matches(&acme, "alice", &first).await;
    }
    // The vault stores counts twice a minute, and not in this test.
    vault.clock.advance(SECOND);
    let second = whole(&acme, overlapping(&new.name, DAY)).await.unwrap().issued.unwrap();
    matches(&acme, "alice", &second.password).await;
    matches(&acme, "alice", "a wrong password").await;
    matches(&acme, "alice", "a wrong password").await;
    vault.clock.advance(SECOND);
    matches(&acme, "alice", &first).await;
    let counts = async |clients: &Clients| {
        let versions = versions(clients, &new.name).await;
        let seconds = |version: &CredentialVersion| version.last_success_time.unwrap().seconds;
        let count = |version: &CredentialVersion| {
            (version.version, version.success_count, version.failure_count, seconds(version))
        };
        versions.iter().map(count).collect::<Vec<_>>()
    };
    let now = vault.now().as_second();
    let expected = [(2, 1, 2, now - 1), (1, 4, 0, now)];
    assert_eq!(counts(&acme).await, expected);
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    assert_eq!(counts(&acme).await, expected, "after a restart");
    matches(&acme, "alice", &second.password).await;
    let used = acme.get(&new.name).await.unwrap().last_success_time.unwrap();
    assert_eq!(used.seconds, now, "before it is stored");

    // Nothing of it is left of a credential that is not there.
    acme.delete(delete(&new.name)).await.unwrap();
    let vault = vault.restart().await;
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM version_use"), [0]);
}

#[tokio::test]
async fn a_deletion_takes_the_versions_and_the_rotations_along() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, _) = acme.create(create("alice")).await.unwrap();
    whole(&acme, overlapping(&new.name, DAY)).await.unwrap();
    let (rotation, _) = hold(&acme, held(&new.name, HOUR)).await;
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [2]);
    acme.delete(delete(&new.name)).await.unwrap();
    for table in ["secret_version", "rotation", "version_use"] {
        assert_eq!(vault.column::<i64>(&format!("SELECT count(*) FROM {table}")), [0], "{table}");
    }
    let gone = get(&acme, &rotation.name).await;
    assert_eq!(outcome(&gone), "NotFound NOT_FOUND");
}

#[tokio::test]
async fn rotations_are_listed_newest_first_and_the_last_twenty_are_remembered() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (alice, _) = acme.create(create("alice")).await.unwrap();
    let (bob, _) = acme.create(create("bob")).await.unwrap();
    let mut names = Vec::new();
    for number in 0..25 {
        vault.clock.advance(SECOND);
        let (rotation, _) = hold(&acme, held(&alice.name, SignedDuration::ZERO)).await;
        cancel(&acme, &rotation.name).await.unwrap();
        names.push(rotation.name);
        if number == 20 {
            vault.clock.advance(SECOND);
            let (of_bob, _) = hold(&acme, held(&bob.name, SignedDuration::ZERO)).await;
            names.push(of_bob.name);
        }
    }
    let list = async |parent: &str, state: RotationState| {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListRotationsRequest {
                parent: parent.to_owned(),
                page_size: 7,
                page_token,
                filter: Some(RotationFilter { state: state.into() }),
            };
            let page = acme.rotations.clone().list_rotations(request).await.unwrap().into_inner();
            assert!(page.rotations.len() <= 7);
            found.extend(page.rotations.into_iter().map(|rotation| rotation.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    };
    names.reverse();
    let any = RotationState::Unspecified;
    let of_alice: Vec<_> =
        names.iter().filter(|name| name.starts_with(&alice.name)).take(20).cloned().collect();
    assert_eq!(list(&alice.name, any).await, of_alice);
    let all = list("accounts/acme", any).await;
    assert_eq!(all.len(), 21);
    let place = |name: &String| names.iter().position(|known| known == name);
    assert!(all.iter().is_sorted_by_key(place), "newest first");
    let open = list("accounts/acme", RotationState::Holding).await;
    assert!(open.len() == 1 && open[0].starts_with(&bob.name), "{open:?}");
    assert_eq!(list(&alice.name, RotationState::Holding).await, [""; 0]);
}

/// With its ciphertext gone, a version is neither wrong nor right.
#[tokio::test]
async fn a_version_that_was_taken_out_of_the_file_is_noticed() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    whole(&acme, overlapping(&new.name, DAY)).await.unwrap();
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let vault = vault.restart_after(|file| tamper(file, "DELETE FROM secret_version")).await;
    let acme = Clients::new(&channel(vault.address), &token);
    assert_eq!(outcome(&acme.get(&new.name).await), "DataLoss RECORD_DAMAGED");
    drop(first);
}

/// Of a rotation that waits one thing happens, whoever asks for what at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_confirm_cancel_and_expiry_at_once_one_happens() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (mut confirmed, mut cancelled) = (0, 0);
    for number in 0..60 {
        let user = format!("user-{number}");
        let (new, first) = acme.create(create(&user)).await.unwrap();
        let (rotation, second) = hold(&acme, held(&new.name, SignedDuration::ZERO)).await;
        let name = rotation.name.as_str();
        let described = Credential { description: Some("x".to_owned()), ..Default::default() };
        let (confirming, again, cancelling, updated, rotating, ended) = tokio::join!(
            confirm(&acme, name, proof(&second, name)),
            confirm(&acme, name, proof(&second, name)),
            cancel(&acme, name),
            acme.update(update(&new.name, described, &[])),
            acme.rotate(rotate(&new.name)),
            vault.vault.end_due(vault.now() + DAY * 31),
        );
        ended.unwrap();
        updated.unwrap();
        assert_eq!(confirming.is_ok(), again.is_ok(), "{confirming:?} {again:?}");
        let active = acme.get(&new.name).await.unwrap().version;
        if let Ok((rotated, _)) = &rotating {
            assert_eq!((rotated.version, active), (3, 3), "after the end of the one that waited");
        }
        let first = matches(&acme, &user, &first.unwrap().password).await.0;
        let second = matches(&acme, &user, &second).await.0;
        match (&confirming, &cancelling) {
            (Ok(_), Err(_)) => confirmed += 1,
            (Err(_), Ok(_)) => cancelled += 1,
            both => panic!("{both:?}"),
        }
        let expected = match (confirming.is_ok(), rotating.is_ok()) {
            (_, true) => (0, 0),
            (true, false) => (0, 2),
            (false, false) => (1, 0),
        };
        assert_eq!((first, second), expected);
    }
    println!("{confirmed} were confirmed, {cancelled} cancelled");
}

#[tokio::test]
async fn a_request_id_is_that_of_its_overlap_and_its_confirmation() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, _) = acme.create(create("alice")).await.unwrap();
    let first = RotateCredentialRequest { request_id: uuid(1), ..overlapping(&new.name, HOUR) };
    whole(&acme, first.clone()).await.unwrap();
    let state = vault.state();
    for (other, expected) in [
        (first.clone(), "FailedPrecondition SECRET_ALREADY_ISSUED"),
        (
            RotateCredentialRequest { overlap: None, ..first.clone() },
            "AlreadyExists REQUEST_ID_REUSED",
        ),
        (
            RotateCredentialRequest { require_confirmation: true, ..first },
            "AlreadyExists REQUEST_ID_REUSED",
        ),
    ] {
        assert_eq!(outcome(&whole(&acme, other).await), expected);
    }
    assert_eq!(vault.state(), state);
}

/// The defect has to be in the vault of the harness: this program, once more.
#[cfg(feature = "planted-defects")]
fn is_caught(defect: &str, harness: &str, says: &str) {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("rotations::{harness}"), "--nocapture"])
        .env("CREDVAULT_DEFECT", defect)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains(says), "{said}");
    println!("{defect}: {}", said.lines().find(|line| line.contains(says)).unwrap());
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_defects_of_rotations_are_caught() {
    for (defect, harness, says) in [
        (
            "forget-requests",
            "lost_answers::a_thousand_lost_answers_strand_no_sealed_secret_and_make_no_second_version",
            "operation ",
        ),
        (
            "no-overlap",
            "concurrent::at_no_instant_of_ten_thousand_overlapping_rotations_is_a_good_password_refused",
            "was refused",
        ),
        (
            "keep-replaced",
            "concurrent::once_the_new_password_has_matched_the_old_one_never_does",
            " after ",
        ),
        (
            "keep-delivery",
            "delivery::nothing_of_a_sealed_password_is_left_in_the_files_after_its_time",
            "a piece of a sealed secret is left",
        ),
    ] {
        is_caught(defect, harness, says);
    }
}
