//! Webhooks: what Twilio signed is told from what it did not, at every moment of a token's life.

use credvault::access::Role;
use credvault::grpc::proto::verify_twilio_webhook_request::Content;
use credvault::grpc::proto::{
    RotationState, TwilioApiKey, UpdateTokenRequest, VerifyTwilioWebhookRequest, VersionState,
    WebhookField, WebhookForm,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::SignedDuration;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::at_carriers::resume;
use crate::carriers::At;
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider, update_token};
use crate::rotations::{cancel, get};
use crate::support::fakes::carrier::Fault;
use crate::support::{Clients, TestVault, outcome};
use crate::tokens::{PROMOTE, ended, once, rotate_token, rotation_of};

const MAIN: &str = "accounts/acme/providers/main";
pub(crate) const URL: &str = "https://example.com/voice?tenant=7";
pub(crate) const CALL: [(&str, &str); 3] =
    [("To", "+15550100"), ("CallSid", "CA1"), ("From", "+15550101")];
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What Twilio puts into its header, computed apart from the service's own code.
pub(crate) fn sign(token: &str, url: &str, fields: &[(&str, &str)]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let mut data = url.to_owned();
    let in_order: std::collections::BTreeSet<_> = fields.iter().collect();
    for (name, value) in in_order {
        data.extend([*name, *value]);
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).unwrap();
    mac.update(data.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

pub(crate) fn form(fields: &[(&str, &str)]) -> Content {
    let fields = fields
        .iter()
        .map(|(name, value)| WebhookField { name: (*name).to_owned(), value: (*value).to_owned() });
    Content::Form(WebhookForm { fields: fields.collect() })
}

pub(crate) fn request(
    url: &str,
    content: impl Into<Option<Content>>,
    signature: &str,
) -> VerifyTwilioWebhookRequest {
    VerifyTwilioWebhookRequest {
        name: MAIN.to_owned(),
        url: url.to_owned(),
        content: content.into(),
        signature: signature.to_owned(),
    }
}

/// The verdict in words: version and state, or the fault.
pub(crate) async fn verdict(clients: &Clients, request: VerifyTwilioWebhookRequest) -> String {
    let answer = clients.uses.clone().verify_twilio_webhook(request).await;
    let Ok(answer) = answer else { return outcome(&answer) };
    let answer = answer.into_inner();
    let (version, state, fault) = (answer.version, answer.version_state(), answer.fault());
    if answer.valid {
        format!("{version} {state:?} {}", if answer.fault == 0 { "" } else { "?" })
            .trim()
            .to_owned()
    } else {
        assert_eq!((version, state), (0, VersionState::Unspecified));
        format!("{fault:?}")
    }
}

/// The verdict on a call that `token` signed.
async fn of(clients: &Clients, token: &str) -> String {
    verdict(clients, request(URL, form(&CALL), &sign(token, URL, &CALL))).await
}

/// A vault with a provider at Twilio, and a client that may do all with it.
async fn with_main() -> (TestVault, Clients) {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    acme.create_provider(create_provider("main")).await.unwrap();
    (vault, acme)
}

#[tokio::test]
async fn what_twilio_did_not_sign_is_told_and_how() {
    let (vault, acme) = with_main().await;
    let edge = vault.clients("acme", &[Role::Verifier]).await;
    let good = sign(TOKEN, URL, &CALL);
    let reversed: Vec<_> = CALL.into_iter().rev().chain([CALL[0]]).collect();
    for (content, signature, expected) in [
        (Some(form(&CALL)), &*good, "1 Active"),
        (Some(form(&reversed)), &good, "1 Active"),
        (Some(form(&CALL)), "", "NotSigned"),
        (Some(form(&CALL)), &sign(TOKEN_2, URL, &CALL), "WrongSignature"),
        (Some(form(&CALL)), "x", "WrongSignature"),
        (Some(form(&CALL)), &good[1..], "WrongSignature"),
        (Some(form(&CALL[1..])), &good, "WrongSignature"),
        (None, &good, "WrongSignature"),
        (None, "", "NotSigned"),
        (None, &sign(TOKEN, URL, &[]), "1 Active"),
        (Some(form(&[])), &sign(TOKEN, URL, &[]), "1 Active"),
        // A signature of the URL alone binds no body.
        (Some(Content::Body(b"{}".to_vec())), &sign(TOKEN, URL, &[]), "WrongBody"),
        (Some(Content::Body(Vec::new())), &sign(TOKEN, URL, &[]), "WrongBody"),
    ] {
        let asked = request(URL, content, signature);
        assert_eq!(verdict(&edge, asked.clone()).await, expected, "{asked:?}");
    }
    let hash = hex::encode(Sha256::digest(b"{\"a\": 1}"));
    let url = format!("{URL}&bodySHA256={hash}");
    let signature = sign(TOKEN, &url, &[]);
    let body = |text: &str| Some(Content::Body(text.as_bytes().to_vec()));
    // Where the URL names a body, nothing else is taken in its place.
    for (content, expected) in [
        (body("{\"a\": 1}"), "1 Active"),
        (body("{\"a\": 2}"), "WrongBody"),
        (Some(form(&CALL)), "WrongSignature"),
        (Some(form(&[])), "WrongBody"),
        (None, "WrongBody"),
    ] {
        assert_eq!(verdict(&edge, request(&url, content, &signature)).await, expected);
    }
    // Behind a proxy the port may have gone, or come.
    let with_port = URL.replace(".com", ".com:443");
    let asked = request(URL, form(&CALL), &sign(TOKEN, &with_port, &CALL));
    assert_eq!(verdict(&edge, asked).await, "1 Active");
    let log = acme.audit_log("acme").await;
    assert!(log.iter().all(|entry| entry.method != "VerifyTwilioWebhook"), "it changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_primary_signs_verifies_before_during_and_after_a_rotation() {
    let (vault, acme) = with_main().await;
    let primary = || vault.twilio.tokens_of(SID).0.unwrap();
    assert_eq!(of(&acme, &primary()).await, "1 Active");
    vault.twilio.fail_call(PROMOTE, 0, Fault::CloseAfterEffect);
    let begun = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
    assert_eq!(begun.state(), RotationState::Holding);
    let secondary = vault.twilio.tokens_of(SID).1.unwrap();
    // Twilio does not sign with it yet, but when it will is Twilio's to say.
    assert_eq!(of(&acme, &primary()).await, "1 Active");
    assert_eq!(of(&acme, &secondary).await, "2 Pending");

    // Promoted there, and the answer is lost: here the old one is still the active one.
    vault.clock.advance(MINUTE);
    once(&acme, &begun.name, |it| it.uncertain).await;
    assert_eq!(primary(), secondary);
    assert_eq!(acme.get_provider(MAIN).await.unwrap().token_version, 1);
    assert_eq!(of(&acme, &primary()).await, "2 Pending");
    assert_eq!(of(&acme, TOKEN).await, "1 Active", "signed before the promotion");

    resume(&acme, &begun.name).await.unwrap();
    assert_eq!(ended(&acme, &begun.name).await.state(), RotationState::Succeeded);
    assert_eq!(of(&acme, &primary()).await, "2 Active");
    assert_eq!(of(&acme, TOKEN).await, "1 Retiring", "what was under way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_never_stop_find_no_gap_in_a_rotation() {
    let (vault, acme) = with_main().await;
    let vault = std::sync::Arc::new(vault);
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let (checking, checker) = (std::sync::Arc::clone(&vault), acme.clone());
    let checks = tokio::spawn(async move {
        let (mut count, mut met) = (0, std::collections::BTreeSet::new());
        while !*stopped.borrow_and_update() {
            let primary = checking.twilio.tokens_of(SID).0.unwrap();
            let found = of(&checker, &primary).await;
            let valid = [" Active", " Pending", " Retiring"].iter().any(|it| found.ends_with(it));
            assert!(valid, "{found} after {count} checks: {met:?}");
            met.insert(found);
            count += 1;
        }
        (count, met)
    });
    for version in 2..=6 {
        let begun = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
        once(&acme, &begun.name, |it| it.state() == RotationState::Holding).await;
        vault.clock.advance(MINUTE);
        assert_eq!(ended(&acme, &begun.name).await.version, version);
    }
    stop.send(true).unwrap();
    let (count, met) = checks.await.unwrap();
    println!("{count} checks beside 5 rotations: {met:?}");
    assert!(count >= 20 && met.len() > 5, "{count}: {met:?}");
}

#[tokio::test]
async fn an_old_token_verifies_what_was_under_way_and_no_more() {
    let (vault, acme) = with_main().await;
    let begun = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
    vault.clock.advance(MINUTE);
    ended(&acme, &begun.name).await;
    vault.clock.advance(MINUTE * 5 - SignedDuration::from_micros(1));
    assert_eq!(of(&acme, TOKEN).await, "1 Retiring");
    vault.clock.advance(SignedDuration::from_micros(1));
    assert_eq!(of(&acme, TOKEN).await, "WrongSignature");
    assert_eq!(vault.column::<i64>("SELECT count(*) FROM secret_version"), [1], "it is still kept");
    let second = vault.twilio.tokens_of(SID).0.unwrap();
    assert_eq!(of(&acme, &second).await, "2 Active");

    // Whoever brings another token fears for all before.
    let begun = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
    vault.clock.advance(MINUTE);
    ended(&acme, &begun.name).await;
    assert_eq!(of(&acme, &second).await, "2 Retiring");
    let third = vault.twilio.tokens_of(SID).0.unwrap();
    vault.twilio.set_token(SID, TOKEN_2);
    acme.update_token(update_token(MAIN, TOKEN_2)).await.unwrap();
    assert_eq!(of(&acme, TOKEN_2).await, "4 Active");
    for old in [&*second, &third, TOKEN] {
        assert_eq!(of(&acme, old).await, "WrongSignature");
    }
}

#[tokio::test]
async fn a_token_that_was_given_up_verifies_nothing() {
    let (vault, acme) = with_main().await;
    let begun = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
    let secondary = vault.twilio.tokens_of(SID).1.unwrap();
    assert_eq!(of(&acme, &secondary).await, "2 Pending");
    cancel(&acme, &begun.name).await.unwrap();
    assert_eq!(
        get(&acme, &begun.name).await.unwrap().rotation.unwrap().state(),
        RotationState::Cancelled
    );
    assert_eq!(of(&acme, &secondary).await, "WrongSignature");
    assert_eq!(of(&acme, TOKEN).await, "1 Active");
}

#[tokio::test]
async fn what_signs_no_webhooks_says_what_to_do() {
    let (vault, acme) = with_main().await;
    let (sid, secret) = (format!("SK{}", "1".repeat(32)), "1".repeat(32));
    vault.twilio.add_api_key(SID, &sid, &secret);
    let update = UpdateTokenRequest {
        name: MAIN.to_owned(),
        api_key: Some(TwilioApiKey { sid, secret: secret.clone() }),
        ..UpdateTokenRequest::default()
    };
    acme.update_token(update).await.unwrap();
    At::Vobiz.add_account(&vault);
    let vobiz = acme.create_provider(At::Vobiz.create("india")).await.unwrap();
    for (name, means) in [(MAIN, "holds an API key"), (&vobiz.name, "not at Twilio")] {
        // Signed or not: it is the provider that is the wrong one.
        for signature in ["", &sign(&secret, URL, &CALL)] {
            let asked = VerifyTwilioWebhookRequest {
                name: name.to_owned(),
                ..request(URL, form(&CALL), signature)
            };
            let refused = acme.uses.clone().verify_twilio_webhook(asked).await;
            assert_eq!(outcome(&refused), "FailedPrecondition INVALID_STATE");
            let said = refused.unwrap_err().message().to_owned();
            assert!(said.contains(means), "{said}");
        }
    }
}

#[tokio::test]
async fn half_a_mebibyte_is_verified_and_a_byte_more_is_refused() {
    use prost::Message as _;
    const MOST: usize = 512 * 1024;
    let (_vault, acme) = with_main().await;
    let body = |length: usize| {
        let body = vec![b'x'; length];
        let url = format!("{URL}&bodySHA256={}", hex::encode(Sha256::digest(&body)));
        request(&url, Some(Content::Body(body)), &sign(TOKEN, &url, &[]))
    };
    let around = body(MOST).encoded_len() - MOST;
    let largest = body(MOST - around);
    assert_eq!(largest.encoded_len(), MOST);
    assert_eq!(verdict(&acme, largest).await, "1 Active");
    let too_large = "ResourceExhausted MESSAGE_TOO_LARGE";
    assert_eq!(verdict(&acme, body(MOST - around + 1)).await, too_large);
}

#[tokio::test]
async fn two_thousand_fields_are_verified_and_one_more_is_refused() {
    let (_vault, acme) = with_main().await;
    let long = "é".repeat(100);
    let names: Vec<_> = (0..=2_000).map(|number| format!("f{number}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();
    let of = |fields: &[(&str, &str)]| request(URL, form(fields), &sign(TOKEN, URL, fields));
    assert_eq!(verdict(&acme, of(&fields[..2_000])).await, "1 Active");
    let too_large = "ResourceExhausted MESSAGE_TOO_LARGE";
    assert_eq!(verdict(&acme, of(&fields)).await, too_large);
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_mistakes_about_signatures_are_caught() {
    for (defect, test, sign) in [
        ("trust-unsigned", "what_twilio_did_not_sign_is_told_and_how", "NotSigned"),
        ("keep-duplicates", "what_twilio_did_not_sign_is_told_and_how", "WrongSignature"),
        ("trust-old-token", "an_old_token_verifies_what_was_under_way_and_no_more", "1 Retiring"),
    ] {
        let said = crate::support::process::caught(&format!("webhooks::{test}"), defect);
        assert!(said.contains(sign), "{defect}: {said}");
    }
}
