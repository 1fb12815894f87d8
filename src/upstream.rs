//! Carriers: asking them whether a token works. A new carrier is one file and one line in [`built_ins`].
//!
//! Nothing of a carrier's answer leaves this module but a verdict in our own words: answers may contain
//! secrets (Twilio's contains the account's primary token). Nothing here stores anything.

mod http;
mod json;
mod twilio;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::defect::{Defect, planted};
use crate::name::Invalid;
use crate::provider::{Kind, ProviderType, Refusal, Survey, Token, Verdict};
use crate::telemetry::metrics;

use http::Http;
pub use http::{BaseUrl, Network};
pub use twilio::TwilioUrls;

/// Where the carriers are reached; from the operator's configuration only.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// Twilio's hosts.
    pub twilio: TwilioUrls,
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
    let twilio = &endpoints.twilio;
    Ok(vec![Box::new(twilio::Twilio::new(
        http(ProviderType::Twilio, twilio.configured_hosts())?,
        twilio.clone(),
        Arc::clone(clock),
    ))])
}

/// A carrier's live API.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Which carrier.
    fn provider_type(&self) -> ProviderType;

    /// Checks a token's format, before any network.
    fn check_format(&self, token: &Token) -> Result<(), Invalid>;

    /// Asks the carrier whether `token` opens the account of `kind`: what decides whether it is taken.
    ///
    /// `Ok` is the carrier's own verdict, good or bad; `Err` means that it gave none.
    async fn ask(&self, kind: &Kind, token: &Token) -> Result<Verdict, Outage>;

    /// Looks at what else must be right for calls to work, until `deadline`. What cannot be asked is a check
    /// that is unavailable, never an error.
    async fn survey(&self, kind: &Kind, token: &Token, deadline: Instant) -> Survey;

    /// Where a token that was refused works, if it does: the region to name in an error. Until `deadline`.
    async fn works_elsewhere(
        &self,
        _kind: &Kind,
        _token: &Token,
        _deadline: Instant,
    ) -> Option<&'static str> {
        None
    }
}

/// A token that has the carrier's format and may be asked about.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Candidate(Token);

impl Candidate {
    /// Checks the format of a token that a caller sent.
    pub fn new(upstream: &dyn Upstream, token: Token) -> Result<Self, Invalid> {
        upstream.check_format(&token).map(|()| Self(token))
    }

    /// Where a candidate works that was refused, if that can be said before `deadline`.
    pub async fn works_elsewhere(
        &self,
        upstream: &dyn Upstream,
        kind: &Kind,
        deadline: Instant,
    ) -> Option<&'static str> {
        upstream.works_elsewhere(kind, &self.0, deadline).await
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
    upstream: &dyn Upstream,
    kind: &Kind,
    candidate: Candidate,
) -> Result<Validated, Failure> {
    let verdict = upstream.ask(kind, &candidate.0).await.map_err(Failure::Outage)?;
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
