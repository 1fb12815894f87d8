//! A small Twilio on the loopback interface, for trials and for tests.
//!
//! It answers the one call with which the vault checks an auth token,
//! `GET /2010-04-01/Accounts/{sid}.json` with HTTP Basic `sid:token`. Fields and error bodies are
//! those of Twilio's published description (`twilio-oai`, `twilio_api_v2010.json`). Like the real
//! answer, this one carries the account's `auth_token`, so it is a canary: a vault that repeats the
//! carrier's body is caught by it.
//!
//! - As a program it serves one account for each thing a carrier can do. See `--help`.
//! - As a module of the tests it is [`FakeTwilio`], and a [`Fault`] makes it misbehave.
//!
//! HTTP/1.1 is written by hand, one request a connection, because half of the faults are answers
//! that a well-behaved server cannot be made to give. There is no TLS.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What goes wrong at the carrier.
///
/// The first group is an answer of its own, whatever the account and the token. The others change
/// the answer that account and token deserve, or the way in which it is sent.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with an error body in Twilio's shape.
    Status(u16),
    /// Exactly this answer. Only `content-length` and `connection: close` are added.
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

    /// A good answer is about another account.
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

    /// Adds an active account, or replaces it. Only an added account can be changed afterwards.
    pub fn add_account(&self, sid: &str, token: &str) {
        let account =
            Account { tokens: vec![token.to_owned()], status: "active".to_owned(), fault: None };
        self.shared.state().accounts.insert(sid.to_owned(), account);
    }

    /// Replaces the account's tokens by this one: the old ones are refused from now on.
    pub fn set_token(&self, sid: &str, token: &str) {
        self.change(sid, |account| account.tokens = vec![token.to_owned()]);
    }

    /// Makes one more token valid, as Twilio's secondary token is during a rotation.
    pub fn add_token(&self, sid: &str, token: &str) {
        self.change(sid, |account| account.tokens.push(token.to_owned()));
    }

    /// Sets what the account's answer says of it: `active`, `suspended` or `closed`.
    pub fn set_status(&self, sid: &str, status: &str) {
        self.change(sid, |account| status.clone_into(&mut account.status));
    }

    /// Answers every request for one account with this fault, until it is set to `None`.
    pub fn set_account_fault(&self, sid: &str, fault: Option<Fault>) {
        self.change(sid, |account| account.fault = fault);
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

    fn change(&self, sid: &str, change: impl FnOnce(&mut Account)) {
        let mut state = self.shared.state();
        change(state.accounts.get_mut(sid).expect("an added account"));
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
    always: Option<Fault>,
}

impl State {
    fn fault(&mut self, request: &Request) -> Option<Fault> {
        let account = request.sid().and_then(|sid| self.accounts.get(sid));
        let stays = || self.always.clone().or_else(|| account?.fault.clone());
        self.next.pop_front().or_else(stays)
    }

    /// The answer that account and token deserve.
    fn answer(&self, request: &Request, fault: Option<&Fault>) -> Answer {
        let Some((user, token)) = &request.credentials else {
            return Answer::error(401);
        };
        let Some(account) = request.sid().and_then(|sid| self.accounts.get(sid)) else {
            return Answer::error(404);
        };
        if request.sid() != Some(user) || !account.tokens.contains(token) {
            return Answer::error(401);
        }
        let mut body = account.resource(user);
        match (fault, body.as_object_mut()) {
            (Some(Fault::SidMismatch), Some(fields)) => {
                fields.insert("sid".to_owned(), format!("AC{}", "f".repeat(32)).into());
            }
            (Some(Fault::MissingSid), Some(fields)) => drop(fields.remove("sid")),
            _ => {}
        }
        Answer::json(200, &body)
    }
}

/// Any of the tokens opens the account. The first is the primary one, which the answer shows.
#[derive(Debug)]
struct Account {
    tokens: Vec<String>,
    status: String,
    fault: Option<Fault>,
}

impl Account {
    fn resource(&self, sid: &str) -> Value {
        let path = format!("/2010-04-01/Accounts/{sid}");
        json!({
            "auth_token": self.tokens.first(),
            "date_created": "Thu, 30 Jul 2015 20:00:00 +0000",
            "date_updated": "Thu, 30 Jul 2015 20:00:00 +0000",
            "friendly_name": "An account for trials",
            "owner_account_sid": sid,
            "sid": sid,
            "status": self.status,
            "subresource_uris": {
                "calls": format!("{path}/Calls.json"),
                "incoming_phone_numbers": format!("{path}/IncomingPhoneNumbers.json"),
                "messages": format!("{path}/Messages.json"),
            },
            "type": "Full",
            "uri": format!("{path}.json"),
        })
    }
}

/// A request, as far as it matters here.
#[derive(Debug)]
struct Request {
    line: String,
    /// User and password of HTTP Basic (RFC 7617).
    credentials: Option<(String, String)>,
}

impl Request {
    /// Reads a head. `None` if it does not end, or not within 16 KiB.
    async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut lines = BufReader::new(stream).take(16 * 1024).lines();
        let line = lines.next_line().await?.unwrap_or_default();
        let mut credentials = None;
        while let Some(header) = lines.next_line().await? {
            match header.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    credentials = basic(value.trim());
                }
                Some(_) => {}
                None => return Ok(Some(Self { line, credentials })),
            }
        }
        Ok(None)
    }

    /// The account asked for, if this is the call that the fake knows.
    fn sid(&self) -> Option<&str> {
        let path = self.line.strip_prefix("GET /2010-04-01/Accounts/")?;
        path.strip_suffix(".json HTTP/1.1")
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

    /// An error in Twilio's classic shape. Codes follow the pattern of 20404 and 20429.
    fn error(status: u16) -> Self {
        let (code, message) = match status {
            401 => (20_003, "Authenticate"),
            404 => (20_404, "The requested resource was not found"),
            _ => (20_000 + u32::from(status), "Something went wrong"),
        };
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        let body =
            json!({"code": code, "message": message, "more_info": more_info, "status": status});
        Self::json(status, &body)
    }

    /// The answer that a fault has of its own.
    fn instead(fault: &Fault) -> Option<Self> {
        match fault.clone() {
            Fault::Status(status) => Some(Self::error(status)),
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
    let fault = shared.state().fault(&request);
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
    send(&mut stream, &answer, fault).await
}

/// Sends the answer, in the way of the fault.
async fn send(stream: &mut TcpStream, answer: &Answer, fault: Option<Fault>) -> io::Result<()> {
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

It listens on loopback only. As it starts, it says which accounts it has.";

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
                println!("{HELP}");
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
    println!("  CREDVAULT_UPSTREAM_TWILIO_API_URL={url}\n");
    println!("  Account SID                         what it answers");
    for (sid, answer) in add_trial_accounts(&fake) {
        println!("  {sid}  {answer}");
    }
    println!("\n  The auth token of every account is  {}", "a".repeat(32));
    println!("  AC111… takes this one as well       {}", "b".repeat(32));
    println!("  Any other token there: 401. Any other account: 404.\n\nCtrl-C ends it.");
    Ok((&mut fake.server).await?)
}

/// Adds an account for each thing a carrier can do. Returns their SIDs, and what they answer.
fn add_trial_accounts(fake: &FakeTwilio) -> Vec<(String, &'static str)> {
    let rate_limit = Fault::StatusWith {
        status: 429,
        headers: vec![("retry-after", "7".to_owned())],
        body: Answer::error(429).body,
    };
    let trials = [
        ("1", "200, active: all is well", None),
        ("2", "200, suspended", None),
        ("3", "404, no such account", Some(Fault::Status(404))),
        ("4", "200, but about another SID", Some(Fault::SidMismatch)),
        ("5", "429, retry after 7 seconds", Some(rate_limit)),
        ("6", "500", Some(Fault::Status(500))),
        ("7", "nothing, it hangs", Some(Fault::Hang)),
        ("8", "nothing, it closes", Some(Fault::CloseBeforeAnswer)),
    ];
    let sid = |digit: &str| format!("AC{}", digit.repeat(32));
    let told = trials.map(|(digit, answer, fault)| {
        fake.add_account(&sid(digit), &"a".repeat(32));
        fake.set_account_fault(&sid(digit), fault);
        (sid(digit), answer)
    });
    fake.add_token(&sid("1"), &"b".repeat(32));
    fake.set_status(&sid("2"), "suspended");
    told.into()
}
