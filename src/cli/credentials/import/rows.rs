//! The file of what to create.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use anyhow::{Context as _, anyhow, bail};
use csv::StringRecord;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use crate::cli::{note, secrets};
use crate::config::check_own;
use crate::credential::{Description, Realm, Username};
use crate::name::{Invalid, ResourceId};
use crate::secret::Password;

/// What a file may say of a credential, and the first two must be there.
const COLUMNS: [&str; 5] = ["username", "realm", "id", "password", "description"];

/// Wrong lines that are told at once.
const PROBLEMS: usize = 20;

/// A line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) username: String,
    pub(super) realm: String,
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) password: Option<String>,
    #[serde(default)]
    pub(super) description: Option<String>,
}

/// Users that were seen: two hashes of 64 bits each, whatever the length of their names. Both agree for two users with
/// a probability of one in 2^88, if there are a million.
pub(super) struct Users {
    seen: HashSet<(u64, u64)>,
    keys: (RandomState, RandomState),
}

impl Users {
    pub(super) fn new() -> Self {
        Self { seen: HashSet::new(), keys: (RandomState::new(), RandomState::new()) }
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, username: &str, realm: &str) -> bool {
        self.seen.insert(self.hashes(username, realm))
    }

    pub(super) fn contains(&self, username: &str, realm: &str) -> bool {
        self.seen.contains(&self.hashes(username, realm))
    }

    pub(super) fn count(&self) -> usize {
        self.seen.len()
    }

    fn hashes(&self, username: &str, realm: &str) -> (u64, u64) {
        (self.keys.0.hash_one((username, realm)), self.keys.1.hash_one((username, realm)))
    }
}

/// Where the lines are: they are read twice, so what is piped in is held.
pub(super) enum Source {
    File(PathBuf),
    Piped(Vec<u8>),
}

impl Source {
    /// `-`: standard input.
    pub(super) fn open(file: PathBuf) -> anyhow::Result<Self> {
        if file != Path::new("-") {
            return Ok(Self::File(file));
        }
        let mut piped = Vec::new();
        io::stdin().read_to_end(&mut piped).context("cannot read standard input")?;
        Ok(Self::Piped(piped))
    }

    fn reader(&self) -> anyhow::Result<csv::Reader<Box<dyn io::Read + '_>>> {
        let read: Box<dyn io::Read> = match self {
            Self::File(path) => {
                let open = File::open(path);
                Box::new(open.with_context(|| format!("cannot read {}", path.display()))?)
            }
            Self::Piped(bytes) => Box::new(bytes.as_slice()),
        };
        Ok(csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(read))
    }

    /// Refuses passwords that others may read.
    fn check_own(&self) -> anyhow::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        check_own(&File::open(path)?, path)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Piped(_) => f.write_str("standard input"),
        }
    }
}

/// The request id of a line: the same in each run of an import, wherever the line stands then, and of no other import.
pub(super) fn request_id(nonce: [u8; 12], row: &Row) -> String {
    let mut hash = Sha256::new_with_prefix(nonce);
    for text in [&row.id, &row.username, &row.realm] {
        // None of them can have a zero in it.
        hash.update(text);
        hash.update([0]);
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Reads the whole file, so that nothing is created from one that is broken. How many lines it has.
pub(super) fn check(source: &Source) -> anyhow::Result<usize> {
    let mut users = Users::new();
    let mut weak = (0, 0);
    let mut problems = Vec::new();
    let mut reader = source.reader()?;
    let headers = headers(&mut reader, source)?;
    if headers.iter().any(|name| name == "password") {
        source.check_own()?;
    }
    let mut record = StringRecord::new();
    loop {
        let found = reader.read_record(&mut record);
        let line = line(&record);
        let row = match found {
            Ok(false) => break,
            Ok(true) => record.deserialize::<Row>(Some(&headers)),
            Err(error) => Err(error),
        };
        let problem = match &row {
            Err(error) => Some(problem(error)),
            Ok(row) => match valid(row) {
                Err((column, Invalid(rule))) => Some(format!("{column} {rule}")),
                Ok(()) if users.insert(&row.username, &row.realm) => None,
                Ok(()) => Some("names a user again; take it out".to_owned()),
            },
        };
        if let Some(problem) = problem {
            problems.push(format!("line {line} of {source}: {problem}"));
            if problems.len() == PROBLEMS {
                problems.push("there may be more".to_owned());
                break;
            }
        }
        if row.is_ok_and(|row| row.password.as_deref().is_some_and(secrets::is_weak)) {
            weak = (weak.0 + 1, if weak.0 == 0 { line } else { weak.1 });
        }
    }
    if !problems.is_empty() {
        bail!("{}\nnothing was created", problems.join("\n"));
    }
    if weak.0 > 0 {
        note(format_args!(
            "warning: {} passwords, the first in line {}, are easily guessed: shorter than 12 characters, or of one \
             kind of character",
            weak.0, weak.1
        ));
    }
    Ok(users.count())
}

/// The lines of the file, with their numbers; None where one cannot be read.
pub(super) fn read(
    source: &Source,
) -> anyhow::Result<impl Iterator<Item = (u64, Option<Row>)> + '_> {
    let mut reader = source.reader()?;
    let headers = headers(&mut reader, source)?;
    let mut record = StringRecord::new();
    Ok(std::iter::from_fn(move || {
        let found = reader.read_record(&mut record);
        let row = found.map(|found| found.then(|| record.deserialize::<Row>(Some(&headers))));
        let line = line(&record);
        match row {
            Ok(None) => None,
            Ok(Some(row)) => Some((line, row.ok())),
            Err(_) => Some((line, None)),
        }
    }))
}

/// The names of the columns. A wrong one is not quoted: where there is no header, it may be a password.
fn headers<R: io::Read>(
    reader: &mut csv::Reader<R>,
    source: &Source,
) -> anyhow::Result<StringRecord> {
    let found =
        reader.headers().map_err(|error| anyhow!("line 1 of {source}: {}", problem(&error)))?;
    let is_known = |name: &str| COLUMNS.contains(&name);
    let wrong = found.iter().position(|name| !is_known(name));
    let problem = if found.iter().all(str::is_empty) {
        "there is no header".to_owned()
    } else if let Some(place) = wrong {
        let name = found.get(place).unwrap_or_default();
        let hint = if name.contains([';', '\t']) {
            "; columns are divided by commas"
        } else if is_known(&name.to_lowercase()) {
            "; write it in lower case"
        } else {
            ""
        };
        format!("column {} is none that is known{hint}", place + 1)
    } else if let Some(missing) =
        COLUMNS.iter().take(2).find(|it| !found.iter().any(|name| name == **it))
    {
        format!("there is no column {missing}")
    } else if (1..found.len()).any(|n| found.iter().take(n).any(|name| Some(name) == found.get(n)))
    {
        "a column is there twice".to_owned()
    } else {
        return Ok(found.clone());
    };
    bail!(
        "line 1 of {source}: {problem}; nothing was created. It is the header. Columns: {}",
        COLUMNS.join(", ")
    )
}

fn line(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

/// What the vault would refuse.
fn valid(row: &Row) -> Result<(), (&'static str, Invalid)> {
    Username::parse(&row.username).map_err(|rule| ("username", rule))?;
    Realm::parse(&row.realm).map_err(|rule| ("realm", rule))?;
    if !row.id.is_empty() {
        ResourceId::parse(&row.id).map_err(|rule| ("id", rule))?;
    }
    if let Some(description) = &row.description {
        Description::parse(description).map_err(|rule| ("description", rule))?;
    }
    if let Some(password) = &row.password {
        Password::parse(password.clone()).map_err(|rule| ("password", rule))?;
    }
    Ok(())
}

/// Says what is wrong without saying what stands there: it may be a password.
fn problem(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} columns, and the header {expected_len}")
        }
        _ => "cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_own_request_id_in_every_run() {
        let row = |id: &str, username: &str, realm: &str| Row {
            username: username.to_owned(),
            realm: realm.to_owned(),
            id: id.to_owned(),
            password: None,
            description: None,
        };
        let one = request_id([7; 12], &row("", "a", "r"));
        assert_eq!(one, "152026b8-c5bb-4a68-9cca-b242eb359bfa");
        for other in [row("a", "", "r"), row("", "ar", ""), row("", "b", "r"), row("1", "a", "r")] {
            assert_ne!(one, request_id([7; 12], &other));
        }
        assert_ne!(one, request_id([8; 12], &row("", "a", "r")));
    }

    #[test]
    fn users_are_known_by_name_and_realm() {
        let mut users = Users::new();
        assert!(users.insert("ab", "c") && !users.insert("ab", "c"));
        assert!(!users.contains("a", "bc") && users.contains("ab", "c"));
        assert_eq!(users.count(), 1);
    }

    #[test]
    fn a_broken_file_is_refused_by_its_line_and_without_its_words() {
        let check = |text: &str| {
            let piped = Source::Piped(text.as_bytes().to_owned());
            check(&piped).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(check("username,realm\n"), Ok(0));
        assert_eq!(check(" realm , username,id\nr,a,\nr,b,b-1\n"), Ok(2));
        assert_eq!(
            check("username,realm,password,description\na,r,,\"two\nlines\"\nb,r,,\n"),
            Ok(2)
        );
        for (text, says) in [
            ("", "line 1 of standard input: there is no header"),
            ("\n", "line 1 of standard input: there is no header"),
            ("username\na\n", "line 1 of standard input: there is no column realm"),
            ("username,realm,secret\na,r,x\n", "column 3 is none that is known"),
            ("a,r\n", "column 1 is none that is known"),
            ("username,realm,realm\na,r,r\n", "twice"),
            ("username;realm;password\na;r;x\n", "divided by commas"),
            ("Username,realm\na,r\n", "column 1 is none that is known; write it in lower case"),
            ("username,realm\na,r\nb\n", "line 3 of"),
            ("username,realm\na,r\nb\n", "has 1 columns, and the header 2"),
            ("username,realm\na,r\na,r\n", "line 3 of"),
            ("username,realm\na,r\na,r\n", "names a user again"),
            ("username,realm\na b,r\n", "username must be 1 to 128"),
            ("username,realm,id\na,r,A\n", "id must"),
            ("username,realm,password\na,r,secret\n", "password must be 8 to 128"),
        ] {
            let said = check(text).unwrap_err();
            assert!(said.contains(says) && !said.contains("secret"), "{text}: {said}");
        }
        let many = format!("username,realm\n{}b\na b,r\n", "a b,r\n".repeat(15));
        let said = check(&many).unwrap_err();
        assert_eq!(said.lines().count(), 18, "{said}");
        assert!(said.contains("line 17 of standard input: has 1 columns"), "{said}");
        let said = check(&many.repeat(9)).unwrap_err();
        assert!(said.lines().count() == 22 && said.contains("there may be more"), "{said}");
    }
}
