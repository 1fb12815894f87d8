//! The door: who gets in over TLS, over a Unix socket, and how many.

pub(crate) mod certificates;
mod slow_readers;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use credvault::access::Role;
use credvault::grpc::proto::{ListAuditEntriesRequest, ListCredentialsRequest};
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Clients, TestVault, channel, outcome};
use certificates::{Authority, Leaf};

const UNAUTHENTICATED: &str = "Unauthenticated UNAUTHENTICATED";
const NOT_FOUND: &str = "NotFound NOT_FOUND";
const EDGE: &str = "spiffe://example.org/edge/one";

/// A vault as [`guarded`] makes it, with its authorities.
struct Guarded {
    vault: TestVault,
    server: Authority,
    ours: Authority,
    others: Authority,
    dir: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [server, ours, others] = [(); 3].map(|()| Authority::new());
        let vault = guarded(dir.path(), &server, [&ours, &others]).await;
        let operator = vault.token("acme", &[Role::AccountAdmin]).await;
        vault.make_operator(&operator).await;
        vault.bind("acme", "spiffe://example.org/edge/*", &[Role::Reader]).await;
        Self { vault, server, ours, others, dir }
    }

    /// A client with this certificate, or none, and this token, or none.
    fn client(&self, leaf: Option<&Leaf>, token: &str) -> Clients {
        let config = self.server.trusted_with(leaf, &certificates::TLS_1_3);
        Clients::new(&encrypted(self.vault.address, config), token)
    }

    async fn answer(&self, leaf: Option<&Leaf>, token: &str) -> String {
        told(list(&self.client(leaf, token), "acme").await)
    }
}

/// A vault behind TLS that trusts one authority for `example.org` and one for `other.org`.
pub(crate) async fn guarded(
    dir: &Path,
    server: &Authority,
    [ours, others]: [&Authority; 2],
) -> TestVault {
    let file = |name: &str| dir.join(name);
    server.write_server(&file("server.pem"), &file("server.key"));
    std::fs::write(file("ours.pem"), ours.pem()).unwrap();
    std::fs::write(file("others.pem"), others.pem()).unwrap();
    TestVault::start_with(|options, _| {
        options.tls.tls_cert_file = Some(file("server.pem"));
        options.tls.tls_key_file = Some(file("server.key"));
        options.tls.tls_trust_domains = vec![
            format!("example.org={}", file("ours.pem").display()),
            format!("other.org={}", file("others.pem").display()),
        ];
    })
    .await
}

/// A channel over TLS. Each call that finds it broken connects again.
pub(crate) fn encrypted(address: SocketAddr, config: ClientConfig) -> Channel {
    let connector = TlsConnector::from(Arc::new(config));
    let connect = move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("vault.test").unwrap();
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    };
    Endpoint::from_static("http://vault.test")
        .connect_with_connector_lazy(tower::service_fn(connect))
}

async fn list(clients: &Clients, account: &str) -> Result<(), Status> {
    let parent = format!("accounts/{account}");
    let request = ListCredentialsRequest { parent, ..Default::default() };
    clients.credentials.clone().list_credentials(request).await.map(drop)
}

/// What the vault said, or that it did not even shake hands.
fn told(result: Result<(), Status>) -> String {
    match &result {
        Err(status) if status.details().is_empty() => "no connection".to_owned(),
        _ => outcome(&result),
    }
}

#[tokio::test]
async fn a_certificate_opens_what_its_one_spiffe_id_is_bound_to() {
    let guarded = Guarded::start().await;
    let ours = |uris: &[&str]| guarded.ours.leaf(uris);
    let edge = ours(&[EDGE]);
    assert_eq!(guarded.answer(Some(&edge), "").await, "OK");
    assert_eq!(guarded.answer(Some(&ours(&["spiffe://example.org/edge/a/b"])), "").await, "OK");
    assert_eq!(guarded.answer(Some(&ours(&["spiffe://example.org/desk"])), "").await, NOT_FOUND);
    let stranger = guarded.others.leaf(&["spiffe://other.org/edge/one"]);
    assert_eq!(guarded.answer(Some(&stranger), "").await, NOT_FOUND);
    assert_eq!(guarded.answer(None, "").await, UNAUTHENTICATED);

    // A token alone decides where there is one.
    let token = guarded.vault.token("acme", &[Role::Auditor]).await;
    assert_eq!(guarded.answer(None, &token).await, "PermissionDenied ROLE_MISSING");
    assert_eq!(guarded.answer(Some(&edge), &token).await, "PermissionDenied ROLE_MISSING");
    assert_eq!(guarded.answer(Some(&edge), "cv1_no").await, UNAUTHENTICATED);
    let twice = format!("{token}\n{token}");
    assert_eq!(guarded.answer(Some(&edge), &twice).await, UNAUTHENTICATED);

    // Who it was stands in the audit log.
    let workload = guarded.client(Some(&edge), "");
    let rotate = crate::credentials::rotate("accounts/acme/credentials/desk");
    let refused = outcome(&workload.rotate(rotate).await);
    assert_eq!(refused, "PermissionDenied ROLE_MISSING");
    let auditor = guarded.client(None, &token);
    let entry = auditor
        .audit_log("acme")
        .await
        .into_iter()
        .find(|entry| entry.method == "RotateCredential");
    assert_eq!(entry.unwrap().principal, EDGE);
}

#[tokio::test]
async fn a_certificate_that_is_not_as_spiffe_wants_it_opens_nothing() {
    let guarded = Guarded::start().await;
    let ours = &guarded.ours;
    let other = "spiffe://example.org/edge/two";
    for (what, leaf) in [
        ("of an authority that nobody named", Authority::new().leaf(&[EDGE])),
        ("of another domain's authority", guarded.others.leaf(&[EDGE])),
        ("for another domain, of ours", ours.leaf(&["spiffe://other.org/edge/one"])),
        ("of a domain that nobody trusts", ours.leaf(&["spiffe://third.org/edge/one"])),
        ("with two URIs", ours.leaf(&[EDGE, other])),
        ("with a second URI that is none of SPIFFE", ours.leaf(&[EDGE, "https://example.org/"])),
        (
            "with a second URI that cannot be read",
            ours.leaf_with(&[], certificates::unreadable(EDGE)),
        ),
        ("with a URI that is none of SPIFFE", ours.leaf(&["https://example.org/edge/one"])),
        ("with a DNS name alone", ours.named("edge.example.org")),
        ("without any name", ours.leaf(&[])),
        ("of an authority", ours.leaf_with(&[EDGE], |params| params.is_ca = certificates::ca())),
        ("for servers", ours.leaf_with(&[EDGE], certificates::for_servers)),
        ("for anything", ours.leaf_with(&[EDGE], |params| params.extended_key_usages.clear())),
        ("not for signatures", ours.leaf_with(&[EDGE], certificates::for_encryption)),
        ("that has ended", ours.leaf_with(&[EDGE], certificates::ended)),
        ("that has not begun", ours.leaf_with(&[EDGE], certificates::not_begun)),
    ] {
        let found = guarded.answer(Some(&leaf), "").await;
        assert_eq!(found, "no connection", "a certificate {what}");
    }
    let token = guarded.vault.token("acme", &[Role::Reader]).await;
    let old = guarded.server.trusted_with(None, &certificates::TLS_1_2);
    let old = Clients::new(&encrypted(guarded.vault.address, old), &token);
    assert_eq!(told(list(&old, "acme").await), "no connection", "TLS 1.2");
    let plain = Clients::new(&channel(guarded.vault.address), &token);
    assert_eq!(told(list(&plain, "acme").await), "no connection", "no TLS");
    assert_eq!(guarded.answer(None, &token).await, "OK", "others go on");
}

#[tokio::test]
async fn a_certificate_that_ends_while_its_connection_lives_is_refused_from_then_on() {
    let guarded = Guarded::start().await;
    // By the wall clock it is good for years: the vault's own clock says otherwise.
    let leaf = guarded.ours.leaf_with(&[EDGE], |params| {
        params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    });
    let client = guarded.client(Some(&leaf), "");
    assert_eq!(told(list(&client, "acme").await), "OK");
    guarded.vault.clock.advance(SignedDuration::from_hours(24 * 365 * 11));
    assert_eq!(told(list(&client, "acme").await), UNAUTHENTICATED);
}

#[tokio::test]
async fn new_files_are_taken_into_use_and_broken_ones_are_not() {
    let guarded = Guarded::start().await;
    let file = |name: &str| guarded.dir.path().join(name);
    let token = guarded.vault.token("acme", &[Role::Reader]).await;
    let held = guarded.client(None, &token);
    assert_eq!(told(list(&held, "acme").await), "OK");

    let next = Authority::new();
    std::fs::write(file("server.pem"), "nonsense").unwrap();
    assert_eq!(guarded.answer(None, &token).await, "OK", "those before stay");
    next.write_server(&file("server.pem"), &file("server.key"));
    let config = || next.trusted_with(None, &certificates::TLS_1_3);
    let started = Instant::now();
    loop {
        let client = Clients::new(&encrypted(guarded.vault.address, config()), &token);
        if told(list(&client, "acme").await) == "OK" {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "the new certificate is not in use");
        tokio::task::yield_now().await;
    }
    assert_eq!(told(list(&held, "acme").await), "OK", "a connection from before lives on");
    assert_eq!(
        guarded.answer(None, &token).await,
        "no connection",
        "the old one is not shown any more"
    );
}

#[tokio::test]
async fn trust_that_is_taken_away_is_gone() {
    let guarded = Guarded::start().await;
    let token = guarded.vault.token("acme", &[Role::Reader]).await;
    let ours = guarded.ours.leaf(&[EDGE]);
    let others = guarded.others.leaf(&["spiffe://other.org/edge/one"]);
    assert_eq!(guarded.answer(Some(&ours), "").await, "OK");
    // Emptied, while the server's own certificate does not work either.
    std::fs::write(guarded.dir.path().join("ours.pem"), "").unwrap();
    std::fs::write(guarded.dir.path().join("server.pem"), "nonsense").unwrap();
    let started = Instant::now();
    while guarded.answer(Some(&ours), "").await != "no connection" {
        assert!(started.elapsed() < Duration::from_secs(30), "the old bundle is in use");
        tokio::task::yield_now().await;
    }
    assert_eq!(guarded.answer(None, &token).await, "OK");
    assert_eq!(guarded.answer(Some(&others), "").await, NOT_FOUND, "the other domain goes on");
}

#[tokio::test]
async fn a_unix_socket_takes_calls_of_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listen = format!("unix:{}", path.display());
    // One that a killed process left.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (vault, token) = TestVault::start_on(&listen).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let clients = Clients::new(&over(&path), &token);
    assert_eq!(told(list(&clients, "acme").await), "OK");
    assert_eq!(told(list(&Clients::new(&over(&path), ""), "acme").await), UNAUTHENTICATED);
    vault.stop().await;
    assert!(!path.exists(), "it goes with its server");
}

fn over(path: &Path) -> Channel {
    let path = path.to_owned();
    let connect = move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    Endpoint::from_static("http://vault.test")
        .connect_with_connector_lazy(tower::service_fn(connect))
}

/// A connection from an address of this machine.
async fn from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse::<IpAddr>().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// The same for calls. Each that finds it broken connects again.
pub(crate) fn channel_from(source: &'static str, to: SocketAddr) -> Channel {
    let connect =
        move |_| async move { Ok::<_, std::io::Error>(TokioIo::new(from(source, to).await)) };
    Endpoint::from_static("http://vault.test")
        .connect_with_connector_lazy(tower::service_fn(connect))
}

#[tokio::test]
async fn silent_connections_of_one_address_lock_nobody_out_and_are_closed() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::Reader]).await;
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut stream = from("127.0.0.9", vault.address).await;
        // Some say nothing, some half of what HTTP/2 begins with, some something else.
        let said: &[u8] =
            [&b""[..], b"PRI * HT", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n1234"][number % 3];
        stream.write_all(said).await.ok();
        silent.push(stream);
        if number % 100 == 99 {
            let honest = Clients::new(&channel_from("127.0.0.8", vault.address), &token);
            assert_eq!(told(list(&honest, "acme").await), "OK");
        }
    }
    let started = Instant::now();
    for mut stream in silent {
        let mut heard = [0; 64];
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut heard)).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "closed without a word");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn failures_of_one_address_are_limited_and_recorded_once_a_minute() {
    let vault =
        TestVault::start_with(|options, _| options.limits_failed_authentications = None).await;
    let good = vault.token("acme", &[Role::Reader]).await;
    let good = Clients::new(&channel(vault.address), &good);
    let bad = Clients::new(&channel(vault.address), "cv1_no");
    let mut outcomes = std::collections::BTreeMap::new();
    for _ in 0..1000 {
        *outcomes.entry(outcome(&list(&bad, "acme").await)).or_insert(0) += 1;
        assert_eq!(told(list(&good, "acme").await), "OK", "nobody is refused for others");
    }
    let expected = [("ResourceExhausted RATE_LIMITED retry 1s", 980), (UNAUTHENTICATED, 20)];
    let expected = expected.map(|(outcome, count)| (outcome.to_owned(), count));
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), expected);
    vault.clock.advance(SignedDuration::from_secs(1));
    for limited in [false; 10].into_iter().chain([true]) {
        let found = outcome(&list(&bad, "acme").await);
        assert_eq!(found != UNAUTHENTICATED, limited, "{found}");
    }

    let operator = vault.operator().await;
    let recorded = async || {
        let parent = "vault".to_owned();
        let request = ListAuditEntriesRequest { parent, page_size: 200, ..Default::default() };
        let page = operator.audit.clone().list_audit_entries(request).await.unwrap().into_inner();
        let failures = page.entries.into_iter().filter(|entry| entry.method == "Authenticate");
        failures.map(|entry| (entry.outcome, entry.peer, entry.detail)).collect::<Vec<_>>()
    };
    assert_eq!(recorded().await, []);
    vault.clock.advance(SignedDuration::from_secs(60));
    let started = Instant::now();
    let entries = loop {
        let entries = recorded().await;
        if entries.len() >= 2 {
            break entries;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{entries:?}");
        tokio::task::yield_now().await;
    };
    let of = |reason: &str| entries.iter().find(|(outcome, ..)| outcome == reason).unwrap();
    assert!(of("RATE_LIMITED").2.starts_with("981 calls "), "{entries:?}");
    assert!(of("UNAUTHENTICATED").2.starts_with("30 calls "), "{entries:?}");
    assert!(entries.iter().all(|(_, peer, _)| peer == "127.0.0.1"));
    assert_eq!(entries.len(), 2);
}
