//! A provider that was stored before verifications had checks of trunks, regions and a history.

use credvault::grpc::proto::VerificationStatus;
use jiff::SignedDuration;

use super::{account, history, status};
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider, display_name};
use crate::support::TestVault;
use crate::support::database::alter;

/// Takes back what 0002 added, and what the first version did not write.
const AS_BEFORE: &str = "
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
    let vault = vault.restart_after(|database| alter(database, AS_BEFORE)).await;
    let acme = vault.acme().await;

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
