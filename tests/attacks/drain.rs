//! SIGTERM in six states: the process ends within ten seconds whatever its clients do, and what it answered is there
//! afterwards. A stock server waits for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use credvault::grpc::proto::{
    CreateCredentialRequest, CreateProviderRequest, Credential, Provider, RotateCredentialRequest,
    TwilioProvider, provider,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::frames::{CHECK, Connection, END_HEADERS, HEADERS, PREFACE, frame, head, stream};
use crate::stock::Stock;
use crate::support::channel;
use crate::support::fakes::twilio::{FakeTwilio, Fault};
use crate::support::process::{Process, credvault};
use crate::target::pass;

const LIMIT: Duration = Duration::from_secs(10);

fn start(dir: &Path, twilio: &str) -> Process {
    let data = dir.join("credvault-data");
    let mut command = credvault(["dev", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(&data).env("CREDVAULT_UPSTREAM_TWILIO_API_URL", twilio);
    Process::start(command, data, dir.join("credvault.log"))
}

/// What was seen of a stop.
struct Stopped {
    status: ExitStatus,
    /// From SIGTERM to the end.
    took: Duration,
    /// From SIGTERM to `NOT_SERVING`.
    told: Duration,
    left_in_log: u64,
}

type Watch = Streaming<HealthCheckResponse>;

async fn watch(process: &Process) -> Watch {
    let mut health = HealthClient::new(channel(process.address));
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    watch
}

async fn stop(mut process: Process, dir: &Path) -> Stopped {
    let mut watch = watch(&process).await;
    let asked = Instant::now();
    process.ask_to_stop();
    let told = watch.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
    let told = asked.elapsed();
    drop(watch);
    let (status, took) =
        spawn_blocking(move || (process.end().unwrap(), asked.elapsed())).await.unwrap();
    let log = dir.join("credvault-data/credvault.db-wal");
    let left_in_log = std::fs::metadata(log).map_or(0, |log| log.len());
    Stopped { status, took, told, left_in_log }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_cases_end_in_time_and_lose_nothing() {
    let (stock, idle, preface, open, watching, carrier, rotating) = tokio::join!(
        of_stock(),
        case("idle connection", async |process, _| {
            TcpStream::connect(process.address).await.unwrap()
        }),
        case("preface alone", async |process, _| {
            let mut stream = TcpStream::connect(process.address).await.unwrap();
            stream.write_all(PREFACE).await.unwrap();
            pass(Duration::from_millis(200)).await;
            stream
        }),
        case("open stream", async |process, _| {
            let mut connection = Connection::begin("127.0.0.1", process.address).await.unwrap();
            let call = frame(HEADERS, END_HEADERS, stream(0), &head(CHECK));
            connection.send(&call).await.unwrap();
            pass(Duration::from_millis(200)).await;
            connection
        }),
        case("Watch", async |process, _| watch(process).await),
        case("slow carrier", async |process, twilio| {
            let mut providers = process.clients().providers;
            let request = hanging_provider();
            let mut calls = JoinSet::new();
            calls.spawn(async move { providers.create_provider(request).await });
            twilio.called(1).await;
            calls
        }),
        rotations(),
    );
    let problems = [stock, idle, preface, open, watching, carrier, rotating];
    let problems = problems.into_iter().flatten().collect::<Vec<_>>();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Brings a vault into a state, stops it, and says what was wrong with that.
async fn case<T>(
    what: &str,
    state: impl AsyncFnOnce(&Process, &FakeTwilio) -> T,
) -> Option<String> {
    let (dir, twilio) = (tempfile::tempdir().unwrap(), FakeTwilio::start().await);
    twilio.add_account(&sid(), &"a".repeat(32));
    twilio.set_fault(Some(Fault::Hang));
    let process = start(dir.path(), &twilio.url());
    create(&process, "honest").await;
    let held = state(&process, &twilio).await;
    let stopped = stop(process, dir.path()).await;
    drop(held);
    problem(what, &stopped)
}

fn problem(what: &str, stopped: &Stopped) -> Option<String> {
    let Stopped { status, took, told, left_in_log } = stopped;
    println!("\nSIGTERM, {what}: NOT_SERVING after {told:?}, {status} after {took:?}");
    let bad =
        !status.success() || *took >= LIMIT || *told >= Duration::from_secs(1) || *left_in_log > 0;
    bad.then(|| {
        format!(
            "{what}: {status} after {took:?}, told after {told:?}, {left_in_log} bytes in the log"
        )
    })
}

fn sid() -> String {
    format!("AC{}", "1".repeat(32))
}

fn hanging_provider() -> CreateProviderRequest {
    let kind = provider::Kind::Twilio(TwilioProvider { account_sid: sid(), ..Default::default() });
    CreateProviderRequest {
        parent: "accounts/dev".to_owned(),
        provider_id: "twilio".to_owned(),
        provider: Some(Provider { kind: Some(kind), ..Default::default() }),
        auth_token: "a".repeat(32),
        ..Default::default()
    }
}

async fn create(process: &Process, username: &str) -> String {
    let credential = Credential {
        username: username.to_owned(),
        realm: "sip.test".to_owned(),
        ..Default::default()
    };
    let request = CreateCredentialRequest {
        parent: "accounts/dev".to_owned(),
        credential: Some(credential),
        ..Default::default()
    };
    process.clients().create(request).await.unwrap().0.name
}

/// Fifty callers rotate at once when the signal comes.
async fn rotations() -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let process = start(dir.path(), "http://127.0.0.1:9");
    let mut callers = JoinSet::new();
    for number in 0..50 {
        let name = create(&process, &format!("line-{number}")).await;
        let clients = process.clients();
        callers.spawn(async move {
            // Ends with the server: far below the bound.
            let mut answered = 1;
            for _ in 0..1_000_000 {
                let request = RotateCredentialRequest { name: name.clone(), ..Default::default() };
                match clients.rotate(request).await {
                    Ok((_, issued)) => answered = issued.version,
                    Err(status) => return (name, answered, status),
                }
            }
            panic!("it was never stopped");
        });
    }
    pass(Duration::from_millis(500)).await;
    let stopped = stop(process, dir.path()).await;
    let answered = callers.join_all().await;

    let process = start(dir.path(), "http://127.0.0.1:9");
    let mut wrong = BTreeMap::new();
    for (name, answered, status) in &answered {
        let stored = process.clients().get(name).await.unwrap().version;
        // For a call that GOAWAY met on its way, tonic's client makes up INTERNAL. Only what it makes up has a source.
        let made_up = std::error::Error::source(status).is_some();
        let gone = made_up || matches!(status.code(), Code::Unavailable | Code::Cancelled);
        if stored != *answered || !gone {
            wrong.insert(name, (*answered, stored, status.code()));
        }
    }
    let rotations = answered.iter().map(|(_, version, _)| version - 1).sum::<i64>();
    println!("\nSIGTERM, fifty rotations at once: {rotations} answered before, all there");
    problem("fifty rotations", &stopped)
        .or_else(|| (rotations < 50).then(|| format!("only {rotations} rotations")))
        .or_else(|| (!wrong.is_empty()).then(|| format!("answered, stored, end: {wrong:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = start(dir.path(), "http://127.0.0.1:9");
    // It would have seven seconds.
    let mut first = watch(&process).await;
    let _second = watch(&process).await;
    process.ask_to_stop();
    assert_eq!(first.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let asked = Instant::now();
    process.ask_to_stop();
    let (status, took) =
        spawn_blocking(move || (process.end().unwrap(), asked.elapsed())).await.unwrap();
    println!("\nSIGTERM again: {status} after {took:?}");
    assert!(status.success() && took < Duration::from_secs(1), "{status} after {took:?}");
}

/// What a stock server does with one idle connection.
async fn of_stock() -> Option<String> {
    let mut stock = Stock::start(None);
    let _idle = TcpStream::connect(stock.address).await.unwrap();
    pass(Duration::from_millis(200)).await;
    let pid = stock.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    pass(Duration::from_secs(12)).await;
    println!("\nSIGTERM, stock server with an idle connection: looked at after 12 s");
    stock.has_ended().then(|| "a stock server ends by itself now".to_owned())
}
