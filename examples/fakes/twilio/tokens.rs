//! Auth Tokens, as they are made, promoted and deleted.
//!
//! - `POST` and `DELETE /v1/AuthTokens/Secondary`, by the primary token; `POST /v1/AuthTokens/Promote`, by either.
//!
//! Nothing reads a secondary token back. Two things are not documented, and can be chosen: what a second secondary
//! token does to the first, and how long a new token takes to be accepted.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::carrier::{Request, made_up};
use super::account::CredentialKind::{Primary, Secondary};
use super::{Reply, Twilio, region_of};

/// What Twilio does when a second secondary token is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondSecondary {
    /// It replaces the first.
    #[default]
    Replaces,
    /// It is refused with this status.
    IsRefused(u16),
}

impl Twilio {
    pub(super) fn auth_tokens(
        &mut self,
        request: &Request,
        rest: &[&str],
        now: Timestamp,
    ) -> Reply {
        let made = made_up("auth token", self.next_number());
        let (policy, delay) = (self.second_secondary, self.token_delay);
        let region = region_of(request).unwrap_or_default();
        // Nothing in the path names the account here: the credentials do.
        let (sid, _) = request.basic().ok_or(401_u16)?;
        let account = self.accounts.get_mut(&sid).ok_or(401_u16)?;
        let by = account.opened_by_token(request, now).ok_or(401_u16)?;
        match (request.method.as_str(), rest) {
            ("POST", ["Secondary"]) if by == Primary => {
                let first = account.token(region, Secondary).is_some();
                if let (true, SecondSecondary::IsRefused(status)) = (first, policy) {
                    return Err(status.into());
                }
                account.drop_token(region, Secondary);
                let valid_from = now.saturating_add(delay).unwrap_or(now);
                account.add(region, &sid, &made, Secondary, valid_from);
                Ok((201, token_resource(&sid, "secondary_auth_token", &made, "Secondary", now)))
            }
            ("DELETE", ["Secondary"]) if by == Primary => {
                if account.drop_token(region, Secondary) {
                    return Ok((204, Value::Null));
                }
                Err(404.into())
            }
            ("POST", ["Promote"]) => {
                if !account.promote(region) {
                    return Err(404.into());
                }
                let token = account.token(region, Primary).map(|it| it.secret.as_str());
                let token = token.unwrap_or_default();
                Ok((200, token_resource(&sid, "auth_token", token, "Promote", now)))
            }
            (_, ["Secondary"]) => Err(401.into()),
            _ => Err(404.into()),
        }
    }

    pub(super) fn set_token_delay(&mut self, delay: SignedDuration) {
        self.token_delay = delay;
    }
}

fn token_resource(sid: &str, field: &str, token: &str, path: &str, now: Timestamp) -> Value {
    json!({
        "account_sid": sid, field: token,
        "date_created": now.to_string(), "date_updated": now.to_string(),
        "url": format!("https://accounts.twilio.com/v1/AuthTokens/{path}"),
    })
}
