//! Starts that are refused, through the real binary: not zero, at once, with one line that says
//! what is wrong and what to do, and nothing on standard output. `table` is the table of them.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use crate::sqlite;
use crate::support::process::{Process, credvault, run};

mod settings;
mod table;
pub(crate) mod vaults;
pub(crate) mod world;

/// A vault that `credvault init` made: its data, and its key beside it.
struct Vault {
    _dir: tempfile::TempDir,
    data: PathBuf,
    key: PathBuf,
}

impl Vault {
    fn init() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("vault");
        let made = run(["init", "--data-dir", text(&data)]);
        assert!(made.status.success(), "{made:?}");
        Self { key: dir.path().join("vault.key"), data, _dir: dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs to the end; a machine that is busy elsewhere gets three tries to be quick.
fn quickly(arguments: &[&str]) -> Output {
    let mut took = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        let output = run(arguments);
        took.push(started.elapsed());
        if started.elapsed() < Duration::from_secs(1) {
            return output;
        }
    }
    panic!("{arguments:?} took {took:?}");
}

/// Asserts a refusal whose one line holds all of `says`.
fn refused(case: &str, arguments: &[&str], says: &[&str]) {
    let output = quickly(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.status.code().is_some(), "{case}: {said}");
    assert_eq!(output.stdout, b"", "{case}: standard output is for answers");
    assert_eq!(said.lines().count(), 1, "{case}: {said}");
    assert!(said.starts_with("error: "), "{case}: {said}");
    for says in says {
        assert!(said.contains(says), "{case}: `{says}` is not in: {said}");
    }
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let vault = Vault::init();
    let data = text(&vault.data);
    for mode in [0o640, 0o604, 0o660, 0o601, 0o777] {
        fs::set_permissions(&vault.key, Permissions::from_mode(mode)).unwrap();
        let says = [&format!("{mode:04o}"), "others may read it", "chmod 600"];
        for command in [&["serve", "--data-dir", data][..], &create_token(data)] {
            refused("an open key file", command, &says);
        }
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&vault.key, Permissions::from_mode(mode)).unwrap();
        assert!(run(create_token(data)).status.success(), "{mode:o}");
    }
}

fn create_token(data: &str) -> [&str; 8] {
    ["tokens", "create", "--data-dir", data, "--account", "acme", "--role", "reader"]
}

#[tokio::test]
async fn a_refused_start_leaves_what_a_crash_left() {
    let vault = Vault::init();
    let data = text(&vault.data);
    assert!(run(create_token(data)).status.success());
    let other = Vault::init();
    let entries = || {
        sqlite::open(&vault.file("credvault.db"))
            .query_row("SELECT count(*) FROM audit_entry", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let before_it = entries();
    let mut server = Process::serve(&vault.data, &[]);
    let watching = sqlite::open(&vault.file("credvault.db"));
    watching.query_row("SELECT count(*) FROM account", [], |row| row.get::<_, i64>(0)).unwrap();
    sqlite::open(&vault.file("credvault.db"))
        .execute_batch("UPDATE account SET id = 'acme2'")
        .unwrap();
    server.kill();
    let files = ["credvault.db", "credvault.db-wal", "credvault.db-shm", "credvault.db.lock"];
    let content = || files.map(|name| fs::read(vault.file(name)).unwrap());
    let before = content();
    assert!(!before[1].is_empty(), "the log holds the change");
    let serve = ["serve", "--data-dir", data, "--key-file", text(&other.key)];
    refused("another vault's key after a crash", &serve, &["does not open this vault"]);
    assert!(content() == before, "nothing has moved");
    drop(watching);
    assert_eq!(entries(), before_it);
}

#[tokio::test]
async fn a_clock_that_was_wrong_can_be_set_right_once() {
    let vault = Vault::init();
    let data = text(&vault.data);
    let database = vault.file("credvault.db");
    sqlite::open(&database).execute_batch(&vaults::entry_of_year(2100)).unwrap();
    let serve = ["serve", "--data-dir", data];
    let says = ["the clock says", "2099-12-31", "--accept-clock"];
    refused("entries of 2100", &serve, &says);
    refused("and so is a command beside it", &create_token(data), &says);

    let mut server = credvault([&serve[..], &["--accept-clock"]].concat());
    server.env("CREDVAULT_LISTEN", "127.0.0.1:0");
    let server = Process::start(server, vault.data.clone(), vault.data.with_extension("log"));
    assert!(server.terminate().success());
    let server = Process::serve(&vault.data, &[]);
    assert!(server.terminate().success(), "it need not be said again");

    // From then on the clock counts again.
    let later = vaults::entry_of_year(2050).replace("(zeroblob(16), 1,", "(zeroblob(16), 3,");
    sqlite::open(&database).execute_batch(&later).unwrap();
    refused("an entry of 2050 after that", &serve, &["2049-12-31", "--accept-clock"]);
}

#[test]
fn init_touches_nothing_that_exists() {
    let vault = Vault::init();
    let files = || (fs::read(&vault.key).unwrap(), fs::read(vault.file("credvault.db")).unwrap());
    let before = files();
    let says = ["there is a vault at", "credvault serve", "choose another --data-dir"];
    refused("a vault is there", &["init", "--data-dir", text(&vault.data)], &says);
    assert!(files() == before, "neither the key nor the store has changed");

    // A key that is there is used as it is, if it can be used.
    let second = vault.data.with_file_name("second");
    let init = ["init", "--data-dir", text(&second), "--key-file", text(&vault.key)];
    assert!(run(init).status.success());
    assert!(fs::read(&vault.key).unwrap() == before.0);
    let third = vault.data.with_file_name("third");
    let bad = vault.data.with_file_name("bad.key");
    fs::write(&bad, "cvk1_1_00_00\n").unwrap();
    fs::set_permissions(&bad, Permissions::from_mode(0o600)).unwrap();
    let init = ["init", "--data-dir", text(&third), "--key-file", text(&bad)];
    refused("a key file without keys", &init, &["no valid keys", "restore"]);
}

#[tokio::test]
async fn one_process_at_a_time_has_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Process::dev(dir.path(), &[]);
    let data = text(&dev.data_dir);
    let says = ["another process uses the vault", data, "stop it first"];
    refused("a second dev", &["dev", "--listen", "127.0.0.1:0", "--data-dir", data], &says);
    refused("tokens beside a server", &create_token(data), &says);
    refused("serve beside dev", &["serve", "--data-dir", data], &says);
    // Said first, though the port is in use as well.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let serve = ["serve", "--data-dir", data, "--ops-listen", &taken];
    refused("serve beside dev, at a port in use", &serve, &says);
    assert!(dev.terminate().success());
}

#[tokio::test]
async fn dev_and_serve_refuse_the_vault_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Process::dev(dir.path(), &[]);
    let data = dev.data_dir.clone();
    assert!(dev.terminate().success());
    let says = ["made by `credvault dev`", "credvault init"];
    refused("dev's data", &["serve", "--data-dir", text(&data)], &says);

    let vault = Vault::init();
    let dev = ["dev", "--listen", "127.0.0.1:0", "--data-dir", text(&vault.data)];
    let dev = [&dev[..], &["--key-file", text(&vault.key)]].concat();
    refused("a real vault", &dev, &["made for real use", "credvault serve"]);
    assert!(!vault.file("dev.token").exists(), "and it got no token");
}

#[test]
fn an_unknown_role_is_refused_with_the_list_of_roles() {
    let vault = Vault::init();
    let data = text(&vault.data);
    let create = ["tokens", "create", "--data-dir", data, "--account", "acme", "--role"];
    for role in ["king", "Operator", "", "Reader"] {
        let output = quickly(&[&create[..], &[role]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{role}: {said}");
        for known in [
            "reader",
            "rotator",
            "token-writer",
            "verifier",
            "auditor",
            "account-admin",
            "operator",
        ] {
            assert!(said.contains(known), "{role}: {known} is not in: {said}");
        }
    }
    let says = ["operators belong to the vault", "leave --account out"];
    refused("an operator of an account", &[&create[..], &["operator"]].concat(), &says);
    let nowhere = ["tokens", "create", "--data-dir", data, "--role", "reader"];
    refused("a reader of nothing", &nowhere, &["--account ACCOUNT"]);
    let says = ["account A/b", "lower-case"];
    let create = ["tokens", "create", "--data-dir", data, "--account", "A/b", "--role", "reader"];
    refused("an account that is none", &create, &says);
}

#[test]
fn every_command_explains_itself() {
    for command in [
        &["--help"][..],
        &["help"],
        &["--version"],
        &["dev", "--help"],
        &["init", "--help"],
        &["serve", "--help"],
        &["tokens", "--help"],
        &["tokens", "create", "--help"],
        &["help", "serve"],
    ] {
        let output = credvault(command).output().unwrap();
        assert!(output.status.success(), "{command:?}");
        assert!(output.stderr.is_empty(), "{command:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("credvault"), "{command:?}");
    }
    let nothing = run([""; 0]);
    assert!(!nothing.status.success() && nothing.stdout.is_empty());
    assert!(String::from_utf8(nothing.stderr).unwrap().contains("Usage: credvault"));
}
