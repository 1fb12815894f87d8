//! Twilio's hosts: `{product}.twilio.com`, and `{product}.{edge}.{region}.twilio.com` outside us1
//! (twilio.com/docs/global-infrastructure/using-the-twilio-rest-api-in-a-non-us-region).

use crate::name::Invalid;
use crate::provider::twilio::Region;
use crate::upstream::http::BaseUrl;

/// Where Twilio's products are.
#[derive(Debug, Clone)]
pub struct TwilioUrls {
    api: BaseUrl,
    accounts: BaseUrl,
    iam: BaseUrl,
    trunking: BaseUrl,
    /// Those that the operator named: they may have any address.
    configured: Vec<BaseUrl>,
}

impl Default for TwilioUrls {
    fn default() -> Self {
        let url = |text| BaseUrl::parse(text).expect("a literal that is https");
        Self {
            api: url("https://api.twilio.com"),
            accounts: url("https://accounts.twilio.com"),
            iam: url("https://iam.twilio.com"),
            trunking: url("https://trunking.twilio.com"),
            configured: Vec::new(),
        }
    }
}

impl TwilioUrls {
    /// Sets the REST API: accounts and phone numbers.
    pub fn set_api(&mut self, url: &str) -> Result<(), Invalid> {
        self.api = self.configure(url)?;
        Ok(())
    }

    /// Whoever has the REST API elsewhere does not mean to send tokens to Twilio's other APIs past it: they are there
    /// as well, unless they are set.
    pub fn follow_api(&mut self) {
        if !is_twilios(&self.api) {
            self.accounts.clone_from(&self.api);
            self.iam.clone_from(&self.api);
            self.trunking.clone_from(&self.api);
        }
    }

    /// Sets the API of secondary tokens, which rotation at Twilio needs.
    pub fn set_accounts(&mut self, url: &str) -> Result<(), Invalid> {
        self.accounts = self.configure(url)?;
        Ok(())
    }

    /// Sets the API that makes API keys.
    pub fn set_iam(&mut self, url: &str) -> Result<(), Invalid> {
        self.iam = self.configure(url)?;
        Ok(())
    }

    /// Sets the API of SIP trunks.
    pub fn set_trunking(&mut self, url: &str) -> Result<(), Invalid> {
        self.trunking = self.configure(url)?;
        Ok(())
    }

    fn configure(&mut self, url: &str) -> Result<BaseUrl, Invalid> {
        let url = parse(url)?;
        self.configured.push(url.clone());
        Ok(url)
    }

    /// The hosts that the operator named, and what they are called in the regions.
    pub(in crate::upstream) fn configured_hosts(&self) -> Vec<String> {
        let hosts = self
            .configured
            .iter()
            .flat_map(|url| Region::ALL.map(|region| in_region(url, region).host().to_owned()));
        hosts.collect()
    }

    pub(super) fn api(&self, region: Region) -> BaseUrl {
        in_region(&self.api, region)
    }

    pub(super) fn accounts(&self, region: Region) -> BaseUrl {
        in_region(&self.accounts, region)
    }

    pub(super) fn iam(&self, region: Region) -> BaseUrl {
        in_region(&self.iam, region)
    }

    pub(super) fn trunking(&self, region: Region) -> BaseUrl {
        in_region(&self.trunking, region)
    }

    /// Whether each region has a host of its own. What the operator named outside of twilio.com has not.
    pub(super) fn tells_regions_apart(&self) -> bool {
        self.api(Region::Us1).host() != self.api(Region::Ie1).host()
    }
}

/// Only names of Twilio's own, and of this machine, get a region: of another domain, the name so made could be
/// anybody's.
fn in_region(base: &BaseUrl, region: Region) -> BaseUrl {
    let has_regions = is_twilios(base) || base.host().ends_with(".localhost");
    match region {
        Region::Us1 => base.clone(),
        _ if has_regions => base.with_labels(&format!("{}.{}", region.edge(), region.as_str())),
        _ => base.clone(),
    }
}

/// Whether a URL is one of Twilio's own.
fn is_twilios(url: &BaseUrl) -> bool {
    url.host().ends_with(".twilio.com")
}

/// Refuses what Twilio retired, and what would send every region's tokens to one region.
fn parse(text: &str) -> Result<BaseUrl, Invalid> {
    let url = BaseUrl::parse(text)?;
    if url.host().ends_with('.') {
        return Err(Invalid("has a dot behind its host name: leave it out"));
    }
    let Some(labels) = url.host().strip_suffix(".twilio.com") else { return Ok(url) };
    match labels.split('.').collect::<Vec<_>>().as_slice() {
        [_] => Ok(url),
        [_, "ie1" | "au1" | "br1" | "de1" | "jp1" | "sg1" | "us2"] => Err(Invalid(
            "is a host that Twilio retired on 2026-04-28: leave this setting out; the region of each provider \
             chooses its host",
        )),
        _ => Err(Invalid(
            "names a region: leave this setting out; the region of each provider chooses its host",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_has_its_hosts() {
        let urls = TwilioUrls::default();
        let hosts = Region::ALL.map(|region| urls.api(region).host().to_owned());
        assert_eq!(
            hosts,
            [
                "api.twilio.com",
                "api.dublin.ie1.twilio.com",
                "api.sydney.au1.twilio.com",
                "api.tokyo.jp1.twilio.com",
            ]
        );
        assert_eq!(urls.trunking(Region::Ie1).host(), "trunking.dublin.ie1.twilio.com");
        assert_eq!(urls.accounts(Region::Au1).host(), "accounts.sydney.au1.twilio.com");
        assert_eq!(urls.iam(Region::Us1).host(), "iam.twilio.com");
        assert!(urls.tells_regions_apart());
    }

    #[test]
    fn a_name_of_this_machine_has_regions_and_no_name_of_others_is_made_up() {
        let mut urls = TwilioUrls::default();
        urls.set_api("http://api.localhost:8081").unwrap();
        let ireland = urls.api(Region::Ie1).join(&["x"]);
        assert_eq!(ireland.as_str(), "http://api.dublin.ie1.localhost:8081/x");
        for alone in [
            "http://127.0.0.1:8081",
            "http://localhost:8081",
            "http://[::1]:8081",
            "https://mygateway.dev",
            "https://twilio.gateway.example.com",
        ] {
            urls.set_api(alone).unwrap();
            assert!(!urls.tells_regions_apart(), "{alone}");
        }
    }

    #[test]
    fn all_apis_are_where_the_rest_api_is_unless_that_is_twilios() {
        for (api, trunking) in [
            ("https://API.twilio.com", "trunking.twilio.com"),
            ("https://api.twilio.com.gateway.example", "api.twilio.com.gateway.example"),
            ("http://127.0.0.1:8081", "127.0.0.1"),
        ] {
            let mut urls = TwilioUrls::default();
            urls.set_api(api).unwrap();
            urls.follow_api();
            assert_eq!(urls.trunking(Region::Us1).host(), trunking, "{api}");
            for (url, host) in [(&urls.accounts, "accounts"), (&urls.iam, "iam")] {
                assert_eq!(url.host(), trunking.replacen("trunking", host, 1), "{api}");
            }
        }
        assert!(TwilioUrls::default().set_api("https://api.twilio.com.").is_err());
    }

    #[test]
    fn retired_hosts_are_refused_with_a_hint() {
        let mut urls = TwilioUrls::default();
        for region in ["ie1", "au1", "br1", "de1", "jp1", "sg1", "us2"] {
            let refused = urls.set_api(&format!("https://api.{region}.twilio.com")).unwrap_err();
            assert!(refused.0.contains("retired"), "{region}");
        }
        let refused = urls.set_trunking("https://trunking.dublin.ie1.twilio.com").unwrap_err();
        assert!(refused.0.contains("names a region"));
        assert_eq!(urls.set_accounts("https://accounts.twilio.com"), Ok(()));
    }
}
