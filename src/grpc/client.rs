//! The caller's end of the wire, for the commands that are clients: one call for every RPC with one answer, one for those
//! with many, one error.
//!
//! Hides tonic. What a person should type after an error is the command line's business.

use std::error::Error as _;
use std::io;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, UnexpectedEof};
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::{Message, Name};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{ConnectError, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use super::codec::Codec;
use super::status::DOMAIN;
use crate::name::Invalid;
use crate::secret::SecretText;

/// How long a call may take, from connecting to its answer. A vault gives up after 8 s by itself.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long an answer that goes on may be silent. A vault says something every 30 s.
const SILENCE: Duration = Duration::from_secs(90);

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// Calls at once on a connection: what a vault takes before it refuses one.
pub const CALLS_AT_ONCE: usize = 64;

/// A request: it knows its method and its answer. `build.rs` implements it for each.
pub trait Rpc: Message + 'static {
    /// What answers it, once or many times.
    type Response: Message + Name + Default + 'static;
    /// `/package.Service/Method`.
    const PATH: &'static str;
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody is there.
    #[error("{0}")]
    NoAnswer(String),
    /// Something is there, with which no TLS connection came about: it got no call.
    #[error("{0}")]
    NoHandshake(String),
    /// Something is there, and did not answer as a vault does. The call may have been carried out.
    #[error("{0}")]
    Lost(String),
    /// The vault said no.
    #[error("{message}")]
    Refused {
        /// Its reason, as in `grpc/status.rs`.
        reason: String,
        /// What it means, for people.
        message: String,
        /// The resource that it speaks of, if it says so for programs.
        resource: Option<String>,
        /// Not to be asked again before.
        retry_after: Option<Duration>,
    },
}

/// A vault to call, as one caller.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Client {
    grpc: tonic::client::Grpc<Channel>,
    bearer: Option<MetadataValue<Ascii>>,
}

/// How a caller and a vault know each other.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "holds a token and a key")]
pub struct Identity<'a> {
    /// The API token.
    pub token: Option<&'a SecretText>,
    /// The authorities that vouch for the vault (PEM); None: those of browsers.
    pub authorities: Option<&'a str>,
    /// Certificate and private key of the caller (PEM).
    pub certificate: Option<(&'a str, &'a SecretText)>,
}

impl Client {
    /// A client of the vault at `address`: `https://HOST:PORT`, `unix:PATH`, or on this machine `HOST:PORT`. It
    /// connects when it first calls.
    pub fn new(address: &str, identity: &Identity<'_>) -> Result<Self, Invalid> {
        let endpoint = match Place::of(address)? {
            Place::Tls => {
                // Without any, everybody would be a stranger.
                let has_one = |pem: &str| pem.contains("-----BEGIN CERTIFICATE-----");
                if !identity.authorities.is_none_or(has_one) {
                    return Err(TLS_FILES);
                }
                let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| ADDRESS)?;
                endpoint.tls_config(tls(identity)).map_err(|_| TLS_FILES)?
            }
            place if identity.authorities.is_some() || identity.certificate.is_some() => {
                return Err(place.without_tls());
            }
            Place::Unix => Endpoint::from_shared(address.to_owned()).map_err(|_| ADDRESS)?,
            // Not left to DNS, which could lead it elsewhere.
            Place::Here(address) => {
                let address = address.replace("localhost:", "127.0.0.1:");
                Endpoint::from_shared(format!("http://{address}")).map_err(|_| ADDRESS)?
            }
        };
        let agent = concat!("credvault/", env!("CARGO_PKG_VERSION"));
        let endpoint = endpoint.user_agent(agent).map_err(|_| ADDRESS)?;
        let channel =
            endpoint.connect_timeout(CONNECT).concurrency_limit(CALLS_AT_ONCE).connect_lazy();
        let bearer = identity.token.map(bearer).transpose()?;
        Ok(Self { grpc: tonic::client::Grpc::new(channel), bearer })
    }

    /// Calls the method that `request` is for, which has one answer.
    pub async fn call<R: Rpc>(&self, request: R) -> Result<R::Response, CallError> {
        let (mut grpc, request) = (self.grpc.clone(), self.signed(request));
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            grpc.unary(request, PathAndQuery::from_static(R::PATH), Codec::default()).await
        };
        within(DEADLINE, call).await.map(Response::into_inner)
    }

    /// Calls the method that `request` is for, which has many answers.
    pub async fn stream<R: Rpc>(&self, request: R) -> Result<Answers<R::Response>, CallError> {
        let (mut grpc, request) = (self.grpc.clone(), self.signed(request));
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let path = PathAndQuery::from_static(R::PATH);
            grpc.server_streaming(request, path, Codec::default()).await
        };
        within(DEADLINE, call).await.map(|answers| Answers(answers.into_inner()))
    }

    fn signed<R>(&self, request: R) -> Request<R> {
        let mut request = Request::new(request);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }
}

/// The answers to one call. It ends when this is dropped.
#[derive(Debug)]
pub struct Answers<M>(Streaming<M>);

impl<M> Answers<M> {
    /// The next one. None: there are no more.
    pub async fn next(&mut self) -> Result<Option<M>, CallError> {
        within(SILENCE, self.0.message()).await
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => Err(CallError::Lost(format!("no answer within {} s", limit.as_secs()))),
    }
}

/// How many bytes a message takes.
pub fn size<M: Message>(message: &M) -> usize {
    message.encoded_len()
}

/// The message of an update mask.
pub fn field_mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() }
}

/// A length of time as the contract's.
pub fn duration(time: jiff::SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: time.as_secs(), nanos: time.subsec_nanos() }
}

/// A length of time of an answer.
pub fn length(duration: Option<prost_types::Duration>) -> Option<jiff::SignedDuration> {
    duration.map(|it| jiff::SignedDuration::new(it.seconds, it.nanos))
}

/// Our time as one of the contract.
pub fn timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A time of the contract as ours.
pub fn time(stamp: Option<prost_types::Timestamp>) -> Option<jiff::Timestamp> {
    stamp.and_then(|stamp| jiff::Timestamp::new(stamp.seconds, stamp.nanos).ok())
}

const ADDRESS: Invalid =
    Invalid("the address must be https://HOST:PORT, unix:PATH, or on this machine HOST:PORT");
const TLS_FILES: Invalid =
    Invalid("the files for TLS must be PEM, and the client key that of the client certificate");

/// Where an address leads.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Tls,
    Unix,
    /// `HOST:PORT` on this machine.
    Here(&'a str),
}

impl<'a> Place<'a> {
    fn of(address: &'a str) -> Result<Self, Invalid> {
        const NOT_HERE: Invalid = Invalid(
            "the address is on another machine, and a token goes over no network unencrypted: write https://HOST:PORT",
        );
        if let Some(rest) = address.strip_prefix("https://") {
            let named = rest.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok()
            });
            return if named { Ok(Self::Tls) } else { Err(ADDRESS) };
        }
        if let Some(path) = address.strip_prefix("unix:") {
            return if path.is_empty() { Err(ADDRESS) } else { Ok(Self::Unix) };
        }
        let address = address.strip_prefix("http://").unwrap_or(address);
        let here = if let Ok(address) = address.parse::<SocketAddr>() {
            address.ip().is_loopback()
        } else {
            let (host, port) = address.rsplit_once(':').ok_or(ADDRESS)?;
            port.parse::<u16>().map_err(|_| ADDRESS)?;
            host == "localhost"
        };
        if here { Ok(Self::Here(address)) } else { Err(NOT_HERE) }
    }

    fn without_tls(&self) -> Invalid {
        match self {
            Self::Unix => Invalid("a Unix socket has no TLS: leave out the certificate files"),
            _ => Invalid("certificate files need TLS: write the address as https://HOST:PORT"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "proves with a caller's key who calls")]
fn tls(identity: &Identity<'_>) -> ClientTlsConfig {
    let config = match identity.authorities {
        Some(authorities) => {
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities))
        }
        None => ClientTlsConfig::new().with_webpki_roots(),
    };
    match identity.certificate {
        Some((certificate, key)) => {
            config.identity(tonic::transport::Identity::from_pem(certificate, key.expose()))
        }
        None => config,
    }
}

#[expect(clippy::disallowed_methods, reason = "presents a caller's token to its vault")]
fn bearer(token: &SecretText) -> Result<MetadataValue<Ascii>, Invalid> {
    const RULE: Invalid =
        Invalid("the token must be one line, as `credvault tokens create` prints it");
    let text = token.expose();
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(RULE);
    }
    let mut value = MetadataValue::try_from(format!("Bearer {text}")).map_err(|_| RULE)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A vault's statuses carry its reason; any other was made by this end, or by somebody else.
fn refusal(status: &Status) -> CallError {
    let details = status.get_error_details();
    if let Some(info) = details.error_info()
        && info.domain == DOMAIN
    {
        return CallError::Refused {
            reason: info.reason.clone(),
            message: status.message().to_owned(),
            resource: info.metadata.get("name").cloned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        };
    }
    // The last cause says most: `Connection refused`.
    let mut told = status.message().to_owned();
    let (mut was_connecting, mut kind) = (false, None);
    let mut next = status.source();
    while let Some(cause) = next {
        told = cause.to_string();
        was_connecting |= cause.is::<ConnectError>();
        kind = cause.downcast_ref().map(io::Error::kind).or(kind);
        next = cause.source();
    }
    if told.is_empty() {
        told = status.code().to_string();
    }
    // A server that takes no certificate says so after its handshake.
    if told.contains("received fatal alert") {
        return CallError::NoHandshake(told);
    }
    match (was_connecting, kind) {
        (true, Some(InvalidData | UnexpectedEof | ConnectionReset | BrokenPipe)) => {
            CallError::NoHandshake(told)
        }
        (true, _) => CallError::NoAnswer(told),
        (false, _) => CallError::Lost(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_called_in_plaintext() {
        for good in ["127.0.0.1:50051", "127.8.9.1:1", "[::1]:50051", "localhost:50051"] {
            assert_eq!(Place::of(good), Ok(Place::Here(good)));
            assert_eq!(Place::of(&format!("http://{good}")), Ok(Place::Here(good)));
        }
        for tls in ["https://vault.example.com:50051", "https://10.0.0.1:1", "https://[::1]:1"] {
            assert_eq!(Place::of(tls), Ok(Place::Tls));
        }
        assert_eq!(Place::of("unix:/run/credvault/socket"), Ok(Place::Unix));
        for (bad, says) in [
            ("10.0.0.1:50051", "https://"),
            ("[::ffff:127.0.0.1]:50051", "https://"),
            ("0.0.0.0:50051", "https://"),
            ("vault.example.com:50051", "another machine"),
            ("localhost.example.com:50051", "another machine"),
            ("127.0.0.1.example.com:50051", "another machine"),
            ("x@localhost:50051", "another machine"),
            ("https://127.0.0.1", "HOST:PORT"),
            ("https://x@host:1", "HOST:PORT"),
            ("https://host:1/path", "HOST:PORT"),
            ("unix:", "unix:PATH"),
            ("127.0.0.1", "HOST:PORT"),
            ("localhost", "HOST:PORT"),
            ("localhost:50051/", "HOST:PORT"),
            ("", "HOST:PORT"),
        ] {
            let Invalid(problem) = Place::of(bad).unwrap_err();
            assert!(problem.contains(says), "{bad}: {problem}");
        }
    }

    #[test]
    fn a_token_is_one_line_and_never_printed() {
        let value = bearer(&SecretText::new("cv1_x_y_z".to_owned())).unwrap();
        assert!(value.is_sensitive() && !format!("{value:?}").contains("cv1"));
        for bad in ["two\nlines", "two words", "ü", "\u{7f}"] {
            assert!(bearer(&SecretText::new(bad.to_owned())).is_err(), "{bad:?}");
        }
    }
}
