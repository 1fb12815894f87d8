//! The story in the README, typed again: three carriers, a vault that knows them, and each command in a shell.
//!
//! In place of the programs that a person starts first there are `dev` and the small carriers at ports that are free.
//! Those stand for the README's in what is typed and in what is compared. `…` in an answer is what the README leaves
//! out: a line of it is any lines, and within a line it is any text. What is made up in each run anew is compared by
//! its form, and copied into what is typed after it ([`Copied`], [`form`]).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::fakes::telepath::{self, FakeTelepath};
use crate::fakes::twilio::{self, FakeTwilio};
use crate::fakes::vobiz::{self, FakeVobiz};
use crate::server::{OutputOf as _, Server, tool};
use crate::steps::{Step, blocks, steps};

type Carriers = (FakeTwilio, FakeVobiz, FakeTelepath);

/// The world in which the story is typed. Dropped in this order: the carriers before what they run on.
struct World {
    vault: Server,
    carriers: Carriers,
    _runtime: Runtime,
    folder: TempDir,
    abbreviations: String,
}

impl World {
    fn start(readme: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let carriers = runtime.block_on(async {
            (FakeTwilio::start().await, FakeVobiz::start().await, FakeTelepath::start().await)
        });
        // The accounts of the programs. What they would print is for people.
        twilio::introduce(&carriers.0);
        vobiz::introduce(&carriers.1);
        telepath::introduce(&carriers.2);
        let typed = blocks(readme, "sh");
        let known = typed.iter().flat_map(|it| it.split_whitespace()).filter_map(|word| {
            let (name, url) = word.split_once("=http")?;
            name.starts_with("CREDVAULT_UPSTREAM_")
                .then(|| (name, at(&carriers, &format!("http{url}"))))
        });
        let known = known.collect::<Vec<_>>();
        let known = known.iter().map(|(name, url)| (*name, url.as_str())).collect::<Vec<_>>();
        assert_eq!(known.len(), 3, "the vault is told where the carriers are");
        let folder = tempfile::tempdir().unwrap();
        let vault = Server::start(folder.path(), &known);
        fs::create_dir_all(folder.path().join("target/debug")).unwrap();
        symlink(examples(), folder.path().join("target/debug/examples")).unwrap();
        let abbreviations = *typed.iter().find(|it| it.contains("\nvault() {")).unwrap();
        let abbreviations = abbreviations.to_owned();
        Self { vault, carriers, _runtime: runtime, folder, abbreviations }
    }

    /// The text with the addresses of this world.
    fn here(&self, text: &str) -> String {
        at(&self.carriers, &text.replace("127.0.0.1:50051", &self.vault.address))
    }

    /// What a terminal shows when this is typed into a new shell, which knows the abbreviations.
    fn says(&self, command: &str) -> String {
        let script = self.here(&format!("exec 2>&1\n{}\n{command}\n", self.abbreviations));
        let mut shell = tool("bash");
        // No proxy of whoever runs this stands between curl and a carrier.
        shell.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        shell.args(["-c", &script]).current_dir(&self.folder).output_of("").both()
    }
}

/// The text with the addresses of these carriers.
fn at((twilio, vobiz, telepath): &Carriers, text: &str) -> String {
    let address = |url: String| url.replace("http://", "");
    text.replace("127.0.0.1:8081", &address(twilio.url()))
        .replace("127.0.0.1:8082", &address(vobiz.url()))
        .replace("127.0.0.1:8083", &address(telepath.url()))
}

/// Where cargo puts the example programs: beside what it puts this test into.
fn examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().and_then(Path::parent).unwrap().join("examples");
    assert!(examples.join("digest").is_file(), "`cargo build --examples` makes the phone");
    examples
}

/// What was made up when the README was written, and what was made up in its place now.
///
/// Who types a transcript copies what he sees into the commands that follow, and so does this. What was the same then
/// has to be the same now, and what was another.
#[derive(Clone, Debug, Default)]
struct Copied(BTreeMap<String, String>);

impl Copied {
    /// The command as somebody types it who has seen this.
    fn typed(&self, command: &str) -> String {
        self.0.iter().fold(command.to_owned(), |command, (then, now)| command.replace(then, now))
    }

    /// With one more, if it does not contradict what is known.
    fn with(&self, then: &str, now: &str) -> Option<Self> {
        if self.0.iter().any(|(known, to)| (known == then) != (to == now)) {
            return None;
        }
        let mut copied = self.clone();
        copied.0.insert(then.to_owned(), now.to_owned());
        Some(copied)
    }

    /// What is copied after these lines, if they show what was said. `…` is one line, or more, that are left out.
    fn fits(&self, shown: &[&str], said: &[&str]) -> Option<Self> {
        let Some((line, shown)) = shown.split_first() else {
            return said.is_empty().then(|| self.clone());
        };
        if line.trim() == "…" {
            return (1..=said.len()).find_map(|left_out| self.fits(shown, &said[left_out..]));
        }
        let (first, said) = said.split_first()?;
        self.fits_line(line, first)?.fits(shown, said)
    }

    /// The same for a line. `…` in it is text that is left out.
    fn fits_line(&self, shown: &str, said: &str) -> Option<Self> {
        if shown == said {
            return Some(self.clone());
        }
        if let Some((start, end)) = shown.split_once('…') {
            let rest = said.strip_prefix(start)?;
            return rest.ends_with(end).then(|| self.clone());
        }
        let (then, now) = (Field::parse(shown)?, Field::parse(said)?);
        if (then.key, then.after) != (now.key, now.after) {
            return None;
        }
        match (form(then.key, then.value)?, form(now.key, now.value)?) {
            (Form::Time, Form::Time) => Some(self.clone()),
            (Form::MadeUp(then), Form::MadeUp(now)) if then.len() == now.len() => {
                self.with(then, now)
            }
            (Form::Part(same, then), Form::Part(also, now)) if same == also => self.with(then, now),
            _ => None,
        }
    }
}

/// A line of JSON with a text in it: `  "etag": "…",`.
struct Field<'a> {
    /// With what stands before it.
    key: &'a str,
    value: &'a str,
    after: &'a str,
}

impl<'a> Field<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (key, rest) = line.split_once("\": \"")?;
        let (value, after) = rest.rsplit_once('"')?;
        Some(Self { key, value, after })
    }
}

/// What each run has of its own.
#[derive(Debug, PartialEq)]
enum Form<'a> {
    /// When something happened. Nobody copies it.
    Time,
    /// Random, and of the same length in each run.
    MadeUp(&'a str),
    /// Random in part: what is not, and what is.
    Part((&'a str, &'a str), &'a str),
}

fn form<'a>(key: &str, value: &'a str) -> Option<Form<'a>> {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    match key.trim_start_matches([' ', '"']) {
        "time" => value.parse::<jiff::Timestamp>().is_ok().then_some(Form::Time),
        // A password is made up by the vault or a carrier; a sealed one is another each time by its nature.
        "password" | "ciphertext" => Some(Form::MadeUp(value)),
        // How long it is, the vault may choose anew.
        "nonce" => Some(Form::Part(("", ""), value)),
        // `\"2072b5f4.3\"`: the first part is random, the second counts changes.
        "etag" => {
            let (random, count) = value.strip_prefix("\\\"")?.split_once('.')?;
            (random.len() == 8 && is_hex(random)).then_some(Form::Part(("", count), random))
        }
        // Of a rotation, whose id is random.
        "name" => {
            let (parent, id) = value.rsplit_once("/rotations/")?;
            (id.len() == 33 && is_hex(&id[1..])).then_some(Form::Part((parent, ""), id))
        }
        _ => None,
    }
}

/// Types the story; what was said to all of it, or the first thing that is different.
fn play(readme: &str) -> Result<String, String> {
    let world = World::start(readme);
    let mut copied = Copied::default();
    let mut all = String::new();
    for Step { command, says } in blocks(readme, "shell-session").into_iter().flat_map(steps) {
        let said = world.says(&copied.typed(&command));
        let shown = world.here(&says);
        let lines = |text| str::lines(text).map(str::trim_end).collect::<Vec<_>>();
        let Some(more) = copied.fits(&lines(&shown), &lines(&said)) else {
            return Err(format!("$ {command}\n--- the story:\n{says}\n--- now:\n{said}"));
        };
        copied = more;
        all.push_str(&said);
    }
    Ok(all)
}

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn the_story_is_as_the_readme_shows_it() {
    let readme = readme();
    let all = play(&readme).unwrap_or_else(|different| {
        panic!("README.md shows something else than what happens:\n{different}")
    });
    // Nor does it stand where the README leaves something out.
    for secret in [
        "sk_live_trial",
        "vobiz-trial-token",
        "Trial-Passw0rd",
        "UpdatedSecurePassword456!",
        &"a".repeat(32),
        &"b".repeat(32),
        &"c".repeat(32),
        // With its quotes: the key's id has the same digits, and is no secret.
        &format!("\"{}\"", "9".repeat(32)),
    ] {
        assert!(readme.contains(secret), "{secret} is typed");
        assert!(!all.contains(secret), "{secret} is answered");
    }
    assert_eq!(all.matches(r#""password": "#).count(), 1, "one password is issued, and once");
}

#[test]
fn a_readme_that_lies_is_found() {
    let readme = readme();
    for (truth, lie) in [
        // A command, and an answer.
        ("echo 'Trial-Passw0rd'", "echo 'Wrong-Passw0rd'"),
        (r#""version": "1""#, r#""version": "2""#),
    ] {
        let changed = readme.replacen(truth, lie, 1);
        assert_ne!(changed, readme);
        let found = play(&changed).unwrap_err();
        assert!(found.contains(lie), "{found}");
    }
}

#[test]
fn only_what_must_differ_is_compared_by_its_form() {
    let fits = |shown: &str, said: &str| {
        let [shown, said] = [shown, said].map(|it| it.lines().collect::<Vec<_>>());
        Copied::default().fits(&shown, &said).is_some()
    };
    for (shown, said) in [
        ("{\n…\n}", "{\n  1\n  2\n}"),
        ("  1) {…\"A\"}", "  1) {\"reason\":\"A\"}"),
        (r#""time": "2026-05-01T12:00:00Z","#, r#""time": "2027-05-01T12:00:00.5Z","#),
        (r#""etag": "\"00000001.3\"""#, r#""etag": "\"00000002.3\"""#),
        (
            "\"ciphertext\": \"AB\"\n\"ciphertext\": \"AB\"",
            "\"ciphertext\": \"CD\"\n\"ciphertext\": \"CD\"",
        ),
    ] {
        assert!(fits(shown, said), "{shown}");
    }
    for (shown, said) in [
        ("{\n…\n}", "{\n}"),
        ("{\n…\n  2\n}", "{\n  1\n  2\n  3\n}"),
        ("  1) {…\"A\"}", "  1) {\"reason\":\"B\"}"),
        (r#""time": "2026-05-01T12:00:00Z","#, r#""time": "soon","#),
        (r#""version": "1","#, r#""version": "2","#),
        (r#""etag": "\"00000001.3\"""#, r#""etag": "\"00000002.4\"""#),
        (
            "\"ciphertext\": \"AB\"\n\"ciphertext\": \"AB\"",
            "\"ciphertext\": \"CD\"\n\"ciphertext\": \"EF\"",
        ),
        (
            "\"ciphertext\": \"AB\"\n\"ciphertext\": \"XY\"",
            "\"ciphertext\": \"CD\"\n\"ciphertext\": \"CD\"",
        ),
    ] {
        assert!(!fits(shown, said), "{shown}");
    }
}
