//! A full disk: no secret leaves without its record, reads go on, and it ends when there is room again.
//!
//! The vault and its log file lie on a small tmpfs. A file fills it up, rotations do the rest. To mount it the test
//! runs itself once more in a namespace of its own (`unshare`), whose mounts nobody else sees and which end with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use credvault::grpc::proto::{
    AuditEntry, CreateCredentialRequest, Credential, DeleteCredentialRequest,
    ListAuditEntriesRequest, ListCredentialsRequest, RotateCredentialRequest,
    UpdateCredentialRequest, VerifySipDigestRequest,
};
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::process::{Process, credvault};
use crate::support::random::Rng;
use crate::support::{Clients, channel, md5_response, refusal};

const REALM: &str = "sip.test";
const CREDENTIALS: usize = 8;
const CYCLES: usize = 5;

/// The services that cannot do their work without room, and the rest.
const WRITING: [&str; 3] = [
    "credvault.v1.CredentialService",
    "credvault.v1.ProviderService",
    "credvault.v1.AccessService",
];
const OTHERS: [&str; 3] = ["", "credvault.v1.UseService", "credvault.v1.AuditService"];

/// What the cycles showed.
#[derive(Debug, Default)]
struct Report {
    cycles: usize,
    rotations: usize,
    refused: usize,
    /// Changes that fitted where one before them had not.
    accepted_after_a_refusal: usize,
    slowest_recovery: Duration,
}

/// The vault on the small disk, and what its client was answered.
struct Small {
    disk: PathBuf,
    process: Process,
    environment: Vec<(&'static str, String)>,
    /// By credential id: all passwords in their order. The version is the place, from 1.
    passwords: BTreeMap<String, Vec<String>>,
    report: Report,
}

fn start(disk: &Path, environment: &[(&'static str, String)]) -> Process {
    let data_dir = disk.join("credvault-data");
    let mut command = credvault(["dev", "--listen", "127.0.0.1:0", "--log", "debug"]);
    command.arg("--data-dir").arg(&data_dir);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start(command, data_dir, disk.join("credvault.log"))
}

fn name(id: &str) -> String {
    format!("accounts/dev/credentials/{id}")
}

impl Small {
    fn clients(&self) -> Clients {
        self.process.clients()
    }

    async fn create(&mut self) {
        let clients = self.clients();
        for number in 0..CREDENTIALS {
            let id = format!("line-{number}");
            let (_, issued) = clients.create(creation(&id)).await.unwrap();
            self.passwords.insert(id, vec![issued.unwrap().password]);
        }
    }

    /// Fills the disk but for `left` bytes.
    fn fill(&self, left: u64) {
        let filler = self.disk.join("filler");
        let mut file = File::options().create(true).append(true).open(&filler).unwrap();
        let page = [0; 4096];
        for _ in 0..10_000 {
            if file.write_all(&page).is_err() {
                break;
            }
        }
        let full = file.metadata().unwrap().len();
        file.set_len(full.saturating_sub(left)).unwrap();
    }

    /// Rotates everything, all at once, until nothing fits any more.
    async fn rotate_until_full(&mut self) -> Result<(), String> {
        let mut refused = 0;
        for _ in 0..300 {
            let clients = self.clients();
            let ids = self.passwords.keys().cloned().collect::<Vec<_>>();
            let rotations = ids.iter().map(|id| {
                let request = RotateCredentialRequest { name: name(id), ..Default::default() };
                clients.rotate(request)
            });
            for (id, result) in ids.iter().zip(futures_util::future::join_all(rotations).await) {
                match result {
                    Ok((_, issued)) => {
                        self.passwords.get_mut(id).unwrap().push(issued.password);
                        self.report.rotations += 1;
                        self.report.accepted_after_a_refusal += usize::from(refused > 0);
                    }
                    Err(status) => {
                        let (code, reason, _) = refusal::<()>(Err(status.clone()));
                        if (code, reason.as_str()) != (Code::ResourceExhausted, "STORAGE_FULL") {
                            return Err(format!("{id}: {status}"));
                        }
                        refused += 1;
                    }
                }
            }
            if refused >= 10 * CREDENTIALS {
                self.report.refused += refused;
                return Ok(());
            }
        }
        Err("the disk does not get full".to_owned())
    }

    /// Asks for each kind of change, one at a time, until it is refused: what a larger commit had to give up
    /// again is room in the log, and smaller ones still fit there.
    async fn is_refused_all_changes(&mut self) -> Result<(), String> {
        let clients = self.clients();
        let mut number = 0;
        for kind in ["rotate", "update", "create", "delete"] {
            let refused = loop {
                number += 1;
                if number > 500 {
                    return Err(format!("{kind}: the disk is not full"));
                }
                self.fill(0);
                let last = self.passwords.keys().next_back().unwrap().clone();
                let (name, new) =
                    (name(&last), format!("more-{:04}-{number}", self.report.rotations));
                let done = match kind {
                    "rotate" => {
                        let request = RotateCredentialRequest { name, ..Default::default() };
                        let issued = clients.rotate(request).await;
                        issued.map(|(_, issued)| {
                            self.passwords.get_mut(&last).unwrap().push(issued.password);
                        })
                    }
                    "update" => {
                        let description = Some(new);
                        let credential = Credential { name, description, ..Default::default() };
                        let credential = Some(credential);
                        let request = UpdateCredentialRequest { credential, ..Default::default() };
                        clients.update(request).await.map(drop)
                    }
                    "create" => clients.create(creation(&new)).await.map(|(_, issued)| {
                        self.passwords.insert(new, vec![issued.unwrap().password]);
                    }),
                    _ => {
                        let request = DeleteCredentialRequest { name, ..Default::default() };
                        let done = clients.delete(request).await;
                        done.inspect(|()| drop(self.passwords.remove(&last)))
                    }
                };
                match done {
                    Ok(()) => self.report.accepted_after_a_refusal += 1,
                    Err(status) => break refusal::<()>(Err(status)),
                }
            };
            if (refused.0, refused.1.as_str()) != (Code::ResourceExhausted, "STORAGE_FULL") {
                return Err(format!("{kind}: {refused:?}"));
            }
        }
        Ok(())
    }

    /// Beside the vault that runs.
    fn doctor_says_so(&self) -> Result<(), String> {
        let mut doctor = credvault(["doctor", "--data-dir"]);
        let output = doctor.arg(&self.process.data_dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = output.status.code() == Some(1) && said.contains("✗ disk");
        if found { Ok(()) } else { Err(format!("doctor does not see the full disk: {said}")) }
    }

    /// Everything that was answered is there, with its record, and can be read and used.
    async fn holds_what_was_answered(&self) -> Result<(), String> {
        let mut clients = self.clients();
        let recorded = records(&mut clients).await?;
        let parent = "accounts/dev".to_owned();
        let request = ListCredentialsRequest { parent, page_size: 200, ..Default::default() };
        let listed = clients.credentials.list_credentials(request).await;
        let listed = listed.map_err(|status| format!("list: {status}"))?.into_inner().credentials;
        if listed.len() != self.passwords.len() {
            return Err(format!("{} credentials are listed", listed.len()));
        }
        for (id, passwords) in &self.passwords {
            let versions = recorded.get(&name(id)).cloned().unwrap_or_default();
            let answered = (1..).take(passwords.len()).collect::<Vec<i64>>();
            if versions != answered {
                return Err(format!(
                    "LOST: {id}: secrets of {} versions were answered, and there are records of {}",
                    answered.len(),
                    versions.len()
                ));
            }
            let got = clients.get(&name(id)).await.map_err(|status| format!("get: {status}"))?;
            if got.version != i64::try_from(passwords.len()).unwrap() {
                return Err(format!("{id} is at version {}", got.version));
            }
            for (age, password) in passwords.iter().rev().take(2).enumerate() {
                if verifies(&mut clients, id, password).await? != (age == 0) {
                    return Err(format!("{id}: the password {age} before the last"));
                }
            }
        }
        Ok(())
    }
}

/// The versions of all changes of credentials, as the audit log has them.
async fn records(clients: &mut Clients) -> Result<BTreeMap<String, Vec<i64>>, String> {
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    let mut page_token = String::new();
    for _ in 0..1_000 {
        let request = ListAuditEntriesRequest {
            parent: "accounts/dev".to_owned(),
            page_size: 200,
            page_token,
            ..Default::default()
        };
        let page = clients.audit.list_audit_entries(request).await;
        let page = page.map_err(|status| format!("list the audit log: {status}"))?.into_inner();
        let secrets = ["CreateCredential", "RotateCredential"];
        let of_secrets =
            |entry: &AuditEntry| entry.outcome == "OK" && secrets.contains(&entry.method.as_str());
        for entry in page.entries.into_iter().filter(of_secrets) {
            versions.entry(entry.resource).or_default().push(entry.version_after);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(versions);
        }
    }
    Err("the audit log has no end".to_owned())
}

fn creation(id: &str) -> CreateCredentialRequest {
    let credential =
        Credential { username: id.to_owned(), realm: REALM.to_owned(), ..Credential::default() };
    CreateCredentialRequest {
        parent: "accounts/dev".to_owned(),
        credential_id: id.to_owned(),
        credential: Some(credential),
        ..CreateCredentialRequest::default()
    }
}

async fn verifies(clients: &mut Clients, id: &str, password: &str) -> Result<bool, String> {
    let request = VerifySipDigestRequest {
        parent: "accounts/dev".to_owned(),
        username: id.to_owned(),
        realm: REALM.to_owned(),
        method: "REGISTER".to_owned(),
        uri: format!("sip:{REALM}"),
        nonce: "n0nce".to_owned(),
        response: md5_response(id, REALM, password, "n0nce"),
        ..VerifySipDigestRequest::default()
    };
    let answer = clients.uses.verify_sip_digest(request).await;
    Ok(answer.map_err(|status| format!("verify: {status}"))?.into_inner().valid)
}

type Watch = Streaming<HealthCheckResponse>;

async fn watch(process: &Process, service: &str) -> Watch {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel(process.address)).watch(request).await.unwrap().into_inner()
}

/// Waits until a service says so, for at most 5 s.
async fn says(watch: &mut Watch, wanted: ServingStatus) -> Result<(), String> {
    let said = async {
        while let Ok(Some(answer)) = watch.message().await {
            if answer.status() == wanted {
                return true;
            }
        }
        false
    };
    match tokio::time::timeout(Duration::from_secs(5), said).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("the watch ended".to_owned()),
        Err(_) => Err(format!("not {wanted:?} within 5 s")),
    }
}

/// Fills the disk and frees it, again and again, then with a kill in between.
async fn cycles(disk: &Path, defect: &str) -> Result<Report, String> {
    let environment =
        if defect.is_empty() { Vec::new() } else { vec![("CREDVAULT_DEFECT", defect.to_owned())] };
    let mut rng = Rng::new(crate::seed());
    let (process, disk) = (start(disk, &[]), disk.to_owned());
    let passwords = BTreeMap::new();
    let mut small = Small { disk, process, environment, passwords, report: Report::default() };
    small.create().await;
    small.process.kill();
    small.process = start(&small.disk, &small.environment);
    for cycle in 1..=CYCLES {
        let mut watches = Vec::new();
        for service in WRITING {
            let mut watch = watch(&small.process, service).await;
            says(&mut watch, ServingStatus::Serving).await?;
            watches.push(watch);
        }
        // What the log has taken it keeps for half a minute, so most of the cycles leave it little.
        let left = if cycle == 1 { 1_000 } else { rng.below(250) };
        small.fill(u64::try_from(left).unwrap() * 1024);
        let filled = small.rotate_until_full().await;
        // In both cases: a vault that answers before it commits never says that the disk is full.
        small.holds_what_was_answered().await?;
        filled?;
        small.is_refused_all_changes().await?;
        small.doctor_says_so()?;
        for watch in &mut watches {
            says(watch, ServingStatus::NotServing).await?;
        }
        for service in OTHERS {
            let mut watch = watch(&small.process, service).await;
            says(&mut watch, ServingStatus::Serving).await?;
        }
        small.holds_what_was_answered().await?;

        let freed = Instant::now();
        if cycle == CYCLES {
            // Killed while it is full; the next process finds room.
            small.process.kill();
            std::fs::remove_file(small.disk.join("filler")).unwrap();
            small.process = start(&small.disk, &small.environment);
        } else {
            std::fs::remove_file(small.disk.join("filler")).unwrap();
            // Nobody brings a change meanwhile: it has to find out by itself.
            for watch in &mut watches {
                says(watch, ServingStatus::Serving).await?;
            }
            small.report.slowest_recovery = small.report.slowest_recovery.max(freed.elapsed());
        }
        small.holds_what_was_answered().await?;
        let (_, issued) = small
            .clients()
            .rotate(RotateCredentialRequest { name: name("line-0"), ..Default::default() })
            .await
            .map_err(|status| format!("after there is room again: {status}"))?;
        small.passwords.get_mut("line-0").unwrap().push(issued.password);
        small.report.cycles = cycle;
    }
    small.holds_what_was_answered().await?;
    Ok(small.report)
}

/// Runs `test` of this program once more, in a namespace where it may mount, unless this is that run. Returns the
/// small disk in the inner run, and None in the outer one, when the inner one went well.
#[expect(clippy::disallowed_methods, reason = "a test tells itself that it is inside")]
fn inside(test: &str) -> Option<tempfile::TempDir> {
    if std::env::var_os("DURABILITY_INSIDE").is_some() {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(dir.path());
        assert!(mount.status().unwrap().success(), "cannot mount a tmpfs");
        return Some(dir);
    }
    let can = |flags: &str| {
        let tried = Command::new("unshare").args([flags, "true"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    // As nobody special, or as root where users may not make namespaces.
    let flags = ["-Urm", "-m"].into_iter().find(|flags| can(flags));
    let flags =
        flags.expect("a namespace with mounts of its own: allow user namespaces, or run as root");
    let mut command = Command::new("unshare");
    command.arg(flags).arg(std::env::current_exe().unwrap()).env("DURABILITY_INSIDE", "1");
    let ran = command.args(["--exact", test, "--nocapture"]).status().unwrap();
    assert!(ran.success(), "{test} fails inside its namespace");
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_no_secret() {
    let Some(disk) = inside("full::a_full_disk_costs_no_secret") else { return };
    let report = cycles(disk.path(), "").await.unwrap();
    println!("{report:?}");
    assert_eq!(report.cycles, CYCLES);
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_answer_before_commit_is_caught() {
    let Some(disk) = inside("full::planted_answer_before_commit_is_caught") else { return };
    let problem =
        cycles(disk.path(), "answer-before-commit").await.expect_err("it should be caught");
    println!("{problem}");
    assert!(problem.contains("LOST"), "{problem}");
}
