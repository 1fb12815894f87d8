//! `credvault credentials watch`, as people and scripts run it: lines as changes come, over a restart of the vault, and
//! the way to go on later.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use credvault::access::Role;
use serde_json::Value;

use crate::credentials::{create, delete, rotate};
use crate::support::cli::Ran;
use crate::support::process::credvault;
use crate::support::{Clients, TestVault, channel};

/// A folder's worth of surroundings for commands of an admin of `accounts/acme`.
struct Desk {
    address: String,
    token: String,
}

impl Desk {
    fn command(&self, words: &str) -> Command {
        let mut command = credvault(["credentials", "watch"]);
        command.args(words.split_whitespace());
        command.env("CREDVAULT_ADDRESS", &self.address).env("CREDVAULT_ACCOUNT", "acme");
        command.env("CREDVAULT_TOKEN", &self.token);
        command
    }

    fn run(&self, words: &str) -> Ran {
        Ran::from(self.command(words).output().unwrap())
    }
}

/// A watch under way. Killed when dropped, so that a test that fails leaves none behind.
struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watch {
    fn begin(desk: &Desk, words: &str) -> Self {
        let mut command = desk.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Ctrl-C; what it says beside its lines.
    fn end(mut self) -> String {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn desk() -> (TestVault, Desk, Clients) {
    let mut vault = TestVault::start().await;
    // Where it is found again.
    vault.options.listen = Some(vault.address.to_string());
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let acme = Clients::new(&channel(vault.address), &token);
    let desk = Desk { address: vault.address.to_string(), token };
    (vault, desk, acme)
}

fn named(id: &str) -> credvault::grpc::proto::CreateCredentialRequest {
    let credential_id = id.to_owned();
    credvault::grpc::proto::CreateCredentialRequest { credential_id, ..create(id) }
}

/// The token in `--resume TOKEN`.
fn token(said: &str) -> &str {
    let (_, token) = said.rsplit_once("credvault credentials watch --resume ").unwrap();
    token.trim_end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_prints_each_change_goes_on_after_a_restart_and_says_where_it_was() {
    let (vault, desk, acme) = desk().await;
    acme.create(named("alice")).await.unwrap();
    let mut watch = Watch::begin(&desk, "");
    assert_eq!(watch.line(), "2026-05-01T12:00:00Z  alice  alice@sip.test  version 1\n");
    acme.rotate(rotate("accounts/acme/credentials/alice")).await.unwrap();
    assert_eq!(watch.line(), "2026-05-01T12:00:00Z  alice  alice@sip.test  version 2\n");

    let vault = vault.restart().await;
    let acme = Clients::new(&channel(vault.address), &desk.token);
    acme.delete(delete("accounts/acme/credentials/alice")).await.unwrap();
    let line = watch.line();
    assert!(line.ends_with("Z  alice  deleted\n"), "{line}");
    let said = watch.end();
    for told in ["That is all so far", "the vault stops", "STOPPING", "going on in"] {
        assert!(said.contains(told), "{said}");
    }
    acme.create(named("bob")).await.unwrap();
    let since = desk.run(&format!("--once --resume {}", token(&said)));
    since.says(0, &["To go on from here"]);
    assert_eq!(since.out, "2026-05-01T12:00:00Z  bob  bob@sip.test  version 1\n");
    let nothing = desk.run(&format!("--once --resume {}", token(&since.err)));
    assert_eq!((nothing.status, nothing.out.as_str()), (0, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_gets_an_object_a_line_and_whoever_may_not_is_told_what_to_type() {
    let (vault, desk, acme) = desk().await;
    acme.create(named("alice")).await.unwrap();
    let mut watch = Watch::begin(&desk, "--output json");
    let first = watch.json();
    assert_eq!(first["credential"]["username"], "alice");
    let caught_up = watch.json();
    assert_eq!(caught_up["caughtUp"], true);
    acme.delete(delete("accounts/acme/credentials/alice")).await.unwrap();
    let last = watch.json();
    assert_eq!(last["deleted"], "accounts/acme/credentials/alice");
    let said = watch.end();
    assert_eq!(token(&said), last["resumeToken"].as_str().unwrap());

    desk.run("--once --resume x").says(1, &["INVALID_FIELD", "resume_token", "without one"]);
    let auditor = Desk { token: vault.token("acme", &[Role::Auditor]).await, ..desk };
    auditor.run("").says(1, &["ROLE_MISSING", "--role reader"]);
    let nobody = Desk { address: "127.0.0.1:1".to_owned(), ..auditor };
    nobody.run("").says(1, &["no vault answers at 127.0.0.1:1"]);
}
