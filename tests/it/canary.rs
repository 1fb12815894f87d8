//! Secrets stay inside: a workload full of them, and a scan of everything that the process wrote.
//!
//! A generated password is found exactly once in all that a server sent, in the answer that issues
//! it. No other secret is found anywhere: not in an answer, not in the log at TRACE, not in the
//! files.

mod scan;
mod workload;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::operations;
use crate::support::fakes::telepath::FakeTelepath;
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::fakes::vobiz::FakeVobiz;
use crate::support::process::Process;
use scan::{Encoding, Hit, Scanner};
use workload::Workload;

/// What was looked for, and in how much.
#[derive(Debug)]
struct Report {
    secrets: usize,
    issued: usize,
    calls: usize,
    places: usize,
    bytes: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secrets, issued, calls, places, bytes } = self;
        write!(
            f,
            "{issued} issued passwords seen once each, {secrets} other secrets never, after \
             {calls} calls, in {places} places of {bytes} bytes"
        )
    }
}

/// A proxy before the server, which keeps all that the server sends.
struct Tap {
    address: SocketAddr,
    /// By connection.
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server, Arc::clone(&kept)));
            }
        });
        Self { address, sent }
    }
}

async fn relay(client: TcpStream, server: SocketAddr, sent: Arc<Mutex<Vec<Vec<u8>>>>) {
    let server = TcpStream::connect(server).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let connection = {
        let mut sent = sent.lock().unwrap();
        sent.push(Vec::new());
        sent.len() - 1
    };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
        sent.lock().unwrap()[connection].extend_from_slice(&buffer[..length]);
        if to_client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// The places to look at, by name.
type Places = Vec<(String, Vec<u8>)>;

/// Every file in the data folder but those two that are there to hold a secret.
fn files(data_dir: &Path, when: &str) -> Places {
    let entries = std::fs::read_dir(data_dir).unwrap().map(|entry| entry.unwrap().path());
    let scanned = entries.filter(|path| !path.ends_with("dev.key") && !path.ends_with("dev.token"));
    let place = |path: &Path| format!("{} {when}", path.file_name().unwrap().display());
    scanned.map(|path| (place(&path), std::fs::read(&path).unwrap())).collect()
}

/// Runs the workload against a process with `environment`, and scans what it left.
async fn leaks(environment: &[(&str, &str)]) -> Result<Report, String> {
    let dir = tempfile::tempdir().unwrap();
    let twilio = Arc::new(FakeTwilio::start().await);
    let url = twilio.url();
    let hosts =
        ["API", "TRUNKING"].map(|product| format!("CREDVAULT_UPSTREAM_TWILIO_{product}_URL"));
    let hosts = hosts.each_ref().map(|name| (name.as_str(), url.as_str()));
    let others = Arc::new((FakeVobiz::start().await, FakeTelepath::start().await));
    let (vobiz_url, telepath_url) = (others.0.url(), others.1.url());
    let other_hosts = [
        ("CREDVAULT_UPSTREAM_VOBIZ_API_URL", vobiz_url.as_str()),
        ("CREDVAULT_UPSTREAM_TELEPATH_API_URL", telepath_url.as_str()),
    ];
    let environment = [environment, &hosts, &other_hosts, &[operations::LISTENS]].concat();
    let process = Process::dev(dir.path(), &environment);
    let tap = Tap::before(process.address).await;
    let mut workload = Workload::new(tap.address, &process, twilio, others);
    workload.run().await?;

    let mut places = files(&process.data_dir, "while it runs");
    let metrics = operations::http::get(process.operations(), "/metrics").await.body;
    places.push(("/metrics".to_owned(), metrics.into_bytes()));
    for file in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{file}", process.id());
        places.extend(std::fs::read(&path).map(|bytes| (path, bytes)));
    }
    let (data_dir, log, output) =
        (process.data_dir.clone(), process.log.clone(), Arc::clone(&process.output));
    if !process.terminate().success() {
        return Err("the process did not end well".to_owned());
    }
    places.extend(files(&data_dir, "after the stop"));
    let log = std::fs::read(log).unwrap();
    let lines = String::from_utf8_lossy(&log).lines().filter(|it| it.contains("DEBUG")).count();
    if lines < workload.calls {
        return Err(format!("the log is silent: {lines} lines for {} calls", workload.calls));
    }
    places.push(("the log".to_owned(), log));
    places.push(("standard output".to_owned(), output.lock().unwrap().clone().into_bytes()));
    places.append(&mut workload.decoded);
    let sent = tap.sent.lock().unwrap().concat();
    judge(&workload, &places, &sent)
}

/// Holds the places, and what was sent, against the secrets of the workload.
fn judge(workload: &Workload, places: &Places, sent: &[u8]) -> Result<Report, String> {
    let mut scanner = Scanner::default();
    for (what, secret) in workload.issued.iter().chain(&workload.secrets) {
        scanner.add(what, secret);
    }
    let mut hits: Vec<Hit> =
        places.iter().flat_map(|(place, bytes)| scanner.scan(place, bytes)).collect();
    let on_the_wire = scanner.scan("what the server sent", sent);
    for (what, _) in &workload.issued {
        let seen = |hit: &&Hit| hit.what == *what && hit.encoding == Encoding::Raw;
        let seen = on_the_wire.iter().filter(seen).count();
        if seen != 1 {
            return Err(format!("{what} was sent {seen} times"));
        }
    }
    let issued = |hit: &Hit| {
        hit.encoding == Encoding::Raw && workload.issued.iter().any(|(what, _)| *what == hit.what)
    };
    hits.extend(on_the_wire.into_iter().filter(|hit| !issued(hit)));
    if !hits.is_empty() {
        let mut found: Vec<_> = hits.iter().map(ToString::to_string).collect();
        found.dedup();
        return Err(format!("LEAKED: {}", found.join("; ")));
    }
    Ok(Report {
        secrets: workload.secrets.len(),
        issued: workload.issued.len(),
        calls: workload.calls,
        places: places.len() + 1,
        bytes: places.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + sent.len(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_leaves_but_an_issued_password_once() {
    let report = leaks(&[]).await.unwrap();
    println!("{report}");
    assert!(report.issued >= 20 && report.secrets >= 60, "too little to find: {report}");
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_log_secret_is_found() {
    let problem = leaks(&[("CREDVAULT_DEFECT", "log-secret")]).await.unwrap_err();
    assert!(problem.contains("LEAKED") && problem.contains("Raw in the log"), "{problem}");
    println!("{}", problem.split(';').next().unwrap());
}
