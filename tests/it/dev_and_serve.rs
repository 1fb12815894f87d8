//! `credvault dev`, and `init`, `tokens` and `serve`, as people run them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use credvault::grpc::proto::{GetCredentialRequest, ListCredentialsRequest};
use tonic::Code;

use crate::credentials::create;
use crate::support::process::{Process, credvault, run};
use crate::support::{Clients, refusal};

/// In `accounts/dev`, the account that `dev` makes.
async fn create_in_dev(clients: &mut Clients, username: &str) -> String {
    let mut request = create(username);
    "accounts/dev".clone_into(&mut request.parent);
    let created = clients.credentials.create_credential(request).await.unwrap().into_inner();
    created.credential.unwrap().name
}

async fn exists(clients: &mut Clients, name: &str) -> bool {
    let request = GetCredentialRequest { name: name.to_owned() };
    match clients.credentials.get_credential(request).await {
        Ok(_) => true,
        Err(status) if status.code() == Code::NotFound => false,
        Err(status) => panic!("{status}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_is_ready_at_once_and_comes_back_with_the_same_token_and_data() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Process::dev(dir.path(), &[]);
    let token = dev.token();
    let name = create_in_dev(&mut dev.clients(), "alice").await;
    assert!(dev.terminate().success());

    let dev = Process::dev(dir.path(), &[]);
    assert_eq!(dev.token(), token);
    assert!(exists(&mut dev.clients(), &name).await);
    // A token that does not open this vault is replaced by one that does.
    let file = dev.data_dir.join("dev.token");
    assert!(dev.terminate().success());
    for spoilt in ["", "cv1_nonsense\n"] {
        fs::write(&file, spoilt).unwrap();
        let dev = Process::dev(dir.path(), &[]);
        assert_ne!(dev.token(), spoilt.trim());
        assert!(exists(&mut dev.clients(), &name).await);
        assert!(dev.terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_tokens_and_serve_need_nothing_but_the_data_dir() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("vault");
    let data_dir = data.to_str().unwrap();
    let made = run(["init", "--data-dir", data_dir]);
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(said.contains(data_dir) && said.contains(&format!("{data_dir}.key")), "{said}");

    let token = |account: &str, roles: &[&str]| {
        let mut command = credvault(["tokens", "create", "--data-dir", data_dir]);
        command.args(["--account", account]);
        command.args(roles.iter().flat_map(|role| ["--role", role]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let token = out.strip_suffix('\n').unwrap().to_owned();
        assert!(token.starts_with("cv1_") && !token.contains(char::is_whitespace), "alone: {out}");
        assert!(!err.contains(&token) && err.contains(account), "{err}");
        assert!(roles.iter().all(|role| err.contains(role)), "{err}");
        token
    };
    let admin = token("acme", &["account-admin", "verifier"]);
    let reader = token("acme", &["reader"]);
    let stranger = token("other", &["account-admin"]);

    let server = Process::serve(&data, &[]);
    let clients = |token: &str| Clients::new(&server.channel, token);
    let created = clients(&admin).credentials.create_credential(create("alice")).await;
    let name = created.unwrap().into_inner().credential.unwrap().name;
    assert!(exists(&mut clients(&reader), &name).await);
    assert!(!exists(&mut clients(&stranger), &name).await);
    let refused = clients(&reader).credentials.create_credential(create("bob")).await;
    let (code, reason, _) = refusal(refused);
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "ROLE_MISSING"));
    assert!(server.terminate().success());

    let server = Process::serve(&data, &[]);
    assert!(exists(&mut Clients::new(&server.channel, &reader), &name).await);
    let log = fs::read_to_string(&server.log).unwrap();
    assert!(server.terminate().success());
    for token in [admin, reader, stranger] {
        assert!(!log.contains(&token));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_with_all_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut names: Vec<String> = Vec::new();
    for round in 0..3 {
        let mut dev = Process::dev(dir.path(), &[]);
        let mut clients = dev.clients();
        for name in &names {
            assert!(exists(&mut clients, name).await, "{name} after kill {round}");
        }
        for n in 0..5 {
            names.push(create_in_dev(&mut clients, &format!("user-{round}-{n}")).await);
        }
        dev.kill();
    }
    let dev = Process::dev(dir.path(), &[]);
    let request =
        ListCredentialsRequest { parent: "accounts/dev".to_owned(), ..Default::default() };
    let listed = dev.clients().credentials.list_credentials(request).await.unwrap().into_inner();
    let mut listed: Vec<_> = listed.credentials.into_iter().map(|found| found.name).collect();
    names.sort();
    listed.sort();
    assert_eq!(listed, names);
}

/// Every file below `dir` with its mode; the folder itself as `.`.
fn modes(dir: &Path) -> BTreeMap<String, u32> {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut modes: BTreeMap<_, _> = entries.map(|path| (name(&path), mode(&path))).collect();
    modes.insert(".".to_owned(), mode(dir));
    modes
}

/// Runs `credvault` under this umask.
fn under_umask(umask: &str, arguments: &[&str]) -> Command {
    let plain = credvault(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
    command.arg(plain.get_program()).args(plain.get_args());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_may_read_what_it_writes_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let data_dir = data.to_str().unwrap();
        let log = dir.path().join("log");
        let dev = ["dev", "--listen", "127.0.0.1:0", "--data-dir", data_dir];
        let dev = Process::start(under_umask(umask, &dev), data.clone(), log);
        create_in_dev(&mut dev.clients(), "alice").await;
        let files = modes(&data);
        for (file, mode) in &files {
            let expected = if file == "." { 0o700 } else { 0o600 };
            assert_eq!(*mode, expected, "{file} is {mode:o} under umask {umask}");
        }
        for file in ["credvault.db", "credvault.db-wal", "dev.key", "dev.token"] {
            assert!(files.contains_key(file), "{file} is not in {files:?}");
        }

        let real = dir.path().join("real");
        let init = ["init", "--data-dir", real.to_str().unwrap()];
        assert!(under_umask(umask, &init).output().unwrap().status.success());
        let key = fs::metadata(dir.path().join("real.key")).unwrap().permissions().mode();
        assert_eq!(key & 0o7777, 0o600, "umask {umask}");
        for (file, mode) in modes(&real) {
            let expected = if file == "." { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{file} is {mode:o} under umask {umask}");
        }
    }
}

/// Where a process may leave a core, it would lie here.
fn with_cores(dir: &Path, command: &Command) -> Command {
    let mut with_cores = Command::new("sh");
    with_cores.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).current_dir(dir);
    with_cores.arg(command.get_program()).args(command.get_args());
    with_cores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_leaves_no_core_and_shows_its_memory_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    // What the machine does otherwise: some write no cores, and then half of this shows nothing.
    let mut abort = Command::new("sh");
    abort.args(["-c", "kill -ABRT $$"]);
    let usual = with_cores(dir.path(), &abort).status().unwrap().core_dumped();

    let data = dir.path().join("data");
    let dev = credvault(["dev", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
    let mut dev = Process::start(with_cores(dir.path(), &dev), data, dir.path().join("log"));
    let of_process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", dev.id())).unwrap();
    let limits = of_process("limits");
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{cores}");
    assert!(of_process("status").contains("Umask:\t0077"));
    let id = dev.id().to_string();
    assert!(Command::new("kill").args(["-ABRT", &id]).status().unwrap().success());
    let ended = dev.end().unwrap();
    assert_eq!(ended.signal(), Some(6), "{ended}");
    assert!(!ended.core_dumped());
    println!("a core of another program on this machine: {usual}; of the vault: false");
}
