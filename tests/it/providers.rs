//! Providers: a token is stored only after its carrier confirmed it, and never leaves.

use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{
    CheckStatus, CreateProviderRequest, DeleteProviderRequest, Provider, TwilioProvider,
    UpdateProviderRequest, UpdateTokenRequest, Verification, VerificationStatus,
};
use jiff::SignedDuration;
use prost_types::FieldMask;

use crate::support::fakes::twilio::Fault;
use crate::support::{TestVault, outcome};

pub(crate) const SID: &str = "AC0123456789abcdef0123456789abcdef";
pub(crate) const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1";
pub(crate) const TOKEN_2: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb2";

pub(crate) fn twilio(account_sid: &str) -> Kind {
    Kind::Twilio(TwilioProvider {
        account_sid: account_sid.to_owned(),
        region: "us1".to_owned(),
        ..Default::default()
    })
}

/// A request for a provider of [`SID`] with [`TOKEN`].
pub(crate) fn create_provider(id: &str) -> CreateProviderRequest {
    CreateProviderRequest {
        parent: "accounts/acme".to_owned(),
        provider_id: id.to_owned(),
        provider: Some(Provider { kind: Some(twilio(SID)), ..Default::default() }),
        auth_token: TOKEN.to_owned(),
        ..Default::default()
    }
}

pub(crate) fn update_token(name: &str, auth_token: &str) -> UpdateTokenRequest {
    UpdateTokenRequest {
        name: name.to_owned(),
        auth_token: auth_token.to_owned(),
        ..Default::default()
    }
}

/// An update of the fields that `provider` has and, if there are any, of the paths of the mask.
pub(crate) fn update(name: &str, provider: Provider, mask: &[&str]) -> UpdateProviderRequest {
    UpdateProviderRequest {
        provider: Some(Provider { name: name.to_owned(), ..provider }),
        update_mask: Some(FieldMask { paths: mask.iter().map(|&path| path.to_owned()).collect() }),
        ..Default::default()
    }
}

pub(crate) fn display_name(name: &str, text: &str) -> UpdateProviderRequest {
    let display_name = Some(text.to_owned());
    update(name, Provider { display_name, ..Default::default() }, &[])
}

pub(crate) fn delete(name: &str) -> DeleteProviderRequest {
    DeleteProviderRequest { name: name.to_owned(), ..Default::default() }
}

/// Status and checks of a verification.
fn verdict(provider: &Provider) -> (VerificationStatus, Vec<(&str, CheckStatus)>) {
    let Verification { checks, .. } = provider.verification.as_ref().unwrap();
    let checks = checks.iter().map(|check| (check.name.as_str(), check.status()));
    (provider.verification.as_ref().unwrap().status(), checks.collect())
}

const PASSED: [(&str, CheckStatus); 3] = [
    ("credentials", CheckStatus::Passed),
    ("account_active", CheckStatus::Passed),
    ("phone_numbers", CheckStatus::Passed),
];

/// How often the carrier was asked about a token.
pub(crate) fn asked(vault: &TestVault) -> u64 {
    vault.twilio.calls_to(&format!("{}.json", &SID[2..]))
}

#[tokio::test]
async fn a_confirmed_token_makes_a_verified_provider_and_is_never_shown() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);

    let mut request = create_provider("main");
    request.provider.as_mut().unwrap().display_name = Some("Main trunk".to_owned());
    let main = acme.create_provider(request).await.unwrap();
    assert_eq!(main.name, "accounts/acme/providers/main");
    assert_eq!(
        (main.display_name.as_deref(), &main.kind),
        (Some("Main trunk"), &Some(twilio(SID)))
    );
    assert_eq!(main.token_version, 1);
    assert_eq!(verdict(&main), (VerificationStatus::Verified, PASSED.to_vec()));
    let now = vault.now().as_second();
    let verification = main.verification.clone().unwrap();
    assert_eq!(verification.last_verify_time.unwrap().seconds, now);
    for check in &verification.checks {
        assert_eq!(check.time.unwrap().seconds, now);
        assert!(!check.message.is_empty());
    }
    let times = [main.create_time, main.update_time, main.token_update_time];
    assert!(times.iter().all(|time| time.unwrap().seconds == now));
    assert_eq!(acme.get_provider(&main.name).await.unwrap(), main);
    assert!(!format!("{main:?}").contains(TOKEN));

    let unnamed = acme.create_provider(create_provider("")).await.unwrap();
    assert!(unnamed.name.starts_with("accounts/acme/providers/x"), "{}", unnamed.name);
    assert_eq!(asked(&vault), 2);
    let taken = acme.create_provider(create_provider("main")).await;
    assert_eq!(outcome(&taken), "AlreadyExists ALREADY_EXISTS");
    assert_eq!(asked(&vault), 2, "what is taken is not asked about");
}

#[tokio::test]
async fn a_new_token_overwrites_the_old_one_only_when_the_carrier_confirms_it() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let old = acme.create_provider(create_provider("main")).await.unwrap();
    let (state, sealed) = (vault.state(), "SELECT sealed FROM provider");
    let old_sealed = vault.column::<Vec<u8>>(sealed);
    vault.clock.advance(SignedDuration::from_hours(1));

    let refused = acme.update_token(update_token(&old.name, TOKEN_2)).await;
    assert_eq!(outcome(&refused), "FailedPrecondition UPSTREAM_REJECTED_TOKEN");
    assert_eq!(vault.state(), state);

    vault.twilio.set_token(SID, TOKEN_2);
    let new = acme.update_token(update_token(&old.name, TOKEN_2)).await.unwrap();
    assert_eq!((new.token_version, &new.kind), (2, &old.kind));
    assert_eq!(new.token_update_time.unwrap().seconds, vault.now().as_second());
    assert_eq!((new.create_time, new.update_time), (old.create_time, new.token_update_time));
    assert_eq!(verdict(&new), (VerificationStatus::Verified, PASSED.to_vec()));
    assert_ne!(new.etag, old.etag);
    assert!(!format!("{new:?}").contains(TOKEN_2));
    assert_eq!(acme.get_provider(&old.name).await.unwrap(), new);

    assert_ne!(vault.column::<Vec<u8>>(sealed), old_sealed);
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);

    // The stored token is the new one, and it survives a restart.
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    let verified = acme.verify_provider(&old.name).await.unwrap();
    assert_eq!(verdict(&verified).0, VerificationStatus::Verified);
}

#[tokio::test]
async fn an_etag_guards_the_token_the_name_and_the_deletion() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let old = acme.create_provider(create_provider("main")).await.unwrap();
    let token =
        |etag: &str| UpdateTokenRequest { etag: etag.to_owned(), ..update_token(&old.name, TOKEN) };
    let named = |etag: &str, text: &str| {
        let mut request = display_name(&old.name, text);
        request.provider.as_mut().unwrap().etag = etag.to_owned();
        request
    };
    let deleted = |etag: &str| DeleteProviderRequest { etag: etag.to_owned(), ..delete(&old.name) };
    let delete = |request| async { acme.providers.clone().delete_provider(request).await };

    let after_token = acme.update_token(token(&old.etag)).await.unwrap();
    let after_name = acme.update_provider(named(&after_token.etag, "x")).await.unwrap();
    let (state, calls) = (vault.state(), vault.twilio.calls());
    for stale in [&old.etag, &after_token.etag, "*"] {
        let mismatch = "Aborted ETAG_MISMATCH";
        assert_eq!(outcome(&acme.update_token(token(stale)).await), mismatch, "{stale}");
        assert_eq!(outcome(&acme.update_provider(named(stale, "y")).await), mismatch, "{stale}");
        assert_eq!(outcome(&delete(deleted(stale)).await), mismatch, "{stale}");
    }
    assert_eq!((vault.state(), vault.twilio.calls()), (state, calls));

    delete(deleted(&after_name.etag)).await.unwrap();
    let gone = "NotFound NOT_FOUND";
    assert_eq!(outcome(&acme.get_provider(&old.name).await), gone);
    assert_eq!(outcome(&acme.update_token(token("")).await), gone);
    assert_eq!(outcome(&acme.update_provider(named("", "z")).await), gone);
    assert_eq!(outcome(&acme.verify_provider(&old.name).await), gone);
    assert_eq!(outcome(&delete(deleted("")).await), gone);
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [0]);
    let again = acme.create_provider(create_provider("main")).await.unwrap();
    assert_ne!(again.etag, old.etag, "a successor is not its predecessor");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_before_any_network() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    let (state, calls) = (vault.state(), vault.twilio.connections());

    let long = "a".repeat(33);
    let huge = "a".repeat(600);
    let upper = TOKEN.to_ascii_uppercase();
    let spaced = format!(" {TOKEN}");
    let line = format!("{TOKEN}\n");
    for bad in ["", "a", &long, &huge, &upper, &spaced, &line, "ｆ", &TOKEN.replace('a', "g")] {
        let expected = "InvalidArgument INVALID_FIELD auth_token";
        for validate_only in [false, true] {
            let auth_token = bad.to_owned();
            let request = CreateProviderRequest {
                auth_token: auth_token.clone(),
                validate_only,
                ..create_provider("new")
            };
            assert_eq!(outcome(&acme.create_provider(request).await), expected, "{bad:?}");
            let request =
                UpdateTokenRequest { auth_token, validate_only, ..update_token(&main.name, "") };
            assert_eq!(outcome(&acme.update_token(request).await), expected, "{bad:?}");
        }
    }
    let hex = "0123456789abcdef0123456789abcdef";
    for bad in [
        String::new(),
        "AC".to_owned(),
        hex.to_owned(),
        format!("SK{hex}"),
        format!("ac{hex}"),
        format!("AC{}", hex.to_ascii_uppercase()),
        format!("AC{hex}0"),
        format!("AC{hex}\n"),
        format!("AC../{}", &hex[3..]),
    ] {
        let mut request = create_provider("new");
        request.provider.as_mut().unwrap().kind = Some(twilio(&bad));
        let expected = "InvalidArgument INVALID_FIELD provider.twilio.account_sid";
        assert_eq!(outcome(&acme.create_provider(request).await), expected, "{bad:?}");
    }
    assert_eq!(vault.state(), state);
    assert_eq!(vault.twilio.connections(), calls);
}

#[tokio::test]
async fn validate_only_asks_the_carrier_and_stores_nothing() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    vault.twilio.add_token(SID, TOKEN_2);
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    let (state, log) = (vault.state(), acme.audit_log("acme").await);

    let trial = CreateProviderRequest { validate_only: true, ..create_provider("trial") };
    let told = acme.create_provider(trial.clone()).await.unwrap();
    assert_eq!(verdict(&told), (VerificationStatus::Verified, PASSED.to_vec()));
    let gone = outcome(&acme.get_provider("accounts/acme/providers/trial").await);
    assert_eq!(gone, "NotFound NOT_FOUND");
    let token = UpdateTokenRequest { validate_only: true, ..update_token(&main.name, TOKEN_2) };
    let told = acme.update_token(token.clone()).await.unwrap();
    assert_eq!((told.token_version, &told.etag), (1, &main.etag));
    assert_eq!(verdict(&told), (VerificationStatus::Verified, PASSED.to_vec()));
    assert_eq!(asked(&vault), 3);
    assert_eq!((vault.state(), acme.audit_log("acme").await.len()), (state.clone(), log.len()));

    // A refusal is one whether or not it would have been stored.
    vault.twilio.set_token(SID, "cccccccccccccccccccccccccccccccc");
    let refused = "FailedPrecondition UPSTREAM_REJECTED_TOKEN";
    assert_eq!(outcome(&acme.create_provider(trial).await), refused);
    assert_eq!(outcome(&acme.update_token(token).await), refused);
    assert_eq!(vault.state(), state);
    let log = acme.audit_log("acme").await.split_off(log.len());
    let outcomes: Vec<_> = log.iter().map(|entry| entry.outcome.as_str()).collect();
    assert_eq!(outcomes, ["UPSTREAM_REJECTED_TOKEN"; 2]);
}

#[tokio::test]
async fn verification_stores_the_verdict_and_moves_no_etag() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    let state =
        |provider: &Provider| (provider.etag.clone(), provider.token_version, provider.update_time);
    vault.clock.advance(SignedDuration::from_hours(1));

    vault.twilio.set_token(SID, TOKEN_2);
    let failed = acme.verify_provider(&main.name).await.unwrap();
    let skipped = [
        ("credentials", CheckStatus::Failed),
        ("account_active", CheckStatus::Skipped),
        ("phone_numbers", CheckStatus::Skipped),
    ];
    assert_eq!(verdict(&failed), (VerificationStatus::Failed, skipped.to_vec()));
    let last = failed.verification.clone().unwrap().last_verify_time;
    assert_eq!(last.unwrap().seconds, vault.now().as_second());
    assert_eq!(state(&failed), state(&main));
    assert_eq!(acme.get_provider(&main.name).await.unwrap(), failed);

    // No verdict: the one before stands.
    vault.clock.advance(SignedDuration::from_hours(1));
    let rows = vault.state();
    for (fault, expected) in [
        (Fault::Status(500), "Unavailable UPSTREAM_ERROR retry 1s"),
        (Fault::Status(429), "Unavailable UPSTREAM_RATE_LIMITED retry 5s"),
        (Fault::NotJson, "Unavailable UPSTREAM_PROTOCOL"),
        (Fault::CloseBeforeAnswer, "Unavailable UPSTREAM_UNREACHABLE retry 1s"),
    ] {
        vault.twilio.fail_next(fault);
        assert_eq!(outcome(&acme.verify_provider(&main.name).await), expected);
    }
    assert_eq!(vault.state(), rows);

    vault.twilio.set_token(SID, TOKEN);
    vault.twilio.set_status(SID, "suspended");
    let failed = acme.verify_provider(&main.name).await.unwrap();
    let inactive = [
        ("credentials", CheckStatus::Passed),
        ("account_active", CheckStatus::Failed),
        ("phone_numbers", CheckStatus::Skipped),
    ];
    assert_eq!(verdict(&failed), (VerificationStatus::Failed, inactive.to_vec()));
    vault.twilio.set_status(SID, "active");
    let verified = acme.verify_provider(&main.name).await.unwrap();
    assert_eq!(verdict(&verified), (VerificationStatus::Verified, PASSED.to_vec()));
    assert_eq!(state(&verified), state(&main), "a compare-and-set of before still holds");
}

#[tokio::test]
async fn only_the_display_name_changes() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let main = acme.create_provider(create_provider("main")).await.unwrap();
    let other_sid = "ACffffffffffffffffffffffffffffffff";
    let kind = |sid| Provider { kind: Some(twilio(sid)), ..Default::default() };
    let named = |text: &str| Provider { display_name: Some(text.to_owned()), ..kind(SID) };
    let sid_fixed = "InvalidArgument INVALID_FIELD provider.twilio.account_sid";
    let in_mask = "InvalidArgument INVALID_FIELD update_mask";

    // (fields sent, mask, outcome, display name after)
    for (sent, mask, expected, after) in [
        (named("one"), &[][..], "OK", "one"),
        (kind(SID), &[], "OK", "one"),
        (kind(other_sid), &[], sid_fixed, "one"),
        (kind(SID), &["twilio"], in_mask, "one"),
        (kind(SID), &["twilio.account_sid"], in_mask, "one"),
        (named("two"), &["display_name", "nonsense"], in_mask, "one"),
        (named("two"), &["display_name"], "OK", "two"),
        (Provider::default(), &["display_name"], "OK", ""),
        (kind(other_sid), &["*"], sid_fixed, ""),
        (kind(other_sid), &["display_name"], "OK", ""),
        (named("three"), &["*"], "OK", "three"),
    ] {
        let before = acme.get_provider(&main.name).await.unwrap();
        let result = acme.update_provider(update(&main.name, sent, mask)).await;
        assert_eq!(outcome(&result), expected, "{mask:?}");
        let found = acme.get_provider(&main.name).await.unwrap();
        assert_eq!(found.display_name.as_deref(), Some(after), "{mask:?}");
        let changed = before.display_name != found.display_name;
        assert_eq!(before.etag != found.etag, changed, "an etag moves with a change only");
        assert_eq!((&found.kind, found.token_version), (&main.kind, 1));
    }
    let log = acme.audit_log("acme").await;
    assert_eq!(log.len(), 5, "one creation and four changes");
    assert_eq!(asked(&vault), 1);
}
