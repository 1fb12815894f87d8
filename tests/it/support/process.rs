//! The real binary as a process of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tonic::transport::Channel;

use super::{Clients, channel};

/// `credvault dev` as a process. Killed when dropped.
pub(crate) struct Process {
    child: Child,
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
        let log = dir.join("credvault.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_credvault"))
            .args(["dev", "--listen", "127.0.0.1:0", "--log", "trace", "--data-dir"])
            .arg(&data_dir)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next().and_then(Result::ok).unwrap_or_default();
        let address = ready.split(' ').find_map(|word| word.parse().ok());
        let Some(address) = address else {
            let mut said = String::new();
            File::open(&log).unwrap().read_to_string(&mut said).unwrap();
            panic!("the server did not become ready: {ready} {said}");
        };
        let output = Arc::new(Mutex::new(format!("{ready}\n")));
        let copy = Arc::clone(&output);
        // Keeps reading, so that the process never waits for a full pipe.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| *copy.lock().unwrap() += &(line + "\n"));
        });
        Self { child, address, data_dir, log, channel: channel(address), output }
    }

    /// The token that `dev` made, for `accounts/dev`.
    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.data_dir.join("dev.token")).unwrap().trim().to_owned()
    }

    /// Clients with the token that `dev` made.
    pub(crate) fn clients(&self) -> Clients {
        Clients::new(&self.channel, &self.token())
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
        self.child.wait().ok();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
