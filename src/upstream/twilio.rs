//! Twilio: `GET /2010-04-01/Accounts/{AccountSid}.json` decides.
//!
//! It is the only read that also says whether the account is open (twilio-oai, `twilio_api_v2010.json`).
//! Its 200 answer contains `auth_token`, so the body is treated as a secret and only `sid` and `status`
//! are read from it. A 401 is never remembered: a new token may take 60 s to spread at Twilio.

use async_trait::async_trait;
use serde::Deserialize;

use super::http::{BaseUrl, Http};
use super::json::nested_deeper_than;
use super::{Outage, Refusal, Upstream, Verdict};
use crate::name::Invalid;
use crate::provider::{AccountSid, CheckStatus, Kind, ProviderType, is_lower_hex};
use crate::secret::SecretText;

/// The carrier Twilio.
pub(super) struct Twilio {
    http: Http,
    api_url: BaseUrl,
}

/// What is read of Twilio's Account resource.
#[derive(Deserialize)]
struct Account {
    /// An account without a SID is not the one that was asked for.
    sid: Option<String>,
    status: String,
}

impl Twilio {
    pub(super) fn new(http: Http, api_url: BaseUrl) -> Self {
        Self { http, api_url }
    }

    async fn ask_account(
        &self,
        account_sid: &AccountSid,
        token: &SecretText,
    ) -> Result<Finding, Outage> {
        let file = format!("{}.json", account_sid.as_str());
        let url = self.api_url.join(&["2010-04-01", "Accounts", &file]);
        let answer = self.http.get(url, account_sid.as_str(), token).await?;
        match answer.status.as_u16() {
            200 => {}
            401 => return Ok(Finding::Refused(Refusal::RejectedToken)),
            403 => return Ok(Finding::Inactive { token_accepted: false }),
            404 => return Ok(Finding::Refused(Refusal::AccountNotFound)),
            _ => return Err(Outage::Protocol),
        }
        if nested_deeper_than(&answer.body, 64) {
            return Err(Outage::Protocol);
        }
        let account: Account =
            serde_json::from_slice(&answer.body).map_err(|_| Outage::Protocol)?;
        Ok(match account.status.as_str() {
            _ if account.sid.as_deref() != Some(account_sid.as_str()) => {
                Finding::Refused(Refusal::SidMismatch)
            }
            "active" => Finding::Good,
            "suspended" | "closed" => Finding::Inactive { token_accepted: true },
            _ => return Err(Outage::Protocol),
        })
    }
}

/// What Twilio's answer says.
enum Finding {
    Good,
    Inactive { token_accepted: bool },
    Refused(Refusal),
}

#[async_trait]
impl Upstream for Twilio {
    fn provider_type(&self) -> ProviderType {
        ProviderType::Twilio
    }

    fn check_format(&self, token: &SecretText) -> Result<(), Invalid> {
        if is_lower_hex(token.expose(), 32) {
            Ok(())
        } else {
            Err(Invalid("must be a Twilio Auth Token: 32 lower-case hexadecimal digits"))
        }
    }

    async fn ask(&self, kind: &Kind, token: &SecretText) -> Result<Verdict, Outage> {
        let Kind::Twilio { account_sid } = kind;
        let passed = (CheckStatus::Passed, "Twilio accepts the token for this account");
        let (refusal, credentials, account_active) = match self
            .ask_account(account_sid, token)
            .await?
        {
            Finding::Good => (None, passed, (CheckStatus::Passed, "the account is active")),
            Finding::Inactive { token_accepted } => {
                let unknown = "not known: Twilio checks no token of an account that is not active";
                let skipped = (CheckStatus::Skipped, unknown);
                let reopen = "the account is suspended or closed: reopen it in the Twilio Console";
                (
                    Some(Refusal::AccountInactive),
                    if token_accepted { passed } else { skipped },
                    (CheckStatus::Failed, reopen),
                )
            }
            Finding::Refused(refusal) => (
                Some(refusal),
                (CheckStatus::Failed, what_to_do(refusal)),
                (CheckStatus::Skipped, "not checked, since the credentials failed"),
            ),
        };
        let check = |name, (status, message)| (name, status, message);
        let checks =
            vec![check("credentials", credentials), check("account_active", account_active)];
        Ok(Verdict { refusal, checks })
    }
}

fn what_to_do(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::AccountNotFound => {
            "Twilio knows no account of this SID: check the SID, and create another provider if it is wrong"
        }
        Refusal::SidMismatch => {
            "Twilio answered for another account: check which account the token belongs to"
        }
        Refusal::RejectedToken | Refusal::AccountInactive => {
            "Twilio refuses the token: copy the current Auth Token from the Twilio Console and call UpdateToken"
        }
    }
}
