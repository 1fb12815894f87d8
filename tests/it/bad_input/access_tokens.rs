//! Bad input about access tokens, from a caller who may do everything there.

use credvault::grpc::proto::{
    AccessTokenPolicy, ChatGrant, DataSyncGrant, GetAccessTokenPolicyRequest,
    MintTwilioAccessTokenRequest, UpdateAccessTokenPolicyRequest, VideoGrant, VoiceGrant,
};
use prost_types::Duration;

use super::{Case, DESK, MAIN, NOT_FOUND, TOO_LARGE, each};

fn mint() -> MintTwilioAccessTokenRequest {
    MintTwilioAccessTokenRequest {
        name: MAIN.to_owned(),
        identity: "alice".to_owned(),
        video: Some(VideoGrant::default()),
        ..Default::default()
    }
}

fn voice(change: impl FnOnce(&mut VoiceGrant)) -> MintTwilioAccessTokenRequest {
    let mut voice = VoiceGrant { incoming: true, ..Default::default() };
    change(&mut voice);
    MintTwilioAccessTokenRequest { voice: Some(voice), ..mint() }
}

fn update(grants: &[i32], max_lifetime: Option<Duration>) -> UpdateAccessTokenPolicyRequest {
    let policy = AccessTokenPolicy {
        name: "accounts/acme/accessTokenPolicy".to_owned(),
        grants: grants.to_vec(),
        max_lifetime,
    };
    UpdateAccessTokenPolicyRequest { access_token_policy: Some(policy), ..Default::default() }
}

pub(super) fn cases() -> Vec<Case> {
    let names = ["", "main", DESK, "accounts/acme/providers/", "accounts/A/providers/main"];
    let absent = ["accounts/acme/providers/absent", "accounts/other/providers/main"];
    let policies =
        ["", "accounts/acme", "accounts/acme/accessTokenPolicy/", "accounts/A/accessTokenPolicy"];
    let texts = ["\n", "\u{0}", &"x".repeat(257)];
    let service = format!("IS{}", "0".repeat(32));
    let sids = ["x", "AP", "IS0", &service.to_uppercase().replace('0', "A")];
    let chat = |chat| MintTwilioAccessTokenRequest { chat: Some(chat), ..mint() };
    let sync = |sync| MintTwilioAccessTokenRequest { data_sync: Some(sync), ..mint() };
    let named = || ChatGrant { service_sid: service.clone(), ..Default::default() };
    let with_name = |name| MintTwilioAccessTokenRequest { name, ..mint() };
    let mut cases = [
        each("name", &names, "name", with_name),
        each("absent", &absent, NOT_FOUND, with_name),
        each("identity", &[&[""], &texts[..]].concat(), "identity", |identity| {
            MintTwilioAccessTokenRequest { identity, ..mint() }
        }),
        each("identity", &["alice@example.com", "a b", "é", "a-b"], "identity", |identity| {
            let voice = VoiceGrant { incoming: true, ..Default::default() };
            MintTwilioAccessTokenRequest { identity, voice: Some(voice), ..mint() }
        }),
        each("too large", &[&"x".repeat(64 * 1024)], TOO_LARGE, |identity| {
            MintTwilioAccessTokenRequest { identity, ..mint() }
        }),
        each("room", &texts, "video.room", |room| MintTwilioAccessTokenRequest {
            video: Some(VideoGrant { room }),
            ..mint()
        }),
        each("sid", &sids, "voice.outgoing_application_sid", |sid| {
            voice(|voice| voice.outgoing_application_sid = sid)
        }),
        each("sid", &sids, "voice.push_credential_sid", |sid| {
            voice(|voice| voice.push_credential_sid = sid)
        }),
        each("sid", &[&[""], &sids[..]].concat(), "chat.service_sid", |service_sid| {
            chat(ChatGrant { service_sid, ..Default::default() })
        }),
        each("sid", &sids, "chat.deployment_role_sid", |deployment_role_sid| {
            chat(ChatGrant { deployment_role_sid, ..named() })
        }),
        each("sid", &sids, "chat.push_credential_sid", |push_credential_sid| {
            chat(ChatGrant { push_credential_sid, ..named() })
        }),
        each("end point", &texts, "chat.endpoint_id", |endpoint_id| {
            chat(ChatGrant { endpoint_id, ..named() })
        }),
        each("sid", &[&[""], &sids[..]].concat(), "data_sync.service_sid", |service_sid| {
            sync(DataSyncGrant { service_sid, ..Default::default() })
        }),
        each("name", &policies, "name", |name| GetAccessTokenPolicyRequest { name }),
        each("name", &policies, "access_token_policy.name", |name| {
            let mut request = update(&[], Some(Duration { seconds: 60, nanos: 0 }));
            request.access_token_policy.as_mut().unwrap().name = name;
            request
        }),
        each("reason", &["a\nb", &"x".repeat(201)], "reason", |reason| {
            UpdateAccessTokenPolicyRequest { reason, ..update(&[], None) }
        }),
    ]
    .concat();
    for (seconds, nanos) in [
        (0, 0),
        (-1, 0),
        (86_401, 0),
        (1, 1),
        (1, -1),
        (1, 2_000_000_000),
        (i64::MAX, 0),
        (i64::MIN, 0),
    ] {
        let lifetime = Some(Duration { seconds, nanos });
        let request = MintTwilioAccessTokenRequest { lifetime, ..mint() };
        cases.push(("lifetime", request.into(), "lifetime"));
        let request = update(&[1], lifetime);
        cases.push(("lifetime", request.into(), "access_token_policy.max_lifetime"));
    }
    let day = Some(Duration { seconds: 86_400, nanos: 0 });
    let bare = MintTwilioAccessTokenRequest { video: None, ..mint() };
    let parameters = voice(|voice| {
        voice.outgoing_parameters = [("a".to_owned(), "b".to_owned())].into();
    });
    cases.extend([
        ("no grant", bare.into(), "voice"),
        ("an empty grant", voice(|voice| voice.incoming = false).into(), "voice"),
        ("parameters of nothing", parameters.into(), "voice.outgoing_parameters"),
        // The provider of these cases holds an Auth Token.
        ("no key", mint().into(), "FailedPrecondition INVALID_STATE"),
        ("grant", update(&[0], day).into(), "access_token_policy.grants"),
        ("grant", update(&[1, 6], day).into(), "access_token_policy.grants"),
        ("missing", update(&[1], None).into(), "access_token_policy.max_lifetime"),
        ("missing", UpdateAccessTokenPolicyRequest::default().into(), "access_token_policy.name"),
    ]);
    cases
}
