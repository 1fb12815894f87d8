//! Vobiz: one read decides whether a token is taken.
//!
//! - The read is `GET /api/v1/account/{auth_id}/trunks/credentials?limit=1`, the list of SIP credentials with at most
//!   one of them (docs.vobiz.ai/trunks/credentials/retrieve-all-credentials). It shows no password, and `meta.total`
//!   tells how many there are.
//! - Vobiz publishes this path with `account`, and that of an update of a credential with `Account`. Each is sent as it
//!   is published; whether the case matters is not said.
//! - 403 is published as "authenticated but lacking permission"; what an account gets that is not active is not
//!   published. Both are a refusal.

mod credentials;

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use url::Url;

use super::http::{Answer, Auth, Http, Request, Use};
use super::plain::{self, Said, counted};
use super::{ApiUrl, Misfit, Outage, Upstream, UpstreamAccount, UpstreamCredentials, json};
use crate::clock::Clock;
use crate::provider::vobiz::VobizAccount;
use crate::provider::{Kind, Refusal, Token, Verdict};

/// The carrier Vobiz.
pub(super) struct Vobiz {
    http: Http,
    api: ApiUrl,
    clock: Arc<dyn Clock>,
}

impl Vobiz {
    pub(super) fn new(http: Http, api: ApiUrl, clock: Arc<dyn Clock>) -> Self {
        Self { http, api, clock }
    }
}

impl Upstream for Vobiz {
    fn account<'a>(&'a self, kind: &'a Kind) -> Option<Box<dyn UpstreamAccount + 'a>> {
        match kind {
            Kind::Vobiz(account) => Some(Box::new(At { vobiz: self, account })),
            _ => None,
        }
    }
}

/// An account at Vobiz.
struct At<'a> {
    vobiz: &'a Vobiz,
    account: &'a VobizAccount,
}

impl At<'_> {
    fn auth<'a>(&'a self, token: &'a Token) -> Auth<'a> {
        let id = ("x-auth-id", self.account.auth_id.as_str());
        Auth::Headers { id, token: ("x-auth-token", &token.secret) }
    }

    /// The list of SIP credentials, with this query.
    fn list(&self, query: &str) -> Url {
        let auth_id = self.account.auth_id.as_str();
        let path = ["api", "v1", "account", auth_id, "trunks", "credentials"];
        let mut url = self.vobiz.api.base().join(&path);
        url.set_query(Some(query));
        url
    }
}

#[async_trait]
impl UpstreamAccount for At<'_> {
    fn check_format(&self, token: &Token) -> Result<(), Misfit> {
        plain::check_format(token)
    }

    async fn ask(&self, token: &Token) -> Result<Verdict, Outage> {
        let auth_id = self.account.auth_id.as_str();
        let request = Request::get(self.list("limit=1"), self.auth(token));
        let asked = self.vobiz.http.send(Use::Decide, request).await;
        let said = asked.and_then(|answer| said(&answer, auth_id)).inspect_err(|outage| {
            tracing::warn!(?outage, "ask Vobiz about a token");
        })?;
        Ok(plain::verdict("Vobiz", said, self.vobiz.clock.now()))
    }

    fn credentials(&self) -> Option<&dyn UpstreamCredentials> {
        Some(self)
    }
}

/// A page of SIP credentials.
#[derive(Deserialize)]
struct Page {
    meta: Meta,
    objects: Vec<Credential>,
}

#[derive(Deserialize)]
struct Meta {
    total: u64,
}

#[derive(Deserialize)]
struct Credential {
    account_id: Option<String>,
}

/// What Vobiz said. Errors are told by their status: nothing in their bodies is needed.
fn said(answer: &Answer, auth_id: &str) -> Result<Said, Outage> {
    let (refusal, why) = match answer.status.as_u16() {
        200 => {
            let page: Page = json::parse(&answer.body)?;
            let of_another =
                |it: &Credential| it.account_id.as_ref().is_some_and(|id| id != auth_id);
            if !page.objects.iter().any(of_another) {
                let credentials = counted(page.meta.total, "SIP credential");
                let accepted =
                    format!("Vobiz accepts the token for this account, which has {credentials}");
                return Ok(Said::Yes(accepted));
            }
            let why =
                "Vobiz answered for another account: check which account the token belongs to";
            (Refusal::SidMismatch, why)
        }
        401 => (
            Refusal::RejectedToken,
            "Vobiz refuses this token for this account: copy the current Auth Token from the Vobiz Console, and call \
             UpdateToken",
        ),
        403 => (
            Refusal::AccountInactive,
            "Vobiz does not let this account list its SIP credentials: it is not active, or may not do that; look into \
             the Vobiz Console",
        ),
        404 => (
            Refusal::AccountNotFound,
            "Vobiz knows no account with this Auth ID: if the Auth ID is wrong, create another provider",
        ),
        _ => return Err(Outage::Protocol),
    };
    Ok(Said::No(refusal, why))
}
