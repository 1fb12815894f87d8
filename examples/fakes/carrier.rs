//! What all small carriers share: a server on the loopback interface, its controls, and what goes wrong.
//!
//! A carrier is a [`Carrier`]; a [`Fake`] of one listens. A [`Fault`] makes it misbehave: the next requests, those to
//! one path, or all. Scripts reach the same controls through `/_control`, see [`CONTROL_HELP`].
//!
//! HTTP/1.1 is written by hand, one request a connection, because half of the faults are answers
//! that a well-behaved server cannot be made to give. There is no TLS.

mod fault;
mod http;
pub mod program;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use fault::{ErrorShape, Fault};
pub use http::{Answer, Request};

/// How many requests are remembered word for word.
const REMEMBERED: usize = 10_000;

/// What one carrier is and does.
pub trait Carrier: Default + Send + 'static {
    /// Its name.
    const NAME: &'static str;
    /// What `POST /_control` takes beside `set_fault`, a line each.
    const CHANGES: &'static str;

    /// Does what the request asks for, at this time, and answers. Some faults are in a good answer's content.
    fn answer(&mut self, request: &Request, now: Timestamp, fault: Option<&Fault>) -> Answer;

    /// The carrier's error of this status.
    fn error(&self, status: u16) -> Answer;

    /// The same in one of the shapes that it comes in, with a code of the carrier's own.
    fn shaped_error(&self, _shape: ErrorShape, status: u16, _code: u32) -> Answer {
        self.error(status)
    }

    /// The fault of the account that a request is about.
    fn account_fault(&self, _request: &Request) -> Option<Fault> {
        None
    }

    /// Changes one thing.
    fn change(&mut self, change: Value) -> anyhow::Result<()>;
}

/// A running fake. Dropping it closes its port and its connections.
pub struct Fake<C: Carrier> {
    address: SocketAddr,
    shared: Arc<Shared<C>>,
    server: JoinHandle<()>,
}

impl<C: Carrier> Fake<C> {
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
        let shared = Arc::new(Shared::default());
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, server })
    }

    /// Its base URL, for example `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL of a host of its own on this machine: `api`, `trunking.dublin.ie1`.
    pub fn url_of(&self, host: &str) -> String {
        format!("http://{host}.localhost:{}", self.address.port())
    }

    /// Closes the port: connections are refused, and those that are open are cut.
    pub async fn close(&mut self) {
        self.server.abort();
        // An error says that it was aborted.
        drop((&mut self.server).await);
    }

    /// Opens the port again that [`Self::close`] closed.
    ///
    /// # Panics
    /// If something else has taken the port meanwhile.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        self.server = tokio::spawn(serve(listener, Arc::clone(&self.shared)));
    }

    /// Where it has the time from. Without, its time stands still.
    pub fn set_clock(&self, now: impl Fn() -> Timestamp + Send + 'static) {
        self.shared.state().clock = Some(Box::new(now));
    }

    /// Moves its time on.
    pub fn advance(&self, by: SignedDuration) {
        let mut state = self.shared.state();
        state.ahead = state.ahead.saturating_add(by);
    }

    /// Answers every request with this fault, until it is set to `None`.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.state().always = fault;
    }

    /// Answers one request with this fault. Faults queue, and come before those that stay.
    pub fn fail_next(&self, fault: Fault) {
        self.fail_next_times(1, fault);
    }

    /// Answers so many requests with this fault.
    pub fn fail_next_times(&self, times: usize, fault: Fault) {
        self.shared.state().next.extend(std::iter::repeat_n(fault, times));
    }

    /// Answers every request with this in its method, path and query with the fault, until it is set to
    /// `None`: `/v1/Trunks`, `PUT /api/v1/Account`, `&Page=1`. Comes before the faults of an
    /// account and of all; of two that match the one that was set first counts.
    pub fn set_path_fault(&self, part: &str, fault: Option<Fault>) {
        self.shared.state().set_call_fault(part, fault, 0, None);
    }

    /// The same for one request only: the first that has this in its method, path and query after `skipped` others.
    pub fn fail_call(&self, part: &str, skipped: u64, fault: Fault) {
        self.shared.state().set_call_fault(part, Some(fault), skipped, Some(1));
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

    /// How many requests have come whose method and path, without the query, contain this.
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

    /// How many requests have not their whole answer yet.
    pub fn in_flight(&self) -> u64 {
        self.shared.state().in_flight
    }

    /// Its time.
    pub fn now(&self) -> Timestamp {
        self.shared.state().now()
    }

    /// Looks at the carrier, or changes it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut C) -> T) -> T {
        look(&mut self.shared.state().carrier)
    }
}

impl<C: Carrier> fmt::Debug for Fake<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(C::NAME).field("address", &self.address).finish_non_exhaustive()
    }
}

impl<C: Carrier> Drop for Fake<C> {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the controls and the connections share.
struct Shared<C> {
    state: Mutex<State<C>>,
    connections: AtomicU64,
    calls: watch::Sender<u64>,
    released: watch::Sender<()>,
}

impl<C: Carrier> Default for Shared<C> {
    fn default() -> Self {
        let (calls, released) = (watch::Sender::default(), watch::Sender::default());
        Self { state: Mutex::default(), connections: AtomicU64::default(), calls, released }
    }
}

impl<C> Shared<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State<C> {
    carrier: C,
    clock: Option<Box<dyn Fn() -> Timestamp + Send>>,
    ahead: SignedDuration,
    next: VecDeque<Fault>,
    call_faults: Vec<CallFault>,
    always: Option<Fault>,
    requests: VecDeque<String>,
    paths: BTreeMap<String, u64>,
    in_flight: u64,
    most_in_flight: u64,
}

struct CallFault {
    part: String,
    fault: Fault,
    skipped: u64,
    times: Option<u64>,
}

impl<C: Carrier> State<C> {
    fn now(&self) -> Timestamp {
        let now = match &self.clock {
            Some(clock) => clock(),
            None => begin(),
        };
        now.saturating_add(self.ahead).unwrap_or(now)
    }

    /// The fault holds after so many requests, and for so many, or for good.
    fn set_call_fault(
        &mut self,
        part: &str,
        fault: Option<Fault>,
        skipped: u64,
        times: Option<u64>,
    ) {
        self.call_faults.retain(|it| it.part != part);
        let part = part.to_owned();
        self.call_faults.extend(fault.map(|fault| CallFault { part, fault, skipped, times }));
    }

    /// Takes a request down, and finds out whether something is to go wrong with it.
    fn begin(&mut self, request: &Request) -> Option<Fault> {
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        *self.paths.entry(format!("{} {}", request.method, request.path())).or_default() += 1;
        self.requests.push_back(request.line());
        if self.requests.len() > REMEMBERED {
            self.requests.pop_front();
        }
        self.next
            .pop_front()
            .or_else(|| self.call_fault(&request.line()))
            .or_else(|| self.always.clone().or_else(|| self.carrier.account_fault(request)))
    }

    fn call_fault(&mut self, line: &str) -> Option<Fault> {
        let matches = |it: &CallFault| line.contains(&it.part);
        let found = self.call_faults.iter_mut().find(|it| matches(it) && it.times != Some(0))?;
        if found.skipped > 0 {
            found.skipped -= 1;
            return None;
        }
        found.times = found.times.map(|times| times - 1);
        Some(found.fault.clone())
    }

    /// The answer, and all that has to happen for it.
    fn answer(&mut self, request: &Request, fault: Option<&Fault>) -> Answer {
        if let Some(answer) = fault.and_then(|fault| fault.answer_instead(&self.carrier)) {
            return answer;
        }
        let now = self.now();
        self.carrier.answer(request, now, fault)
    }
}

/// What every fake's `POST /_control` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFault {
    path: String,
    fault: Option<Fault>,
    times: Option<u64>,
}

impl<C: Carrier> Shared<C> {
    fn control(&self, request: &Request) -> Answer {
        let mut state = self.state();
        match (request.method.as_str(), request.path()) {
            ("GET", "/_control") => Answer::text(200, &control_help::<C>()),
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

impl<C: Carrier> State<C> {
    fn change(&mut self, mut change: Value) -> anyhow::Result<()> {
        if let Some(fault) = change.get_mut("set_fault") {
            let SetFault { path, fault, times } = serde_json::from_value(fault.take())?;
            self.set_call_fault(&path, fault, 0, times);
            return Ok(());
        }
        if let Some(seconds) = change.get("advance").and_then(Value::as_i64) {
            self.ahead = self.ahead.saturating_add(SignedDuration::from_secs(seconds));
            return Ok(());
        }
        self.carrier.change(change)
    }
}

/// What `GET /_control` answers. The names are those of the methods.
fn control_help<C: Carrier>() -> String {
    format!("{CONTROL_HEAD}{}{CONTROL_HELP}", C::CHANGES)
}

const CONTROL_HEAD: &str = "  curl URL/_control            this text
  curl URL/_control/requests   what has been asked so far
  curl URL/_control -d CHANGE  changes one thing, which is one of

";

const CONTROL_HELP: &str = r#"  {"advance": 60}                                                                    its clock, by so many seconds
  {"set_fault":   {"path": "/v1/Trunks", "fault": {"status": 500}, "times": 1}}      without: for good
  {"set_fault":   {"path": "/v1/Trunks"}}                                            none any more

  Faults: {"status": 500}, {"rate_limit": 7}, {"redirect": "http://…"}, "not_json", "sid_mismatch",
  {"error": {"shape": "classic" or "newer" or "problem", "status": 401, "code": 20003}},
  "missing_sid", {"padded_to": 100000}, "huge_body", "endless_body", "slow_head", "slow_body",
  "half_head", "half_body", "close_before_answer", "reset_before_answer", "hang": nothing is done;
  "close_after_effect", "reset_after_effect", "hang_after_effect": it is done, and the answer is lost.
  A fault's path is any part of method, path and query: an account's SID, or "POST /v1/Keys".
"#;

async fn serve<C: Carrier>(listener: TcpListener, shared: Arc<Shared<C>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        // An error in there is a caller who left.
        connections.spawn(converse(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// Reads one request and answers it. The connection closes when the stream is dropped.
async fn converse<C: Carrier>(mut stream: TcpStream, shared: Arc<Shared<C>>) -> io::Result<()> {
    let Some(request) = Request::read(&mut stream).await? else {
        return Ok(());
    };
    if request.path().starts_with("/_control") {
        let answer = shared.control(&request);
        return fault::send(&mut stream, &answer, None, || ()).await;
    }
    let fault = shared.state().begin(&request);
    let in_flight = InFlight(Arc::clone(&shared));
    // Subscribed before the request is counted: a `release` after `called` cannot miss it.
    let mut released = shared.released.subscribe();
    shared.calls.send_modify(|calls| *calls += 1);
    if matches!(fault, Some(Fault::Hold)) {
        released.changed().await.map_err(io::Error::other)?;
    }
    if fault.as_ref().is_some_and(Fault::comes_before_the_effect) {
        return fault::send(&mut stream, &Answer::empty(200), fault, || drop(in_flight)).await;
    }
    let answer = shared.state().answer(&request, fault.as_ref());
    fault::send(&mut stream, &answer, fault, || drop(in_flight)).await
}

/// A request that has come and not yet got its answer.
struct InFlight<C: Carrier>(Arc<Shared<C>>);

impl<C: Carrier> Drop for InFlight<C> {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
    }
}

/// When a fake begins. Its clock stands still until it is moved.
pub(super) fn begin() -> Timestamp {
    Timestamp::constant(1_778_562_711, 635_107_000)
}

/// A value that a carrier makes up, 32 hexadecimal digits: as good as random, and the same in every run.
pub(super) fn made_up(of: &str, number: u64) -> String {
    hex::encode(Md5::digest(format!("{of} {number}")))
}
