//! Tokens at Twilio, two of which are valid for a while.
//!
//! - An Auth Token has a secondary one beside it, which is made, then promoted by itself: that ends the first
//!   (twilio.com/docs/iam/api/authtoken). Nothing reads a secondary token back, so that one whose answer was lost can
//!   only be discarded.
//! - There are as many API keys as one makes. A key that is made here is a Standard key, since Twilio makes Main keys
//!   in its Console only, and a Standard key may not touch keys (twilio.com/docs/iam/api-keys/key-resource-v1). So only
//!   a Main key can be replaced, by one that cannot be replaced in turn. Nor can that one end the Main key, which ends
//!   itself.
//! - What a Standard key is told that touches keys is not documented. It seems to be what a wrong key is told (401,
//!   20003), so another read tells them apart.

use async_trait::async_trait;
use url::Url;

use super::answer::{KeyPage, NewKey, Promotion, SecondaryToken};
use super::{At, Said, auth, undone};
use crate::provider::twilio::ApiKeySid;
use crate::provider::{Refusal, Token, TokenKind};
use crate::upstream::change::Undone;
use crate::upstream::http::{Answer, Body, Method, Request, Use};
use crate::upstream::{Effect, Objection, Outage, UpstreamAccount as _, UpstreamTokens};

/// A page of 100 stays below the longest answer that is read. So many pages are read at the most.
const PAGE_SIZE: &str = "PageSize=100";
const MAX_PAGES: usize = 20;

#[async_trait]
impl UpstreamTokens for At<'_> {
    async fn discard(&self, current: &Token, label: &str) -> Effect<()> {
        match &current.kind {
            TokenKind::AuthToken => self.drop_secondary(current).await.into(),
            TokenKind::ApiKey { sid } => self.delete_labelled(current, sid, label).await.into(),
        }
    }

    async fn make(&self, current: &Token, label: &str) -> Effect<Token> {
        match &current.kind {
            TokenKind::AuthToken => self.make_secondary(current).await.into(),
            TokenKind::ApiKey { .. } => self.make_key(current, label).await.into(),
        }
    }

    async fn finish(&self, new: &Token, old: &Token) -> Effect<()> {
        match (&new.kind, &old.kind) {
            (TokenKind::AuthToken, TokenKind::AuthToken) => self.promote(new, old).await.into(),
            (TokenKind::ApiKey { sid }, TokenKind::ApiKey { sid: same }) if sid == same => {
                Effect::Refused(Objection::Other)
            }
            (_, TokenKind::ApiKey { sid }) => self.end_key(new, old, sid).await.into(),
            (TokenKind::ApiKey { .. }, TokenKind::AuthToken) => {
                Effect::Refused(Objection::NotAllowed)
            }
        }
    }
}

/// Auth Tokens.
impl At<'_> {
    fn auth_tokens(&self, last: &str) -> Url {
        self.twilio.urls.accounts(self.account.region).join(&["v1", "AuthTokens", last])
    }

    async fn drop_secondary(&self, primary: &Token) -> Result<(), Undone> {
        let auth = auth(self.account, primary);
        let request = Request::bare(Method::DELETE, self.auth_tokens("Secondary"), auth);
        let answer = self.twilio.change(request).await?;
        match answer.status.as_u16() {
            204 | 404 => Ok(()),
            _ => Err(undone(&answer, primary)),
        }
    }

    async fn make_secondary(&self, primary: &Token) -> Result<Token, Undone> {
        let auth = auth(self.account, primary);
        let request = Request::bare(Method::POST, self.auth_tokens("Secondary"), auth);
        let answer = self.twilio.change(request).await?;
        if answer.status.as_u16() != 201 {
            return Err(without_credential(undone(&answer, primary)));
        }
        let secret = SecondaryToken::parse(&answer.body, self.account.account_sid.as_str());
        let secret = secret.map_err(Undone::Unknown)?;
        Ok(Token { kind: TokenKind::AuthToken, secret })
    }

    /// Twilio promotes whatever is the secondary token by then, so it is asked only while the old one is the primary:
    /// after that somebody else's would be promoted, and this one ended.
    async fn promote(&self, new: &Token, old: &Token) -> Result<(), Undone> {
        match self.says_of(old).await.map_err(Undone::NotDone)? {
            Said::No(Refusal::RejectedToken) => {
                return match self.says_of(new).await.map_err(Undone::NotDone)? {
                    Said::Yes | Said::YesButInactive => Ok(()),
                    said @ Said::No(_) => Err(Undone::Refused(objection_to(said))),
                };
            }
            Said::No(refusal) => return Err(Undone::Refused(Objection::Token(refusal))),
            Said::Yes | Said::YesButInactive => {}
        }
        let auth = auth(self.account, new);
        let request = Request::bare(Method::POST, self.auth_tokens("Promote"), auth);
        let answer = self.twilio.change(request).await?;
        match answer.status.as_u16() {
            200 => {
                let account = self.account.account_sid.as_str();
                Promotion::confirm(&answer.body, account, &new.secret).map_err(Undone::Unknown)
            }
            // There is no secondary token, so this was done before: if the old token says so, too.
            404 => match self.says_of(old).await {
                Ok(Said::No(Refusal::RejectedToken)) => Ok(()),
                Ok(_) => Err(Undone::Unknown(Outage::Protocol)),
                Err(outage) => Err(Undone::Unknown(outage)),
            },
            _ => Err(undone(&answer, new)),
        }
    }
}

/// API keys.
impl At<'_> {
    fn keys(&self, below: &[&str]) -> Url {
        let account = self.account.account_sid.as_str();
        let path = [&["2010-04-01", "Accounts", account], below].concat();
        self.twilio.urls.api(self.account.region).join(&path)
    }

    async fn make_key(&self, current: &Token, label: &str) -> Result<Token, Undone> {
        let url = self.twilio.urls.iam(self.account.region).join(&["v1", "Keys"]);
        let account = self.account.account_sid.as_str();
        let body = Body::form(&[("AccountSid", account), ("FriendlyName", label)]);
        let auth = auth(self.account, current);
        let request = Request::with_body(Method::POST, url, auth, body);
        let answer = self.twilio.change(request).await?;
        if answer.status.as_u16() != 201 {
            return Err(self.no_to_keys(&answer, current).await);
        }
        let NewKey { sid, secret } = NewKey::parse(&answer.body).map_err(Undone::Unknown)?;
        let token = Token { kind: TokenKind::ApiKey { sid }, secret };
        self.check_format(&token).map_err(|_| Undone::Unknown(Outage::Protocol))?;
        Ok(token)
    }

    async fn delete_labelled(
        &self,
        current: &Token,
        own: &ApiKeySid,
        label: &str,
    ) -> Result<(), Undone> {
        let labelled = self.labelled(current, label).await.map_err(Undone::of_a_read)?;
        for sid in labelled.iter().filter(|sid| *sid != own) {
            let answer = self.delete_key(current, sid).await?;
            if !matches!(answer.status.as_u16(), 204 | 404) {
                return Err(self.no_to_keys(&answer, current).await);
            }
        }
        Ok(())
    }

    /// The keys with this name: all of them, or an error.
    async fn labelled(&self, current: &Token, label: &str) -> Result<Vec<ApiKeySid>, Undone> {
        let mut url = self.keys(&["Keys.json"]);
        url.set_query(Some(PAGE_SIZE));
        let mut labelled = Vec::new();
        for _ in 0..MAX_PAGES {
            let request = Request::get(url.clone(), auth(self.account, current));
            let told = self.twilio.http.send(Use::Decide, request).await;
            let answer = told.map_err(Undone::NotDone)?;
            if answer.status.as_u16() != 200 {
                return Err(self.no_to_keys(&answer, current).await);
            }
            let page = KeyPage::parse(&answer.body).map_err(Undone::NotDone)?;
            let named = page.keys.iter().filter(|key| key.friendly_name.as_deref() == Some(label));
            for key in named {
                let sid = ApiKeySid::parse(&key.sid);
                labelled.push(sid.map_err(|_| Undone::NotDone(Outage::Protocol))?);
            }
            let Some(next) = page.next(url.path()).map_err(Undone::NotDone)? else {
                return Ok(labelled);
            };
            url.set_query(Some(next));
        }
        Err(Undone::NotDone(Outage::Protocol))
    }

    async fn delete_key(&self, by: &Token, sid: &ApiKeySid) -> Result<Answer, Undone> {
        let url = self.keys(&["Keys", &format!("{}.json", sid.as_str())]);
        let request = Request::bare(Method::DELETE, url, auth(self.account, by));
        self.twilio.change(request).await
    }

    /// Deletes the old key by the new token, or by itself, if the new one works and may not do that.
    async fn end_key(&self, new: &Token, old: &Token, sid: &ApiKeySid) -> Result<(), Undone> {
        let answer = self.delete_key(new, sid).await?;
        match answer.status.as_u16() {
            204 | 404 => return Ok(()),
            401 | 403 => {}
            _ => return Err(without_credential(undone(&answer, new))),
        }
        match self.says_of(new).await.map_err(Undone::NotDone)? {
            Said::Yes => {}
            said => return Err(Undone::Refused(objection_to(said))),
        }
        let answer = self.delete_key(old, sid).await?;
        match answer.status.as_u16() {
            204 | 404 => Ok(()),
            401 | 403 => match self.says_of(old).await.map_err(Undone::NotDone)? {
                // It was deleted before.
                Said::No(Refusal::RejectedToken) => Ok(()),
                said => Err(Undone::Refused(objection_to(said))),
            },
            _ => Err(without_credential(undone(&answer, old))),
        }
    }

    /// What a no means to a request about keys. Where the token cannot be asked about, it works.
    async fn no_to_keys(&self, answer: &Answer, token: &Token) -> Undone {
        let is_key = token.kind != TokenKind::AuthToken;
        if is_key && matches!(answer.status.as_u16(), 401 | 403) {
            let said = self.says_of(token).await.unwrap_or(Said::Yes);
            return Undone::Refused(objection_to(said));
        }
        without_credential(undone(answer, token))
    }

    async fn says_of(&self, token: &Token) -> Result<Said, Outage> {
        let account = self.account;
        self.twilio.ask_in(Use::Decide, account.region, account, token).await
    }
}

/// Why a token may not touch keys of which Twilio says this otherwise.
fn objection_to(said: Said) -> Objection {
    match said {
        Said::Yes | Said::No(Refusal::NotPermitted) => Objection::NotAllowed,
        Said::YesButInactive => Objection::Token(Refusal::AccountInactive),
        Said::No(refusal) => Objection::Token(refusal),
    }
}

/// No SIP credential was asked for, so none is missing.
fn without_credential(undone: Undone) -> Undone {
    match undone {
        Undone::Refused(Objection::NotFound) => Undone::Refused(Objection::Other),
        other => other,
    }
}
