//! Principals: what roles are bound to.

use std::fmt;

use jiff::Timestamp;

use super::Role;
use super::api_token::TokenId;
use super::spiffe::{SpiffeId, TrustDomain};
use crate::name::Invalid;

/// Somebody who may have roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// `token:{id}`: whoever presents that API token.
    Token(TokenId),
    /// A SPIFFE ID: the workload whose certificate has it.
    Workload(SpiffeId),
    /// All SPIFFE IDs below a path.
    Workloads(SpiffePath),
}

/// `spiffe://{trust domain}/{path}/*`, or `spiffe://{trust domain}/*`: ids below a path, at a segment's border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffePath(Box<str>);

impl Principal {
    /// Parses a principal as it is printed.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid(
            "must be token:{id}, or a SPIFFE ID spiffe://{trust domain}/{path}, whose path may end in /*",
        );
        if let Some(id) = text.strip_prefix("token:") {
            return TokenId::parse(id).map(Self::Token).map_err(|_| SHAPE);
        }
        let Some(path) = text.strip_suffix("/*") else {
            return SpiffeId::parse(text).map(Self::Workload).map_err(|_| SHAPE);
        };
        let whole_domain =
            path.strip_prefix("spiffe://").is_some_and(|d| TrustDomain::parse(d).is_ok());
        if whole_domain || SpiffeId::parse(path).is_ok() {
            Ok(Self::Workloads(SpiffePath(text.into())))
        } else {
            Err(SHAPE)
        }
    }

    /// Every principal, as text, that a workload is one of: its id, and each path above it.
    pub fn covering(id: &SpiffeId) -> Vec<String> {
        let text = id.as_str();
        let above =
            text.match_indices('/').map(|(end, _)| end).filter(|end| *end >= "spiffe://".len());
        let above = above.filter_map(|end| text.get(..end)).map(|path| format!("{path}/*"));
        std::iter::once(text.to_owned()).chain(above).collect()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => f.write_str(&id.principal()),
            Self::Workload(id) => id.fmt(f),
            Self::Workloads(path) => f.write_str(&path.0),
        }
    }
}

/// The roles of a principal in one account, or in the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleBinding {
    /// Who.
    pub principal: Principal,
    /// What it may do.
    pub roles: Vec<Role>,
    /// When it was last set.
    pub update_time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_parse_what_they_print_and_nothing_else() {
        for good in [
            "token:0123456789abcdef01234567",
            "spiffe://example.org/ns/voice",
            "spiffe://example.org/ns/voice/*",
            "spiffe://example.org/*",
        ] {
            assert_eq!(Principal::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "*",
            "token:",
            "token:0123456789ABCDEF01234567",
            "token:0123",
            "operator:local",
            "spiffe://*",
            "spiffe:///*",
            "spiffe://example.org/ns*",
            "spiffe://example.org/*/voice",
            "spiffe://example.org//*",
            "spiffe://example.org/ns/voice/**",
        ] {
            assert!(Principal::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_workload_is_covered_at_the_borders_of_segments() {
        let id = SpiffeId::parse("spiffe://example.org/ns/voice").unwrap();
        let covering = Principal::covering(&id);
        assert_eq!(
            covering,
            [
                "spiffe://example.org/ns/voice",
                "spiffe://example.org/*",
                "spiffe://example.org/ns/*",
            ]
        );
        for principal in covering {
            assert!(Principal::parse(&principal).is_ok(), "{principal}");
        }
    }
}
