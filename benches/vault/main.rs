//! The service against what it could be compared with, in one run: ratios mean something, absolute numbers
//! only for this machine and this minute.
//!
//! - rotations per second with 64 callers, against a naive server (one mutex, one commit each);
//! - `GetCredential` with 64 callers, against a bare echo of the same answer.
//!
//! Each server is a process of its own on core 0, the load on core 1. The databases lie in memory and every
//! flush takes 1 ms (`flush_shim.c`), as on a real disk. `cargo bench -- --quick` takes one short round.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first thing that is not as expected"
)]

mod load;
mod naive;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use load::{Call, Outcome, Target};

/// As the service itself: what is measured is what is shipped.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

const CALLERS: usize = 64;
const FLUSH_MICROS: u64 = 1000;

/// How much to measure.
struct Effort {
    rounds: usize,
    round: Duration,
    credentials: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--serve-naive") {
        return naive::serve(Path::new(&arguments[place + 1]));
    }
    let effort = if arguments.iter().any(|argument| argument == "--quick") {
        Effort { rounds: 1, round: Duration::from_secs(1), credentials: 2_000 }
    } else {
        Effort { rounds: 3, round: Duration::from_secs(4), credentials: 100_000 }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(&effort));
}

async fn run(effort: &Effort) {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.unwrap();
    let shim = build_shim(dir.path());
    let vault = Server::vault(dir.path(), &shim);
    let naive = Server::naive(dir.path(), &shim);
    println!("filling both with {} credentials …", effort.credentials);
    let names = load::fill(&vault.target(), effort.credentials, CALLERS).await;
    let bare = naive.target();

    let (mut rotate, mut rotate_naive, mut get, mut echo) = (vec![], vec![], vec![], vec![]);
    let mut flushes = 0;
    for round in 1..=effort.rounds {
        println!("round {round} of {} …", effort.rounds);
        let before = vault.flushes();
        let measured =
            load::measure(&vault.target(), Call::Rotate, &names, CALLERS, effort.round).await;
        flushes += vault.flushes() - before;
        rotate.push(measured);
        rotate_naive.push(load::measure(&bare, Call::Rotate, &names, CALLERS, effort.round).await);
        get.push(load::measure(&vault.target(), Call::Get, &names, CALLERS, effort.round).await);
        echo.push(load::measure(&bare, Call::Get, &names, CALLERS, effort.round).await);
    }

    println!(
        "\n{CALLERS} callers, {} credentials, flush {FLUSH_MICROS} µs, median of {} rounds\n",
        names.len(),
        effort.rounds
    );
    println!("| what | per second | p50 | p99 | ratio |");
    println!("|---|---|---|---|---|");
    row("RotateCredential", &rotate, Some(&rotate_naive), "× naive");
    row("naive rotate (one mutex, one commit each)", &rotate_naive, None, "");
    row("GetCredential", &get, Some(&echo), "of echo");
    row("bare echo", &echo, None, "");
    let total: u64 = rotate.iter().map(|outcome| outcome.calls).sum();
    println!("\nrotations per flush: {:.1}", ratio(total, flushes.max(1)));
    let refused: u64 = [&rotate, &rotate_naive, &get, &echo]
        .into_iter()
        .flatten()
        .map(|outcome| outcome.refused)
        .sum();
    assert_eq!(refused, 0, "every call must have been answered OK");
}

fn row(what: &str, outcomes: &[Outcome], against: Option<&[Outcome]>, unit: &str) {
    let (rate, p50, p99) = (
        median(outcomes, |outcome| outcome.rate),
        median(outcomes, |outcome| outcome.p50_micros),
        median(outcomes, |outcome| outcome.p99_micros),
    );
    let ratio = against.map_or_else(String::new, |against| {
        format!("{:.2} {unit}", rate / median(against, |outcome| outcome.rate))
    });
    println!("| {what} | {rate:.0} | {p50:.0} µs | {p99:.0} µs | {ratio} |");
}

fn median(outcomes: &[Outcome], value: fn(&Outcome) -> f64) -> f64 {
    let mut values: Vec<f64> = outcomes.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ratio(a: u64, b: u64) -> f64 {
    let float = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    float(a) / float(b)
}

/// A server process on core 0. Killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    token: String,
    counter: PathBuf,
}

impl Server {
    fn vault(dir: &Path, shim: &Path) -> Self {
        let data = dir.join("vault");
        let mut command = pinned(env!("CARGO_BIN_EXE_credvault"), 0);
        command.args(["dev", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(&data);
        let mut server = Self::start(command, dir.join("vault.flushes"), shim);
        let token = std::fs::read_to_string(data.join("dev.token")).unwrap();
        token.trim().clone_into(&mut server.token);
        server
    }

    fn naive(dir: &Path, shim: &Path) -> Self {
        let mut command = pinned(std::env::current_exe().unwrap(), 0);
        command.arg("--serve-naive").arg(dir.join("naive.db"));
        Self::start(command, dir.join("naive.flushes"), shim)
    }

    fn start(mut command: Command, counter: PathBuf, shim: &Path) -> Self {
        let mut child = command
            .env("LD_PRELOAD", shim)
            .env("FLUSH_MICROS", FLUSH_MICROS.to_string())
            .env("FLUSH_COUNT", &counter)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next().unwrap().unwrap();
        let address = ready.split(' ').find_map(|word| word.parse().ok()).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, token: String::new(), counter }
    }

    fn target(&self) -> Target {
        Target { address: self.address, token: self.token.clone() }
    }

    fn flushes(&self) -> u64 {
        u64::from_ne_bytes(std::fs::read(&self.counter).unwrap().try_into().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A command that runs on one core, where the machine can do that.
fn pinned(program: impl AsRef<std::ffi::OsStr>, core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

fn build_shim(dir: &Path) -> PathBuf {
    let shim = dir.join("flush_shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/vault/flush_shim.c");
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source);
    assert!(compile.status().unwrap().success(), "build the flush shim");
    shim
}
