//! Twilio: one read decides whether a token is taken, three more tell what else works.
//!
//! - An Auth Token is asked about with `GET /2010-04-01/Accounts/{AccountSid}.json`, the only read that also
//!   says whether the account is open. Its answer contains `auth_token`, so the body is treated as a secret and
//!   only `sid` and `status` are read from it.
//! - An API key may not make that read unless it is a Main key, so it is asked about with the list of phone
//!   numbers, which every key for voice needs (twilio.com/docs/iam/api-keys).
//! - A 401 is never remembered: a new token may take 60 s to spread at Twilio.
//!
//! Shapes: twilio-oai, `twilio_api_v2010.json` and `twilio_trunking_v1.json`.

mod answer;
mod credentials;
mod survey;
mod tokens;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use self::answer::{Account, ErrorBody, NumberPage};
pub use self::urls::TwilioUrls;
use super::change::Undone;
use super::http::{Answer, Auth, Http, Request, Use};
use super::{
    Misfit, Objection, Outage, Upstream, UpstreamAccount, UpstreamCredentials, UpstreamTokens,
};
use crate::clock::Clock;
use crate::name::Invalid;
use crate::provider::twilio::{Region, TwilioAccount};
use crate::provider::{
    Check, CheckStatus, Kind, Refusal, Survey, Token, TokenKind, Verdict, check_name, is_lower_hex,
};

/// How long the other regions may take to say whether a refused token is theirs.
const ELSEWHERE: Duration = Duration::from_secs(2);

/// The carrier Twilio.
pub(super) struct Twilio {
    http: Http,
    urls: TwilioUrls,
    clock: Arc<dyn Clock>,
}

impl Twilio {
    pub(super) fn new(http: Http, urls: TwilioUrls, clock: Arc<dyn Clock>) -> Self {
        Self { http, urls, clock }
    }

    fn check(&self, name: &str, status: CheckStatus, message: impl Into<String>) -> Check {
        Check::new(name, status, message.into(), self.clock.now())
    }

    /// Sends a request that changes something. What gets a 429 was never processed
    /// (twilio.com/docs/api/errors/20429).
    async fn change(&self, request: Request<'_>) -> Result<Answer, Undone> {
        self.http.change(request).await.map_err(|lost| match lost.outage {
            Outage::RateLimited(_) => Undone::NotDone(lost.outage),
            _ => lost.into(),
        })
    }

    /// What Twilio says of a token in one region.
    async fn ask_in(
        &self,
        purpose: Use,
        region: Region,
        account: &TwilioAccount,
        token: &Token,
    ) -> Result<Said, Outage> {
        let sid = account.account_sid.as_str();
        let api = self.urls.api(region);
        let url = match token.kind {
            TokenKind::AuthToken => api.join(&["2010-04-01", "Accounts", &format!("{sid}.json")]),
            TokenKind::ApiKey { .. } => {
                let mut url =
                    api.join(&["2010-04-01", "Accounts", sid, "IncomingPhoneNumbers.json"]);
                url.set_query(Some("PageSize=1"));
                url
            }
        };
        let answer = self.http.send(purpose, Request::get(url, auth(account, token))).await?;
        if answer.status.as_u16() != 200 {
            return refusal(&answer, token);
        }
        match token.kind {
            TokenKind::AuthToken => Account::parse(&answer.body)?.judge(sid),
            TokenKind::ApiKey { .. } => Ok(NumberPage::parse(&answer.body, sid, None)?.judge()),
        }
    }
}

/// HTTP Basic, whose user is the account or the key.
fn auth<'a>(account: &'a TwilioAccount, token: &'a Token) -> Auth<'a> {
    let user = match &token.kind {
        TokenKind::AuthToken => account.account_sid.as_str(),
        TokenKind::ApiKey { sid } => sid.as_str(),
    };
    Auth::Basic { user, password: &token.secret }
}

/// What Twilio said of account and token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Yes,
    /// The account is not active, though Twilio looked at the token.
    YesButInactive,
    No(Refusal),
}

/// What an answer other than 200 means. Codes: twilio.com/docs/api/errors.
fn refusal(answer: &Answer, token: &Token) -> Result<Said, Outage> {
    let refusal = match (answer.status.as_u16(), ErrorBody::code(&answer.body)) {
        (400..=499, Some(10_001 | 20_005 | 90_010)) => Refusal::AccountInactive,
        (401, _) => Refusal::RejectedToken,
        (403, code) if token.kind != TokenKind::AuthToken && code != Some(20_403) => {
            Refusal::NotPermitted
        }
        (403, _) => Refusal::AccountInactive,
        (404, _) => Refusal::AccountNotFound,
        _ => return Err(Outage::Protocol),
    };
    Ok(Said::No(refusal))
}

/// What an answer means that is not the good one to a change, or to a read of what can be changed.
fn undone(answer: &Answer, token: &Token) -> Undone {
    match refusal(answer, token) {
        Ok(Said::No(Refusal::AccountNotFound)) => Undone::Refused(Objection::NotFound),
        Ok(Said::No(Refusal::NotPermitted)) => Undone::Refused(Objection::NotAllowed),
        Ok(Said::No(refusal)) => Undone::Refused(Objection::Token(refusal)),
        _ => Undone::by_status(answer),
    }
}

impl Upstream for Twilio {
    fn account<'a>(&'a self, kind: &'a Kind) -> Option<Box<dyn UpstreamAccount + 'a>> {
        match kind {
            Kind::Twilio(account) => Some(Box::new(At { twilio: self, account })),
            _ => None,
        }
    }
}

/// An account at Twilio.
struct At<'a> {
    twilio: &'a Twilio,
    account: &'a TwilioAccount,
}

#[async_trait]
impl UpstreamAccount for At<'_> {
    fn check_format(&self, token: &Token) -> Result<(), Misfit> {
        let secret = token.secret.expose();
        let (fits, rule) = match token.kind {
            TokenKind::AuthToken => (
                is_lower_hex(secret, 32),
                Invalid("must be a Twilio Auth Token: 32 lower-case hexadecimal digits"),
            ),
            // Twilio documents no shape; the ones it makes are 32 letters and digits.
            TokenKind::ApiKey { .. } => (
                (16..=128).contains(&secret.len())
                    && secret.bytes().all(|b| b.is_ascii_alphanumeric()),
                Invalid("must be the secret of a Twilio API key: 16 to 128 letters and digits"),
            ),
        };
        if fits { Ok(()) } else { Err(Misfit::Secret(rule)) }
    }

    async fn ask(&self, token: &Token) -> Result<Verdict, Outage> {
        use CheckStatus::{Failed, Passed, Skipped};
        let Self { twilio, account } = self;
        let region = account.region.as_str();
        let said = twilio.ask_in(Use::Decide, account.region, account, token).await;
        let said = said.inspect_err(|outage| {
            tracing::warn!(?outage, region, "ask Twilio about a token");
        })?;
        let (accepted, active) = match token.kind {
            TokenKind::AuthToken => {
                ("Twilio accepts the Auth Token for this account", "the account is active")
            }
            TokenKind::ApiKey { .. } => (
                "Twilio accepts the API key for this account",
                "Twilio serves this account (an API key cannot read the account's own status)",
            ),
        };
        let inactive = "Twilio says that the account is not active (suspended or closed): look into the Twilio \
                        Console, or ask Twilio's support";
        let unchecked = "not checked, since the credentials failed";
        let (credentials, account_active) = match said {
            Said::Yes => ((Passed, accepted.to_owned()), (Passed, active)),
            Said::YesButInactive => ((Passed, accepted.to_owned()), (Failed, inactive)),
            Said::No(Refusal::AccountInactive) => {
                let unknown =
                    "not checked: Twilio looks at no token of an account that is not active";
                ((Skipped, unknown.to_owned()), (Failed, inactive))
            }
            Said::No(refusal) => {
                ((Failed, what_to_do(refusal, &token.kind, region)), (Skipped, unchecked))
            }
        };
        let refusal = match said {
            Said::Yes => None,
            Said::YesButInactive => Some(Refusal::AccountInactive),
            Said::No(refusal) => Some(refusal),
        };
        let checks = vec![
            twilio.check(check_name::CREDENTIALS, credentials.0, credentials.1),
            twilio.check(check_name::ACCOUNT_ACTIVE, account_active.0, account_active.1),
        ];
        Ok(Verdict { refusal, checks })
    }

    async fn survey(&self, token: &Token, deadline: Instant) -> Survey {
        self.twilio.survey_of(self.account, token, deadline).await
    }

    fn credentials(&self) -> Option<&dyn UpstreamCredentials> {
        Some(self)
    }

    fn tokens(&self) -> Option<&dyn UpstreamTokens> {
        Some(self)
    }

    async fn works_elsewhere(&self, token: &Token, deadline: Instant) -> Option<&'static str> {
        let Self { twilio, account } = self;
        if !twilio.urls.tells_regions_apart() {
            return None;
        }
        let deadline = deadline.min(Instant::now() + ELSEWHERE);
        let others = Region::ALL.into_iter().filter(|region| *region != account.region);
        let asked = others.map(async |region| {
            let said =
                timeout_at(deadline, twilio.ask_in(Use::Inform, region, account, token)).await;
            matches!(said, Ok(Ok(Said::Yes))).then_some(region.as_str())
        });
        join_all(asked).await.into_iter().flatten().next()
    }
}

/// What a refusal means, and what to do about it.
fn what_to_do(refusal: Refusal, kind: &TokenKind, region: &str) -> String {
    match (refusal, kind) {
        (Refusal::AccountNotFound, _) => {
            "Twilio knows no account with this SID: if the SID is wrong, create another provider".to_owned()
        }
        (Refusal::SidMismatch, _) => {
            "Twilio answered for another account: check which account the token belongs to".to_owned()
        }
        (Refusal::NotPermitted, _) => {
            "the API key may not read phone numbers: allow it that in the Twilio Console, or call UpdateToken with a \
             Standard key"
                .to_owned()
        }
        (_, TokenKind::AuthToken) => format!(
            "Twilio refuses this token for this account in {region}: check that the account is open, copy the \
             current Auth Token of {region} from the Twilio Console, and call UpdateToken"
        ),
        (_, TokenKind::ApiKey { .. }) => format!(
            "Twilio refuses this API key in {region}: check that it still exists and that the account is open, or \
             make a key in {region} and call UpdateToken"
        ),
    }
}
