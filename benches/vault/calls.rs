//! What is called: each call by its number, so that every run asks for the same things in the same order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::verify_twilio_webhook_request::Content;
use credvault::grpc::proto::{
    CreateCredentialRequest, CreateProviderRequest, CreateProviderResponse, Credential,
    CredentialFilter, GetCredentialRequest, GetCredentialResponse, ListCredentialsRequest,
    ListCredentialsResponse, Provider, RotateCredentialRequest, RotateCredentialResponse,
    TwilioProvider, VerifySipDigestRequest, VerifySipDigestResponse, VerifyTwilioWebhookRequest,
    VerifyTwilioWebhookResponse, WebhookField, WebhookForm,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use prost::Message;
use sha1::Sha1;

pub(crate) const ACCOUNT: &str = "accounts/dev";
/// Makes an answer as long as the ones that the goals were set with, about 242 bytes.
pub(crate) const DESCRIPTION: &str =
    "The phone on the desk by the window, second floor, left of the lift";

const NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
const CNONCE: &str = "0a4f113b";
const URI: &str = "sip:sip.example.com";

pub(crate) const GET: &str = "/credvault.v1.CredentialService/GetCredential";
pub(crate) const VERIFY: &str = "/credvault.v1.UseService/VerifySipDigest";
const WEBHOOK: &str = "/credvault.v1.UseService/VerifyTwilioWebhook";
const CREATE_PROVIDER: &str = "/credvault.v1.ProviderService/CreateProvider";
const CREATE: &str = "/credvault.v1.CredentialService/CreateCredential";
const LIST: &str = "/credvault.v1.CredentialService/ListCredentials";
const ROTATE: &str = "/credvault.v1.CredentialService/RotateCredential";

type IsRight = Box<dyn Fn(u64, &[u8]) -> bool>;

/// A method with the messages to send and what their answers must be.
pub(crate) struct Work {
    pub(crate) path: &'static str,
    /// The message of a call.
    pub(crate) message: Box<dyn Fn(u64) -> Vec<u8>>,
    /// Whether an answer is the right one to that call.
    pub(crate) is_right: IsRight,
}

impl Work {
    fn new<Q: Message, A: Message + Default>(
        path: &'static str,
        message: impl Fn(u64) -> Q + 'static,
        is_right: impl Fn(u64, A) -> bool + 'static,
    ) -> Self {
        Self {
            path,
            message: Box::new(move |number| message(number).encode_to_vec()),
            is_right: Box::new(move |number, answer| {
                A::decode(answer).is_ok_and(|answer| is_right(number, answer))
            }),
        }
    }
}

/// A place in the dataset for a call: a walk without order that is the same each time.
fn place(number: u64, among: &Range<u64>) -> u64 {
    among.start + mix(number) % (among.end - among.start)
}

/// A number that looks random (splitmix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// In the form of the ids that the vault itself makes, so that rows lie where they would lie.
pub(crate) fn name(place: u64) -> String {
    format!("{ACCOUNT}/credentials/{}", id(place))
}

fn id(place: u64) -> String {
    // A time in milliseconds, in which sixteen were made, and 80 random bits.
    let (time, random) = (0x019a_0000_0000 + place / 16, mix(place));
    format!("x{time:012x}{random:016x}{:04x}", random & 0xffff)
}

fn username(place: u64) -> String {
    format!("user-{place}")
}

pub(crate) fn realm(place: u64) -> String {
    format!("sip-{}.example.com", place % 4)
}

fn is_enabled(place: u64) -> bool {
    !place.is_multiple_of(50)
}

/// Creates the credentials with these places: of four realms, one in fifty disabled, one in a hundred labelled.
pub(crate) fn create(first: u64) -> Work {
    Work::new(
        CREATE,
        move |number| {
            let place = first + number;
            let labels = match place % 100 {
                0 => BTreeMap::from([("site".to_owned(), "berlin".to_owned())]),
                _ => BTreeMap::from([("site".to_owned(), "paris".to_owned())]),
            };
            CreateCredentialRequest {
                parent: ACCOUNT.to_owned(),
                credential_id: id(place),
                credential: Some(Credential {
                    username: username(place),
                    realm: realm(place),
                    enabled: Some(is_enabled(place)),
                    description: Some(DESCRIPTION.to_owned()),
                    labels,
                    ..Credential::default()
                }),
                password: Some(password(place)),
                ..CreateCredentialRequest::default()
            }
        },
        |_, answer: credvault::grpc::proto::CreateCredentialResponse| answer.issued.is_none(),
    )
}

fn password(place: u64) -> String {
    format!("the password of {place}").replace(' ', "-")
}

pub(crate) fn get(credentials: u64) -> Work {
    let of = move |number| name(place(number, &(0..credentials)));
    Work::new(
        GET,
        move |number| GetCredentialRequest { name: of(number) },
        move |number, answer: GetCredentialResponse| {
            answer.credential.is_some_and(|found| found.name == of(number))
        },
    )
}

/// Rotations of the credentials with these places.
pub(crate) fn rotate(among: Range<u64>) -> Work {
    let of = Rc::new(move |number| name(place(number, &among)));
    let asked = Rc::clone(&of);
    Work::new(
        ROTATE,
        move |number| RotateCredentialRequest {
            name: asked(number),
            ..RotateCredentialRequest::default()
        },
        move |number, answer: RotateCredentialResponse| {
            answer.issued.is_some_and(|issued| issued.password.len() == 24)
                && answer.credential.is_some_and(|found| found.name == of(number))
        },
    )
}

/// Whether a call is to be refused: one in a thousand.
fn is_wrong(number: u64) -> bool {
    number % 1000 == 999
}

/// Digests that are right, but for one in a thousand. The passwords are those that [`create`] set.
pub(crate) fn verify(credentials: u64) -> Work {
    let user = move |number| {
        let place = place(number, &(0..credentials));
        place + u64::from(!is_enabled(place))
    };
    Work::new(
        VERIFY,
        move |number| {
            let place = user(number);
            let (username, realm) = (username(place), realm(place));
            let password = if is_wrong(number) { "not-it".to_owned() } else { password(place) };
            digest(username, realm, &password)
        },
        move |number, answer: VerifySipDigestResponse| {
            answer.valid != is_wrong(number)
                && (!answer.valid || answer.credential == name(user(number)))
        },
    )
}

/// The digest of a REGISTER with this password.
pub(crate) fn digest(username: String, realm: String, password: &str) -> VerifySipDigestRequest {
    let hash = |text: String| hex::encode(Md5::digest(text.as_bytes()));
    let ha1 = hash(format!("{username}:{realm}:{password}"));
    let ha2 = hash(format!("REGISTER:{URI}"));
    let response = hash(format!("{ha1}:{NONCE}:00000001:{CNONCE}:auth:{ha2}"));
    VerifySipDigestRequest {
        parent: ACCOUNT.to_owned(),
        username,
        realm,
        method: "REGISTER".to_owned(),
        uri: URI.to_owned(),
        nonce: NONCE.to_owned(),
        nc: "00000001".to_owned(),
        cnonce: CNONCE.to_owned(),
        qop: "auth".to_owned(),
        algorithm: "MD5".to_owned(),
        response,
        ..VerifySipDigestRequest::default()
    }
}

/// How many providers there are to check webhooks of: fewer than an account may try tokens in a minute.
pub(crate) const PROVIDERS: u64 = 25;

/// A provider's name, the SID of its account at Twilio, and its token.
pub(crate) fn provider(place: u64) -> (String, String, String) {
    (
        format!("{ACCOUNT}/providers/twilio-{place}"),
        format!("AC{:032x}", mix(place)),
        format!("{:016x}{:016x}", mix(place), mix(place + PROVIDERS)),
    )
}

/// Creates the providers, one after the other.
pub(crate) fn create_provider() -> Work {
    Work::new(
        CREATE_PROVIDER,
        |place| {
            let (_, account_sid, auth_token) = provider(place);
            let account = TwilioProvider { account_sid, ..TwilioProvider::default() };
            CreateProviderRequest {
                parent: ACCOUNT.to_owned(),
                provider_id: format!("twilio-{place}"),
                provider: Some(Provider {
                    kind: Some(Kind::Twilio(account)),
                    ..Provider::default()
                }),
                auth_token,
                ..CreateProviderRequest::default()
            }
        },
        |place, answer: CreateProviderResponse| {
            answer.provider.is_some_and(|made| made.name == provider(place).0)
        },
    )
}

/// Webhooks of a call, as Twilio signs them, but for one in a thousand.
pub(crate) fn webhook() -> Work {
    const URL: &str = "https://voice.example.com/twilio/status?tenant=7";
    let fields = |number| {
        [
            ("AccountSid", provider(place(number, &(0..PROVIDERS))).1),
            ("ApiVersion", "2010-04-01".to_owned()),
            ("CallSid", format!("CA{:032x}", mix(number))),
            ("CallStatus", "in-progress".to_owned()),
            ("Called", "+493055550100".to_owned()),
            ("Caller", "+493055550101".to_owned()),
            ("CallerCountry", "DE".to_owned()),
            ("Direction", "inbound".to_owned()),
            ("From", "+493055550101".to_owned()),
            ("FromCity", "Berlin".to_owned()),
            ("Timestamp", "Fri, 27 Nov 2026 12:00:00 +0000".to_owned()),
            ("To", "+493055550100".to_owned()),
        ]
    };
    Work::new(
        WEBHOOK,
        move |number| {
            let (name, _, token) = provider(place(number, &(0..PROVIDERS)));
            let token = if is_wrong(number) { "not-it" } else { &token };
            let fields = fields(number);
            let signature = sign(token, URL, &fields);
            let fields = fields.map(|(name, value)| WebhookField { name: name.to_owned(), value });
            VerifyTwilioWebhookRequest {
                name,
                url: URL.to_owned(),
                content: Some(Content::Form(WebhookForm { fields: fields.into() })),
                signature,
            }
        },
        |number, answer: VerifyTwilioWebhookResponse| answer.valid != is_wrong(number),
    )
}

fn sign(token: &str, url: &str, fields: &[(&str, String)]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).unwrap();
    mac.update(url.as_bytes());
    for (name, value) in fields.iter().collect::<BTreeSet<_>>() {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// A page of 50 with this filter, after `page_token`.
pub(crate) fn list(filter: CredentialFilter, page_token: String) -> Work {
    Work::new(
        LIST,
        move |_| ListCredentialsRequest {
            parent: ACCOUNT.to_owned(),
            page_size: 50,
            page_token: page_token.clone(),
            filter: Some(filter.clone()),
        },
        |_, answer: ListCredentialsResponse| answer.credentials.len() <= 50,
    )
}

/// How many credentials a step of a walk has.
pub(crate) const WALK: u64 = 200;

/// From page to page, one after the other; `token` is always that of the next.
pub(crate) fn walk(token: &Rc<RefCell<String>>) -> Work {
    let (to, from) = (Rc::clone(token), Rc::clone(token));
    Work::new(
        LIST,
        move |_| ListCredentialsRequest {
            parent: ACCOUNT.to_owned(),
            page_size: i32::try_from(WALK).unwrap(),
            page_token: to.borrow().clone(),
            filter: Some(CredentialFilter::default()),
        },
        move |_, answer: ListCredentialsResponse| {
            from.replace(answer.next_page_token);
            !from.borrow().is_empty()
        },
    )
}
