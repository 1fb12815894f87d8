//! Where a carrier is that has one API at one place.

use super::http::BaseUrl;
use crate::name::Invalid;

/// Where a carrier is that has one API at one place.
#[derive(Debug, Clone)]
pub struct ApiUrl {
    base: BaseUrl,
    /// Whether the operator named it: it may have any address then.
    configured: bool,
}

impl ApiUrl {
    /// Where the carrier itself says that it is.
    pub(super) fn published(url: &'static str) -> Self {
        let base = BaseUrl::parse(url).expect("a literal that is https");
        Self { base, configured: false }
    }

    /// Sets it as the operator wants it.
    pub fn set(&mut self, url: &str) -> Result<(), Invalid> {
        *self = Self { base: BaseUrl::parse(url)?, configured: true };
        Ok(())
    }

    /// The host, if the operator named it.
    pub(super) fn configured_hosts(&self) -> Vec<String> {
        self.configured.then(|| self.base.host().to_owned()).into_iter().collect()
    }

    pub(super) fn base(&self) -> &BaseUrl {
        &self.base
    }
}
