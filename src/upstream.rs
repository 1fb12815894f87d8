//! Carriers: asking them whether a token works, and changing what is there. A new carrier is one file and one line in [`built_ins`].
//!
//! Nothing of a carrier's answer leaves this module but a verdict in our own words: answers may contain
//! secrets (Twilio's contains the account's primary token). Nothing here stores anything.

mod api_url;
mod change;
mod http;
mod json;
mod plain;
mod telepath;
mod twilio;
mod vobiz;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::defect::{Defect, planted};
use crate::name::Invalid;
use crate::provider::{Kind, ProviderType, Refusal, Survey, Token, Verdict};
use crate::telemetry::metrics;

pub use api_url::ApiUrl;
pub use change::{Chooser, Effect, Found, Objection, UpstreamCredentials, UpstreamTokens};
use http::Http;
pub use http::{BaseUrl, Network};
pub use telepath::TelepathUrls;
pub use twilio::TwilioUrls;

/// Where the carriers are reached; from the operator's configuration only.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Twilio's hosts.
    pub twilio: TwilioUrls,
    /// Vobiz' API.
    pub vobiz: ApiUrl,
    /// Telepath's API.
    pub telepath: TelepathUrls,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            twilio: TwilioUrls::default(),
            vobiz: ApiUrl::published("https://api.vobiz.ai"),
            telepath: TelepathUrls::default(),
        }
    }
}

/// The carriers that Credvault knows. Each has a client of its own, and so its own limit on calls.
pub fn built_ins(
    network: &Network,
    endpoints: &Endpoints,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Box<dyn Upstream>>> {
    let http = |carrier: ProviderType, configured| {
        let metrics = metrics::Upstream::new(carrier.as_str());
        Http::new(network, Arc::clone(clock), configured, metrics)
    };
    let Endpoints { twilio, vobiz, telepath } = endpoints.clone();
    let twilio_http = http(ProviderType::Twilio, twilio.configured_hosts())?;
    let vobiz_http = http(ProviderType::Vobiz, vobiz.configured_hosts())?;
    let telepath_http = http(ProviderType::Telepath, telepath.configured_hosts())?;
    Ok(vec![
        Box::new(twilio::Twilio::new(twilio_http, twilio, Arc::clone(clock))),
        Box::new(vobiz::Vobiz::new(vobiz_http, vobiz, Arc::clone(clock))),
        Box::new(telepath::Telepath::new(telepath_http, telepath, Arc::clone(clock))),
    ])
}

/// A carrier's live API.
pub trait Upstream: Send + Sync {
    /// The account of `kind`, to ask about. `None`: it is not at this carrier.
    fn account<'a>(&'a self, kind: &'a Kind) -> Option<Box<dyn UpstreamAccount + 'a>>;
}

/// An account at a carrier, to ask about.
#[async_trait]
pub trait UpstreamAccount: Send + Sync {
    /// Checks a token's format, before any network.
    fn check_format(&self, token: &Token) -> Result<(), Misfit>;

    /// Asks the carrier whether `token` opens the account: what decides whether it is taken.
    ///
    /// `Ok` is the carrier's own verdict, good or bad; `Err` means that it gave none.
    async fn ask(&self, token: &Token) -> Result<Verdict, Outage>;

    /// Looks at what else must be right for calls to work, until `deadline`. What cannot be asked is a check
    /// that is unavailable, never an error. Nothing, where there is nothing to look at.
    async fn survey(&self, _token: &Token, _deadline: Instant) -> Survey {
        Survey::default()
    }

    /// Its SIP credentials. None: the vault does not know how to change them.
    fn credentials(&self) -> Option<&dyn UpstreamCredentials> {
        None
    }

    /// Its tokens, if it lets two be valid for a while. None: a person makes a new one. Whether the stored one may make
    /// another is known when it is tried.
    fn tokens(&self) -> Option<&dyn UpstreamTokens> {
        None
    }

    /// Where a token that was refused works, if it does: the region to name in an error. Until `deadline`.
    async fn works_elsewhere(&self, _token: &Token, _deadline: Instant) -> Option<&'static str> {
        None
    }
}

/// Why a token cannot be one of its carrier's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The carrier has no such kind of token.
    Kind(Invalid),
    /// The secret has not the carrier's form.
    Secret(Invalid),
}

/// A token that has the carrier's format and may be asked about.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Candidate(Token);

impl Candidate {
    /// Checks the format of a token that a caller sent.
    pub fn new(account: &dyn UpstreamAccount, token: Token) -> Result<Self, Misfit> {
        account.check_format(&token).map(|()| Self(token))
    }

    /// Where a candidate works that was refused, if that can be said before `deadline`.
    pub async fn works_elsewhere(
        &self,
        account: &dyn UpstreamAccount,
        deadline: Instant,
    ) -> Option<&'static str> {
        account.works_elsewhere(&self.0, deadline).await
    }
}

/// A token that its carrier confirmed. Only [`validate`] makes one, and only such tokens are stored.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Validated {
    token: Token,
    verdict: Verdict,
}

impl Validated {
    /// The token, to be sealed.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What the carrier confirmed.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

/// Asks the carrier about a candidate.
pub async fn validate(
    account: &dyn UpstreamAccount,
    candidate: Candidate,
) -> Result<Validated, Failure> {
    let verdict = account.ask(&candidate.0).await.map_err(Failure::Outage)?;
    match verdict.refusal.filter(|_| !planted(Defect::TrustRefused)) {
        None => Ok(Validated { token: candidate.0, verdict }),
        Some(refusal) => Err(Failure::Refusal(refusal, candidate)),
    }
}

/// Why a candidate did not become validated.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub enum Failure {
    /// The carrier said no to this one.
    Refusal(Refusal, Candidate),
    /// The carrier said nothing of use.
    Outage(Outage),
}

/// The carrier gave no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Too many calls; try again after this long.
    RateLimited(Duration),
    /// It failed (5xx).
    ServerError,
    /// It did not answer in time.
    Timeout,
    /// It could not be reached.
    Unreachable,
    /// Its certificate or its TLS is not acceptable.
    Tls,
    /// It points elsewhere; we do not follow.
    Redirect,
    /// It answered something that makes no sense here.
    Protocol,
    /// Its name leads to addresses that are not public, which the operator did not ask for.
    BlockedAddress,
    /// As many calls as we make at once are under way; it was not asked.
    AtCapacity,
    /// It failed repeatedly and is left alone for this long; it was not asked.
    CircuitOpen(Duration),
}
