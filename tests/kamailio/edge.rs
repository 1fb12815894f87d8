//! The vault and Kamailio as processes: the files of deploy/kamailio/, and beside them the values of this machine.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use credvault::grpc::proto::{
    ApiToken, CreateApiTokenRequest, CreateCredentialRequest, Credential, Role,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::it::support::Clients;
use crate::it::support::process::{Process, credvault};

/// How long anything may take to happen that happens by itself; far longer than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const REALM: &str = "sip.test";

/// The file of the API token.
pub(crate) const TOKEN: &str = "credvault.token";

/// A planted defect: in which of the files, what stands there, and what instead.
pub(crate) struct Defect {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) right: &'static str,
    pub(crate) wrong: &'static str,
}

/// A vault, which can be stopped and started where it was, and a Kamailio that asks it.
pub(crate) struct Edge {
    pub(crate) vault: Option<Process>,
    pub(crate) kamailio: Kamailio,
    pub(crate) runtime: Runtime,
    pub(crate) address: SocketAddr,
    pub(crate) dir: TempDir,
}

impl Edge {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With lines in kamailio-local.cfg besides those that say where everything is.
    pub(crate) fn with(lines: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let vault = start_vault(&runtime, dir.path(), None);
        let address = vault.address;
        let token = runtime.block_on(token(&vault.clients(), Role::Verifier));
        write_private(&dir.path().join(TOKEN), &token);
        let kamailio = Kamailio::start(dir.path(), address, TOKEN, lines);
        Self { vault: Some(vault), kamailio, runtime, address, dir }
    }

    pub(crate) fn clients(&self) -> Clients {
        self.vault.as_ref().unwrap().clients()
    }

    pub(crate) fn stop_vault(&mut self) {
        assert!(self.vault.take().unwrap().terminate().success());
    }

    /// Starts it again on its data and its port.
    pub(crate) fn start_vault(&mut self) {
        self.vault = Some(start_vault(&self.runtime, self.dir.path(), Some(self.address)));
    }

    pub(crate) fn write_token(&self, token: &str) {
        write_private(&self.dir.path().join(TOKEN), token);
    }

    /// An API token of the vault with this one role.
    pub(crate) fn token(&self, role: Role) -> String {
        let clients = self.clients();
        self.runtime.block_on(token(&clients, role))
    }

    /// Creates a credential. Its name, and the password that the vault made.
    pub(crate) fn create(&self, user: &str) -> (String, String) {
        let credential = Credential {
            username: user.to_owned(),
            realm: REALM.to_owned(),
            ..Credential::default()
        };
        let request = CreateCredentialRequest {
            parent: "accounts/dev".to_owned(),
            credential: Some(credential),
            ..CreateCredentialRequest::default()
        };
        let (created, issued) =
            self.runtime.block_on(self.clients().create(request)).expect("create a credential");
        (created.name, issued.unwrap().password)
    }
}

fn start_vault(runtime: &Runtime, dir: &Path, address: Option<SocketAddr>) -> Process {
    // The process comes with a channel to it.
    let _inside = runtime.enter();
    let address = address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
    let data = dir.join("credvault-data");
    let mut command = credvault(["dev", "--log", "info", "--listen", &address.to_string()]);
    command.arg("--data-dir").arg(&data);
    Process::start(command, data, dir.join("credvault.log"))
}

async fn token(clients: &Clients, role: Role) -> String {
    let api_token = ApiToken { roles: vec![role.into()], ..ApiToken::default() };
    let request = CreateApiTokenRequest {
        parent: "accounts/dev".to_owned(),
        api_token: Some(api_token),
        ..CreateApiTokenRequest::default()
    };
    clients.access.clone().create_api_token(request).await.unwrap().into_inner().token
}

pub(crate) fn write_private(path: &Path, text: &str) {
    // Never half a token: Kamailio reads it for each call.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

/// Kamailio in the foreground. Ended when dropped, with its children.
pub(crate) struct Kamailio {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Kamailio {
    /// Starts it and waits until it answers. Without `token` it has none.
    pub(crate) fn start(dir: &Path, vault: SocketAddr, token: &str, lines: &[&str]) -> Self {
        let mut kamailio = Self::begin(dir, &vault.to_string(), token, lines);
        let begun = Instant::now();
        // It says nothing when it is ready, but it answers then.
        while !super::phone::is_answered(kamailio.address) {
            let ended = kamailio.child.try_wait().unwrap();
            assert!(ended.is_none(), "Kamailio ended: {}", kamailio.log());
            assert!(begun.elapsed() < PATIENCE, "Kamailio does not answer: {}", kamailio.log());
        }
        kamailio
    }

    /// Starts it, and does not look whether it stays.
    pub(crate) fn begin(dir: &Path, vault: &str, token: &str, lines: &[&str]) -> Self {
        let (folder, run) = (dir.join("kamailio"), dir.join("run"));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&run).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kamailio");
        for file in ["kamailio.cfg", "credvault_auth.py"] {
            let text = fs::read_to_string(shipped.join(file)).unwrap();
            fs::write(folder.join(file), planted(file, text)).unwrap();
        }
        let address = free_address();
        let token = if token.is_empty() { PathBuf::new() } else { dir.join(token) };
        let token = token.display();
        let values = [
            ("LISTEN_UDP", format!("udp:{address}")),
            ("LISTEN_TCP", format!("tcp:{address}")),
            ("WORKERS", "4".to_owned()),
            ("SIP_DOMAIN", format!("\"{REALM}\"")),
            ("CREDVAULT_TARGET", format!("\"{vault}\"")),
            ("CREDVAULT_ACCOUNT", "\"accounts/dev\"".to_owned()),
            ("CREDVAULT_TOKEN_FILE", format!("\"{token}\"")),
            ("CREDVAULT_PACKAGES", format!("\"{}\"", packages())),
            ("CREDVAULT_MODULE", format!("\"{}\"", folder.join("credvault_auth.py").display())),
        ];
        let values = values.map(|(name, value)| format!("#!define {name} {value}\n")).concat();
        let local = format!("{values}{}\n", lines.join("\n"));
        fs::write(folder.join("kamailio-local.cfg"), local).unwrap();

        let log = dir.join("kamailio.log");
        let mut command = Command::new(named("KAMAILIO"));
        command.args(["-DD", "-E", "-m", "32", "-M", "8", "-f"]).arg(folder.join("kamailio.cfg"));
        command.arg("-P").arg(run.join("pid")).arg("-Y").arg(&run).arg("-w").arg(&run);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Self { child: command.spawn().unwrap(), address, log }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Whether it is still the process that was started.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for an end that nobody asked for.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Not SIGKILL: its children would stay.
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status().ok();
        self.child.wait().ok();
    }
}

/// A loopback address whose port is free for UDP and TCP.
fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// A vault that is slow, and where it is.
pub(crate) fn slow_vault() -> (Child, SocketAddr) {
    let mut python = Command::new(named("EDGE_PYTHON"));
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kamailio/slow_vault.py"));
    let mut child = python.stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    (child, (Ipv4Addr::LOCALHOST, port.trim().parse().unwrap()).into())
}

/// Where the packages of `EDGE_PYTHON` are.
fn packages() -> String {
    let mut python = Command::new(named("EDGE_PYTHON"));
    let asked = "import credvault.v1, sysconfig; print(sysconfig.get_path('purelib'))";
    let output = python.args(["-c", asked]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "EDGE_PYTHON has no package credvault: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The file with the defect that this run is to catch, if it is one of this file.
fn planted(file: &str, text: String) -> String {
    let Some(name) = variable("KAMAILIO_DEFECT") else { return text };
    let defect = super::planted::DEFECTS.iter().find(|it| it.name == name).unwrap();
    if defect.file != file {
        return text;
    }
    assert_eq!(text.matches(defect.right).count(), 1, "{name} does not fit {file} any more");
    text.replace(defect.right, defect.wrong)
}

/// The program that an environment variable names.
pub(crate) fn named(name: &str) -> PathBuf {
    let path = variable(name).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{name} is not set: run `.ci/run`"));
    assert!(path.is_file(), "{name} names {}, which is no file", path.display());
    path
}

#[expect(clippy::disallowed_methods, reason = "the runner says where the programs are")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
