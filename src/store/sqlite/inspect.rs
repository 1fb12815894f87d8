//! The look of `credvault doctor` into a file that no vault has open.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::files::{self, Look};
use super::{access, credentials, place, providers, read};
use crate::access::Owner;
use crate::access::api_token::TokenMetadata;
use crate::account::Account;
use crate::audit::Linked;
use crate::name::Uid;
use crate::store::inspection::{Counts, Inspection, SecretKind, StoredSecret};
use crate::store::{Error, Identity, OpenError, Page, StoredVersion};

/// Items of one page: all pages are read.
const PAGE: usize = 1_000;

/// Lines of what SQLite finds wrong. The first says enough.
const MAX_PROBLEMS: usize = 5;

/// A file that was looked into.
#[derive(Debug)]
pub(in crate::store) struct Inspected {
    path: PathBuf,
    connection: Connection,
    look: Look,
}

impl Inspected {
    /// Looks into the file; None: a process uses it.
    pub(in crate::store) fn of(path: &Path) -> Result<Option<Self>, OpenError> {
        let (path, _) = place::find(path)?;
        let Some(look) = Look::take(&path)? else { return Ok(None) };
        let connection = files::open_to_look(&path)?;
        // Whether it can be read at all.
        read::identity(&connection).map_err(|source| files::damaged(&path, &source))?;
        Ok(Some(Self { path, connection, look }))
    }

    /// The secrets of every row of an account, or the name of the row's resource.
    fn each_row(
        &self,
        account: &Account,
        table: &str,
        sql: &str,
        each: &mut dyn FnMut(Result<StoredSecret, String>),
        read: impl Fn(&Row<'_>) -> rusqlite::Result<Vec<StoredSecret>>,
    ) -> Result<(), Error> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(params![account.uid.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let Ok(secrets) = read(row) else {
                // The id may be what is damaged.
                let id = row.get_ref(0).ok().and_then(|id| id.as_str().ok().map(str::to_owned));
                let id = id.unwrap_or_else(|| "?".to_owned());
                each(Err(format!("accounts/{}/{table}s/{id}", account.id)));
                continue;
            };
            for secret in secrets {
                each(Ok(secret));
            }
        }
        Ok(())
    }

    fn rows<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl Inspection for Inspected {
    fn identity(&self) -> Result<Identity, Error> {
        Ok(read::identity(&self.connection)?)
    }

    fn schema(&self) -> Result<(i64, i64), Error> {
        Ok((files::schema(&self.connection)?, files::newest_schema()))
    }

    fn was_closed(&self) -> bool {
        !self.look.unclean && files::size_of(&files::beside(&self.path, "-wal")) == 0
    }

    fn check(&self, thorough: bool) -> Result<Vec<String>, Error> {
        let pragma = if thorough { "integrity_check" } else { "quick_check" };
        let sql = format!("PRAGMA {pragma}({MAX_PROBLEMS})");
        let mut problems = self.rows(&sql, |row| row.get::<_, String>(0))?;
        problems.retain(|problem| problem != "ok");
        if thorough {
            let sql = format!(
                "SELECT DISTINCT \"table\" FROM pragma_foreign_key_check LIMIT {MAX_PROBLEMS}"
            );
            let tables = self.rows(&sql, |row| row.get::<_, String>(0))?;
            problems.extend(tables.iter().map(|it| format!("{it} has rows of no account")));
        }
        Ok(problems)
    }

    fn newest_entry(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        Ok(read::newest_entry(&self.connection, now)?)
    }

    fn counts(&self) -> Result<Counts, Error> {
        let count = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let count = |sql: &str| Ok::<_, Error>(u64::try_from(count(sql)?).unwrap_or_default());
        Ok(Counts {
            secrets: count("SELECT count(*) FROM credential")?
                + count("SELECT count(*) FROM secret_version")?
                + count("SELECT count(*) FROM provider")?,
            entries: count("SELECT count(*) FROM audit_entry")?,
        })
    }

    fn accounts(&self) -> Result<Vec<Account>, Error> {
        let page = |after: Option<&Account>| {
            access::list_accounts(&self.connection, after.map(|it| it.id.as_str()), PAGE)
        };
        all(page)
    }

    fn has_admin(&self, owner: &Owner, now: Timestamp) -> Result<bool, Error> {
        Ok(access::has_admin(&self.connection, owner.uid(), now)?)
    }

    fn tokens(&self, owner: &Owner) -> Result<Vec<TokenMetadata>, Error> {
        let (uid, name) = (owner.uid(), owner.name());
        all(|after: Option<&TokenMetadata>| {
            let after = after.map(|it| it.name.id.to_string());
            access::list_api_tokens(&self.connection, (uid, &name), after.as_deref(), PAGE)
        })
    }

    fn secrets(
        &self,
        account: &Account,
        each: &mut dyn FnMut(Result<StoredSecret, String>),
    ) -> Result<(), Error> {
        self.each_row(account, "credential", &credentials::all(), each, |row| {
            let stored = credentials::genuine(&self.connection, row, account)?;
            let it = stored.credential;
            let active = StoredVersion { version: it.version, sealed: stored.password };
            let secret = |StoredVersion { version, sealed }| StoredSecret {
                name: it.name.to_string(),
                resource: it.uid,
                kind: SecretKind::Password,
                version,
                sealed,
            };
            Ok(std::iter::once(active).chain(stored.others).map(secret).collect())
        })?;
        self.each_row(account, "provider", &providers::all(), each, |row| {
            let stored = providers::genuine(&self.connection, row, account)?;
            let it = stored.provider;
            let others = stored.others.into_iter().map(|it| (it.version, it.sealed));
            let secret = |(version, sealed)| StoredSecret {
                name: it.name.to_string(),
                resource: it.uid,
                kind: SecretKind::Token,
                version,
                sealed,
            };
            let active = (it.token_version, stored.token);
            Ok(std::iter::once(active).chain(others).map(secret).collect())
        })
    }

    fn entries(&self, chain: Uid, after: u64) -> Result<Page<Linked>, Error> {
        Ok(read::list_audit_entries(&self.connection, chain, None, after, PAGE)?)
    }

    fn stray_chains(&self) -> Result<u64, Error> {
        let sql = "SELECT count(DISTINCT chain) FROM audit_entry
            WHERE chain <> zeroblob(16) AND chain NOT IN (SELECT uid FROM account)";
        let count: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

/// All pages of a list; each begins after the last item of the one before.
fn all<T>(page: impl Fn(Option<&T>) -> rusqlite::Result<Page<T>>) -> Result<Vec<T>, Error> {
    let mut items: Vec<T> = Vec::new();
    loop {
        let next = page(items.last())?;
        items.extend(next.items);
        if !next.more {
            return Ok(items);
        }
    }
}
