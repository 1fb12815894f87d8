//! Queries. Each returns typed rows or an error; nothing here trusts what the file holds.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use crate::account::Account;
use crate::audit::{ACCEPT_CLOCK, Actor, Entry, Link, Linked};
use crate::crypto::{Sealed, SealedRoot};
use crate::name::{ResourceId, Uid};
use crate::store::{Done, Identity, OnceKey, Page};

/// A page ends early at this size, so that an answer stays below 1 MiB.
pub(super) const PAGE_BYTES: usize = 768 * 1024;

/// Numbers, times and framing of one item on the wire, at the most.
pub(super) const FIXED: usize = 320;

/// Rows that the search for a page looks at, at the most: so a page takes as long among millions as among thousands,
/// and may hold few of what it was asked for (docs/adr/0025).
pub(super) const LOOKED_AT: usize = 1_000;

pub(super) type Result<T> = rusqlite::Result<T>;

pub(super) fn identity(connection: &Connection) -> Result<Identity> {
    let sql = "SELECT uid, dev, sealed_root, create_time FROM vault";
    connection.query_row(sql, [], |row| {
        Ok(Identity {
            uid: uid(row, 0)?,
            dev: row.get(1)?,
            root: SealedRoot(sealed(row, 2)?),
            create_time: time(row, 3)?,
        })
    })
}

/// An account in five columns from `first` on.
pub(super) fn account(row: &Row<'_>, first: usize) -> Result<Account> {
    Ok(Account {
        uid: uid(row, first)?,
        id: resource_id(row, first + 1)?,
        disabled: row.get(first + 2)?,
        create_time: time(row, first + 3)?,
        enrolled_keys_only: row.get(first + 4)?,
    })
}

pub(super) fn list_audit_entries(
    connection: &Connection,
    chain: Uid,
    resource: Option<&str>,
    after: u64,
    limit: usize,
) -> Result<Page<Linked>> {
    let sql =
        "SELECT sequence, previous_hash, hash, time, principal, peer, method, resource, outcome,
        version_before, version_after, detail, request_id, reason FROM audit_entry
        WHERE chain = ?1 AND sequence > ?2 ORDER BY sequence";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let position = |row: &Row<'_>| Ok(count(row, 0)?.to_string());
    let bounds = (limit, LOOKED_AT);
    search(connection, sql, params![chain.as_bytes(), after], bounds, position, |row| {
        if resource.is_some_and(|wanted| row.get_ref(7).is_ok_and(|is| is.as_str() != Ok(wanted))) {
            return Ok(None);
        }
        let linked = Linked {
            link: link(row)?,
            entry: Entry {
                time: time(row, 3)?,
                actor: Actor { principal: row.get(4)?, peer: row.get(5)? },
                method: row.get(6)?,
                resource: row.get(7)?,
                outcome: row.get(8)?,
                version_before: count(row, 9)?,
                version_after: count(row, 10)?,
                detail: row.get(11)?,
                request_id: row.get(12)?,
                reason: row.get(13)?,
            },
        };
        Ok(Some((linked, text_size(row, &[4, 5, 6, 7, 8, 11, 12, 13])?)))
    })
}

/// The last link of a chain.
pub(super) fn last_link(connection: &Connection, chain: Uid) -> Result<Option<Link>> {
    let sql = "SELECT sequence, previous_hash, hash FROM audit_entry WHERE chain = ?1
        ORDER BY sequence DESC LIMIT 1";
    one(connection, sql, [chain.as_bytes()], link)
}

/// The time of the newest audit entry. Times after `now` that an operator has set right since do not count: the clock
/// was wrong then.
pub(super) fn newest_entry(connection: &Connection, now: Timestamp) -> Result<Option<Timestamp>> {
    // From chain to chain, the last entry of each: a look at every entry would hold up the start.
    let sql = "WITH RECURSIVE one(chain) AS (
            SELECT min(chain) FROM audit_entry
            UNION ALL
            SELECT (SELECT min(chain) FROM audit_entry WHERE chain > one.chain) FROM one WHERE chain IS NOT NULL)
        SELECT max((SELECT time FROM audit_entry WHERE chain = one.chain ORDER BY sequence DESC LIMIT 1))
        FROM one WHERE chain IS NOT NULL";
    let newest = connection.query_row(sql, [], |row| optional_time(row, 0))?;
    if newest.is_none_or(|newest| newest <= now) {
        return Ok(newest);
    }
    let sql = "SELECT detail, (SELECT time FROM audit_entry WHERE chain = ?1 ORDER BY sequence DESC LIMIT 1)
        FROM audit_entry WHERE chain = ?1 AND method = ?2 ORDER BY sequence DESC LIMIT 1";
    let accepted = connection.query_row(sql, params![Uid::ZERO.as_bytes(), ACCEPT_CLOCK], |row| {
        Ok((row.get_ref(0)?.as_str()?.parse::<Timestamp>().ok(), time(row, 1)?))
    });
    Ok(match accepted.optional()? {
        Some((accepted, last)) if newest <= accepted => Some(last),
        _ => newest,
    })
}

pub(super) fn link(row: &Row<'_>) -> Result<Link> {
    Ok(Link { sequence: count(row, 0)?, previous_hash: row.get(1)?, hash: row.get(2)? })
}

pub(super) fn done(connection: &Connection, key: &OnceKey, now: Timestamp) -> Result<Option<Done>> {
    let sql = "SELECT fingerprint, resource_id, resource, version, time, expire_time FROM idempotency
        WHERE account = ?1 AND principal = ?2 AND method = ?3 AND request_id = ?4 AND expire_time > ?5";
    let now = now.as_microsecond();
    let key = params![key.account.as_bytes(), key.principal, key.method, key.request_id, now];
    one(connection, sql, key, |row| {
        Ok(Done {
            fingerprint: row.get(0)?,
            resource_id: resource_id(row, 1)?,
            resource: uid(row, 2)?,
            version: count(row, 3)?,
            time: time(row, 4)?,
            expire_time: time(row, 5)?,
        })
    })
}

pub(super) fn one<T>(
    connection: &Connection,
    sql: &str,
    arguments: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    connection.prepare_cached(sql)?.query_row(arguments, read).optional()
}

/// What is due until a time, of any account: rows of the account's five columns and an id.
pub(super) fn due(
    connection: &Connection,
    sql: &str,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<(Account, ResourceId)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![until.as_microsecond(), limit], |row| {
        Ok((account(row, 0)?, resource_id(row, 5)?))
    })?;
    rows.collect()
}

/// Rows up to `limit`, fewer when they grow large; `read` returns each with its size.
pub(super) fn page<T>(
    connection: &Connection,
    sql: &str,
    arguments: impl Params,
    limit: usize,
    read: impl Fn(&Row<'_>) -> Result<(T, usize)>,
) -> Result<Page<T>> {
    let bounds = (limit, usize::MAX);
    let nowhere = |_: &Row<'_>| Ok(String::new());
    search(connection, sql, arguments, bounds, nowhere, |row| read(row).map(Some))
}

/// As [`page`], of the rows for which `read` returns something; it ends when it has looked at as many as the second
/// bound says, and tells the `position` that it reached.
pub(super) fn search<T>(
    connection: &Connection,
    sql: &str,
    arguments: impl Params,
    (limit, most): (usize, usize),
    position: impl Fn(&Row<'_>) -> Result<String>,
    read: impl Fn(&Row<'_>) -> Result<Option<(T, usize)>>,
) -> Result<Page<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(arguments)?;
    let (mut items, mut bytes) = (Vec::new(), 0);
    let (mut looked_at, mut reached) = (0, None);
    while let Some(row) = rows.next()? {
        if looked_at == most {
            return Ok(Page { items, more: true, reached });
        }
        if let Some((item, size)) = read(row)? {
            bytes += size + FIXED;
            if items.len() == limit || (bytes > PAGE_BYTES && !items.is_empty()) {
                return Ok(Page { items, more: true, reached: None });
            }
            items.push(item);
        }
        looked_at += 1;
        if looked_at == most {
            reached = Some(position(row)?);
        }
    }
    Ok(Page { items, more: false, reached: None })
}

pub(super) fn text_size(row: &Row<'_>, columns: &[usize]) -> Result<usize> {
    columns.iter().map(|column| Ok(row.get_ref(*column)?.as_str()?.len())).sum()
}

pub(super) fn uid(row: &Row<'_>, column: usize) -> Result<Uid> {
    row.get(column).map(Uid::from_bytes)
}

pub(super) fn resource_id(row: &Row<'_>, column: usize) -> Result<ResourceId> {
    parsed(row, column, ResourceId::parse)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|_| wrong(column, "a time out of range"))
}

pub(super) fn optional_time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    match row.get::<_, Option<i64>>(column)? {
        Some(_) => time(row, column).map(Some),
        None => Ok(None),
    }
}

pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| wrong(column, "a negative count"))
}

pub(super) fn sealed(row: &Row<'_>, column: usize) -> Result<Sealed> {
    Sealed::from_bytes(row.get(column)?).map_err(|_| wrong(column, "not a sealed record"))
}

pub(super) fn parsed<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> std::result::Result<T, crate::name::Invalid>,
) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text).map_err(|error| wrong(column, error.0))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|_| wrong(column, "not the expected JSON"))
}

/// A column that does not hold what it should. Says what was expected, never what is there.
pub(super) fn wrong(column: usize, expected: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, expected.into())
}

pub(super) fn not_sql(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
