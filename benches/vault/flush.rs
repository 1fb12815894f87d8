//! The flush shim: built here, loaded before a server, and read while it runs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a flush takes while something durable is measured.
pub(crate) const MICROS: u64 = 1000;

/// The flushes of one server, in the file that it shares with its shim (`flush_shim.c`).
pub(crate) struct Flushes {
    pub(crate) path: PathBuf,
    file: File,
}

impl Flushes {
    pub(crate) fn new(path: PathBuf) -> Self {
        fs::write(&path, [0; 40]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let flushes = Self { path, file };
        flushes.take(MICROS);
        flushes
    }

    /// How long each takes from now on.
    pub(crate) fn take(&self, micros: u64) {
        self.file.write_all_at(&micros.to_ne_bytes(), 32).unwrap();
    }

    /// All of them, and the microseconds that they took together.
    pub(crate) fn count_and_micros(&self) -> (u64, u64) {
        (self.read(0), self.read(8) / 1000)
    }

    /// Of SQLite's log: those that have begun.
    pub(crate) fn log_started(&self) -> u64 {
        self.read(16)
    }

    /// Of SQLite's log: those that have ended.
    pub(crate) fn log_finished(&self) -> u64 {
        self.read(24)
    }

    fn read(&self, offset: u64) -> u64 {
        let mut number = [0; 8];
        self.file.read_exact_at(&mut number, offset).unwrap();
        u64::from_ne_bytes(number)
    }
}

pub(crate) fn build_shim(dir: &Path) -> PathBuf {
    let shim = dir.join("flush_shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/vault/flush_shim.c");
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source);
    assert!(compile.status().unwrap().success(), "build the flush shim");
    shim
}
