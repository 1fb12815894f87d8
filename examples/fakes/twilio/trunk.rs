//! SIP trunks, as Twilio's trunking API shows them.

use serde::Deserialize;
use serde_json::{Value, json};

/// A SIP trunk. Its default is in order and has no credential list.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trunk {
    /// `TK…`.
    pub sid: String,
    /// Its name for people.
    pub friendly_name: String,
    /// Where calls are sent to, below `pstn.twilio.com`. A trunk may have none.
    pub domain_name: Option<String>,
    /// `disable-all`, `enable-all` or `sip-only`.
    pub transfer_mode: String,
    /// `from-transferee` or `from-transferor`.
    pub transfer_caller_id: String,
    /// Whether TLS and SRTP are required.
    pub secure: bool,
    /// `IP_ACL`, `CREDENTIAL_LIST`, both with a comma, or empty: no traffic.
    pub auth_type: String,
    /// The `CL…` that are attached.
    pub credential_lists: Vec<String>,
}

impl Default for Trunk {
    fn default() -> Self {
        Self {
            sid: format!("TK{}", "1".repeat(32)),
            friendly_name: "A trunk for trials".to_owned(),
            domain_name: Some("trial.pstn.twilio.com".to_owned()),
            transfer_mode: "disable-all".to_owned(),
            transfer_caller_id: "from-transferor".to_owned(),
            secure: false,
            auth_type: "CREDENTIAL_LIST".to_owned(),
            credential_lists: Vec::new(),
        }
    }
}

impl Trunk {
    /// Links are Twilio's own, wherever the fake listens: who follows one leaves the vault's hosts.
    fn url(&self) -> String {
        format!("https://trunking.twilio.com/v1/Trunks/{}", self.sid)
    }

    pub(super) fn resource(&self, account_sid: &str) -> Value {
        let url = self.url();
        let auth_types = self.auth_type.split(',').filter(|it| !it.is_empty());
        json!({
            "sid": self.sid, "account_sid": account_sid, "friendly_name": self.friendly_name,
            "domain_name": self.domain_name,
            "auth_type": self.auth_type, "auth_type_set": auth_types.collect::<Vec<_>>(),
            "transfer_mode": self.transfer_mode, "transfer_caller_id": self.transfer_caller_id,
            "secure": self.secure, "symmetric_rtp_enabled": false, "cnam_lookup_enabled": false,
            "disaster_recovery_method": "POST", "disaster_recovery_url": null,
            "recording": {"mode": "do-not-record", "trim": "do-not-trim"},
            "date_created": "2015-01-02T11:23:45Z", "date_updated": "2015-01-02T11:23:45Z",
            "url": url,
            "links": {
                "credential_lists": format!("{url}/CredentialLists"),
                "ip_access_control_lists": format!("{url}/IpAccessControlLists"),
                "origination_urls": format!("{url}/OriginationUrls"),
                "phone_numbers": format!("{url}/PhoneNumbers"),
            },
        })
    }

    pub(super) fn has_list(&self, sid: &str) -> bool {
        self.credential_lists.iter().any(|it| it == sid)
    }

    pub(super) fn credential_list(&self, account_sid: &str, sid: &str) -> Value {
        json!({
            "sid": sid, "account_sid": account_sid, "trunk_sid": self.sid,
            "friendly_name": "A credential list for trials",
            "date_created": "2018-04-28T00:10:23Z", "date_updated": "2018-04-28T00:10:23Z",
            "url": format!("{}/CredentialLists/{sid}", self.url()),
        })
    }

    /// All on one page: a trunk has few.
    pub(super) fn list_of_credential_lists(&self, account_sid: &str) -> Value {
        let lists = self.credential_lists.iter();
        let lists = lists.map(|sid| self.credential_list(account_sid, sid));
        let url = format!("{}/CredentialLists?PageSize=50&Page=0", self.url());
        json!({
            "credential_lists": lists.collect::<Vec<_>>(),
            "meta": {
                "key": "credential_lists", "page": 0, "page_size": 50, "url": url,
                "first_page_url": url, "next_page_url": null, "previous_page_url": null,
            },
        })
    }
}
