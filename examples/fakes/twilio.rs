//! A small Twilio.
//!
//! It answers the calls with which the vault checks an auth token or an API key, and what was set up
//! with it, all with HTTP Basic:
//!
//! - `GET /2010-04-01/Accounts/{AC}.json`
//! - `GET /2010-04-01/Accounts/{AC}/IncomingPhoneNumbers.json`, page after page
//! - `GET /v1/Trunks/{TK}`, `GET /v1/Trunks/{TK}/CredentialLists` and `…/CredentialLists/{CL}`
//!
//! and those that rotate tokens ([`tokens`]), API keys ([`keys`]) and SIP passwords ([`sip`]).
//!
//! Good answers are those of Twilio's published description, and `tests/openapi.rs` holds the reads to it.
//! Error bodies are not described there; they come from Twilio's documentation and its clients. Like
//! the real answer, an account carries its `auth_token`, so it is a canary: a vault that repeats the
//! carrier's body is caught by it.
//!
//! The host name says the product and the region, as at Twilio: `api.localhost`, and
//! `api.dublin.ie1.localhost` for `api.dublin.ie1.twilio.com`. An address serves all of `us1`. Each
//! region has tokens and keys of its own, and all see the same accounts.

mod account;
mod keys;
mod numbers;
mod sip;
mod tokens;
mod trunk;

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::carrier::{Answer, Carrier, Fake, Request};
pub use super::carrier::{ErrorShape, Fault};
use account::{Account, CredentialKind};
use sip::{CredentialList, SipCredential};
pub use tokens::SecondSecondary;
pub use trunk::Trunk;

/// The region of hosts that name none.
const US1: &str = "us1";

/// The other regions, each with the edge that its host names have (`api.dublin.ie1.twilio.com`).
const REGIONS: [(&str, &str); 3] = [("dublin", "ie1"), ("sydney", "au1"), ("tokyo", "jp1")];

/// A running small Twilio.
pub type FakeTwilio = Fake<Twilio>;

impl FakeTwilio {
    /// Adds an active account, or replaces it. Only an added account can be changed afterwards.
    pub fn add_account(&self, sid: &str, token: &str) {
        self.with(|twilio| twilio.accounts.insert(sid.to_owned(), Account::new(sid, token)));
    }

    /// Replaces the account's tokens by this one: the old ones are refused from now on.
    pub fn set_token(&self, sid: &str, token: &str) {
        self.change(sid, |account| account.set_token(sid, token));
    }

    /// Makes one more token valid, as Twilio's secondary token is during a rotation.
    pub fn add_token(&self, sid: &str, token: &str) {
        self.add_token_in(US1, sid, token);
    }

    /// Makes one more token valid in this region only, for example `ie1`.
    pub fn add_token_in(&self, region: &str, sid: &str, token: &str) {
        self.change(sid, |account| account.add_token(region, sid, token));
    }

    /// Promotes the secondary token, as somebody does in the Console.
    pub fn promote_token(&self, sid: &str) {
        self.change(sid, |account| account.promote(US1));
    }

    /// The account's primary token, and its secondary one if it has one.
    pub fn tokens_of(&self, sid: &str) -> (Option<String>, Option<String>) {
        let kinds = (CredentialKind::Primary, CredentialKind::Secondary);
        self.change(sid, |account| {
            let token = |kind| account.token(US1, kind).map(|it| it.secret.clone());
            (token(kinds.0), token(kinds.1))
        })
    }

    /// Whether the account takes this token, or a key's secret, now.
    pub fn accepts_token(&self, sid: &str, token: &str) -> bool {
        let now = self.now();
        self.change(sid, |account| account.accepts(token, now))
    }

    /// How long a secondary token is refused after it was made. Not at all, unless this is called.
    pub fn set_token_delay(&self, delay: SignedDuration) {
        self.with(|twilio| twilio.set_token_delay(delay));
    }

    /// What a second secondary token does to the first, which is not documented.
    pub fn set_second_secondary(&self, policy: SecondSecondary) {
        self.with(|twilio| twilio.second_secondary = policy);
    }

    /// Adds a standard API key, which reads everything of its account but the account itself.
    pub fn add_api_key(&self, sid: &str, key_sid: &str, secret: &str) {
        self.change(sid, |account| {
            account.add(US1, key_sid, secret, CredentialKind::Key, Timestamp::MIN);
        });
    }

    /// Adds a Main key, which may do all that a token may. At Twilio, a person makes it in the Console.
    pub fn add_main_key(&self, sid: &str, key_sid: &str, secret: &str) {
        self.change(sid, |account| {
            account.add(US1, key_sid, secret, CredentialKind::MainKey, Timestamp::MIN);
        });
    }

    /// What a Standard key is told that touches keys, which is not documented: 401, unless this is called.
    pub fn set_keys_refused(&self, status: u16) {
        self.with(|twilio| twilio.keys_refused = status);
    }

    /// The SIDs of the account's API keys.
    pub fn api_keys(&self, sid: &str) -> Vec<String> {
        self.change(sid, |account| account.keys().map(|key| key.user.clone()).collect())
    }

    /// What the account's API keys are called.
    pub fn api_key_names(&self, sid: &str) -> Vec<String> {
        self.change(sid, |account| account.keys().map(|key| key.name.clone()).collect())
    }

    /// Calls an API key so.
    pub fn name_api_key(&self, sid: &str, key_sid: &str, name: &str) {
        self.change(sid, |account| account.name_key(key_sid, name));
    }

    /// Adds a SIP credential to a credential list, which is made if it is not there.
    pub fn add_sip_credential(&self, sid: &str, list: &str, credential: (&str, &str, &str)) {
        let [cr, username, password] = <[&str; 3]>::from(credential).map(str::to_owned);
        let update_time = self.now();
        self.change(sid, |account| {
            let lists = &mut account.credential_lists;
            if !lists.iter().any(|it| it.sid == list) {
                lists.push(CredentialList { sid: list.to_owned(), credentials: Vec::new() });
            }
            let new = SipCredential { sid: cr, username, password, update_time };
            lists.iter_mut().find(|it| it.sid == list).map(|it| it.credentials.push(new))
        });
    }

    /// Whether a call that authenticates as this SIP user, with this password, gets through now.
    pub fn accepts(&self, username: &str, password: &str) -> bool {
        self.with(|twilio| {
            let accounts = twilio.accounts.values();
            let lists = accounts.flat_map(|account| &account.credential_lists);
            let mut credentials = lists.flat_map(|list| &list.credentials);
            credentials.any(|it| it.username == username && it.password == password)
        })
    }

    /// Adds a trunk to the account, or replaces it.
    pub fn set_trunk(&self, account_sid: &str, trunk: Trunk) {
        self.change(account_sid, |account| account.set_trunk(trunk));
    }

    /// Adds phone numbers to the account, which belong to this trunk or to none.
    pub fn add_numbers(&self, account_sid: &str, count: usize, trunk_sid: Option<&str>) {
        self.change(account_sid, |account| account.numbers.add(count, trunk_sid));
    }

    /// Makes each phone number of the account this many bytes longer, to make large pages.
    pub fn pad_numbers(&self, account_sid: &str, bytes: usize) {
        self.change(account_sid, |account| account.numbers.padding = bytes);
    }

    /// Sets what the account's answer says of it: `active`, `suspended` or `closed`.
    pub fn set_status(&self, sid: &str, status: &str) {
        self.change(sid, |account| status.clone_into(&mut account.status));
    }

    /// Answers every request for one account with this fault, until it is set to `None`.
    pub fn set_account_fault(&self, sid: &str, fault: Option<Fault>) {
        self.change(sid, |account| account.fault = fault);
    }

    fn change<T>(&self, sid: &str, change: impl FnOnce(&mut Account) -> T) -> T {
        self.with(|twilio| change(twilio.account(sid).expect("an added account")))
    }
}

/// Twilio's accounts, and how it behaves where that is not documented.
#[derive(Debug)]
pub struct Twilio {
    accounts: HashMap<String, Account>,
    second_secondary: SecondSecondary,
    token_delay: SignedDuration,
    keys_refused: u16,
    /// How much was made up so far.
    made: u64,
}

impl Default for Twilio {
    fn default() -> Self {
        Self {
            accounts: HashMap::new(),
            second_secondary: SecondSecondary::default(),
            token_delay: SignedDuration::ZERO,
            keys_refused: 401,
            made: 0,
        }
    }
}

/// A good status with its body, or a refusal.
type Reply = Result<(u16, Value), Refused>;

/// Why there is no good answer.
struct Refused {
    status: u16,
    /// Twilio's code, where it does not follow from the status.
    code: Option<u32>,
}

impl From<u16> for Refused {
    fn from(status: u16) -> Self {
        Self { status, code: None }
    }
}

impl Carrier for Twilio {
    const NAME: &'static str = "Twilio";
    const CHANGES: &'static str = r#"  {"add_account": {"sid": "AC…", "token": "…"}}
  {"set_token":   {"sid": "AC…", "token": "…"}}                                      the old one is dead
  {"add_token":   {"sid": "AC…", "token": "…", "region": "ie1"}}                     without: us1
  {"add_api_key": {"account_sid": "AC…", "sid": "SK…", "secret": "…"}}
  {"set_status":  {"sid": "AC…", "status": "suspended"}}                             active, closed
  {"set_trunk":   {"account_sid": "AC…", "trunk": {"sid": "TK…", "credential_lists": ["CL…"]}}}
  {"add_numbers": {"account_sid": "AC…", "count": 120, "trunk_sid": "TK…"}}          without: no trunk
"#;

    fn answer(&mut self, request: &Request, now: Timestamp, fault: Option<&Fault>) -> Answer {
        match self.resource(request, now) {
            Ok((204, _)) => Answer::empty(204),
            Ok((status, mut body)) => {
                spoil(&mut body, fault);
                Answer::json(status, &body)
            }
            Err(Refused { status, code: None }) => self.error(status),
            Err(Refused { status, code: Some(code) }) => {
                self.shaped_error(ErrorShape::Classic, status, code)
            }
        }
    }

    /// An error in Twilio's classic shape. Codes follow the pattern of 20404 and 20429.
    fn error(&self, status: u16) -> Answer {
        let code = if status == 401 { 20_003 } else { 20_000 + u32::from(status) };
        self.shaped_error(ErrorShape::Classic, status, code)
    }

    fn shaped_error(&self, shape: ErrorShape, status: u16, code: u32) -> Answer {
        let message = match status {
            401 => "Authenticate",
            404 => "The requested resource was not found",
            429 => "Too Many Requests",
            _ => "Something went wrong",
        };
        let url = format!("https://www.twilio.com/docs/errors/{code}");
        let (media_type, body) = match shape {
            ErrorShape::Classic => (
                "application/json",
                json!({"code": code, "message": message, "more_info": url, "status": status}),
            ),
            ErrorShape::Newer => (
                "application/json",
                json!({
                    "code": code,
                    "message": message,
                    "httpStatusCode": status,
                    "params": {"twilioErrorCodeUrl": url},
                    "userError": status < 500,
                }),
            ),
            ErrorShape::Problem => (
                "application/problem+json",
                json!({"type": url, "title": message, "status": status, "code": code}),
            ),
        };
        Answer::of_type(media_type, status, &body)
    }

    fn account_fault(&self, request: &Request) -> Option<Fault> {
        let account = match request.segments().as_slice() {
            ["2010-04-01", "Accounts", sid, ..] => self.accounts.get(sid.trim_end_matches(".json")),
            ["v1", "Trunks", sid, ..] => {
                self.accounts.values().find(|account| account.trunk(sid).is_some())
            }
            ["v1", ..] => self.accounts.get(&request.basic()?.0),
            _ => None,
        };
        account?.fault.clone()
    }

    fn change(&mut self, change: Value) -> anyhow::Result<()> {
        match serde_json::from_value(change)? {
            Change::AddAccount { sid, token } => {
                let account = Account::new(&sid, &token);
                self.accounts.insert(sid, account);
            }
            Change::SetToken { sid, token } => self.account(&sid)?.set_token(&sid, &token),
            Change::AddToken { sid, token, region } => {
                let region = region.as_deref().unwrap_or(US1);
                self.account(&sid)?.add_token(region, &sid, &token);
            }
            Change::AddApiKey { account_sid, sid, secret } => {
                let kind = CredentialKind::Key;
                self.account(&account_sid)?.add(US1, &sid, &secret, kind, Timestamp::MIN);
            }
            Change::SetStatus { sid, status } => self.account(&sid)?.status = status,
            Change::SetTrunk { account_sid, trunk } => self.account(&account_sid)?.set_trunk(trunk),
            Change::AddNumbers { account_sid, count, trunk_sid } => {
                self.account(&account_sid)?.numbers.add(count, trunk_sid.as_deref());
            }
        }
        Ok(())
    }
}

/// What `POST /_control` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    AddAccount { sid: String, token: String },
    SetToken { sid: String, token: String },
    AddToken { sid: String, token: String, region: Option<String> },
    AddApiKey { account_sid: String, sid: String, secret: String },
    SetStatus { sid: String, status: String },
    SetTrunk { account_sid: String, trunk: Trunk },
    AddNumbers { account_sid: String, count: usize, trunk_sid: Option<String> },
}

impl Twilio {
    fn account(&mut self, sid: &str) -> anyhow::Result<&mut Account> {
        self.accounts.get_mut(sid).with_context(|| format!("there is no account {sid}"))
    }

    fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// What the request asks for, or the status that says why not.
    fn resource(&mut self, request: &Request, now: Timestamp) -> Reply {
        request.basic().ok_or(401_u16)?;
        let (method, segments) = (request.method.as_str(), request.segments());
        match (product_of(request), method, segments.as_slice()) {
            (None | Some("api"), _, ["2010-04-01", "Accounts", sid, rest @ ..]) => {
                let own = rest.is_empty();
                let sid = if own { sid.strip_suffix(".json").ok_or(404_u16)? } else { sid };
                let account = self.accounts.get(sid).ok_or(404_u16)?;
                // A standard key may not read the account itself.
                let may_read = account.may_touch_keys(request, now).ok_or(401_u16)?;
                if own && !may_read {
                    return Err(401.into());
                }
                match (method, rest) {
                    ("GET", []) => Ok((200, account.resource(sid, region_of(request)))),
                    ("GET", ["IncomingPhoneNumbers.json"]) => {
                        Ok((200, account.numbers.page(sid, request)?))
                    }
                    (_, ["SIP", rest @ ..]) => self.sip(request, sid, rest, now),
                    (_, ["Keys.json" | "Keys", ..]) => self.keys(request, sid, rest, now),
                    _ => Err(404.into()),
                }
            }
            // Nothing in the path names the account here: the credentials do.
            (None | Some("trunking"), "GET", ["v1", "Trunks", trunk_sid, rest @ ..]) => {
                let mut accounts = self.accounts.iter();
                let owner = accounts.find(|(_, it)| it.opened_by(request, now).is_some());
                let (account_sid, account) = owner.ok_or(401_u16)?;
                let trunk = account.trunk(trunk_sid).ok_or(404_u16)?;
                match rest {
                    [] => Ok((200, trunk.resource(account_sid))),
                    ["CredentialLists"] => Ok((200, trunk.list_of_credential_lists(account_sid))),
                    ["CredentialLists", sid] if trunk.has_list(sid) => {
                        Ok((200, trunk.credential_list(account_sid, sid)))
                    }
                    _ => Err(404.into()),
                }
            }
            (None | Some("accounts"), _, ["v1", "AuthTokens", rest @ ..]) => {
                self.auth_tokens(request, rest, now)
            }
            (None | Some("iam"), "POST", ["v1", "Keys"]) => self.create_key(request, now),
            _ => Err(404.into()),
        }
    }
}

/// Makes a good answer one of something else.
fn spoil(body: &mut Value, fault: Option<&Fault>) {
    match (fault, body.get_mut("sid")) {
        (Some(Fault::SidMismatch), Some(sid)) => {
            let kind = sid.as_str().and_then(|sid| sid.get(..2)).unwrap_or_default();
            *sid = format!("{kind}{}", "f".repeat(32)).into();
        }
        (Some(Fault::MissingSid), Some(_)) => {
            body.as_object_mut().map(|fields| fields.remove("sid"));
        }
        _ => {}
    }
}

/// The product that the host name says. Any, if it says none.
fn product_of(request: &Request) -> Option<&str> {
    request.host().strip_suffix(".localhost")?.split('.').next()
}

/// The region of the host. `None` for a pair of edge and region that Twilio does not have.
fn region_of(request: &Request) -> Option<&str> {
    let host = request.host();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    match host.split('.').collect::<Vec<_>>().as_slice() {
        _ if address.is_ok() => Some(US1),
        [_, edge, region, _, ..] => REGIONS.contains(&(*edge, *region)).then_some(*region),
        _ => Some(US1),
    }
}

/// Adds the accounts of the program, and says what a person has to know.
pub fn introduce(fake: &FakeTwilio) -> String {
    use std::fmt::Write as _;
    let url = fake.url();
    let mut said = format!(
        "  CREDVAULT_UPSTREAM_TWILIO_API_URL={url}\n  CREDVAULT_UPSTREAM_TWILIO_TRUNKING_URL={url}\n\n  \
         Account SID                         what it answers\n"
    );
    for (sid, answer) in add_trial_accounts(fake) {
        // A string takes everything.
        let _ = writeln!(said, "  {sid}  {answer}");
    }
    let (a, b, nines) = ("a".repeat(32), "b".repeat(32), "9".repeat(32));
    let _ = write!(
        said,
        "
  The auth token of every account is  {a}
  AC111… takes this one as well       {b}
  Any other token there: 401. Any other account: 404.

  AC999… is complete: 120 phone numbers, of which 3 are on its trunk
    trunk            TK{nines}
    credential list  CL{nines}
    API key          SK{nines}, with the secret {nines}
  ACeee… is known at {} only
",
        fake.url_of("api.dublin.ie1")
    );
    said
}

/// Adds an account for each thing a carrier can do. Returns their SIDs, and what they answer.
fn add_trial_accounts(fake: &FakeTwilio) -> Vec<(String, &'static str)> {
    let trials = [
        ("1", "200, active: all is well", None),
        ("2", "200, suspended", None),
        ("3", "404, no such account", Some(Fault::Status(404))),
        ("4", "200, but about another SID", Some(Fault::SidMismatch)),
        ("5", "429, retry after 7 seconds", Some(Fault::RateLimit(7))),
        ("6", "500", Some(Fault::Status(500))),
        ("7", "nothing, it hangs", Some(Fault::Hang)),
        ("8", "nothing, it closes", Some(Fault::CloseBeforeAnswer)),
        ("9", "200, active, with a trunk, numbers and an API key", None),
        ("e", "401, but in region ie1 200, active", None),
    ];
    let sid_of = |kind: &str, digit: &str| format!("{kind}{}", digit.repeat(32));
    let token = "a".repeat(32);
    let told = trials.map(|(digit, answer, fault)| {
        let sid = sid_of("AC", digit);
        fake.add_account(&sid, &token);
        fake.set_account_fault(&sid, fault);
        (sid, answer)
    });
    fake.add_token(&sid_of("AC", "1"), &"b".repeat(32));
    fake.set_status(&sid_of("AC", "2"), "suspended");

    let complete = sid_of("AC", "9");
    let trunk = Trunk {
        sid: sid_of("TK", "9"),
        credential_lists: vec![sid_of("CL", "9")],
        ..Trunk::default()
    };
    fake.add_numbers(&complete, 3, Some(&trunk.sid));
    fake.add_numbers(&complete, 117, None);
    fake.set_trunk(&complete, trunk);
    fake.add_api_key(&complete, &sid_of("SK", "9"), &"9".repeat(32));

    let elsewhere = sid_of("AC", "e");
    fake.change(&elsewhere, Account::forget_credentials);
    fake.add_token_in("ie1", &elsewhere, &token);
    told.into()
}
