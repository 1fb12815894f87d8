//! What is kept of verifications: the last hundred, and in the audit log what changed.

use credvault::grpc::proto::{
    ListVerificationsRequest, ListVerificationsResponse, Verification, VerificationStatus,
};
use jiff::SignedDuration;
use tonic::Status;

use super::{
    NUMBERS, TRUNK, all_is_well, asked_for, checks, ends, history, verification, with_trunk,
};
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider, delete, update_token};
use crate::support::fakes::twilio::Fault;
use crate::support::{Clients, TestVault, outcome};
use crate::upstream_faults::with_main;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn list(
    acme: &Clients,
    parent: &str,
    page_size: i32,
    page_token: &str,
) -> Result<ListVerificationsResponse, Status> {
    let (parent, page_token) = (parent.to_owned(), page_token.to_owned());
    let request = ListVerificationsRequest { parent, page_size, page_token };
    acme.providers.clone().list_verifications(request).await.map(tonic::Response::into_inner)
}

fn seconds(verification: &Verification) -> i64 {
    verification.last_verify_time.unwrap().seconds
}

/// Re-checks what the schedule has between now and an hour later, which is every provider once.
async fn recheck(vault: &TestVault) {
    vault.clock.advance(HOUR);
    vault.vault.verify_due(HOUR, vault.now() - HOUR, vault.now()).await.unwrap();
}

#[tokio::test]
async fn the_last_hundred_are_kept_and_listed_newest_first() {
    let (vault, acme, main) = with_trunk().await;
    let mut expected = vec![verification(&main).clone()];
    for round in 1..=105_u32 {
        vault.clock.advance(SignedDuration::from_mins(1));
        let provider = match round % 5 {
            0 => acme.update_token(update_token(&main.name, TOKEN)).await,
            1 => {
                vault.twilio.fail_next(Fault::Status(401));
                acme.verify_provider(&main.name).await
            }
            2 => {
                vault.twilio.set_path_fault("/v1/Trunks", Some(Fault::Status(500)));
                let told = acme.verify_provider(&main.name).await;
                vault.twilio.set_path_fault("/v1/Trunks", None);
                told
            }
            _ => acme.verify_provider(&main.name).await,
        };
        expected.insert(0, provider.unwrap().verification.unwrap());
    }
    expected.truncate(100);
    let versions: Vec<_> = expected.iter().map(|it| it.token_version).collect();
    assert_eq!((versions.first(), versions.last()), (Some(&22), Some(&2)));
    assert_eq!(history(&acme).await, expected, "each with its own checks, times and version");
    let count = "SELECT count(*) FROM provider_verification";
    assert_eq!(vault.column::<i64>(count), [100]);

    // Page after page, and what is new meanwhile comes before the first of them.
    let (mut listed, mut token) = (Vec::new(), String::new());
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    for page in 0..50 {
        let told = list(&acme, &main.name, 2, &token).await.unwrap();
        assert_eq!(told.verifications.len(), 2);
        listed.extend(told.verifications);
        token = told.next_page_token;
        assert_eq!(token.is_empty(), page == 49, "{page}");
    }
    assert_eq!(listed, expected);
    assert_eq!(list(&acme, &main.name, 0, "").await.unwrap().verifications, &expected[..50]);

    let first = list(&acme, &main.name, 2, "").await.unwrap();
    vault.clock.advance(SignedDuration::from_mins(1));
    acme.verify_provider(&main.name).await.unwrap();
    let second = list(&acme, &main.name, 2, &first.next_page_token).await.unwrap();
    assert_eq!(second.verifications, &expected[2..4]);

    // A page token belongs to its list, and a list to its provider.
    let page_token = "InvalidArgument INVALID_FIELD page_token";
    let other = acme.create_provider(create_provider("other")).await.unwrap();
    let misplaced = list(&acme, &other.name, 2, &first.next_page_token).await;
    assert_eq!(outcome(&misplaced), page_token);
    assert_eq!(outcome(&list(&acme, &main.name, 2, "x").await), page_token);
    let negative = list(&acme, &main.name, -1, "").await;
    assert_eq!(outcome(&negative), "InvalidArgument INVALID_FIELD page_size");
    let of_other = list(&acme, &other.name, 0, "").await.unwrap().verifications;
    assert_eq!(of_other, [verification(&other).clone()]);

    // It is gone with its provider, and a successor begins anew.
    acme.providers.clone().delete_provider(delete(&main.name)).await.unwrap();
    assert_eq!(outcome(&list(&acme, &main.name, 0, "").await), "NotFound NOT_FOUND");
    assert_eq!(vault.column::<i64>(count), [1]);
    let again = acme.create_provider(create_provider("main")).await.unwrap();
    assert_eq!(history(&acme).await, [verification(&again).clone()]);
}

#[tokio::test]
async fn what_the_carrier_did_not_say_leaves_the_verification_as_it_was() {
    let (vault, acme, main) = with_trunk().await;
    vault.clock.advance(HOUR);
    let state = vault.state();
    for (fault, expected) in [
        (Fault::Status(503), "Unavailable UPSTREAM_ERROR retry 1s"),
        (Fault::RateLimit(9), "Unavailable UPSTREAM_RATE_LIMITED retry 9s"),
        (Fault::NotJson, "Unavailable UPSTREAM_PROTOCOL"),
        (Fault::Redirect("http://127.0.0.1:9/".to_owned()), "Unavailable UPSTREAM_REDIRECT"),
        (Fault::ResetBeforeAnswer, "Unavailable UPSTREAM_UNREACHABLE retry 1s"),
    ] {
        let recorded = acme.audit_log("acme").await.len();
        vault.twilio.fail_next(fault.clone());
        assert_eq!(outcome(&acme.verify_provider(&main.name).await), expected);
        let log = acme.audit_log("acme").await.split_off(recorded);
        let reason = expected.split(' ').nth(1).unwrap();
        let told: Vec<_> = log.iter().map(|it| (it.method.as_str(), it.outcome.as_str())).collect();
        assert_eq!(told, [("VerifyProvider", reason)]);
        // By itself the vault complains in its log, and comes again in an hour.
        vault.twilio.fail_next(fault);
        let recorded = acme.audit_log("acme").await.len();
        recheck(&vault).await;
        assert_eq!(acme.audit_log("acme").await.len(), recorded);
    }
    // A token that is refused says nothing of the one that is stored.
    for fault in [Fault::Status(401), Fault::Status(403), Fault::Status(500)] {
        vault.twilio.fail_next(fault);
        acme.update_token(update_token(&main.name, TOKEN_2)).await.unwrap_err();
    }
    assert_eq!(vault.state(), state, "not a byte of any row");
}

#[tokio::test]
async fn the_audit_log_says_what_changed_and_the_schedule_says_nothing_else() {
    let (vault, acme, main) = with_trunk().await;
    let start = acme.audit_log("acme").await.len();
    let entries = async || {
        let log = acme.audit_log("acme").await.split_off(start);
        assert!(log.iter().all(|it| it.method == "VerifyProvider" && it.outcome == "OK"));
        assert!(log.iter().all(|it| it.resource == main.name));
        assert!(log.iter().all(|it| (it.version_before, it.version_after) == (1, 1)));
        let who = |principal: &str| {
            if principal == "vault:scheduled-verification" { "schedule" } else { "call" }
        };
        let line = |who: &str, detail: &str| format!("{who}: {detail}");
        log.iter().map(|it| line(who(&it.principal), &it.detail)).collect::<Vec<_>>()
    };
    let call = async || {
        vault.clock.advance(HOUR);
        acme.verify_provider(&main.name).await.unwrap()
    };

    call().await;
    recheck(&vault).await;
    recheck(&vault).await;
    assert_eq!(entries().await, ["call: verified"], "what is as before is no news");
    assert_eq!(history(&acme).await.len(), 4, "but it is in the history");
    assert_eq!(seconds(&history(&acme).await[0]), vault.now().as_second());

    vault.twilio.set_token(SID, TOKEN_2);
    recheck(&vault).await;
    recheck(&vault).await;
    vault.twilio.set_token(SID, TOKEN);
    call().await;
    vault.twilio.set_status(SID, "suspended");
    call().await;
    call().await;
    all_is_well(&vault.twilio);
    vault.twilio.set_path_fault("/v1/Trunks", Some(Fault::Status(404)));
    recheck(&vault).await;
    vault.twilio.set_path_fault("/v1/Trunks", None);
    vault.twilio.set_path_fault(NUMBERS, Some(Fault::Status(500)));
    recheck(&vault).await;
    vault.twilio.set_path_fault(NUMBERS, None);
    recheck(&vault).await;
    assert_eq!(
        entries().await,
        [
            "call: verified",
            "schedule: verified to failed: credentials",
            "call: failed to verified",
            "call: verified to failed: account_active",
            "call: failed",
            "schedule: failed to warning: sip_trunk",
            "schedule: warning to verified",
        ]
    );
    assert_eq!(history(&acme).await.len(), 12);
    let peers = vault.column::<String>(
        "SELECT peer FROM audit_entry WHERE principal = 'vault:scheduled-verification'",
    );
    assert!(peers.iter().all(String::is_empty), "{peers:?}");
}

#[tokio::test]
async fn an_answer_that_comes_late_does_not_hide_a_newer_one() {
    let (vault, acme, main) = with_trunk().await;
    let trunk = format!("/v1/Trunks/{TRUNK}/");
    vault.clock.advance(HOUR);

    // The older verification has its verdict and waits for the rest, while a newer one is made.
    vault.twilio.set_path_fault(&trunk, Some(Fault::Hold));
    let asked = vault.twilio.calls_to(&trunk);
    let newer = async {
        asked_for(&vault.twilio, &trunk, asked + 1).await;
        vault.twilio.set_path_fault(&trunk, None);
        vault.clock.advance(HOUR);
        vault.twilio.fail_next(Fault::Status(401));
        let newer = acme.verify_provider(&main.name).await.unwrap();
        vault.twilio.release();
        newer
    };
    let (late, newer) = tokio::join!(acme.verify_provider(&main.name), newer);
    assert_eq!(late.unwrap(), newer, "the late one answers what is known by then");
    assert_eq!(acme.get_provider(&main.name).await.unwrap(), newer);
    let told = history(&acme).await;
    assert_eq!(told[0], *verification(&newer));
    let failed = VerificationStatus::Failed;
    assert_eq!((told[0].status(), told[1].status()), (failed, VerificationStatus::Verified));
    assert_eq!(seconds(&told[0]) - seconds(&told[1]), 3600, "each at its own time");
    assert_eq!((checks(&told[1]).len(), told.len()), (5, 3));
}

#[tokio::test]
async fn a_new_token_completes_its_verification_in_one_row() {
    let (vault, acme, main) = with_main().await;
    vault.clock.advance(HOUR);
    vault.twilio.set_path_fault(NUMBERS, Some(Fault::Hold));
    let asked = vault.twilio.calls_to(NUMBERS);
    let meanwhile = async {
        asked_for(&vault.twilio, NUMBERS, asked + 1).await;
        // The token is stored already, with what was found before beside it.
        let stored = acme.get_provider(&main.name).await.unwrap();
        let told = history(&acme).await;
        vault.twilio.release();
        (stored, told)
    };
    let (updated, (stored, told)) =
        tokio::join!(acme.update_token(update_token(&main.name, TOKEN)), meanwhile);
    let updated = updated.unwrap();
    assert_eq!((stored.token_version, ends(&stored)), (2, ends(&updated)));
    let numbers = |it: &Verification| it.checks[2].time.unwrap().seconds;
    assert_eq!(numbers(verification(&updated)) - numbers(verification(&stored)), 3600);
    assert_eq!((told.len(), &told[0]), (2, verification(&stored)));
    let told = history(&acme).await;
    assert_eq!((told.len(), &told[0]), (2, verification(&updated)));
}
