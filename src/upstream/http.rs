//! The one HTTP client. The only module that knows reqwest and rustls.
//!
//! - No redirects: the token goes where the operator said and nowhere else.
//! - No proxy from the environment, no cookies, no decompression.
//! - Connect within 2 s, everything within 5 s, at most 64 KiB of body, one try: the caller decides.
//! - The body is a secret: it is zeroized, never logged, never part of an error.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};
use zeroize::Zeroizing;

use super::Outage;
use crate::name::Invalid;
use crate::secret::SecretText;

const CONNECT: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 64 * 1024;

/// Where a carrier's API begins: https, or http to this machine for trials and tests.
#[derive(Debug, Clone)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Parses a base URL from the operator's configuration.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const RULE: Invalid = Invalid(
            "must be an https URL (http only to this machine) without user, path, query and fragment",
        );
        let url = Url::parse(text).map_err(|_| RULE)?;
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        match url.scheme() {
            "https" if bare => Ok(Self(url)),
            "http" if bare && local => Ok(Self(url)),
            _ => Err(RULE),
        }
    }

    /// The URL of a path below. Segments are escaped.
    pub(super) fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }
}

/// A carrier's answer, whatever it says.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// A pooled HTTPS client with the rules above.
#[derive(Debug, Clone)]
pub struct Http(Client);

impl Http {
    /// Makes the client.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes an HTTP client")]
    pub fn new() -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .build()?;
        Ok(Self(client))
    }

    /// A GET with HTTP Basic authentication.
    pub(super) async fn get(
        &self,
        url: Url,
        user: &str,
        password: &SecretText,
    ) -> Result<Answer, Outage> {
        let request = self.0.get(url).basic_auth(user, Some(password.expose()));
        let mut response = request.send().await.map_err(|error| outage(&error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Outage::Redirect);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Outage::RateLimited(retry_after(&response)));
        }
        if status.is_server_error() {
            return Err(Outage::ServerError);
        }
        // Filled in place: growing would leave copies of a secret behind.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        while let Some(chunk) = response.chunk().await.map_err(|error| outage(&error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Outage::Protocol);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}

/// Retry-After in seconds, between 1 and 60; 5 when it is absent or not a number.
fn retry_after(response: &reqwest::Response) -> Duration {
    let header = response.headers().get(reqwest::header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    Duration::from_secs(seconds.unwrap_or(5).clamp(1, 60))
}

/// What kind of outage an error is. Its text is for the log only: it names host and cause, never a header.
fn outage(error: &reqwest::Error) -> Outage {
    let mut outage = if error.is_timeout() { Outage::Timeout } else { Outage::Unreachable };
    let mut cause = error.source();
    while let Some(source) = cause {
        if is_tls(source) {
            // What a certificate says is the peer's text: it stays out of the log.
            tracing::warn!("ask the carrier: its certificate or its TLS is not acceptable");
            return Outage::Tls;
        }
        if is_nonsense(source) {
            outage = Outage::Protocol;
        }
        cause = source.source();
    }
    tracing::warn!(error = chain(error), outage = ?outage, "ask the carrier");
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
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_https_or_to_this_machine() {
        for good in [
            "https://api.twilio.com",
            "http://127.0.0.1:8081",
            "http://localhost:1/",
            "http://[::1]:9",
        ] {
            assert!(BaseUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "api.twilio.com",
            "http://api.twilio.com",
            "http://127.0.0.1.example.com",
            "ftp://localhost",
            "https://user@api.twilio.com",
            "https://api.twilio.com/path",
            "https://api.twilio.com?x",
            "file:///etc",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_cannot_break_out_of_its_segment() {
        let url = BaseUrl::parse("https://api.twilio.com").unwrap().join(&["a", "../b?c#d.json"]);
        assert_eq!(url.as_str(), "https://api.twilio.com/a/..%2Fb%3Fc%23d.json");
    }
}
