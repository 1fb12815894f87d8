//! `credvault rotate`: a new password reaches where it should go, whatever breaks on the way, and only then the old one
//! is given up.

pub(crate) mod proxy;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use credvault::access::Role;
use jiff::SignedDuration;

use crate::support::cli::{Ran, words};
use crate::support::process::credvault;
use crate::support::{TestVault, md5_response};
use proxy::{Fate, Proxy};

const REALM: &str = "sip.test";

/// A vault with `desk-1`, and a folder in which somebody types commands.
pub(crate) struct Desk {
    pub(crate) vault: TestVault,
    pub(crate) token: String,
    pub(crate) dir: tempfile::TempDir,
    /// The first password of `desk-1`.
    pub(crate) first: String,
}

impl Desk {
    pub(crate) async fn start() -> Self {
        let vault = TestVault::start().await;
        let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
        let mut desk =
            Self { vault, token, dir: tempfile::tempdir().unwrap(), first: String::new() };
        let created = desk.run("credentials create desk-1 --username desk-1 --realm sip.test");
        created.says(0, &["version 1"]);
        created.out.trim().clone_into(&mut desk.first);
        desk
    }

    /// The words of a command; what stands behind ` -- ` is for a shell.
    pub(crate) fn command(&self, typed: &str) -> Command {
        let (typed, script) = match typed.split_once(" -- ") {
            Some((typed, script)) => (typed, Some(script)),
            None => (typed, None),
        };
        let mut command = credvault(typed.split(' '));
        if let Some(script) = script {
            command.args(["--", "sh", "-c", script]);
        }
        command.current_dir(self.dir.path());
        command.env("CREDVAULT_ADDRESS", self.vault.address.to_string());
        command.env("CREDVAULT_TOKEN", &self.token).env("CREDVAULT_ACCOUNT", "acme");
        command
    }

    pub(crate) fn run(&self, typed: &str) -> Ran {
        Ran::from(self.command(typed).output().unwrap())
    }

    /// Types it with the vault elsewhere.
    fn at(&self, proxy: &Proxy, typed: &str) -> Command {
        let mut command = self.command(typed);
        command.env("CREDVAULT_ADDRESS", proxy.address.to_string());
        command
    }

    /// Which of these passwords a phone may use now.
    pub(crate) fn takes<const N: usize>(&self, passwords: [&str; N]) -> [bool; N] {
        passwords.map(|password| {
            let response = md5_response("desk-1", REALM, password, "n");
            let ran = self.run(&format!(
                "credentials verify-digest --username desk-1 --realm {REALM} --method REGISTER --uri sip:{REALM} \
                 --nonce n --response {response}"
            ));
            ran.status == 0
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that must be its owner's alone, without the end of its line.
    pub(crate) fn own(&self, name: &str) -> String {
        let mode = fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
        fs::read_to_string(self.path(name)).unwrap().trim_end().to_owned()
    }

    /// What lies in the folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let listed = fs::read_dir(self.dir.path()).unwrap();
        let mut files: Vec<String> = listed.map(|entry| name(entry.unwrap())).collect();
        files.sort();
        files
    }

    /// The version that is active.
    fn version(&self) -> String {
        let answer = self.run("credentials get desk-1 --output json").json();
        answer["credential"]["version"].as_str().unwrap().to_owned()
    }

    /// The newest rotation, as it is listed, and its state.
    pub(crate) fn newest(&self) -> (String, String) {
        let listed = self.run("rotations list desk-1").out;
        // The clock stands still, so they are told apart by their versions.
        let version = |row: &Vec<&str>| row[2].parse::<u32>().unwrap();
        let newest = listed.lines().skip(1).map(words).max_by_key(version).unwrap();
        (newest[0].to_owned(), newest[1].to_owned())
    }
}

/// A command under way. Killed when dropped, so that a test that fails leaves none behind.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_delivered_then_confirmed_and_the_old_password_is_dead() {
    let desk = Desk::start().await;
    let ran = desk.run("rotate desk-1 --reason weekly");
    ran.says(0, &["desk-1: version 2, confirmed; the old one is dead", "not shown again"]);
    let printed = ran.out.trim_end();
    assert!(ran.out.lines().count() == 1 && !ran.err.contains(printed), "{ran:?}");
    assert_eq!(desk.takes([&desk.first, printed]), [false, true]);
    let log = desk.vault.acme().await.audit_log("acme").await;
    let entries: Vec<_> = log.iter().map(|it| (it.method.as_str(), it.reason.as_str())).collect();
    assert!(entries.ends_with(&[("RotateCredential", "weekly"), ("ConfirmRotation", "weekly")]));
    assert!(log.iter().any(|entry| entry.detail.contains("sealed for key")), "{entries:?}");

    let ran = desk.run("rotate desk-1 --out new.password --overlap 1h --password-length 32");
    let says = "version 3, confirmed; the old one works until 2026-05-01T13:00:00Z; its password is in new.password";
    ran.says(0, &[says]);
    let file = desk.own("new.password");
    assert_eq!(
        (ran.out.as_str(), file.len(), desk.files()),
        ("", 32, vec!["new.password".to_owned()])
    );
    assert_eq!(desk.takes([printed, &file]), [true, true]);
    desk.vault.clock.advance(SignedDuration::from_mins(61));
    assert_eq!(desk.takes([printed, &file]), [false, true]);

    let ran = desk.run("rotate desk-1 --require-confirmation -- cat > got; echo done");
    ran.says(0, &["version 4, confirmed; the old one is dead; sh has its password", "done"]);
    let got = fs::read_to_string(desk.path("got")).unwrap();
    assert_eq!((got.len(), desk.takes([&file, &got])), (24, [false, true]), "without a line feed");
    // What is there is not overwritten, and a file that cannot be made is noticed before.
    desk.run("rotate desk-1 --out got").says(1, &["cannot make got", "--out"]);
    desk.run("rotate desk-1 --out no/where").says(1, &["cannot make no/where", "--out"]);
    desk.run("rotate desk-1 --state no/where").says(1, &["cannot make no/where", "--state"]);
    desk.run("rotate desk-1 --etag stale --out x").says(1, &["ETAG_MISMATCH"]);
    assert_eq!(
        (desk.version().as_str(), desk.files()),
        ("4", vec!["got".into(), "new.password".into()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_reads_json_with_the_password_only_where_it_goes_to_standard_output() {
    let desk = Desk::start().await;
    let ran = desk.run("rotate desk-1 --output json");
    let password = ran.json()["issued"]["password"].as_str().unwrap().to_owned();
    assert_eq!((&ran.json()["issued"]["version"], desk.takes([&password])), (&"2".into(), [true]));
    for more in [" --out new.password", " -- cat > new.password; echo to the terminal"] {
        let typed = format!("rotate desk-1 --output json{more}");
        let typed = typed.replace("json --out", "json --overlap 1h --out");
        let ran = desk.run(&typed);
        ran.says(0, &["confirmed"]);
        let json = ran.json();
        let password = fs::read_to_string(desk.path("new.password")).unwrap();
        assert!(json.get("issued").is_none() && json.get("sealed").is_none(), "{json}");
        assert!(json["rotation"]["confirmTime"].is_string(), "{json}");
        assert!(![&ran.out, &ran.err].iter().any(|it| it.contains(password.trim())), "{ran:?}");
        assert_eq!(desk.takes([password.trim()]), [true]);
        fs::remove_file(desk.path("new.password")).unwrap();
    }
    // Nobody else sees it meanwhile either.
    let look = "cat > got; tr '\\0' '\\n' < /proc/$PPID/cmdline > seen; env >> seen; cat *.rotation > kept";
    desk.run(&format!("rotate desk-1 -- {look}")).says(0, &[]);
    let read = |name: &str| fs::read_to_string(desk.path(name)).unwrap();
    let (got, seen, kept) = (read("got"), read("seen"), read("kept"));
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let key = kept["private_key"].as_str().unwrap();
    assert!(seen.contains("rotate") && !seen.contains(&got) && !seen.contains(key), "{seen}");
    assert!(!kept.to_string().contains(&got), "the password itself lies nowhere else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_asked_for_again_and_is_the_same() {
    let desk = Desk::start().await;
    // The answer 0 tells of the credential, 1 and 2 are of the rotation, 4 is that of the confirmation.
    let proxy = Proxy::start(desk.vault.address, Fate::Cut, &[1, 2, 4]).await;
    let ran = Ran::from(desk.at(&proxy, "rotate desk-1 --out new.password").output().unwrap());
    ran.says(0, &["version 2, confirmed"]);
    assert_eq!(ran.err.matches("the same request again in 0.").count(), 3, "{ran:?}");
    let password = desk.own("new.password");
    assert_eq!((desk.version().as_str(), desk.takes([&password])), ("2", [true]));

    // Too many are lost: the command gives up, and says how to go on.
    let proxy = Proxy::start(desk.vault.address, Fate::Cut, &[1, 2, 3, 4]).await;
    let typed = "rotate desk-1 --require-confirmation --retry-for 0s --out other.password";
    let ran = Ran::from(desk.at(&proxy, typed).output().unwrap());
    ran.says(1, &["It may be done: `credvault rotate --resume other.password.rotation`"]);
    assert!(!ran.err.contains("again in") && !desk.path("other.password").exists(), "{ran:?}");
    let ran = desk.run("rotate --resume other.password.rotation");
    ran.says(0, &["version 3, confirmed; the old one is dead"]);
    assert_eq!(desk.takes([&password, &desk.own("other.password")]), [false, true]);

    // Nowhere to go on from: it is said what that means.
    let proxy = Proxy::start(desk.vault.address, Fate::Cut, &[1]).await;
    let ran = Ran::from(desk.at(&proxy, "rotate desk-1 --retry-for 0s").output().unwrap());
    ran.says(1, &["this password is lost", "credvault rotations list desk-1", "--state"]);
    // The password arrived, and its confirmation did not.
    let proxy = Proxy::start(desk.vault.address, Fate::Cut, &[2]).await;
    let typed = "rotate desk-1 --retry-for 0s --out third.password";
    let ran = Ran::from(desk.at(&proxy, typed).output().unwrap());
    ran.says(
        1,
        &[
            "The new password is delivered, and",
            "--password-file",
            "--resume third.password.rotation",
        ],
    );
    let third = desk.own("third.password");
    desk.run("rotate --resume third.password.rotation")
        .says(0, &["confirmed before: nothing is left to do"]);
    assert_eq!((desk.own("third.password"), desk.takes([&third])), (third.clone(), [true]));
    let files = ["new.password", "other.password", "third.password"];
    assert_eq!(desk.files(), files, "no state is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_was_killed_before_its_answer_goes_on_with_the_same_password() {
    let desk = Desk::start().await;
    let mut proxy = Proxy::start(desk.vault.address, Fate::Held, &[1]).await;
    let running = Running::start(desk.at(&proxy, "rotate desk-1 --out new.password"));
    proxy.answers(2).await;
    running.kill();
    assert_eq!((desk.version().as_str(), desk.takes([&desk.first])), ("2", [false]));
    assert_eq!(desk.own("new.password"), "", "it was made before, and nothing stands in it");
    let state = desk.own("new.password.rotation");
    assert!(state.contains("private_key") && !state.contains("\"rotation\""), "{state}");
    let again = desk.run("rotate desk-1 --out new.password");
    again.says(1, &["cannot make new.password"]);
    fs::remove_file(desk.path("new.password")).unwrap();
    let again = desk.run("rotate desk-1 --out new.password");
    again.says(1, &["an earlier rotation is not at its end", "--resume new.password.rotation"]);
    assert!(!desk.path("new.password").exists());

    // What an earlier run may have done is not forgotten because this one cannot go on.
    let go_on = "rotate --resume new.password.rotation";
    let nowhere = format!("{go_on} --retry-for 0s --address 127.0.0.1:1");
    desk.run(&nowhere).says(
        1,
        &["no vault answers", "`credvault rotate --resume new.password.rotation` goes on"],
    );
    let mut reader = desk.command(go_on);
    reader.env("CREDVAULT_TOKEN", desk.vault.token("acme", &[Role::Reader]).await);
    Ran::from(reader.output().unwrap()).says(1, &["ROLE_MISSING", "It may be done"]);
    desk.run(go_on).says(0, &["version 2, confirmed"]);
    assert_eq!(desk.takes([&desk.own("new.password")]), [true]);
    assert_eq!((desk.version().as_str(), desk.files()), ("2", vec!["new.password".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_was_killed_while_it_delivered_delivers_again() {
    let desk = Desk::start().await;
    for fifo in ["begun", "block"] {
        assert!(Command::new("mkfifo").arg(desk.path(fifo)).status().unwrap().success());
    }
    let typed = "rotate desk-1 --require-confirmation --overlap 1h -- cat > got; echo > begun; exec cat block";
    let running = Running::start(desk.command(typed));
    // Opens when the command has got this far.
    fs::read(desk.path("begun")).unwrap();
    running.kill();
    drop(File::options().write(true).open(desk.path("block")).unwrap());
    let got = fs::read_to_string(desk.path("got")).unwrap();
    assert_eq!((desk.version().as_str(), desk.takes([&desk.first, &got])), ("1", [true, true]));
    assert_eq!(desk.newest().1, "holding");
    assert!(desk.own("desk-1.rotation").contains("/rotations/x"));
    // Another is refused meanwhile.
    desk.run("rotate desk-1").says(1, &["ROTATION_IN_PROGRESS", "`credvault rotations list ID`"]);

    // A colleague with another token goes on.
    let mut colleague = desk.command("rotate --resume desk-1.rotation -- cat > again");
    colleague.env("CREDVAULT_TOKEN", desk.vault.token("acme", &[Role::Rotator]).await);
    Ran::from(colleague.output().unwrap())
        .says(0, &["version 2, confirmed; the old one works until"]);
    assert_eq!(fs::read_to_string(desk.path("again")).unwrap(), got);
    assert_eq!((desk.version().as_str(), desk.newest().1.as_str()), ("2", "succeeded"));
    assert_eq!(desk.files(), ["again", "begun", "block", "got"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_delivered_is_not_confirmed() {
    let desk = Desk::start().await;
    let rotate = "rotate desk-1 --require-confirmation";
    let not = "not delivered, so it is not confirmed, and the old one is the active one";
    let go_on = "`credvault rotate --resume desk-1.rotation -- COMMAND` goes on";
    let ran = desk.run(&format!("{rotate} -- cat > got; exit 3"));
    ran.says(1, &["sh ended with status 3", not, go_on]);
    let got = fs::read_to_string(desk.path("got")).unwrap();
    assert!(!ran.err.contains(&got), "{ran:?}");
    assert_eq!((desk.takes([&desk.first, &got]), desk.newest().1.as_str()), ([true; 2], "holding"));
    desk.run("rotate --resume desk-1.rotation -- kill -9 $$")
        .says(1, &["sh was ended by a signal", not]);
    let mut missing = desk.command("rotate --resume desk-1.rotation");
    missing.args(["--", "no-such-command"]);
    Ran::from(missing.output().unwrap()).says(1, &["cannot start no-such-command", not, go_on]);
    fs::write(desk.path("taken"), "something else\n").unwrap();
    desk.run("rotate --resume desk-1.rotation --out taken").says(1, &["others may read it"]);
    fs::set_permissions(desk.path("taken"), fs::Permissions::from_mode(0o600)).unwrap();
    desk.run("rotate --resume desk-1.rotation --out taken").says(1, &["holds something else", not]);
    assert_eq!(
        (desk.own("taken").as_str(), desk.newest().1.as_str()),
        ("something else", "holding")
    );
    // Half of it stands there, as a crash may leave it.
    fs::write(desk.path("taken"), &got[..7]).unwrap();
    desk.run("rotate --resume desk-1.rotation --out taken").says(0, &["version 2, confirmed"]);
    assert_eq!((desk.own("taken"), desk.takes([&desk.first, &got])), (got, [false, true]));

    // Nobody reads standard output.
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let into = |mut command: Command| {
        Ran::from(command.stdout(full()).stderr(Stdio::piped()).output().unwrap())
    };
    let ran = into(desk.command(rotate));
    let (rotation, state) = desk.newest();
    ran.says(1, &[not, &format!("`credvault rotations cancel {rotation}`, and rotate again")]);
    assert_eq!(state, "holding");
    desk.run(&format!("rotations cancel {rotation} --reason lost")).says(0, &["cancelled"]);
    into(desk.command("rotate desk-1"))
        .says(1, &["the old one is dead: it is lost, so rotate again"]);
    into(desk.command("rotate desk-1 --state kept"))
        .says(1, &["`credvault rotate --resume kept` goes on"]);
    let ran = desk.run("rotate --resume kept");
    assert_eq!(
        (desk.takes([ran.says(0, &[]).out.trim()]), desk.path("kept").exists()),
        ([true], false)
    );
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_confirmation_of_what_reached_nobody_is_caught() {
    let desk = Desk::start().await;
    let state = |defect: &str| {
        let mut command = desk.command("rotate desk-1 --require-confirmation -- exit 3");
        command.env("CREDVAULT_DEFECT", defect).output().unwrap();
        desk.newest().1
    };
    assert_eq!(state("confirm-undelivered"), "succeeded");
    assert_eq!(state(""), "holding");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_surely_not_done_leaves_nothing_behind() {
    let mut desk = Desk::start().await;
    desk.run("rotate desk-2 --out x").says(1, &["NOT_FOUND", "`credvault credentials list`"]);
    desk.run("rotate desk-1 --overlap 31d --out x").says(1, &["INVALID_FIELD", "overlap"]);
    let gone = "rotate desk-1 --retry-for 0s --out x --address 127.0.0.1:1";
    desk.run(gone).says(1, &["no vault answers at 127.0.0.1:1"]);
    let tried = desk.run(&gone.replace("0s", "1s"));
    tried.says(1, &["no vault answers", "the same request again in 0."]);
    desk.token = desk.vault.token("acme", &[Role::Reader]).await;
    desk.run("rotate desk-1 --out x").says(1, &["ROLE_MISSING", "--role rotator`"]);
    assert_eq!((desk.version().as_str(), desk.files()), ("1", Vec::new()));
    desk.run("rotate").says(2, &["CREDENTIAL"]);
    desk.run("rotate desk-1 --resume x").says(2, &["cannot be used with"]);
    desk.run("rotate desk-1 --out x -- cat").says(2, &["cannot be used with"]);
    desk.run("rotate desk-1 --overlap soon").says(2, &["such as 30s, 15m, 1h or 7d"]);
    desk.run("rotate --resume missing").says(1, &["missing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_comes_too_late_says_what_to_do() {
    let desk = Desk::start().await;
    let mut proxy = Proxy::start(desk.vault.address, Fate::Held, &[1]).await;
    let running = Running::start(desk.at(&proxy, "rotate desk-1 --out new.password"));
    proxy.answers(2).await;
    running.kill();
    desk.vault.clock.advance(SignedDuration::from_mins(16));
    let ran = desk.run("rotate --resume new.password.rotation");
    ran.says(
        1,
        &["SECRET_ALREADY_ISSUED", "remove new.password.rotation, and rotate desk-1 again"],
    );
    fs::remove_file(desk.path("new.password.rotation")).unwrap();

    // One that was cancelled meanwhile, by somebody else.
    let ran = desk.run("rotate desk-1 --require-confirmation -- exit 1");
    ran.says(1, &["--resume desk-1.rotation"]);
    let (rotation, _) = desk.newest();
    desk.run(&format!("rotations cancel {rotation}")).says(0, &["state", "cancelled"]);
    desk.run("rotate --resume desk-1.rotation -- cat")
        .says(1, &["was cancelled: remove desk-1.rotation"]);
    fs::remove_file(desk.path("desk-1.rotation")).unwrap();

    // One that nobody confirmed for a month.
    desk.run("rotate desk-1 --require-confirmation -- cat > got; exit 1").says(1, &[]);
    desk.vault.clock.advance(SignedDuration::from_hours(24 * 30) + SignedDuration::from_secs(1));
    desk.vault.vault.end_due(desk.vault.now()).await.unwrap();
    let desk = Desk { token: desk.vault.token("acme", &[Role::AccountAdmin]).await, ..desk };
    let (rotation, state) = desk.newest();
    assert_eq!(state, "needs-attention");
    let late = desk.run("rotate --resume desk-1.rotation -- cat");
    late.says(
        1,
        &["its sealed password is gone", "Both passwords work until `credvault rotations confirm"],
    );
    let confirm = format!("rotations confirm {rotation} --password-file got");
    fs::set_permissions(desk.path("got"), fs::Permissions::from_mode(0o600)).unwrap();
    desk.run(&confirm).says(0, &["succeeded", "its recipient has it"]);
}
