//! How many tokens may be tried: each try asks the carrier, which makes the vault an oracle.

use std::sync::Arc;

use credvault::access::Role;
use credvault::grpc::proto::{CreateProviderRequest, Provider, TwilioApiKey, UpdateTokenRequest};
use futures_util::future::join_all;
use jiff::SignedDuration;
use tonic::Status;

use super::{all_is_well, history, on_trunk};
use crate::providers::{SID, TOKEN, TOKEN_2, asked, create_provider, update_token};
use crate::support::{Clients, TestVault, outcome, uuid};

const LIMITED: &str = "ResourceExhausted RATE_LIMITED";

/// A vault with these limits; none: the ones that it has by itself.
async fn with_limits(per_provider: Option<u32>, per_account: Option<u32>) -> (TestVault, Clients) {
    let vault = TestVault::start_with(|options, _| {
        options.limits_token_tries_per_provider = per_provider;
        options.limits_token_tries_per_account = per_account;
    })
    .await;
    all_is_well(&vault.twilio);
    let acme = vault.acme().await;
    (vault, acme)
}

/// The seconds that a limited call is told to wait.
fn wait<T>(result: &Result<T, Status>) -> i64 {
    let told = outcome(result);
    let seconds =
        told.strip_prefix(&format!("{LIMITED} retry ")).and_then(|it| it.strip_suffix('s'));
    seconds.unwrap_or_else(|| panic!("{told}")).parse().unwrap()
}

#[tokio::test]
async fn five_tokens_a_minute_may_be_tried_on_a_provider() {
    let (vault, acme) = with_limits(None, None).await;
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    let other = acme.create_provider(create_provider("other")).await.unwrap();
    let wrong = || update_token(&main.name, TOKEN_2);
    let rejected = "FailedPrecondition UPSTREAM_REJECTED_TOKEN";

    // What asks nobody counts for nothing.
    for _ in 0..10 {
        let malformed = acme.update_token(update_token(&main.name, "x")).await;
        assert_eq!(outcome(&malformed), "InvalidArgument INVALID_FIELD auth_token");
        let key = TwilioApiKey { sid: format!("SK{}", "0".repeat(32)), secret: String::new() };
        let malformed =
            UpdateTokenRequest { auth_token: String::new(), api_key: Some(key), ..wrong() };
        let malformed = acme.update_token(malformed).await;
        assert_eq!(outcome(&malformed), "InvalidArgument INVALID_FIELD api_key.secret");
        let stale = UpdateTokenRequest { etag: "stale".to_owned(), ..wrong() };
        assert_eq!(outcome(&acme.update_token(stale).await), "Aborted ETAG_MISMATCH");
    }
    // Refused, confirmed or tried only: each of them asks.
    assert_eq!(outcome(&acme.update_token(wrong()).await), rejected);
    acme.update_token(update_token(&main.name, TOKEN)).await.unwrap();
    for trial in [update_token(&main.name, TOKEN), wrong(), wrong()] {
        let trial = UpdateTokenRequest { validate_only: true, ..trial };
        let told = outcome(&acme.update_token(trial).await);
        assert!(["OK", rejected].contains(&told.as_str()), "{told}");
    }
    let seen = async || (vault.state(), vault.twilio.calls(), acme.audit_log("acme").await.len());
    let before = seen().await;
    let limited = acme.update_token(update_token(&main.name, TOKEN)).await;
    let seconds = wait(&limited);
    assert!((1..=13).contains(&seconds), "{seconds}");
    let message = limited.unwrap_err().message().to_owned();
    let expected = format!(
        "too many tokens were tried on this provider; nothing was changed: retry in {seconds} s"
    );
    assert_eq!(message, expected);
    let trial = UpdateTokenRequest { validate_only: true, ..wrong() };
    wait(&acme.update_token(trial).await);
    // No try, so nobody was asked; and no refusal of a right, so the audit log does not grow by it.
    assert_eq!(seen().await, before);

    // The stored token may be verified, and other providers have a limit of their own.
    acme.verify_provider(&main.name).await.unwrap();
    for _ in 0..5 {
        acme.update_token(update_token(&other.name, TOKEN)).await.unwrap();
    }
    wait(&acme.update_token(update_token(&other.name, TOKEN)).await);

    // It fills evenly: one each twelve seconds.
    vault.clock.advance(SignedDuration::from_secs(11));
    wait(&acme.update_token(wrong()).await);
    vault.clock.advance(SignedDuration::from_secs(1));
    assert_eq!(outcome(&acme.update_token(wrong()).await), rejected);
    wait(&acme.update_token(wrong()).await);
    let seconds = wait(&acme.update_token(wrong()).await);
    vault.clock.advance(SignedDuration::from_secs(seconds));
    assert_eq!(outcome(&acme.update_token(wrong()).await), rejected, "as it was told");
    vault.clock.advance(SignedDuration::from_mins(10));
    for _ in 0..5 {
        assert_eq!(outcome(&acme.update_token(wrong()).await), rejected);
    }
    wait(&acme.update_token(wrong()).await);
}

#[tokio::test]
async fn thirty_tokens_a_minute_may_be_tried_in_an_account() {
    let (vault, acme) = with_limits(None, None).await;
    let first = acme.create_provider(create_provider("p-1")).await.unwrap();
    // A taken id and a malformed token ask nobody.
    for _ in 0..40 {
        let taken = acme.create_provider(create_provider("p-1")).await;
        assert_eq!(outcome(&taken), "AlreadyExists ALREADY_EXISTS");
        let malformed = CreateProviderRequest { auth_token: "x".to_owned(), ..create_provider("") };
        let malformed = acme.create_provider(malformed).await;
        assert_eq!(outcome(&malformed), "InvalidArgument INVALID_FIELD auth_token");
    }
    for number in 2..=20 {
        acme.create_provider(create_provider(&format!("p-{number}"))).await.unwrap();
    }
    for number in 0..6 {
        let trial = CreateProviderRequest {
            validate_only: true,
            auth_token: if number % 2 == 0 { TOKEN } else { TOKEN_2 }.to_owned(),
            ..create_provider("")
        };
        acme.create_provider(trial).await.ok();
    }
    for number in 2..=5 {
        let name = format!("accounts/acme/providers/p-{number}");
        acme.update_token(update_token(&name, TOKEN)).await.unwrap();
    }
    assert_eq!(asked(&vault), 30);
    let recorded = acme.audit_log("acme").await.len();
    let create = acme.create_provider(create_provider("p-21")).await;
    assert!((1..=3).contains(&wait(&create)), "{create:?}");
    wait(&acme.update_token(update_token(&first.name, TOKEN)).await);
    let trial = CreateProviderRequest { validate_only: true, ..create_provider("") };
    wait(&acme.create_provider(trial).await);
    assert_eq!((asked(&vault), acme.audit_log("acme").await.len()), (30, recorded));
    assert_eq!(
        outcome(&acme.get_provider("accounts/acme/providers/p-21").await),
        "NotFound NOT_FOUND"
    );

    // Another account is not held up by it.
    let other = vault.clients("other", &[Role::AccountAdmin]).await;
    let request =
        CreateProviderRequest { parent: "accounts/other".to_owned(), ..create_provider("p-1") };
    other.create_provider(request).await.unwrap();

    vault.clock.advance(SignedDuration::from_secs(2));
    // A retry of what was done is no try.
    let create = CreateProviderRequest { request_id: uuid(1), ..create_provider("p-21") };
    let created = acme.create_provider(create.clone()).await.unwrap();
    wait(&acme.create_provider(create_provider("p-22")).await);
    for _ in 0..3 {
        assert_eq!(acme.create_provider(create.clone()).await.unwrap(), created);
    }
    assert_eq!(asked(&vault), 32);
}

#[tokio::test]
async fn limits_are_the_operators_and_none_is_none() {
    let (vault, acme) = with_limits(Some(1), Some(3)).await;
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    acme.update_token(update_token(&main.name, TOKEN)).await.unwrap();
    let seconds = wait(&acme.update_token(update_token(&main.name, TOKEN)).await);
    assert!((60..=61).contains(&seconds), "{seconds}");
    acme.create_provider(create_provider("one")).await.unwrap();
    wait(&acme.create_provider(create_provider("two")).await);
    drop(vault);

    let (_vault, acme) = with_limits(Some(0), Some(0)).await;
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    for _ in 0..40 {
        acme.update_token(update_token(&main.name, TOKEN)).await.unwrap();
    }
}

/// Sixteen updates at once, each with a token of its own, and which token is stored after them.
async fn sixteen_at_once(etag: bool) -> (Vec<Result<Provider, Status>>, Provider) {
    let vault = TestVault::start().await;
    all_is_well(&vault.twilio);
    let acme = vault.acme().await;
    let main = acme.create_provider(on_trunk("main")).await.unwrap();
    let tokens: Arc<Vec<_>> = Arc::new((1..=16).map(|number| format!("{number:032x}")).collect());
    for token in tokens.iter() {
        vault.twilio.add_token(SID, token);
    }
    let calls = (0..16).map(|number| {
        let (acme, tokens, main) = (acme.clone(), Arc::clone(&tokens), main.clone());
        tokio::spawn(async move {
            let etag = if etag { main.etag } else { String::new() };
            let request = UpdateTokenRequest { etag, ..update_token(&main.name, &tokens[number]) };
            acme.update_token(request).await
        })
    });
    let results: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let last = acme.get_provider(&main.name).await.unwrap();
    let winners = results.iter().enumerate().filter_map(|(i, it)| Some((i, it.as_ref().ok()?)));
    let (winner, _) = winners.max_by_key(|(_, it)| it.token_version).expect("somebody wins");
    // The stored token is that of the last winner: with it alone the provider is good.
    vault.clock.advance(SignedDuration::from_mins(1));
    vault.twilio.set_token(SID, &tokens[winner]);
    let verified = acme.verify_provider(&main.name).await.unwrap();
    assert_eq!(
        verified.verification.unwrap().status(),
        last.verification.clone().unwrap().status()
    );
    let versions: Vec<_> = history(&acme).await.iter().map(|it| it.token_version).collect();
    assert!(versions.contains(&last.token_version), "{versions:?}");
    (results, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_new_tokens_for_one_state_exactly_one_is_taken() {
    let (results, last) = sixteen_at_once(true).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len(), last.token_version), (1, 15, 2));
    for refused in lost.iter().map(outcome) {
        let aborted = ["Aborted ETAG_MISMATCH", "Aborted VERSION_CONFLICT"];
        assert!(aborted.contains(&refused.as_str()), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_new_tokens_at_once_each_that_is_taken_has_its_version() {
    let (results, last) = sixteen_at_once(false).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let mut versions: Vec<_> = won.iter().map(|it| it.as_ref().unwrap().token_version).collect();
    versions.sort_unstable();
    assert!(versions.iter().copied().eq(2..=last.token_version), "{versions:?}");
    for refused in &lost {
        assert_eq!(outcome(refused), "Aborted VERSION_CONFLICT");
    }
}
