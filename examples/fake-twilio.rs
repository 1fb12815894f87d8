//! A small Twilio on the loopback interface, for trials and for tests.
//!
//! It answers the calls with which the vault checks an auth token or an API key, and what was set up
//! with it, all with HTTP Basic:
//!
//! - `GET /2010-04-01/Accounts/{AC}.json`
//! - `GET /2010-04-01/Accounts/{AC}/IncomingPhoneNumbers.json`, page after page
//! - `GET /v1/Trunks/{TK}`, `GET /v1/Trunks/{TK}/CredentialLists` and `…/CredentialLists/{CL}`
//!
//! Good answers are those of Twilio's published description, and `tests/openapi.rs` holds them to it.
//! Error bodies are not described there; they come from Twilio's documentation and its clients. Like
//! the real answer, an account carries its `auth_token`, so it is a canary: a vault that repeats the
//! carrier's body is caught by it.
//!
//! The host name says the product and the region, as at Twilio: `api.localhost`, and
//! `api.dublin.ie1.localhost` for `api.dublin.ie1.twilio.com`. An address serves all of `us1`. Each
//! region has tokens and keys of its own, and all see the same accounts.
//!
//! - As a program it serves one account for each thing a carrier can do. See `--help`.
//! - As a module of the tests it is [`FakeTwilio`], and a [`Fault`] makes it misbehave.
//! - Scripts reach the same controls through `/_control`, see [`CONTROL_HELP`].
//!
//! HTTP/1.1 is written by hand, one request a connection, because half of the faults are answers
//! that a well-behaved server cannot be made to give. There is no TLS.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The region of hosts that name none.
const US1: &str = "us1";

/// The other regions, each with the edge that its host names have (`api.dublin.ie1.twilio.com`).
const REGIONS: [(&str, &str); 3] = [("dublin", "ie1"), ("sydney", "au1"), ("tokyo", "jp1")];

/// How many requests are remembered word for word.
const REMEMBERED: usize = 10_000;

/// What goes wrong at the carrier.
///
/// The first group is an answer of its own, whatever the account and the token. The others change
/// the answer that account and token deserve, or the way in which it is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This status, with an error body in Twilio's classic shape.
    Status(u16),
    /// An error in one of Twilio's shapes.
    Error {
        /// How the body looks.
        shape: ErrorShape,
        /// The status.
        status: u16,
        /// Twilio's own code, for example 20003.
        code: u32,
    },
    /// 429, to be tried again after this many seconds.
    RateLimit(u32),
    /// Exactly this answer. Only `content-length` and `connection: close` are added.
    #[serde(skip)]
    StatusWith {
        /// The status.
        status: u16,
        /// The headers, `content-type` among them.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// 302 to this place.
    Redirect(String),
    /// 200 with the login page of a captive portal.
    NotJson,

    /// A good answer is about another account or trunk.
    SidMismatch,
    /// A good answer has no `sid`.
    MissingSid,
    /// White space, which JSON allows, makes the body this many bytes long.
    PaddedTo(usize),
    /// White space makes the body 100 MiB long.
    HugeBody,
    /// White space follows the body without end, in chunks.
    EndlessBody,

    /// Everything is sent at one byte a second.
    SlowHead,
    /// The body is sent at one byte a second.
    SlowBody,
    /// The connection closes after the first half of the head.
    HalfHead,
    /// The connection closes after the first half of the body.
    HalfBody,
    /// The connection closes in place of an answer.
    CloseBeforeAnswer,
    /// The connection is reset (TCP RST) in place of an answer.
    ResetBeforeAnswer,
    /// Nothing is sent, for as long as the caller waits.
    Hang,
    /// Nothing is sent until [`FakeTwilio::release`], then the answer that is right at that time.
    Hold,
}

/// The bodies that Twilio's errors come in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorShape {
    /// `code`, `message`, `more_info`, `status`.
    Classic,
    /// `code`, `message`, `httpStatusCode`, `params`, `userError`, which twilio-go also reads.
    Newer,
    /// `application/problem+json` (RFC 9457) with a `code`, which twilio-python also reads.
    Problem,
}

/// A SIP trunk. Its default is in order and has no credential list.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trunk {
    /// `TK…`.
    pub sid: String,
    /// Its name for people.
    pub friendly_name: String,
    /// Where calls are sent to, below `pstn.twilio.com`. A trunk may have none.
    pub domain_name: Option<String>,
    /// `disable-all`, `enable-all` or `sip-only`.
    pub transfer_mode: String,
    /// `from-transferee` or `from-transferor`.
    pub transfer_caller_id: String,
    /// Whether TLS and SRTP are required.
    pub secure: bool,
    /// `IP_ACL`, `CREDENTIAL_LIST`, both with a comma, or empty: no traffic.
    pub auth_type: String,
    /// The `CL…` that are attached.
    pub credential_lists: Vec<String>,
}

impl Default for Trunk {
    fn default() -> Self {
        Self {
            sid: format!("TK{}", "1".repeat(32)),
            friendly_name: "A trunk for trials".to_owned(),
            domain_name: Some("trial.pstn.twilio.com".to_owned()),
            transfer_mode: "disable-all".to_owned(),
            transfer_caller_id: "from-transferor".to_owned(),
            secure: false,
            auth_type: "CREDENTIAL_LIST".to_owned(),
            credential_lists: Vec::new(),
        }
    }
}

/// A running fake. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct FakeTwilio {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl FakeTwilio {
    /// Starts a fake without accounts on a free loopback port.
    ///
    /// # Panics
    /// If it cannot: a test has nothing else to do about it.
    pub async fn start() -> Self {
        let free = (Ipv4Addr::LOCALHOST, 0).into();
        Self::listen(free).await.expect("a loopback port is free")
    }

    /// Starts a fake without accounts on this address.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::default();
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, server })
    }

    /// Its base URL, for example `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL of a product, and of its region: `api`, `trunking.dublin.ie1`.
    pub fn url_of(&self, product: &str) -> String {
        format!("http://{product}.localhost:{}", self.address.port())
    }

    /// Adds an active account, or replaces it. Only an added account can be changed afterwards.
    pub fn add_account(&self, sid: &str, token: &str) {
        self.shared.state().add_account(sid, token);
    }

    /// Replaces the account's tokens by this one: the old ones are refused from now on.
    pub fn set_token(&self, sid: &str, token: &str) {
        self.change(sid, |account| {
            account.credentials.retain(|it| it.user != sid || it.region != US1);
            account.add_credential(US1, sid, token);
        });
    }

    /// Makes one more token valid, as Twilio's secondary token is during a rotation.
    pub fn add_token(&self, sid: &str, token: &str) {
        self.add_token_in(US1, sid, token);
    }

    /// Makes one more token valid in this region only, for example `ie1`.
    pub fn add_token_in(&self, region: &str, sid: &str, token: &str) {
        self.change(sid, |account| account.add_credential(region, sid, token));
    }

    /// Adds a standard API key, which reads everything of its account but the account itself.
    pub fn add_api_key(&self, sid: &str, key_sid: &str, secret: &str) {
        self.change(sid, |account| account.add_credential(US1, key_sid, secret));
    }

    /// Adds a trunk to the account, or replaces it.
    pub fn set_trunk(&self, account_sid: &str, trunk: Trunk) {
        self.change(account_sid, |account| account.set_trunk(trunk));
    }

    /// Adds phone numbers to the account, which belong to this trunk or to none.
    pub fn add_numbers(&self, account_sid: &str, count: usize, trunk_sid: Option<&str>) {
        self.change(account_sid, |account| account.add_numbers(count, trunk_sid));
    }

    /// Makes each phone number of the account this many bytes longer, to make large pages.
    pub fn pad_numbers(&self, account_sid: &str, bytes: usize) {
        self.change(account_sid, |account| account.number_padding = bytes);
    }

    /// Sets what the account's answer says of it: `active`, `suspended` or `closed`.
    pub fn set_status(&self, sid: &str, status: &str) {
        self.change(sid, |account| status.clone_into(&mut account.status));
    }

    /// Answers every request for one account with this fault, until it is set to `None`.
    pub fn set_account_fault(&self, sid: &str, fault: Option<Fault>) {
        self.change(sid, |account| account.fault = fault);
    }

    /// Answers every request whose path and query contain this with the fault, until it is set to
    /// `None`: `/v1/Trunks`, `/IncomingPhoneNumbers`, `&Page=1`. Comes before the faults of an
    /// account and of all; of two that match the one that was set first counts.
    pub fn set_path_fault(&self, part: &str, fault: Option<Fault>) {
        self.shared.state().set_path_fault(part, fault, None);
    }

    /// Answers every request with this fault, until it is set to `None`.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.state().always = fault;
    }

    /// Answers one request with this fault. Faults queue, and come before those that stay.
    pub fn fail_next(&self, fault: Fault) {
        self.shared.state().next.push_back(fault);
    }

    /// Lets those requests go on that are held now ([`Fault::Hold`]). Later ones are held again, so
    /// await [`Self::called`] first.
    pub fn release(&self) {
        self.shared.released.send_replace(());
    }

    /// How many requests have come.
    pub fn calls(&self) -> u64 {
        *self.shared.calls.borrow()
    }

    /// Waits until this many requests have come. Those to be held are held by then.
    pub async fn called(&self, times: u64) {
        let mut calls = self.shared.calls.subscribe();
        // No error can come of it: the sender lives in self.
        let _ = calls.wait_for(|&calls| calls >= times).await;
    }

    /// How many connections have come, with a request on them or without.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests have come whose path, without the query, contains this.
    pub fn calls_to(&self, part: &str) -> u64 {
        let state = self.shared.state();
        let matching = state.paths.iter().filter(|(path, _)| path.contains(part));
        matching.map(|(_, calls)| calls).sum()
    }

    /// The last 10,000 requests in the order of their coming, as `GET /path?query`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.iter().cloned().collect()
    }

    /// The largest number of requests that were being answered at once. One that has its whole
    /// answer does not count any more, so a caller who waits for each answer makes 1.
    pub fn most_in_flight(&self) -> u64 {
        self.shared.state().most_in_flight
    }

    fn change(&self, sid: &str, change: impl FnOnce(&mut Account)) {
        let mut state = self.shared.state();
        change(state.account(sid).expect("an added account"));
    }
}

impl Drop for FakeTwilio {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the controls and the connections share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    connections: AtomicU64,
    calls: watch::Sender<u64>,
    released: watch::Sender<()>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    accounts: HashMap<String, Account>,
    next: VecDeque<Fault>,
    path_faults: Vec<PathFault>,
    always: Option<Fault>,
    requests: VecDeque<String>,
    paths: BTreeMap<String, u64>,
    in_flight: u64,
    most_in_flight: u64,
}

#[derive(Debug)]
struct PathFault {
    part: String,
    fault: Fault,
    times: Option<u64>,
}

impl State {
    fn add_account(&mut self, sid: &str, token: &str) {
        let mut account = Account { status: "active".to_owned(), ..Account::default() };
        account.add_credential(US1, sid, token);
        self.accounts.insert(sid.to_owned(), account);
    }

    /// The fault holds for so many requests, or for good.
    fn set_path_fault(&mut self, part: &str, fault: Option<Fault>, times: Option<u64>) {
        self.path_faults.retain(|it| it.part != part);
        self.path_faults.extend(fault.map(|fault| PathFault {
            part: part.to_owned(),
            fault,
            times,
        }));
    }

    /// Takes a request down, and finds out whether something is to go wrong with it.
    fn begin(&mut self, request: &Request) -> Option<Fault> {
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        *self.paths.entry(request.path().to_owned()).or_default() += 1;
        self.requests.push_back(format!("{} {}", request.method, request.target));
        if self.requests.len() > REMEMBERED {
            self.requests.pop_front();
        }
        self.next.pop_front().or_else(|| self.path_fault(request)).or_else(|| {
            let account = self.account_asked_for(request);
            self.always.clone().or_else(|| account?.fault.clone())
        })
    }

    fn path_fault(&mut self, request: &Request) -> Option<Fault> {
        let matches = |it: &PathFault| request.target.contains(&it.part);
        let found = self.path_faults.iter_mut().find(|it| matches(it) && it.times != Some(0))?;
        found.times = found.times.map(|times| times - 1);
        Some(found.fault.clone())
    }

    fn account_asked_for(&self, request: &Request) -> Option<&Account> {
        match request.segments().as_slice() {
            ["2010-04-01", "Accounts", sid, ..] => self.accounts.get(sid.trim_end_matches(".json")),
            ["v1", "Trunks", sid, ..] => {
                self.accounts.values().find(|account| account.trunk(sid).is_some())
            }
            _ => None,
        }
    }

    /// The answer that account and credentials deserve.
    fn answer(&self, request: &Request, fault: Option<&Fault>) -> Answer {
        match self.resource(request) {
            Ok(mut body) => {
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
                Answer::json(200, &body)
            }
            Err(status) => Answer::error(status),
        }
    }

    /// What the request asks for, or the status that says why not.
    fn resource(&self, request: &Request) -> Result<Value, u16> {
        let (user, _) = request.credentials.as_ref().ok_or(401_u16)?;
        let segments = request.segments();
        let segments = if request.method == "GET" { segments.as_slice() } else { &[] };
        match (request.product(), segments) {
            (None | Some("api"), ["2010-04-01", "Accounts", sid, rest @ ..]) => {
                let own = rest.is_empty();
                let sid = if own { sid.strip_suffix(".json").ok_or(404_u16)? } else { sid };
                let account = self.accounts.get(sid).ok_or(404_u16)?;
                // A standard key may not read the account itself.
                if !account.opens_for(request) || own && user != sid {
                    return Err(401);
                }
                match rest {
                    [] => Ok(account.resource(sid, request.region())),
                    ["IncomingPhoneNumbers.json"] => account.numbers(sid, request),
                    _ => Err(404),
                }
            }
            // Nothing in the path names the account here: the credentials do.
            (None | Some("trunking"), ["v1", "Trunks", trunk_sid, rest @ ..]) => {
                let mut accounts = self.accounts.iter();
                let owner = accounts.find(|(_, account)| account.opens_for(request));
                let (account_sid, account) = owner.ok_or(401_u16)?;
                let trunk = account.trunk(trunk_sid).ok_or(404_u16)?;
                match rest {
                    [] => Ok(trunk.resource(account_sid)),
                    ["CredentialLists"] => Ok(trunk.list_of_credential_lists(account_sid)),
                    ["CredentialLists", sid] if trunk.has_list(sid) => {
                        Ok(trunk.credential_list(account_sid, sid))
                    }
                    _ => Err(404),
                }
            }
            _ => Err(404),
        }
    }
}

#[derive(Debug, Default)]
struct Account {
    credentials: Vec<Credential>,
    status: String,
    trunks: Vec<Trunk>,
    /// The trunk of each phone number, if it is on one.
    numbers: Vec<Option<String>>,
    number_padding: usize,
    fault: Option<Fault>,
}

/// A token (its user is the account's SID) or an API key. Any of them opens the account. The first
/// token of a region is the primary one, which the answer shows.
#[derive(Debug)]
struct Credential {
    region: String,
    user: String,
    secret: String,
}

impl Account {
    fn add_credential(&mut self, region: &str, user: &str, secret: &str) {
        let [region, user, secret] = [region, user, secret].map(str::to_owned);
        self.credentials.push(Credential { region, user, secret });
    }

    fn set_trunk(&mut self, trunk: Trunk) {
        self.trunks.retain(|it| it.sid != trunk.sid);
        self.trunks.push(trunk);
    }

    fn add_numbers(&mut self, count: usize, trunk_sid: Option<&str>) {
        self.numbers.extend((0..count).map(|_| trunk_sid.map(str::to_owned)));
    }

    fn opens_for(&self, request: &Request) -> bool {
        let (Some(region), Some((user, secret))) = (request.region(), &request.credentials) else {
            return false;
        };
        let same =
            |it: &Credential| it.region == region && it.user == *user && it.secret == *secret;
        self.credentials.iter().any(same)
    }

    fn trunk(&self, sid: &str) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.sid == sid)
    }

    fn resource(&self, sid: &str, region: Option<&str>) -> Value {
        let path = format!("/2010-04-01/Accounts/{sid}");
        let mut tokens = self.credentials.iter().filter(|it| it.user == sid);
        let primary = tokens.find(|it| Some(it.region.as_str()) == region);
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

    /// A page of the phone numbers. There is no total: the last page has no next one.
    fn numbers(&self, sid: &str, request: &Request) -> Result<Value, u16> {
        let size = request.number("PageSize", 50)?.clamp(1, 1000);
        let page = request.number("Page", 0)?;
        let path = format!("/2010-04-01/Accounts/{sid}/IncomingPhoneNumbers.json?PageSize={size}");
        // A page is found by its token, which has the last number before it. The index is for show.
        let token = |page: usize| format!("PA{}", number_sid((page * size).saturating_sub(1)));
        let uri = |page: usize| match page {
            0 => format!("{path}&Page=0"),
            _ => format!("{path}&Page={page}&PageToken={}", token(page)),
        };
        let start = page.checked_mul(size).ok_or(400_u16)?;
        if page > 0 && request.query("PageToken") != Some(&token(page)) {
            return Err(400);
        }
        let rows = self.numbers.iter().enumerate().skip(start).take(size);
        let rows = rows.map(|(i, trunk_sid)| self.number(sid, i, trunk_sid.as_deref()));
        let rows = rows.collect::<Vec<_>>();
        let end = start + rows.len();
        Ok(json!({
            "page": page, "page_size": size, "start": start, "end": end.saturating_sub(1),
            "uri": uri(page), "first_page_uri": uri(0),
            "previous_page_uri": page.checked_sub(1).map(uri),
            "next_page_uri": (end < self.numbers.len()).then(|| uri(page + 1)),
            "incoming_phone_numbers": rows,
        }))
    }

    fn number(&self, account_sid: &str, i: usize, trunk_sid: Option<&str>) -> Value {
        let sid = number_sid(i);
        let path = format!("/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers");
        json!({
            "sid": sid, "account_sid": account_sid, "trunk_sid": trunk_sid,
            "phone_number": format!("+1415{i:07}"), "friendly_name": format!("Number {i}"),
            "origin": "twilio", "beta": false, "status": "in-use", "api_version": "2010-04-01",
            "capabilities": {"voice": true, "sms": false, "mms": false, "fax": false},
            "address_requirements": "none", "address_sid": null,
            "bundle_sid": null, "identity_sid": null,
            "emergency_status": "Inactive", "emergency_address_status": "unregistered",
            "emergency_address_sid": null,
            "sms_application_sid": null, "sms_method": "POST", "sms_url": null,
            "sms_fallback_method": "POST", "sms_fallback_url": null,
            "status_callback": null, "status_callback_method": "POST",
            "voice_application_sid": null, "voice_caller_id_lookup": false,
            "voice_receive_mode": "voice", "voice_method": "POST",
            "voice_url": format!("https://example.com/{}", "x".repeat(self.number_padding)),
            "voice_fallback_method": "POST", "voice_fallback_url": null,
            "date_created": "Thu, 30 Jul 2015 23:19:04 +0000",
            "date_updated": "Thu, 30 Jul 2015 23:19:04 +0000",
            "uri": format!("{path}/{sid}.json"),
        })
    }
}

fn number_sid(i: usize) -> String {
    format!("PN{i:032x}")
}

impl Trunk {
    /// Links are Twilio's own, wherever the fake listens: who follows one leaves the vault's hosts.
    fn url(&self) -> String {
        format!("https://trunking.twilio.com/v1/Trunks/{}", self.sid)
    }

    fn resource(&self, account_sid: &str) -> Value {
        let url = self.url();
        let auth_types = self.auth_type.split(',').filter(|it| !it.is_empty());
        json!({
            "sid": self.sid, "account_sid": account_sid, "friendly_name": self.friendly_name,
            "domain_name": self.domain_name,
            "auth_type": self.auth_type, "auth_type_set": auth_types.collect::<Vec<_>>(),
            "transfer_mode": self.transfer_mode, "transfer_caller_id": self.transfer_caller_id,
            "secure": self.secure, "symmetric_rtp_enabled": false, "cnam_lookup_enabled": false,
            "disaster_recovery_method": "POST", "disaster_recovery_url": null,
            "recording": {"mode": "do-not-record", "trim": "do-not-trim"},
            "date_created": "2015-01-02T11:23:45Z", "date_updated": "2015-01-02T11:23:45Z",
            "url": url,
            "links": {
                "credential_lists": format!("{url}/CredentialLists"),
                "ip_access_control_lists": format!("{url}/IpAccessControlLists"),
                "origination_urls": format!("{url}/OriginationUrls"),
                "phone_numbers": format!("{url}/PhoneNumbers"),
            },
        })
    }

    fn has_list(&self, sid: &str) -> bool {
        self.credential_lists.iter().any(|it| it == sid)
    }

    fn credential_list(&self, account_sid: &str, sid: &str) -> Value {
        json!({
            "sid": sid, "account_sid": account_sid, "trunk_sid": self.sid,
            "friendly_name": "A credential list for trials",
            "date_created": "2018-04-28T00:10:23Z", "date_updated": "2018-04-28T00:10:23Z",
            "url": format!("{}/CredentialLists/{sid}", self.url()),
        })
    }

    /// All on one page: a trunk has few.
    fn list_of_credential_lists(&self, account_sid: &str) -> Value {
        let lists = self.credential_lists.iter();
        let lists = lists.map(|sid| self.credential_list(account_sid, sid));
        let url = format!("{}/CredentialLists?PageSize=50&Page=0", self.url());
        json!({
            "credential_lists": lists.collect::<Vec<_>>(),
            "meta": {
                "key": "credential_lists", "page": 0, "page_size": 50, "url": url,
                "first_page_url": url, "next_page_url": null, "previous_page_url": null,
            },
        })
    }
}

/// What `POST /_control` takes, see [`CONTROL_HELP`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    AddAccount { sid: String, token: String },
    AddToken { sid: String, token: String, region: Option<String> },
    AddApiKey { account_sid: String, sid: String, secret: String },
    SetStatus { sid: String, status: String },
    SetTrunk { account_sid: String, trunk: Trunk },
    AddNumbers { account_sid: String, count: usize, trunk_sid: Option<String> },
    SetFault { path: String, fault: Option<Fault>, times: Option<u64> },
}

impl Shared {
    fn control(&self, request: &Request) -> Answer {
        let mut state = self.state();
        match (request.method.as_str(), request.path()) {
            ("GET", "/_control") => Answer::text(200, CONTROL_HELP),
            ("GET", "/_control/requests") => {
                let requests = state.requests.iter().collect::<Vec<_>>();
                let told = json!({
                    "calls": *self.calls.borrow(),
                    "most_in_flight": state.most_in_flight,
                    "paths": state.paths,
                    "requests": requests,
                });
                Answer::text(200, &format!("{told:#}\n"))
            }
            ("POST" | "PUT", "/_control") => {
                let change = serde_json::from_slice(&request.body);
                let done = change.context("read the change").and_then(|it| state.change(it));
                match done {
                    Ok(()) => Answer::text(200, "done\n"),
                    Err(error) => Answer::text(400, &format!("{error:#}\n")),
                }
            }
            _ => Answer::text(404, "See GET /_control\n"),
        }
    }
}

impl State {
    fn account(&mut self, sid: &str) -> anyhow::Result<&mut Account> {
        self.accounts.get_mut(sid).with_context(|| format!("there is no account {sid}"))
    }

    fn change(&mut self, change: Change) -> anyhow::Result<()> {
        match change {
            Change::AddAccount { sid, token } => self.add_account(&sid, &token),
            Change::AddToken { sid, token, region } => {
                self.account(&sid)?.add_credential(region.as_deref().unwrap_or(US1), &sid, &token);
            }
            Change::AddApiKey { account_sid, sid, secret } => {
                self.account(&account_sid)?.add_credential(US1, &sid, &secret);
            }
            Change::SetStatus { sid, status } => self.account(&sid)?.status = status,
            Change::SetTrunk { account_sid, trunk } => self.account(&account_sid)?.set_trunk(trunk),
            Change::AddNumbers { account_sid, count, trunk_sid } => {
                self.account(&account_sid)?.add_numbers(count, trunk_sid.as_deref());
            }
            Change::SetFault { path, fault, times } => self.set_path_fault(&path, fault, times),
        }
        Ok(())
    }
}

/// A request, as far as it matters here.
#[derive(Debug, Default)]
struct Request {
    method: String,
    /// Path and query.
    target: String,
    /// Without the port.
    host: String,
    /// User and password of HTTP Basic (RFC 7617).
    credentials: Option<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Reads it. `None` if it does not end, or not within 16 KiB.
    async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(stream).take(16 * 1024);
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let mut request = Self { method: word(), target: word(), ..Self::default() };
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).await?;
            let header = line.split_once(':').map(|(name, value)| (name, value.trim()));
            match header.map(|(name, value)| (name.to_ascii_lowercase(), value)) {
                Some((name, value)) => match name.as_str() {
                    "authorization" => request.credentials = basic(value),
                    "content-length" => length = value.parse().map_err(io::Error::other)?,
                    "host" => value.clone_into(&mut request.host),
                    _ => {}
                },
                None if line.is_empty() => return Ok(None),
                None => break,
            }
        }
        if let Some((host, _port)) = request.host.rsplit_once(':') {
            request.host = host.to_owned();
        }
        reader.take(length).read_to_end(&mut request.body).await?;
        Ok(Some(request))
    }

    fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    fn segments(&self) -> Vec<&str> {
        self.path().split('/').skip(1).collect()
    }

    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, u16> {
        self.query(name).map_or(Ok(default), |text| text.parse().map_err(|_| 400))
    }

    /// The product that the host name says. Any, if it says none.
    fn product(&self) -> Option<&str> {
        self.host.strip_suffix(".localhost")?.split('.').next()
    }

    /// The region of the host. `None` for a pair of edge and region that Twilio does not have.
    fn region(&self) -> Option<&str> {
        let address = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        match self.host.split('.').collect::<Vec<_>>().as_slice() {
            _ if address.is_ok() => Some(US1),
            [_, edge, region, _, ..] => REGIONS.contains(&(*edge, *region)).then_some(*region),
            _ => Some(US1),
        }
    }
}

fn basic(value: &str) -> Option<(String, String)> {
    let pair = BASE64_STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Self {
        Self { status, headers, body }
    }

    fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self::new(status, headers, body.to_string().into_bytes())
    }

    fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        Self::new(status, headers, text.as_bytes().to_vec())
    }

    /// An error in Twilio's classic shape. Codes follow the pattern of 20404 and 20429.
    fn error(status: u16) -> Self {
        let code = if status == 401 { 20_003 } else { 20_000 + u32::from(status) };
        Self::shaped_error(ErrorShape::Classic, status, code)
    }

    fn shaped_error(shape: ErrorShape, status: u16, code: u32) -> Self {
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
        let headers = vec![("content-type", media_type.to_owned())];
        Self::new(status, headers, body.to_string().into_bytes())
    }

    /// The answer that a fault has of its own.
    fn instead(fault: &Fault) -> Option<Self> {
        match fault.clone() {
            Fault::Status(status) => Some(Self::error(status)),
            Fault::Error { shape, status, code } => Some(Self::shaped_error(shape, status, code)),
            Fault::RateLimit(seconds) => {
                let mut answer = Self::error(429);
                answer.headers.push(("retry-after", seconds.to_string()));
                Some(answer)
            }
            Fault::StatusWith { status, headers, body } => Some(Self::new(status, headers, body)),
            Fault::Redirect(to) => Some(Self::new(302, vec![("location", to)], Vec::new())),
            Fault::NotJson => {
                let headers = vec![("content-type", "text/html".to_owned())];
                let page = b"<!doctype html><title>Welcome to our hotel</title>";
                Some(Self::new(200, headers, page.to_vec()))
            }
            _ => None,
        }
    }

    fn head(&self, framing: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} \r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        format!("{head}{framing}\r\n\r\n").into_bytes()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        // An error in there is a caller who left.
        connections.spawn(converse(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// Reads one request and answers it. The connection closes when the stream is dropped.
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let Some(request) = Request::read(&mut stream).await? else {
        return Ok(());
    };
    if request.path().starts_with("/_control") {
        let answer = shared.control(&request);
        return send(&mut stream, &answer, None, None).await;
    }
    let fault = shared.state().begin(&request);
    let in_flight = InFlight(Arc::clone(&shared));
    // Subscribed before the request is counted: a `release` after `called` cannot miss it.
    let mut released = shared.released.subscribe();
    shared.calls.send_modify(|calls| *calls += 1);
    if matches!(fault, Some(Fault::Hold)) {
        released.changed().await.map_err(io::Error::other)?;
    }
    let answer = match fault.as_ref().and_then(Answer::instead) {
        Some(answer) => answer,
        None => shared.state().answer(&request, fault.as_ref()),
    };
    send(&mut stream, &answer, fault, Some(in_flight)).await
}

/// A request that has come and not yet got its answer.
struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
    }
}

/// Sends the answer, in the way of the fault.
async fn send(
    stream: &mut TcpStream,
    answer: &Answer,
    fault: Option<Fault>,
    in_flight: Option<InFlight>,
) -> io::Result<()> {
    let body = answer.body.as_slice();
    let length = match fault {
        Some(Fault::PaddedTo(length)) => length.max(body.len()),
        Some(Fault::HugeBody) => 100 * 1024 * 1024,
        _ => body.len(),
    };
    let head = answer.head(&format!("content-length: {length}"));
    let half = |bytes: &[u8]| bytes.split_at(bytes.len() / 2).0.to_vec();
    match fault {
        Some(Fault::CloseBeforeAnswer) => Ok(()),
        Some(Fault::ResetBeforeAnswer) => stream.set_zero_linger(),
        // Ends when the caller leaves.
        Some(Fault::Hang) => stream.read(&mut [0]).await.map(drop),
        Some(Fault::HalfHead) => stream.write_all(&half(&head)).await,
        Some(Fault::HalfBody) => stream.write_all(&[head, half(body)].concat()).await,
        Some(Fault::SlowHead) => drip(stream, &[&head, body].concat()).await,
        Some(Fault::SlowBody) => {
            stream.write_all(&head).await?;
            drip(stream, body).await
        }
        Some(Fault::EndlessBody) => {
            let head = answer.head("transfer-encoding: chunked");
            let size = format!("{:x}\r\n", body.len());
            let first = [&head, size.as_bytes(), body, b"\r\n"].concat();
            stream.write_all(&first).await?;
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        _ => {
            // Before the caller can have the answer and send the next request.
            drop(in_flight);
            stream.write_all(&[&head, body].concat()).await?;
            let padding = u64::try_from(length - body.len()).unwrap_or(u64::MAX);
            let mut blanks = tokio::io::repeat(b' ').take(padding);
            tokio::io::copy(&mut blanks, stream).await.map(drop)
        }
    }
}

/// Sends one byte a second.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for byte in bytes {
        second.tick().await;
        stream.write_u8(*byte).await?;
    }
    Ok(())
}

const HELP: &str = "\
A small Twilio on the loopback interface, to try the vault without an account at Twilio.

Usage: cargo run --example fake-twilio -- [--listen 127.0.0.1:8081]

It listens on loopback only. As it starts, it says which accounts it has. Change them while it runs:

";

/// What `GET /_control` answers. The names are those of [`FakeTwilio`]'s methods.
const CONTROL_HELP: &str = r#"  curl URL/_control            this text
  curl URL/_control/requests   what has been asked so far
  curl URL/_control -d CHANGE  changes one thing, which is one of

  {"add_account": {"sid": "AC…", "token": "…"}}
  {"add_token":   {"sid": "AC…", "token": "…", "region": "ie1"}}                     without: us1
  {"add_api_key": {"account_sid": "AC…", "sid": "SK…", "secret": "…"}}
  {"set_status":  {"sid": "AC…", "status": "suspended"}}                             active, closed
  {"set_trunk":   {"account_sid": "AC…", "trunk": {"sid": "TK…", "credential_lists": ["CL…"]}}}
  {"add_numbers": {"account_sid": "AC…", "count": 120, "trunk_sid": "TK…"}}          without: no trunk
  {"set_fault":   {"path": "/v1/Trunks", "fault": {"status": 500}, "times": 1}}      without: for good
  {"set_fault":   {"path": "/v1/Trunks"}}                                            none any more

  Faults: {"status": 500}, {"rate_limit": 7}, {"redirect": "http://…"}, "not_json", "sid_mismatch",
  {"error": {"shape": "classic" or "newer" or "problem", "status": 401, "code": 20003}},
  "missing_sid", {"padded_to": 100000}, "huge_body", "endless_body", "slow_head", "slow_body",
  "half_head", "half_body", "close_before_answer", "reset_before_answer", "hang".
  A fault's path is any part of path and query, an account's SID for example.
"#;

#[expect(clippy::print_stderr, reason = "the program talks to a person")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the program talks to a person")]
async fn run() -> anyhow::Result<()> {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => {
                print!("{HELP}{CONTROL_HELP}");
                return Ok(());
            }
            "--listen" => {
                let text = arguments.next().unwrap_or_default();
                let hint = "--listen takes an address and a port, such as 127.0.0.1:8081";
                address = text.parse().context(hint)?;
            }
            other => bail!("unknown argument `{other}`, see --help"),
        }
    }
    if !address.ip().is_loopback() {
        bail!("{address} is refused: a fake listens on loopback only");
    }
    let listening = FakeTwilio::listen(address).await;
    let mut fake = listening.with_context(|| format!("listen on {address}"))?;
    let url = fake.url();
    println!("A small Twilio listens on {url}\n");
    println!("Start the vault with this in its environment:\n");
    println!("  CREDVAULT_UPSTREAM_TWILIO_API_URL={url}");
    println!("  CREDVAULT_UPSTREAM_TWILIO_TRUNKING_URL={url}\n");
    println!("  Account SID                         what it answers");
    for (sid, answer) in add_trial_accounts(&fake) {
        println!("  {sid}  {answer}");
    }
    println!("\n  The auth token of every account is  {}", "a".repeat(32));
    println!("  AC111… takes this one as well       {}", "b".repeat(32));
    println!("  Any other token there: 401. Any other account: 404.\n");
    println!("  AC999… is complete: 120 phone numbers, of which 3 are on its trunk");
    println!("    trunk            TK{}", "9".repeat(32));
    println!("    credential list  CL{}", "9".repeat(32));
    println!("    API key          SK{}, with the secret {0}", "9".repeat(32));
    println!("  ACeee… is known at {} only\n", fake.url_of("api.dublin.ie1"));
    println!("Change them while it runs: curl {url}/_control\n\nCtrl-C ends it.");
    Ok((&mut fake.server).await?)
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
    fake.change(&elsewhere, |account| account.credentials.clear());
    fake.add_token_in("ie1", &elsewhere, &token);
    told.into()
}
