//! The real binary as a process of its own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tonic::transport::Channel;

use super::{Clients, channel};

/// The binary with these arguments, and nothing of the tests' own surroundings that it would read.
pub(crate) fn credvault<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().envs(surroundings());
    // Tests try more tokens than people do.
    command.env("CREDVAULT_LIMITS_TOKEN_TRIES_PER_PROVIDER", "0");
    command.env("CREDVAULT_LIMITS_TOKEN_TRIES_PER_ACCOUNT", "0");
    // Nor the profiles of whoever runs the tests.
    command.env("CREDVAULT_CLIENT_CONFIG", "/nonexistent/client.toml");
    // Many run at once, and few are looked at.
    command.env("CREDVAULT_OPS_LISTEN", "off");
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The build of these tests, or the one that `CREDVAULT_BIN` names.
#[expect(clippy::disallowed_methods, reason = "a test is told which build to look at")]
fn binary() -> OsString {
    std::env::var_os("CREDVAULT_BIN").unwrap_or(env!("CARGO_BIN_EXE_credvault").into())
}

/// The environment without what the binary would read.
#[expect(clippy::disallowed_methods, reason = "a test makes the environment of its processes")]
fn surroundings() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("CREDVAULT_"))
}

/// Runs one test of this program once more with a planted defect, which it has to catch; what it then says.
#[cfg(feature = "planted-defects")]
pub(crate) fn caught(test: &str, defect: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("CREDVAULT_DEFECT", defect);
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success(), "{test} does not notice {defect}: {said}");
    said
}

/// Runs the binary to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    credvault(arguments).output().unwrap()
}

/// A server as a process. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    reader: Option<JoinHandle<()>>,
    pub(crate) address: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) channel: Channel,
    /// Its standard output so far.
    pub(crate) output: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `credvault dev` on the data in `dir` and waits until it says that it is ready.
    pub(crate) fn dev(dir: &Path, environment: &[(&str, &str)]) -> Self {
        let data_dir = dir.join("credvault-data");
        let mut command = credvault(["dev", "--listen", "127.0.0.1:0", "--log", "trace"]);
        command.arg("--data-dir").arg(&data_dir).envs(environment.iter().copied());
        Self::start(command, data_dir, dir.join("credvault.log"))
    }

    /// Starts `credvault serve` with `--data-dir` alone and waits until it takes calls.
    pub(crate) fn serve(data_dir: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = credvault(["serve", "--data-dir"]);
        command.arg(data_dir).env("CREDVAULT_LISTEN", "127.0.0.1:0");
        command.envs(environment.iter().copied());
        Self::start(command, data_dir.to_owned(), data_dir.with_extension("log"))
    }

    /// Starts a server and waits until it names its address: `dev` on standard output, `serve` in
    /// its log, which goes to the file `log`.
    pub(crate) fn start(mut command: Command, data_dir: PathBuf, log: PathBuf) -> Self {
        let dev = command.get_args().any(|argument| argument == "dev");
        let mut copy = File::options().create(true).append(true).open(&log).unwrap();
        let log_to = if dev { Stdio::from(copy.try_clone().unwrap()) } else { Stdio::piped() };
        let mut child = command.stdout(Stdio::piped()).stderr(log_to).spawn().unwrap();
        let said: Box<dyn Read + Send> = match child.stderr.take() {
            Some(stderr) => Box::new(stderr),
            None => Box::new(child.stdout.take().unwrap()),
        };
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        let address = lines.by_ref().find_map(|line| {
            seen.push(line);
            ready(seen.last()?)
        });
        if !dev {
            writeln!(copy, "{}", seen.join("\n")).unwrap();
        }
        let Some(address) = address else {
            child.kill().ok();
            child.wait().ok();
            let log = std::fs::read_to_string(&log).unwrap();
            panic!("the server did not become ready: {} {log}", seen.join("\n"));
        };
        let output = Arc::new(Mutex::new(seen.join("\n") + "\n"));
        let kept = Arc::clone(&output);
        // Goes on reading, so that the process never waits for a full pipe.
        let reader = thread::spawn(move || {
            lines.for_each(|line| {
                if !dev {
                    writeln!(copy, "{line}").unwrap();
                }
                *kept.lock().unwrap() += &(line + "\n");
            });
        });
        let channel = channel(address);
        Self { child, reader: Some(reader), address, data_dir, log, channel, output }
    }

    /// Clients with the token that `dev` made.
    pub(crate) fn clients(&self) -> Clients {
        Clients::new(&self.channel, &self.token())
    }

    /// The token that `dev` made.
    pub(crate) fn token(&self) -> String {
        let token = std::fs::read_to_string(self.data_dir.join("dev.token")).unwrap();
        token.trim().to_owned()
    }

    /// Where its operations listener is, by its log.
    pub(crate) fn operations(&self) -> SocketAddr {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let line = log.lines().rfind(|line| line.contains("operations listener")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data_dir.join("credvault.db")
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.end();
    }

    /// SIGSTOP: it does nothing any more, and what is sent to it waits.
    pub(crate) fn freeze(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-STOP", &pid]).status().unwrap();
        assert!(sent.success(), "the server is gone already");
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success(), "the server is gone already");
    }

    /// SIGTERM, and waits for the end. Clients on a runtime of one thread cannot say goodbye
    /// meanwhile: a test that has any needs `flavor = "multi_thread"`, or it waits until they are
    /// cut.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.ask_to_stop();
        self.end().unwrap()
    }

    /// Waits for the end. The log is complete then.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        let status = self.child.wait().ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address in `Credvault is ready on …` (dev) or in the log line `taking calls` (serve).
fn ready(line: &str) -> Option<SocketAddr> {
    if !line.contains("is ready on") && !line.contains("taking calls") {
        return None;
    }
    line.split([' ', '"']).find_map(|word| word.parse().ok())
}
