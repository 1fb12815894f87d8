//! The worker: two of them at once, more than may be rotated in a look, and one that cannot be rotated.

use super::*;
use crate::support::channel;
use crate::support::database::alter;
use credvault::access::Role;

const VERSIONS: &str = "SELECT version FROM credential ORDER BY username";

/// Credentials that are due at one time, as many as said.
async fn due_together(vault: &TestVault, count: usize) -> Timestamp {
    let acme = vault.acme().await;
    let mut last = vault.now();
    for number in 0..count {
        let request = with_policy(&format!("user-{number:03}"), for_nobody(DAY * 10));
        last = last.max(next(&acme.create(request).await.unwrap().0));
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_workers_at_once_rotate_each_credential_once() {
    let vault = TestVault::start().await;
    let due = due_together(&vault, 60).await;
    vault.clock.advance(due.duration_since(vault.now()));
    let look = || vault.vault.rotate_due(due, None);
    let (one, two, three) = tokio::join!(look(), look(), look());
    for looked in [one, two, three] {
        assert_eq!(looked.unwrap(), None);
    }
    assert_eq!(vault.column::<i64>(VERSIONS), [2; 60]);
    let acme = vault.acme().await;
    let log = acme.audit_log("acme").await;
    let rotated = log.iter().filter(|entry| entry.method == "RotateCredential").count();
    assert_eq!(rotated, 60, "an entry for each, and no more");
}

#[tokio::test]
async fn a_look_rotates_as_many_as_may_and_the_next_one_goes_on() {
    let vault = TestVault::start().await;
    let due = due_together(&vault, 230).await;
    // The vault's own worker stands with the clock.
    let mut from = vault.vault.rotate_due(due, None).await.unwrap();
    let count = "SELECT count(*) FROM credential WHERE version = 2";
    assert!(from.is_some());
    assert_eq!(vault.column::<i64>(count), [200]);
    let late = "SELECT min(rotate_time) < (SELECT min(next_rotation_time) FROM credential WHERE version = 1)
        FROM credential";
    assert_eq!(vault.column::<bool>(late), [true]);
    from = vault.vault.rotate_due(due, from).await.unwrap();
    assert_eq!((from, vault.column::<i64>(count)), (None, vec![230]));
}

/// A damaged row and a schedule that somebody changed in the file are not rotated, and hold up nobody.
#[tokio::test]
async fn one_that_cannot_be_rotated_holds_up_no_other() {
    let vault = TestVault::start().await;
    let due = due_together(&vault, 5).await;
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let vault = vault
        .restart_after(|file| {
            alter(
                file,
                "UPDATE credential SET checksum = zeroblob(8) WHERE username = 'user-001';
                 UPDATE credential SET schedule = replace(schedule, '864000', '863999') WHERE username = 'user-003';",
            );
        })
        .await;
    let acme = Clients::new(&channel(vault.address), &token);
    let ids = vault.column::<String>("SELECT id FROM credential WHERE username = 'user-003'");
    let read = acme.get(&format!("accounts/acme/credentials/{}", ids[0])).await;
    assert_eq!(outcome(&read), "DataLoss RECORD_DAMAGED");
    vault.rotates_at(due).await;
    assert_eq!(vault.column::<i64>(VERSIONS), [2, 1, 2, 1, 2]);
}
