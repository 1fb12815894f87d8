//! The one HTTP client. The only module that knows reqwest and rustls.
//!
//! - No redirects: the token goes where the operator said and nowhere else.
//! - No proxy from the environment, no cookies, no decompression.
//! - No address that is not public, unless the operator named that very host.
//! - Connect within 2 s, everything within 5 s, a limit on the body, one try: the caller decides.
//! - 16 calls at once; a circuit breaker leaves a carrier alone that keeps failing ([`breaker`]).
//! - The body is a secret: it is zeroized, never logged, never part of an error.

mod address;
mod base_url;
mod breaker;
mod request;

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::{Client, StatusCode, Url, redirect};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::Outage;
use crate::clock::Clock;
use crate::telemetry::metrics::{self, UpstreamCall};
use address::{Blocked, Names, Resolver};
pub use base_url::BaseUrl;
use breaker::{Breakers, End};
pub(super) use request::{Auth, Body, Request};
pub(super) use reqwest::Method;

const CONNECT: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 64 * 1024;

/// How many calls there may be at once, and how long a further one waits for its turn.
const PLACES: usize = 16;

/// How many of them calls may take that decide nothing: the others stay free for those that do.
const INFORMING: usize = 8;

const MAX_WAIT: Duration = Duration::from_secs(2);

/// What connects the vault to the world: whom it trusts, and how it finds addresses.
#[derive(Debug, Clone)]
pub struct Network {
    roots: Vec<Vec<u8>>,
    names: Names,
}

impl Network {
    /// The Internet: Mozilla's root certificates, and names as this machine looks them up.
    pub fn internet() -> Self {
        Self { roots: Vec::new(), names: Names::System }
    }

    /// Trusts one more root certificate (DER).
    #[must_use]
    pub fn with_root(mut self, der: &[u8]) -> Self {
        self.roots.push(der.to_owned());
        self
    }

    /// Looks names up here and nowhere else. Port 0 is the scheme's own.
    #[must_use]
    pub fn with_names(self, names: HashMap<String, Vec<SocketAddr>>) -> Self {
        Self { names: Names::Table(Arc::new(names)), ..self }
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It decides whether a token is taken.
    Decide,
    /// It only informs: it never takes all places, and its failures never open the circuit, so that what
    /// decides goes on without it.
    Inform,
}

/// A carrier's answer, whatever it says.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Whether the body is all of what the carrier sent.
    pub(super) complete: bool,
}

/// A call without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) outage: Outage,
    /// Whether the carrier may have got the request. It has not where no connection was made: then nothing can have
    /// come of it.
    pub(super) sent: bool,
}

impl Lost {
    fn unsent(outage: Outage) -> Self {
        Self { outage, sent: false }
    }

    fn sent(outage: Outage) -> Self {
        Self { outage, sent: true }
    }

    fn of(error: &reqwest::Error, url: &Url) -> Self {
        Self { outage: outage(error, url), sent: !error.is_connect() && !error.is_builder() }
    }
}

/// A pooled HTTPS client with the rules above, for one type of provider.
#[derive(Clone)]
pub(super) struct Http(Arc<Inner>);

struct Inner {
    client: Client,
    clock: Arc<dyn Clock>,
    configured: Arc<[String]>,
    places: Semaphore,
    informing: Semaphore,
    breakers: Breakers,
    metrics: metrics::Upstream,
}

impl Http {
    /// Makes the client. Only `configured_hosts` may have addresses that are not public.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes an HTTP client")]
    pub(super) fn new(
        network: &Network,
        clock: Arc<dyn Clock>,
        configured_hosts: Vec<String>,
        metrics: metrics::Upstream,
    ) -> anyhow::Result<Self> {
        let configured: Arc<[String]> = configured_hosts.into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in &network.roots {
            roots.add(CertificateDer::from(root.as_slice()))?;
        }
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let resolver =
            Resolver { names: network.names.clone(), configured: Arc::clone(&configured) };
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(resolver)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .build()?;
        let (places, informing) = (Semaphore::new(PLACES), Semaphore::new(INFORMING));
        let breakers = Breakers::new(Arc::clone(&clock));
        Ok(Self(Arc::new(Inner {
            client,
            clock,
            configured,
            places,
            informing,
            breakers,
            metrics,
        })))
    }

    /// Sends a request. More than 64 KiB of an answer's body are [`Outage::Protocol`].
    pub(super) async fn send(&self, purpose: Use, request: Request<'_>) -> Result<Answer, Outage> {
        self.send_whole(purpose, request).await.map_err(|lost| lost.outage)
    }

    /// Sends a request that changes something, for which it matters whether it was sent at all.
    pub(super) async fn change(&self, request: Request<'_>) -> Result<Answer, Lost> {
        self.send_whole(Use::Decide, request).await
    }

    async fn send_whole(&self, purpose: Use, request: Request<'_>) -> Result<Answer, Lost> {
        let url = request.url.clone();
        let ask = async {
            let answer = self.ask(request, MAX_BODY).await?;
            if answer.complete { Ok(answer) } else { Err(Lost::sent(Outage::Protocol)) }
        };
        self.call(purpose, &url, ask).await
    }

    /// Reads to inform, but stops reading after `limit` bytes, and what there is by then is the answer.
    pub(super) async fn get_up_to(
        &self,
        url: Url,
        auth: Auth<'_>,
        limit: usize,
    ) -> Result<Answer, Outage> {
        let request = Request::get(url.clone(), auth);
        let told = self.call(Use::Inform, &url, self.ask(request, limit)).await;
        told.map_err(|lost| lost.outage)
    }

    /// Makes a call, and counts how it ended.
    async fn call(
        &self,
        purpose: Use,
        url: &Url,
        ask: impl Future<Output = Result<Answer, Lost>>,
    ) -> Result<Answer, Lost> {
        let mut counted = Counted { metrics: &self.0.metrics, end: UpstreamCall::Canceled };
        let result = self.call_in_turn(purpose, url, ask).await;
        counted.end = end_of(&result);
        result
    }

    /// Makes a call when there is a place for it and the carrier is not left alone. The place is held,
    /// and a probe under way, until the body is read or the call is dropped.
    async fn call_in_turn(
        &self,
        purpose: Use,
        url: &Url,
        ask: impl Future<Output = Result<Answer, Lost>>,
    ) -> Result<Answer, Lost> {
        let Inner { configured, places, informing, breakers, .. } = &*self.0;
        if is_blocked_literal(url, configured) {
            let host = url.host_str();
            tracing::warn!(host, "ask the carrier: its address is not public");
            return Err(Lost::unsent(Outage::BlockedAddress));
        }
        let resting = |rest: Duration| {
            Lost::unsent(Outage::CircuitOpen(rest.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)))
        };
        let origin = url.origin().ascii_serialization();
        // Asked twice: at once, since no place is worth waiting for, and again after the wait.
        breakers.check(&origin).map_err(resting)?;
        // What informs has a deadline of its own, and may wait until then.
        let (_informing, wait) = match purpose {
            Use::Decide => (None, MAX_WAIT),
            Use::Inform => (Some(informing.acquire().await), Duration::MAX),
        };
        let Ok(Ok(_place)) = tokio::time::timeout(wait, places.acquire()).await else {
            return Err(Lost::unsent(Outage::AtCapacity));
        };
        let pass = breakers.pass(origin).map_err(resting)?;
        let began = Instant::now();
        let result = ask.await;
        self.0.metrics.took(began.elapsed());
        pass.end(match result.as_ref().map_err(|lost| lost.outage) {
            // Who refuses, or asks for patience, is there and works.
            Ok(_) | Err(Outage::RateLimited(_)) => End::Success,
            Err(
                Outage::ServerError
                | Outage::Timeout
                | Outage::Unreachable
                | Outage::Tls
                | Outage::Redirect
                | Outage::Protocol,
            ) if purpose == Use::Decide => End::Failure,
            Err(_) => End::Unknown,
        });
        self.0.metrics.circuits_open(breakers.open());
        result
    }

    async fn ask(&self, request: Request<'_>, limit: usize) -> Result<Answer, Lost> {
        let url = &request.url.clone();
        let request = request::build(&self.0.client, request).map_err(Lost::unsent)?;
        let mut response = request.send().await.map_err(|error| Lost::of(&error, url))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Lost::sent(Outage::Redirect));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = retry_after(&response, self.0.clock.now());
            return Err(Lost::sent(Outage::RateLimited(wait)));
        }
        if status.is_server_error() {
            return Err(Lost::sent(Outage::ServerError));
        }
        let mut body = Zeroizing::new(Vec::with_capacity(limit.min(4096)));
        let cut = |error| Lost::sent(outage(&error, url));
        while let Some(chunk) = response.chunk().await.map_err(cut)? {
            let part = chunk.slice(..chunk.len().min(limit - body.len()));
            append(&mut body, &part);
            if part.len() < chunk.len() {
                return Ok(Answer { status, body, complete: false });
            }
        }
        Ok(Answer { status, body, complete: true })
    }
}

/// Counts a call when it is dropped, with its end or without.
struct Counted<'a> {
    metrics: &'a metrics::Upstream,
    end: UpstreamCall,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.called(self.end);
    }
}

fn end_of(result: &Result<Answer, Lost>) -> UpstreamCall {
    match result.as_ref().map_err(|lost| lost.outage) {
        Ok(answer) if answer.status.is_success() => UpstreamCall::Ok,
        Ok(_) => UpstreamCall::Refused,
        Err(Outage::RateLimited(_)) => UpstreamCall::RateLimited,
        Err(Outage::ServerError) => UpstreamCall::ServerError,
        Err(Outage::Timeout) => UpstreamCall::Timeout,
        Err(Outage::Unreachable) => UpstreamCall::Unreachable,
        Err(Outage::Tls) => UpstreamCall::Tls,
        Err(Outage::Redirect) => UpstreamCall::Redirect,
        Err(Outage::Protocol) => UpstreamCall::Protocol,
        Err(Outage::BlockedAddress) => UpstreamCall::BlockedAddress,
        Err(Outage::AtCapacity) => UpstreamCall::AtCapacity,
        Err(Outage::CircuitOpen(_)) => UpstreamCall::CircuitOpen,
    }
}

/// Appends without leaving a copy behind, as a `Vec` that grows by itself does.
fn append(body: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let length = body.len() + bytes.len();
    if length > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * body.capacity())));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(bytes);
}

/// Whether the URL has an address in place of a name, which no look-up filters, and may not have it.
fn is_blocked_literal(url: &Url, configured: &[String]) -> bool {
    let public = match url.host() {
        Some(url::Host::Ipv4(address)) => address::is_public(address.into()),
        Some(url::Host::Ipv6(address)) => address::is_public(address.into()),
        Some(url::Host::Domain(_)) | None => true,
    };
    !public && !configured.iter().any(|host| Some(host.as_str()) == url.host_str())
}

const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// Retry-After, a number of seconds or a date (RFC 9110 §10.2.3), between 1 s and 60 s; 5 s when it is
/// absent or neither.
fn retry_after(response: &reqwest::Response, now: Timestamp) -> Duration {
    const DATE: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new();
    let header = response.headers().get(reqwest::header::RETRY_AFTER);
    let wait = header.and_then(|value| {
        let text = value.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = DATE.parse_timestamp(text).ok()?;
        Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
    });
    wait.unwrap_or(Duration::from_secs(5)).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
}

/// What kind of outage an error is. Its text is for the log only: it names host and cause, never a header.
fn outage(error: &reqwest::Error, url: &Url) -> Outage {
    let host = url.host_str();
    let mut outage = if error.is_timeout() { Outage::Timeout } else { Outage::Unreachable };
    let mut cause = error.source();
    while let Some(source) = cause {
        if is_tls(source) {
            // What a certificate says is the peer's text: it stays out of the log.
            tracing::warn!(host, "ask the carrier: its certificate or its TLS is not acceptable");
            return Outage::Tls;
        }
        if source.is::<Blocked>() {
            outage = Outage::BlockedAddress;
        }
        if is_nonsense(source) {
            outage = Outage::Protocol;
        }
        cause = source.source();
    }
    tracing::warn!(host, error = chain(error), outage = ?outage, "ask the carrier");
    outage
}

/// rustls errors travel inside an `io::Error`, or inside one inside another, where `source()` skips them.
fn is_tls(mut source: &(dyn std::error::Error + 'static)) -> bool {
    while let Some(inner) = source.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        source = inner;
    }
    source.is::<rustls::Error>()
}

/// A body that is not framed as HTTP says: hyper reports it as invalid input or data.
fn is_nonsense(source: &(dyn std::error::Error + 'static)) -> bool {
    source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
        || source.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        })
}

/// The causes of an error, without its URL (which holds an account's SID).
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(source) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests;
