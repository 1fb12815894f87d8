//! A provider that was stored before verifications had checks of trunks, regions and a history.

use credvault::access::Role;
use credvault::grpc::proto::{ListApiTokensRequest, VerificationStatus};
use jiff::SignedDuration;

use super::{account, history, status};
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider, display_name};
use crate::support::database::{BEFORE_ROTATIONS, alter};
use crate::support::{Clients, TestVault, channel};

/// Takes back what 0006 to 0002 changed, and what the first version did not write.
const AS_BEFORE: &str = "
    INSERT INTO secret_version SELECT uid, 0, 'destroyed', NULL, 0, NULL, 0 FROM provider;
    ALTER TABLE credential DROP COLUMN checksum;
    DROP INDEX credential_by_realm;
    DROP INDEX credential_by_username;
    DROP INDEX credential_disabled;
    DROP INDEX api_token_by_account;
    ALTER TABLE api_token DROP COLUMN account;
    ALTER TABLE api_token DROP COLUMN display_name;
    CREATE TABLE old_binding (
        principal TEXT NOT NULL, account BLOB NOT NULL REFERENCES account (uid), role TEXT NOT NULL,
        PRIMARY KEY (principal, account, role)) STRICT, WITHOUT ROWID;
    INSERT INTO old_binding SELECT principal, account, role FROM role_binding;
    DROP TABLE role_binding;
    ALTER TABLE old_binding RENAME TO role_binding;
    DROP TABLE provider_verification;
    DROP INDEX provider_by_uid;
    ALTER TABLE provider DROP COLUMN token_kind;
    ALTER TABLE provider DROP COLUMN verify_time;
    UPDATE provider SET kind = json_remove(kind, '$.region'), verification =
        json_remove(verification, '$.facts', '$.token_version', '$.status_change_time');
    PRAGMA user_version = 1;";

#[tokio::test]
async fn a_provider_of_the_first_version_is_verified_like_any_other() {
    let vault = TestVault::start().await;
    vault.twilio.add_account(SID, TOKEN);
    let acme = vault.acme().await;
    let old = acme.create_provider(create_provider("main")).await.unwrap();
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let vault = vault
        .restart_after(|database| {
            alter(database, BEFORE_ROTATIONS);
            alter(database, AS_BEFORE);
        })
        .await;
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);
    // A token of before opens what it opened, and belongs to its account.
    let acme = Clients::new(&channel(vault.address), &token);
    let tokens = ListApiTokensRequest { parent: "accounts/acme".to_owned(), ..Default::default() };
    let tokens = acme.access.clone().list_api_tokens(tokens).await.unwrap().into_inner().api_tokens;
    assert!(tokens.iter().any(|each| token.contains(each.name.rsplit('/').next().unwrap())));

    let read = acme.get_provider(&old.name).await.unwrap();
    assert_eq!((status(&read), account(&read)), (VerificationStatus::Verified, account(&old)));
    assert_eq!((read.etag, history(&acme).await.len()), (old.etag.clone(), 0));

    vault.clock.advance(SignedDuration::from_hours(1));
    vault.twilio.set_token(SID, TOKEN_2);
    let failed = acme.verify_provider(&old.name).await.unwrap();
    assert_eq!(status(&failed), VerificationStatus::Failed, "its verdict is stored");
    let renamed = acme.update_provider(display_name(&old.name, "renamed")).await.unwrap();
    assert_eq!(renamed.verification, failed.verification, "a new name keeps it");

    vault.twilio.set_token(SID, TOKEN);
    vault.clock.advance(SignedDuration::from_hours(1));
    let now = vault.now();
    let hour = SignedDuration::from_hours(1);
    vault.vault.verify_due(hour, now - hour, now).await.unwrap();
    let again = acme.get_provider(&old.name).await.unwrap();
    assert_eq!((status(&again), history(&acme).await.len()), (VerificationStatus::Verified, 2));
}
