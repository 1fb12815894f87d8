//! A server under attack: a process, its memory and its processor time, and how honest callers reach it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint};

use crate::stock::Stock;
use crate::support::process::{Process, credvault, run};

/// Ticks a second of the times in /proc: fixed by Linux' interface to programs.
const TICKS: f64 = 100.0;

pub(crate) struct Target {
    server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) reach: Reach,
    _dir: tempfile::TempDir,
}

/// How honest callers reach it.
#[derive(Clone)]
pub(crate) struct Reach {
    address: SocketAddr,
    pub(crate) token: String,
    tls: Option<Arc<ClientConfig>>,
}

enum Server {
    Ours(Process),
    Stock(Stock),
}

impl Target {
    /// `credvault dev`, whose log is at most warnings.
    pub(crate) fn ours() -> Self {
        Self::dev(credvault(["dev"]))
    }

    /// The same under a limit of open files.
    pub(crate) fn ours_with_open_files(most: u32) -> Self {
        let plain = credvault(["dev"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={most}")).arg(plain.get_program()).args(plain.get_args());
        command.env_clear();
        for (name, value) in plain.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        Self::dev(command)
    }

    fn dev(mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("credvault-data");
        command.args(["--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(&data);
        command.envs(defect());
        let process = Process::start(command, data, dir.path().join("credvault.log"));
        let token = process.token();
        Self::of(Server::Ours(process), token, None, dir)
    }

    /// `credvault serve` behind TLS.
    pub(crate) fn ours_with_tls() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tls, files) = certificate(dir.path());
        let data = dir.path().join("data");
        let folder = data.to_str().unwrap();
        assert!(run(["init", "--data-dir", folder]).status.success());
        let made = ["tokens", "create", "--data-dir", folder, "--account", "dev"];
        let made = run(made.into_iter().chain(["--role", "account-admin"]));
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let [certificate, key] = files.each_ref().map(|file| file.to_str().unwrap());
        let files = [("CREDVAULT_TLS_CERT_FILE", certificate), ("CREDVAULT_TLS_KEY_FILE", key)];
        let process = Process::serve(&data, &files);
        Self::of(Server::Ours(process), token, Some(tls), dir)
    }

    pub(crate) fn stock() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::of(Server::Stock(Stock::start(None)), String::new(), None, dir)
    }

    pub(crate) fn stock_with_tls() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tls, _) = certificate(dir.path());
        Self::of(Server::Stock(Stock::start(Some(dir.path()))), String::new(), Some(tls), dir)
    }

    fn of(
        server: Server,
        token: String,
        tls: Option<Arc<ClientConfig>>,
        dir: tempfile::TempDir,
    ) -> Self {
        let address = match &server {
            Server::Ours(process) => process.address,
            Server::Stock(stock) => stock.address,
        };
        Self { server, address, reach: Reach { address, token, tls }, _dir: dir }
    }

    pub(crate) fn id(&self) -> u32 {
        match &self.server {
            Server::Ours(process) => process.id(),
            Server::Stock(stock) => stock.id(),
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        match &self.server {
            Server::Ours(process) => std::fs::read_to_string(&process.log).unwrap(),
            Server::Stock(_) => String::new(),
        }
    }

    /// Takes file descriptors away from the running server: it may open `more`, or as many as before.
    pub(crate) fn limit_open_files(&self, more: Option<usize>) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count();
        // The numbers count, not how many there are, and the highest is in use for as long as it lives.
        let most = more.map_or(1024, |more| open + more);
        let pid = self.id().to_string();
        let limit = format!("--nofile={most}:{}", 4096);
        let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(done.success(), "cannot limit the open files of a process");
    }

    pub(crate) fn memory(&self) -> u64 {
        memory(self.id())
    }

    /// Waits until it is so little, for at most so long.
    pub(crate) async fn memory_at_most(&self, most: u64, limit: Duration) -> u64 {
        let began = Instant::now();
        loop {
            let now = self.memory();
            if now <= most || began.elapsed() > limit {
                return now;
            }
            pass(Duration::from_millis(200)).await;
        }
    }

    pub(crate) fn cpu(&self) -> Cpu {
        Cpu { since: Instant::now(), ticks: ticks(self.id()) }
    }

    pub(crate) fn is_alive(&self) -> bool {
        // A process that ended and was not waited for has no memory.
        self.memory() > 0
    }
}

impl Reach {
    /// A channel from an address of this machine. Each call that finds it broken connects again.
    pub(crate) fn channel_from(&self, source: &'static str) -> Channel {
        let (to, tls) = (self.address, self.tls.clone());
        let endpoint =
            Endpoint::from_static("http://vault.test").connect_timeout(Duration::from_secs(5));
        let Some(tls) = tls else {
            let connect = move |_| async move { connect(source, to).await.map(TokioIo::new) };
            return endpoint.connect_with_connector_lazy(tower::service_fn(connect));
        };
        let connect = move |_| {
            let connector = TlsConnector::from(Arc::clone(&tls));
            async move {
                let stream = connect(source, to).await?;
                let name = ServerName::try_from("vault.test").unwrap();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        };
        endpoint.connect_with_connector_lazy(tower::service_fn(connect))
    }
}

/// The defect that a planted test has this run for, if it does.
#[expect(clippy::disallowed_methods, reason = "what runs this test once more says it there")]
fn defect() -> Option<(&'static str, OsString)> {
    const NAME: &str = "CREDVAULT_DEFECT";
    std::env::var_os(NAME).map(|defect| (NAME, defect))
}

/// Processor time at a time.
pub(crate) struct Cpu {
    since: Instant,
    ticks: f64,
}

impl Cpu {
    /// What was used since, in percent of one core.
    pub(crate) fn since(&self, target: &Target) -> f64 {
        (ticks(target.id()) - self.ticks) / TICKS / self.since.elapsed().as_secs_f64() * 100.0
    }
}

fn ticks(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name of the program, which may contain anything.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields = fields.split_whitespace().collect::<Vec<_>>();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}

fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// How much of a time the busiest thread ran or waited to run, in percent: what a machine with other things to do does
/// not hide.
pub(crate) struct Wants {
    since: Instant,
    of: BTreeMap<OsString, f64>,
}

impl Wants {
    pub(crate) fn now(target: &Target) -> Self {
        let tasks = format!("/proc/{}/task", target.id());
        let of = std::fs::read_dir(tasks).unwrap().flatten().filter_map(|task| {
            let spent = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let spent = spent.split_whitespace().take(2).map(|nanos| nanos.parse::<f64>().unwrap());
            Some((task.file_name(), spent.sum::<f64>() / 1e9))
        });
        Self { since: Instant::now(), of: of.collect() }
    }

    pub(crate) fn since(&self, target: &Target) -> f64 {
        let (now, time) = (Self::now(target).of, self.since.elapsed().as_secs_f64());
        let wanted = now.iter().map(|(task, now)| now - self.of.get(task).unwrap_or(now));
        wanted.fold(0.0, f64::max) / time * 100.0
    }
}

/// The most memory that it used.
pub(crate) struct Peak {
    stop: oneshot::Sender<()>,
    watched: JoinHandle<u64>,
}

impl Peak {
    pub(crate) fn watch(target: &Target) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let pid = target.id();
        let watched = tokio::spawn(async move {
            let mut peak = memory(pid);
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tokio::select! {
                    _ = tick.tick() => peak = peak.max(memory(pid)),
                    _ = &mut stopped => return peak,
                }
            }
        });
        Self { stop, watched }
    }

    pub(crate) async fn stop(self) -> u64 {
        self.stop.send(()).ok();
        self.watched.await.unwrap()
    }
}

/// Lets time pass in which something is measured, or attacked.
pub(crate) async fn pass(time: Duration) {
    tokio::time::timeout(time, std::future::pending::<()>()).await.ok();
}

/// A connection from an address of this machine.
pub(crate) async fn connect(source: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse::<IpAddr>().unwrap(), 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Writes a certificate for `vault.test` and its key to `dir`; how clients trust it.
fn certificate(dir: &Path) -> (Arc<ClientConfig>, [PathBuf; 2]) {
    use std::os::unix::fs::PermissionsExt as _;

    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["vault.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let files = [dir.join("tls.crt"), dir.join("tls.key")];
    std::fs::write(&files[0], certificate.pem()).unwrap();
    std::fs::write(&files[1], key.serialize_pem()).unwrap();
    std::fs::set_permissions(&files[1], std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(config), files)
}
