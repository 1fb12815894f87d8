//! The trunk that verifications look at: set, changed and taken away by `UpdateProvider`.

use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{Provider, TwilioProvider, UpdateProviderRequest, VerificationStatus};
use jiff::SignedDuration;

use super::{
    LIST, TRUNK, URI, account, all_is_well, asked_for, ends, facts, history, on_trunk, status,
    verification,
};
use crate::providers::{SID, create_provider, update};
use crate::support::fakes::twilio::{Fault, Trunk};
use crate::support::{TestVault, outcome};

const OTHER_TRUNK: &str = "TKffffffffffffffffffffffffffffffff";

/// A change of the trunk by this mask. Empty: the trunk, or the list, is to be none.
fn on(name: &str, trunk: &str, list: &str, mask: &[&str]) -> UpdateProviderRequest {
    let some = |sid: &str| (!sid.is_empty()).then(|| sid.to_owned());
    let kind = TwilioProvider {
        account_sid: SID.to_owned(),
        sip_trunk_sid: some(trunk),
        credential_list_sid: some(list),
        ..Default::default()
    };
    update(name, Provider { kind: Some(Kind::Twilio(kind)), ..Default::default() }, mask)
}

const BY_TRUNK: &str = "twilio.sip_trunk_sid";
const BY_LIST: &str = "twilio.credential_list_sid";

#[tokio::test]
async fn a_trunk_is_set_changed_and_taken_away() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    all_is_well(&vault.twilio);
    vault.twilio.set_trunk(
        SID,
        Trunk {
            sid: OTHER_TRUNK.to_owned(),
            transfer_mode: "enable-all".to_owned(),
            domain_name: Some("other.pstn.twilio.com".to_owned()),
            ..Trunk::default()
        },
    );
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    assert_eq!(facts(&main), ("", None, Some(5)));
    let configured = |it: &Provider| {
        let account = account(it);
        let sid = |sid: &Option<String>| sid.clone().unwrap_or_default();
        (sid(&account.sip_trunk_sid), sid(&account.credential_list_sid))
    };
    let other = "sip:other.pstn.twilio.com";
    let no_mask: &[&str] = &[];
    // (what, trunk, list, mask, trunk and list after, status then, facts then)
    let (good, warning) = (VerificationStatus::Verified, VerificationStatus::Warning);
    for (what, trunk, list, mask, after, verified, found) in [
        ("set", TRUNK, "", &[BY_TRUNK][..], (TRUNK, ""), good, (URI, Some(false), Some(3))),
        ("its list", "", LIST, &[BY_LIST], (TRUNK, LIST), good, (URI, Some(false), Some(3))),
        (
            "changed",
            OTHER_TRUNK,
            "",
            &[BY_TRUNK],
            (OTHER_TRUNK, LIST),
            warning,
            (other, Some(true), Some(0)),
        ),
        ("no list", "", "", &[BY_LIST], (OTHER_TRUNK, ""), warning, (other, Some(true), Some(0))),
        ("what is present", TRUNK, LIST, no_mask, (TRUNK, LIST), good, (URI, Some(false), Some(3))),
        ("neither", "", "", &[BY_TRUNK, BY_LIST], ("", ""), good, ("", None, Some(5))),
        (
            "both",
            TRUNK,
            LIST,
            &[BY_LIST, BY_TRUNK],
            (TRUNK, LIST),
            good,
            (URI, Some(false), Some(3)),
        ),
        ("everything", "", "", &["*"], ("", ""), good, ("", None, Some(5))),
    ] {
        vault.clock.advance(SignedDuration::from_mins(1));
        let before = acme.get_provider(&main.name).await.unwrap();
        let changed = acme.update_provider(on(&main.name, trunk, list, mask)).await.unwrap();
        let after = (after.0.to_owned(), after.1.to_owned());
        assert_eq!(configured(&changed), after, "{what}");
        assert_eq!((status(&changed), facts(&changed)), (verified, found), "{what}");
        assert_ne!(changed.etag, before.etag, "{what}");
        assert_eq!(acme.get_provider(&main.name).await.unwrap(), changed, "{what}");
        let again = acme.update_provider(on(&main.name, trunk, list, mask)).await.unwrap();
        assert_eq!(again, changed, "nothing to change: {what}");

        vault.clock.advance(SignedDuration::from_mins(1));
        let told = acme.verify_provider(&main.name).await.unwrap();
        assert_eq!((status(&told), facts(&told)), (verified, found), "{what}");
        assert_eq!(told.etag, changed.etag, "{what}");
        let looked = ends(&told).len();
        let expected = 3 + usize::from(!after.0.is_empty()) + usize::from(!after.1.is_empty());
        assert_eq!(looked, expected, "{what}");
        // The same again changes nothing, so what is known stays.
        let again = acme.update_provider(on(&main.name, trunk, list, mask)).await.unwrap();
        assert_eq!(again, told, "nothing to change: {what}");
    }
    let log = acme.audit_log("acme").await;
    let updates = log.iter().filter(|entry| entry.method == "UpdateProvider");
    let (changes, looks): (Vec<_>, Vec<_>) = updates.partition(|entry| entry.detail == "trunk");
    assert!(looks.iter().all(|entry| entry.detail.starts_with("pending to ")), "{looks:?}");
    assert_eq!((changes.len(), looks.len(), history(&acme).await.len()), (8, 8, 17));
}

#[tokio::test]
async fn a_trunk_that_cannot_be_looked_at_is_pending() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    all_is_well(&vault.twilio);
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    vault.clock.advance(SignedDuration::from_mins(1));
    vault.twilio.fail_next(Fault::Status(503));
    let changed = acme.update_provider(on(&main.name, TRUNK, LIST, &[])).await.unwrap();
    assert_eq!(
        (status(&changed), facts(&changed)),
        (VerificationStatus::Pending, ("", None, None))
    );
    let pending = verification(&changed);
    assert_eq!(
        (pending.checks.len(), pending.last_verify_time, pending.token_version),
        (0, None, 0)
    );
    assert_ne!(changed.etag, main.etag);
    assert_eq!(acme.get_provider(&main.name).await.unwrap(), changed);
    let told = acme.verify_provider(&main.name).await.unwrap();
    assert_eq!((status(&told), ends(&told).len()), (VerificationStatus::Verified, 5));
    assert_eq!(told.etag, changed.etag);
}

#[tokio::test]
async fn a_list_needs_its_trunk() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    all_is_well(&vault.twilio);
    let main = acme.create_provider(on_trunk("main")).await.unwrap();
    let bare = acme.create_provider(create_provider("bare")).await.unwrap();
    let (state, recorded) = (vault.state(), acme.audit_log("acme").await.len());
    let list_at_fault = "InvalidArgument INVALID_FIELD provider.twilio.credential_list_sid";
    for (what, request) in [
        ("the trunk alone is taken away", on(&main.name, "", "", &[BY_TRUNK])),
        ("the trunk is taken away, the list sent", on(&main.name, "", LIST, &["*"])),
        ("a list without a trunk", on(&bare.name, "", LIST, &[BY_LIST])),
        ("a list without a trunk, no mask", on(&bare.name, "", LIST, &[])),
    ] {
        assert_eq!(outcome(&acme.update_provider(request).await), list_at_fault, "{what}");
    }
    for output_only in ["twilio.termination_uri", "twilio.api_key_sid", "phone_number_count"] {
        let refused = acme.update_provider(on(&main.name, TRUNK, "", &[output_only])).await;
        assert_eq!(outcome(&refused), "InvalidArgument INVALID_FIELD update_mask");
    }
    assert_eq!((vault.state(), acme.audit_log("acme").await.len()), (state, recorded));
}

#[tokio::test]
async fn what_was_found_of_another_trunk_is_not_stored() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    all_is_well(&vault.twilio);
    let main = acme.create_provider(on_trunk("main")).await.unwrap();
    for part in [format!("{SID}.json"), format!("/v1/Trunks/{TRUNK}/")] {
        acme.update_provider(on(&main.name, TRUNK, LIST, &[])).await.unwrap();
        acme.verify_provider(&main.name).await.unwrap();
        vault.clock.advance(SignedDuration::from_mins(1));
        vault.twilio.set_path_fault(&part, Some(Fault::Hold));
        let calls = vault.twilio.calls_to(&part);
        let change = async {
            asked_for(&vault.twilio, &part, calls + 1).await;
            vault.twilio.set_path_fault(&part, None);
            let changed =
                acme.update_provider(on(&main.name, TRUNK, "", &[BY_LIST])).await.unwrap();
            vault.twilio.release();
            changed
        };
        let before = history(&acme).await.len();
        let (held, changed) = tokio::join!(acme.verify_provider(&main.name), change);
        assert_eq!(outcome(&held), "Aborted VERSION_CONFLICT");
        assert_eq!(acme.get_provider(&main.name).await.unwrap(), changed);
        assert_eq!(history(&acme).await.len(), before + 1, "that of the change");
    }
}
