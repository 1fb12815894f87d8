//! Telepath: one read decides whether a token (an API key, in Telepath's words) is taken.
//!
//! - The read is `GET /v1/trunks?limit=1`, the list of trunks with at most one of them
//!   (docs.telepathvoice.com/api-reference/trunks/list). No read of the account itself is published, and nothing in
//!   any answer names the account: a key opens the account that it was made in, whichever that is.
//! - 401 is published for a key that is not valid. 403 is not; it is a refusal all the same. 404, 405 and whatever
//!   else tell nothing of the token: they are an outage, never a yes.
//! - Errors come as `{"error": {"code", "message", "status"}}` or without `status` and with other codes, depending on
//!   the page. Only the status of the answer is read, so that both will do, and none.

mod credentials;

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::http::{Answer, Auth, Http, Request, Use};
use super::plain::{self, Said, counted};
use super::{ApiUrl, Misfit, Outage, Upstream, UpstreamAccount, UpstreamCredentials, json};
use crate::clock::Clock;
use crate::name::Invalid;
use crate::provider::{Kind, Refusal, Token, Verdict};

/// Where Telepath's API is, and what there differs from page to page of its documentation.
#[derive(Debug, Clone)]
pub struct TelepathUrls {
    api: ApiUrl,
    rotate_path: String,
}

impl Default for TelepathUrls {
    fn default() -> Self {
        let api = ApiUrl::published("https://api.telepathvoice.com");
        Self { api, rotate_path: "rotate-password".to_owned() }
    }
}

impl TelepathUrls {
    /// Sets the API.
    pub fn set_api(&mut self, url: &str) -> Result<(), Invalid> {
        self.api.set(url)
    }

    /// Sets the last part of the path that rotates a password. Telepath publishes `rotate-password` and, on another
    /// page, `rotate-sip-password`.
    pub fn set_rotate_path(&mut self, part: &str) -> Result<(), Invalid> {
        let shaped = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !shaped || !(1..=64).contains(&part.len()) {
            return Err(Invalid(
                "must be one part of a path, 1 to 64 letters, digits, underscores and hyphens: rotate-password or \
                 rotate-sip-password",
            ));
        }
        part.clone_into(&mut self.rotate_path);
        Ok(())
    }

    pub(super) fn configured_hosts(&self) -> Vec<String> {
        self.api.configured_hosts()
    }
}

/// The carrier Telepath.
pub(super) struct Telepath {
    http: Http,
    urls: TelepathUrls,
    clock: Arc<dyn Clock>,
}

impl Telepath {
    pub(super) fn new(http: Http, urls: TelepathUrls, clock: Arc<dyn Clock>) -> Self {
        Self { http, urls, clock }
    }
}

impl Upstream for Telepath {
    fn account<'a>(&'a self, kind: &'a Kind) -> Option<Box<dyn UpstreamAccount + 'a>> {
        match kind {
            Kind::Telepath(_) => Some(Box::new(At(self))),
            _ => None,
        }
    }
}

/// An account at Telepath: the one that the token opens.
struct At<'a>(&'a Telepath);

#[async_trait]
impl UpstreamAccount for At<'_> {
    fn check_format(&self, token: &Token) -> Result<(), Misfit> {
        plain::check_format(token)
    }

    async fn ask(&self, token: &Token) -> Result<Verdict, Outage> {
        let Self(telepath) = self;
        let mut url = telepath.urls.api.base().join(&["v1", "trunks"]);
        url.set_query(Some("limit=1"));
        let request = Request::get(url, Auth::Bearer(&token.secret));
        let asked = telepath.http.send(Use::Decide, request).await;
        let said = asked.and_then(|answer| said(&answer)).inspect_err(|outage| {
            tracing::warn!(?outage, "ask Telepath about a token");
        })?;
        Ok(plain::verdict("Telepath", said, telepath.clock.now()))
    }

    fn credentials(&self) -> Option<&dyn UpstreamCredentials> {
        Some(self)
    }
}

/// A page of trunks.
#[derive(Deserialize)]
struct Page {
    #[serde(rename = "trunks")]
    _trunks: Vec<IgnoredAny>,
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
struct Pagination {
    total: u64,
}

fn said(answer: &Answer) -> Result<Said, Outage> {
    let (refusal, why) = match answer.status.as_u16() {
        200 => {
            let page: Page = json::parse(&answer.body)?;
            let accepted = "Telepath accepts the API key";
            return Ok(Said::Yes(match page.pagination {
                Some(Pagination { total }) => {
                    format!("{accepted}, whose account has {}", counted(total, "trunk"))
                }
                None => accepted.to_owned(),
            }));
        }
        401 => (
            Refusal::RejectedToken,
            "Telepath refuses this API key: make one under Settings › API Keys in Telepath's Dashboard, and call \
             UpdateToken",
        ),
        403 => (
            Refusal::AccountInactive,
            "Telepath does not let this API key list trunks: the account is not active, or the key may not do that; \
             look into Telepath's Dashboard",
        ),
        _ => return Err(Outage::Protocol),
    };
    Ok(Said::No(refusal, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rotates_is_one_part_of_a_path() {
        let mut urls = TelepathUrls::default();
        assert_eq!(urls.rotate_path, "rotate-password");
        assert_eq!(urls.set_rotate_path("rotate-sip-password"), Ok(()));
        assert_eq!(urls.rotate_path, "rotate-sip-password");
        for bad in ["", ".", "..", "a/b", "/a", "a?b", "a b", "a%2f", "ä", &"x".repeat(65)] {
            assert!(urls.set_rotate_path(bad).is_err(), "{bad:?}");
        }
        assert_eq!(urls.rotate_path, "rotate-sip-password");
    }
}
