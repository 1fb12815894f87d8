//! Many callers at once: the versions that were answered exist, and nobody is told otherwise.

use std::collections::BTreeMap;

use credvault::grpc::proto::RotateCredentialRequest;
use futures_util::future::join_all;

use crate::credentials::{create, delete, rotate, set_password, verifies};
use crate::support::{TestVault, outcome, uuid};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_rotations_each_that_succeeds_has_a_version_of_its_own() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, first) = acme.create(create("alice")).await.unwrap();

    let results = join_all((0..32).map(|_| acme.rotate(rotate(&new.name)))).await;
    let mut passwords = BTreeMap::from([(1, first.unwrap().password)]);
    for result in results {
        match result {
            Ok((credential, issued)) => {
                assert_eq!(credential.version, issued.version);
                let other = passwords.insert(issued.version, issued.password);
                assert!(other.is_none(), "version {} was issued twice", issued.version);
            }
            refused => assert_eq!(outcome(&refused), "Aborted VERSION_CONFLICT"),
        }
    }
    let last = acme.get(&new.name).await.unwrap().version;
    assert!(passwords.keys().copied().eq(1..=last), "{:?}", passwords.keys());
    assert!(last > 8, "each wave of rotations has a winner, and a loser tries 8 times");
    for (version, password) in &passwords {
        assert_eq!(verifies(&acme, "alice", password).await, *version == last, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_rotations_of_one_state_exactly_one_wins() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, _) = acme.create(create("alice")).await.unwrap();

    let request = RotateCredentialRequest { etag: new.etag.clone(), ..rotate(&new.name) };
    let results = join_all((0..16).map(|_| acme.rotate(request.clone()))).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 15));
    for refused in &lost {
        assert_eq!(outcome(refused), "Aborted ETAG_MISMATCH");
    }
    let (after, issued) = won.into_iter().next().unwrap().unwrap();
    assert_eq!((after.version, issued.version), (2, 2));
    assert_eq!(acme.get(&new.name).await.unwrap(), after);
    assert!(verifies(&acme, "alice", &issued.password).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_of_one_rotation_exactly_one_is_issued() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    for (number, with_etag) in (1..=16).map(|number| (number, number % 2 == 0)) {
        let (new, _) = acme.create(create(&format!("user{number}"))).await.unwrap();
        let etag = if with_etag { new.etag.clone() } else { String::new() };
        let request =
            RotateCredentialRequest { etag, request_id: uuid(number), ..rotate(&new.name) };
        let results = join_all((0..16).map(|_| acme.rotate(request.clone()))).await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 15), "with etag: {with_etag}");
        for refused in &lost {
            assert_eq!(outcome(refused), "FailedPrecondition SECRET_ALREADY_ISSUED");
        }
        assert_eq!(acme.get(&new.name).await.unwrap().version, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_of_one_deletion_all_succeed() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    for number in 1..=8 {
        let (new, _) = acme.create(create("alice")).await.unwrap();
        let mut request = delete(&new.name);
        request.request_id = uuid(number);
        let results = join_all((0..16).map(|_| acme.delete(request.clone()))).await;
        let outcomes: Vec<_> = results.iter().map(outcome).collect();
        assert_eq!(outcomes, ["OK"; 16]);
    }
    let deletions = acme.audit_log("acme").await;
    let deletions = deletions.iter().filter(|entry| entry.method == "DeleteCredential");
    assert_eq!(deletions.count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creations_of_one_username_exactly_one_succeeds() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let results = join_all((0..16).map(|_| acme.create(create("alice")))).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 15));
    for refused in &lost {
        assert_eq!(outcome(refused), "AlreadyExists ALREADY_EXISTS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_and_rotations_at_once_lose_neither() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (new, _) = acme.create(create("alice")).await.unwrap();
    let rotations = join_all((0..4).map(|_| acme.rotate(rotate(&new.name))));
    let updates = join_all((0..4).map(|_| acme.update(set_password(&new.name, "set by hand"))));
    let (rotations, updates) = tokio::join!(rotations, updates);
    let done = rotations.iter().filter(|result| result.is_ok()).count()
        + updates.iter().filter(|result| result.is_ok()).count();
    assert_eq!(done, 8, "eight attempts suffice for eight callers");
    assert_eq!(acme.get(&new.name).await.unwrap().version, 9);
    let log = acme.audit_log("acme").await;
    let versions: Vec<_> = log.iter().map(|entry| entry.version_after).collect();
    assert_eq!(versions, (1..=9).collect::<Vec<_>>());
}
