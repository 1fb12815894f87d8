//! Checks that never end: the call does, in time, and its token is kept even if nobody waits for it.

use std::time::Instant;

use credvault::access::Role;
use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{CreateProviderRequest, Provider, VerificationStatus};
use jiff::SignedDuration;

use super::{asked_for, ends, status, verification};
use crate::providers::{TOKEN, TOKEN_2, create_provider, twilio, update_token};
use crate::support::fakes::twilio::{FakeTwilio, Fault, Trunk};
use crate::support::{TestVault, outcome};
use crate::upstream_faults::update_token_within;

/// SIDs of account, trunk and list.
fn sids(digit: char) -> [String; 3] {
    ["AC", "TK", "CL"].map(|kind| format!("{kind}{}", digit.to_string().repeat(32)))
}

fn request(id: &str, digit: char) -> CreateProviderRequest {
    let [account_sid, trunk, list] = sids(digit);
    let mut request = create_provider(id);
    let provider = request.provider.as_mut().unwrap();
    provider.kind = Some(twilio(&account_sid));
    if let Some(Kind::Twilio(kind)) = &mut provider.kind {
        (kind.sip_trunk_sid, kind.credential_list_sid) = (Some(trunk), Some(list));
    }
    request
}

fn add(twilio: &FakeTwilio, digit: char) {
    let [account_sid, sid, list] = sids(digit);
    twilio.add_account(&account_sid, TOKEN);
    twilio.set_trunk(
        &account_sid,
        Trunk { sid: sid.clone(), credential_lists: vec![list], ..Trunk::default() },
    );
    twilio.add_numbers(&account_sid, 1, Some(&sid));
}

/// Has everything of an account hang but what decides on its token.
fn hang(twilio: &FakeTwilio, digit: char) {
    let [account_sid, trunk, _] = sids(digit);
    twilio.set_path_fault(&format!("{account_sid}/Incoming"), Some(Fault::Hang));
    twilio.set_path_fault(&format!("/v1/Trunks/{trunk}"), Some(Fault::Hang));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_hang_end_with_the_call_and_its_token_is_kept() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let twilio = &vault.twilio;
    let mut names = Vec::new();
    for (id, digit) in [("updated", '1'), ("verified", '2'), ("left", '3'), ("main", '4')] {
        add(twilio, digit);
        names.push(acme.create_provider(request(id, digit)).await.unwrap().name);
    }
    add(twilio, '5');
    for digit in ['1', '2', '3', '4', '5'] {
        hang(twilio, digit);
    }
    twilio.add_token(&sids('3')[0], TOKEN_2);

    let started = Instant::now();
    let update = async { acme.update_token(update_token(&names[0], TOKEN)).await };
    let verify = async { acme.verify_provider(&names[1]).await };
    let create = acme.create_provider(request("created", '5'));
    // The carrier takes three seconds for the token itself, which leaves less for the rest than that may take.
    let slow = async {
        twilio.set_path_fault(&format!("{}.json", sids('4')[0]), Some(Fault::Hold));
        let result = acme.update_token(update_token(&names[3], TOKEN)).await;
        (result, started.elapsed())
    };
    let token = vault.token("acme", &[Role::TokenWriter]).await;
    let release = async {
        let gave_up = update_token_within(&vault, &token, "3S").await;
        assert_eq!(outcome(&Err::<(), _>(gave_up)), "DeadlineExceeded DEADLINE_EXCEEDED");
        twilio.release();
    };
    let leave = async {
        let call = {
            let (acme, name) = (acme.clone(), names[2].clone());
            tokio::spawn(async move { acme.update_token(update_token(&name, TOKEN_2)).await })
        };
        let [account_sid, trunk, _] = sids('3');
        // The second time: all was looked at when the provider was made.
        asked_for(twilio, &format!("{account_sid}/Incoming"), 2).await;
        asked_for(twilio, &format!("/v1/Trunks/{trunk}"), 4).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        acme.get_provider(&names[2]).await.unwrap()
    };
    let prompt = async {
        let results = tokio::join!(update, verify, create);
        (results, started.elapsed())
    };
    let (((updated, verified, created), took), (slow, slow_took), (), left) =
        tokio::join!(prompt, slow, release, leave);

    assert!((4_900..7_500).contains(&took.as_millis()), "{took:?}");
    assert!((6_000..8_000).contains(&slow_took.as_millis()), "{slow_took:?}");
    let unavailable = [
        "credentials PASSED",
        "account_active PASSED",
        "sip_trunk UNAVAILABLE",
        "credential_list UNAVAILABLE",
        "phone_numbers UNAVAILABLE",
    ];
    let told = |it: &Provider| (it.token_version, verification(it).token_version, status(it));
    let (verified_status, warning) = (VerificationStatus::Verified, VerificationStatus::Warning);
    for (result, expected) in [
        (updated, (2, 2, verified_status)),
        (verified, (1, 1, verified_status)),
        (created, (1, 1, warning)),
        (slow, (2, 2, verified_status)),
    ] {
        let provider = result.unwrap();
        assert_eq!(
            (told(&provider), ends(&provider)),
            (expected, unavailable.map(String::from).to_vec())
        );
        for check in verification(&provider).checks.iter().skip(2) {
            let why = "Twilio could not be asked (it did not answer in time): verify again later";
            assert_eq!(check.message, why, "{}", check.name);
        }
        assert_eq!(acme.get_provider(&provider.name).await.unwrap(), provider);
    }

    // Nobody waited for these checks; the token of that call is the stored one all the same.
    assert_eq!(told(&left), (2, 2, verified_status));
    // What hung counts as failures, after which the carrier may be left alone for a while.
    vault.clock.advance(SignedDuration::from_mins(1));
    let [account_sid, trunk, _] = sids('3');
    twilio.set_path_fault(&format!("{account_sid}/Incoming"), None);
    twilio.set_path_fault(&format!("/v1/Trunks/{trunk}"), None);
    twilio.set_token(&account_sid, TOKEN_2);
    let verified = acme.verify_provider(&left.name).await.unwrap();
    assert_eq!(told(&verified), (2, 2, verified_status));
}
