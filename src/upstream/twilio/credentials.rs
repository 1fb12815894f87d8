//! SIP credentials at Twilio: a username, and one password, of a credential list.
//!
//! - A password is replaced with `POST …/SIP/CredentialLists/{CL}/Credentials/{CR}.json`, whose answer shows none.
//!   21240 is its error for a password that is too short or too simple.
//! - Nothing else can be set, and none can be disabled.

use async_trait::async_trait;
use url::Url;

use super::answer::{ErrorBody, SipCredential};
use super::{At, auth, undone};
use crate::credential::CarrierCredential;
use crate::provider::Token;
use crate::provider::twilio::{CredentialListSid, CredentialSid};
use crate::secret::SecretText;
use crate::upstream::change::Undone;
use crate::upstream::http::{Body, Method, Request, Use};
use crate::upstream::{Chooser, Effect, Found, Objection, Outage, UpstreamCredentials, plain};

#[async_trait]
impl UpstreamCredentials for At<'_> {
    fn chooser(&self) -> Chooser {
        Chooser::Vault
    }

    fn is_configurable(&self) -> bool {
        false
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
        self.replace_password(token, id, password).await.into()
    }

    async fn make_password(&self, _: &Token, _: &CarrierCredential) -> Effect<SecretText> {
        Effect::Refused(Objection::Other)
    }

    async fn configure(
        &self,
        _: &Token,
        _: &CarrierCredential,
        enabled: Option<bool>,
        description: Option<&str>,
    ) -> Effect<()> {
        match (enabled, description) {
            (None, None) => Effect::Done(()),
            _ => Effect::Refused(Objection::Other),
        }
    }
}

impl At<'_> {
    async fn look_up(&self, token: &Token, id: &CarrierCredential) -> Result<Found, Undone> {
        let (list, credential) = sids_of(id)?;
        let request = Request::get(self.credential(list, credential), auth(self.account, token));
        let told = self.twilio.http.send(Use::Decide, request).await;
        let answer = told.map_err(Undone::NotDone)?;
        if answer.status.as_u16() != 200 {
            return Err(undone(&answer, token));
        }
        let found = SipCredential::parse(&answer.body, credential.as_str());
        let username = plain::username(found.map_err(Undone::NotDone)?.username, token);
        let username = username.ok_or(Undone::NotDone(Outage::Protocol))?;
        Ok(Found { username, enabled: None })
    }

    async fn replace_password(
        &self,
        token: &Token,
        id: &CarrierCredential,
        password: &SecretText,
    ) -> Result<(), Undone> {
        let (list, credential) = sids_of(id)?;
        let (url, auth) = (self.credential(list, credential), auth(self.account, token));
        let body = Body::form(&[("Password", password.expose())]);
        let request = Request::with_body(Method::POST, url, auth, body);
        let answer = self.twilio.change(request).await?;
        match (answer.status.as_u16(), ErrorBody::code(&answer.body)) {
            (200, _) => SipCredential::parse(&answer.body, credential.as_str())
                .map(drop)
                .map_err(Undone::Unknown),
            (400..=499, Some(21_240)) => Err(Undone::Refused(Objection::Password)),
            _ => Err(undone(&answer, token)),
        }
    }

    fn credential(&self, list: &CredentialListSid, credential: &CredentialSid) -> Url {
        let (account, list) = (self.account.account_sid.as_str(), list.as_str());
        let credential = format!("{}.json", credential.as_str());
        let below = ["SIP", "CredentialLists", list, "Credentials", &credential];
        let path = [&["2010-04-01", "Accounts", account], &below[..]].concat();
        self.twilio.urls.api(self.account.region).join(&path)
    }
}

/// Its SIDs here. What is at another carrier is not here.
fn sids_of(id: &CarrierCredential) -> Result<(&CredentialListSid, &CredentialSid), Undone> {
    match id {
        CarrierCredential::Twilio { credential_list_sid, credential_sid } => {
            Ok((credential_list_sid, credential_sid))
        }
        _ => Err(Undone::Refused(Objection::NotFound)),
    }
}
