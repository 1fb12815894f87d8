//! What is sent to a carrier: a request with its proof of who asks, and with a body or without.

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Outage;
use crate::secret::SecretText;

/// A request to a carrier.
pub(in crate::upstream) struct Request<'a> {
    pub(in crate::upstream) method: Method,
    pub(in crate::upstream) url: Url,
    pub(in crate::upstream) auth: Auth<'a>,
    pub(in crate::upstream) body: Option<Body>,
}

impl<'a> Request<'a> {
    /// A read.
    pub(in crate::upstream) fn get(url: Url, auth: Auth<'a>) -> Self {
        Self { method: Method::GET, url, auth, body: None }
    }

    /// A change without a body.
    pub(in crate::upstream) fn bare(method: Method, url: Url, auth: Auth<'a>) -> Self {
        Self { method, url, auth, body: None }
    }

    /// A change.
    pub(in crate::upstream) fn with_body(
        method: Method,
        url: Url,
        auth: Auth<'a>,
        body: Body,
    ) -> Self {
        Self { method, url, auth, body: Some(body) }
    }
}

/// How a carrier is told who asks.
#[derive(Clone, Copy)]
pub(in crate::upstream) enum Auth<'a> {
    /// HTTP Basic (RFC 7617).
    Basic { user: &'a str, password: &'a SecretText },
    /// A bearer token (RFC 6750 section 2.1).
    Bearer(&'a SecretText),
    /// A header with an account's public id, and one with its token; their names are in lower case.
    Headers { id: (&'static str, &'a str), token: (&'static str, &'a SecretText) },
}

impl Auth<'_> {
    fn add_to(self, request: RequestBuilder) -> Result<RequestBuilder, Outage> {
        Ok(match self {
            Self::Basic { user, password } => request.basic_auth(user, Some(password.expose())),
            Self::Bearer(token) => {
                let value = Zeroizing::new(["Bearer ", token.expose()].concat());
                request.headers(HeaderMap::from_iter([(AUTHORIZATION, sensitive(&value)?)]))
            }
            Self::Headers { id: (id_name, id), token: (token_name, token) } => {
                let headers = [(id_name, sensitive(id)?), (token_name, sensitive(token.expose())?)];
                let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value));
                request.headers(HeaderMap::from_iter(headers))
            }
        })
    }
}

/// A header's value that no log of a library shows. Every token that is stored or tried fits into one: what does
/// not is not sent, and no retry would change that.
fn sensitive(text: &str) -> Result<HeaderValue, Outage> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Outage::Protocol)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A body, which may hold a secret: our copy of it is zeroized when it is sent or dropped.
pub(in crate::upstream) struct Body {
    media_type: &'static str,
    bytes: Zeroizing<Vec<u8>>,
}

impl Body {
    /// JSON. An error for what has no form in JSON: nothing is sent without its body.
    pub(in crate::upstream) fn json(content: &impl Serialize) -> Result<Self, Outage> {
        // Written twice: once to know the length, since a buffer that grows leaves copies behind.
        let mut counted = Length(0);
        serde_json::to_writer(&mut counted, content).map_err(|_| Outage::Protocol)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(counted.0));
        serde_json::to_writer(&mut *bytes, content).map_err(|_| Outage::Protocol)?;
        Ok(Self { media_type: "application/json", bytes })
    }

    /// The fields of a form (`application/x-www-form-urlencoded`).
    pub(in crate::upstream) fn form(fields: &[(&str, &str)]) -> Self {
        let longest = |text: &str| 3 * text.len() + 1;
        let length = fields.iter().map(|(name, value)| longest(name) + longest(value)).sum();
        let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(length));
        form.extend_pairs(fields);
        let bytes = Zeroizing::new(form.finish().into_bytes());
        Self { media_type: "application/x-www-form-urlencoded", bytes }
    }
}

/// Counts what is written to it.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The request as the client sends it.
pub(super) fn build(client: &Client, request: Request<'_>) -> Result<RequestBuilder, Outage> {
    let Request { method, url, auth, body } = request;
    let mut built = auth.add_to(client.request(method, url))?;
    if let Some(Body { media_type, bytes }) = body {
        built = built.header(CONTENT_TYPE, media_type).body(Bytes::from_owner(bytes));
    }
    Ok(built)
}
