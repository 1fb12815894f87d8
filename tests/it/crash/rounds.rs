//! Rounds of load, kill -9, restart and check: the clients, their journals, and the loop.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use credvault::grpc::proto::{
    CreateCredentialRequest, CreateProviderRequest, Credential, DeleteCredentialRequest, Provider,
    RotateCredentialRequest, TwilioProvider, UpdateCredentialRequest, UpdateTokenRequest, provider,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::oracle::{self, Oracle};
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::process::Process;
use crate::support::random::Rng;
use crate::support::{Clients, channel};

/// Clients that change credentials, and clients that update provider tokens.
const CLIENTS: usize = 8;
const TOKEN_CLIENTS: usize = 2;

/// Credentials that only one client changes, and those that all of them rotate.
const OWN: usize = 3;
const SHARED: usize = 2;

/// Acknowledged changes between a start and the kill: 20 to 200 ms of work.
const ACKS: std::ops::Range<usize> = 10..300;

/// What the rounds showed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rounds: usize,
    pub(crate) acks: usize,
    pub(crate) rotations: usize,
    pub(crate) token_updates: usize,
    pub(crate) in_flight: usize,
    pub(crate) in_flight_done: usize,
    /// From the start of the process to `SERVING`, a round each.
    pub(crate) restarts: Vec<Duration>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, acks, rotations, token_updates, in_flight, in_flight_done, restarts } =
            self;
        let mut restarts = restarts.iter().map(Duration::as_millis).collect::<Vec<_>>();
        restarts.sort_unstable();
        let median = restarts.get(restarts.len() / 2).unwrap_or(&0);
        let longest = restarts.last().unwrap_or(&0);
        write!(
            f,
            "{rounds} rounds, {acks} acknowledged changes ({rotations} rotations, {token_updates} \
             token updates), {in_flight} in flight at a kill ({in_flight_done} of them done), \
             restart to SERVING: median {median} ms, longest {longest} ms"
        )
    }
}

/// A change that is asked for.
#[derive(Clone)]
pub(crate) enum Ask {
    Create(CreateCredentialRequest),
    Rotate(RotateCredentialRequest),
    Update(UpdateCredentialRequest),
    Delete(DeleteCredentialRequest),
    CreateProvider(CreateProviderRequest),
    UpdateToken(UpdateTokenRequest),
}

impl Ask {
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Create(_) => "CreateCredential",
            Self::Rotate(_) => "RotateCredential",
            Self::Update(_) => "UpdateCredential",
            Self::Delete(_) => "DeleteCredential",
            Self::CreateProvider(_) => "CreateProvider",
            Self::UpdateToken(_) => "UpdateToken",
        }
    }

    /// Sends it.
    pub(crate) async fn send(&self, clients: &mut Clients) -> Result<Answer, Status> {
        let version = |credential: Option<Credential>| credential.map_or(0, |it| it.version);
        let token_version = |provider: Option<Provider>| provider.map_or(0, |it| it.token_version);
        let mut answer = Answer::default();
        match self.clone() {
            Self::Create(request) => {
                let response = clients.credentials.create_credential(request).await?.into_inner();
                answer.issued = response.issued.map(|issued| issued.password);
                answer.version = version(response.credential);
            }
            Self::Rotate(request) => {
                let response = clients.credentials.rotate_credential(request).await?.into_inner();
                answer.issued = response.issued.map(|issued| issued.password);
                answer.version = version(response.credential);
            }
            Self::Update(request) => {
                let response = clients.credentials.update_credential(request).await?.into_inner();
                answer.version = version(response.credential);
            }
            Self::Delete(request) => {
                clients.credentials.delete_credential(request).await?;
            }
            Self::CreateProvider(request) => {
                let response = clients.providers.create_provider(request).await?.into_inner();
                answer.version = token_version(response.provider);
            }
            Self::UpdateToken(request) => {
                let response = clients.providers.update_token(request).await?.into_inner();
                answer.version = token_version(response.provider);
            }
        }
        Ok(answer)
    }
}

/// What an acknowledgement said. The version is 0 when nothing is left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) version: i64,
    pub(crate) issued: Option<String>,
}

/// A line of a journal.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) client: usize,
    /// Unique: it stands in the audit entry.
    pub(super) reason: String,
    /// Full name of the credential or provider.
    pub(super) resource: String,
    pub(super) ask: Ask,
    /// None: it was in flight when the server was killed.
    pub(super) answer: Option<Answer>,
}

/// Counts acknowledgements, says when there are enough, and knows whether the server was killed.
#[derive(Default)]
struct Gauge {
    acks: AtomicU64,
    enough: u64,
    reached: Notify,
    killed: AtomicBool,
}

impl Gauge {
    fn acknowledge(&self) {
        if self.acks.fetch_add(1, Ordering::SeqCst) + 1 == self.enough {
            self.reached.notify_one();
        }
    }
}

fn credential(id: &str) -> String {
    format!("accounts/dev/credentials/{id}")
}

fn own(client: usize, slot: usize) -> String {
    credential(&format!("own-{client}-{slot}"))
}

fn shared(slot: usize) -> String {
    credential(&format!("shared-{slot}"))
}

fn provider(client: usize) -> String {
    format!("accounts/dev/providers/carrier-{client}")
}

pub(super) fn sid(name: &str) -> String {
    let number: usize = name.rsplit('-').next().unwrap().parse().unwrap();
    format!("AC{number:032x}")
}

pub(super) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap()
}

/// One client: what it may change, and its journal of this round.
struct Client {
    number: usize,
    round: usize,
    rng: Rng,
    /// Its own credentials that exist now.
    present: BTreeSet<String>,
    journal: Vec<Change>,
    /// Refusals that nothing explains.
    refused: Vec<String>,
    twilio: Arc<FakeTwilio>,
}

/// What the clients of a round come back with.
#[derive(Default)]
struct Journals {
    changes: Vec<Change>,
    refused: Vec<String>,
}

impl Client {
    fn change(&mut self, resource: String, ask: impl FnOnce(String, String) -> Ask) -> Change {
        let reason = format!("client {} round {} #{}", self.number, self.round, self.journal.len());
        let ask = ask(self.rng.uuid4(), reason.clone());
        Change { client: self.number, reason, resource, ask, answer: None }
    }

    fn create(&mut self, name: String) -> Change {
        let password = (self.rng.below(2) == 0).then(|| self.rng.password(20));
        self.change(name.clone(), |request_id, reason| {
            Ask::Create(CreateCredentialRequest {
                parent: "accounts/dev".to_owned(),
                credential_id: id(&name).to_owned(),
                credential: Some(Credential {
                    username: id(&name).to_owned(),
                    realm: oracle::REALM.to_owned(),
                    description: Some(reason.clone()),
                    ..Credential::default()
                }),
                password,
                request_id,
                reason,
                ..CreateCredentialRequest::default()
            })
        })
    }

    fn rotate(&mut self, name: String) -> Change {
        self.change(name.clone(), |request_id, reason| {
            Ask::Rotate(RotateCredentialRequest {
                name,
                request_id,
                reason,
                ..RotateCredentialRequest::default()
            })
        })
    }

    /// A description that nothing else has, and at times a password.
    fn update(&mut self, name: String) -> Change {
        let password = (self.rng.below(2) == 0).then(|| self.rng.password(20));
        self.change(name.clone(), |request_id, reason| {
            let description = Some(reason.clone());
            Ask::Update(UpdateCredentialRequest {
                credential: Some(Credential { name, description, ..Credential::default() }),
                password,
                request_id,
                reason,
                ..UpdateCredentialRequest::default()
            })
        })
    }

    fn delete(&mut self, name: String) -> Change {
        self.change(name.clone(), |request_id, reason| {
            Ask::Delete(DeleteCredentialRequest {
                name,
                request_id,
                reason,
                ..DeleteCredentialRequest::default()
            })
        })
    }

    fn create_provider(&mut self, name: String) -> Change {
        let auth_token = self.rng.hex(32);
        self.twilio.add_account(&sid(&name), &auth_token);
        self.change(name.clone(), |request_id, reason| {
            let account_sid = sid(&name);
            let kind =
                Some(provider::Kind::Twilio(TwilioProvider { account_sid, ..Default::default() }));
            Ask::CreateProvider(CreateProviderRequest {
                parent: "accounts/dev".to_owned(),
                provider_id: id(&name).to_owned(),
                provider: Some(Provider { kind, ..Provider::default() }),
                auth_token,
                request_id,
                reason,
                ..CreateProviderRequest::default()
            })
        })
    }

    fn update_token(&mut self, name: String) -> Change {
        let auth_token = self.rng.hex(32);
        self.twilio.add_token(&sid(&name), &auth_token);
        self.change(name.clone(), |request_id, reason| {
            Ask::UpdateToken(UpdateTokenRequest {
                name,
                auth_token,
                request_id,
                reason,
                ..UpdateTokenRequest::default()
            })
        })
    }

    fn choose(&mut self) -> Change {
        if self.number >= CLIENTS {
            return self.update_token(provider(self.number));
        }
        let what = self.rng.below(100);
        if what < 20 {
            let name = shared(self.rng.below(SHARED));
            return if what < 14 { self.rotate(name) } else { self.update(name) };
        }
        let name = own(self.number, self.rng.below(OWN));
        if !self.present.contains(&name) {
            return self.create(name);
        }
        match what {
            20..60 => self.rotate(name),
            60..90 => self.update(name),
            _ => self.delete(name),
        }
    }

    /// Changes things until the server is gone.
    async fn run(mut self, mut clients: Clients, gauge: Arc<Gauge>) -> Result<Self, String> {
        for _ in 0..100_000 {
            let change = self.choose();
            let (ask, name) = (change.ask.clone(), change.resource.clone());
            self.journal.push(change);
            match ask.send(&mut clients).await {
                Ok(answer) => {
                    if matches!(ask, Ask::Delete(_)) {
                        self.present.remove(&name);
                    } else {
                        self.present.insert(name);
                    }
                    self.journal.last_mut().unwrap().answer = Some(answer);
                    gauge.acknowledge();
                }
                Err(status) => match reason_of(&status).as_str() {
                    "" if gauge.killed.load(Ordering::SeqCst) => return Ok(self),
                    "" => return Err(format!("{} of {name} failed: {status}", ask.method())),
                    // Refused, so nothing of it may have happened: not in the journal.
                    reason => {
                        self.journal.pop();
                        if reason != "VERSION_CONFLICT" {
                            self.refused.push(format!("{} of {name}: {status}", ask.method()));
                        }
                    }
                },
            }
        }
        Err("a client ran for ever".to_owned())
    }
}

pub(crate) fn reason_of(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Runs `n` rounds of load, kill, restart and check, in a process with `environment`.
pub(crate) async fn rounds(
    n: usize,
    seed: u64,
    environment: &[(&str, &str)],
) -> Result<Report, String> {
    println!("seed {seed:#x}");
    let dir = tempfile::tempdir().unwrap();
    let twilio = Arc::new(FakeTwilio::start().await);
    let url = twilio.url();
    let environment = [environment, &[("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url)]].concat();
    let mut rng = Rng::new(seed);
    let mut report = Report::default();
    let mut oracle = Oracle::default();

    set_up(dir.path(), &mut oracle, &twilio, Rng::new(rng.draw())).await?;
    let mut process = Process::dev(dir.path(), &environment);
    for round in 1..=n {
        let Journals { mut changes, refused } =
            load_and_kill(&mut process, &oracle, &twilio, round, &mut rng).await?;
        let acknowledged = |counts: fn(&Ask) -> bool| {
            let counted = |it: &&Change| it.answer.is_some() && counts(&it.ask);
            changes.iter().filter(counted).count()
        };
        report.rounds += 1;
        report.acks += acknowledged(|_| true);
        report.rotations += acknowledged(|ask| matches!(ask, Ask::Rotate(_)));
        report.token_updates += acknowledged(|ask| matches!(ask, Ask::UpdateToken(_)));

        let started = Instant::now();
        process = Process::dev(dir.path(), &environment);
        let serving = HealthClient::new(process.channel.clone())
            .check(HealthCheckRequest::default())
            .await
            .is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving);
        report.restarts.push(started.elapsed());
        let mut clients = process.clients();
        let check = async {
            if !serving {
                return Err("ready, and not SERVING".to_owned());
            }
            oracle.replay(&mut clients, &changes).await?;
            // What was in flight is asked once more, under its request id.
            changes.retain(|change| change.answer.is_none());
            let again = oracle.ask_again(&mut clients, &changes).await?;
            report.in_flight += changes.len();
            report.in_flight_done += changes.len() - again.len();
            oracle.replay(&mut clients, &again).await?;
            oracle.check_changed(&mut clients, &twilio).await?;
            if refused.is_empty() { Ok(()) } else { Err(format!("refused: {refused:?}")) }
        };
        check.await.map_err(|problem| format!("round {round}: {problem}; until then {report}"))?;
    }
    oracle.check_everything(&mut process.clients(), &twilio).await?;
    Ok(report)
}

/// Makes the shared credentials and the providers, in a process that ends well.
async fn set_up(
    dir: &Path,
    oracle: &mut Oracle,
    twilio: &Arc<FakeTwilio>,
    rng: Rng,
) -> Result<(), String> {
    let url = twilio.url();
    let process = Process::dev(dir, &[("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url)]);
    let mut setter = client(CLIENTS + TOKEN_CLIENTS, 0, rng, BTreeSet::new(), twilio);
    for number in 0..SHARED + TOKEN_CLIENTS {
        let mut change = match number.checked_sub(SHARED) {
            None => setter.create(shared(number)),
            Some(carrier) => setter.create_provider(provider(CLIENTS + carrier)),
        };
        let answer = change.ask.send(&mut process.clients()).await;
        change.answer = Some(answer.map_err(|status| format!("set up: {status}"))?);
        setter.journal.push(change);
    }
    oracle.replay(&mut process.clients(), &setter.journal).await?;
    if process.terminate().success() { Ok(()) } else { Err("set up: a bad end".to_owned()) }
}

fn client(
    number: usize,
    round: usize,
    rng: Rng,
    present: BTreeSet<String>,
    twilio: &Arc<FakeTwilio>,
) -> Client {
    Client {
        number,
        round,
        rng,
        present,
        journal: Vec::new(),
        refused: Vec::new(),
        twilio: Arc::clone(twilio),
    }
}

/// Loads the server with all clients and kills it in the middle. Returns what they did and asked.
async fn load_and_kill(
    process: &mut Process,
    oracle: &Oracle,
    twilio: &Arc<FakeTwilio>,
    round: usize,
    rng: &mut Rng,
) -> Result<Journals, String> {
    let enough = u64::try_from(ACKS.start + rng.below(ACKS.len())).unwrap();
    let gauge = Arc::new(Gauge { enough, ..Gauge::default() });
    let token = process.token();
    let mut tasks = JoinSet::new();
    for number in 0..CLIENTS + TOKEN_CLIENTS {
        let present = (0..OWN).map(|slot| own(number, slot)).filter(|it| oracle.has(it)).collect();
        let client = client(number, round, Rng::new(rng.draw()), present, twilio);
        let clients = Clients::new(&channel(process.address), &token);
        tasks.spawn(client.run(clients, Arc::clone(&gauge)));
    }
    tokio::select! {
        () = gauge.reached.notified() => {}
        Some(early) = tasks.join_next() => {
            return Err(format!("round {round}: {}", early.unwrap().err().unwrap_or_default()));
        }
    }
    // Not always between two answers.
    for _ in 0..rng.below(200) {
        tokio::task::yield_now().await;
    }
    gauge.killed.store(true, Ordering::SeqCst);
    process.kill();
    let mut journals = Journals::default();
    for client in tasks.join_all().await {
        let client = client.map_err(|problem| format!("round {round}: {problem}"))?;
        journals.changes.extend(client.journal);
        journals.refused.extend(client.refused);
    }
    Ok(journals)
}
