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

/// Makes a token that begins at `now`.
pub fn mint(
    signer: Signer<'_>,
    secret: &SecretText,
    grants: &Grants,
    (now, lifetime): (Timestamp, Lifetime),
) -> Minted {
    let nbf = now.as_second();
    let exp = nbf.saturating_add(lifetime.0);
    let jti = format!("{}-{nbf}", signer.key.as_str());
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
mod tests {
    use super::*;

    const KEY: &str = "SKxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

    fn hex(prefix: &str) -> String {
        format!("{prefix}{}", "0a".repeat(16))
    }

    fn grants() -> Grants {
        let sid = |prefix: &str| Sid::parse(prefix, &hex(prefix)).unwrap();
        Grants {
            identity: Identity::parse("alice").unwrap(),
            voice: Some(Voice {
                incoming: Some(Incoming { allow: true }),
                outgoing: Some(Outgoing {
                    application_sid: sid("AP"),
                    params: [("queue".to_owned(), "7".to_owned())].into(),
                }),
                push_credential_sid: Some(sid("CR")),
            }),
            video: Some(Video::default()),
            chat: Some(Service {
                service_sid: sid("IS"),
                endpoint_id: None,
                deployment_role_sid: Some(sid("RL")),
                push_credential_sid: None,
            }),
            data_sync: None,
        }
    }

    #[test]
    fn the_published_example_has_its_signature() {
        let header = r#"{"typ":"JWT","alg":"HS256","cty":"twilio-fpa;v=1"}"#;
        let payload = format!(
            r#"{{"jti":"{KEY}-1450471147","iss":"{KEY}","sub":"ACxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","nbf":1450471147,"exp":1450474747,"grants":{{"identity":"user@example.com","ip_messaging":{{"service_sid":"ISxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","endpoint_id":"HipFlowSlackDockRC:user@example.com:someiosdevice"}}}}}}"#
        );
        let token = signed(header, &payload, &SecretText::new("secret".to_owned()));
        let (_, signature) = token.expose().rsplit_once('.').unwrap();
        assert_eq!(signature, "IHx8KeH1acIfwnd8EIin3QBGPbfnF-yVnSFp5NpQJi0");
    }

    #[test]
    fn a_token_says_what_twilio_reads() {
        let (account, key) =
            (AccountSid::parse(&hex("AC")).unwrap(), ApiKeySid::parse(&hex("SK")).unwrap());
        let signer = Signer { account: &account, key: &key, region: Region::Ie1 };
        let now = Timestamp::from_second(1_450_471_147).unwrap();
        let secret = SecretText::new("secret".to_owned());
        let minted = mint(signer, &secret, &grants(), (now, Lifetime::USUAL));
        let parts: Vec<_> = minted.token.expose().split('.').collect();
        let read =
            |part: &str| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(
            read(parts[0]),
            r#"{"typ":"JWT","alg":"HS256","cty":"twilio-fpa;v=1","twr":"ie1"}"#
        );
        let (ap, cr, is, rl) = (hex("AP"), hex("CR"), hex("IS"), hex("RL"));
        let expected = format!(
            r#"{{"jti":"{0}-1450471147","iss":"{0}","sub":"{1}","nbf":1450471147,"exp":1450474747,"grants":{{"identity":"alice","voice":{{"incoming":{{"allow":true}},"outgoing":{{"application_sid":"{ap}","params":{{"queue":"7"}}}},"push_credential_sid":"{cr}"}},"video":{{}},"chat":{{"service_sid":"{is}","deployment_role_sid":"{rl}"}}}}}}"#,
            hex("SK"),
            hex("AC"),
        );
        assert_eq!(read(parts[1]), expected);
        assert_eq!(
            (minted.jti, minted.expire_time.as_second()),
            (format!("{}-1450471147", hex("SK")), 1_450_474_747)
        );
        let us1 = mint(
            Signer { region: Region::Us1, ..signer },
            &secret,
            &grants(),
            (now, Lifetime::USUAL),
        );
        assert!(!read(us1.token.expose().split('.').next().unwrap()).contains("twr"));
    }

    #[test]
    fn a_policy_allows_what_it_names_and_nothing_by_itself() {
        let hour = |hours| Lifetime::parse(SignedDuration::from_hours(hours)).unwrap();
        let minute = Lifetime::parse(SignedDuration::from_mins(1)).unwrap();
        let asked: Vec<_> = grants().named().collect();
        assert_eq!(asked, [Grant::VoiceIncoming, Grant::VoiceOutgoing, Grant::Video, Grant::Chat]);
        let nothing = AccessTokenPolicy::default();
        assert_eq!(nothing.judge(&grants(), None), Err(Excess::Grant(Grant::VoiceIncoming)));
        let policy = AccessTokenPolicy::new(&asked, hour(2));
        for (lifetime, expected) in [
            (None, Ok(hour(1))),
            (Some(hour(2)), Ok(hour(2))),
            (Some(hour(3)), Err(Excess::Lifetime(hour(2)))),
        ] {
            assert_eq!(policy.judge(&grants(), lifetime), expected);
        }
        assert_eq!(AccessTokenPolicy::new(&asked, minute).judge(&grants(), None), Ok(minute));
        for without in &asked {
            let others: Vec<_> = asked.iter().copied().filter(|grant| grant != without).collect();
            let judged = AccessTokenPolicy::new(&others, hour(2)).judge(&grants(), None);
            assert_eq!(judged, Err(Excess::Grant(*without)));
        }
        let (bits, seconds) = policy.to_stored();
        assert_eq!(AccessTokenPolicy::from_stored(bits, seconds), Some(policy));
        assert_eq!(policy.grants().collect::<Vec<_>>(), asked);
        assert_eq!(
            (AccessTokenPolicy::from_stored(32, 60), AccessTokenPolicy::from_stored(1, 0)),
            (None, None)
        );
    }

    #[test]
    fn shapes_are_checked() {
        for (seconds, nanos, good) in [
            (1, 0, true),
            (86_400, 0, true),
            (0, 0, false),
            (86_401, 0, false),
            (-1, 0, false),
            (1, 1, false),
        ] {
            assert_eq!(Lifetime::parse(SignedDuration::new(seconds, nanos)).is_ok(), good);
        }
        assert!(Sid::parse("AP", &hex("CR")).is_err() && Sid::parse("IS", "IS").is_err());
        assert!(Identity::parse("").is_err() && Identity::parse("a\n").is_err());
    }
}
