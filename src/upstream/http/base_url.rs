//! Where a carrier's API begins.

use reqwest::Url;

use super::address;
use crate::name::Invalid;

/// Where a carrier's API begins: https, or http to this machine for trials and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Parses a base URL from the operator's configuration.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const RULE: Invalid = Invalid(
            "must be an https URL (http only to this machine) without user, path, query and fragment",
        );
        let url = Url::parse(text).map_err(|_| RULE)?;
        let local = match url.host() {
            Some(url::Host::Domain(name)) => address::is_localhost(name),
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

    /// The host, as it stands in URLs.
    pub(in crate::upstream) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The same with further labels behind the first label of its host name. An address, or a name of one label,
    /// stays as it is.
    pub(in crate::upstream) fn with_labels(&self, labels: &str) -> Self {
        let mut url = self.0.clone();
        if let Some(url::Host::Domain(name)) = self.0.host()
            && let Some((first, rest)) = name.split_once('.')
        {
            let host = format!("{first}.{labels}.{rest}");
            // It cannot fail: a name with more labels of letters and digits is a name.
            url.set_host(Some(&host)).ok();
        }
        Self(url)
    }

    /// The URL of a path below. Segments are escaped.
    pub(in crate::upstream) fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }
}
