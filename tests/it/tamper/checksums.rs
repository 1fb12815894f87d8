//! A vault from before rows had checksums.

use std::fs;
use std::path::Path;

use credvault::access::Role;
use tonic_types::StatusExt as _;

use crate::credentials::{create_with, verifies};
use crate::support::database::{BEFORE_ROTATIONS, alter};
use crate::support::{Clients, TestVault, channel};

/// Takes back what 0009, 0008, 0007 and 0006 changed, and then one letter of bobby's name in his row, and not in its index.
fn as_before(database: &Path) {
    alter(database, BEFORE_ROTATIONS);
    alter(database, "ALTER TABLE credential DROP COLUMN checksum; PRAGMA user_version = 5;");
    let mut bytes = fs::read(database).unwrap();
    let row = b"bobbysip.test";
    let places: Vec<_> =
        (0..bytes.len()).filter(|&place| bytes[place..].starts_with(row)).collect();
    assert_eq!(places.len(), 1, "username and realm lie side by side in the row alone");
    bytes[places[0] + 4] ^= 1;
    fs::write(database, bytes).unwrap();
}

#[tokio::test]
async fn rows_get_checksums_and_one_that_its_index_contradicts_stays_refused() {
    let vault = TestVault::start().await;
    let mut acme = vault.acme().await;
    let mut names = Vec::new();
    for user in ["alice", "bobby"] {
        let created =
            acme.credentials.create_credential(create_with(user, "pa55-w0rd-of-hers")).await;
        names.push(created.unwrap().into_inner().credential.unwrap().name);
    }
    let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
    let vault = vault.restart_after(as_before).await;
    assert_eq!(
        vault.column::<i64>("SELECT length(checksum) FROM credential ORDER BY username"),
        [8, 0]
    );

    let acme = Clients::new(&channel(vault.address), &token);
    assert_eq!(acme.get(&names[0]).await.unwrap().username, "alice");
    assert!(verifies(&acme, "alice", "pa55-w0rd-of-hers").await);
    let damaged = acme.get(&names[1]).await.unwrap_err();
    let details = damaged.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "RECORD_DAMAGED");
}
