//! A small Vobiz.
//!
//! It answers these, as docs.vobiz.ai publishes them, with `X-Auth-ID` and `X-Auth-Token`. The case of `account` is
//! the published one, and matters here.
//!
//! - `GET /api/v1/account/{auth_id}/trunks/credentials?limit&offset`
//! - `POST /api/v1/account/{auth_id}/credentials`
//! - `PUT /api/v1/Account/{auth_id}/credentials/{id}`, with any of `password`, `enabled`, `description`
//! - `DELETE /api/v1/Account/{auth_id}/credentials/{id}`; its case is not published, so either will do
//!
//! No password is ever shown. What an account gets that is not active is not published: 403 here.

use std::collections::HashMap;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

pub use super::carrier::Fault;
use super::carrier::{Answer, Carrier, Fake, Request, made_up};

/// A running small Vobiz.
pub type FakeVobiz = Fake<Vobiz>;

impl FakeVobiz {
    /// Adds an active account, or replaces it. Only an added account can be changed afterwards.
    pub fn add_account(&self, auth_id: &str, token: &str) {
        let account = Account { token: token.to_owned(), active: true, ..Account::default() };
        self.with(|vobiz| vobiz.accounts.insert(auth_id.to_owned(), account));
    }

    /// Replaces the account's token: the old one is refused from now on.
    pub fn set_token(&self, auth_id: &str, token: &str) {
        self.change(auth_id, |account| token.clone_into(&mut account.token));
    }

    /// Makes the account active, or not.
    pub fn set_active(&self, auth_id: &str, active: bool) {
        self.change(auth_id, |account| account.active = active);
    }

    /// Answers every request by one account with this fault, until it is set to `None`.
    pub fn set_account_fault(&self, auth_id: &str, fault: Option<Fault>) {
        self.change(auth_id, |account| account.fault = fault);
    }

    /// Adds an enabled SIP credential, and says its id.
    pub fn add_credential(&self, auth_id: &str, username: &str, password: &str) -> String {
        let id = self.with(Vobiz::new_id);
        let credential = Credential::new(&id, username, password, self.now());
        self.change(auth_id, |account| account.credentials.push(credential));
        id
    }

    /// Whether an update without a password is refused with 400, as one of the two descriptions of it has it.
    pub fn set_password_required(&self, required: bool) {
        self.with(|vobiz| vobiz.password_required = required);
    }

    /// Whether a credential is enabled, and its description.
    pub fn configuration(&self, auth_id: &str, id: &str) -> Option<(bool, Option<String>)> {
        self.with(|vobiz| {
            let credentials = &vobiz.accounts.get(auth_id)?.credentials;
            let found = credentials.iter().find(|it| it.id == id)?;
            Some((found.enabled, found.description.clone()))
        })
    }

    /// Whether a call that authenticates as this SIP user, with this password, gets through now.
    pub fn accepts(&self, username: &str, password: &str) -> bool {
        self.with(|vobiz| {
            let mut credentials = vobiz.accounts.values().flat_map(|it| &it.credentials);
            credentials.any(|it| it.username == username && it.enabled && it.password == password)
        })
    }

    fn change(&self, auth_id: &str, change: impl FnOnce(&mut Account)) {
        self.with(|vobiz| change(vobiz.account(auth_id).expect("an added account")));
    }
}

/// Vobiz' accounts, and how it behaves where its pages contradict each other.
#[derive(Debug, Default)]
pub struct Vobiz {
    accounts: HashMap<String, Account>,
    password_required: bool,
    /// How much was made up so far.
    made: u64,
}

#[derive(Debug, Default)]
struct Account {
    token: String,
    active: bool,
    credentials: Vec<Credential>,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Credential {
    id: String,
    username: String,
    password: String,
    enabled: bool,
    description: Option<String>,
    create_time: Timestamp,
    update_time: Timestamp,
}

impl Credential {
    fn new(id: &str, username: &str, password: &str, now: Timestamp) -> Self {
        let [id, username, password] = [id, username, password].map(str::to_owned);
        let (create_time, update_time, description) = (now, now, None);
        Self { id, username, password, enabled: true, description, create_time, update_time }
    }

    fn resource(&self, auth_id: &str) -> Value {
        json!({
            "id": self.id, "account_id": auth_id, "username": self.username,
            "password": "<redacted>", "realm": format!("{auth_id}.sip.vobiz.ai"),
            "enabled": self.enabled, "description": self.description,
            "created_at": format!("{:.6}", self.create_time),
            "updated_at": format!("{:.6}", self.update_time),
        })
    }
}

impl Carrier for Vobiz {
    const NAME: &'static str = "Vobiz";
    const CHANGES: &'static str = r#"  {"add_account":    {"auth_id": "MA_…", "token": "…"}}                              or replaces its token
  {"add_credential": {"auth_id": "MA_…", "username": "…", "password": "…"}}
  {"set_active":     {"auth_id": "MA_…", "active": false}}
"#;

    fn answer(&mut self, request: &Request, now: Timestamp, fault: Option<&Fault>) -> Answer {
        match self.resource(request, now) {
            Ok((204, _)) => Answer::empty(204),
            Ok((status, mut body)) => {
                spoil(&mut body, fault);
                Answer::json(status, &body)
            }
            Err(status) => self.error(status),
        }
    }

    fn error(&self, status: u16) -> Answer {
        let code = match status {
            401 => "UNAUTHORIZED",
            403 => "FORBIDDEN",
            404 => "NOT_FOUND",
            409 => "CONFLICT",
            429 => "RATE_LIMIT_EXCEEDED",
            400..=499 => "INVALID_REQUEST",
            _ => "INTERNAL_ERROR",
        };
        let error = json!({"code": code, "message": "Something went wrong"});
        Answer::json(status, &json!({"status": "error", "error": error, "requestId": "req_1"}))
    }

    fn account_fault(&self, request: &Request) -> Option<Fault> {
        self.accounts.get(request.header("x-auth-id")?)?.fault.clone()
    }

    fn change(&mut self, change: Value) -> anyhow::Result<()> {
        match serde_json::from_value(change)? {
            Change::AddAccount { auth_id, token } => {
                let account = self.accounts.entry(auth_id).or_default();
                (account.token, account.active) = (token, true);
            }
            Change::AddCredential { auth_id, username, password } => {
                let id = self.new_id();
                let now = super::carrier::begin();
                let credential = Credential::new(&id, &username, &password, now);
                self.account(&auth_id)?.credentials.push(credential);
            }
            Change::SetActive { auth_id, active } => self.account(&auth_id)?.active = active,
        }
        Ok(())
    }
}

/// What `POST /_control` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    AddAccount { auth_id: String, token: String },
    AddCredential { auth_id: String, username: String, password: String },
    SetActive { auth_id: String, active: bool },
}

impl Vobiz {
    fn account(&mut self, auth_id: &str) -> anyhow::Result<&mut Account> {
        self.accounts.get_mut(auth_id).with_context(|| format!("there is no account {auth_id}"))
    }

    /// An id of a credential: a UUID.
    fn new_id(&mut self) -> String {
        self.made += 1;
        let digits = made_up("credential", self.made);
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    }

    /// What the request asks for, or the status that says why not.
    fn resource(&mut self, request: &Request, now: Timestamp) -> Result<(u16, Value), u16> {
        let (new_id, password_required) = (self.new_id(), self.password_required);
        let (id, token) = (request.header("x-auth-id"), request.header("x-auth-token"));
        let account = id.and_then(|id| self.accounts.get_mut(id)).ok_or(401_u16)?;
        if token != Some(&account.token) {
            return Err(401);
        }
        let (method, segments) = (request.method.as_str(), request.segments());
        let ["api", "v1", account_word, auth_id, rest @ ..] = segments.as_slice() else {
            return Err(404);
        };
        // Another account's, or one that is not active.
        if id != Some(auth_id) || !account.active {
            return Err(403);
        }
        let credentials = &mut account.credentials;
        match (method, *account_word, rest) {
            ("GET", "account", ["trunks", "credentials"]) => {
                let (limit, offset) = (request.number("limit", 20)?, request.number("offset", 0)?);
                let page = credentials.iter().skip(offset).take(limit);
                let objects = page.map(|it| it.resource(auth_id)).collect::<Vec<_>>();
                let meta = json!({"limit": limit, "offset": offset, "total": credentials.len()});
                Ok((200, json!({"meta": meta, "objects": objects})))
            }
            ("POST", "account", ["credentials"]) => {
                let body = request.json();
                let text = |name: &str| body.get(name).and_then(Value::as_str);
                let (username, password) = text("username").zip(text("password")).ok_or(400_u16)?;
                if password.chars().count() < 8 {
                    return Err(400);
                }
                if credentials.iter().any(|it| it.username == username) {
                    return Err(409);
                }
                let credential = Credential::new(&new_id, username, password, now);
                let body = credential.resource(auth_id);
                credentials.push(credential);
                Ok((201, body))
            }
            ("PUT", "Account", ["credentials", id]) => {
                let credential = credentials.iter_mut().find(|it| it.id == *id).ok_or(404_u16)?;
                let Update { password, enabled, description } =
                    serde_json::from_slice(&request.body).map_err(|_| 400_u16)?;
                let short = password.as_ref().is_some_and(|it| it.chars().count() < 8);
                if short || password_required && password.is_none() {
                    return Err(400);
                }
                credential.password = password.unwrap_or_else(|| credential.password.clone());
                credential.enabled = enabled.unwrap_or(credential.enabled);
                credential.description = description.or_else(|| credential.description.clone());
                credential.update_time = now;
                Ok((200, credential.resource(auth_id)))
            }
            ("DELETE", "Account" | "account", ["credentials", id]) => {
                let found = credentials.iter().position(|it| it.id == *id).ok_or(404_u16)?;
                credentials.remove(found);
                Ok((204, Value::Null))
            }
            _ => Err(404),
        }
    }
}

/// The body of an update. What else is in it, a username for example, is ignored.
#[derive(Deserialize)]
struct Update {
    password: Option<String>,
    enabled: Option<bool>,
    description: Option<String>,
}

/// Makes a good answer one of another account.
fn spoil(body: &mut Value, fault: Option<&Fault>) {
    let objects = match body.get_mut("objects") {
        Some(Value::Array(objects)) => objects.as_mut_slice(),
        _ => std::slice::from_mut(body),
    };
    for object in objects.iter_mut().filter_map(Value::as_object_mut) {
        match fault {
            Some(Fault::SidMismatch) => {
                object.insert("account_id".to_owned(), "MA_OTHER".into());
            }
            Some(Fault::MissingSid) => drop(object.remove("account_id")),
            _ => {}
        }
    }
}

/// Adds the accounts of the program, and says what a person has to know.
pub fn introduce(fake: &FakeVobiz) -> String {
    let token = "vobiz-trial-token";
    for auth_id in ["MA_TRIAL", "MA_INACTIVE", "MA_BUSY"] {
        fake.add_account(auth_id, token);
    }
    let credential = fake.add_credential("MA_TRIAL", "trial", "Trial-Passw0rd");
    fake.set_active("MA_INACTIVE", false);
    fake.set_account_fault("MA_BUSY", Some(Fault::RateLimit(7)));
    format!(
        "  CREDVAULT_UPSTREAM_VOBIZ_API_URL={}

  Auth ID        what it answers
  MA_TRIAL       200: all is well; it has the SIP credential {credential} of `trial`
  MA_INACTIVE    403
  MA_BUSY        429, retry after 7 seconds
  any other      401

  The Auth Token of every account is  {token}
",
        fake.url()
    )
}
