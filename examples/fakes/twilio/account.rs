//! Accounts, and what opens them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::carrier::{Fault, Request};
use super::numbers::Numbers;
use super::sip::CredentialList;
use super::trunk::Trunk;
use super::{US1, region_of};

/// An account.
#[derive(Debug, Default)]
pub(super) struct Account {
    credentials: Vec<Credential>,
    pub(super) status: String,
    trunks: Vec<Trunk>,
    pub(super) numbers: Numbers,
    pub(super) credential_lists: Vec<CredentialList>,
    pub(super) fault: Option<Fault>,
}

/// A token (its user is the account's SID) or an API key. Any of them opens the account.
#[derive(Debug)]
pub(super) struct Credential {
    region: String,
    pub(super) user: String,
    pub(super) secret: String,
    kind: CredentialKind,
    /// What an API key is called.
    pub(super) name: String,
    /// It is refused before.
    valid_from: Timestamp,
}

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialKind {
    /// The token that an account always has in a region, and shows.
    Primary,
    /// The token beside it, during a rotation.
    Secondary,
    /// An API key, a Standard one. It may touch neither the account nor keys.
    Key,
    /// A Main key, which may.
    MainKey,
}

impl CredentialKind {
    fn is_key(self) -> bool {
        matches!(self, Self::Key | Self::MainKey)
    }
}

impl Account {
    pub(super) fn new(sid: &str, token: &str) -> Self {
        let mut account = Self { status: "active".to_owned(), ..Self::default() };
        account.set_token(sid, token);
        account
    }

    /// Replaces the tokens of us1.
    pub(super) fn set_token(&mut self, sid: &str, token: &str) {
        self.credentials.retain(|it| it.user != sid || it.region != US1);
        self.add(US1, sid, token, CredentialKind::Primary, Timestamp::MIN);
    }

    /// One more token: the primary one of a region that has none, else a secondary one.
    pub(super) fn add_token(&mut self, region: &str, sid: &str, token: &str) {
        let kind = match self.token(region, CredentialKind::Primary) {
            Some(_) => CredentialKind::Secondary,
            None => CredentialKind::Primary,
        };
        self.add(region, sid, token, kind, Timestamp::MIN);
    }

    pub(super) fn add(
        &mut self,
        region: &str,
        user: &str,
        secret: &str,
        kind: CredentialKind,
        valid_from: Timestamp,
    ) {
        let [region, user, secret] = [region, user, secret].map(str::to_owned);
        let name = String::new();
        self.credentials.push(Credential { region, user, secret, kind, name, valid_from });
    }

    /// Calls a key so.
    pub(super) fn name_key(&mut self, key_sid: &str, name: &str) {
        for key in self.credentials.iter_mut().filter(|it| it.user == key_sid) {
            name.clone_into(&mut key.name);
        }
    }

    pub(super) fn forget_credentials(&mut self) {
        self.credentials.clear();
    }

    /// The token of a region of this kind.
    pub(super) fn token(&self, region: &str, kind: CredentialKind) -> Option<&Credential> {
        self.credentials.iter().find(|it| it.region == region && it.kind == kind)
    }

    /// Whether there was one.
    pub(super) fn drop_token(&mut self, region: &str, kind: CredentialKind) -> bool {
        let before = self.credentials.len();
        self.credentials.retain(|it| it.region != region || it.kind != kind);
        self.credentials.len() < before
    }

    /// The secondary token becomes the primary one, and the primary one is gone. Whether there was one.
    pub(super) fn promote(&mut self, region: &str) -> bool {
        if self.token(region, CredentialKind::Secondary).is_none() {
            return false;
        }
        self.drop_token(region, CredentialKind::Primary);
        let mut tokens = self.credentials.iter_mut();
        let secondary =
            tokens.find(|it| it.region == region && it.kind == CredentialKind::Secondary);
        if let Some(secondary) = secondary {
            secondary.kind = CredentialKind::Primary;
        }
        true
    }

    /// Whether there was such a key.
    pub(super) fn drop_key(&mut self, key_sid: &str) -> bool {
        let before = self.credentials.len();
        self.credentials.retain(|it| !it.kind.is_key() || it.user != key_sid);
        self.credentials.len() < before
    }

    /// What the request is authenticated with, if it is.
    pub(super) fn opened_by(&self, request: &Request, now: Timestamp) -> Option<&Credential> {
        let (region, (user, secret)) = (region_of(request)?, request.basic()?);
        let same = |it: &&Credential| it.region == region && it.user == user && it.secret == secret;
        self.credentials.iter().find(|it| same(it) && it.valid_from <= now)
    }

    /// What a request by one of the account's own tokens, not a key, is authenticated with.
    pub(super) fn opened_by_token(
        &self,
        request: &Request,
        now: Timestamp,
    ) -> Option<CredentialKind> {
        let kind = self.opened_by(request, now)?.kind;
        (!kind.is_key()).then_some(kind)
    }

    /// Whether a request is authenticated with what may touch keys. None: with nothing.
    pub(super) fn may_touch_keys(&self, request: &Request, now: Timestamp) -> Option<bool> {
        Some(self.opened_by(request, now)?.kind != CredentialKind::Key)
    }

    pub(super) fn accepts(&self, secret: &str, now: Timestamp) -> bool {
        self.credentials.iter().any(|it| it.secret == secret && it.valid_from <= now)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Credential> {
        self.credentials.iter().filter(|it| it.kind.is_key())
    }

    pub(super) fn set_trunk(&mut self, trunk: Trunk) {
        self.trunks.retain(|it| it.sid != trunk.sid);
        self.trunks.push(trunk);
    }

    pub(super) fn trunk(&self, sid: &str) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.sid == sid)
    }

    pub(super) fn resource(&self, sid: &str, region: Option<&str>) -> Value {
        let path = format!("/2010-04-01/Accounts/{sid}");
        let primary = region.and_then(|region| self.token(region, CredentialKind::Primary));
        json!({
            "sid": sid, "owner_account_sid": sid, "friendly_name": "An account for trials",
            "status": self.status, "type": "Full",
            "auth_token": primary.map(|it| &it.secret),
            "date_created": "Thu, 30 Jul 2015 20:00:00 +0000",
            "date_updated": "Thu, 30 Jul 2015 20:00:00 +0000",
            "uri": format!("{path}.json"),
            "subresource_uris": {
                "calls": format!("{path}/Calls.json"),
                "incoming_phone_numbers": format!("{path}/IncomingPhoneNumbers.json"),
                "messages": format!("{path}/Messages.json"),
            },
        })
    }
}
