//! The caller's end of the wire, for the commands that are clients: one call for every unary RPC, one error.
//!
//! Hides tonic. What a person should type after an error is the command line's business.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::{Message, Name};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::codec::Codec;
use super::status::DOMAIN;
use crate::name::Invalid;
use crate::secret::SecretText;

/// How long a call may take, from connecting to its answer. A vault gives up after 8 s by itself.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// A request: it knows its method and its answer. `build.rs` implements it for each.
pub trait Rpc: Message + 'static {
    /// What answers it.
    type Response: Message + Name + Default + 'static;
    /// `/package.Service/Method`.
    const PATH: &'static str;
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody spoke, or something that is not a vault did.
    #[error("{0}")]
    NoAnswer(String),
    /// The vault said no.
    #[error("{message}")]
    Refused {
        /// Its reason, as in `grpc/status.rs`.
        reason: String,
        /// What it means, for people.
        message: String,
        /// Not to be asked again before.
        retry_after: Option<Duration>,
    },
}

/// A vault to call, as one caller.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct Client {
    grpc: tonic::client::Grpc<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Client {
    /// A client of the vault at `address`. It connects when it first calls.
    ///
    /// There is no TLS yet, so only loopback addresses are called: a token goes over no network unencrypted.
    pub fn new(address: &str, token: &SecretText) -> Result<Self, Invalid> {
        // Not left to DNS, which could lead it elsewhere.
        let address = loopback(address)?.replace("localhost:", "127.0.0.1:");
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .and_then(|endpoint| {
                endpoint.user_agent(concat!("credvault/", env!("CARGO_PKG_VERSION")))
            })
            .map_err(|_| ADDRESS)?;
        let channel = endpoint.connect_timeout(CONNECT).connect_lazy();
        Ok(Self { grpc: tonic::client::Grpc::new(channel), bearer: bearer(token)? })
    }

    /// Calls the method that `request` is for.
    pub async fn call<R: Rpc>(&self, request: R) -> Result<R::Response, CallError> {
        let mut request = Request::new(request);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        let mut grpc = self.grpc.clone();
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            grpc.unary(request, PathAndQuery::from_static(R::PATH), Codec::default()).await
        };
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(refusal(&status)),
            Err(_) => {
                Err(CallError::NoAnswer(format!("no answer within {} s", DEADLINE.as_secs())))
            }
        }
    }
}

/// A time of the contract as ours.
pub fn time(stamp: Option<prost_types::Timestamp>) -> Option<jiff::Timestamp> {
    stamp.and_then(|stamp| jiff::Timestamp::new(stamp.seconds, stamp.nanos).ok())
}

const ADDRESS: Invalid = Invalid("the address must be HOST:PORT, such as 127.0.0.1:50051");

/// Checks that an address is `HOST:PORT` on this machine.
fn loopback(address: &str) -> Result<&str, Invalid> {
    const NOT_HERE: Invalid = Invalid(
        "the address is on another machine, and there is no TLS yet to keep the token secret on the way: \
         call 127.0.0.1:PORT, for example through `ssh -L 50051:127.0.0.1:50051 HOST`",
    );
    if address.starts_with("https:") {
        return Err(Invalid(
            "the address asks for TLS, which does not exist yet: leave out `https://`",
        ));
    }
    let address = address.strip_prefix("http://").unwrap_or(address);
    let here = if let Ok(address) = address.parse::<SocketAddr>() {
        address.ip().is_loopback()
    } else {
        let (host, port) = address.rsplit_once(':').ok_or(ADDRESS)?;
        port.parse::<u16>().map_err(|_| ADDRESS)?;
        host == "localhost"
    };
    if here { Ok(address) } else { Err(NOT_HERE) }
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
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        };
    }
    // The last cause says most: `Connection refused`.
    let mut told = status.message().to_owned();
    let mut next = status.source();
    while let Some(cause) = next {
        told = cause.to_string();
        next = cause.source();
    }
    CallError::NoAnswer(if told.is_empty() { status.code().to_string() } else { told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_called_in_plaintext() {
        for good in ["127.0.0.1:50051", "127.8.9.1:1", "[::1]:50051", "localhost:50051"] {
            assert_eq!(loopback(good), Ok(good));
            assert_eq!(loopback(&format!("http://{good}")), Ok(good));
        }
        for (bad, says) in [
            ("10.0.0.1:50051", "no TLS yet"),
            ("[::ffff:127.0.0.1]:50051", "no TLS yet"),
            ("0.0.0.0:50051", "no TLS yet"),
            ("vault.example.com:50051", "no TLS yet"),
            ("localhost.example.com:50051", "no TLS yet"),
            ("127.0.0.1.example.com:50051", "no TLS yet"),
            ("x@localhost:50051", "no TLS yet"),
            ("https://127.0.0.1:50051", "leave out"),
            ("127.0.0.1", "HOST:PORT"),
            ("localhost", "HOST:PORT"),
            ("localhost:50051/", "HOST:PORT"),
            ("", "HOST:PORT"),
        ] {
            let Invalid(problem) = loopback(bad).unwrap_err();
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
