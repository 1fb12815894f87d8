//! The transcript of the README, typed again: each command is run, and what it says is compared.
//!
//! The commands are not changed. What the environment gives them are ports that are free, a home of their own, and
//! the binary of these tests. What differs in each run (times, ids, passwords, hashes) is compared by its form.

mod steps;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::credvault;
use steps::{Step, blocks, steps};

/// The steps of the one transcript of the text.
fn transcript(text: &str) -> Vec<Step> {
    let found = blocks(text, "console");
    assert_eq!(found.len(), 1, "there is one transcript");
    steps(found[0])
}

/// What is the same in each run.
fn form(text: &str) -> String {
    let lines = text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn word(word: &str) -> String {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let (alone, comma) = word.strip_suffix(',').map_or((word, ""), |alone| (alone, ","));
    if alone.parse::<jiff::Timestamp>().is_ok() || alone.parse::<jiff::civil::Date>().is_ok() {
        return format!("TIME{comma}");
    }
    // Of the machine: how much room its disk has, and how many files it lets a process open.
    if word.len() > 3 && word.bytes().all(|b| b.is_ascii_digit()) {
        return "NUMBER".to_owned();
    }
    for (before, length) in [("apiTokens/", 24), ("token:", 24)] {
        if let Some((start, id)) = word.split_once(before)
            && id.len() == length
            && is_hex(id)
        {
            return format!("{start}{before}ID");
        }
    }
    match word.split_once(':') {
        Some((number, hash)) if hash.len() == 64 && is_hex(hash) => format!("{number}:HASH"),
        _ if word.len() == 24 && word.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            "PASSWORD".to_owned()
        }
        _ => word.to_owned(),
    }
}

/// A port that the system chooses.
const FREE: &str = "127.0.0.1:0";

/// Where the server of a transcript is, by its log.
struct Places {
    calls: String,
    operations: String,
}

impl Places {
    fn of(log: &str) -> Option<Self> {
        let address = |message: &str| {
            let line = log.lines().find(|line| line.contains(message))?;
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["address"].as_str()?.to_owned())
        };
        Some(Self { calls: address("taking calls")?, operations: address("operations listener")? })
    }
}

/// A command with a shell of its own, in this folder, which is its home, too.
fn shell(dir: &Path, places: Option<&Places>, command: &str) -> Command {
    let plain = credvault([""; 0]);
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(dir).stdin(Stdio::null());
    shell.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // At its usual place.
    shell.env_remove("CREDVAULT_CLIENT_CONFIG").env_remove("XDG_CONFIG_HOME").env("HOME", dir);
    let bin = dir.join("bin");
    shell.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    match places {
        None => shell.env("CREDVAULT_LISTEN", FREE).env("CREDVAULT_OPS_LISTEN", FREE),
        Some(Places { calls, operations }) => shell
            .env("CREDVAULT_LISTEN", calls)
            .env("CREDVAULT_ADDRESS", calls)
            .env("CREDVAULT_OPS_LISTEN", operations),
    };
    shell
}

/// A server that a step left running. Killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts what stays behind, and waits until its log says where it is.
fn start(dir: &Path, command: &str) -> (Server, Places) {
    let server = Server(shell(dir, None, &format!("exec {command}")).spawn().unwrap());
    let log = dir.join(command.split("2> ").nth(1).unwrap());
    let began = Instant::now();
    loop {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if let Some(places) = Places::of(&said) {
            return (server, places);
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{command}: not ready: {said}");
        std::thread::yield_now();
    }
}

/// Runs a command to its end; what a terminal would show.
fn output(mut command: Command) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    // Its ends of the pipe are closed with it.
    drop(command);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said
}

/// Types a transcript; the first thing that is different.
fn play(text: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("bin")).unwrap();
    let binary = dir.path().join("bin/credvault");
    std::os::unix::fs::symlink(credvault([""; 0]).get_program(), binary).unwrap();
    let mut servers = Vec::new();
    let mut places = None;
    for Step { command, says } in transcript(text) {
        let said = match command.strip_suffix(" &") {
            Some(command) => {
                let (server, at) = start(dir.path(), command);
                servers.push(server);
                places = Some(at);
                String::new()
            }
            None => output(shell(dir.path(), places.as_ref(), &command)),
        };
        if form(&said) != form(says.trim_end()) {
            return Err(format!("$ {command}\n--- the transcript:\n{says}\n--- now:\n{said}"));
        }
    }
    assert_eq!(servers.len(), 1, "a server takes the calls");
    Ok(())
}

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn the_first_ten_minutes_are_as_the_readme_shows_them() {
    if let Err(different) = play(&readme()) {
        panic!("README.md shows something else than what happens:\n{different}");
    }
}

#[test]
fn planted_words_that_no_command_says_are_found() {
    let readme = readme();
    let changed = readme.replacen("version 2; its password", "version 3; its password", 1);
    assert_ne!(changed, readme);
    let found = play(&changed).unwrap_err();
    assert!(found.contains("credentials rotate") && found.contains("version 2"), "{found}");
}

#[test]
fn only_what_must_differ_is_compared_by_its_form() {
    let id = "0123456789abcdef01234567";
    let hash = "0".repeat(64);
    let text = format!(
        "vault/apiTokens/{id} by token:{id} at 2026-05-01T12:00:00Z\n--noted 3:{hash}\naB3aB3aB3aB3aB3aB3aB3aB3"
    );
    assert_eq!(form(&text), "vault/apiTokens/ID by token:ID at TIME\n--noted 3:HASH\nPASSWORD");
    for same in
        ["accounts/acme/credentials/desk-1: version 2", "token:bob  7", "12:00  3:00", "a  b"]
    {
        assert_eq!(form(same), same);
    }
}
