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
use jiff::Timestamp;

use crate::clock::Clock;
use crate::name::Invalid;
use crate::provider::{Check, CheckStatus, Kind, ProviderType, Status, Verification};
use crate::secret::SecretText;

use http::Http;
pub use http::{BaseUrl, Network};

/// Where the carriers are reached; from the operator's configuration only.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Twilio's REST API.
    pub twilio_api_url: BaseUrl,
}

impl Default for Endpoints {
    fn default() -> Self {
        let url = BaseUrl::parse("https://api.twilio.com").expect("a literal that is https");
        Self { twilio_api_url: url }
    }
}

/// The carriers that Credvault knows.
pub fn built_ins(
    network: &Network,
    endpoints: Endpoints,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Box<dyn Upstream>>> {
    let defaults = Endpoints::default();
    // Each has a client of its own, and so its own limit on calls. A host that the operator named may
    // have any address; one that we named may not, wherever DNS says that it is.
    let http = |url: &BaseUrl, default: &BaseUrl| {
        let named = Some(url).filter(|url| *url != default).map(|url| url.host().to_owned());
        Http::new(network, Arc::clone(clock), named.into_iter().collect())
    };
    let twilio = endpoints.twilio_api_url;
    Ok(vec![Box::new(twilio::Twilio::new(http(&twilio, &defaults.twilio_api_url)?, twilio))])
}

/// A carrier's live API.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Which carrier.
    fn provider_type(&self) -> ProviderType;

    /// Checks a token's format, before any network.
    fn check_format(&self, token: &SecretText) -> Result<(), Invalid>;

    /// Asks the carrier whether `token` opens the account of `kind`.
    ///
    /// `Ok` is the carrier's own verdict, good or bad; `Err` means that it gave none.
    async fn ask(&self, kind: &Kind, token: &SecretText) -> Result<Verdict, Outage>;
}

/// A token that has the carrier's format and may be asked about.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Candidate(SecretText);

impl Candidate {
    /// Checks the format of a token that a caller sent.
    pub fn new(upstream: &dyn Upstream, token: SecretText) -> Result<Self, Invalid> {
        upstream.check_format(&token).map(|()| Self(token))
    }
}

/// A token that its carrier confirmed. Only [`validate`] makes one, and only such tokens are stored.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Validated {
    token: SecretText,
    verification: Verification,
}

impl Validated {
    /// The token, to be sealed.
    pub fn token(&self) -> &SecretText {
        &self.token
    }

    /// What the carrier confirmed.
    pub fn verification(&self) -> &Verification {
        &self.verification
    }
}

/// Asks the carrier about a candidate.
pub async fn validate(
    upstream: &dyn Upstream,
    kind: &Kind,
    candidate: Candidate,
    now: impl Fn() -> Timestamp + Send,
) -> Result<Validated, Failure> {
    let verdict = upstream.ask(kind, &candidate.0).await.map_err(Failure::Outage)?;
    match verdict.refusal {
        Some(refusal) => Err(Failure::Refusal(refusal)),
        None => {
            Ok(Validated { token: candidate.0, verification: verdict.into_verification(now()) })
        }
    }
}

/// Why a candidate did not become validated.
#[derive(Debug)]
pub enum Failure {
    /// The carrier said no.
    Refusal(Refusal),
    /// The carrier said nothing of use.
    Outage(Outage),
}

/// What a carrier said of a token.
#[derive(Debug)]
pub struct Verdict {
    refusal: Option<Refusal>,
    checks: Vec<(&'static str, CheckStatus, &'static str)>,
}

impl Verdict {
    /// The verdict as it is stored and shown.
    pub fn into_verification(self, now: Timestamp) -> Verification {
        let status = match self.refusal {
            Some(_) => Status::Failed,
            None if self.checks.iter().all(|check| check.1 == CheckStatus::Passed) => {
                Status::Verified
            }
            None => Status::Warning,
        };
        let check = |(name, status, message): (&str, CheckStatus, &str)| Check {
            name: name.to_owned(),
            status,
            message: message.to_owned(),
            time: now,
        };
        let checks = self.checks.into_iter().map(check).collect();
        Verification { status, last_verify_time: Some(now), checks }
    }
}

/// A carrier's definite no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// This account and token do not belong together.
    RejectedToken,
    /// The account is suspended or closed.
    AccountInactive,
    /// There is no such account.
    AccountNotFound,
    /// The carrier answered for another account.
    SidMismatch,
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
    Busy,
    /// It failed repeatedly and is left alone for this long; it was not asked.
    Resting(Duration),
}
