//! `credvault credentials`, as people and scripts run it: what it prints, where passwords go, and how it ends.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use credvault::access::Role;

use crate::support::cli::{Ran, words};
use crate::support::process::credvault;
use crate::support::{TestVault, md5_response};

const REALM: &str = "sip.example.com";

/// A vault, and a folder in which an admin of `accounts/acme` types commands.
struct Desk {
    vault: TestVault,
    token: String,
    dir: tempfile::TempDir,
}

impl Desk {
    async fn start() -> Self {
        let vault = TestVault::start().await;
        let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
        Self { vault, token, dir: tempfile::tempdir().unwrap() }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = credvault(["credentials"]);
        command.args(words.split(' ')).current_dir(self.dir.path());
        command.env("CREDVAULT_ADDRESS", self.vault.address.to_string());
        command.env("CREDVAULT_TOKEN", &self.token).env("CREDVAULT_ACCOUNT", "acme");
        command
    }

    fn run(&self, words: &str) -> Ran {
        Ran::from(self.command(words).output().unwrap())
    }

    /// Whether the vault takes this password for `desk-1`, as its own command says.
    fn takes(&self, password: &str) -> i32 {
        let response = md5_response("desk-1", REALM, password, "n");
        let ran = self.run(&format!(
            "verify-digest --username desk-1 --realm {REALM} --method REGISTER --uri sip:{REALM} --nonce n \
             --response {response}"
        ));
        let said =
            if ran.status == 0 { "valid: accounts/acme/credentials/desk-1" } else { "not valid" };
        assert!(ran.out.starts_with(said), "{ran:?}");
        ran.status
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let file = self.dir.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }
}

fn create(more: &str) -> String {
    format!("create desk-1 --username desk-1 --realm {REALM}{more}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_printed_by_the_command_that_issues_it_and_by_no_other() {
    let desk = Desk::start().await;
    let says = ["no credential in accounts/acme yet", "credvault credentials create desk-1"];
    desk.run("list").says(0, &says);
    let created = desk.run(&create(" --label site=berlin --description Desk"));
    created.says(0, &["accounts/acme/credentials/desk-1: version 1", "not shown again"]);
    let password = created.out.strip_suffix('\n').unwrap();
    assert_eq!(password.len(), 24, "alone on standard output: {created:?}");
    assert!(!created.err.contains(password), "{created:?}");
    assert_eq!(desk.takes(password), 0);

    let rotated = desk.run("rotate desk-1 --password-length 32 --reason weekly --out new.password");
    rotated.says(0, &["version 2", "It is in new.password, for you alone"]);
    assert_eq!(rotated.out, "");
    let file = desk.dir.path().join("new.password");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let new = fs::read_to_string(&file).unwrap();
    assert_eq!((new.len(), desk.takes(password), desk.takes(new.trim())), (33, 1, 0));
    // What is there is not overwritten, and then nothing is rotated.
    desk.run("rotate desk-1 --out new.password").says(1, &["cannot make new.password", "--out"]);
    assert_eq!(desk.takes(new.trim()), 0);
    let json = desk.run("rotate desk-1 --output json").json();
    let newest = json["issued"]["password"].as_str().unwrap();
    assert_eq!((desk.takes(new.trim()), desk.takes(newest)), (1, 0));

    for look in ["get desk-1", "get accounts/acme/credentials/desk-1", "list", "list --output json"]
    {
        let ran = desk.run(look);
        ran.says(0, &["desk-1", REALM]);
        for password in [password, new.trim(), newest] {
            assert!(!ran.out.contains(password) && !ran.err.contains(password), "{look}");
        }
    }
    desk.run("get desk-1").says(0, &["site=berlin", "Desk", "version", "3"]);
    desk.run("delete desk-1").says(0, &["accounts/acme/credentials/desk-1 is deleted"]);
    desk.run("get desk-1").says(1, &["NOT_FOUND", "`credvault credentials list`"]);
    let failed = desk.run("rotate desk-1 --out none.password");
    failed.says(1, &["NOT_FOUND"]);
    assert!(!desk.dir.path().join("none.password").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_cannot_be_written_is_said_to_be_lost() {
    let desk = Desk::start().await;
    desk.run(&create("")).says(0, &[]);
    let into = |out: Stdio, words: &str| {
        let mut command = desk.command(words);
        Ran::from(command.stdout(out).stderr(Stdio::piped()).output().unwrap())
    };
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    // Nobody reads it.
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    for out in [full(), closed()] {
        let ran = into(out, "rotate desk-1");
        ran.says(1, &["cannot write", "is lost: rotate again, `credvault credentials rotate"]);
        assert!(!ran.err.contains("not shown again"), "{ran:?}");
    }
    for out in [full(), closed()] {
        into(out, "rotate desk-1 --output json").says(1, &["is lost: rotate again"]);
    }
    // A disk that takes nothing: the password goes where it can be read.
    let mut no_room = Command::new("sh");
    no_room.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]);
    let rotate = desk.command("rotate desk-1 --out new.password");
    no_room.arg(rotate.get_program()).args(rotate.get_args()).current_dir(desk.dir.path());
    no_room.envs(rotate.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = Ran::from(no_room.output().unwrap());
    ran.says(1, &["stands on standard output, since new.password cannot be written"]);
    assert_eq!(desk.takes(ran.out.trim()), 0);
    assert!(!desk.dir.path().join("new.password").exists(), "no empty file is left");
    into(full(), "get desk-1").says(1, &["cannot write the answer", "os error 28"]);
    into(closed(), "get desk-1").says(0, &[]);
    let mut token = credvault(["tokens", "create", "--role", "reader", "--account", "acme"]);
    token.env("CREDVAULT_ADDRESS", desk.vault.address.to_string());
    token.env("CREDVAULT_TOKEN", &desk.token).stdout(full());
    Ran::from(token.output().unwrap())
        .says(1, &["The token is lost: end it with `credvault tokens revoke accounts/acme/"]);
    desk.run("get desk-1").says(0, &["version", "6"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_of_ones_own_comes_from_a_file_or_a_pipe_and_never_shows() {
    let desk = Desk::start().await;
    let own = "UpdatedSecurePassword456!";
    desk.write("open.password", own, 0o644);
    let open = desk.run(&create(" --password-file open.password"));
    open.says(1, &["others may read it", "chmod 600 open.password"]);
    desk.write("own.password", &format!("{own}\n"), 0o600);
    let created = desk.run(&create(" --password-file own.password"));
    created.says(0, &["with the password that you brought"]);
    assert!(created.out.is_empty() && !created.err.contains("warning"), "{created:?}");
    assert_eq!(desk.takes(own), 0);

    for (weak, is_weak) in
        [("short-pw1", true), ("abcdefghijklmnop", true), ("abcdefghijk1", false)]
    {
        let update = desk.command("update desk-1 --password-file - --output json");
        let ran = Ran::with_input(update, &format!("{weak}\n"));
        ran.says(0, &[]);
        assert_eq!(ran.err.contains("easily guessed"), is_weak, "{ran:?}");
        assert!(!ran.err.contains(weak) && !ran.out.contains(weak), "{ran:?}");
        assert_eq!(desk.takes(weak), 0);
    }
    let bad = Ran::with_input(desk.command("update desk-1 --password-file -"), "bad\"password\n");
    bad.says(1, &["INVALID_FIELD"]);
    assert!(!bad.err.contains("bad\"password"), "{bad:?}");
    Ran::with_input(desk.command("update desk-1 --password-file -"), "")
        .says(1, &["password is empty"]);
    Ran::with_input(desk.command("update desk-1 --password-file -"), "one-line-1\ntwo-lines-2\n")
        .says(1, &["password has more than one line"]);
    desk.write("two.password", "one-line-1\ntwo-lines-2\n", 0o600);
    desk.run("update desk-1 --password-file two.password")
        .says(1, &["password has more than one line"]);
    desk.run("update desk-1 --password-file missing").says(1, &["missing"]);
    let both = desk.run(&create(" --password-file own.password --password-length 20"));
    both.says(2, &["cannot be used with"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_changes_what_it_names_and_a_list_finds_it() {
    let desk = Desk::start().await;
    desk.run(&create(" --label site=berlin --label floor=2")).says(0, &[]);
    desk.run("create --username desk-2 --realm other.example.com")
        .says(0, &["accounts/acme/credentials/"]);
    desk.run("update desk-1").says(1, &["nothing to change", "--enabled"]);
    desk.run("update desk-1 --enabled false --description lost")
        .says(0, &["false", "lost", "floor=2"]);
    let etag = desk.run("get desk-1 --output json").json()["credential"]["etag"].clone();
    desk.run("update desk-1 --no-labels").says(0, &["lost"]);
    let stale = format!("update desk-1 --enabled true --etag {}", etag.as_str().unwrap());
    desk.run(&stale).says(1, &["ETAG_MISMATCH"]);
    let json = desk.run("get desk-1 --output json").json();
    assert_eq!(json["credential"]["labels"], serde_json::json!({}));

    let table = desk.run("list");
    let lines: Vec<&str> = table.out.lines().collect();
    let header = "ID, USERNAME, REALM, ENABLED, VERSION, ROTATE TIME, DESCRIPTION";
    assert_eq!(words(lines[0]).join(", "), header);
    assert_eq!((lines.len(), table.err.as_str()), (3, ""));
    for (filter, finds) in [
        ("--realm other.example.com", 1),
        ("--username-prefix desk", 2),
        ("--enabled false", 1),
        ("--label floor=2", 0),
        ("--rotated-before 2026-05-01T12:00:00Z", 0),
        ("--rotated-before 2026-05-02T00:00:00Z", 2),
        ("--limit 0", 2),
        ("--limit 1", 1),
    ] {
        let found = desk.run(&format!("list {filter} --output json"));
        assert_eq!(found.json()["credentials"].as_array().unwrap().len(), finds, "{filter}");
        assert_eq!(
            found.err.contains("more than 1; --limit 0"),
            filter == "--limit 1",
            "{found:?}"
        );
    }
    desk.run("list --realm nowhere").says(0, &["No credential is like that"]);
    desk.run("list --rotated-before yesterday")
        .says(2, &["--rotated-before", "write a time such as 2026-01-31T00:00:00Z"]);
    desk.run("list --label berlin").says(2, &["write KEY=VALUE"]);
    desk.run(&create("")).says(1, &["ALREADY_EXISTS", "--realm REALM --username-prefix NAME`"]);
    for odd in ["d1", "1001", "Desk-1"] {
        desk.run(&format!("get {odd}"))
            .says(1, &["3 to 63 characters", "`credvault credentials list`", odd]);
    }
    desk.run(&create(" --request-id 7")).says(1, &["INVALID_FIELD", "request_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_id_issues_once_and_says_so() {
    let desk = Desk::start().await;
    let again = create(" --request-id 3f2b0c9e-8a1d-4c55-9d0e-2f6a7b8c9d10");
    let first = desk.run(&again);
    first.says(0, &[]);
    let second = desk.run(&again);
    second.says(1, &["SECRET_ALREADY_ISSUED", "rotate"]);
    assert_eq!(second.out, "");
    assert_eq!(desk.takes(first.out.trim()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_to_type_next() {
    let mut desk = Desk::start().await;
    desk.run(&create("")).says(0, &[]);
    desk.run("list --account other").says(1, &["NOT_FOUND", "--account", "--token-file"]);
    desk.token = desk.vault.token("acme", &[Role::Reader]).await;
    desk.run("get desk-1").says(0, &[]);
    for (words, role) in [
        ("rotate desk-1", "rotator"),
        ("update desk-1 --enabled false", "account-admin"),
        ("delete desk-1", "account-admin"),
    ] {
        let create = format!("`credvault tokens create --account acme --role {role}`");
        desk.run(words).says(1, &["ROLE_MISSING", &create]);
    }
    let digest =
        "verify-digest --username a --realm b --method REGISTER --uri sip:b --nonce n --response";
    // Who may not ask knows nothing: that is neither right nor wrong.
    let response = "0".repeat(32);
    desk.run(&format!("{digest} {response}")).says(2, &["ROLE_MISSING", "--role verifier`"]);
    desk.token = desk.vault.token("acme", &[Role::Verifier]).await;
    desk.run(&format!("{digest} {response}")).says(1, &["not valid"]);
    desk.run(&format!("{digest} 00")).says(2, &["INVALID_FIELD"]);
    let mut nameless = desk.command("list");
    nameless.env_remove("CREDVAULT_ACCOUNT");
    Ran::from(nameless.output().unwrap()).says(1, &["which account?", "--account"]);
}
