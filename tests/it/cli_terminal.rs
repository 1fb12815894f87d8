//! The client commands in a terminal, which `script` of Debian's bsdutils is: colours, prompts, a bar.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use credvault::access::Role;
use credvault::grpc::proto::credential::AtCarrier;
use credvault::grpc::proto::{CreateCredentialRequest, Credential, TelepathTrunk};

use crate::carriers::{At, with_all};
use crate::support::TestVault;
use crate::support::process::credvault;

/// A command in a terminal of its own.
fn in_terminal(vault: &TestVault, token: &str, dir: &Path, arguments: &str) -> Command {
    let plain = credvault([""; 0]);
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c"]);
    command.arg(format!("{} {arguments}", plain.get_program().to_str().unwrap())).arg("/dev/null");
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").env_remove("NO_COLOR").current_dir(dir);
    command.env("CREDVAULT_ADDRESS", vault.address.to_string());
    command.env("CREDVAULT_TOKEN", token).env("CREDVAULT_ACCOUNT", "acme");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Killed when dropped, so that a test that fails leaves none behind.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Terminal {
    fn open(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// What it shows until it shows this, or to its end.
    fn until(&mut self, wanted: &str) -> String {
        let mut shown = Vec::new();
        let out = self.0.stdout.as_mut().unwrap();
        let mut byte = [0];
        while !String::from_utf8_lossy(&shown).contains(wanted) || wanted.is_empty() {
            if out.read(&mut byte).unwrap() == 0 {
                break;
            }
            shown.extend(byte);
        }
        String::from_utf8(shown).unwrap()
    }

    /// Waits until what is typed is not shown: the prompt stands there a moment earlier.
    fn until_silent(&self) {
        let script = self.0.id();
        let children =
            fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
        let child = children.split_whitespace().next().unwrap();
        let terminal = fs::read_link(format!("/proc/{child}/fd/0")).unwrap();
        let began = Instant::now();
        loop {
            let asked = Command::new("stty").arg("-F").arg(&terminal).arg("-a").output().unwrap();
            if String::from_utf8_lossy(&asked.stdout).contains(" -echo ") {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{asked:?}");
        }
    }

    fn types(&mut self, text: &str) {
        self.0.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_shows_colours_unless_somebody_does_not_want_them() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let dir = tempfile::tempdir().unwrap();
    let tokens = || in_terminal(&vault, &token, dir.path(), "tokens list");
    let shown = Terminal::open(tokens()).until("");
    assert!(shown.contains('\u{1b}') && shown.contains("account-admin"), "{shown:?}");
    let mut plain = tokens();
    plain.env("NO_COLOR", "1");
    let shown = Terminal::open(plain).until("");
    assert!(!shown.contains('\u{1b}') && shown.contains("account-admin"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_typed_is_not_shown() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let dir = tempfile::tempdir().unwrap();
    let create = "credentials create desk-1 --username desk-1 --realm sip.test --password-file -";
    let mut terminal = Terminal::open(in_terminal(&vault, &token, dir.path(), create));
    let asked = terminal.until("password: ");
    assert!(asked.ends_with("password: "), "{asked:?}");
    terminal.until_silent();
    terminal.types("typed-in-Secret-7\n");
    let shown = terminal.until("");
    assert!(shown.contains("with the password that you brought"), "{shown:?}");
    assert!(!shown.contains("typed-in"), "{shown:?}");
    assert!(terminal.0.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_at_a_prompt_brings_the_echo_back() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let dir = tempfile::tempdir().unwrap();
    let create =
        "credentials create desk-1 --username desk-1 --realm sip.test --password-file -; stty -a";
    let mut terminal = Terminal::open(in_terminal(&vault, &token, dir.path(), create));
    terminal.until("password: ");
    terminal.until_silent();
    terminal.types("half\u{3}");
    let shown = terminal.until("");
    assert!(shown.contains("cannot ask for the password: interrupted"), "{shown:?}");
    assert!(shown.contains(" echo ") && !shown.contains("half"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_shows_a_bar_and_takes_it_away() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..2000).map(|n| format!("user-{n},sip.test\n")).collect();
    fs::write(dir.path().join("phones.csv"), format!("username,realm\n{}", rows.concat())).unwrap();
    let import = "credentials import phones.csv --out out.csv";
    let shown = Terminal::open(in_terminal(&vault, &token, dir.path(), import)).until("");
    assert!(shown.contains(" of 2,000, ") && shown.contains(" left"), "{shown:?}");
    assert!(
        shown.trim_end().ends_with("2000 credentials created in accounts/acme, 0 lines failed")
    );
    assert!(!shown.contains(" after "), "no lines where there is a bar: {shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_shows_what_it_waits_for_and_takes_it_away() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let dir = tempfile::tempdir().unwrap();
    let create = "credentials create desk-1 --username desk-1 --realm sip.test";
    Terminal::open(in_terminal(&vault, &token, dir.path(), create)).until("");
    let shown = Terminal::open(in_terminal(&vault, &token, dir.path(), "rotate desk-1")).until("");
    let parts: Vec<&str> = shown.split("\r\u{1b}[2K").collect();
    assert_eq!(parts[..2], ["looking at desk-1 …", "rotating desk-1 …"], "{shown:?}");
    assert!(parts[2].trim_end().ends_with("confirming desk-1 …"), "{shown:?}");
    assert!(parts[3].contains("version 2, confirmed"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_at_a_carrier_is_asked_for() {
    let (vault, acme) = with_all().await;
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let dir = tempfile::tempdir().unwrap();
    let trunk = vault.telepath.add_trunk(At::Telepath.tokens()[0], "trunk-1", "First-Passw0rd");
    let request = CreateCredentialRequest {
        parent: "accounts/acme".to_owned(),
        credential_id: "trunk-1".to_owned(),
        credential: Some(Credential {
            username: "trunk-1".to_owned(),
            realm: "sip.test".to_owned(),
            provider: "accounts/acme/providers/telepath".to_owned(),
            at_carrier: Some(AtCarrier::Telepath(TelepathTrunk { trunk_id: trunk })),
            ..Credential::default()
        }),
        password: Some("First-Passw0rd".to_owned()),
        ..CreateCredentialRequest::default()
    };
    acme.credentials.clone().create_credential(request).await.unwrap();
    let asked = |answer: &str| {
        let rotate = in_terminal(&vault, &token, dir.path(), "rotate trunk-1");
        let mut terminal = Terminal::open(rotate);
        let shown = terminal.until("Rotate? [y/N] ");
        assert!(shown.contains("Telepath makes the new password itself"), "{shown:?}");
        terminal.types(answer);
        (terminal.until(""), terminal.0.wait().unwrap().success())
    };
    for no in ["\n", "n\n", "\u{3}"] {
        let (shown, is_done) = asked(no);
        assert!(!is_done && shown.contains("nothing has changed"), "{shown:?}");
        assert!(vault.telepath.accepts("trunk-1", "First-Passw0rd"));
    }
    let (shown, is_done) = asked("y\n");
    assert!(is_done && shown.contains("version 2, confirmed"), "{shown:?}");
    assert!(!vault.telepath.accepts("trunk-1", "First-Passw0rd"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no state is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_for_nobody_is_asked_about() {
    let (vault, _) = with_all().await;
    let token = vault.token("acme", &[Role::TokenWriter]).await;
    let dir = tempfile::tempdir().unwrap();
    let asked = |answer: &str| {
        let rotate = in_terminal(&vault, &token, dir.path(), "providers rotate-token twilio");
        let mut terminal = Terminal::open(rotate);
        let shown = terminal.until("Rotate? [y/N] ");
        assert!(shown.contains("nobody outside the vault gets the new token"), "{shown:?}");
        terminal.types(answer);
        (terminal.until(""), terminal.0.wait().unwrap().success())
    };
    for no in ["\n", "\u{3}"] {
        let (shown, is_done) = asked(no);
        assert!(!is_done && shown.contains("nothing has changed"), "{shown:?}");
        assert_eq!(vault.twilio.calls_to("AuthTokens"), 0);
    }
    let (shown, is_done) = asked("y\n");
    assert!(is_done && shown.contains("Both tokens work"), "{shown:?}");
}
