//! `credvault dev` as a process, and grpcurl to ask it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// How long a start or a stop may take; both are far quicker unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `credvault dev` as a process. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    said: Receiver<String>,
    log: PathBuf,
    pub(crate) address: String,
    pub(crate) token: String,
    /// The command that it printed to be pasted.
    pub(crate) line: String,
}

impl Server {
    /// Starts it in `dir` and waits until it has said what to type next.
    pub(crate) fn start(dir: &Path, environment: &[(&str, &str)]) -> Self {
        let log = dir.join("credvault.log");
        let mut child = Command::new(named("CREDVAULT_BIN"))
            .args(["dev", "--listen", "127.0.0.1:0", "--log", "trace"])
            .current_dir(dir)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = lines_of(child.stdout.take().unwrap());
        let mut address = None;
        let line = loop {
            match said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains("grpcurl -plaintext") => break line.trim().to_owned(),
                Ok(line) if address.is_none() && line.contains("is ready on ") => {
                    address = line.split(' ').find(|word| word.starts_with("127.")).map(Into::into);
                }
                Ok(_) => {}
                Err(_) => {
                    child.kill().ok();
                    child.wait().ok();
                    panic!("the server did not become ready: {}", read(&log));
                }
            }
        };
        let token = read(&dir.join("credvault-data/dev.token")).trim().to_owned();
        Self { child, said, log, address: address.unwrap(), token, line }
    }

    /// Sends a request through grpcurl's stdin, so that what is in it shows in no process list.
    pub(crate) fn ask(&self, service: &str, method: &str, request: &Value) -> Outcome {
        grpcurl()
            .env("CREDVAULT_TOKEN", &self.token)
            .args(["-format-error", "-expand-headers", "-d", "@"])
            .args(["-H", "authorization: Bearer ${CREDVAULT_TOKEN}", &self.address])
            .arg(format!("{service}/{method}"))
            .output_of(&request.to_string())
    }

    /// SIGTERM, and waits for the end. Returns the log.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(tool("kill").args(["-TERM", &pid]).output_of("").status.success());
        // Its output ends when the process does.
        while match self.said.recv_timeout(PATIENCE) {
            Ok(_) => true,
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => panic!("the server did not stop"),
        } {}
        assert!(self.child.wait().unwrap().success());
        read(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads on, so that the process never waits for a full pipe.
pub(crate) fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.for_each(|line| drop(sender.send(line)));
    });
    receiver
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// How a command ended and what it said.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Outcome {
    pub(crate) fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The answer of a call that succeeded.
    #[track_caller]
    pub(crate) fn answer(&self) -> Value {
        assert!(self.status.success(), "{}", self.both());
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("not JSON: {}", self.both()))
    }

    /// Exit code (64 + gRPC code), reason and retry delay of a call that was refused.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (i32, String, Option<String>) {
        let status: Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|_| panic!("{}", self.both()));
        let detail = |name: &str| {
            let details = status["details"].as_array().unwrap().iter();
            let of_type = |it: &&Value| it["@type"] == format!("type.googleapis.com/{name}");
            details.clone().find(of_type).cloned()
        };
        let exit = self.status.code().unwrap();
        assert_eq!(status["code"], exit - 64, "{status}");
        let info = detail("google.rpc.ErrorInfo").unwrap();
        assert_eq!(info["domain"], "credvault");
        let retry = detail("google.rpc.RetryInfo").map(|retry| text(&retry["retryDelay"]));
        (exit, text(&info["reason"]), retry)
    }
}

pub(crate) trait OutputOf {
    /// Runs the command with this input. Not for input beyond what a pipe holds.
    fn output_of(&mut self, input: &str) -> Outcome;
}

impl OutputOf for Command {
    fn output_of(&mut self, input: &str) -> Outcome {
        let piped = self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // An error is a command that does not read: its output says why.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Outcome { status: output.status, stdout, stderr }
    }
}

/// grpcurl with what every call here has: plaintext, and an end.
pub(crate) fn grpcurl() -> Command {
    let mut command = Command::new(named("GRPCURL"));
    command.args(["-plaintext", "-connect-timeout", "10", "-max-time", "20"]);
    command
}

/// A program by its name, grpcurl included.
pub(crate) fn tool(name: &str) -> Command {
    let grpcurl = named("GRPCURL");
    assert!(grpcurl.ends_with("grpcurl"), "GRPCURL must be called grpcurl, as in what dev prints");
    let folder = grpcurl.with_file_name("");
    let path = format!("{}:{}", folder.display(), variable("PATH"));
    let mut command = Command::new(name);
    command.env("PATH", path);
    command
}

/// The program that an environment variable names.
pub(crate) fn named(name: &str) -> PathBuf {
    let path = std::path::absolute(variable(name)).unwrap();
    assert!(path.is_file(), "{name} names {}, which is no file", path.display());
    path
}

#[expect(clippy::disallowed_methods, reason = "the runner says where the programs are")]
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `.ci/run`, or see what the head of this test asks for")
    })
}

/// The string in a JSON value.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}
