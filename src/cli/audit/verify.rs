//! `credvault audit verify`: computes the hashes of a chain again, from nothing but its entries.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::{NO_ACCOUNT, page};
use crate::audit::{self, Actor, Entry, Link};
use crate::cli::client::{Options, Output, Whose};
use crate::cli::{report, say};
use crate::grpc::client::time;
use crate::grpc::proto::{AuditEntry, ListAuditEntriesResponse};

/// Check the hash chain of an account's audit entries, or of the vault's
///
/// Each entry's hash covers all its fields and the hash before, so an entry that was changed, removed or put elsewhere
/// shows. What was cut off at the end shows by an entry that you noted before: this command prints the last one.
///
/// Exit status: 0 if the chain is whole; 1 if it is not; 2 if the entries could not be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault audit verify --account acme
  credvault audit verify --account acme --noted 128:5d7f…      as an earlier run printed it
  credvault audit verify --vault --token-file operator.token")]
pub(super) struct Args {
    /// An entry that must be there: its number and its hash
    #[arg(long, value_name = "NUMBER:HASH", value_parser = noted)]
    noted: Option<(u64, String)>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    options: Options,
}

/// Parses `NUMBER:HASH`.
fn noted(text: &str) -> Result<(u64, String), String> {
    let parsed = text.split_once(':').and_then(|(number, hash)| {
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        number.parse().ok().filter(|_| is_hash).map(|number| (number, hash.to_lowercase()))
    });
    parsed.ok_or_else(|| "write NUMBER:HASH, such as an earlier run printed".to_owned())
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let output = args.options.output;
    let connection = args.options.connect_for(args.whose)?;
    let mut chain = Chain::new(connection.parent()?, args.noted);
    let take = |page: ListAuditEntriesResponse| {
        let is_whole = page.entries.iter().all(|entry| chain.take(entry));
        if is_whole { page.next_page_token } else { String::new() }
    };
    let parent = connection.parent()?;
    connection.pages(|token| page(&parent, "", token), take, NO_ACCOUNT).await?;
    let Chain { name, last, noted, broken } = chain;
    let broken = broken.or_else(|| noted.map(|(number, _)| format!("entry {number} is not there")));
    let (number, hash) = last.map_or((0, String::new()), |it| (it.sequence, hex::encode(it.hash)));
    if output == Output::Json {
        let told = serde_json::json!({
            "chain": name, "entries": number, "hash": hash, "problem": broken,
        });
        say(told)?;
    } else if broken.is_none() {
        say(format_args!("{name}: the chain is whole, {number} entries"))?;
        if number > 0 {
            say(format_args!("note this and check it next time: --noted {number}:{hash}"))?;
        }
    }
    let Some(problem) = broken else { return Ok(ExitCode::SUCCESS) };
    report(&anyhow::anyhow!(
        "the chain of {name} is broken: {problem}\nNobody changes it through the vault: keep a copy of its files, and \
         compare with a backup (`credvault audit list --limit 0 --output json`)"
    ));
    Ok(ExitCode::FAILURE)
}

/// What of a chain is checked so far.
struct Chain {
    name: String,
    last: Option<Link>,
    /// What is still to be found.
    noted: Option<(u64, String)>,
    /// The first thing that is wrong.
    broken: Option<String>,
}

impl Chain {
    fn new(name: String, noted: Option<(u64, String)>) -> Self {
        Self { name, last: None, noted, broken: None }
    }

    /// Takes the next entry in. Whether the chain is still whole.
    fn take(&mut self, told: &AuditEntry) -> bool {
        let problem = match self.problem(told) {
            Ok(link) => {
                self.last = Some(link);
                return true;
            }
            Err(problem) => problem,
        };
        self.broken = Some(format!("{problem:#}"));
        false
    }

    fn problem(&mut self, told: &AuditEntry) -> anyhow::Result<Link> {
        let number = told.sequence;
        let expected = self.last.map_or(1, |last| last.sequence + 1);
        if u64::try_from(number).ok() != Some(expected) {
            bail!("entry {expected} is not there, and {number} in its place");
        }
        let entry = entry(told).with_context(|| format!("entry {number} cannot be read"))?;
        let link = audit::link(&self.name, self.last.as_ref(), &entry);
        if told.previous_hash != link.previous_hash {
            bail!("entry {number} does not follow the one before");
        }
        if told.hash != link.hash {
            bail!("entry {number} is not what was written");
        }
        if let Some((_, hash)) = self.noted.take_if(|(noted, _)| *noted == expected)
            && hash != hex::encode(link.hash)
        {
            bail!("entry {number} is not the one that you noted");
        }
        Ok(link)
    }
}

/// An entry as it was hashed.
fn entry(told: &AuditEntry) -> anyhow::Result<Entry> {
    Ok(Entry {
        time: time(told.time).context("it has no time")?,
        actor: Actor { principal: told.principal.clone(), peer: told.peer.clone() },
        method: told.method.clone(),
        resource: told.resource.clone(),
        outcome: told.outcome.clone(),
        version_before: u64::try_from(told.version_before)?,
        version_after: u64::try_from(told.version_after)?,
        detail: told.detail.clone(),
        request_id: told.request_id.clone(),
        reason: told.reason.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::client::timestamp;

    const NAME: &str = "accounts/acme";

    /// A chain of entries as a vault answers them.
    fn chain(length: u8) -> Vec<AuditEntry> {
        let mut last = None;
        let next = |number| {
            let mut told = AuditEntry {
                time: Some(timestamp(jiff::Timestamp::from_second(i64::from(number)).unwrap())),
                principal: "token:1".to_owned(),
                method: "RotateCredential".to_owned(),
                resource: format!("accounts/acme/credentials/desk-{number}"),
                outcome: "OK".to_owned(),
                version_after: 1,
                ..AuditEntry::default()
            };
            let link = audit::link(NAME, last.as_ref(), &entry(&told).unwrap());
            told.sequence = i64::try_from(link.sequence).unwrap();
            told.previous_hash = link.previous_hash.to_vec();
            told.hash = link.hash.to_vec();
            last = Some(link);
            told
        };
        (0..length).map(next).collect()
    }

    fn problem(name: &str, entries: &[AuditEntry], noted: Option<(u64, String)>) -> Option<String> {
        let mut chain = Chain::new(name.to_owned(), noted);
        let is_whole = entries.iter().all(|entry| chain.take(entry));
        assert_eq!(is_whole, chain.broken.is_none());
        chain.broken
    }

    #[test]
    fn a_whole_chain_is_found_to_be_so() {
        assert_eq!(problem(NAME, &[], None), None);
        let entries = chain(5);
        assert_eq!(problem(NAME, &entries, None), None);
        assert_eq!(problem(NAME, &entries, Some((3, hex::encode(&entries[2].hash)))), None);
    }

    #[test]
    fn what_was_changed_removed_or_moved_shows() {
        let changed = |change: fn(&mut Vec<AuditEntry>)| {
            let mut entries = chain(5);
            change(&mut entries);
            problem(NAME, &entries, None).unwrap()
        };
        let changes: [fn(&mut AuditEntry); 10] = [
            |it| it.time = Some(timestamp(jiff::Timestamp::from_second(9).unwrap())),
            |it| it.principal.push('x'),
            |it| it.peer.push('x'),
            |it| it.method.push('x'),
            |it| it.resource.push('x'),
            |it| it.outcome.push('x'),
            |it| it.detail.push('x'),
            |it| it.request_id.push('x'),
            |it| it.reason.push('x'),
            |it| it.version_after = 2,
        ];
        for change in changes {
            let mut entries = chain(5);
            change(&mut entries[2]);
            let said = problem(NAME, &entries, None);
            assert_eq!(said.as_deref(), Some("entry 3 is not what was written"));
        }
        assert_eq!(changed(|it| drop(it.remove(1))), "entry 2 is not there, and 3 in its place");
        assert_eq!(changed(|it| drop(it.remove(0))), "entry 1 is not there, and 2 in its place");
        assert_eq!(changed(|it| it.swap(1, 2)), "entry 2 is not there, and 3 in its place");
        assert_eq!(
            changed(|it| it[3].previous_hash = it[1].hash.clone()),
            "entry 4 does not follow the one before"
        );
        assert!(changed(|it| it[1].time = None).contains("entry 2 cannot be read"));
        assert!(changed(|it| it[1].version_before = -1).contains("entry 2 cannot be read"));
        let moved = problem("accounts/other", &chain(2), None);
        assert_eq!(moved.as_deref(), Some("entry 1 is not what was written"));
    }

    #[test]
    fn an_entry_that_was_noted_shows_a_chain_that_was_made_anew() {
        let entries = chain(3);
        let other = Some((2, hex::encode([7; 32])));
        let said = problem(NAME, &entries, other);
        assert_eq!(said.as_deref(), Some("entry 2 is not the one that you noted"));
        let mut chain = Chain::new(NAME.to_owned(), Some((4, hex::encode([7; 32]))));
        assert!(entries.iter().all(|entry| chain.take(entry)));
        assert!(chain.noted.is_some(), "what was cut off is still looked for");
        for wrong in ["7", "7:", "x:00", ":", &format!("-1:{}", "0".repeat(64))] {
            assert!(noted(wrong).is_err(), "{wrong}");
        }
        let hash = "AB".repeat(32);
        assert_eq!(noted(&format!("7:{hash}")), Ok((7, hash.to_lowercase())));
    }
}
