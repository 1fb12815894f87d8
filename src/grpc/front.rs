//! The front door: what happens to every call before and after its service.
//!
//! Deadline → panic isolation → size of the metadata → authentication → place for a large answer → place for a large request
//! → frame check → service → log line. Health is open to everybody, reflection to everybody in dev, everything else to
//! callers with a valid API token or client certificate only, so that an unknown peer cannot even find out which methods
//! exist.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};

use super::frame::{self, Checked, Messages};
use super::going_on::GoingOn;
use super::health::{Asks, Health};
use super::holding::Holding;
use super::large_answers::{self, Pieces};
use super::places::{OwnPlaces, Places};
use super::watches::{self, CredentialWatches, StrangersWatches, Watches};
use super::{Services, measure, status};
use crate::access::spiffe::Workload;
use crate::access::{self, Caller};
use crate::defect::{Defect, planted};
use crate::telemetry::metrics::AuthenticationFailure;
use crate::vault::{Error, Vault};

/// The longest that a call may take, up to the begin of an answer that goes on; a caller's shorter deadline wins.
const DEADLINE: Duration = Duration::from_secs(8);

/// The largest metadata of a call. HTTP/2 itself takes twice as much, so that it is refused with a status.
const MAX_HEADERS: usize = 8 * 1024;

const HEALTH: &str = "/grpc.health.v1.Health/";
const REFLECTION: &str = "/grpc.reflection.";

/// Whom a connection leads to.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The network address without the port, or `unix`.
    pub address: String,
    /// The workload that its certificate names, if it showed one.
    pub workload: Option<Arc<Workload>>,
    watches: Watches,
    large_answers: OwnPlaces,
    large_requests: OwnPlaces,
}

impl Peer {
    /// Whom a new connection leads to, of whom nothing but the address is known.
    pub fn stranger(address: String) -> Self {
        Self {
            address,
            workload: None,
            watches: Watches::of_connection(),
            large_answers: OwnPlaces::new(large_answers::BOUNDS),
            large_requests: OwnPlaces::new(frame::LARGE_AT_ONCE),
        }
    }
}

/// All services behind one door.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "holds a vault")]
pub struct Front {
    vault: Arc<Vault>,
    services: Arc<Services>,
    strangers_watches: StrangersWatches,
    credential_watches: CredentialWatches,
    large_answers: Places,
    large_requests: Places,
    health: Health,
}

impl Front {
    pub(super) fn new(vault: Arc<Vault>, services: Services, health: Health) -> Self {
        Self {
            vault,
            services: Arc::new(services),
            strangers_watches: StrangersWatches::new(),
            credential_watches: CredentialWatches::new(),
            large_answers: Places::new(large_answers::BOUNDS),
            large_requests: Places::new(frame::LARGE_AT_ONCE),
            health,
        }
    }

    /// Answers one call from `peer`.
    pub async fn answer<B>(self, request: Request<B>, peer: Peer) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        let measured = measure::begin(&path);
        let asked = timeout(request.headers());
        let deadline = asked.map_or(DEADLINE, |asked| asked.min(DEADLINE));
        let stopping = (path == watches::CREDENTIALS).then(|| self.health.stopping());
        // Boxed: it is large, and what holds it is moved a few times before it runs.
        let call = AssertUnwindSafe(Box::pin(self.call(request, peer))).catch_unwind();
        let result = match tokio::time::timeout(deadline, call).await {
            Ok(Ok(result)) => result,
            // The panic hook has logged where; what it said may contain anything.
            Ok(Err(_)) => Err(Error::Internal("a call panicked".into()).into()),
            Err(_) => Err(Error::DeadlineExceeded.into()),
        };
        let response = result.unwrap_or_else(Status::into_http);
        log(&path, &response, started.elapsed());
        match stopping {
            // It has begun, and goes on beyond our deadline, but not beyond the caller's.
            Some(stopping) if code(&response) == Code::Ok => {
                let deadline = asked.and_then(|asked| started.checked_add(asked));
                response.map(|body| Body::new(GoingOn::new(body, deadline, stopping, measured)))
            }
            _ => {
                measured.end(code(&response).into());
                response
            }
        }
    }

    async fn call<B>(self, request: Request<B>, peer: Peer) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        if header_size(request.headers()) > MAX_HEADERS {
            return Err(status::headers_too_large(MAX_HEADERS));
        }
        let path = request.uri().path();
        let (health, reflection) = (path.starts_with(HEALTH), path.starts_with(REFLECTION));
        let open = health || (reflection && self.vault.is_dev());
        let messages = if reflection { Messages::Many } else { Messages::One };
        // These two bring the stock codec, whose only INTERNAL is a message that does not decode.
        let foreign = health || reflection;
        let watches = health && Health::is_asked_by(path) == Some(Asks::ToWatch);
        let watch = if watches {
            Some(Box::pin(self.watch(request.headers(), &peer)).await?)
        } else {
            None
        };
        let large = reflection || large_answers::come_from(path);
        let large = large && !planted(Defect::HoardedAnswers);
        let own = large.then(|| peer.large_answers.clone());
        let limit = frame::limit(path);
        let own_requests = peer.large_requests.clone();
        let watching = (path == watches::CREDENTIALS).then(|| peer.watches.clone());
        let caller =
            if open { None } else { Some(self.authenticate(request.headers(), peer).await?) };

        // Before anything is read. The deadline of the call ends the wait as well.
        let principal = caller.as_ref().map_or("", |caller| &caller.actor.principal);
        let place = match own {
            Some(own) => self.large_answers.take(&own, principal).await,
            None => None,
        };
        let watching = match watching {
            Some(own) => Some(self.credential_watches.take(&own, principal)?),
            None => None,
        };
        let mut request = request.map(|body| Checked::new(body, messages, limit));
        // Kept until the call ends: what it decodes to is as large, and may have to wait for the store.
        let _room = if request.body_mut().is_large().await? && !planted(Defect::HoardedRequests) {
            let room = self.large_requests.take(&own_requests, principal).await;
            Some(room.ok_or_else(status::too_many_large_requests)?)
        } else {
            None
        };
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let response = self.services.answer(request).await;
        if foreign && code(&response) == Code::Internal {
            return Err(status::malformed_message("the message does not decode as its type"));
        }
        Ok(match (watch, watching, place) {
            (Some(watch), ..) => response.map(|body| Body::new(Holding::new(body, watch))),
            (_, Some(watching), _) => response.map(|body| Body::new(Holding::new(body, watching))),
            (_, _, Some(place)) => {
                response.map(|body| Body::new(Holding::new(Pieces::new(body), place)))
            }
            (None, None, None) => response,
        })
    }

    /// A place among those who watch health. Who shows a certificate or a valid token needs none among the strangers. A
    /// bad token is counted as everywhere, and its caller is one of them.
    async fn watch(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<impl Send + Unpin + 'static, Status> {
        let own = peer.watches.take().ok_or_else(status::too_many_watches)?;
        let known = peer.workload.is_some()
            || (headers.contains_key(AUTHORIZATION)
                && self.authenticate(headers, peer.clone()).await.is_ok());
        let strangers = (!known).then(|| self.strangers_watches.take(&peer.address));
        Ok((own, strangers.transpose()?))
    }

    /// Who calls. A token alone decides where there is one; else the certificate of the connection.
    async fn authenticate(&self, headers: &HeaderMap, peer: Peer) -> Result<Caller, Error> {
        match (bearer(headers), peer.workload) {
            (Some(token), _) => self.vault.authenticate(token, peer.address).await,
            (None, Some(workload)) if !headers.contains_key(AUTHORIZATION) => {
                self.vault.authenticate_workload(&workload, peer.address).await
            }
            (None, _) => {
                let why = AuthenticationFailure::Missing;
                Err(self.vault.not_authenticated(&peer.address, None, why))
            }
        }
    }
}

/// Names and values together, as HTTP/2 counts them (RFC 9113 §6.5.2).
fn header_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The one bearer token of a call. Two `authorization` values are none: it would be unclear whose call it is.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// The time that the caller gives a call: `grpc-timeout`, if it is readable.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?))
}

/// At most 8 digits and a unit, as in the gRPC protocol's `Timeout`.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(number)),
        "M" => Some(Duration::from_mins(number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// A refused call has its status in the head of the response; a good one in the trailers.
pub(super) fn code(response: &Response<Body>) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

/// One line a call: what, how it ended, how long it took. Never who presented what.
fn log(path: &str, response: &Response<Body>, took: Duration) {
    let code = code(response);
    // Only names that we know: a caller may put anything into a path.
    let known = |name: &&str| access::ACTIONS.iter().any(|(method, _)| method == name);
    let method = path.rsplit('/').next().filter(known);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(method = method.unwrap_or("other"), code = ?code, micros, "call");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_parse_as_the_protocol_says() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("00000100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }

    #[test]
    fn exactly_one_bearer_token_counts() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, http::HeaderValue::from_static(value));
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["bearer abc"]).as_deref(), Some("abc"));
        for none in
            [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer a"], &["Bearer a", "x"]]
        {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
