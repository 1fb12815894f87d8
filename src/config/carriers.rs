//! Where the carriers are: `[upstream]` of the file, and the flags that win over it.

use anyhow::anyhow;
use serde::Deserialize;

use super::ServeOptions;
use crate::name::Invalid;
use crate::upstream::Endpoints;

/// `[upstream]` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UpstreamSection {
    twilio: TwilioSection,
    vobiz: ApiSection,
    telepath: ApiSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the keys of the file")]
struct TwilioSection {
    api_url: Option<String>,
    accounts_url: Option<String>,
    trunking_url: Option<String>,
}

/// A carrier that has one API at one place.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ApiSection {
    api_url: Option<String>,
}

impl UpstreamSection {
    /// The carriers' endpoints, with the flags taken out of `options`.
    pub(super) fn endpoints(self, options: &mut ServeOptions) -> anyhow::Result<Endpoints> {
        let mut endpoints = Endpoints::default();
        let TwilioSection { api_url, accounts_url, trunking_url } = self.twilio;
        let api_url = options.upstream_twilio_api_url.take().or(api_url);
        let accounts_url = options.upstream_twilio_accounts_url.take().or(accounts_url);
        let trunking_url = options.upstream_twilio_trunking_url.take().or(trunking_url);
        set_url("twilio.api_url", api_url, |url| endpoints.twilio.set_api(url))?;
        endpoints.twilio.follow_api();
        set_url("twilio.accounts_url", accounts_url, |url| endpoints.twilio.set_accounts(url))?;
        set_url("twilio.trunking_url", trunking_url, |url| endpoints.twilio.set_trunking(url))?;
        let vobiz = options.upstream_vobiz_api_url.take().or(self.vobiz.api_url);
        set_url("vobiz.api_url", vobiz, |url| endpoints.vobiz.set(url))?;
        let telepath = options.upstream_telepath_api_url.take().or(self.telepath.api_url);
        set_url("telepath.api_url", telepath, |url| endpoints.telepath.set(url))?;
        Ok(endpoints)
    }
}

fn set_url(
    key: &str,
    url: Option<String>,
    set: impl FnOnce(&str) -> Result<(), Invalid>,
) -> anyhow::Result<()> {
    let Some(url) = url else { return Ok(()) };
    set(&url).map_err(|problem| anyhow!("upstream.{key} {problem}"))
}
