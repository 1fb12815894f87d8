//! SIP digest authentication: pure functions (RFC 3261 §22, RFC 7616 §3.4, RFC 8760).
//!
//! HA1 is as good as the password, so it lives for one computation and is never stored, cached or answered. Who made a
//! nonce, and whether it was used before, is not decided here.

mod algorithm;

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::credential::{Realm, Username};
use crate::name::{Invalid, bounded_text};
use crate::secret::SecretText;

pub use algorithm::Algorithm;

/// A value of a header without its quotes: of a text that begins and ends with `"` (two of them at least), what stands
/// between them, once. Nothing else is changed, so that a quote or a backslash within is left for the rule of the
/// value to refuse: no username, realm, nonce or URI that is accepted here needs one.
pub fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

/// What a digest parameter is made of: one line of printable text without `"` and `\`.
fn is_parameter(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\')
}

bounded_text!(
    /// A SIP method, for example REGISTER.
    Method,
    |text| (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
    "must be 1 to 32 upper-case letters"
);
bounded_text!(
    /// The `uri` parameter.
    Uri,
    |text| is_parameter(text, 2048),
    "must be 1 to 2,048 printable ASCII characters without \" and \\"
);
bounded_text!(
    /// The `nonce` or `cnonce` parameter.
    Nonce,
    |text| is_parameter(text, 512),
    "must be 1 to 512 printable ASCII characters without \" and \\"
);
bounded_text!(
    /// The `nc` parameter.
    NonceCount,
    |text| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit()),
    "must be 8 hexadecimal digits"
);

bounded_text!(
    /// Where a request came from, in the words of the edge that took it.
    Source,
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()),
    "must be at most 64 printable ASCII characters without space"
);

impl Nonce {
    /// Whether a response to it without qop is the same as one with qop to another nonce: they are the hashes of one text.
    pub fn reads_as_qop(&self) -> bool {
        let last = self.0.rsplit(':').next().unwrap_or_default();
        last.len() < self.0.len() && Qop::parse(last).is_ok_and(|qop| qop.is_some())
    }

    /// A cnonce of these random bytes.
    pub fn made_of(random: [u8; 16]) -> Self {
        Self(hex::encode(random).into())
    }
}

bounded_text!(
    /// The `opaque` parameter.
    Opaque,
    |text| is_parameter(text, 512),
    "must be at most 512 printable ASCII characters without \" and \\"
);

impl NonceCount {
    /// The count of this number.
    pub fn of(number: u32) -> Self {
        Self(format!("{number:08x}").into())
    }

    /// The number that it is.
    pub fn number(&self) -> u32 {
        // 8 hexadecimal digits are 32 bits. 0 would be a count that no request has.
        u32::from_str_radix(&self.0, 16).unwrap_or_default()
    }
}

/// A quality of protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qop {
    /// The request's method and URI.
    Auth,
    /// Its body as well.
    AuthInt,
}

impl Qop {
    /// Both, with their names.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Auth, "auth"), (Self::AuthInt, "auth-int")];

    /// Parses the `qop` parameter of a response; None: there is none, as in RFC 2069.
    pub fn parse(text: &str) -> Result<Option<Self>, Invalid> {
        if text.is_empty() {
            return Ok(None);
        }
        let known = Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(text));
        known.map(|(qop, _)| Some(*qop)).ok_or(Invalid("must be auth, auth-int or empty"))
    }

    /// Its name in a header.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }
}

/// The hash of a body, under the algorithm of its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyHash(Zeroizing<String>);

impl BodyHash {
    /// Hashes the body of a message, which may be empty.
    pub fn of(body: &[u8], algorithm: Algorithm) -> Self {
        Self(algorithm.hash_of_body(body))
    }
}

/// What comes with a quality of protection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `nc`.
    pub nc: NonceCount,
    /// `cnonce`.
    pub cnonce: Nonce,
    /// The request's body, with `auth-int`. None: `auth`.
    pub body: Option<BodyHash>,
}

impl Auth {
    /// `qop`.
    pub fn qop(&self) -> Qop {
        if self.body.is_some() { Qop::AuthInt } else { Qop::Auth }
    }
}

/// What a client answered a challenge with, without the response itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// `username`.
    pub username: Username,
    /// `realm`.
    pub realm: Realm,
    /// The request's method.
    pub method: Method,
    /// `uri`.
    pub uri: Uri,
    /// `nonce`.
    pub nonce: Nonce,
    /// `qop` with what belongs to it. None: RFC 2069, which has no session either.
    pub auth: Option<Auth>,
    /// `algorithm`.
    pub algorithm: Algorithm,
}

/// A response in the shape that its algorithm gives it, or `rspauth`, which has the same. Made with a password, so that
/// it is never printed: who has it can try passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Response(String);

impl Response {
    /// Parses the `response` parameter.
    pub fn parse(text: &str, algorithm: Algorithm) -> Result<Self, Invalid> {
        if text.len() == algorithm.digits() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(Invalid("must be 32 (MD5) or 64 (SHA-256, SHA-512-256) hexadecimal digits"))
        }
    }

    /// Its digits, for the answer that they leave in.
    pub fn into_digits(self) -> String {
        self.0
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response")
    }
}

/// A response was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What proves to the client that the server knows the password too (RFC 7616 §3.5). None without qop.
    pub rspauth: Option<Response>,
}

impl Digest {
    /// Whether `response` was made with `password`, in time that does not depend on where it differs; None: it was not.
    ///
    /// `rspauth` is made of a right response only. With `auth-int` it is that of an answer without a body, as the
    /// answers to REGISTER are.
    pub fn verify(&self, password: &SecretText, response: &Response) -> Option<Right> {
        let ha1 = self.ha1(password);
        let expected = self.response(&ha1, self.method.as_str(), self.body_hash());
        if !bool::from(expected.as_bytes().ct_eq(response.0.as_bytes())) {
            return None;
        }
        let rspauth = self.auth.as_ref().map(|auth| {
            let answer = auth.body.as_ref().map(|_| BodyHash::of(b"", self.algorithm));
            let rspauth = self.response(&ha1, "", answer.as_ref().map(|hash| hash.0.as_str()));
            Response(rspauth.as_str().to_owned())
        });
        Some(Right { rspauth })
    }

    /// The response that a holder of `password` sends.
    pub fn answer(&self, password: &SecretText) -> Response {
        let ha1 = self.ha1(password);
        let response = self.response(&ha1, self.method.as_str(), self.body_hash());
        Response(response.as_str().to_owned())
    }

    /// The hash of the password, bound to the session with `-sess`.
    fn ha1(&self, password: &SecretText) -> Zeroizing<String> {
        let (username, realm) = (self.username.as_str(), self.realm.as_str());
        let cnonce = self.auth.as_ref().map_or("", |auth| auth.cnonce.as_str());
        ha1(self.algorithm, (username, realm, password.expose()), (self.nonce.as_str(), cnonce))
    }

    /// The response to a request with this method and body.
    fn response(&self, ha1: &str, method: &str, body: Option<&str>) -> Zeroizing<String> {
        let ha2 = ha2(self.algorithm, method, self.uri.as_str(), body);
        let auth = self.auth.as_ref();
        let auth = auth.map(|it| (it.nc.as_str(), it.cnonce.as_str(), it.qop().as_str()));
        response(self.algorithm, ha1, self.nonce.as_str(), auth, &ha2)
    }

    fn body_hash(&self) -> Option<&str> {
        Some(self.auth.as_ref()?.body.as_ref()?.0.as_str())
    }
}

/// RFC 7616 §3.4.2: A1. With `-sess` it is the hexadecimal digits of the first hash that are hashed again.
fn ha1(
    algorithm: Algorithm,
    (username, realm, password): (&str, &str, &str),
    (nonce, cnonce): (&str, &str),
) -> Zeroizing<String> {
    let ha1 = algorithm.hash(&[username, realm, password]);
    if algorithm.is_session() { algorithm.hash(&[&ha1, nonce, cnonce]) } else { ha1 }
}

/// RFC 7616 §3.4.3: A2, with the hash of a body for `auth-int`.
fn ha2(algorithm: Algorithm, method: &str, uri: &str, body: Option<&str>) -> Zeroizing<String> {
    match body {
        Some(body) => algorithm.hash(&[method, uri, body]),
        None => algorithm.hash(&[method, uri]),
    }
}

/// RFC 7616 §3.4.1; without nc, cnonce and qop that of RFC 2069.
fn response(
    algorithm: Algorithm,
    ha1: &str,
    nonce: &str,
    auth: Option<(&str, &str, &str)>,
    ha2: &str,
) -> Zeroizing<String> {
    match auth {
        Some((nc, cnonce, qop)) => algorithm.hash(&[ha1, nonce, nc, cnonce, qop, ha2]),
        None => algorithm.hash(&[ha1, nonce, ha2]),
    }
}

#[cfg(test)]
mod tests;
