//! A small Telepath.
//!
//! It answers these, as Telepath publishes them, with `Authorization: Bearer`:
//!
//! - `GET /v1/trunks?limit&offset`, `GET /v1/trunks/{id}`, `POST /v1/trunks`
//! - `POST /v1/trunks/{id}/rotate-password`: a new password, shown this once; the old one is dead at once
//!
//! Telepath's pages disagree on the last path (`rotate-sip-password`) and on how an error looks: each can be chosen.
//! What an account gets that is not active is not published: 403 here.

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

pub use super::carrier::Fault;
use super::carrier::{Answer, Carrier, Fake, Request, made_up};

/// A running small Telepath.
pub type FakeTelepath = Fake<Telepath>;

/// The two bodies that Telepath's errors come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorBody {
    /// `{"error": {"code": "not_found", "message", "status": 404}}`
    #[default]
    WithStatus,
    /// `{"error": {"code": "TRUNK_NOT_FOUND", "message"}}`
    Named,
}

impl FakeTelepath {
    /// Adds an active account that this API key opens. Only an added account can be changed afterwards.
    pub fn add_account(&self, key: &str) {
        let account = Account { keys: vec![key.to_owned()], active: true, ..Account::default() };
        self.with(|telepath| telepath.accounts.push(account));
    }

    /// Adds a further API key to the account that this one opens.
    pub fn add_key(&self, of: &str, key: &str) {
        self.change(of, |account| account.keys.push(key.to_owned()));
    }

    /// Replaces all API keys of the account that this one opens: the old ones are refused from now on.
    pub fn set_key(&self, of: &str, key: &str) {
        self.change(of, |account| account.keys = vec![key.to_owned()]);
    }

    /// Makes the account active, or not.
    pub fn set_active(&self, key: &str, active: bool) {
        self.change(key, |account| account.active = active);
    }

    /// Answers every request by one account with this fault, until it is set to `None`.
    pub fn set_account_fault(&self, key: &str, fault: Option<Fault>) {
        self.change(key, |account| account.fault = fault);
    }

    /// Adds an active trunk, and says its id.
    pub fn add_trunk(&self, key: &str, username: &str, password: &str) -> String {
        let id = self.with(Telepath::new_id);
        let (name, sip) = ("A trunk for trials", ("custom", username, password));
        let trunk = Trunk::new(&id, name, sip, self.now());
        self.change(key, |account| account.trunks.push(trunk));
        id
    }

    /// How errors look from now on.
    pub fn set_error_body(&self, body: ErrorBody) {
        self.with(|telepath| telepath.errors = body);
    }

    /// The last part of the path that rotates a password: `rotate-password`, unless it is changed.
    pub fn set_rotate_path(&self, path: &str) {
        self.with(|telepath| path.clone_into(&mut telepath.rotate_path));
    }

    /// Whether a call that authenticates as this SIP user, with this password, gets through now.
    pub fn accepts(&self, username: &str, password: &str) -> bool {
        self.with(|telepath| {
            let mut trunks = telepath.accounts.iter().flat_map(|account| &account.trunks);
            trunks.any(|it| it.username == username && it.password == password)
        })
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Account)) {
        self.with(|telepath| change(telepath.account(key).expect("an added account")));
    }
}

/// Telepath's accounts, and how it behaves where its pages contradict each other.
#[derive(Debug)]
pub struct Telepath {
    accounts: Vec<Account>,
    errors: ErrorBody,
    rotate_path: String,
    /// How much was made up so far.
    made: u64,
}

impl Default for Telepath {
    fn default() -> Self {
        let rotate_path = "rotate-password".to_owned();
        Self { accounts: Vec::new(), errors: ErrorBody::default(), rotate_path, made: 0 }
    }
}

#[derive(Debug, Default)]
struct Account {
    keys: Vec<String>,
    active: bool,
    trunks: Vec<Trunk>,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Trunk {
    id: String,
    name: String,
    ai_provider: String,
    username: String,
    password: String,
    create_time: Timestamp,
    update_time: Timestamp,
}

impl Trunk {
    fn new(
        id: &str,
        name: &str,
        (ai_provider, username, password): (&str, &str, &str),
        now: Timestamp,
    ) -> Self {
        let [id, name] = [id, name].map(str::to_owned);
        let [ai_provider, username, password] =
            [ai_provider, username, password].map(str::to_owned);
        Self { id, name, ai_provider, username, password, create_time: now, update_time: now }
    }

    fn resource(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "status": "active",
            "ai_provider": self.ai_provider, "sip_username": self.username,
            "sip_endpoint": format!("sip://{}@sip.telepathvoice.com", self.username),
            "created_at": format!("{:.0}", self.create_time),
            "updated_at": format!("{:.0}", self.update_time),
        })
    }
}

impl Carrier for Telepath {
    const NAME: &'static str = "Telepath";
    const CHANGES: &'static str = r#"  {"add_account": {"key": "…"}}
  {"add_trunk":   {"key": "…", "username": "…", "password": "…"}}
  {"set_active":  {"key": "…", "active": false}}
"#;

    fn answer(&mut self, request: &Request, now: Timestamp, _fault: Option<&Fault>) -> Answer {
        match self.resource(request, now) {
            Ok((status, body)) => Answer::json(status, &body),
            Err(status) => self.error(status),
        }
    }

    fn error(&self, status: u16) -> Answer {
        let (code, name) = match status {
            400 => ("invalid_params", "INVALID_PARAMS"),
            401 => ("invalid_api_key", "INVALID_API_KEY"),
            403 => ("forbidden", "FORBIDDEN"),
            404 => ("not_found", "TRUNK_NOT_FOUND"),
            409 => ("conflict", "USERNAME_TAKEN"),
            429 => ("rate_limited", "RATE_LIMITED"),
            _ => ("internal_error", "INTERNAL_ERROR"),
        };
        let message = "Something went wrong";
        let error = match self.errors {
            ErrorBody::WithStatus => json!({"code": code, "message": message, "status": status}),
            ErrorBody::Named => json!({"code": name, "message": message}),
        };
        Answer::json(status, &json!({ "error": error }))
    }

    fn account_fault(&self, request: &Request) -> Option<Fault> {
        let key = key_of(request)?;
        self.accounts.iter().find(|it| it.keys.iter().any(|it| it == key))?.fault.clone()
    }

    fn change(&mut self, change: Value) -> anyhow::Result<()> {
        match serde_json::from_value(change)? {
            Change::AddAccount { key } => {
                let account = Account { keys: vec![key], active: true, ..Account::default() };
                self.accounts.push(account);
            }
            Change::AddTrunk { key, username, password } => {
                let id = self.new_id();
                let (name, sip) = ("A trunk for trials", ("custom", &*username, &*password));
                let trunk = Trunk::new(&id, name, sip, super::carrier::begin());
                self.account(&key)?.trunks.push(trunk);
            }
            Change::SetActive { key, active } => self.account(&key)?.active = active,
        }
        Ok(())
    }
}

/// What `POST /_control` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    AddAccount { key: String },
    AddTrunk { key: String, username: String, password: String },
    SetActive { key: String, active: bool },
}

impl Telepath {
    fn account(&mut self, key: &str) -> anyhow::Result<&mut Account> {
        let mut accounts = self.accounts.iter_mut();
        accounts.find(|it| it.keys.iter().any(|it| it == key)).context("no account has this key")
    }

    fn new_id(&mut self) -> String {
        self.made += 1;
        format!("conn_{}", made_up("trunk", self.made).get(..12).unwrap_or_default())
    }

    /// What the request asks for, or the status that says why not.
    fn resource(&mut self, request: &Request, now: Timestamp) -> Result<(u16, Value), u16> {
        let (new_id, rotate_path) = (self.new_id(), self.rotate_path.clone());
        // With signs that need care in SIP and in JSON, as Telepath's own have.
        let made = made_up("password", self.made);
        let new_password = format!("nEwP@ss!{}", made.get(..16).unwrap_or_default());
        let account = key_of(request).and_then(|key| self.account(key).ok()).ok_or(401_u16)?;
        if !account.active {
            return Err(403);
        }
        let segments = request.segments();
        let ["v1", "trunks", rest @ ..] = segments.as_slice() else { return Err(404) };
        let trunks = &mut account.trunks;
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                let (limit, offset) = (request.number("limit", 20)?, request.number("offset", 0)?);
                if !(1..=100).contains(&limit) {
                    return Err(400);
                }
                let page = trunks.iter().skip(offset).take(limit).map(Trunk::resource);
                let page = page.collect::<Vec<_>>();
                let pagination = json!({"limit": limit, "offset": offset, "total": trunks.len()});
                Ok((200, json!({"trunks": page, "pagination": pagination})))
            }
            ("POST", []) => {
                let body = request.json();
                let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or(400_u16);
                let [name, ai, username, password] =
                    ["name", "ai_provider", "sip_username", "sip_password"].map(text);
                let (username, password) = (username?, password?);
                let shaped = username.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                if username.is_empty() || !shaped || password.chars().count() < 8 {
                    return Err(400);
                }
                if trunks.iter().any(|it| it.username == username) {
                    return Err(409);
                }
                let trunk = Trunk::new(&new_id, name?, (ai?, username, password), now);
                let body = trunk.resource();
                trunks.push(trunk);
                Ok((201, body))
            }
            ("GET", [id]) => {
                let trunk = trunks.iter().find(|it| it.id == *id).ok_or(404_u16)?;
                Ok((200, trunk.resource()))
            }
            ("POST", [id, path]) if *path == rotate_path => {
                let trunk = trunks.iter_mut().find(|it| it.id == *id).ok_or(404_u16)?;
                trunk.password = new_password;
                trunk.update_time = now;
                let body = json!({
                    "id": trunk.id, "sip_username": trunk.username,
                    "sip_password": trunk.password, "rotated_at": format!("{now:.0}"),
                });
                Ok((200, body))
            }
            _ => Err(404),
        }
    }
}

fn key_of(request: &Request) -> Option<&str> {
    request.header("authorization")?.strip_prefix("Bearer ")
}

/// Adds the accounts of the program, and says what a person has to know.
pub fn introduce(fake: &FakeTelepath) -> String {
    let [good, inactive, busy] = ["sk_live_trial", "sk_live_inactive", "sk_live_busy"];
    for key in [good, inactive, busy] {
        fake.add_account(key);
    }
    let trunk = fake.add_trunk(good, "agent-prod-01", "Trial-Passw0rd");
    fake.set_active(inactive, false);
    fake.set_account_fault(busy, Some(Fault::RateLimit(7)));
    format!(
        "  CREDVAULT_UPSTREAM_TELEPATH_API_URL={}

  API key           what it answers
  {good}     200: all is well; its account has the trunk {trunk} of `agent-prod-01`
  {inactive}  403
  {busy}      429, retry after 7 seconds
  any other         401
",
        fake.url()
    )
}
