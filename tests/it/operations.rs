//! The operations listener: health, readiness and metrics, through real sockets.

mod exposition;
pub(crate) mod http;
mod measured;
mod uses;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use credvault::config::{ServeOptions, StoreOptions};
use credvault::server::Operations;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::providers::create_provider;
use crate::support::fakes::twilio::{FakeTwilio, Fault};
use crate::support::process::{Process, credvault};
use crate::support::raw::{Raw, declared, framed};
use crate::support::{TestVault, channel};
use http::{ask, get, metrics, send};

/// Has a listener for operations at any port.
pub(crate) const LISTENS: (&str, &str) = ("CREDVAULT_OPS_LISTEN", "127.0.0.1:0");

/// A vault in this process with a listener for operations.
async fn vault() -> (TestVault, SocketAddr) {
    let listens = |options: &mut ServeOptions| options.ops_listen = Some("127.0.0.1:0".to_owned());
    let vault = TestVault::start_with(|options, _| listens(options)).await;
    let operations = vault.operations.unwrap();
    // It is served by a task of its own, which another core may only be about to begin.
    let ready = async { while get(operations, "/readyz").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), ready).await.unwrap();
    (vault, operations)
}

#[tokio::test]
async fn each_endpoint_answers_and_nothing_else_is_there() {
    let (vault, operations) = vault().await;
    for (path, body) in [("/livez", "ok\n"), ("/readyz", "ok\n"), ("/readyz?verbose", "ok\n")] {
        let reply = get(operations, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, body), "{path}");
        assert!(reply.head.contains("content-type: text/plain; charset=utf-8"), "{}", reply.head);
        assert!(reply.head.contains("cache-control: no-store"), "{}", reply.head);
    }
    let reply = get(operations, "/metrics").await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        reply.head
    );
    let reply = ask(operations, "HEAD", "/metrics").await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));

    for path in [
        "/",
        "/metrics/",
        "//metrics",
        "/healthz",
        "/debug/pprof",
        "/%6detrics",
        "/livez/../metrics",
    ] {
        let reply = get(operations, path).await;
        let text = "not found: there are /livez, /readyz, /metrics and gRPC health\n";
        assert_eq!((reply.status, reply.body.as_str()), (404, text), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        for (path, status) in
            [("/livez", 405), ("/readyz", 405), ("/metrics", 405), ("/secrets", 404)]
        {
            assert_eq!(
                ask(operations, method, path).await.unwrap().status,
                status,
                "{method} {path}"
            );
        }
    }
    // And what is on the other port is not on this one, nor the other way round.
    let raw = Raw::connect(operations, &vault.token("acme", &[]).await).await;
    let call = raw.call("/credvault.v1.CredentialService/GetCredential", framed(b"")).await;
    assert_eq!(call.http, 404, "{call:?}");
    assert!(send(vault.address, "GET /metrics HTTP/1.1\r\nhost: vault\r\n\r\n").await.is_none());
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let (_vault, operations) = vault().await;
    let stream = TcpStream::connect(operations).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404)] {
        let request = ::http::Request::get(format!("http://vault{path}")).body(()).unwrap();
        let mut send = send.clone().ready().await.unwrap();
        let answer = send.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    connection.abort();
}

#[tokio::test]
async fn grpc_health_is_answered_without_a_token() {
    let (vault, operations) = vault().await;
    let mut health = HealthClient::new(channel(operations));
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "credvault.v1.CredentialService", "credvault.v1.UseService"] {
        let answer = health.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(health.check(ask("nothing")).await.unwrap_err().code(), Code::NotFound);
    let raw = Raw::connect(operations, "").await;
    for body in [framed(b"\xff\xff"), declared(1, 0, b""), declared(0, 1 << 30, b"")] {
        let answer = raw.call("/grpc.health.v1.Health/Check", body).await;
        assert!(
            matches!(answer.code, Code::InvalidArgument | Code::ResourceExhausted),
            "{answer:?}"
        );
    }
    drop(raw);
    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopped = tokio::spawn(vault.stop());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // An open watch holds nothing up.
    tokio::time::timeout(Duration::from_secs(5), stopped).await.expect("within 5 s").unwrap();
    assert!(TcpStream::connect(operations).await.is_err(), "and it stopped with the vault");
}

#[tokio::test]
async fn it_is_there_before_the_vault_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let options = ServeOptions {
        store: StoreOptions { data_dir: Some(dir.path().to_owned()), ..StoreOptions::default() },
        ops_listen: Some("127.0.0.1:0".to_owned()),
        ..ServeOptions::default()
    };
    let starting = Operations::start(&options.resolve().unwrap(), false).await.unwrap();
    let operations = starting.address().unwrap();
    assert_eq!(get(operations, "/livez").await.status, 200);
    let ready = get(operations, "/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "starting: the vault is not open yet\n"));
    let mut health = HealthClient::new(channel(operations));
    for service in ["", "credvault.v1.CredentialService"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(asked).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{service}");
    }
    metrics(operations).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_that_it_stops_at_once_and_goes_on_until_the_end() {
    let twilio = FakeTwilio::start().await;
    let sid = crate::providers::SID;
    twilio.add_account(sid, crate::providers::TOKEN);
    twilio.set_fault(Some(Fault::Hold));
    let dir = tempfile::tempdir().unwrap();
    let url = twilio.url();
    let mut dev = Process::dev(dir.path(), &[LISTENS, ("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url)]);
    let operations = dev.operations();
    until_ready(operations).await;
    let mut request = create_provider("twilio");
    "accounts/dev".clone_into(&mut request.parent);
    let mut providers = dev.clients().providers;
    let call = tokio::spawn(async move { providers.create_provider(request).await });
    twilio.called(1).await;

    let asked = Instant::now();
    dev.ask_to_stop();
    let mut ready = get(operations, "/readyz").await;
    while ready.status == 200 && asked.elapsed() < Duration::from_secs(5) {
        ready = get(operations, "/readyz").await;
    }
    let said = (ready.status, ready.body.as_str());
    assert_eq!(said, (503, "stopping: the vault finishes the calls in progress\n"));
    // A call holds the end up, and meanwhile it can be watched.
    assert!(!call.is_finished());
    assert_eq!(get(operations, "/livez").await.status, 200);
    let running = metrics(operations).await;
    let create = [("grpc_method", "CreateProvider")];
    assert_eq!(whole(running.value("grpc_server_started_total", &create)), 1);
    assert_eq!(whole(running.value("grpc_server_handled_total", &create)), 0);
    twilio.release();
    call.await.unwrap().unwrap();
    let ended = tokio::task::spawn_blocking(move || dev.end().unwrap()).await.unwrap();
    assert!(ended.success());
    assert!(TcpStream::connect(operations).await.is_err());
}

/// `dev` says what to type a moment before it takes calls.
pub(crate) async fn until_ready(operations: SocketAddr) {
    let began = Instant::now();
    while get(operations, "/readyz").await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(10), "not ready within 10 s");
    }
}

/// A count. `/metrics` writes all numbers as floats.
#[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "it is a count")]
#[track_caller]
pub(crate) fn whole(value: f64) -> i64 {
    assert!(value.fract().abs() < f64::EPSILON, "{value} is not a count");
    value as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_slow_clients_are_cut_and_take_no_place_from_others() {
    let (_vault, operations) = vault().await;
    until_ready(operations).await;
    // All 16 places of an address, by clients that say nothing or not enough.
    let mut slow = Vec::new();
    for said in [
        "",
        "GET /livez HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
        "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n",
    ]
    .repeat(4)
    {
        let mut stream = TcpStream::connect(operations).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    // The 17th is closed at once.
    let mut late = TcpStream::connect(operations).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(2), late.read(&mut [0; 1])).await;
    assert!(matches!(closed.expect("at once"), Ok(0) | Err(_)));
    // Another address has places of its own.
    let other = TcpSocket::new_v4().unwrap();
    other.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let mut other = other.connect(operations).await.unwrap();
    other.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // And nobody keeps a place for long.
    for mut stream in slow {
        let mut said = Vec::new();
        let end =
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut said)).await;
        end.expect("cut within 10 s").ok();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(get(operations, "/readyz").await.status, 200);
}

#[tokio::test]
async fn two_vaults_of_dev_do_not_stop_each_other() {
    let start = |dir: &tempfile::TempDir| {
        let data = dir.path().join("data");
        let mut command = credvault(["dev", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(&data).env_remove("CREDVAULT_OPS_LISTEN");
        Process::start(command, data, dir.path().join("log"))
    };
    let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (start(&dirs.0), start(&dirs.1));
    assert_ne!(one.operations(), two.operations());
    for dev in [one, two] {
        until_ready(dev.operations()).await;
        let says = format!("metrics  http://{}/metrics", dev.operations());
        let output = std::sync::Arc::clone(&dev.output);
        assert!(dev.terminate().success());
        assert!(output.lock().unwrap().contains(&says), "it says where: {says}");
    }
}

#[tokio::test]
async fn every_metric_is_in_the_manual_and_nothing_else() {
    let (_vault, operations) = vault().await;
    let manual = include_str!("../../docs/operations.md");
    let (_, watching) = manual.split_once("## Watching it").unwrap();
    let (watching, _) = watching.split_once("\n## ").unwrap();
    let rows = watching.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split(['`', '{']).next());
    let written: BTreeSet<_> = names.filter(|name| !name.starts_with("GET ")).collect();
    let metrics = metrics(operations).await;
    let told: BTreeSet<_> = metrics.0.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(written, told);
}
