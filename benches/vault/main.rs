//! The service against what it could be compared with, in one run: the rows P1 to P12 and U1 to U6 of docs/performance.md. Ratios
//! mean something, absolute numbers only for this machine and this minute.
//!
//! Each server is a process of its own on core 0, the load is on core 1. The databases lie in memory and every
//! flush takes 1 ms (`flush_shim.c`), as on a real disk. `cargo bench -- --help` lists the options.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first thing that is not as expected"
)]

mod calls;
mod check;
mod flush;
mod h2load;
mod http2;
mod load;
mod machine;
mod many;
mod naive;
mod options;
mod reads;
mod rows;
mod server;
mod uses;
mod writes;

#[path = "../../examples/fakes/fakes.rs"]
#[expect(dead_code, unreachable_pub, reason = "programs of their own; a part is used here")]
mod fakes;

use std::path::Path;
use std::process::ExitCode;

use calls::Work;
use fakes::twilio::FakeTwilio;
use load::{End, Outcome};
use options::Options;
use rows::Report;
use server::{Server, Yard};

/// As the service itself: what is measured is what is shipped.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

const CALLERS: usize = 64;

/// One run.
struct Bench {
    options: Options,
    yard: Yard,
    /// Its version, if it is there.
    h2load: Option<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, file, rest @ ..] = arguments.as_slice()
        && serve == "--serve-naive"
    {
        naive::serve(Path::new(file), rest == ["--relaxed"]);
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.unwrap();
    let shim = flush::build_shim(dir.path());
    let pinned = server::pin_the_load();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let twilio = runtime.block_on(FakeTwilio::start());
    let yard = Yard { dir: dir.path().to_owned(), shim, pinned, twilio };
    let bench = Bench { options, yard, h2load: h2load::version() };
    runtime.block_on(bench.run());
    ExitCode::SUCCESS
}

impl Bench {
    async fn run(&self) {
        let mut report = Report::default();
        if !self.yard.pinned {
            report.notes.push(
                "Servers and load share their cores: there is no second one, or no taskset."
                    .to_owned(),
            );
        }
        if self.options.wants(&["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "U5", "U6"]) {
            let vault = self.yard.vault("vault");
            let naive = self.yard.naive("naive", false);
            report.notes.push(format!(
                "Threads of the vault before its first call: {:?}.",
                vault.threads()
            ));
            check::right_answers(&vault).await;
            println!("filling a vault with {} credentials …", self.options.credentials);
            vault.fill(0, self.options.credentials).await;
            self.yard.fill_providers(&vault).await;
            self.describe_echo(&vault, &naive, &mut report).await;
            println!("measuring …");
            // Reads first: their digests are made with the first passwords.
            self.against_echo(&vault, &naive, &mut report).await;
            self.uses_in_a_storm(&vault, &mut report).await;
            self.readers(&vault, &mut report).await;
            self.rotations(&vault, &naive, &mut report).await;
        }
        if self.options.wants(&["P10", "P11"]) {
            self.against_plain(&mut report).await;
        }
        let among_many = ["P9", "P12", "lists", "U1", "U2", "U3", "U4"];
        if let Some(many) = self.options.many.filter(|_| self.options.wants(&among_many)) {
            self.many(many, &mut report).await;
        }
        self.tell(&report);
    }

    fn tell(&self, report: &Report) {
        let judged = !self.options.quick;
        report.print(judged);
        let mut facts = report.json(judged);
        facts["machine"] = machine::facts(self.h2load.as_deref());
        facts["options"] = serde_json::json!({
            "credentials": self.options.credentials,
            "rounds": self.options.rounds,
            "seconds": self.options.round.as_secs_f64(),
            "pinned": self.yard.pinned,
            "flush_micros": flush::MICROS,
        });
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-vault.json");
        std::fs::write(&path, serde_json::to_string_pretty(&facts).unwrap()).unwrap();
        println!("\n{}", path.display());
    }

    /// A round of our own load, every answer of which must be right.
    async fn load(&self, server: &Server, work: &Work, callers: usize) -> Outcome {
        checked(
            load::run(&server.target, work, callers, End::After(self.options.round), None).await,
            work,
        )
    }

    /// An eighth of a round, to warm up or for what needs no more.
    async fn short_load(&self, server: &Server, work: &Work, callers: usize) -> Outcome {
        let end = End::After(self.options.round / 8);
        checked(load::run(&server.target, work, callers, end, None).await, work)
    }
}

fn checked(outcome: Outcome, work: &Work) -> Outcome {
    assert_eq!(outcome.wrong, 0, "every answer of {} is right", work.path);
    outcome
}
