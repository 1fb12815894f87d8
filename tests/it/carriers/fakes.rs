//! What the small carriers do when a secret is rotated, and when the answer to that is lost.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{AUTH_ID, SID};
use crate::operations::http;
use crate::support::fakes::carrier::{Carrier, Fake, Fault};
use crate::support::fakes::telepath::FakeTelepath;
use crate::support::fakes::twilio::{FakeTwilio, SecondSecondary};
use crate::support::fakes::vobiz::FakeVobiz;

/// The status and the JSON of an answer; None: it was lost.
async fn ask<C: Carrier>(
    fake: &Fake<C>,
    line: &str,
    headers: &str,
    body: &str,
) -> Option<(u16, Value)> {
    let address = fake.url().strip_prefix("http://")?.parse().ok()?;
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let reply = http::send(address, &request).await?;
    Some((reply.status, serde_json::from_str(&reply.body).unwrap_or_default()))
}

fn basic(user: &str, password: &str) -> String {
    format!("authorization: Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn vobiz_updates_a_credential_and_shows_no_password() {
    let vobiz = FakeVobiz::start().await;
    vobiz.add_account(AUTH_ID, "token");
    let id = vobiz.add_credential(AUTH_ID, "one", "Passw0rd-one");
    let headers = format!("x-auth-id: {AUTH_ID}\r\nx-auth-token: token");
    let put = async |id: &str, body: Value| {
        let line = format!("PUT /api/v1/Account/{AUTH_ID}/credentials/{id}");
        ask(&vobiz, &line, &headers, &body.to_string()).await
    };
    vobiz.advance(SignedDuration::from_secs(1));
    let (status, body) = put(&id, json!({"password": "Passw0rd-two"})).await.unwrap();
    assert_eq!((status, &body["password"]), (200, &json!("<redacted>")));
    assert_eq!(body["realm"], format!("{AUTH_ID}.sip.vobiz.ai"));
    assert_eq!(body["created_at"], "2026-05-12T05:11:51.635107Z");
    assert_eq!(body["updated_at"], "2026-05-12T05:11:52.635107Z");
    assert!(vobiz.accepts("one", "Passw0rd-two") && !vobiz.accepts("one", "Passw0rd-one"));

    for (id, body, expected) in [
        ("another", json!({"password": "Passw0rd-3"}), 404),
        (&*id, json!({"password": "short"}), 400),
        (&*id, json!({"enabled": "yes"}), 400),
        (&*id, json!({"enabled": false, "description": "x"}), 200),
    ] {
        assert_eq!(put(id, body.clone()).await.unwrap().0, expected, "{body}");
    }
    assert!(!vobiz.accepts("one", "Passw0rd-two"), "it is not enabled");
    assert_eq!(put(&id, json!({"enabled": true})).await.unwrap().0, 200);
    vobiz.set_password_required(true);
    assert_eq!(put(&id, json!({"enabled": false})).await.unwrap().0, 400);
    assert!(vobiz.accepts("one", "Passw0rd-two"));

    // The answer is lost, before anything is done and after.
    for (fault, done) in [
        (Fault::CloseBeforeAnswer, false),
        (Fault::ResetBeforeAnswer, false),
        (Fault::Status(500), false),
        (Fault::CloseAfterEffect, true),
        (Fault::ResetAfterEffect, true),
        (Fault::HalfHead, true),
    ] {
        let reset = json!({"password": "Passw0rd-old"});
        assert_eq!(put(&id, reset).await.unwrap().0, 200);
        let lost = !matches!(fault, Fault::Status(_));
        // The second of these calls from here.
        vobiz.fail_call("PUT /api/v1/Account/", 1, fault.clone());
        assert_eq!(put(&id, json!({})).await.unwrap().0, 400, "the first");
        let answer = put(&id, json!({"password": "Passw0rd-new"})).await;
        assert_eq!(answer.is_none(), lost, "{fault:?}");
        assert_eq!(vobiz.accepts("one", "Passw0rd-new"), done, "{fault:?}");
        assert_eq!(vobiz.accepts("one", "Passw0rd-old"), !done, "{fault:?}");
        assert_eq!(put(&id, json!({"password": "Passw0rd-new"})).await.unwrap().0, 200);
    }

    let line = format!("POST /api/v1/account/{AUTH_ID}/credentials");
    let new = json!({"username": "two", "password": "Passw0rd-two"}).to_string();
    let (status, created) = ask(&vobiz, &line, &headers, &new).await.unwrap();
    assert_eq!((status, &created["enabled"]), (201, &json!(true)));
    assert_eq!(ask(&vobiz, &line, &headers, &new).await.unwrap().0, 409);
    let id = created["id"].as_str().unwrap();
    let line = format!("DELETE /api/v1/Account/{AUTH_ID}/credentials/{id}");
    for expected in [204, 404] {
        assert_eq!(ask(&vobiz, &line, &headers, "").await.unwrap().0, expected);
    }
    let wrong = format!("x-auth-id: {AUTH_ID}\r\nx-auth-token: other");
    assert_eq!(ask(&vobiz, &line, &wrong, "").await.unwrap().0, 401);
}

#[tokio::test]
async fn telepath_makes_a_password_shows_it_once_and_the_old_one_is_dead_at_once() {
    let telepath = FakeTelepath::start().await;
    telepath.add_account("key");
    let id = telepath.add_trunk("key", "agent", "Passw0rd-one");
    let headers = "authorization: Bearer key";
    let rotate = async |path: &str| {
        ask(&telepath, &format!("POST /v1/trunks/{id}/{path}"), headers, "").await
    };
    let (status, body) = rotate("rotate-password").await.unwrap();
    let password = body["sip_password"].as_str().unwrap();
    assert_eq!((status, &body["id"], &body["sip_username"]), (200, &json!(id), &json!("agent")));
    assert_eq!(body["rotated_at"], "2026-05-12T05:11:51Z");
    assert!(telepath.accepts("agent", password) && !telepath.accepts("agent", "Passw0rd-one"));

    telepath.fail_next(Fault::CloseBeforeAnswer);
    assert!(rotate("rotate-password").await.is_none());
    assert!(telepath.accepts("agent", password), "nothing was done");
    telepath.fail_next(Fault::CloseAfterEffect);
    assert!(rotate("rotate-password").await.is_none());
    assert!(
        !telepath.accepts("agent", password),
        "the old one is dead, and nobody has the new one"
    );
    let (_, body) = rotate("rotate-password").await.unwrap();
    assert!(telepath.accepts("agent", body["sip_password"].as_str().unwrap()));
    assert_eq!(telepath.calls_to("POST /v1/trunks/"), 4);

    let (status, body) =
        ask(&telepath, &format!("GET /v1/trunks/{id}"), headers, "").await.unwrap();
    assert_eq!((status, &body["sip_password"]), (200, &Value::Null));
    assert_eq!(rotate("rotate-sip-password").await.unwrap().0, 404);
    telepath.set_rotate_path("rotate-sip-password");
    assert_eq!(rotate("rotate-sip-password").await.unwrap().0, 200);
    assert_eq!(rotate("rotate-password").await.unwrap().0, 404);

    let new = json!({
        "name": "x", "ai_provider": "openai", "sip_username": "agent-2", "sip_password": "Passw0rd",
    });
    let (status, body) =
        ask(&telepath, "POST /v1/trunks", headers, &new.to_string()).await.unwrap();
    assert_eq!(
        (status, &body["sip_endpoint"]),
        (201, &json!("sip://agent-2@sip.telepathvoice.com"))
    );
    assert!(telepath.accepts("agent-2", "Passw0rd"));
}

#[tokio::test]
async fn twilio_has_two_tokens_until_one_is_promoted() {
    let twilio = FakeTwilio::start().await;
    let old = "a".repeat(32);
    twilio.add_account(SID, &old);
    twilio.set_token_delay(SignedDuration::from_mins(1));
    let tokens = async |line: &str, token: &str| {
        let line = line.replace("TOKENS", "/v1/AuthTokens");
        ask(&twilio, &line, &basic(SID, token), "").await.unwrap()
    };
    let promote = "POST TOKENS/Promote";
    let (status, body) = tokens(promote, &old).await;
    assert_eq!((status, &body["code"]), (404, &json!(20_404)));
    assert_eq!(tokens("DELETE TOKENS/Secondary", &old).await.0, 404);
    let (status, body) = tokens("POST TOKENS/Secondary", &old).await;
    let new = body["secondary_auth_token"].as_str().unwrap().to_owned();
    assert_eq!((status, new.len(), &body["account_sid"]), (201, 32, &json!(SID)));

    // It takes a minute to be known everywhere.
    assert_eq!(tokens(promote, &new).await.0, 401);
    assert!(!twilio.accepts_token(SID, &new));
    twilio.advance(SignedDuration::from_mins(1));
    assert!(twilio.accepts_token(SID, &new) && twilio.accepts_token(SID, &old));
    assert_eq!(tokens("POST TOKENS/Secondary", &new).await.0, 401, "by the primary one only");

    // A second one, in both ways; then it is dropped, and made again.
    twilio.set_second_secondary(SecondSecondary::IsRefused(400));
    assert_eq!(tokens("POST TOKENS/Secondary", &old).await.0, 400);
    assert_eq!(twilio.tokens_of(SID), (Some(old.clone()), Some(new.clone())));
    twilio.set_second_secondary(SecondSecondary::Replaces);
    assert_eq!(tokens("POST TOKENS/Secondary", &old).await.0, 201);
    assert!(!twilio.accepts_token(SID, &new));
    assert_eq!(tokens("DELETE TOKENS/Secondary", &old).await.0, 204);
    assert_eq!(twilio.tokens_of(SID), (Some(old.clone()), None));

    let (_, body) = tokens("POST TOKENS/Secondary", &old).await;
    let new = body["secondary_auth_token"].as_str().unwrap().to_owned();
    twilio.advance(SignedDuration::from_mins(1));
    let (status, body) = tokens(promote, &new).await;
    assert_eq!((status, &body["auth_token"]), (200, &json!(new)));
    assert!(!twilio.accepts_token(SID, &old));
    assert_eq!(tokens(promote, &new).await.0, 404, "it was done before");
    assert_eq!(tokens(promote, &old).await.0, 401);
}

#[tokio::test]
async fn twilio_keeps_sip_credentials_and_api_keys() {
    let twilio = FakeTwilio::start().await;
    let token = "a".repeat(32);
    twilio.add_account(SID, &token);
    let ask = async |line: &str, body: &str| {
        let line = line.replace("ACCOUNT", &format!("/2010-04-01/Accounts/{SID}"));
        ask(&twilio, &line, &basic(SID, &token), body).await.unwrap()
    };
    let (_, list) = ask("POST ACCOUNT/SIP/CredentialLists.json", "FriendlyName=mine").await;
    let list = list["sid"].as_str().unwrap();
    let credentials = format!("ACCOUNT/SIP/CredentialLists/{list}/Credentials");
    let create = format!("POST {credentials}.json");
    let (status, made) = ask(&create, "Username=desk&Password=Passw0rd%26long").await;
    assert_eq!((status, &made["username"], &made["password"]), (201, &json!("desk"), &Value::Null));
    assert!(twilio.accepts("desk", "Passw0rd&long"));
    let one = format!("{credentials}/{}.json", made["sid"].as_str().unwrap());
    for weak in ["Passw0rd", "passw0rd-long", "PASSW0RD-LONG", "Password-long"] {
        let (status, body) = ask(&format!("POST {one}"), &format!("Password={weak}")).await;
        assert_eq!((status, &body["code"]), (400, &json!(21_240)), "{weak}");
    }
    let (status, body) = ask(&format!("POST {one}"), "Password=Passw0rd-longer").await;
    assert_eq!((status, &body["sid"]), (200, &made["sid"]));
    assert!(twilio.accepts("desk", "Passw0rd-longer") && !twilio.accepts("desk", "Passw0rd&long"));
    assert_eq!(ask(&format!("DELETE {one}"), "").await.0, 204);
    assert_eq!(ask(&format!("DELETE {one}"), "").await.0, 404);
    assert!(!twilio.accepts("desk", "Passw0rd-longer"));

    let (status, key) = ask("POST /v1/Keys", &format!("AccountSid={SID}&FriendlyName=x")).await;
    let sid = key["sid"].as_str().unwrap();
    assert_eq!((status, twilio.api_keys(SID)), (201, vec![sid.to_owned()]));
    assert!(twilio.accepts_token(SID, key["secret"].as_str().unwrap()));
    assert_eq!(ask(&format!("DELETE ACCOUNT/Keys/{sid}.json"), "").await.0, 204);
    assert_eq!(ask(&format!("DELETE ACCOUNT/Keys/{sid}.json"), "").await.0, 404);
    assert!(twilio.api_keys(SID).is_empty());
}
