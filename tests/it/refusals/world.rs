//! A vault to spoil, and a start of it that is watched: how it ended, what it said, what it touched, and whether anybody
//! could connect meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::credvault;

/// A copy of a vault that `credvault init` made, in a folder of its own.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    /// An address on loopback that no other test uses: ports below those that the system gives out, and a host for each
    /// world.
    host: Ipv4Addr,
}

impl World {
    /// Copies what lies in `template`.
    pub(crate) fn of(template: &Path, number: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(template, dir.path());
        Self { dir, host: Ipv4Addr::new(127, 77, 0, number) }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.file("vault")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.file("vault.key")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.file("vault/credvault.db")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.file(name);
        fs::write(&path, content).unwrap();
        set_mode(&path, 0o600);
        text(&path)
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        (self.host, 5051).into()
    }

    pub(crate) fn operations(&self) -> SocketAddr {
        (self.host, 9464).into()
    }

    /// `credvault` on this vault, at these addresses.
    pub(crate) fn command(&self, command: &str, options: &[String]) -> Command {
        let mut start = credvault([command, "--data-dir"]);
        start.arg(self.data()).args(options);
        start.env("CREDVAULT_LISTEN", self.listen().to_string());
        start.env("CREDVAULT_OPS_LISTEN", self.operations().to_string());
        start
    }

    /// Runs a start to its end, while it tries to connect all the time.
    pub(crate) fn watch(
        &self,
        command: &str,
        options: &[String],
        environment: &[(&str, &str)],
    ) -> Ending {
        let before = self.content();
        let began = Instant::now();
        let mut start = self.command(command, options);
        start.envs(environment.iter().copied());
        let child = start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (child, opened) = self.wait(child, |child, _| child.try_wait().unwrap().is_some());
        let took = began.elapsed();
        let output = child.wait_with_output().unwrap();
        Ending {
            code: output.status.code(),
            said: String::from_utf8(output.stderr).unwrap(),
            answered: output.stdout,
            took,
            opened,
            touched: differences(&before, &self.content()),
        }
    }

    /// Tries to connect until `done`, which is told what could be connected to; at most 10 s.
    pub(crate) fn wait(
        &self,
        mut child: Child,
        done: impl Fn(&mut Child, &[SocketAddr]) -> bool,
    ) -> (Child, Vec<SocketAddr>) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut opened = Vec::new();
        while !done(&mut child, &opened) && Instant::now() < deadline {
            for address in [self.listen(), self.operations()] {
                if TcpStream::connect(address).is_ok() && !opened.contains(&address) {
                    opened.push(address);
                }
            }
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
        }
        (child, opened)
    }

    /// Everything that lies here, with its mode.
    pub(crate) fn content(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                found.insert(path, (metadata.permissions().mode(), bytes));
            }
        }
        found
    }
}

/// How a start ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) answered: Vec<u8>,
    pub(crate) took: Duration,
    /// Who took connections.
    pub(crate) opened: Vec<SocketAddr>,
    /// Files that are new, gone, or other than before.
    pub(crate) touched: Vec<PathBuf>,
}

pub(crate) fn differences(
    before: &BTreeMap<PathBuf, (u32, Vec<u8>)>,
    after: &BTreeMap<PathBuf, (u32, Vec<u8>)>,
) -> Vec<PathBuf> {
    let paths = before.keys().chain(after.keys());
    let mut differ: Vec<_> =
        paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
    differ.dedup();
    differ
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&from, &to);
            fs::set_permissions(&to, fs::metadata(&from).unwrap().permissions()).unwrap();
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// Whether this user can bring a case about: only root may give a file to another user. What decides it is a pure
/// function with a test of its own (`src/store/sqlite/place.rs`).
pub(crate) fn is_possible(case: &str) -> bool {
    if !case.contains("another user") {
        return true;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::chown(file.path(), Some(4_242), None).is_ok()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
