//! Power loss: two thousand states in which a disk may be left, each opened by the real store.
//!
//! A server runs under `disk_shim.c` through all that its files go through: commits, the log moved into the
//! database while it is written to, the log begun anew, cut to zero, removed; a kill at the worst moment, and
//! the start after it. Then the log of that is replayed (`disk.rs`), and at points of it the power goes.
//! In what is left, each change that was answered by then must be there, and state, password and audit chain
//! must agree. What is modelled and what is not: `docs/adr/0020-power-loss-model.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use credvault::access::{self, Caller, LocalOperator, Role, Scope};
use credvault::audit::Chain;
use credvault::clock::SystemClock;
use credvault::config::{ServeOptions, Settings, StoreOptions};
use credvault::credential::{Realm, Username};
use credvault::digest::{Algorithm, Digest, Method, Nonce, Response, Uri};
use credvault::name::{OwnerName, ResourceId};
use credvault::server::{self, Purpose};
use credvault::upstream::Network;
use credvault::vault::{Error, PageRequest, Presented, Vault};
use jiff::SignedDuration;
use rusqlite::{Connection, OpenFlags};
use tokio::task::JoinSet;

use crate::disk::{Disk, Log, Loss, Notes, What, compile_shim};
use crate::journal::{self, Change, Client, Load, REALM};
use crate::support::process::Process;
use crate::support::random::Rng;
use crate::support::{Clients, exposed, md5_response};

const IMAGES: usize = 2_000;
const CLIENTS: usize = 8;

/// Where files cost no flush: nothing that the images go through later needs a disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A recorded run.
struct Run {
    log: Log,
    /// The canonical path of the data folder while it ran.
    dir: String,
    /// The database before it.
    before: Vec<u8>,
    key: PathBuf,
    token: String,
    _scratch: tempfile::TempDir,
}

pub(crate) fn settings(data_dir: &Path, key: &Path) -> Settings {
    let store = StoreOptions {
        data_dir: Some(data_dir.to_owned()),
        key_file: Some(key.to_owned()),
        ..StoreOptions::default()
    };
    ServeOptions { store, ..ServeOptions::default() }.resolve().unwrap()
}

pub(crate) fn open(settings: &Settings) -> anyhow::Result<Vault> {
    server::open_vault(settings, Purpose::Real, Arc::new(SystemClock), &Network::internet())
}

/// Makes a vault; returns a token of an admin of `accounts/acme` who may use its secrets.
pub(crate) async fn new_vault(settings: &Settings) -> String {
    server::create_vault(settings, false).unwrap();
    let vault = open(settings).unwrap();
    let account = OwnerName::Account(ResourceId::parse("acme").unwrap());
    let roles = [Role::AccountAdmin, Role::Verifier];
    let operator = LocalOperator::beside_the_store();
    let lifetime = SignedDuration::from_hours(24);
    let token = vault.add_api_token(&operator, &account, &roles, lifetime).await.unwrap();
    vault.close().await;
    exposed(&token.to_text())
}

/// Records a run of the server with `environment`.
async fn record(rng: &mut Rng, environment: &[(&str, &str)]) -> Run {
    let scratch = scratch();
    let root = scratch.path().canonicalize().unwrap();
    let (data, log) = (root.join("data"), root.join("disk.log"));
    let token = new_vault(&settings(&data, &root.join("data.key"))).await;
    let before = std::fs::read(data.join("credvault.db")).unwrap();

    let shim = compile_shim(&root);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (shim, dir, log_name) = (text(&shim), text(&data), text(&log));
    let disk = [("LD_PRELOAD", &*shim), ("DISK_DIR", &*dir), ("DISK_LOG", &*log_name)];
    let environment = [environment, &disk].concat();
    let notes = Arc::new(Notes::open(&log));
    let mut all = Vec::new();
    for number in 0..CLIENTS {
        all.push(Client::new(number, Rng::new(rng.draw()), Arc::clone(&notes)));
    }

    // Load, then a slower one until the log was cut to zero beneath it, then an end in order.
    let process = Process::serve(&data, &environment);
    all = load(all, &process, &token, Duration::ZERO, |answers| answers >= 300).await;
    let wal = data.join("credvault.db-wal");
    let mut largest = 0;
    all = load(all, &process, &token, Duration::from_millis(300), |_| {
        let now = std::fs::metadata(&wal).map_or(0, |wal| wal.len());
        largest = largest.max(now);
        now < largest / 2
    })
    .await;
    all = load(all, &process, &token, Duration::ZERO, |answers| answers >= 100).await;
    assert!(process.terminate().success());

    // Killed while what it wrote is in the kernel's memory only: with a commit of one client alone, which asks the next
    // process again before another commit syncs for it; then under load.
    let dying = |kill: u64| {
        let kill = kill.to_string();
        Process::serve(&data, &[&*environment, &[("DISK_KILL", &*kill)]].concat())
    };
    let mut process = dying(0);
    if all[0].step(&mut Clients::new(&process.channel, &token)).await {
        // Only a defect syncs no commit: it dies with the first that moves the log into the database.
        all = load(all, &process, &token, Duration::ZERO, |_| false).await;
    }
    process.end();
    let mut process = dying(500 + u64::try_from(rng.below(700)).unwrap());
    assert!(all[0].step(&mut Clients::new(&process.channel, &token)).await);
    all = load(all, &process, &token, Duration::ZERO, |_| false).await;
    process.end();

    // At last one after the other, so that no other commit syncs for it.
    let process = Process::serve(&data, &environment);
    for client in &mut all {
        assert!(client.step(&mut Clients::new(&process.channel, &token)).await);
    }
    load(all, &process, &token, Duration::ZERO, |answers| answers >= 300).await;
    assert!(process.terminate().success());

    let (log, key) = (Log::read(&log), root.join("data.key"));
    let run = Run { log, dir, before, key, token, _scratch: scratch };
    // The shim saw everything, or the model would not end up with what lies there.
    let mut disk = run.disk();
    run.log.records.iter().for_each(|record| disk.apply(record));
    let end = disk.image(Loss::None, rng);
    assert_eq!(end.keys().collect::<Vec<_>>(), ["credvault.db"], "the log is removed at the end");
    assert!(end["credvault.db"] == std::fs::read(data.join("credvault.db")).unwrap());
    run
}

/// Has all clients change things until `enough` says so of the number of answers, or the server is gone.
async fn load(
    all: Vec<Client>,
    process: &Process,
    token: &str,
    pause: Duration,
    mut enough: impl FnMut(usize) -> bool,
) -> Vec<Client> {
    let shared = Arc::new(Load::default());
    let mut tasks = JoinSet::new();
    for client in all {
        let clients = Clients::new(&crate::support::channel(process.address), token);
        tasks.spawn(client.run(clients, Arc::clone(&shared), pause));
    }
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let started = Instant::now();
    let mut back = Vec::new();
    while back.len() < CLIENTS {
        tokio::select! {
            _ = look.tick() => {
                assert!(started.elapsed() < Duration::from_mins(2), "the load has no end");
                if enough(shared.answers.load(Ordering::SeqCst)) {
                    shared.enough.store(true, Ordering::SeqCst);
                }
            }
            Some(client) = tasks.join_next() => back.push(client.unwrap()),
        }
    }
    back
}

/// What is wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Problem {
    /// A change that was answered is not there.
    Lost,
    /// The store does not open, its file is damaged, its chain is broken, or it holds what nobody asked for.
    Corrupt,
    /// State or password is not the one of the last audit entry.
    Differs,
}

/// What the images showed.
#[derive(Default)]
struct Report {
    images: usize,
    records: usize,
    syncs: usize,
    truncations: usize,
    answers: usize,
    found: BTreeMap<(Problem, Loss), usize>,
    first: BTreeMap<Problem, String>,
    seconds: f64,
}

impl Report {
    fn count(&self, problem: Problem) -> usize {
        self.found.iter().filter(|((it, _), _)| *it == problem).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, records, syncs, truncations, answers, found, first, seconds } = self;
        let [lost, corrupt, differs] =
            [Problem::Lost, Problem::Corrupt, Problem::Differs].map(|it| self.count(it));
        write!(
            f,
            "{images} images in {seconds:.1} s, of {records} records ({syncs} syncs, {truncations} \
             truncations) and {answers} answers: {lost} lost, {corrupt} corrupt, {differs} with another \
             state than their audit chain"
        )?;
        if found.is_empty() { Ok(()) } else { write!(f, "; {found:?}; first {first:?}") }
    }
}

impl Run {
    fn disk(&self) -> Disk<'_> {
        Disk::new(&self.log, &self.dir, "credvault.db", self.before.clone())
    }

    /// Where the power goes, ascending: half anywhere, the rest where it is most delicate.
    fn positions(&self, count: usize, rng: &mut Rng) -> Vec<usize> {
        let records = &self.log.records;
        let places = |is: fn(What) -> bool| {
            (0..records.len()).filter(|at| is(records[*at].what)).collect::<Vec<_>>()
        };
        let answers = places(|what| what == What::Note);
        let turns = places(|what| {
            matches!(what, What::Truncate { .. } | What::Unlink | What::Open { creates: true })
        });
        // The first answers of each process, when it may have found what no disk has.
        let mut fresh = Vec::new();
        for start in places(|what| matches!(what, What::Open { .. })) {
            fresh.extend(answers.iter().filter(|at| **at > start).take(4));
        }
        let mut positions = Vec::new();
        for number in 0..count {
            let of = |places: &[usize], rng: &mut Rng| places[rng.below(places.len())];
            let at = match number % 8 {
                0..4 => rng.below(records.len()),
                4 | 5 => of(&answers, rng),
                6 => (of(&turns, rng) + rng.below(40)).saturating_sub(20),
                _ => of(&fresh, rng),
            };
            positions.push(at.min(records.len() - 1) + 1);
        }
        positions.sort_unstable();
        positions
    }

    /// Makes images and looks into each, on all cores.
    fn images(&self, count: usize, seed: u64) -> Report {
        let started = Instant::now();
        let journal = journal::read(&self.log);
        let positions = self.positions(count, &mut Rng::new(seed));
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let is = |is: fn(What) -> bool| self.log.records.iter().filter(|it| is(it.what)).count();
        let report = Mutex::new(Report {
            images: count,
            records: self.log.records.len(),
            syncs: is(|what| what == What::Sync),
            truncations: is(|what| matches!(what, What::Truncate { .. })),
            answers: journal.values().flatten().filter(|it| it.answered.is_some()).count(),
            ..Report::default()
        });
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let (positions, journal, report) = (&positions, &journal, &report);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let scratch = scratch();
                    let (mut disk, mut done) = (self.disk(), 0);
                    let mine = positions.iter().enumerate().skip(worker).step_by(workers);
                    for (number, position) in mine {
                        while done < *position {
                            disk.apply(&self.log.records[done]);
                            done += 1;
                        }
                        let mut rng = Rng::new(seed ^ u64::try_from(number).unwrap());
                        let loss = Loss::ALL[rng.below(4)];
                        let dir = scratch.path().join(number.to_string());
                        lay_out(&dir, &disk.image(loss, &mut rng));
                        let checked = runtime.block_on(self.check(&dir, journal, *position));
                        if let Err((problem, what)) = checked {
                            let what = format!("image {number}, {loss:?} at {position}: {what}");
                            let mut report = report.lock().unwrap();
                            *report.found.entry((problem, loss)).or_default() += 1;
                            report.first.entry(problem).or_insert(what);
                        }
                        std::fs::remove_dir_all(&dir).unwrap();
                    }
                });
            }
        });
        let mut report = report.into_inner().unwrap();
        report.seconds = started.elapsed().as_secs_f64();
        report
    }

    /// Opens an image and holds it to what had been asked and answered when the power went.
    async fn check(
        &self,
        dir: &Path,
        journal: &BTreeMap<String, Vec<Change>>,
        position: usize,
    ) -> Result<(), (Problem, String)> {
        let corrupt = |what: &dyn fmt::Display| (Problem::Corrupt, what.to_string());
        let vault = open(&settings(dir, &self.key)).map_err(|error| corrupt(&error))?;
        let connection =
            Connection::open_with_flags(dir.join("credvault.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let verdict = connection.and_then(|connection| {
            connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
        });
        match verdict {
            Ok(verdict) if verdict == "ok" => {}
            Ok(verdict) => return Err(corrupt(&verdict)),
            Err(error) => return Err(corrupt(&error)),
        }
        let inside = Inside::of(&vault, &self.token).await.map_err(|error| corrupt(&error))?;
        let mut entries = inside.entries().await.map_err(|problem| corrupt(&problem))?;
        for (id, changes) in journal {
            let answered =
                changes.iter().filter(|it| it.answered.is_some_and(|at| at < position)).count();
            let asked = changes.iter().filter(|it| it.asked < position).count();
            let name = format!("accounts/acme/credentials/{id}");
            let found = entries.remove(&name).unwrap_or_default();
            if found.len() < answered {
                let what = format!("{id}: {} changes of {answered} answered", found.len());
                return Err((Problem::Lost, what));
            }
            if found.len() > asked
                || found.iter().zip(changes).any(|(entry, change)| entry.0 != change.reason)
            {
                return Err(corrupt(&format!("{id}: entries that nobody asked for: {found:?}")));
            }
            let last = found.len().checked_sub(1);
            let expected = last.and_then(|last| changes[last].after.as_ref());
            let version = last.map_or(0, |last| found[last].1);
            if version != expected.map_or(0, |state| state.version) {
                return Err((Problem::Differs, format!("{id}: the last entry is of {version}")));
            }
            inside.holds(id, expected).await.map_err(|what| (Problem::Differs, what))?;
        }
        if let Some((name, _)) = entries.into_iter().next() {
            return Err(corrupt(&format!("{name}, of which nobody knows")));
        }
        vault.close().await;
        Ok(())
    }
}

fn lay_out(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    std::fs::DirBuilder::new().mode(0o700).create(dir).unwrap();
    for (name, bytes) in files {
        let mut options = std::fs::File::options();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(dir.join(name)).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    }
}

/// The operations on a vault in this process, as the caller with the token.
pub(crate) struct Inside<'a> {
    vault: &'a Vault,
    caller: Caller,
    account: ResourceId,
}

impl<'a> Inside<'a> {
    pub(crate) async fn of(vault: &'a Vault, token: &str) -> Result<Self, Error> {
        let caller = vault.authenticate(token, "test".to_owned()).await?;
        Ok(Self { vault, caller, account: ResourceId::parse("acme").unwrap() })
    }

    fn scope<A: access::Action>(&self) -> Scope<A> {
        let Ok(scope) = access::authorize(&self.caller, &self.account) else {
            panic!("the token has every role")
        };
        scope
    }

    /// Reason and version after, of each entry of a resource, from a chain that is whole.
    pub(crate) async fn entries(&self) -> Result<BTreeMap<String, Vec<(String, u64)>>, String> {
        let owner = OwnerName::Account(self.account.clone());
        let Ok(scope) = access::authorize_owner::<access::ListAuditEntries>(&self.caller, &owner)
        else {
            panic!("the token has every role")
        };
        let chain = Chain::of_account(self.scope::<access::GetCredential>().account());
        let mut entries = BTreeMap::<_, Vec<_>>::new();
        let (mut last, mut token) = (None, String::new());
        for _ in 0..1_000 {
            let request = PageRequest { size: 200, token, arguments: Vec::new() };
            let page = self.vault.list_audit_entries(&scope, None, request).await;
            let page = page.map_err(|error| format!("{error:?}"))?;
            for linked in page.items {
                let link = credvault::audit::append(&chain, last.as_ref(), &linked.entry);
                if link != linked.link {
                    return Err(format!("the chain breaks at {}", link.sequence));
                }
                last = Some(link);
                let entry = linked.entry;
                entries
                    .entry(entry.resource)
                    .or_default()
                    .push((entry.reason, entry.version_after));
            }
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(entries);
            }
        }
        Err("the chain has no end".to_owned())
    }

    /// Whether a credential is as it should be, its password included.
    pub(crate) async fn holds(
        &self,
        id: &str,
        expected: Option<&journal::State>,
    ) -> Result<(), String> {
        let name = ResourceId::parse(id).unwrap();
        let got = match self.vault.get_credential(&self.scope(), &name).await {
            Ok(view) => {
                let it = view.credential;
                Some((it.version, it.description.as_str().to_owned()))
            }
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(format!("{id}: {error:?}")),
        };
        let wanted = expected.map(|it| (it.version, it.description.clone()));
        if got != wanted {
            return Err(format!("{id}: is {got:?} and should be {wanted:?}"));
        }
        let password = expected.and_then(|it| it.password.as_deref());
        let response = md5_response(id, REALM, password.unwrap_or("unknown"), "n0nce");
        let digest = Digest {
            username: Username::parse(id).unwrap(),
            realm: Realm::parse(REALM).unwrap(),
            method: Method::parse("REGISTER").unwrap(),
            uri: Uri::parse(&format!("sip:{REALM}")).unwrap(),
            nonce: Nonce::parse("n0nce").unwrap(),
            auth: None,
            algorithm: Algorithm::MD5,
        };
        let response = Response::parse(&response, Algorithm::MD5).unwrap();
        let presented = Presented::new(digest, response);
        let verified = self.vault.verify_sip_digest(&self.scope(), &presented).await;
        let verified = verified.map_err(|error| format!("{id}: {error:?}"))?;
        if verified.matched().is_some() == password.is_some() {
            Ok(())
        } else {
            Err(format!("{id}: the password of version {wanted:?} does not verify"))
        }
    }
}

async fn run(count: usize, environment: &[(&str, &str)]) -> Report {
    let seed = crate::seed();
    println!("seed {seed:#x}");
    let run = record(&mut Rng::new(seed), environment).await;
    let report = tokio::task::spawn_blocking(move || run.images(count, seed)).await.unwrap();
    println!("{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_power_loss_takes_what_was_answered() {
    let report = run(IMAGES, &[]).await;
    assert!(report.found.is_empty(), "{report}");
    assert!(report.answers >= 1_000 && report.truncations >= 3, "too little to prove anything");
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_unsettled_start_is_caught() {
    let report = run(IMAGES, &[("CREDVAULT_DEFECT", "unsettled-start")]).await;
    assert!(report.count(Problem::Lost) > 0, "{report}");
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_relaxed_sync_is_caught() {
    let report = run(IMAGES, &[("CREDVAULT_DEFECT", "relaxed-sync")]).await;
    assert!(report.count(Problem::Lost) > 0, "{report}");
}
