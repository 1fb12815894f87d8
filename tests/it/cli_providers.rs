//! `credvault providers`, as people and scripts run it: against a real vault and a fake Twilio.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use credvault::access::Role;
use serde_json::Value;

use crate::carriers::At;
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider};
use crate::support::TestVault;
use crate::support::cli::{Ran, words};
use crate::support::fakes::twilio::{FakeTwilio, Fault};
use crate::support::process::{Process, credvault};

const OTHER_SID: &str = "ACffffffffffffffffffffffffffffffff";

/// A vault of `credvault dev` in a folder of its own, where a person would type commands.
struct Desk {
    dir: tempfile::TempDir,
    twilio: FakeTwilio,
    dev: Process,
}

impl Desk {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let twilio = FakeTwilio::start().await;
        twilio.add_account(SID, TOKEN);
        twilio.add_account(OTHER_SID, TOKEN);
        let url = twilio.url();
        let environment =
            ["API", "TRUNKING"].map(|it| format!("CREDVAULT_UPSTREAM_TWILIO_{it}_URL"));
        let environment = environment.iter().map(|name| (name.as_str(), url.as_str()));
        let dev = Process::dev(dir.path(), &environment.collect::<Vec<_>>());
        Self { dir, twilio, dev }
    }

    async fn create(&self, id: &str, sid: &str, display_name: &str) {
        let mut request = create_provider(id);
        "accounts/dev".clone_into(&mut request.parent);
        let provider = request.provider.as_mut().unwrap();
        provider.kind = Some(crate::providers::twilio(sid));
        provider.display_name = Some(display_name.to_owned());
        self.dev.clients().create_provider(request).await.unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = credvault([&["providers"], arguments].concat());
        command.current_dir(self.dir.path()).env("CREDVAULT_ADDRESS", self.dev.address.to_string());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_shows_each_provider_and_what_is_wrong_with_it() {
    let desk = Desk::start().await;
    desk.run(&["list"])
        .says(0, &["no provider in accounts/dev yet", "credvault providers create main"]);
    let nothing: Value =
        serde_json::from_str(&desk.run(&["list", "--output", "json"]).out).unwrap();
    assert_eq!(nothing["providers"], serde_json::json!([]));

    desk.create("main", SID, "Main trunk").await;
    desk.create("spare", OTHER_SID, "turned \u{202e} round").await;
    desk.twilio.set_status(OTHER_SID, "suspended");
    assert_eq!(desk.run(&["verify", "spare"]).status, 1);

    let listed = desk.run(&["list"]);
    listed.says(0, &[]);
    assert!(listed.err.is_empty() && !listed.out.contains(['\u{1b}', '\u{202e}']), "{listed:?}");
    let lines: Vec<&str> = listed.out.lines().collect();
    let header = "PROVIDER, DISPLAY NAME, CARRIER ACCOUNT, STATUS, SINCE, VERIFIED, NUMBERS, TOKEN";
    assert_eq!(words(lines[0]).join(", "), header);
    let main = words(lines[1]);
    assert_eq!(main[..4], ["main", "Main trunk", SID, "verified"]);
    assert_eq!(main[6], "0");
    assert!(main[4].ends_with('s') && main[5].ends_with('s') && main[7].starts_with("v1, "));
    assert_eq!(words(lines[2])[..4], ["spare", "turned \u{fffd} round", OTHER_SID, "failed"]);
    assert!(lines[3].starts_with("  ✗ account_active: "), "{}", lines[3]);
    assert!(lines[4].starts_with("  – phone_numbers: "), "{}", lines[4]);
    assert_eq!(lines.len(), 5, "what passed takes no line");

    let failed = desk.run(&["list", "--status", "failed", "--type", "twilio", "--output", "json"]);
    let failed: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(failed["providers"].as_array().unwrap().len(), 1);
    let spare = &failed["providers"][0];
    assert_eq!(spare["name"], "accounts/dev/providers/spare");
    assert_eq!(spare["twilio"]["accountSid"], OTHER_SID);
    assert_eq!(spare["verification"]["status"], "VERIFICATION_STATUS_FAILED");
    assert_eq!(spare["verification"]["checks"][1]["status"], "CHECK_STATUS_FAILED");
    assert_eq!(spare["tokenVersion"], "1");
    desk.run(&["list", "--status", "warning"]).says(0, &["is like that"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_holds_every_page() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    let ids: Vec<String> = (0..201).map(|n| format!("main-{n:03}")).collect();
    for id in &ids {
        acme.create_provider(create_provider(id)).await.unwrap();
    }
    let token = vault.token("acme", &[Role::Reader]).await;
    let listed = client(&vault, &token, vault.dir.path(), &["list"]);
    let mut rows = listed.out.lines().skip(1);
    assert!(ids.iter().all(|id| rows.next().is_some_and(|row| words(row)[0] == id)), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_prints_each_check_and_exits_with_the_worst() {
    let desk = Desk::start().await;
    desk.create("main", SID, "Main trunk").await;
    desk.create("spare", OTHER_SID, "").await;

    let all = desk.run(&["verify", "--all"]);
    all.says(
        0,
        &["main  Main trunk  verified for ", "spare  verified for ", "  ✓ credentials     Twilio"],
    );
    assert!(all.err.is_empty(), "{all:?}");

    // A check beside the token's.
    desk.twilio.set_path_fault("/IncomingPhoneNumbers", Some(Fault::Status(500)));
    desk.run(&["verify", "main"]).says(0, &["  ? phone_numbers   Twilio could not be asked"]);
    desk.twilio.set_path_fault("/IncomingPhoneNumbers", None);

    // A carrier that cannot be asked at all.
    desk.twilio.set_account_fault(OTHER_SID, Some(Fault::RateLimit(7)));
    let unasked = desk.run(&["verify", "main", "accounts/dev/providers/spare"]);
    unasked
        .says(2, &["✓ credentials", "spare could not be asked", "UPSTREAM_RATE_LIMITED", "in 7 s"]);
    let unasked = desk.run(&["verify", "--all", "--output", "json"]).json_lines();
    assert_eq!(unasked[0]["verification"]["status"], "VERIFICATION_STATUS_VERIFIED");
    assert_eq!(unasked[1]["error"]["reason"], "UPSTREAM_RATE_LIMITED");
    assert_eq!(unasked[1]["name"], "accounts/dev/providers/spare");

    // One that refuses the token outweighs one that cannot be asked.
    desk.twilio.set_token(SID, TOKEN_2);
    let failed = desk.run(&["verify", "--all"]);
    failed.says(
        1,
        &["main  Main trunk  failed", "✗ credentials", "– account_active", "update-token main`"],
    );
    let said = [&failed.out, &failed.err].map(String::as_str).concat();
    assert!(!said.contains(TOKEN) && !said.contains(&desk.dev.token()), "{said}");
}

/// Runs a command for `accounts/acme` of a vault in this process.
fn client(vault: &TestVault, token: &str, folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = credvault([&["providers"], arguments].concat());
    command.current_dir(folder).env("CREDVAULT_ADDRESS", vault.address.to_string());
    command.env("CREDVAULT_TOKEN", token).env("CREDVAULT_ACCOUNT", "acme");
    Ran::from(command.output().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_to_type_next() {
    let vault = TestVault::start().await;
    let folder = tempfile::tempdir().unwrap();
    let admin = vault.token("acme", &[Role::AccountAdmin]).await;
    let reader = vault.token("acme", &[Role::Reader]).await;
    let run = |token: &str, arguments: &[&str]| client(&vault, token, folder.path(), arguments);

    let list_them = "`credvault providers list` shows which there are";
    run(&admin, &["verify", "nope"]).says(2, &["NOT_FOUND", list_them]);
    run(&admin, &["verify", "--all"])
        .says(0, &["`credvault providers list` says how to create one"]);
    run(&admin, &["verify"]).says(2, &["--all", list_them]);
    run(&admin, &["verify", "nope", "--watch", "--every", "9s"]).says(2, &["from 10s to 168h"]);
    run(&admin, &["list", "--account", "other"]).says(1, &["NOT_FOUND", "--account"]);
    run(&admin, &["list", "--account", "Ä!"]).says(1, &["lower-case"]);
    let role = "`credvault tokens create --account acme --role token-writer`";
    run(&reader, &["verify", "nope"]).says(2, &["ROLE_MISSING", role]);
    let stranger = run("cv1_nobody", &["list"]);
    stranger.says(1, &["UNAUTHENTICATED", "from CREDVAULT_TOKEN", "--token-file", "tokens create"]);
    assert!(!stranger.err.contains("cv1_nobody"), "{stranger:?}");
    run("two words", &["list"]).says(1, &["the token must be one line"]);
    let missing = folder.path().join("missing.token");
    let missing = missing.to_str().unwrap();
    run(&admin, &["list", "--token-file", missing]).says(1, &[missing, "--token-file"]);
    run("", &["list"]).says(1, &["no API token", "--token-file", "credvault dev"]);

    let twilio = vault.twilio.url();
    for (address, told) in [
        ("127.0.0.1:1", "is it running? `credvault dev`"),
        (twilio.as_str(), "its answer is lost or none of a vault"),
        ("192.0.2.1:50051", "write https://HOST:PORT"),
        ("https://127.0.0.1:1", "is it running?"),
        ("unix:/nowhere", "is it running?"),
        ("nonsense", "HOST:PORT"),
    ] {
        let ran = run(&admin, &["list", "--address", address]);
        assert!(ran.err.to_lowercase().contains(&told.to_lowercase()), "{ran:?}");
        assert_eq!(ran.status, 1, "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_comes_from_a_file_or_a_pipe_and_only_the_carrier_lets_it_in() {
    const KEY: &str = "SKaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const SECRET: &str = "keysecretkeysecretkeysecretkeyse";
    let desk = Desk::start().await;
    let file = |name: &str, text: &str, mode: u32| {
        let path = desk.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let create = ["create", "main", "--account-sid", SID, "--display-name", "Main"];
    let wrong = Ran::with_input(desk.command(&create), &format!("{TOKEN_2}\n"));
    wrong.says(1, &["UPSTREAM_REJECTED_TOKEN", "nothing was changed"]);
    Ran::with_input(desk.command(&create), "").says(1, &["the Auth Token is empty"]);
    file("open.token", TOKEN, 0o644);
    let open = desk.run(&[&create[..], &["--auth-token-file", "open.token"]].concat());
    open.says(1, &["others may read it", "chmod 600 open.token"]);
    let tried = [&create[..], &["--validate-only"]].concat();
    Ran::with_input(desk.command(&tried), TOKEN).says(0, &["verified", "nothing was stored"]);
    desk.run(&["get", "main"]).says(1, &["NOT_FOUND", "`credvault providers list`"]);
    file("own.token", &format!("{TOKEN}\n"), 0o600);
    let created = desk.run(&[&create[..], &["--auth-token-file", "own.token"]].concat());
    created.says(0, &["main  Main  verified", "✓ credentials", "twilio.account_sid", SID]);

    desk.run(&["update", "main"]).says(1, &["nothing to change", "--trunk-sid"]);
    desk.run(&["update", "main", "--display-name", ""]).says(0, &["main  verified"]);
    desk.run(&["update", "main", "--trunk-sid", "TK"]).says(1, &["INVALID_FIELD", "sip_trunk_sid"]);
    desk.twilio.add_api_key(SID, KEY, SECRET);
    let by_key = ["update-token", "main", "--api-key-sid", KEY, "--output", "json"];
    let by_key = Ran::with_input(desk.command(&by_key), SECRET);
    by_key.says(0, &[]);
    assert_eq!(by_key.json()["provider"]["twilio"]["apiKeySid"], KEY);
    let both =
        desk.run(&["update-token", "main", "--api-key-sid", KEY, "--auth-token-file", "own.token"]);
    both.says(2, &["cannot be used with"]);
    let stale = ["update-token", "main", "--auth-token-file", "own.token", "--etag", "\"0.1\""];
    desk.run(&stale).says(1, &["ETAG_MISMATCH"]);
    let again = desk.run(&["update-token", "main", "--auth-token-file", "own.token"]);
    again.says(0, &["token v3"]);

    desk.twilio.set_status(SID, "suspended");
    desk.run(&["verify", "main"]).says(1, &[]);
    let history = desk.run(&["history", "main"]);
    history.says(0, &["account_active failed", "verified", "v3"]);
    let lines: Vec<&str> = history.out.lines().collect();
    assert_eq!(words(lines[0]), ["VERIFIED", "AGE", "STATUS", "TOKEN", "NOT PASSED"]);
    assert_eq!(words(lines[1])[2], "failed", "newest first: {history:?}");
    let listed = desk.run(&["history", "main", "--output", "json"]).json();
    assert_eq!(listed["verifications"].as_array().unwrap().len(), lines.len() - 1);
    desk.run(&["delete", "main"])
        .says(0, &["main is deleted", "at the carrier its token stays valid"]);
    desk.run(&["history", "main"]).says(1, &["NOT_FOUND"]);
    for said in [wrong, created, by_key, again] {
        let said = said.out + &said.err;
        assert!(![TOKEN, TOKEN_2, SECRET].iter().any(|secret| said.contains(secret)), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vobiz_and_telepath_are_created_listed_and_given_a_new_token() {
    const AUTH_ID: &str = "MA_XXXXXXXX";
    let vault = TestVault::start().await;
    let folder = tempfile::tempdir().unwrap();
    let admin = vault.token("acme", &[Role::AccountAdmin]).await;
    let command = |arguments: &[&str]| {
        let mut command = credvault([&["providers"], arguments].concat());
        command.current_dir(folder.path()).env("CREDVAULT_ADDRESS", vault.address.to_string());
        command.env("CREDVAULT_TOKEN", &admin).env("CREDVAULT_ACCOUNT", "acme");
        command
    };
    let [old, new, _] = At::Vobiz.tokens();
    let vobiz = ["create", "india", "--vobiz-auth-id", AUTH_ID, "--display-name", "India"];
    let refused = Ran::with_input(command(&vobiz), old);
    refused.says(1, &["UPSTREAM_REJECTED_TOKEN", "nothing was changed"]);
    At::Vobiz.add_account(&vault);
    let created = Ran::with_input(command(&vobiz), old);
    created.says(0, &["india  India  verified", AUTH_ID, "2 SIP credentials", "vobiz.auth_id"]);
    vault.vobiz.set_token(AUTH_ID, new);
    let updated = Ran::with_input(command(&["update-token", "india"]), new);
    updated.says(0, &["token v2"]);
    Ran::with_input(command(&["update-token", "india"]), "").says(1, &["the token is empty"]);

    let telepath = ["create", "agents", "--telepath"];
    Ran::with_input(command(&telepath), "").says(1, &["the API key is empty"]);
    At::Telepath.add_account(&vault);
    let agents = Ran::with_input(command(&telepath), At::Telepath.tokens()[0]);
    agents.says(0, &["agents  verified", "at Telepath", "1 trunk", "kills the old one at once"]);

    let run = |arguments: &[&str]| Ran::from(command(arguments).output().unwrap());
    let listed = run(&["list"]);
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!(words(lines[1])[..3], ["agents", "at Telepath", "verified"], "{listed:?}");
    assert_eq!(words(lines[2])[..4], ["india", "India", AUTH_ID, "verified"], "{listed:?}");
    let listed = run(&["list", "--type", "telepath", "--output", "json"]).json();
    assert_eq!(listed["providers"].as_array().unwrap().len(), 1);
    assert_eq!(listed["providers"][0]["telepath"], serde_json::json!({}));
    run(&["verify", "--all"]).says(0, &["✓ credentials", "✓ account_active"]);
    run(&["update", "india", "--display-name", "Mumbai"]).says(0, &["india  Mumbai"]);
    let trunk = format!("TK{}", "0".repeat(32));
    run(&["update", "india", "--trunk-sid", &trunk])
        .says(1, &["INVALID_FIELD", "provider.twilio", "not this provider's carrier"]);

    run(&["create", "both", "--telepath", "--account-sid", SID]).says(2, &["cannot be used with"]);
    run(&["create", "none"]).says(2, &["--account-sid", "--vobiz-auth-id", "--telepath"]);
    for of_twilio in ["--trunk-sid", "--credential-list-sid", "--region"] {
        run(&["create", "x", "--telepath", of_twilio, &trunk]).says(2, &["cannot be used with"]);
    }
    run(&["create", "--help"]).says(0, &["the old one dies", "--vobiz-auth-id <AUTH_ID>"]);
    for said in [refused, created, updated, agents] {
        let said = said.out + &said.err;
        assert!(![old, new, At::Telepath.tokens()[0]].iter().any(|it| said.contains(it)), "{said}");
    }
}

/// A watch under way. Killed when dropped, so that a test that fails leaves none behind.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_what_it_finds_until_ctrl_c() {
    let desk = Desk::start().await;
    desk.create("main", SID, "Main trunk").await;
    desk.twilio.set_status(SID, "suspended");
    let mut command = desk.command(&["verify", "--all", "--watch", "--every", "168h"]);
    let mut watch = Watch(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(watch.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(
        line.contains(
            "Z  main  failed  account_active: Twilio says that the account is not active"
        ),
        "{line}"
    );
    let sent = Command::new("kill").args(["-INT", &watch.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert!(watch.0.wait().unwrap().success());
}
