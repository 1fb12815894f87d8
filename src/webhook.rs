//! Twilio's signature on its webhooks: pure functions (twilio.com/docs/usage/webhooks/webhooks-security).
//!
//! The header `X-Twilio-Signature` is base64(HMAC-SHA1(Auth Token, data)), where data is the URL as Twilio called it, and
//! behind it, for a form, each name with its values. A body that is no form is bound by `bodySHA256` in the URL.
//!
//! A signature holds no time and no nonce: whoever saw a request can send it again. Nothing here knows of that.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::defect::{Defect, planted};
use crate::name::bounded_text;
use crate::secret::SecretText;

bounded_text!(
    /// A URL as Twilio called it: kept as it is, since to write it anew would change what was signed.
    Url,
    is_url,
    "must be a whole URL as Twilio called it (http, https, ws or wss), of at most 16,384 characters without spaces"
);

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let known = ["http", "https", "ws", "wss"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
    let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    known && plain && text.len() <= 16_384 && !rest.starts_with(['/', '?', '#']) && !rest.is_empty()
}

/// What came with a call. It is never printed: a message may be in it, or what somebody typed.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing that is signed: a GET, or the opening of a WebSocket.
    Nothing,
    /// The fields of a form, decoded, in any order.
    Form(Vec<(String, String)>),
    /// Any other body, as it came.
    Body(Vec<u8>),
}

/// A call as it is to be verified. It is never printed either; a URL may hold a password.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    /// Names and values in the order in which they are signed.
    signed: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Form(_) => "Form",
            Self::Body(_) => "Body",
        })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook")
    }
}

/// A value of the header that may be a signature.
#[derive(Debug, Clone)]
pub struct Signature([u8; 20]);

impl Signature {
    /// Reads the header's value. None: whatever it is, no token makes it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        // Twilio writes each signature in one way; another spelling of the same bytes is none.
        let decoded = BASE64_STANDARD.decode_slice(text, &mut bytes);
        (decoded == Ok(bytes.len())).then_some(Self(bytes))
    }
}

impl Webhook {
    /// A call of `url` that brought `content`.
    ///
    /// - Names are in the order of their bytes.
    /// - A name that stands there more than once has its values in that order, too, and each of them once.
    pub fn new(url: Url, content: Content) -> Self {
        let (mut signed, body) = match content {
            Content::Nothing => (Vec::new(), None),
            Content::Form(fields) => (fields, None),
            Content::Body(body) => (Vec::new(), Some(body)),
        };
        signed.sort_unstable();
        if !planted(Defect::KeepDuplicates) {
            signed.dedup();
        }
        Self { url, signed, body }
    }

    /// Whether `token` made the signature: over the URL as it is, or over it with or without its port, since what Twilio
    /// signs is not always what arrives behind a proxy.
    pub fn is_signed_by(&self, token: &SecretText, signature: &Signature) -> bool {
        let [as_it_is, otherwise] = spellings(self.url.as_str());
        let made = |parts: Option<[&str; 3]>| {
            let parts = parts?;
            Some(bool::from(self.signature(token, parts).ct_eq(&signature.0)))
        };
        // Both are computed in any case.
        let (one, other) = (made(as_it_is), made(otherwise));
        one == Some(true) || other == Some(true)
    }

    /// Whether what came is what the URL says that was sent. A form is part of the signature itself, and where the URL has
    /// the hash of a body nothing else is taken in its place: or who reads the body would read one that nobody signed.
    pub fn has_its_body(&self) -> bool {
        let stated = body_hash(self.url.as_str());
        let body = match (&self.body, stated) {
            (Some(body), _) => body.as_slice(),
            (None, None) => return true,
            (None, Some(_)) if self.signed.is_empty() => b"",
            (None, Some(_)) => return false,
        };
        let hash = hex::encode(Sha256::digest(body));
        hash.as_bytes().ct_eq(stated.unwrap_or_default().as_bytes()).into()
    }

    fn signature(&self, token: &SecretText, url: [&str; 3]) -> [u8; 20] {
        let key = token.expose().as_bytes();
        let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
        let fields = self.signed.iter().flat_map(|(name, value)| [name.as_str(), value]);
        for part in url.into_iter().chain(fields) {
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

/// A URL in parts as it is, and with its port taken out or the usual one put in.
fn spellings(url: &str) -> [Option<[&str; 3]>; 2] {
    let as_it_is = Some([url, "", ""]);
    let Some((scheme, rest)) = url.split_once("://") else { return [as_it_is, None] };
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| rest.split_at(end).0);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // The colons of an IPv6 address stand in brackets.
    let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let (head, tail) = url.split_at(scheme.len() + 3 + authority.len());
    let otherwise = match after_address.rsplit_once(':') {
        Some((_, port)) => {
            let without = head.len() - port.len() - 1;
            head.get(..without).map(|head| [head, "", tail])
        }
        None if ["https", "wss"].iter().any(|it| scheme.eq_ignore_ascii_case(it)) => {
            Some([head, ":443", tail])
        }
        None => Some([head, ":80", tail]),
    };
    [as_it_is, otherwise]
}

/// The value of `bodySHA256` in the query.
fn body_hash(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    fields.find(|(name, value)| *name == "bodySHA256" && !value.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
