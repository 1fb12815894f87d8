//! SIGTERM: the process ends within 10 seconds whatever its clients do, and loses nothing that it
//! acknowledged.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use credvault::grpc::proto::{
    CreateProviderRequest, GetCredentialRequest, Provider, RotateCredentialRequest, TwilioProvider,
    WatchCredentialsRequest, provider,
};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::credentials::create;
use crate::support::fakes::twilio::{FakeTwilio, Fault};
use crate::support::outcome;
use crate::support::process::Process;
use crate::support::raw::{Raw, framed};

const LIMIT: Duration = Duration::from_secs(10);

/// A vault of its own, in a folder of its own.
fn dev(environment: &[(&str, &str)]) -> (tempfile::TempDir, Process) {
    let dir = tempfile::tempdir().unwrap();
    let dev = Process::dev(dir.path(), environment);
    (dir, dev)
}

/// SIGTERM now; how it ended and how long that took, later.
fn stop(mut dev: Process) -> JoinHandle<(ExitStatus, Duration)> {
    let asked = Instant::now();
    dev.ask_to_stop();
    spawn_blocking(move || (dev.end().unwrap(), asked.elapsed()))
}

/// Asserts that it ended well, in time, and with everything in the main file.
async fn ended_well(case: &str, dir: &Path, stopped: JoinHandle<(ExitStatus, Duration)>) {
    let (status, took) = stopped.await.unwrap();
    assert!(status.success(), "{case}: {status}");
    assert!(took < LIMIT, "{case}: {took:?}");
    let log = dir.join("credvault-data/credvault.db-wal");
    let left = fs::metadata(log).map_or(0, |log| log.len());
    assert_eq!(left, 0, "{case}: bytes left in the log");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame (RFC 9113 section 6.5).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_can_hold_it_up() {
    // All at once: each may take most of its 10 seconds.
    let mut stopped = Vec::new();

    let (dir, idle) = dev(&[]);
    let nobody = stop(idle);
    stopped.push(("no client", dir, nobody, None));

    for (case, greeting) in [
        ("an idle connection", &b""[..]),
        ("half a preface", PREFACE.split_at(10).0),
        ("the preface alone", PREFACE),
        ("preface and settings", &[PREFACE, SETTINGS].concat()),
        ("half a frame", &[PREFACE, SETTINGS, &[0, 0, 50, 1]].concat()),
    ] {
        let (dir, dev) = dev(&[]);
        create_some(&dev).await;
        let mut stream = TcpStream::connect(dev.address).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        if greeting.len() >= PREFACE.len() {
            // The server's first frame: it has taken the connection.
            stream.read_exact(&mut [0; 9]).await.unwrap();
        }
        stopped.push((case, dir, stop(dev), Some(stream)));
    }
    for (case, dir, stopped, _stream) in stopped {
        ended_well(case, dir.path(), stopped).await;
    }
}

/// Something for the log to hold.
async fn create_some(dev: &Process) {
    for n in 0..5 {
        let mut request = create(&format!("user-{n}"));
        "accounts/dev".clone_into(&mut request.parent);
        dev.clients().credentials.create_credential(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_watch_does_not_hold_it_up() {
    let (dir, dev) = dev(&[]);
    create_some(&dev).await;
    let mut health = HealthClient::new(dev.channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let stopped = stop(dev);
    ended_well("an open watch", dir.path(), stopped).await;
    // Held open until here.
    assert!(watch.message().await.is_ok_and(|last| last.is_some()), "NOT_SERVING came first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_credentials_ends_at_once_and_one_that_is_not_read_in_time() {
    let (dir, dev) = dev(&[]);
    create_some(&dev).await;
    let watch = async || {
        let request =
            WatchCredentialsRequest { parent: "accounts/dev".to_owned(), ..Default::default() };
        dev.clients().credentials.watch_credentials(request).await.unwrap().into_inner()
    };
    // The window of one is for one byte.
    let slow = Raw::connect_slow(dev.address, &dev.token()).await;
    let path = "/credvault.v1.CredentialService/WatchCredentials";
    let (answer, mut body) = slow.start(slow.head(path)).await;
    let request =
        WatchCredentialsRequest { parent: "accounts/dev".to_owned(), ..Default::default() };
    body.send_data(framed(&request.encode_to_vec()).into(), true).unwrap();
    let unread = answer.await.unwrap();

    let mut watch = watch().await;
    for _ in 0..6 {
        watch.message().await.unwrap().unwrap();
    }
    let stopped = stop(dev);
    let ended = watch.message().await;
    assert_eq!(outcome(&ended), "Unavailable STOPPING retry 1s");
    ended_well("watches", dir.path(), stopped).await;
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_progress_is_finished_and_new_connections_are_not_taken() {
    let twilio = FakeTwilio::start().await;
    let sid = format!("AC{}", "1".repeat(32));
    twilio.add_account(&sid, &"a".repeat(32));
    twilio.set_fault(Some(Fault::Hold));
    let (dir, dev) = dev(&[("CREDVAULT_UPSTREAM_TWILIO_API_URL", &twilio.url())]);
    let mut providers = dev.clients().providers;
    let request = CreateProviderRequest {
        parent: "accounts/dev".to_owned(),
        provider_id: "twilio".to_owned(),
        provider: Some(Provider {
            kind: Some(provider::Kind::Twilio(TwilioProvider {
                account_sid: sid,
                ..Default::default()
            })),
            ..Provider::default()
        }),
        auth_token: "a".repeat(32),
        ..CreateProviderRequest::default()
    };
    let call = tokio::spawn(async move { providers.create_provider(request).await });
    twilio.called(1).await;

    let mut health = HealthClient::new(dev.channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let address = dev.address;
    let stopped = stop(dev);
    watch.message().await.unwrap().unwrap(); // NOT_SERVING: the stop has begun
    drop((watch, health));
    for _ in 0..1000 {
        // Refused once the listener is closed, which follows at once.
        if TcpStream::connect(address).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(TcpStream::connect(address).await.is_err(), "still taking connections");
    twilio.release();
    call.await.unwrap().expect("the call that was in progress");
    ended_well("a call at the carrier", dir.path(), stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_in_flight_are_finished_or_not_begun() {
    let (dir, dev) = dev(&[]);
    let mut clients = dev.clients();
    let mut names = Vec::new();
    for n in 0..8 {
        let mut request = create(&format!("user-{n}"));
        "accounts/dev".clone_into(&mut request.parent);
        let created = clients.credentials.create_credential(request).await.unwrap();
        names.push(created.into_inner().credential.unwrap().name);
    }
    let mut rotations = JoinSet::new();
    for name in names.clone() {
        let mut clients = dev.clients();
        rotations.spawn(async move {
            // Ends when the server does: far below the bound.
            let mut acknowledged = 1;
            for _ in 0..1_000_000 {
                let request = RotateCredentialRequest { name: name.clone(), ..Default::default() };
                match clients.credentials.rotate_credential(request).await {
                    Ok(rotated) => acknowledged = rotated.into_inner().issued.unwrap().version,
                    Err(status) => return (name, acknowledged, status),
                }
            }
            panic!("it was never stopped");
        });
    }
    // Some of each are through.
    let watched = GetCredentialRequest { name: names[0].clone() };
    for _ in 0..100_000 {
        let read = clients.credentials.get_credential(watched.clone()).await.unwrap();
        if read.into_inner().credential.unwrap().version > 20 {
            break;
        }
    }
    ended_well("rotations", dir.path(), stop(dev)).await;

    let again = Process::dev(dir.path(), &[]);
    let mut clients = again.clients();
    for (name, acknowledged, status) in rotations.join_all().await {
        // CANCELLED is what tonic's client says when the connection closed before it had sent
        // anything; and INTERNAL, when the server's good-bye met the call on its way.
        let met = format!("{status:?}").contains("GoAway(b\"\", NO_ERROR, Remote)");
        let gone = met || matches!(status.code(), Code::Unavailable | Code::Cancelled);
        assert!(gone, "{status:?}");
        let request = GetCredentialRequest { name };
        let read = clients.credentials.get_credential(request).await.unwrap().into_inner();
        let stored = read.credential.unwrap().version;
        assert_eq!(stored, acknowledged, "what was begun was finished, and its answer arrived");
    }
}
