//! `credvault doctor`, through the real binary: a good vault has nothing to mend, each finding is provoked for real, and
//! nothing is ever changed.

mod cases;
mod running;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::credentials::create;
use crate::providers::{SID, TOKEN, create_provider};
use crate::refusals::world::{World, differences, is_possible, text};
use crate::sqlite;
use crate::support::Clients;
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::process::{Process, run};

/// What doctor said.
struct Said {
    code: Option<i32>,
    findings: Vec<Value>,
    plain: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let plain = String::from_utf8(output.stdout).unwrap();
        let all: Value = serde_json::from_str(&plain).unwrap_or_default();
        let findings = all["findings"].as_array().cloned().unwrap_or_default();
        let plain = plain + &String::from_utf8(output.stderr).unwrap();
        Self { code: output.status.code(), findings, plain }
    }

    /// Whether it finds this of this check.
    fn finds(&self, check: &str, verdict: &str, says: &str, mend: &str) -> bool {
        let holds = |finding: &Value, key: &str, part: &str| {
            finding[key].as_str().is_some_and(|text| text.contains(part))
        };
        self.findings.iter().any(|finding| {
            finding["check"] == check
                && finding["verdict"] == verdict
                && holds(finding, "says", says)
                && holds(finding, "mend", mend)
        })
    }

    fn verdicts(&self, of: &str) -> Vec<String> {
        let found = self.findings.iter().filter(|finding| finding["verdict"] == of);
        found.map(|finding| format!("{}: {}", finding["check"], finding["says"])).collect()
    }
}

/// Doctor for this vault, as JSON.
fn doctor(world: &World, options: &[&str]) -> Command {
    let mut command = world.command("doctor", &[]);
    command.args(["--output", "json"]).args(options);
    command
}

/// A token from `credvault tokens create`.
fn token(data: &Path, options: &[&str]) -> String {
    let create = ["tokens", "create", "--data-dir", data.to_str().unwrap(), "--days", "90"];
    let output = run([&create[..], options].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A vault with an operator, an account with its admin, three credentials, and a provider.
async fn template() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("vault");
    assert!(run(["init", "--data-dir", &text(&data)]).status.success());
    token(&data, &["--role", "operator"]);
    let admin = token(&data, &["--account", "acme", "--role", "account-admin"]);
    let twilio = FakeTwilio::start().await;
    twilio.add_account(SID, TOKEN);
    let url = twilio.url();
    let server = Process::serve(&data, &[("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url)]);
    let mut clients = Clients::new(&server.channel, &admin);
    for username in ["alice", "bob", "carol"] {
        clients.credentials.create_credential(create(username)).await.unwrap();
    }
    clients.create_provider(create_provider("main")).await.unwrap();
    assert!(server.terminate().success());
    std::fs::remove_file(dir.path().join("vault.log")).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_vault_has_nothing_to_mend() {
    let template = template().await;
    let world = World::of(template.path(), 201);
    let before = world.content();
    for options in [&[][..], &["--deep"]] {
        let said = Said::of(doctor(&world, options).output().unwrap());
        let wrong = [said.verdicts("bad"), said.verdicts("warning")].concat();
        assert!(wrong.is_empty() && said.code == Some(0), "{wrong:?} {}", said.plain);
    }
    let said = Said::of(doctor(&world, &["--deep"]).output().unwrap());
    assert!(said.finds("secrets", "good", "all 4 open", ""), "{}", said.plain);
    assert!(said.finds("audit", "good", "entries in 2 chains", ""), "{}", said.plain);
    assert_eq!(differences(&before, &world.content()), [""; 0].map(std::path::PathBuf::from));

    // For people: a line each, and the summary beside them.
    let people = world.command("doctor", &[]).output().unwrap();
    let (out, err) =
        (String::from_utf8(people.stdout).unwrap(), String::from_utf8(people.stderr).unwrap());
    assert!(out.lines().count() >= 12 && out.lines().all(|line| line.starts_with("✓ ")), "{out}");
    assert_eq!(err, "Nothing is wrong.\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_that_is_wrong_is_found_with_its_mend_and_nothing_is_changed() {
    let template = template().await;
    let mut faults = Vec::new();
    for (number, case) in (1..).zip(cases::CASES.iter().filter(|case| is_possible(case.name))) {
        let world = World::of(template.path(), number);
        let mut command = doctor(&world, &[]);
        (case.spoil)(&world, &mut command);
        let before = world.content();
        let said = Said::of(command.output().unwrap());
        if said.code != Some(1) || !said.finds(case.check, case.verdict, case.says, case.mend) {
            faults.push(format!("{}: {:?} {}", case.name, said.code, said.plain));
        }
        let touched = differences(&before, &world.content());
        if !touched.is_empty() {
            faults.push(format!("{}: touched {touched:?}", case.name));
        }
    }
    println!("{} cases, {} not found as they should be", cases::CASES.len(), faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_is_looked_at_and_stays() {
    let template = template().await;
    let world = World::of(template.path(), 202);
    let admin = token(&world.data(), &["--account", "acme", "--role", "account-admin"]);
    let mut server = Process::serve(&world.data(), &[]);
    let mut clients = Clients::new(&server.channel, &admin);
    clients.credentials.create_credential(create("dave")).await.unwrap();
    server.kill();
    let before = world.content();
    assert!(std::fs::metadata(world.file("vault/credvault.db-wal")).unwrap().len() > 0);
    let said = Said::of(doctor(&world, &["--deep"]).output().unwrap());
    assert!(said.finds("store", "warning", "not closed in order", "find out"), "{}", said.plain);
    assert!(said.finds("secrets", "good", "all 5 open", ""), "the log counts: {}", said.plain);
    assert!(differences(&before, &world.content()).is_empty());
    let server = Process::serve(&world.data(), &[]);
    assert!(server.terminate().success());
}

#[test]
fn where_it_cannot_look_it_says_so_and_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = run(["doctor", "--data-dir", &text(&dir.path().join("nowhere"))]);
    assert_eq!(nothing.status.code(), Some(2));
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert!(said.contains("there is no vault at") && said.contains("credvault init"), "{said}");
    let letter = dir.path().join("letter.db");
    std::fs::write(&letter, "a letter to my aunt ".repeat(400)).unwrap();
    let other = run(["doctor", "--store", &format!("sqlite:{}", text(&letter))]);
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8(other.stderr).unwrap().contains("is not a Credvault store"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_init_prints_can_be_typed_and_leaves_nothing_for_doctor() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("the vault");
    let init = run(["init", "--data-dir", &text(&data)]);
    let said = String::from_utf8(init.stdout).unwrap();
    let commands: Vec<_> = said.lines().filter(|line| line.contains("credvault ")).collect();
    assert_eq!(commands.len(), 3, "{said}");
    for command in &commands[..2] {
        // `credvault` as the binary under test, with its surroundings.
        let credvault = crate::support::process::credvault([""; 0]);
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!("credvault() {{ \"$0\" \"$@\"; }}; {command}")]);
        shell.arg(credvault.get_program()).current_dir(dir.path());
        shell.env("CREDVAULT_OPS_LISTEN", "off");
        let ran = shell.output().unwrap();
        assert!(ran.status.success(), "{command}: {ran:?}");
    }
    let database = sqlite::open(&data.join("credvault.db"));
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM role_binding WHERE role = 'operator'"), 1);
    let token = std::fs::read_to_string(dir.path().join("operator.token")).unwrap();
    assert!(token.starts_with("cv1_") && token.lines().count() == 1);
    let serve = commands[2].trim();
    assert!(
        serve.starts_with("credvault serve --data-dir '") && serve.ends_with("the vault'"),
        "{serve}"
    );
}
