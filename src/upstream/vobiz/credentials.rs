//! SIP credentials at Vobiz.
//!
//! - A change is `PUT /api/v1/Account/{auth_id}/credentials/{id}` with what changes and nothing else. The page that
//!   describes it calls every field optional, and in its own schema `password` required: a change without a password
//!   may be refused with 400, and the vault, which may have no password to send with it, has no way around that.
//! - No read of one credential is published (docs.vobiz.ai/trunks/credentials lists all operations): it is looked for
//!   in the list of all, which names `enabled` and shows no password.
//! - What 429 says of a change is not published: whether it is done is unknown then, and a change may be repeated.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::At;
use crate::credential::CarrierCredential;
use crate::provider::vobiz::CredentialId;
use crate::provider::{Refusal, Token};
use crate::secret::SecretText;
use crate::upstream::change::Undone;
use crate::upstream::http::{Answer, Body, Method, Request, Use};
use crate::upstream::{
    Chooser, Effect, Found, Objection, Outage, UpstreamCredentials, json, plain,
};

/// A page of 50 stays below the longest answer that is read, however long its descriptions are. So many pages are
/// read at the most.
const PAGE: usize = 50;
const MAX_PAGES: usize = 40;

#[async_trait]
impl UpstreamCredentials for At<'_> {
    fn chooser(&self) -> Chooser {
        Chooser::Vault
    }

    fn is_configurable(&self) -> bool {
        true
    }

    async fn find(&self, token: &Token, id: &CarrierCredential) -> Effect<Found> {
        self.look_up(token, id).await.map_err(Undone::of_a_read).into()
    }

    async fn set_password(
        &self,
        token: &Token,
        id: &CarrierCredential,
        password: &SecretText,
    ) -> Effect<()> {
        let change = Change { password: Some(password.expose()), ..Change::default() };
        self.change(token, id, &change).await.into()
    }

    async fn make_password(&self, _: &Token, _: &CarrierCredential) -> Effect<SecretText> {
        Effect::Refused(Objection::Other)
    }

    async fn configure(
        &self,
        token: &Token,
        id: &CarrierCredential,
        enabled: Option<bool>,
        description: Option<&str>,
    ) -> Effect<()> {
        if (enabled, description) == (None, None) {
            return Effect::Done(());
        }
        let change = Change { enabled, description, ..Change::default() };
        self.change(token, id, &change).await.into()
    }
}

/// What changes.
#[derive(Default, Serialize)]
struct Change<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

/// A credential after a change.
#[derive(Deserialize)]
struct Changed {
    id: String,
    account_id: Option<String>,
    enabled: Option<bool>,
}

/// A page of credentials.
#[derive(Deserialize)]
struct Page {
    meta: Meta,
    objects: Vec<Listed>,
}

#[derive(Deserialize)]
struct Meta {
    total: usize,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    account_id: Option<String>,
    username: String,
    enabled: Option<bool>,
}

impl At<'_> {
    async fn change(
        &self,
        token: &Token,
        id: &CarrierCredential,
        change: &Change<'_>,
    ) -> Result<(), Undone> {
        let (id, auth_id) = (id_of(id)?, self.account.auth_id.as_str());
        let path = ["api", "v1", "Account", auth_id, "credentials", id.as_str()];
        let url = self.vobiz.api.base().join(&path);
        let body = Body::json(change).map_err(Undone::NotDone)?;
        let request = Request::with_body(Method::PUT, url, self.auth(token), body);
        let answer = self.vobiz.http.change(request).await?;
        match answer.status.as_u16() {
            200 => {}
            // A password, where there is one, is all that there was to refuse.
            400 | 422 if change.password.is_some() => {
                return Err(Undone::Refused(Objection::Password));
            }
            404 => return Err(Undone::Refused(Objection::NotFound)),
            _ => return Err(undone(&answer)),
        }
        let changed: Changed = json::parse(&answer.body).map_err(Undone::Unknown)?;
        let elsewhere = changed.account_id.is_some_and(|account| account != auth_id);
        // It may know no `enabled`, as its schema does not: then it answers with what there was before.
        let ignored = change.enabled.zip(changed.enabled).is_some_and(|(set, is)| set != is);
        if changed.id != id.as_str() || elsewhere || ignored {
            return Err(Undone::Unknown(Outage::Protocol));
        }
        Ok(())
    }

    async fn look_up(&self, token: &Token, id: &CarrierCredential) -> Result<Found, Undone> {
        let (id, auth_id) = (id_of(id)?, self.account.auth_id.as_str());
        let (mut seen, mut total) = (0, None);
        for _ in 0..MAX_PAGES {
            let url = self.list(&format!("limit={PAGE}&offset={seen}"));
            let request = Request::get(url, self.auth(token));
            let told = self.vobiz.http.send(Use::Decide, request).await;
            let answer = told.map_err(Undone::NotDone)?;
            match answer.status.as_u16() {
                200 => {}
                404 => return Err(Undone::Refused(Objection::Token(Refusal::AccountNotFound))),
                _ => return Err(undone(&answer)),
            }
            let page: Page = json::parse(&answer.body).map_err(Undone::NotDone)?;
            let of_another =
                |it: &Listed| it.account_id.as_ref().is_some_and(|account| account != auth_id);
            if page.objects.iter().any(of_another) {
                return Err(Undone::Refused(Objection::Token(Refusal::SidMismatch)));
            }
            let read = page.objects.len();
            if let Some(it) = page.objects.into_iter().find(|it| it.id == id.as_str()) {
                let username = plain::username(it.username, token);
                let username = username.ok_or(Undone::NotDone(Outage::Protocol))?;
                return Ok(Found { username, enabled: it.enabled });
            }
            seen += read;
            // Where something came or went meanwhile, the one that is looked for may have moved past us.
            let moved = *total.get_or_insert(page.meta.total) != page.meta.total;
            if moved || read == 0 && seen < page.meta.total {
                break;
            }
            if seen >= page.meta.total {
                return Err(Undone::Refused(Objection::NotFound));
            }
        }
        Err(Undone::NotDone(Outage::Protocol))
    }
}

/// Its id here. What is at another carrier is not here.
fn id_of(id: &CarrierCredential) -> Result<&CredentialId, Undone> {
    match id {
        CarrierCredential::Vobiz { credential_id } => Ok(credential_id),
        _ => Err(Undone::Refused(Objection::NotFound)),
    }
}

/// What an answer says that is neither good nor 404.
fn undone(answer: &Answer) -> Undone {
    match answer.status.as_u16() {
        401 => Undone::Refused(Objection::Token(Refusal::RejectedToken)),
        403 => Undone::Refused(Objection::Token(Refusal::AccountInactive)),
        _ => Undone::by_status(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_sent() {
        for (change, sent) in [
            (Change { password: Some("a\"b"), ..Change::default() }, r#"{"password":"a\"b"}"#),
            (Change { enabled: Some(false), ..Change::default() }, r#"{"enabled":false}"#),
            (Change { description: Some(""), ..Change::default() }, r#"{"description":""}"#),
        ] {
            assert_eq!(serde_json::to_string(&change).unwrap(), sent);
        }
    }
}
