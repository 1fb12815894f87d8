//! I/O errors: each write, sync and truncation of a run fails once, and from then on.
//!
//! The process runs under `disk_shim.c`. Whatever fails, what it answered with OK is there afterwards, with its
//! record. After a failed sync it writes nothing more and ends: what the kernel says of the file from then on means
//! nothing, and a second sync that works would be a false OK.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use credvault::grpc::proto::{CreateCredentialRequest, Credential, UpdateCredentialRequest};

use crate::disk::{Log, What, compile_shim};
use crate::journal::{REALM, State};
use crate::power::{Inside, new_vault, open, scratch, settings};
use crate::support::process::credvault;
use crate::support::{Clients, channel, outcome};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Changes of a run: enough for commits of every kind, few enough to fail every call of it.
const CHANGES: usize = 16;

/// What never changes from run to run.
struct Setting {
    root: PathBuf,
    shim: PathBuf,
    token: String,
    defect: &'static str,
}

/// How a run ended.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    failed: usize,
    answered: usize,
    ended_by_itself: bool,
}

impl Setting {
    /// One run on a copy of the vault, in which calls fail as `fail` says.
    async fn run(&self, fail: &str) -> Result<Outcome, String> {
        let (data, log) = (self.root.join("data"), self.root.join("disk.log"));
        std::fs::remove_dir_all(&data).ok();
        std::fs::remove_file(&log).ok();
        copy(&self.root.join("template"), &data);
        let key = self.root.join("template.key");

        let mut command = credvault(["serve", "--listen", "127.0.0.1:0", "--log", "info"]);
        command.arg("--data-dir").arg(&data).arg("--key-file").arg(&key);
        command.env("LD_PRELOAD", &self.shim).env("DISK_DIR", &data).env("DISK_LOG", &log);
        command.env("DISK_FAIL", fail).env("CREDVAULT_DEFECT", self.defect);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut address = None::<SocketAddr>;
        let mut line = String::new();
        while address.is_none() && said.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains("taking calls") {
                address = line.split('"').find_map(|word| word.parse().ok());
            }
            line.clear();
        }
        let rest = std::thread::spawn(move || {
            let mut text = String::new();
            said.read_to_string(&mut text).ok();
            text
        });
        let mut answered = Ok(Vec::new());
        if let Some(address) = address {
            answered = change(&Clients::new(&channel(address), &self.token)).await;
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).output().unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
        let (said, answered) = (rest.join().unwrap(), answered?);

        let log = Log::read(&log);
        let failed = failures(&log, data.to_str().unwrap(), status.code())
            .map_err(|problem| format!("{problem}; {said}"))?;
        let settings = settings(&data, &key);
        let vault = open(&settings).map_err(|error| error.to_string())?;
        holds(&Inside::of(&vault, &self.token).await.map_err(|it| it.to_string())?, &answered)
            .await?;
        vault.close().await;
        let ended_by_itself = status.code() == Some(74);
        Ok(Outcome { failed, answered: answered.len(), ended_by_itself })
    }
}

/// How many calls failed. After a failed sync there is no other write, and exit code 74, or 1 from a start.
fn failures(log: &Log, dir: &str, code: Option<i32>) -> Result<usize, String> {
    let mut folders = BTreeMap::new();
    let (mut failed, mut sync_failed) = (0, false);
    for record in &log.records {
        match record.what {
            What::Open { .. } => {
                folders.insert(record.fd, log.data(record) == dir.as_bytes());
            }
            What::Failed { sync } => {
                failed += 1;
                // SQLite syncs the folder, too, and does not look whether that worked. The store did before it.
                sync_failed |= sync && !folders[&record.fd];
            }
            What::Write { .. } | What::Truncate { .. } if sync_failed => {
                return Err("it wrote on after a failed sync".to_owned());
            }
            _ => {}
        }
    }
    if sync_failed && !matches!(code, Some(74 | 1)) {
        return Err(format!("it ended with {code:?} after a failed sync"));
    }
    Ok(failed)
}

/// Asks for changes of two credentials in turn; the numbers of those that were answered with OK.
async fn change(clients: &Clients) -> Result<Vec<usize>, String> {
    let mut answered = Vec::new();
    for number in 0..CHANGES {
        let (id, reason) = (format!("line-{}", number % 2), format!("change {number}"));
        let (description, password) = (Some(reason.clone()), Some(format!("password {number}")));
        let create = CreateCredentialRequest {
            parent: "accounts/acme".to_owned(),
            credential_id: id.clone(),
            credential: Some(Credential {
                username: id.clone(),
                realm: REALM.to_owned(),
                description: description.clone(),
                ..Credential::default()
            }),
            password: password.clone(),
            reason: reason.clone(),
            ..CreateCredentialRequest::default()
        };
        let name = format!("accounts/acme/credentials/{id}");
        let update = UpdateCredentialRequest {
            credential: Some(Credential { name: name.clone(), description, ..Default::default() }),
            password,
            reason,
            ..UpdateCredentialRequest::default()
        };
        let exists = clients.get(&name).await.is_ok();
        let result = if exists {
            clients.update(update).await.map(drop)
        } else {
            clients.create(create).await.map(drop)
        };
        match outcome(&result).as_str() {
            "OK" => answered.push(number),
            // Refused, unknown, or nobody there any more.
            "ResourceExhausted STORAGE_FULL"
            | "Unavailable STORAGE_UNAVAILABLE retry 1s"
            | "Unavailable ?"
            | "Unknown ?"
            | "Cancelled ?" => {}
            other => return Err(format!("change {number} ended as {other}")),
        }
    }
    Ok(answered)
}

/// What was answered has its entry, and the state is that of the last entry.
async fn holds(inside: &Inside<'_>, answered: &[usize]) -> Result<(), String> {
    let entries = inside.entries().await?;
    for line in 0..2 {
        let id = format!("line-{line}");
        let found = entries.get(&format!("accounts/acme/credentials/{id}"));
        let found = found.map(Vec::as_slice).unwrap_or_default();
        for number in answered.iter().filter(|number| **number % 2 == line) {
            if !found.iter().any(|(reason, _)| *reason == format!("change {number}")) {
                return Err(format!("LOST: change {number} was answered; {found:?}"));
            }
        }
        let expected = found.last().map(|(reason, version)| State {
            version: *version,
            description: reason.clone(),
            password: Some(reason.replace("change", "password")),
        });
        inside.holds(&id, expected.as_ref()).await?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success(), "cannot copy the vault");
}

/// Fails the calls of a run one after the other, until one has no call left to fail.
async fn sweep(setting: &Setting, errno: i32, and_on: &str) -> Result<(usize, usize), String> {
    let mut ended = 0;
    for n in 1..5_000 {
        let fail = format!("{n}:{errno}{and_on}");
        let run =
            setting.run(&fail).await.map_err(|problem| format!("DISK_FAIL={fail}: {problem}"))?;
        if run.failed == 0 {
            if run.answered != CHANGES {
                return Err("not everything is answered when nothing fails".to_owned());
            }
            return Ok((n - 1, ended));
        }
        ended += usize::from(run.ended_by_itself);
    }
    Err("the runs have no end".to_owned())
}

async fn setting(scratch: &Path, defect: &'static str) -> Setting {
    let root = scratch.canonicalize().unwrap();
    let token = new_vault(&settings(&root.join("template"), &root.join("template.key"))).await;
    Setting { shim: compile_shim(&root), root, token, defect }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_failed_call_takes_what_was_answered() {
    let scratch = scratch();
    let setting = setting(scratch.path(), "").await;
    let mut points = 0;
    for (errno, and_on) in [(EIO, ""), (EIO, "+"), (ENOSPC, "")] {
        let (failed, ended) = sweep(&setting, errno, and_on).await.unwrap();
        println!(
            "errno {errno}{and_on}: {failed} calls failed, one a run; {ended} runs ended with 74"
        );
        points += failed;
    }
    assert!(points >= 300, "too few calls to prove anything: {points}");
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_swallow_sync_is_caught() {
    let scratch = scratch();
    let setting = setting(scratch.path(), "swallow-sync").await;
    let problem = sweep(&setting, EIO, "").await.expect_err("it should be caught");
    println!("{problem}");
    assert!(problem.contains("after a failed sync"), "{problem}");
}
