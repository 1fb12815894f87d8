//! SPIFFE identities: who a workload is, as its certificate says (SPIFFE-ID §2).

use std::fmt;

use jiff::Timestamp;

use crate::name::Invalid;

/// The longest id that is taken. The standard allows 2,048 bytes; ours stand in every audit entry.
const MAX_LENGTH: usize = 512;

/// `spiffe://{trust domain}/{path}`: the identity of one workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId(Box<str>);

impl SpiffeId {
    /// Parses an id: a trust domain of `[a-z0-9.-_]`, and a path of segments of `[A-Za-z0-9.-_]`, none of which is
    /// empty, `.` or `..` (SPIFFE-ID §2.1, §2.2). A workload has a path.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("must be a SPIFFE ID, spiffe://{trust domain}/{path}");
        let rest = text.strip_prefix("spiffe://").ok_or(SHAPE)?;
        let (domain, path) = rest.split_once('/').ok_or(SHAPE)?;
        let good = text.len() <= MAX_LENGTH
            && TrustDomain::parse(domain).is_ok()
            && path.split('/').all(is_segment);
        if good { Ok(Self(text.into())) } else { Err(SHAPE) }
    }

    /// The trust domain that vouches for it.
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.strip_prefix("spiffe://").unwrap_or_default();
        rest.split_once('/').map_or(rest, |(domain, _)| domain)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A workload that has shown its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Who it is.
    pub id: SpiffeId,
    /// When its certificate ends.
    pub expire_time: Timestamp,
}

/// The name of a trust domain, such as `example.org`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// Parses a name: 1 to 255 characters of `[a-z0-9.-_]` (SPIFFE-ID §2.1).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let shaped = (1..=255).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if shaped {
            Ok(Self(text.into()))
        } else {
            Err(Invalid("must be a trust domain: lower-case letters, digits, dots, hyphens"))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(text: &str) -> bool {
    let shaped = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    shaped && !matches!(text, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = SpiffeId::parse("spiffe://example.org/ns/voice/sa/Edge_1").unwrap();
        assert_eq!(id.trust_domain(), "example.org");
        assert_eq!(id.to_string(), "spiffe://example.org/ns/voice/sa/Edge_1");
        for bad in [
            "",
            "spiffe://",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///path",
            "SPIFFE://example.org/a",
            "https://example.org/a",
            "spiffe://Example.org/a",
            "spiffe://example.org:443/a",
            "spiffe://user@example.org/a",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/../a",
            "spiffe://example.org/%61",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/*",
            "spiffe://example.org/a\n",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(SpiffeId::parse(&format!("spiffe://a/{}", "b".repeat(MAX_LENGTH))).is_err());
    }
}
