//! Trunks at Telepath, as SIP credentials: each has one username and one password, which Telepath makes.
//!
//! - `POST /v1/trunks/{id}/rotate-password` makes another password each time, says it once, and ends the old one at
//!   once. Where the answer is lost, nobody has the password, and only a further rotation helps.
//! - A key may be one that only reads (docs.telepathvoice.com/api-reference/authentication): 403 to a rotation says so.
//! - There are limits on calls, but what 429 says of a rotation is not published: whether it is done is unknown then.
//!   To take it for a no would leave a trunk with a password that nobody has.

use async_trait::async_trait;
use serde::Deserialize;
use url::Url;

use super::At;
use crate::credential::CarrierCredential;
use crate::provider::telepath::TrunkId;
use crate::provider::{Refusal, Token};
use crate::secret::SecretText;
use crate::upstream::change::Undone;
use crate::upstream::http::{Auth, Method, Request, Use};
use crate::upstream::{
    Chooser, Effect, Found, Objection, Outage, UpstreamCredentials, json, plain,
};

#[async_trait]
impl UpstreamCredentials for At<'_> {
    fn chooser(&self) -> Chooser {
        Chooser::Carrier
    }

    fn is_configurable(&self) -> bool {
        false
    }

    async fn find(&self, token: &Token, id: &CarrierCredential) -> Effect<Found> {
        self.look_up(token, id).await.map_err(Undone::of_a_read).into()
    }

    async fn set_password(&self, _: &Token, _: &CarrierCredential, _: &SecretText) -> Effect<()> {
        Effect::Refused(Objection::Other)
    }

    async fn make_password(&self, token: &Token, id: &CarrierCredential) -> Effect<SecretText> {
        self.rotate(token, id).await.into()
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

/// A trunk.
#[derive(Deserialize)]
struct Trunk {
    id: String,
    sip_username: String,
}

/// The answer to a rotation.
#[derive(Deserialize)]
struct Rotated {
    id: String,
    #[serde(deserialize_with = "json::secret")]
    sip_password: SecretText,
}

impl Rotated {
    /// The password of the trunk that was asked for. What is done is unknown where there is none, or one that cannot
    /// be one.
    fn password(body: &[u8], asked: &TrunkId) -> Result<SecretText, Undone> {
        let nonsense = Undone::Unknown(Outage::Protocol);
        let Self { id, sip_password } = json::parse(body).map_err(Undone::Unknown)?;
        let text = sip_password.expose();
        let shaped = (1..=1024).contains(&text.len()) && !text.contains(char::is_control);
        if id == asked.as_str() && shaped { Ok(sip_password) } else { Err(nonsense) }
    }
}

impl At<'_> {
    fn trunk(&self, further: &[&str]) -> Url {
        let Self(telepath) = self;
        telepath.urls.api.base().join(&[&["v1", "trunks"], further].concat())
    }

    async fn look_up(&self, token: &Token, id: &CarrierCredential) -> Result<Found, Undone> {
        let (Self(telepath), id) = (self, id_of(id)?);
        let request = Request::get(self.trunk(&[id.as_str()]), Auth::Bearer(&token.secret));
        let told = telepath.http.send(Use::Decide, request).await;
        let answer = told.map_err(Undone::NotDone)?;
        match answer.status.as_u16() {
            200 => {}
            401 => return Err(Undone::Refused(Objection::Token(Refusal::RejectedToken))),
            403 => return Err(Undone::Refused(Objection::Token(Refusal::AccountInactive))),
            404 => return Err(Undone::Refused(Objection::NotFound)),
            _ => return Err(Undone::by_status(&answer)),
        }
        let trunk: Trunk = json::parse(&answer.body).map_err(Undone::NotDone)?;
        let username = plain::username(trunk.sip_username, token);
        let username = username.filter(|_| trunk.id == id.as_str());
        let username = username.ok_or(Undone::NotDone(Outage::Protocol))?;
        Ok(Found { username, enabled: None })
    }

    async fn rotate(&self, token: &Token, id: &CarrierCredential) -> Result<SecretText, Undone> {
        let (Self(telepath), trunk) = (self, id_of(id)?);
        let url = self.trunk(&[trunk.as_str(), &telepath.urls.rotate_path]);
        let request = Request::bare(Method::POST, url, Auth::Bearer(&token.secret));
        let answer = telepath.http.change(request).await?;
        Err(Undone::Refused(match answer.status.as_u16() {
            200 => return Rotated::password(&answer.body, trunk),
            401 => Objection::Token(Refusal::RejectedToken),
            403 => Objection::NotAllowed,
            // Telepath's pages disagree on the path: the trunk may well be there.
            404 if self.look_up(token, id).await.is_ok() => {
                tracing::warn!(
                    path = telepath.urls.rotate_path,
                    "Telepath has this trunk, and not this path to rotate its password: set \
                     upstream.telepath.rotate_path to the other one"
                );
                Objection::Other
            }
            404 => Objection::NotFound,
            _ => return Err(Undone::by_status(&answer)),
        }))
    }
}

/// Its id here. What is at another carrier is not here.
fn id_of(id: &CarrierCredential) -> Result<&TrunkId, Undone> {
    match id {
        CarrierCredential::Telepath { trunk_id } => Ok(trunk_id),
        _ => Err(Undone::Refused(Objection::NotFound)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_password_of_this_trunk_is_one() {
        let trunk = TrunkId::parse("conn_1").unwrap();
        let parse = |body: &str| {
            let password = Rotated::password(body.as_bytes(), &trunk);
            password.map(|password| password.expose().to_owned())
        };
        let says = |id: &str, password: &str| {
            serde_json::json!({"id": id, "sip_password": password, "rotated_at": 5}).to_string()
        };
        let longest = "p".repeat(1024);
        for good in ["x", "nEwP@ss\"\\ ü", &longest] {
            assert_eq!(parse(&says("conn_1", good)).as_deref(), Ok(good));
        }
        for bad in [
            says("conn_2", "Passw0rd"),
            says("conn_1", ""),
            says("conn_1", "a\nb"),
            says("conn_1", "a\0b"),
            says("conn_1", &"p".repeat(1025)),
            r#"{"id":"conn_1","sip_password":null}"#.to_owned(),
            r#"{"id":"conn_1","sip_password":5}"#.to_owned(),
            r#"{"id":"conn_1"}"#.to_owned(),
            r#"{"sip_password":"Passw0rd"}"#.to_owned(),
            "[]".to_owned(),
            "<html>".to_owned(),
        ] {
            assert_eq!(parse(&bad), Err(Undone::Unknown(Outage::Protocol)), "{bad:.80}");
        }
    }
}
