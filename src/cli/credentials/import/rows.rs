//! The file of what to create.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use anyhow::{Context as _, bail};
use csv::StringRecord;
use serde::Deserialize;
use uuid::Builder;

use crate::cli::{note, secrets};
use crate::credential::{Description, Realm, Username};
use crate::name::{Invalid, ResourceId};
use crate::secret::Password;

/// Credentials that one import can create: a line's number has 32 bits of its request id.
const MOST: usize = 1 << 30;

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

/// The request id of a line: the same in each run of an import, and of no other import.
pub(super) fn request_id(nonce: [u8; 12], line: u64) -> String {
    let mut bytes = [0; 16];
    let (start, end) = bytes.split_at_mut(nonce.len());
    start.copy_from_slice(&nonce);
    end.copy_from_slice(&u32::try_from(line).unwrap_or(u32::MAX).to_be_bytes());
    Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Reads the whole file, so that nothing is created from one that is broken. How many lines it has.
pub(super) fn check(file: &Path) -> anyhow::Result<usize> {
    let mut users = Users::new();
    let mut weak = (0, 0);
    let mut reader = open(file)?;
    let headers = headers(&mut reader, file)?;
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| problem(file, line(&record), &error))? {
        let line = line(&record);
        let row = record.deserialize::<Row>(Some(&headers));
        let row = row.map_err(|error| problem(file, line, &error))?;
        if let Err((column, Invalid(rule))) = valid(&row) {
            bail!("line {line} of {}: {column} {rule}; nothing was created", file.display());
        }
        if !users.insert(&row.username, &row.realm) {
            bail!(
                "line {line} of {} names a user again; take it out, nothing was created",
                file.display()
            );
        }
        if row.password.as_deref().is_some_and(secrets::is_weak) {
            weak = (weak.0 + 1, if weak.0 == 0 { line } else { weak.1 });
        }
    }
    if users.count() > MOST {
        bail!("{} has more than {MOST} lines; divide it", file.display());
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
pub(super) fn read(file: &Path) -> anyhow::Result<impl Iterator<Item = (u64, Option<Row>)>> {
    let mut reader = open(file)?;
    let headers = headers(&mut reader, file)?;
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

fn open(file: &Path) -> anyhow::Result<csv::Reader<File>> {
    let open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(open))
}

fn headers(reader: &mut csv::Reader<File>, file: &Path) -> anyhow::Result<StringRecord> {
    reader.headers().cloned().map_err(|error| problem(file, 1, &error))
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
fn problem(file: &Path, line: u64, error: &csv::Error) -> anyhow::Error {
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} columns, and the header {expected_len}")
        }
        csv::ErrorKind::Deserialize { err, .. } => match err.kind() {
            csv::DeserializeErrorKind::Message(text) if text.contains("field") => text.clone(),
            _ => "cannot be read".to_owned(),
        },
        _ => "cannot be read".to_owned(),
    };
    anyhow::anyhow!(
        "line {line} of {}: {what}; nothing was created. Columns: username, realm, id, password, description",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_own_request_id_in_every_run() {
        let one = request_id([7; 12], 1);
        assert_eq!(one, "07070707-0707-4707-8707-070700000001");
        assert_ne!(one, request_id([7; 12], 2));
        assert_ne!(one, request_id([8; 12], 1));
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
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("phones.csv");
        let check = |text: &str| {
            std::fs::write(&file, text).unwrap();
            check(&file).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(check("username,realm\n"), Ok(0));
        assert_eq!(check(" realm , username,id\nr,a,\nr,b,b-1\n"), Ok(2));
        assert_eq!(
            check("username,realm,password,description\na,r,,\"two\nlines\"\nb,r,,\n"),
            Ok(2)
        );
        for (text, says) in [
            ("username\na\n", "line 2 of"),
            ("username\na\n", "missing field `realm`"),
            ("username,realm,pasword\na,r,x\n", "unknown field `pasword`"),
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
    }
}
