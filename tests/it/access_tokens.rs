//! Access tokens: a key that nobody sees signs what its account allows, and nothing else.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use credvault::access::Role;
use credvault::grpc::proto::{
    AccessTokenGrant, AccessTokenPolicy, ChatGrant, DataSyncGrant, GetAccessTokenPolicyRequest,
    MintTwilioAccessTokenRequest, MintTwilioAccessTokenResponse, TwilioApiKey,
    UpdateAccessTokenPolicyRequest, UpdateTokenRequest, VideoGrant, VoiceGrant,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::SignedDuration;
use serde_json::{Value, json};
use sha2::Sha256;
use tonic::Status;

use crate::carriers::At;
use crate::providers::{SID, TOKEN, create_provider};
use crate::support::{Clients, TestVault, outcome};
use crate::tokens::{ended, once, rotate_token, rotation_of};

const MAIN: &str = "accounts/acme/providers/main";
const KEY_SID: &str = "SK11111111111111111111111111111111";
const SECRET: &str = "22222222222222222222222222222222";
const HOUR: i64 = 3_600;

/// A vault with a provider that holds a key, which may rotate itself.
async fn with_key() -> (TestVault, Clients) {
    let vault = TestVault::start().await;
    let acme = key_in(&vault).await;
    (vault, acme)
}

async fn key_in(vault: &TestVault) -> Clients {
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    vault.twilio.add_main_key(SID, KEY_SID, SECRET);
    acme.create_provider(create_provider("main")).await.unwrap();
    let key = TwilioApiKey { sid: KEY_SID.to_owned(), secret: SECRET.to_owned() };
    let update = UpdateTokenRequest {
        name: MAIN.to_owned(),
        api_key: Some(key),
        ..UpdateTokenRequest::default()
    };
    acme.update_token(update).await.unwrap();
    acme
}

fn video() -> MintTwilioAccessTokenRequest {
    MintTwilioAccessTokenRequest {
        name: MAIN.to_owned(),
        identity: "alice@example.com".to_owned(),
        video: Some(VideoGrant { room: "lobby".to_owned() }),
        ..Default::default()
    }
}

fn for_seconds(seconds: i64) -> MintTwilioAccessTokenRequest {
    let lifetime = Some(prost_types::Duration { seconds, nanos: 0 });
    MintTwilioAccessTokenRequest { lifetime, ..video() }
}

async fn mint(
    clients: &Clients,
    request: MintTwilioAccessTokenRequest,
) -> Result<MintTwilioAccessTokenResponse, Status> {
    Ok(clients.uses.clone().mint_twilio_access_token(request).await?.into_inner())
}

/// Says what the account allows.
async fn allow(clients: &Clients, grants: &[AccessTokenGrant], seconds: i64) {
    let policy = AccessTokenPolicy {
        name: "accounts/acme/accessTokenPolicy".to_owned(),
        grants: grants.iter().map(|grant| (*grant).into()).collect(),
        max_lifetime: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let request = UpdateAccessTokenPolicyRequest {
        access_token_policy: Some(policy.clone()),
        ..Default::default()
    };
    let mut access = clients.access.clone();
    let updated = access.update_access_token_policy(request).await.unwrap().into_inner();
    assert_eq!(updated.access_token_policy, Some(policy));
}

/// Header and payload of a token that this secret signed.
fn read(token: &str, secret: &str) -> (Value, Value) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let expected = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    assert_eq!(signature, expected, "signed with another secret");
    let (header, payload) = signed.split_once('.').unwrap();
    let part = |text| {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode::<&str>(text).unwrap()).unwrap()
    };
    (part(header), part(payload))
}

#[tokio::test]
async fn a_token_is_signed_by_the_stored_key_and_recorded() {
    let (vault, acme) = with_key().await;
    let edge = vault.clients("acme", &[Role::Verifier]).await;
    allow(&acme, &[AccessTokenGrant::Video], 2 * HOUR).await;
    let minted = mint(&edge, for_seconds(600)).await.unwrap();
    let now = vault.now().as_second();
    let (header, payload) = read(&minted.token, SECRET);
    assert_eq!(header, json!({ "typ": "JWT", "alg": "HS256", "cty": "twilio-fpa;v=1" }));
    let jti = minted.jti.clone();
    let digits = jti.strip_prefix(&format!("{KEY_SID}-{now}-")).unwrap();
    assert!(digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{jti}");
    assert_ne!(mint(&edge, for_seconds(600)).await.unwrap().jti, jti, "in the same second");
    let grants = json!({ "identity": "alice@example.com", "video": { "room": "lobby" } });
    let expected = json!({
        "jti": jti, "iss": KEY_SID, "sub": SID, "nbf": now, "exp": now + 600, "grants": grants,
    });
    assert_eq!(payload, expected);
    assert_eq!(minted.version, 2);
    assert_eq!(minted.expire_time.unwrap().seconds, now + 600);
    assert!(!format!("{minted:?}").contains(&minted.token), "it is not printed by accident");

    let log = acme.audit_log("acme").await;
    let entry = log.iter().find(|entry| entry.method == "MintTwilioAccessToken").unwrap();
    assert_eq!((entry.resource.as_str(), entry.version_after), (MAIN, 2));
    assert_eq!(entry.detail, format!("{jti} for 600 s: video \"lobby\""));
    let log = format!("{log:?}");
    assert!(!log.contains("alice@example.com") && !log.contains(&minted.token));
}

#[tokio::test]
async fn nothing_is_minted_that_the_account_does_not_allow() {
    let (vault, acme) = with_key().await;
    let refused = "FailedPrecondition ACCESS_TOKEN_NOT_ALLOWED";
    let name = "accounts/acme/accessTokenPolicy".to_owned();
    let get = GetAccessTokenPolicyRequest { name };
    let at_first = acme.access.clone().get_access_token_policy(get).await.unwrap().into_inner();
    assert!(at_first.access_token_policy.unwrap().grants.is_empty());
    let status = mint(&acme, video()).await;
    assert_eq!(outcome(&status), refused, "nothing is allowed by itself");
    let said = status.unwrap_err().message().to_owned();
    assert!(said.contains("no video grant") && said.contains("UpdateAccessTokenPolicy"), "{said}");

    allow(&acme, &[AccessTokenGrant::VoiceIncoming, AccessTokenGrant::Video], HOUR / 2).await;
    let voice = |incoming, application: &str| MintTwilioAccessTokenRequest {
        identity: "alice_1".to_owned(),
        voice: Some(VoiceGrant {
            incoming,
            outgoing_application_sid: application.to_owned(),
            ..Default::default()
        }),
        ..video()
    };
    let application = format!("AP{}", "0".repeat(32));
    for (request, expected) in [
        (video(), "OK"),
        (voice(true, ""), "OK"),
        (voice(true, &application), refused),
        (voice(false, &application), refused),
        (for_seconds(HOUR / 2), "OK"),
        (for_seconds(HOUR / 2 + 1), refused),
    ] {
        assert_eq!(outcome(&mint(&acme, request.clone()).await), expected, "{request:?}");
    }
    let usual = mint(&acme, video()).await.unwrap();
    let end = usual.expire_time.unwrap().seconds;
    assert_eq!(end, vault.now().as_second() + HOUR / 2, "an hour is too long here");
    // It holds after a restart, and ends with the next word of an admin.
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    assert_eq!(outcome(&mint(&acme, video()).await), "OK");
    allow(&acme, &[], HOUR).await;
    assert_eq!(outcome(&mint(&acme, video()).await), refused);
    let other = vault.clients("other", &[Role::AccountAdmin, Role::Verifier]).await;
    assert_eq!(outcome(&mint(&other, video()).await), "NotFound NOT_FOUND");
}

#[tokio::test]
async fn each_grant_is_allowed_by_its_name_and_says_all_that_was_asked_for() {
    let (_vault, acme) = with_key().await;
    let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
    let outgoing_parameters = BTreeMap::from([("queue".to_owned(), "7".to_owned())]);
    let asked = || MintTwilioAccessTokenRequest {
        name: MAIN.to_owned(),
        identity: "alice_1".to_owned(),
        ..Default::default()
    };
    let voice = VoiceGrant {
        outgoing_application_sid: sid("AP", "1"),
        outgoing_parameters,
        push_credential_sid: sid("CR", "2"),
        ..Default::default()
    };
    let incoming = VoiceGrant { incoming: true, ..Default::default() };
    let chat = ChatGrant {
        service_sid: sid("IS", "3"),
        endpoint_id: "phone 4".to_owned(),
        deployment_role_sid: sid("RL", "5"),
        push_credential_sid: sid("CR", "6"),
    };
    let sync = DataSyncGrant { service_sid: sid("IS", "7"), endpoint_id: "phone 8".to_owned() };
    let cases = [
        (
            AccessTokenGrant::VoiceIncoming,
            MintTwilioAccessTokenRequest { voice: Some(incoming), ..asked() },
            json!({ "voice": { "incoming": { "allow": true } } }),
        ),
        (
            AccessTokenGrant::VoiceOutgoing,
            MintTwilioAccessTokenRequest { voice: Some(voice), ..asked() },
            json!({ "voice": {
                "outgoing": { "application_sid": sid("AP", "1"), "params": { "queue": "7" } },
                "push_credential_sid": sid("CR", "2"),
            } }),
        ),
        (
            AccessTokenGrant::Video,
            MintTwilioAccessTokenRequest { video: Some(VideoGrant::default()), ..asked() },
            json!({ "video": {} }),
        ),
        (
            AccessTokenGrant::Chat,
            MintTwilioAccessTokenRequest { chat: Some(chat), ..asked() },
            json!({ "chat": {
                "service_sid": sid("IS", "3"), "endpoint_id": "phone 4",
                "deployment_role_sid": sid("RL", "5"), "push_credential_sid": sid("CR", "6"),
            } }),
        ),
        (
            AccessTokenGrant::DataSync,
            MintTwilioAccessTokenRequest { data_sync: Some(sync), ..asked() },
            json!({ "data_sync": { "service_sid": sid("IS", "7"), "endpoint_id": "phone 8" } }),
        ),
    ];
    for (allowed, ..) in &cases {
        allow(&acme, &[*allowed], HOUR).await;
        for (grant, request, expected) in &cases {
            let minted = mint(&acme, request.clone()).await;
            if grant != allowed {
                let refused = "FailedPrecondition ACCESS_TOKEN_NOT_ALLOWED";
                assert_eq!(outcome(&minted), refused, "{grant:?} where {allowed:?} is allowed");
                continue;
            }
            let (_, payload) = read(&minted.unwrap().token, SECRET);
            let mut grants = payload["grants"].clone();
            assert_eq!(grants.as_object_mut().unwrap().remove("identity"), Some(json!("alice_1")));
            assert_eq!(grants, *expected);
        }
    }
}

#[tokio::test]
async fn an_account_mints_so_many_a_minute() {
    let vault = TestVault::start_with(|options, _| options.limits_access_tokens = Some(2)).await;
    let acme = key_in(&vault).await;
    allow(&acme, &[AccessTokenGrant::Video], HOUR).await;
    let limited = "ResourceExhausted RATE_LIMITED retry 30s";
    for expected in ["OK", "OK", limited, limited] {
        assert_eq!(outcome(&mint(&acme, video()).await), expected);
    }
    vault.clock.advance(SignedDuration::from_secs(30));
    assert_eq!(outcome(&mint(&acme, video()).await), "OK");
}

#[tokio::test]
async fn what_signs_no_tokens_says_what_to_do() {
    let (vault, acme) = with_key().await;
    allow(&acme, &[AccessTokenGrant::Video], HOUR).await;
    At::Vobiz.add_account(&vault);
    let vobiz = acme.create_provider(At::Vobiz.create("india")).await.unwrap();
    let auth_token = acme.create_provider(create_provider("token")).await.unwrap();
    for name in [vobiz.name, auth_token.name] {
        let refused = mint(&acme, MintTwilioAccessTokenRequest { name, ..video() }).await;
        assert_eq!(outcome(&refused), "FailedPrecondition INVALID_STATE");
        assert!(refused.unwrap_err().message().contains("Main or a Standard key"));
    }
}

#[tokio::test]
async fn a_key_that_is_rotated_signs_until_another_takes_its_place() {
    let (vault, acme) = with_key().await;
    allow(&acme, &[AccessTokenGrant::Video], HOUR).await;
    let begun = rotate_token(&acme, rotation_of(MAIN)).await.unwrap().rotation.unwrap();
    once(&acme, &begun.name, |it| it.state().as_str_name().ends_with("HOLDING")).await;
    let (_, payload) = read(&mint(&acme, video()).await.unwrap().token, SECRET);
    assert_eq!(payload["iss"], KEY_SID);
    vault.clock.advance(SignedDuration::from_mins(1));
    ended(&acme, &begun.name).await;
    let minted = mint(&acme, video()).await.unwrap();
    assert_eq!(minted.version, 3);
    assert!(!minted.jti.starts_with(KEY_SID), "{}", minted.jti);
}
