//! Credentials: issue, rotate, update, delete.

use std::collections::BTreeMap;

use credvault::grpc::proto::{
    CreateCredentialRequest, Credential, DeleteCredentialRequest, RotateCredentialRequest,
    UpdateCredentialRequest, VerifySipDigestRequest, VerifySipDigestResponse,
};
use jiff::SignedDuration;
use prost_types::FieldMask;

use crate::support::{Clients, TestVault, md5_response, outcome};

/// A request for a credential of this username.
pub(crate) fn create(username: &str) -> CreateCredentialRequest {
    CreateCredentialRequest {
        parent: "accounts/acme".to_owned(),
        credential: Some(Credential {
            username: username.to_owned(),
            realm: "sip.test".to_owned(),
            ..Credential::default()
        }),
        ..CreateCredentialRequest::default()
    }
}

/// The same with a password of the caller's own.
pub(crate) fn create_with(username: &str, password: &str) -> CreateCredentialRequest {
    CreateCredentialRequest { password: Some(password.to_owned()), ..create(username) }
}

pub(crate) fn rotate(name: &str) -> RotateCredentialRequest {
    RotateCredentialRequest { name: name.to_owned(), ..Default::default() }
}

pub(crate) fn delete(name: &str) -> DeleteCredentialRequest {
    DeleteCredentialRequest { name: name.to_owned(), ..Default::default() }
}

/// An update of the fields that `credential` has and, if there are any, of the paths of the mask.
pub(crate) fn update(name: &str, credential: Credential, mask: &[&str]) -> UpdateCredentialRequest {
    UpdateCredentialRequest {
        credential: Some(Credential { name: name.to_owned(), ..credential }),
        update_mask: Some(FieldMask { paths: mask.iter().map(|&path| path.to_owned()).collect() }),
        ..Default::default()
    }
}

/// A new password under the credential's name.
pub(crate) fn set_password(name: &str, password: &str) -> UpdateCredentialRequest {
    let password = Some(password.to_owned());
    UpdateCredentialRequest { password, ..update(name, Credential::default(), &[]) }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn described(text: &str) -> Credential {
    Credential { description: Some(text.to_owned()), ..Default::default() }
}

/// What the vault says of a password.
pub(crate) async fn check(
    clients: &Clients,
    username: &str,
    password: &str,
) -> VerifySipDigestResponse {
    check_in(clients, "acme", username, password).await
}

/// What the vault says of a password in another account.
pub(crate) async fn check_in(
    clients: &Clients,
    account: &str,
    username: &str,
    password: &str,
) -> VerifySipDigestResponse {
    let request = VerifySipDigestRequest {
        parent: format!("accounts/{account}"),
        username: username.to_owned(),
        realm: "sip.test".to_owned(),
        method: "REGISTER".to_owned(),
        uri: "sip:sip.test".to_owned(),
        nonce: "n0nce".to_owned(),
        response: md5_response(username, "sip.test", password, "n0nce"),
        ..VerifySipDigestRequest::default()
    };
    clients.uses.clone().verify_sip_digest(request).await.unwrap().into_inner()
}

/// Whether `password` verifies for `username` now.
pub(crate) async fn verifies(clients: &Clients, username: &str, password: &str) -> bool {
    check(clients, username, password).await.valid
}

#[tokio::test]
async fn a_password_is_issued_once_and_a_rotation_kills_the_old_one_at_once() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;

    let (credential, first) = acme.create(create("alice")).await.unwrap();
    let first = first.unwrap();
    assert_eq!((credential.version, first.version), (1, 1));
    assert!(verifies(&acme, "alice", &first.password).await);

    vault.clock.advance(SignedDuration::from_hours(1));
    let (after, second) = acme.rotate(rotate(&credential.name)).await.unwrap();
    assert_eq!((after.version, second.version, after.username.as_str()), (2, 2, "alice"));
    assert_eq!(after.rotate_time.unwrap().seconds, vault.now().as_second());
    assert_eq!(after.create_time, credential.create_time);
    assert_ne!(first.password, second.password);
    assert_ne!(after.etag, credential.etag);
    assert!(!verifies(&acme, "alice", &first.password).await);
    assert!(verifies(&acme, "alice", &second.password).await);

    let vault = vault.restart().await;
    let acme = vault.acme().await;
    let got = acme.get(&credential.name).await.unwrap();
    let last_success_time = after.rotate_time;
    let after = Credential { last_success_time, ..after };
    assert_eq!(got, after, "a restart forgets nothing");
    assert!(verifies(&acme, "alice", &second.password).await);
}

#[tokio::test]
async fn what_is_chosen_at_creation_is_kept_and_what_is_not_has_defaults() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;

    let (plain, _) = acme.create(create("plain")).await.unwrap();
    assert!(plain.name.starts_with("accounts/acme/credentials/"), "{}", plain.name);
    assert_eq!((plain.enabled, plain.description.as_deref()), (Some(true), Some("")));
    assert_eq!((plain.version, plain.labels.len()), (1, 0));
    assert_eq!(plain.create_time.unwrap().seconds, vault.now().as_second());
    assert_eq!((plain.update_time, plain.rotate_time), (plain.create_time, plain.create_time));

    let chosen = CreateCredentialRequest {
        credential_id: "desk-1".to_owned(),
        credential: Some(Credential {
            username: "bob".to_owned(),
            realm: "sip.test".to_owned(),
            enabled: Some(false),
            description: Some("the desk\nby the window".to_owned()),
            labels: labels(&[("site", "berlin"), ("team", "")]),
            // Output only: ignored on the way in (AIP-203).
            version: 7,
            etag: "\"x\"".to_owned(),
            ..Default::default()
        }),
        ..create("bob")
    };
    let sent = chosen.credential.clone().unwrap();
    let (bob, issued) = acme.create(chosen).await.unwrap();
    assert_eq!(bob.name, "accounts/acme/credentials/desk-1");
    assert_eq!((bob.enabled, bob.version), (Some(false), 1));
    assert_eq!((&bob.description, &bob.labels), (&sent.description, &sent.labels));
    assert_ne!(bob.etag, sent.etag);
    assert_eq!(acme.get(&bob.name).await.unwrap(), bob);
    assert!(!verifies(&acme, "bob", &issued.unwrap().password).await, "it is disabled");
}

#[tokio::test]
async fn a_password_of_ones_own_is_not_issued_and_a_generated_one_has_the_length_asked_for() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;

    let (_, issued) = acme.create(create_with("own", "correct horse!")).await.unwrap();
    assert!(issued.is_none());
    assert!(verifies(&acme, "own", "correct horse!").await);

    for (asked, length) in [(0, 24), (16, 16), (64, 64)] {
        let username = format!("user{asked}");
        let request = CreateCredentialRequest { password_length: asked, ..create(&username) };
        let (credential, created) = acme.create(request).await.unwrap();
        let request =
            RotateCredentialRequest { password_length: asked, ..rotate(&credential.name) };
        let (_, rotated) = acme.rotate(request).await.unwrap();
        for password in [created.unwrap().password, rotated.password] {
            assert_eq!(password.len(), length);
            let has = |class: fn(&u8) -> bool| password.as_bytes().iter().any(class);
            assert!(has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase));
            assert!(has(u8::is_ascii_digit));
        }
    }
}

#[tokio::test]
async fn ids_are_unique_in_an_account_and_usernames_in_account_and_realm() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let with_id = |id: &str, request: CreateCredentialRequest| CreateCredentialRequest {
        credential_id: id.to_owned(),
        ..request
    };
    acme.create(with_id("desk", create("alice"))).await.unwrap();
    let state = vault.state();

    let same_id = acme.create(with_id("desk", create("bob"))).await;
    assert_eq!(outcome(&same_id), "AlreadyExists ALREADY_EXISTS");
    let same_username = acme.create(create("alice")).await;
    assert_eq!(outcome(&same_username), "AlreadyExists ALREADY_EXISTS");
    assert_eq!(vault.state(), state);

    let mut other_realm = create("alice");
    other_realm.credential.as_mut().unwrap().realm = "sip.other".to_owned();
    acme.create(other_realm).await.unwrap();
    acme.create(create("Alice")).await.unwrap();

    let other = vault.clients("other", &[credvault::access::Role::AccountAdmin]).await;
    let elsewhere = with_id("desk", create("alice"));
    let elsewhere = CreateCredentialRequest { parent: "accounts/other".to_owned(), ..elsewhere };
    other.create(elsewhere).await.unwrap();
}

#[tokio::test]
async fn an_update_sets_what_is_present_or_what_the_mask_names() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, _) = acme.create(create("alice")).await.unwrap();
    let full = || Credential {
        enabled: Some(false),
        description: Some("new".to_owned()),
        labels: labels(&[("site", "berlin")]),
        ..Default::default()
    };
    let cleared = Credential { enabled: Some(true), ..Default::default() };

    // (fields sent, mask) -> (enabled, description, number of labels)
    let cases = [
        (described("one"), &[][..], (true, "one", 0)),
        (full(), &["enabled"], (false, "one", 0)),
        (full(), &["labels", "description"], (false, "new", 1)),
        (Credential::default(), &[], (false, "new", 1)),
        (described(""), &[], (false, "", 1)),
        (cleared.clone(), &[], (true, "", 1)),
        (Credential::default(), &["labels"], (true, "", 0)),
        (full(), &["*"], (false, "new", 1)),
        (cleared, &["*"], (true, "", 0)),
        (full(), &[], (false, "new", 1)),
        (described("x"), &["description", "description"], (false, "x", 1)),
        (Credential::default(), &["description"], (false, "", 1)),
    ];
    for (number, (sent, mask, expected)) in cases.into_iter().enumerate() {
        vault.clock.advance(SignedDuration::from_secs(1));
        let after = acme.update(update(&new.name, sent, mask)).await.unwrap();
        let (enabled, description) = (after.enabled.unwrap(), after.description.clone().unwrap());
        let found = (enabled, description.as_str(), after.labels.len());
        assert_eq!(found, expected, "case {number}");
        assert_eq!(acme.get(&new.name).await.unwrap(), after, "case {number}");
        assert_eq!((after.version, after.rotate_time), (1, new.rotate_time), "case {number}");
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_leaves_no_trace() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let name = acme.create(create("alice")).await.unwrap().0.name;
    let before = acme.update(update(&name, described("same"), &[])).await.unwrap();
    let (state, log) = (vault.state(), acme.audit_log("acme").await);
    vault.clock.advance(SignedDuration::from_hours(1));

    // A resource may be sent back as it was read.
    let as_read = Credential { name: String::new(), ..before.clone() };
    for (sent, mask) in [
        (Credential::default(), &[][..]),
        (described("same"), &[]),
        (as_read.clone(), &[]),
        (as_read.clone(), &["*"]),
        (Credential::default(), &["labels"]),
    ] {
        assert_eq!(acme.update(update(&name, sent, mask)).await.unwrap(), before, "{mask:?}");
    }
    let no_mask = UpdateCredentialRequest { update_mask: None, ..update(&name, as_read, &[]) };
    assert_eq!(acme.update(no_mask).await.unwrap(), before);
    assert_eq!(vault.state(), state);
    assert_eq!(acme.audit_log("acme").await, log);
}

#[tokio::test]
async fn a_new_password_makes_a_version_and_is_never_echoed() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();
    let first = first.unwrap().password;
    vault.clock.advance(SignedDuration::from_mins(5));

    let after = acme.update(set_password(&new.name, "chosen by hand")).await.unwrap();
    assert_eq!((after.version, after.username.as_str()), (2, "alice"));
    assert_eq!(after.rotate_time.unwrap().seconds, vault.now().as_second());
    assert_ne!(after.etag, new.etag);
    assert!(!format!("{after:?}").contains("chosen by hand"));
    assert!(!verifies(&acme, "alice", &first).await);
    assert!(verifies(&acme, "alice", "chosen by hand").await);

    // The password lies outside the mask, and the same one again is a new version all the same.
    let mut request = set_password(&new.name, "chosen by hand");
    request.credential.as_mut().unwrap().description = Some("not named".to_owned());
    request.update_mask = Some(FieldMask { paths: vec!["enabled".to_owned()] });
    request.credential.as_mut().unwrap().enabled = Some(false);
    let after = acme.update(request).await.unwrap();
    assert_eq!((after.version, after.enabled), (3, Some(false)));
    assert_eq!(after.description.as_deref(), Some(""));
    let kept = vault.column::<i64>("SELECT count(*) FROM secret_version");
    assert_eq!(kept, [0], "of what was replaced nothing is left");
}

#[tokio::test]
async fn username_and_realm_never_change() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, _) = acme.create(create("alice")).await.unwrap();
    let state = vault.state();
    let username = |text: &str| Credential { username: text.to_owned(), ..Default::default() };
    let realm = |text: &str| Credential { realm: text.to_owned(), ..Default::default() };

    let username_fixed = "InvalidArgument INVALID_FIELD credential.username";
    let realm_fixed = "InvalidArgument INVALID_FIELD credential.realm";
    let in_mask = "InvalidArgument INVALID_FIELD update_mask";
    for (sent, mask, expected) in [
        (username("alice"), &[][..], "OK"),
        (realm("sip.test"), &[], "OK"),
        (username("bob"), &[], username_fixed),
        (username("Alice"), &[], username_fixed),
        (realm("sip.other"), &[], realm_fixed),
        (Credential { enabled: Some(true), ..username("bob") }, &["*"], username_fixed),
        (Credential { enabled: Some(true), ..username("alice") }, &["*"], "OK"),
        (username("bob"), &["username"], in_mask),
        (username("alice"), &["username"], in_mask),
        (realm("sip.test"), &["enabled", "realm"], in_mask),
        (username("bob"), &["description"], "OK"),
    ] {
        let result = acme.update(update(&new.name, sent, mask)).await;
        assert_eq!(outcome(&result), expected, "{mask:?}");
    }
    let mut request = set_password(&new.name, "long enough");
    request.credential.as_mut().unwrap().username = "bob".to_owned();
    assert_eq!(outcome(&acme.update(request).await), username_fixed);
    assert_eq!(vault.state(), state);
}

#[tokio::test]
async fn disabling_stops_one_credential_at_once_and_no_other() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (alice, _) = acme.create(create_with("alice", "password-a")).await.unwrap();
    let (bob, _) = acme.create(create_with("bob", "password-b")).await.unwrap();
    let enabled = |enabled| Credential { enabled: Some(enabled), ..Default::default() };

    let off = acme.update(update(&alice.name, enabled(false), &[])).await.unwrap();
    assert!(!verifies(&acme, "alice", "password-a").await);
    assert!(verifies(&acme, "bob", "password-b").await);
    let used = Credential { last_success_time: bob.create_time, ..bob.clone() };
    assert_eq!(acme.get(&bob.name).await.unwrap(), used);
    assert_eq!((off.version, off.rotate_time), (1, alice.rotate_time));

    // A new password does not open what is disabled.
    acme.update(set_password(&alice.name, "password-c")).await.unwrap();
    assert!(!verifies(&acme, "alice", "password-c").await);
    acme.update(update(&alice.name, enabled(true), &[])).await.unwrap();
    assert!(verifies(&acme, "alice", "password-c").await);
    assert!(!verifies(&acme, "alice", "password-a").await);
}

#[tokio::test]
async fn a_deleted_credential_is_gone_and_its_names_are_free() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let desk = || CreateCredentialRequest {
        credential_id: "desk".to_owned(),
        ..create_with("alice", "password-a")
    };
    let (old, _) = acme.create(desk()).await.unwrap();
    acme.rotate(rotate(&old.name)).await.unwrap();
    acme.update(set_password(&old.name, "password-b")).await.unwrap();
    acme.delete(delete(&old.name)).await.unwrap();

    assert!(!verifies(&acme, "alice", "password-b").await);
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);
    let gone = "NotFound NOT_FOUND";
    assert_eq!(outcome(&acme.get(&old.name).await), gone);
    assert_eq!(outcome(&acme.rotate(rotate(&old.name)).await), gone);
    assert_eq!(outcome(&acme.update(set_password(&old.name, "password-c")).await), gone);
    assert_eq!(outcome(&acme.delete(delete(&old.name)).await), gone);

    let (new, _) = acme.create(desk()).await.unwrap();
    assert_eq!((new.name.as_str(), new.version), (old.name.as_str(), 1));
    assert_ne!(new.etag, old.etag, "a successor is not its predecessor");
    let stale = RotateCredentialRequest { etag: old.etag, ..rotate(&old.name) };
    assert_eq!(outcome(&acme.rotate(stale).await), "Aborted ETAG_MISMATCH");
    assert!(verifies(&acme, "alice", "password-a").await);
}

#[tokio::test]
async fn an_etag_that_moved_refuses_every_change() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (old, _) = acme.create(create("alice")).await.unwrap();
    let name = old.name.as_str();
    let updated = |etag: &str| {
        let credential = Credential { etag: etag.to_owned(), ..described("matched") };
        update(name, credential, &[])
    };
    let rotated = |etag: &str| RotateCredentialRequest { etag: etag.to_owned(), ..rotate(name) };
    let deleted = |etag: &str| DeleteCredentialRequest { etag: etag.to_owned(), ..delete(name) };

    let after_update = acme.update(updated(&old.etag)).await.unwrap();
    let (after_rotation, _) = acme.rotate(rotated(&after_update.etag)).await.unwrap();
    let state = vault.state();
    for stale in [&old.etag, &after_update.etag, "*", "nonsense", "\u{1}\u{1F4A5}"] {
        let mismatch = "Aborted ETAG_MISMATCH";
        assert_eq!(outcome(&acme.update(updated(stale)).await), mismatch, "{stale}");
        assert_eq!(outcome(&acme.rotate(rotated(stale)).await), mismatch, "{stale}");
        assert_eq!(outcome(&acme.delete(deleted(stale)).await), mismatch, "{stale}");
    }
    assert_eq!(vault.state(), state);
    acme.delete(deleted(&after_rotation.etag)).await.unwrap();
}
