//! Twilio Access Tokens: JWTs that an API key signs, and what an account allows in them (twilio.com/docs/iam/access-tokens).
//!
//! Pure functions. A token is good until its end, or until its key ends at Twilio: nobody can revoke it alone.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::name::{Invalid, bounded_text};
use crate::provider::is_lower_hex;
use crate::provider::twilio::{AccountSid, ApiKeySid, Region};
use crate::secret::SecretText;

/// The longest time that Twilio lets a token be good for.
const LONGEST: i64 = 24 * 60 * 60;

/// What may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// To be called.
    VoiceIncoming,
    /// To call, through a TwiML application.
    VoiceOutgoing,
    /// Video rooms.
    Video,
    /// Conversations.
    Chat,
    /// Sync.
    DataSync,
}

impl Grant {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::VoiceIncoming, "voice incoming"),
        (Self::VoiceOutgoing, "voice outgoing"),
        (Self::Video, "video"),
        (Self::Chat, "chat"),
        (Self::DataSync, "data sync"),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(grant, _)| *grant == self).map_or("", |(_, name)| name)
    }

    /// Its bit in a stored policy. Never changes.
    fn bit(self) -> u8 {
        match self {
            Self::VoiceIncoming => 1,
            Self::VoiceOutgoing => 2,
            Self::Video => 4,
            Self::Chat => 8,
            Self::DataSync => 16,
        }
    }
}

/// How long a token is good for: 1 s to 24 h, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(i64);

impl Lifetime {
    /// What a token has whose caller says nothing.
    pub const USUAL: Self = Self(60 * 60);

    /// Checks a time.
    pub fn parse(time: SignedDuration) -> Result<Self, Invalid> {
        let whole = time.subsec_nanos() == 0 && (1..=LONGEST).contains(&time.as_secs());
        let rule = Invalid("must be whole seconds, at least one and at most 24 hours");
        if whole { Ok(Self(time.as_secs())) } else { Err(rule) }
    }

    /// In seconds.
    pub fn seconds(self) -> i64 {
        self.0
    }
}

/// What an account allows. Nothing, until somebody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessTokenPolicy {
    grants: u8,
    longest: Lifetime,
}

impl Default for AccessTokenPolicy {
    fn default() -> Self {
        Self { grants: 0, longest: Lifetime::USUAL }
    }
}

impl AccessTokenPolicy {
    /// A policy that allows these grants, for tokens of at most this lifetime.
    pub fn new(grants: &[Grant], longest: Lifetime) -> Self {
        Self { grants: grants.iter().fold(0, |bits, grant| bits | grant.bit()), longest }
    }

    /// As it is stored. None: not one of ours.
    pub fn from_stored(grants: u8, seconds: i64) -> Option<Self> {
        let known = Self::new(&Grant::ALL.map(|(grant, _)| grant), Lifetime::USUAL).grants;
        let longest = Lifetime::parse(SignedDuration::from_secs(seconds)).ok()?;
        (grants & !known == 0).then_some(Self { grants, longest })
    }

    /// As it is stored: the bits of its grants, and seconds.
    pub fn to_stored(self) -> (u8, i64) {
        (self.grants, self.longest.0)
    }

    /// The grants that it allows.
    pub fn grants(self) -> impl Iterator<Item = Grant> {
        let all = Grant::ALL.into_iter().map(|(grant, _)| grant);
        all.filter(move |grant| self.grants & grant.bit() != 0)
    }

    /// The longest lifetime that it allows.
    pub fn longest(self) -> Lifetime {
        self.longest
    }

    /// Whether it allows a token, and for how long then; else what it does not allow.
    pub fn judge(self, grants: &Grants, asked: Option<Lifetime>) -> Result<Lifetime, Excess> {
        let allowed = |grant: &Grant| self.grants & grant.bit() != 0;
        if let Some(grant) = grants.named().find(|grant| !allowed(grant)) {
            return Err(Excess::Grant(grant));
        }
        match asked {
            Some(asked) if asked > self.longest => Err(Excess::Lifetime(self.longest)),
            Some(asked) => Ok(asked),
            None => Ok(Lifetime::USUAL.min(self.longest)),
        }
    }
}

/// What a policy does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// This grant.
    #[error("no {} grant", .0.as_str())]
    Grant(Grant),
    /// More than this time.
    #[error("at most {} s", .0.seconds())]
    Lifetime(Lifetime),
}

bounded_text!(
    /// Who a token is for, in the words of whoever asks for it.
    Identity,
    |text| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control),
    "must be 1 to 256 bytes without control characters"
);

impl Identity {
    /// Whether Programmable Voice takes it: letters, digits and `_` (twilio.com/docs/iam/access-tokens).
    pub fn is_for_voice(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }
}

bounded_text!(
    /// The name or SID of a video room, or an id of an end point.
    Label,
    |text| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control),
    "must be 1 to 256 bytes without control characters"
);

/// A SID of something that a grant names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Sid(String);

impl Sid {
    /// Parses a SID that begins with these two letters.
    pub fn parse(prefix: &str, text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix(prefix) {
            Some(digits) if is_lower_hex(digits, 32) => Ok(Self(text.to_owned())),
            _ => Err(Invalid(match prefix {
                "AP" => "must be AP followed by 32 lower-case hexadecimal digits",
                "CR" => "must be CR followed by 32 lower-case hexadecimal digits",
                "IS" => "must be IS followed by 32 lower-case hexadecimal digits",
                _ => "must be RL followed by 32 lower-case hexadecimal digits",
            })),
        }
    }
}

/// What a token is for. Its fields have the names and the order of the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// Who has it.
    #[serde(serialize_with = "text")]
    pub identity: Identity,
    /// Programmable Voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<Voice>,
    /// Video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// Conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Service>,
    /// Sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_sync: Option<Service>,
}

/// Programmable Voice: to be called, to call, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Voice {
    /// To be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Incoming>,
    /// To call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Outgoing>,
    /// What wakes a phone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_credential_sid: Option<Sid>,
}

/// To be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incoming {
    /// Always true.
    pub allow: bool,
}

/// To call, through an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outgoing {
    /// The TwiML application.
    pub application_sid: Sid,
    /// What it is told beside.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub params: std::collections::BTreeMap<String, String>,
}

/// Video.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Video {
    /// The one room. None: any.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    pub room: Option<Label>,
}

/// A service of Conversations or Sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The service.
    pub service_sid: Sid,
    /// The end point.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    pub endpoint_id: Option<Label>,
    /// The role there; Conversations only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_role_sid: Option<Sid>,
    /// What wakes a phone; Conversations only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_credential_sid: Option<Sid>,
}

fn text<S: serde::Serializer>(text: &Identity, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text.as_str())
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn optional_text<S: serde::Serializer>(text: &Option<Label>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text.as_ref().map_or("", Label::as_str))
}

impl Grants {
    /// What they reach, in words: each grant with the SIDs and the room that it names.
    pub fn reach(&self) -> String {
        let voice = self.voice.as_ref();
        let application =
            voice.and_then(|voice| Some(voice.outgoing.as_ref()?.application_sid.0.as_str()));
        let room = self.video.as_ref().and_then(|video| Some(video.room.as_ref()?.as_str()));
        let service =
            |service: &Option<Service>| service.as_ref().map(|it| it.service_sid.0.clone());
        let named = self.named().map(|grant| {
            let to = match grant {
                Grant::VoiceIncoming => None,
                Grant::VoiceOutgoing => application.map(str::to_owned),
                // In quotes: it is the caller's own text, and must not read like another grant.
                Grant::Video => room.map(|room| format!("{room:?}")),
                Grant::Chat => service(&self.chat),
                Grant::DataSync => service(&self.data_sync),
            };
            to.map_or_else(|| grant.as_str().to_owned(), |to| format!("{} {to}", grant.as_str()))
        });
        named.collect::<Vec<_>>().join(", ")
    }

    /// The grants that a policy must allow.
    pub fn named(&self) -> impl Iterator<Item = Grant> {
        let voice = self.voice.as_ref();
        let asked = [
            (Grant::VoiceIncoming, voice.is_some_and(|voice| voice.incoming.is_some())),
            (Grant::VoiceOutgoing, voice.is_some_and(|voice| voice.outgoing.is_some())),
            (Grant::Video, self.video.is_some()),
            (Grant::Chat, self.chat.is_some()),
            (Grant::DataSync, self.data_sync.is_some()),
        ];
        asked.into_iter().filter(|(_, named)| *named).map(|(grant, _)| grant)
    }
}

/// A key that signs, with the account that it is of.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The account.
    pub account: &'a AccountSid,
    /// The key's public part.
    pub key: &'a ApiKeySid,
    /// Where both are.
    pub region: Region,
}

/// A token with what is known of it.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Minted {
    /// The token.
    pub token: SecretText,
    /// Its id.
    pub jti: String,
    /// When it ends.
    pub expire_time: Timestamp,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    cty: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    twr: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    jti: &'a str,
    iss: &'a str,
    sub: &'a str,
    nbf: i64,
    exp: i64,
    grants: &'a Grants,
}

/// Makes a token that begins at `now`; `random` tells it from others.
pub fn mint(
    signer: Signer<'_>,
    secret: &SecretText,
    grants: &Grants,
    (now, lifetime): (Timestamp, Lifetime),
    random: [u8; 8],
) -> Minted {
    let nbf = now.as_second();
    let exp = nbf.saturating_add(lifetime.0);
    // Those of one second are told apart, too.
    let jti = format!("{}-{nbf}-{}", signer.key.as_str(), hex::encode(random));
    // Whoever has no region is in us1, and says nothing of it.
    let twr = (signer.region != Region::Us1).then(|| signer.region.as_str());
    let header = Header { typ: "JWT", alg: "HS256", cty: "twilio-fpa;v=1", twr };
    let payload = Payload {
        jti: &jti,
        iss: signer.key.as_str(),
        sub: signer.account.as_str(),
        nbf,
        exp,
        grants,
    };
    let (header, payload) = (json(&header), json(&payload));
    let token = signed(&header, &payload, secret);
    let expire_time = Timestamp::from_second(exp).unwrap_or(Timestamp::MAX);
    Minted { token, jti, expire_time }
}

fn json(it: &impl Serialize) -> String {
    serde_json::to_string(it).expect("text and numbers become JSON")
}

/// A JWT with HS256 (RFC 7515 section 3.1, RFC 7518 section 3.2).
fn signed(header: &str, payload: &str, secret: &SecretText) -> SecretText {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (header, payload) = (encode(header.as_bytes()), Zeroizing::new(encode(payload.as_bytes())));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    for part in [&header, ".", &payload] {
        mac.update(part.as_bytes());
    }
    let signature = Zeroizing::new(encode(&mac.finalize().into_bytes()));
    SecretText::new([&header, ".", payload.as_str(), ".", signature.as_str()].concat())
}

#[cfg(test)]
mod tests;
