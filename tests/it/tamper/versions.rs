//! A version of a password that does not open, beside one that does: the phone of the whole one registers, and whoever
//! guesses is held up.

use std::path::Path;

use jiff::SignedDuration;
use rusqlite::Connection;

use crate::credentials::create_with;
use crate::digests::{ALICE, PASSWORD};
use crate::rotations::overlapping;
use crate::support::{Clients, TestVault, outcome};

/// Changes a byte of the active password.
fn damage(database: &Path) {
    let connection = Connection::open(database).unwrap();
    let select = "SELECT sealed FROM credential";
    let mut sealed: Vec<u8> = connection.query_row(select, [], |row| row.get(0)).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    assert_eq!(connection.execute("UPDATE credential SET sealed = ?1", [sealed]).unwrap(), 1);
}

/// What a phone at this address is answered that has this password.
async fn registers(clients: &Clients, password: &str) -> String {
    let phone = crate::digests::Phone { password, ..ALICE };
    let mut request = phone.answers("n0nce", "MD5", "auth", 1);
    "192.0.2.1".clone_into(&mut request.source);
    let answer = clients.uses.clone().verify_sip_digest(request).await;
    match answer {
        Ok(answer) => format!("{} {}", answer.get_ref().valid, answer.get_ref().version),
        Err(_) => outcome(&answer),
    }
}

const DAMAGED: &str = "DataLoss RECORD_DAMAGED";

#[tokio::test]
async fn a_whole_version_verifies_beside_a_damaged_one_and_cannot_be_guessed() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (credential, _) = acme.create(create_with("alice", PASSWORD)).await.unwrap();
    let overlap = overlapping(&credential.name, SignedDuration::from_hours(1));
    let (_, issued) = acme.rotate(overlap).await.unwrap();
    let vault = vault.restart_after(damage).await;
    let acme = vault.acme().await;
    for _ in 0..12 {
        assert_eq!(registers(&acme, PASSWORD).await, "true 1");
    }
    for _ in 0..9 {
        assert_eq!(registers(&acme, "wrong-password-1").await, DAMAGED);
    }
    // The right one of the damaged version is no guess, but nobody can tell.
    assert_eq!(registers(&acme, &issued.password).await, DAMAGED);
    assert_eq!(registers(&acme, PASSWORD).await, "ResourceExhausted RATE_LIMITED retry 6s");
}

#[tokio::test]
async fn where_nothing_can_be_compared_nobody_is_held_up() {
    let vault = TestVault::start().await;
    vault.acme().await.create(create_with("alice", PASSWORD)).await.unwrap();
    let vault = vault.restart_after(damage).await;
    let acme = vault.acme().await;
    for _ in 0..12 {
        assert_eq!(registers(&acme, PASSWORD).await, DAMAGED);
    }
}
