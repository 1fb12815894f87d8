//! Twilio Access Tokens on the wire, and what an account allows in them.

use jiff::SignedDuration;

use super::{field, timestamp};
use crate::access_token::{
    AccessTokenPolicy, Grant, Grants, Identity, Incoming, Label, Lifetime, Minted, Outgoing,
    Service, Sid, Video, Voice,
};
use crate::account::Account;
use crate::grpc::proto;
use crate::name::{AccountName, Invalid, ResourceId};
use crate::vault::Error;

/// What a token is to be for, and for how long.
pub(in crate::grpc) fn grants(
    request: proto::MintTwilioAccessTokenRequest,
) -> Result<(Grants, Option<Lifetime>), Error> {
    let grants = Grants {
        identity: field("identity", &request.identity, Identity::parse)?,
        voice: request.voice.map(voice).transpose()?,
        video: request.video.map(video).transpose()?,
        chat: request.chat.map(chat).transpose()?,
        data_sync: request.data_sync.map(data_sync).transpose()?,
    };
    if grants.voice.is_some() && !grants.identity.is_for_voice() {
        let rule = Invalid("must be letters, digits and _ with voice");
        return Err(Error::field("identity", rule));
    }
    if grants.named().next().is_none() {
        return Err(Error::field("voice", Invalid("or another grant is required")));
    }
    let lifetime = request.lifetime.map(|time| lifetime("lifetime", time)).transpose()?;
    Ok((grants, lifetime))
}

fn voice(grant: proto::VoiceGrant) -> Result<Voice, Error> {
    let application = sid("voice.outgoing_application_sid", "AP", &grant.outgoing_application_sid)?;
    let voice = Voice {
        incoming: grant.incoming.then_some(Incoming { allow: true }),
        outgoing: application.map(|application_sid| Outgoing {
            application_sid,
            params: grant.outgoing_parameters.clone(),
        }),
        push_credential_sid: sid("voice.push_credential_sid", "CR", &grant.push_credential_sid)?,
    };
    if voice.outgoing.is_none() && !grant.outgoing_parameters.is_empty() {
        let rule = Invalid("needs outgoing_application_sid");
        return Err(Error::field("voice.outgoing_parameters", rule));
    }
    if voice.incoming.is_none() && voice.outgoing.is_none() {
        let rule = Invalid("must be incoming, or have an outgoing_application_sid, or both");
        return Err(Error::field("voice", rule));
    }
    Ok(voice)
}

fn video(grant: proto::VideoGrant) -> Result<Video, Error> {
    Ok(Video { room: label("video.room", &grant.room)? })
}

fn chat(grant: proto::ChatGrant) -> Result<Service, Error> {
    Ok(Service {
        service_sid: service("chat.service_sid", &grant.service_sid)?,
        endpoint_id: label("chat.endpoint_id", &grant.endpoint_id)?,
        deployment_role_sid: sid("chat.deployment_role_sid", "RL", &grant.deployment_role_sid)?,
        push_credential_sid: sid("chat.push_credential_sid", "CR", &grant.push_credential_sid)?,
    })
}

fn data_sync(grant: proto::DataSyncGrant) -> Result<Service, Error> {
    Ok(Service {
        service_sid: service("data_sync.service_sid", &grant.service_sid)?,
        endpoint_id: label("data_sync.endpoint_id", &grant.endpoint_id)?,
        deployment_role_sid: None,
        push_credential_sid: None,
    })
}

fn service(path: &str, text: &str) -> Result<Sid, Error> {
    field(path, text, |text| Sid::parse("IS", text))
}

/// A SID that may be left out.
fn sid(path: &str, prefix: &str, text: &str) -> Result<Option<Sid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    field(path, text, |text| Sid::parse(prefix, text)).map(Some)
}

/// A text that may be left out.
fn label(path: &str, text: &str) -> Result<Option<Label>, Error> {
    if text.is_empty() { Ok(None) } else { field(path, text, Label::parse).map(Some) }
}

fn lifetime(path: &str, time: prost_types::Duration) -> Result<Lifetime, Error> {
    // Wholly inside of it, nanoseconds as well, or it would be cut off in silence.
    let inside = (0..1_000_000_000).contains(&time.nanos) && time.seconds >= 0;
    let time = inside.then(|| SignedDuration::new(time.seconds, time.nanos));
    Lifetime::parse(time.unwrap_or_default()).map_err(|rule| Error::field(path, rule))
}

/// The one answer that carries a minted token.
#[expect(clippy::disallowed_methods, reason = "the one way out of a minted token")]
pub(in crate::grpc) fn minted_to_wire(
    (minted, version): (Minted, u64),
) -> proto::MintTwilioAccessTokenResponse {
    proto::MintTwilioAccessTokenResponse {
        token: minted.token.expose().to_owned(),
        jti: minted.jti,
        expire_time: Some(timestamp(minted.expire_time)),
        version: super::count(version),
    }
}

/// The account of a policy.
pub(in crate::grpc) fn policy_account(path: &str, text: &str) -> Result<ResourceId, Error> {
    const SHAPE: Invalid = Invalid("must have the form accounts/{account}/accessTokenPolicy");
    field(path, text, |text| {
        let account = text.strip_suffix("/accessTokenPolicy").ok_or(SHAPE)?;
        AccountName::parse(account).map(|name| name.0).map_err(|_| SHAPE)
    })
}

/// What is to be allowed.
pub(in crate::grpc) fn policy(
    policy: &proto::AccessTokenPolicy,
) -> Result<AccessTokenPolicy, Error> {
    const LIFETIME: &str = "access_token_policy.max_lifetime";
    let grant = |grant| match grant {
        proto::AccessTokenGrant::Unspecified => None,
        proto::AccessTokenGrant::VoiceIncoming => Some(Grant::VoiceIncoming),
        proto::AccessTokenGrant::VoiceOutgoing => Some(Grant::VoiceOutgoing),
        proto::AccessTokenGrant::Video => Some(Grant::Video),
        proto::AccessTokenGrant::Chat => Some(Grant::Chat),
        proto::AccessTokenGrant::DataSync => Some(Grant::DataSync),
    };
    let known = |number: &i32| proto::AccessTokenGrant::try_from(*number).ok().and_then(grant);
    let grants: Option<Vec<_>> = policy.grants.iter().map(known).collect();
    let unknown = || Error::field("access_token_policy.grants", Invalid("must be known grants"));
    let grants = grants.ok_or_else(unknown)?;
    let longest = policy.max_lifetime;
    let longest = longest.ok_or_else(|| Error::field(LIFETIME, Invalid("is required")))?;
    Ok(AccessTokenPolicy::new(&grants, lifetime(LIFETIME, longest)?))
}

/// What an account allows.
pub(in crate::grpc) fn policy_to_wire(
    account: &Account,
    policy: AccessTokenPolicy,
) -> proto::AccessTokenPolicy {
    let grants = policy.grants().map(|grant| match grant {
        Grant::VoiceIncoming => proto::AccessTokenGrant::VoiceIncoming,
        Grant::VoiceOutgoing => proto::AccessTokenGrant::VoiceOutgoing,
        Grant::Video => proto::AccessTokenGrant::Video,
        Grant::Chat => proto::AccessTokenGrant::Chat,
        Grant::DataSync => proto::AccessTokenGrant::DataSync,
    });
    proto::AccessTokenPolicy {
        name: format!("{}/accessTokenPolicy", AccountName(account.id.clone())),
        grants: grants.map(Into::into).collect(),
        max_lifetime: Some(prost_types::Duration { seconds: policy.longest().seconds(), nanos: 0 }),
    }
}
