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
    telepath: TelepathSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the keys of the file")]
struct TwilioSection {
    api_url: Option<String>,
    accounts_url: Option<String>,
    iam_url: Option<String>,
    trunking_url: Option<String>,
}

/// A carrier that has one API at one place.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ApiSection {
    api_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TelepathSection {
    api_url: Option<String>,
    rotate_path: Option<String>,
}

impl UpstreamSection {
    /// The carriers' endpoints, with the flags taken out of `options`.
    pub(super) fn endpoints(self, options: &mut ServeOptions) -> anyhow::Result<Endpoints> {
        let mut endpoints = Endpoints::default();
        let TwilioSection { api_url, accounts_url, iam_url, trunking_url } = self.twilio;
        let api_url = options.upstream_twilio_api_url.take().or(api_url);
        let accounts_url = options.upstream_twilio_accounts_url.take().or(accounts_url);
        let iam_url = options.upstream_twilio_iam_url.take().or(iam_url);
        let trunking_url = options.upstream_twilio_trunking_url.take().or(trunking_url);
        set("twilio.api_url", api_url, |url| endpoints.twilio.set_api(url))?;
        endpoints.twilio.follow_api();
        set("twilio.accounts_url", accounts_url, |url| endpoints.twilio.set_accounts(url))?;
        set("twilio.iam_url", iam_url, |url| endpoints.twilio.set_iam(url))?;
        set("twilio.trunking_url", trunking_url, |url| endpoints.twilio.set_trunking(url))?;
        let vobiz = options.upstream_vobiz_api_url.take().or(self.vobiz.api_url);
        set("vobiz.api_url", vobiz, |url| endpoints.vobiz.set(url))?;
        let TelepathSection { api_url, rotate_path } = self.telepath;
        let api_url = options.upstream_telepath_api_url.take().or(api_url);
        let rotate_path = options.upstream_telepath_rotate_path.take().or(rotate_path);
        set("telepath.api_url", api_url, |url| endpoints.telepath.set_api(url))?;
        set("telepath.rotate_path", rotate_path, |part| endpoints.telepath.set_rotate_path(part))?;
        Ok(endpoints)
    }
}

fn set(
    key: &str,
    value: Option<String>,
    set: impl FnOnce(&str) -> Result<(), Invalid>,
) -> anyhow::Result<()> {
    let Some(value) = value else { return Ok(()) };
    set(&value).map_err(|problem| anyhow!("upstream.{key} {problem}"))
}
