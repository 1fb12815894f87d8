//! `credvault credentials import`: many credentials, interruptions, and lines that cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use credvault::access::Role;
use credvault::grpc::proto::VerifySipDigestRequest;

use crate::support::cli::Ran;
use crate::support::process::credvault;
use crate::support::{TestVault, md5_response};

const REALM: &str = "sip.test";

/// A vault, a file of users, and the file of what was created.
struct Load {
    vault: TestVault,
    token: String,
    dir: tempfile::TempDir,
    /// What the commands have wrong.
    defect: &'static str,
}

impl Load {
    async fn start(rows: &str) -> Self {
        let vault = TestVault::start().await;
        let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
        let dir = tempfile::tempdir().unwrap();
        let phones = dir.path().join("phones.csv");
        fs::write(&phones, rows).unwrap();
        fs::set_permissions(&phones, fs::Permissions::from_mode(0o600)).unwrap();
        Self { vault, token, dir, defect: "" }
    }

    fn command(&self) -> Command {
        self.like(credvault(["credentials", "import", "phones.csv", "--out", "out.csv"]))
    }

    fn like(&self, mut command: Command) -> Command {
        command
            .current_dir(self.dir.path())
            .env("CREDVAULT_ADDRESS", self.vault.address.to_string());
        command.env("CREDVAULT_TOKEN", &self.token).env("CREDVAULT_ACCOUNT", "acme");
        command.env("CREDVAULT_DEFECT", self.defect);
        command
    }

    fn run(&self) -> Ran {
        Ran::from(self.command().output().unwrap())
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out.csv")
    }

    /// Who stands in the file of what was created, with the password there.
    fn written(&self) -> BTreeMap<String, String> {
        let mut lines = BTreeMap::new();
        for line in fs::read_to_string(self.out()).unwrap().lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [name, username, realm, password] = fields[..] else { panic!("{line}") };
            assert!(name.starts_with("accounts/acme/credentials/") && realm == REALM, "{line}");
            let before = lines.insert(username.to_owned(), password.to_owned());
            assert_eq!(before, None, "{username} stands there twice");
        }
        lines
    }

    /// Starts it, and waits until it has written something.
    fn begin(&self) -> Interrupted {
        let child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let child = Interrupted(Some(child));
        let began = Instant::now();
        while lines(&self.out()) < 20 {
            assert!(began.elapsed() < Duration::from_secs(30), "nothing is written");
            std::thread::yield_now();
        }
        child
    }
}

/// An import under way. Killed when dropped, so that a test that fails leaves none behind.
struct Interrupted(Option<Child>);

impl Drop for Interrupted {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

fn users(count: usize) -> String {
    let rows: Vec<String> = (0..count).map(|n| format!("user-{n},{REALM}\n")).collect();
    format!("username,realm\n{}", rows.concat())
}

/// Users whose password, as it is written, is not the one that the vault has.
async fn wrong(load: &Load) -> BTreeSet<String> {
    let uses = load.vault.acme().await.uses;
    let mut wrong = BTreeSet::new();
    for (username, password) in load.written() {
        let request = VerifySipDigestRequest {
            parent: "accounts/acme".to_owned(),
            response: md5_response(&username, REALM, &password, "n"),
            username: username.clone(),
            realm: REALM.to_owned(),
            method: "REGISTER".to_owned(),
            uri: format!("sip:{REALM}"),
            nonce: "n".to_owned(),
            ..VerifySipDigestRequest::default()
        };
        let answer = uses.clone().verify_sip_digest(request).await.unwrap().into_inner();
        if !answer.valid {
            wrong.insert(username);
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_lines_are_created_and_their_passwords_written_for_their_owner_alone() {
    let load = Load::start(
        "id,username,realm,password,description\n\
                            desk-1,one,sip.test,,\"a, b\"\n\
                            ,two,sip.test,short-pw1,\n",
    )
    .await;
    let ran = load.run();
    ran.says(
        0,
        &[
            "2 credentials created in accounts/acme, 0 lines failed",
            "1 passwords, the first in line 3",
        ],
    );
    assert!(ran.out.is_empty() && ran.err.contains("2 of 2 after"), "{ran:?}");
    assert_eq!(fs::metadata(load.out()).unwrap().permissions().mode() & 0o777, 0o600);
    let written = load.written();
    assert_eq!((written["one"].len(), written["two"].as_str()), (24, ""));
    assert_eq!(
        wrong(&load).await,
        BTreeSet::from(["two".to_owned()]),
        "what you brought is not written"
    );
    assert_eq!(fs::read_dir(load.dir.path()).unwrap().count(), 2, "nothing else is left");
    // Once more changes nothing.
    load.run().says(0, &["2 are in out.csv already", "0 credentials created"]);
    assert_eq!(load.written(), written);
    let mut json = load.command();
    let json = Ran::from(json.args(["--output", "json"]).output().unwrap()).json();
    assert_eq!(
        json,
        serde_json::json!({"created": 0, "before": 2, "failed": 0, "finished": true, "failures": []})
    );
    // Others may not read passwords, nor is a file of another account gone on with.
    let phones = load.dir.path().join("phones.csv");
    fs::set_permissions(&phones, fs::Permissions::from_mode(0o644)).unwrap();
    load.run().says(2, &["others may read it", "chmod 600 phones.csv"]);
    fs::write(&phones, "username,realm\nthree,sip.test\n").unwrap();
    load.vault.token("beta", &[Role::AccountAdmin]).await;
    let mut other = load.command();
    other
        .env("CREDVAULT_ACCOUNT", "beta")
        .env("CREDVAULT_TOKEN", load.vault.token("beta", &[Role::AccountAdmin]).await);
    Ran::from(other.output().unwrap())
        .says(2, &["out.csv is of accounts/acme; name another with --out"]);
    // Who stands in the file and is not asked for does not count.
    let piped = credvault(["credentials", "import", "-", "--out", "out.csv"]);
    let piped = Ran::with_input(load.like(piped), "username,realm\nthree,sip.test\n");
    piped.says(0, &["1 of 1 after", "1 credentials created"]);
    assert!(!piped.err.contains("already"), "{piped:?}");
    assert_eq!(load.written().len(), 3);
}

/// Kills an import, takes answers away that were written, and goes on; what is wrong then.
async fn killed_and_gone_on(defect: &'static str) -> Result<(), String> {
    const COUNT: usize = 3000;
    let load = Load { defect, ..Load::start(&users(COUNT)).await };
    let mut killed = load.begin();
    killed.0.as_mut().unwrap().kill().unwrap();
    killed.0.take().unwrap().wait().unwrap();
    let kept = load.written().len();
    assert!(kept < COUNT, "it was not interrupted");
    // Answers that were lost on the way, and a line that was cut off.
    let text = fs::read_to_string(load.out()).unwrap();
    let cut: Vec<&str> = text.lines().take(kept - 5).collect();
    fs::write(load.out(), format!("{}\naccounts/acme/creden", cut.join("\n"))).unwrap();
    // Its lines stand elsewhere now.
    let phones = users(COUNT);
    let (header, rows) = phones.split_once('\n').unwrap();
    let turned: Vec<&str> = rows.lines().rev().collect();
    fs::write(load.dir.path().join("phones.csv"), format!("{header}\n{}\n", turned.join("\n")))
        .unwrap();

    let ran = load.run();
    let written = load.written();
    let all = (0..COUNT).map(|n| format!("user-{n}"));
    let missing: Vec<String> = all.filter(|user| !written.contains_key(user)).collect();
    let wrong = wrong(&load).await;
    if ran.status != 0 || !missing.is_empty() || !wrong.is_empty() {
        return Err(format!("missing: {missing:?}, wrong: {wrong:?}, {}", ran.err));
    }
    ran.says(0, &["cut off", "are in out.csv already", "0 lines failed"]);
    let is_tenth = |line: &&str| line.contains(" of ") && line.contains(" after ");
    assert_eq!(ran.err.lines().filter(is_tenth).count(), 10, "{ran:?}");
    assert_eq!(written.len(), COUNT);
    assert_eq!(fs::read_dir(load.dir.path()).unwrap().count(), 2, "nothing else is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_was_killed_goes_on_and_no_password_is_lost() {
    killed_and_gone_on("").await.unwrap();
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_forgotten_request_ids_are_caught() {
    let problem = killed_and_gone_on("forget-import").await.unwrap_err();
    assert!(
        problem.contains("missing: [\"user-") && problem.contains("ALREADY_EXISTS"),
        "{problem}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_finishes_what_is_under_way_and_says_how_to_go_on() {
    let load = Load::start(&users(3000)).await;
    let mut stopped = load.begin();
    let child = stopped.0.take().unwrap();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.says(2, &["Stopped", "Run the same command again"]);
    let kept = load.written();
    assert!(kept.len() < 3000 && wrong(&load).await.is_empty(), "{}", kept.len());
    load.run().says(0, &["0 lines failed"]);
    let written = load.written();
    assert_eq!(written.len(), 3000);
    assert!(
        kept.iter().all(|(username, password)| written[username] == *password),
        "none was rotated"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_cannot_be_does_not_hold_up_the_others() {
    let load = Load::start(&users(30)).await;
    let mut taken = crate::credentials::create("user-7");
    taken.credential.as_mut().unwrap().realm = REALM.to_owned();
    load.vault.acme().await.create(taken).await.unwrap();
    let ran = load.run();
    ran.says(1, &["line 9: ", "(ALREADY_EXISTS)", "29 credentials created", "1 lines failed"]);
    assert_eq!(load.written().len(), 29);
    // All that failed are told, in their order.
    fs::remove_file(load.out()).unwrap();
    let mut again = load.command();
    let again = Ran::from(again.args(["--output", "json"]).output().unwrap());
    let told: Vec<u64> = again
        .err
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.split(':').next()?.parse().ok())
        .collect();
    assert_eq!(told, (2..32).collect::<Vec<u64>>(), "{again:?}");
    let json = again.json();
    assert_eq!((&json["failed"], &json["failures"][29]["line"]), (&30.into(), &31.into()));
    assert!(json["failures"][0]["problem"].as_str().unwrap().ends_with("(ALREADY_EXISTS)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_created_where_all_would_fail() {
    let mut load = Load::start("username,realm\nuser-1,sip.test\nuser 2,sip.test\n").await;
    load.run().says(2, &["line 3 of phones.csv: username", "nothing was created"]);
    assert!(!load.out().exists());
    fs::write(load.dir.path().join("phones.csv"), users(500)).unwrap();
    let admin = load.token;
    load.token = load.vault.token("acme", &[Role::Verifier]).await;
    load.run().says(2, &["ROLE_MISSING", "credvault tokens create"]);
    load.token = load.vault.token("acme", &[Role::Reader]).await;
    let reader = load.run();
    reader.says(2, &["ROLE_MISSING", "--role account-admin`"]);
    assert!(!reader.err.contains("Run the same command again"), "{reader:?}");
    load.token = admin;
    fs::set_permissions(load.out(), fs::Permissions::from_mode(0o644)).unwrap();
    load.run().says(2, &["chmod 600"]);
    fs::set_permissions(load.out(), fs::Permissions::from_mode(0o600)).unwrap();
    let mut nowhere = load.command();
    nowhere.env("CREDVAULT_ADDRESS", "127.0.0.1:1");
    Ran::from(nowhere.output().unwrap()).says(2, &["no vault answers"]);
    load.run().says(0, &["500 credentials created"]);
}
