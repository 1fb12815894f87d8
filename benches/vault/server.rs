//! The servers that are measured: processes of their own on core 0.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::calls::{self, Work};
use crate::fakes::twilio::FakeTwilio;
use crate::flush::{self, Flushes};
use crate::load::{self, End, Target};

/// Where servers are made.
pub(crate) struct Yard {
    pub(crate) dir: PathBuf,
    pub(crate) shim: PathBuf,
    /// Whether servers and load have a core each.
    pub(crate) pinned: bool,
    /// Where vaults ask whether a token is good.
    pub(crate) twilio: FakeTwilio,
}

/// A server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) target: Target,
    pub(crate) flushes: Flushes,
    pub(crate) data: PathBuf,
}

impl Yard {
    /// A vault as `credvault dev` makes it, in a folder of this name.
    pub(crate) fn vault(&self, name: &str) -> Server {
        self.vault_with(name, &[], Stdio::inherit())
    }

    /// A vault that writes a line for each call; returns the file with them as well.
    pub(crate) fn logging_vault(&self, name: &str) -> (Server, PathBuf) {
        let lines = self.dir.join(format!("{name}.log"));
        let file = File::create(&lines).unwrap();
        (self.vault_with(name, &["--log".as_ref(), "debug".as_ref()], file.into()), lines)
    }

    /// A vault behind TLS.
    pub(crate) fn encrypted_vault(&self, name: &str) -> Server {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let file = |suffix: &str, text: String| {
            let path = self.dir.join(format!("{name}.{suffix}.pem"));
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            path
        };
        let cert_file = file("cert", certificate.pem());
        let key_file = file("key", key.serialize_pem());
        let arguments = [
            OsStr::new("--tls-cert-file"),
            cert_file.as_ref(),
            OsStr::new("--tls-key-file"),
            key_file.as_ref(),
        ];
        let mut server = self.vault_with(name, &arguments, Stdio::inherit());
        server.target.tls = Some(client(certificate.der()));
        server
    }

    fn vault_with(&self, name: &str, arguments: &[&OsStr], log: Stdio) -> Server {
        let data = self.dir.join(name);
        let mut command = self.on_core(0, env!("CARGO_BIN_EXE_credvault"));
        command.args(["dev", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--data-dir"]);
        command.arg(&data).env("CREDVAULT_LOG", "warn").args(arguments).stderr(log);
        command.env("CREDVAULT_UPSTREAM_TWILIO_API_URL", self.twilio.url());
        let mut server = self.start(command, name, data);
        let token = fs::read_to_string(server.data.join("dev.token")).unwrap();
        token.trim().clone_into(&mut server.target.token);
        server
    }

    /// The naive server and the echo; with `relaxed` it does not wait for the disk.
    pub(crate) fn naive(&self, name: &str, relaxed: bool) -> Server {
        let data = self.dir.join(name);
        let mut command = self.on_core(0, std::env::current_exe().unwrap());
        command.arg("--serve-naive").arg(&data).args(relaxed.then_some("--relaxed"));
        self.start(command, name, data)
    }

    /// Creates the providers whose webhooks are checked.
    pub(crate) async fn fill_providers(&self, vault: &Server) {
        for place in 0..calls::PROVIDERS {
            let (_, sid, token) = calls::provider(place);
            self.twilio.add_account(&sid, &token);
        }
        let create = calls::create_provider();
        let made = load::run(&vault.target, &create, 1, End::Calls(calls::PROVIDERS), None).await;
        assert_eq!(made.wrong, 0, "every provider is created");
    }

    fn start(&self, mut command: Command, name: &str, data: PathBuf) -> Server {
        let flushes = Flushes::new(self.dir.join(format!("{name}.flushes")));
        command.env("LD_PRELOAD", &self.shim).env("FLUSHES", &flushes.path);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next().expect("the server starts").unwrap();
        let address = ready.split(' ').find_map(|word| word.parse().ok()).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let target = Target { address, token: String::new(), tls: None };
        Server { child, target, flushes, data }
    }

    fn on_core(&self, core: usize, program: impl AsRef<OsStr>) -> Command {
        if !self.pinned {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).arg(program);
        command
    }
}

/// Puts this process, which is the load, on core 1. Whether servers and load have a core each.
pub(crate) fn pin_the_load() -> bool {
    let mut pin = Command::new("taskset");
    pin.args(["-a", "-c", "-p", "1", &std::process::id().to_string()]);
    pin.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Server {
    /// Creates the credentials with these places. The disk costs nothing meanwhile.
    pub(crate) async fn fill(&self, first: u64, end: u64) {
        self.flushes.take(0);
        let mut done = first;
        while done < end {
            let some = (end - done).min(50_000);
            let made =
                load::run(&self.target, &calls::create(done), 256, End::Calls(some), None).await;
            assert_eq!(made.wrong, 0, "every credential is created");
            done += some;
            if end - first > 50_000 {
                println!("  {done} of {end}, {:.0} per s", made.rate);
            }
        }
        self.flushes.take(flush::MICROS);
    }

    /// Waits until health says SERVING.
    pub(crate) async fn is_serving(&self) {
        let check = Work {
            path: "/grpc.health.v1.Health/Check",
            message: Box::new(|_| Vec::new()),
            is_right: Box::new(|_, answer| answer == [8, 1]),
        };
        let until = Instant::now() + Duration::from_mins(1);
        while load::run(&self.target, &check, 1, End::Calls(1), None).await.wrong > 0 {
            assert!(Instant::now() < until, "the server serves within a minute");
        }
    }

    /// Ends it as an operator would; returns whether it closed its store in time, and how long it took.
    pub(crate) fn stop(mut self) -> (bool, Duration) {
        let begun = Instant::now();
        let mut term = Command::new("kill");
        assert!(term.args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
        let lock = fs::metadata(self.data.join("credvault.db.lock")).unwrap();
        (lock.len() == 0, begun.elapsed())
    }

    /// A figure of `/proc/…/status` in MiB.
    pub(crate) fn memory(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let kib: u32 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap();
        f64::from(kib) / 1024.0
    }

    /// The names of its threads, each once with how many have it.
    pub(crate) fn threads(&self) -> std::collections::BTreeMap<String, usize> {
        let mut threads = std::collections::BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap() {
            let name = fs::read_to_string(thread.unwrap().path().join("comm")).unwrap();
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
        threads
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn client(certificate: &CertificateDer<'static>) -> tokio_rustls::TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

/// How large the files of a vault are, in MiB.
pub(crate) fn size(data: &Path) -> f64 {
    let kib: u64 = fs::read_dir(data)
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len() / 1024)
        .sum();
    f64::from(u32::try_from(kib).unwrap()) / 1024.0
}
