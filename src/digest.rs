//! SIP digest authentication: pure functions (RFC 3261 §22, RFC 7616 §3.4, RFC 8760).
//!
//! HA1 is as good as the password, so it lives for one computation and is never stored, cached or answered.

use md5::Md5;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::credential::{Realm, Username};
use crate::name::{Invalid, bounded_text};
use crate::secret::SecretText;

/// The hash of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 3261; every phone has it.
    Md5,
    /// RFC 8760.
    Sha256,
}

impl Algorithm {
    /// Parses the `algorithm` parameter; absent means MD5 (RFC 7616 §3.4).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.eq_ignore_ascii_case("MD5") {
            Ok(Self::Md5)
        } else if text.eq_ignore_ascii_case("SHA-256") {
            Ok(Self::Sha256)
        } else {
            Err(Invalid("must be MD5 (also when empty) or SHA-256"))
        }
    }

    /// The hash of `parts` joined by `:`, as lower-case hexadecimal digits.
    fn hash(self, parts: &[&str]) -> Zeroizing<String> {
        fn digest<D: sha2::Digest>(parts: &[&str]) -> Zeroizing<String> {
            let mut hash = D::new();
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    hash.update(b":");
                }
                hash.update(part.as_bytes());
            }
            let hash = hash.finalize();
            let mut digits = vec![0; 2 * hash.len()];
            hex::encode_to_slice(hash, &mut digits).expect("two digits a byte");
            Zeroizing::new(String::from_utf8(digits).expect("digits are ASCII"))
        }
        match self {
            Self::Md5 => digest::<Md5>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 => 64,
        }
    }
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

/// Quality of protection `auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `nc`.
    pub nc: NonceCount,
    /// `cnonce`.
    pub cnonce: Nonce,
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
    /// `qop=auth` with what belongs to it. None: RFC 2069.
    pub auth: Option<Auth>,
    /// `algorithm`.
    pub algorithm: Algorithm,
}

/// A response in the shape that its algorithm gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response(String);

impl Response {
    /// Parses the `response` parameter.
    pub fn parse(text: &str, algorithm: Algorithm) -> Result<Self, Invalid> {
        if text.len() == algorithm.digits() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(Invalid("must be 32 (MD5) or 64 (SHA-256) hexadecimal digits"))
        }
    }
}

impl Digest {
    /// Whether `response` was made with `password`, in time that does not depend on where it differs.
    pub fn verify(&self, password: &SecretText, response: &Response) -> bool {
        self.response(password).as_bytes().ct_eq(response.0.as_bytes()).into()
    }

    /// The response that a holder of `password` sends.
    fn response(&self, password: &SecretText) -> Zeroizing<String> {
        let hash = |parts: &[&str]| self.algorithm.hash(parts);
        let nonce = self.nonce.as_str();
        let ha1 = hash(&[self.username.as_str(), self.realm.as_str(), password.expose()]);
        let ha2 = hash(&[self.method.as_str(), self.uri.as_str()]);
        match &self.auth {
            Some(Auth { nc, cnonce }) => {
                hash(&[&ha1, nonce, nc.as_str(), cnonce.as_str(), "auth", &ha2])
            }
            None => hash(&[&ha1, nonce, &ha2]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vector {
        who: (&'static str, &'static str, &'static str),
        what: (&'static str, &'static str),
        nonce: &'static str,
        cnonce: Option<&'static str>,
        algorithm: &'static str,
        response: &'static str,
    }

    const RFC_NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
    const RFC7616_NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const RFC7616_CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    const BOB: (&str, &str, &str) = ("bob", "biloxi.com", "zanzibar");
    const INVITE: (&str, &str) = ("INVITE", "sip:bob@biloxi.com");
    const HTTP: (&str, &str) = ("GET", "/dir/index.html");
    const MUFASA: (&str, &str, &str) = ("Mufasa", "http-auth@example.org", "Circle of Life");

    /// RFC 2617 §3.5, RFC 7616 §3.9.1, draft-smith-sipping-auth-examples-01; the SHA-256 one for SIP is computed.
    const VECTORS: [Vector; 6] = [
        Vector {
            who: ("Mufasa", "testrealm@host.com", "Circle Of Life"),
            what: HTTP,
            nonce: RFC_NONCE,
            cnonce: Some("0a4f113b"),
            algorithm: "",
            response: "6629fae49393a05397450978507c4ef1",
        },
        Vector {
            who: MUFASA,
            what: HTTP,
            nonce: RFC7616_NONCE,
            cnonce: Some(RFC7616_CNONCE),
            algorithm: "md5",
            response: "8ca523f5e9506fed4657c9700eebdbec",
        },
        Vector {
            who: MUFASA,
            what: HTTP,
            nonce: RFC7616_NONCE,
            cnonce: Some(RFC7616_CNONCE),
            algorithm: "SHA-256",
            response: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        },
        Vector {
            who: BOB,
            what: INVITE,
            nonce: RFC_NONCE,
            cnonce: None,
            algorithm: "MD5",
            response: "bf57e4e0d0bffc0fbaedce64d59add5e",
        },
        Vector {
            who: BOB,
            what: INVITE,
            nonce: RFC_NONCE,
            cnonce: Some("0a4f113b"),
            algorithm: "MD5",
            response: "89eb0059246c02b2f6ee02c7961d5ea3",
        },
        Vector {
            who: BOB,
            what: INVITE,
            nonce: RFC_NONCE,
            cnonce: Some("0a4f113b"),
            algorithm: "sha-256",
            response: "b3b5a6c69453abafaab9ae4dccdac90a076b6c80615d5f3498e7433b6e93bf4f",
        },
    ];

    fn digest(vector: &Vector) -> Digest {
        Digest {
            username: Username::parse(vector.who.0).unwrap(),
            realm: Realm::parse(vector.who.1).unwrap(),
            method: Method::parse(vector.what.0).unwrap(),
            uri: Uri::parse(vector.what.1).unwrap(),
            nonce: Nonce::parse(vector.nonce).unwrap(),
            auth: vector.cnonce.map(|cnonce| Auth {
                nc: NonceCount::parse("00000001").unwrap(),
                cnonce: Nonce::parse(cnonce).unwrap(),
            }),
            algorithm: Algorithm::parse(vector.algorithm).unwrap(),
        }
    }

    #[test]
    fn published_vectors_verify_and_only_with_their_password() {
        for vector in &VECTORS {
            let digest = digest(vector);
            let response = Response::parse(vector.response, digest.algorithm).unwrap();
            let right = SecretText::new(vector.who.2.to_owned());
            let wrong = SecretText::new(format!("{}x", vector.who.2));
            assert!(digest.verify(&right, &response), "{}", vector.response);
            assert!(!digest.verify(&wrong, &response), "{}", vector.response);
        }
    }

    #[test]
    fn every_input_matters() {
        let vector = &VECTORS[4];
        let right = SecretText::new(vector.who.2.to_owned());
        let response = Response::parse(vector.response, Algorithm::Md5).unwrap();
        let changes: [fn(&mut Digest); 7] = [
            |d| d.username = Username::parse("eve").unwrap(),
            |d| d.realm = Realm::parse("atlanta.com").unwrap(),
            |d| d.method = Method::parse("BYE").unwrap(),
            |d| d.uri = Uri::parse("sip:eve@biloxi.com").unwrap(),
            |d| d.nonce = Nonce::parse("other").unwrap(),
            |d| d.auth.as_mut().unwrap().nc = NonceCount::parse("00000002").unwrap(),
            |d| d.auth = None,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut digest = digest(vector);
            change(&mut digest);
            assert!(!digest.verify(&right, &response), "change {number}");
        }
    }

    #[test]
    fn ten_thousand_wrong_responses_are_refused() {
        let digest = digest(&VECTORS[5]);
        let right = SecretText::new("zanzibar".to_owned());
        for number in 0..10_000_u32 {
            let response = Algorithm::Sha256.hash(&[&number.to_string()]);
            let response = Response::parse(&response, Algorithm::Sha256).unwrap();
            assert!(!digest.verify(&right, &response));
        }
    }

    #[test]
    fn shapes_are_checked() {
        assert!(Algorithm::parse("MD5-sess").is_err() && Algorithm::parse("SHA-512-256").is_err());
        let md5 = "0".repeat(32);
        assert!(Response::parse(&md5, Algorithm::Md5).is_ok());
        assert!(Response::parse(&md5.to_uppercase(), Algorithm::Md5).is_ok());
        assert!(Response::parse(&md5, Algorithm::Sha256).is_err());
        assert!(Response::parse(&"g".repeat(32), Algorithm::Md5).is_err());
        for bad in ["", "1", "0000000g", "000000001"] {
            assert!(NonceCount::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a\"b", "a\\b", "a\nb", "é"] {
            assert!(Nonce::parse(bad).is_err() && Uri::parse(bad).is_err(), "{bad:?}");
        }
    }
}
