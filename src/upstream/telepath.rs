//! Telepath: one read decides whether a token (an API key, in Telepath's words) is taken.
//!
//! - The read is `GET /v1/trunks?limit=1`, the list of trunks with at most one of them
//!   (docs.telepathvoice.com/api-reference/trunks/list). No read of the account itself is published, and nothing in
//!   any answer names the account: a key opens the account that it was made in, whichever that is.
//! - 401 is published for a key that is not valid. 403 is not; it is a refusal all the same. 404, 405 and whatever
//!   else tell nothing of the token: they are an outage, never a yes.
//! - Errors come as `{"error": {"code", "message", "status"}}` or without `status` and with other codes, depending on
//!   the page. Only the status of the answer is read, so that both will do, and none.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::http::{Answer, Auth, Http, Request, Use};
use super::plain::{self, Said, counted};
use super::{ApiUrl, Misfit, Outage, Upstream, UpstreamAccount, json};
use crate::clock::Clock;
use crate::provider::{Kind, Refusal, Token, Verdict};

/// The carrier Telepath.
pub(super) struct Telepath {
    http: Http,
    api: ApiUrl,
    clock: Arc<dyn Clock>,
}

impl Telepath {
    pub(super) fn new(http: Http, api: ApiUrl, clock: Arc<dyn Clock>) -> Self {
        Self { http, api, clock }
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
        let mut url = telepath.api.base().join(&["v1", "trunks"]);
        url.set_query(Some("limit=1"));
        let request = Request::get(url, Auth::Bearer(&token.secret));
        let asked = telepath.http.send(Use::Decide, request).await;
        let said = asked.and_then(|answer| said(&answer)).inspect_err(|outage| {
            tracing::warn!(?outage, "ask Telepath about a token");
        })?;
        Ok(plain::verdict("Telepath", said, telepath.clock.now()))
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
