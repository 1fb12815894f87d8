//! Regions: each has hosts of its own, and a token of one of them is none in the others.

use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{CreateProviderRequest, TwilioApiKey, UpdateTokenRequest};
use jiff::SignedDuration;
use tonic::Code;

use super::{account, all_is_well, ends, on_trunk};
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider, update_token};
use crate::support::fakes::twilio::Fault;
use crate::support::{TestVault, outcome, refusal};

const REJECTED: &str = "FailedPrecondition UPSTREAM_REJECTED_TOKEN";

/// A vault that reaches the regions of its Twilio by name.
async fn with_regions() -> TestVault {
    let vault = TestVault::start_with(|options, twilio| {
        options.upstream_twilio_api_url = Some(twilio.url_of("api"));
        options.upstream_twilio_trunking_url = Some(twilio.url_of("trunking"));
    })
    .await;
    all_is_well(&vault.twilio);
    vault
}

fn in_region(region: &str, request: CreateProviderRequest) -> CreateProviderRequest {
    let mut request = request;
    if let Some(Kind::Twilio(account)) = &mut request.provider.as_mut().unwrap().kind {
        region.clone_into(&mut account.region);
    }
    request
}

#[tokio::test]
async fn a_provider_is_asked_about_in_its_own_region() {
    let vault = with_regions().await;
    let acme = vault.acme().await;
    // The token of us1 is good nowhere else: only who asks the right host gets an answer.
    let tokens = [("us1", ""), ("ie1", "dublin"), ("au1", "sydney"), ("jp1", "tokyo")];
    for (number, (region, edge)) in (1..).zip(tokens) {
        let token = if number == 1 { TOKEN.to_owned() } else { format!("{number:032x}") };
        if number > 1 {
            vault.twilio.add_token_in(region, SID, &token);
        }
        let request = in_region(region, on_trunk(&format!("in-{region}")));
        let request = CreateProviderRequest { auth_token: token.clone(), ..request };
        let calls = vault.twilio.calls();
        let made = acme.create_provider(request).await.unwrap();
        assert_eq!((account(&made).region.as_str(), account(&made).edge.as_str()), (region, edge));
        assert!(ends(&made).iter().all(|end| end.ends_with(" PASSED")), "{made:?}");
        acme.verify_provider(&made.name).await.unwrap();
        let updated = acme.update_token(update_token(&made.name, &token)).await.unwrap();
        assert_eq!((updated.token_version, ends(&updated)), (2, ends(&made)));
        assert_eq!(vault.twilio.calls(), calls + 12, "nobody else was asked");
    }
}

#[tokio::test]
async fn a_token_of_another_region_is_refused_with_the_name_of_that_region() {
    let vault = with_regions().await;
    let acme = vault.acme().await;
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    vault.twilio.add_token_in("ie1", SID, TOKEN_2);
    let key_sid = format!("SK{}", "7".repeat(32));
    let (state, recorded) = (vault.state(), acme.audit_log("acme").await.len());

    let create = CreateProviderRequest { auth_token: TOKEN_2.to_owned(), ..create_provider("new") };
    let update = update_token(&main.name, TOKEN_2);
    for (entries, updates) in [(1, false), (2, true)] {
        let result = if updates {
            acme.update_token(update.clone()).await
        } else {
            acme.create_provider(create.clone()).await
        };
        let message = result.as_ref().unwrap_err().message().to_owned();
        let (code, reason, details) = refusal(result);
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "UPSTREAM_REJECTED_TOKEN"));
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(
            metadata.iter().collect::<Vec<_>>(),
            [(&"region".to_owned(), &"ie1".to_owned())]
        );
        assert_eq!(
            message,
            "the carrier refuses this token for this account; nothing was changed: it belongs to region ie1: send a \
             token of the provider's region, or create a provider in ie1"
        );
        let log = acme.audit_log("acme").await;
        assert_eq!(log.len(), recorded + entries, "one entry each");
        assert_eq!(log.last().unwrap().outcome, "UPSTREAM_REJECTED_TOKEN");
    }
    assert_eq!(vault.state(), state);
    // As it says: there the token works.
    acme.create_provider(in_region("ie1", create)).await.unwrap();

    // Good nowhere, or elsewhere is out of order: no region is named.
    let silent = |message: &str, details: &tonic_types::ErrorDetails| {
        assert!(message.contains("check account and token in its console"), "{message}");
        assert!(details.error_info().unwrap().metadata.is_empty());
    };
    let nowhere = "c".repeat(32);
    let key = TwilioApiKey { sid: key_sid, secret: "x".repeat(32) };
    let keyed =
        UpdateTokenRequest { auth_token: String::new(), api_key: Some(key), ..update.clone() };
    for request in [update_token(&main.name, &nowhere), keyed] {
        let calls = vault.twilio.calls();
        let result = acme.update_token(request).await;
        assert_eq!(outcome(&result), REJECTED);
        let message = result.as_ref().unwrap_err().message().to_owned();
        silent(&message, &refusal(result).2);
        assert_eq!(vault.twilio.calls(), calls + 4, "each region once");
    }
    vault.twilio.fail_next(Fault::Status(401));
    vault.twilio.set_fault(Some(Fault::Status(500)));
    let result = acme.update_token(update.clone()).await;
    assert_eq!(outcome(&result), REJECTED, "what the others say decides nothing");
    let message = result.as_ref().unwrap_err().message().to_owned();
    silent(&message, &refusal(result).2);

    // A verification stores what the provider's own region says, and asks no other.
    vault.twilio.set_fault(None);
    vault.clock.advance(SignedDuration::from_hours(1));
    vault.twilio.set_token(SID, &nowhere);
    vault.twilio.add_token_in("jp1", SID, TOKEN);
    let calls = vault.twilio.calls();
    let failed = acme.verify_provider(&main.name).await.unwrap();
    assert_eq!(ends(&failed)[0], "credentials FAILED");
    assert_eq!(vault.twilio.calls(), calls + 1);
}

#[tokio::test]
async fn a_region_that_hangs_costs_two_seconds() {
    let vault = with_regions().await;
    let acme = vault.acme().await;
    acme.create_provider(create_provider("main")).await.unwrap();
    vault.twilio.fail_next(Fault::Status(401));
    vault.twilio.set_fault(Some(Fault::Hang));
    let started = std::time::Instant::now();
    let result = acme.create_provider(create_provider("new")).await;
    assert_eq!(outcome(&result), REJECTED);
    let took = started.elapsed().as_millis();
    assert!((1_900..4_000).contains(&took), "{took} ms");
}

#[tokio::test]
async fn an_address_serves_all_regions_so_it_is_asked_once() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    all_is_well(&vault.twilio);
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    let calls = vault.twilio.calls();
    let refused = acme.update_token(update_token(&main.name, TOKEN_2)).await;
    assert_eq!(outcome(&refused), REJECTED);
    assert_eq!(vault.twilio.calls(), calls + 1);
    // The region is part of the provider all the same.
    let made = acme.create_provider(in_region("ie1", create_provider("ireland"))).await.unwrap();
    assert_eq!((account(&made).region.as_str(), account(&made).edge.as_str()), ("ie1", "dublin"));
}
