//! Verifications of providers: the last one in the provider's row, the last hundred beside it.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::read::{self, Result as ReadResult};
use super::write::{exactly_one, execute, json, number};
use crate::account::Account;
use crate::name::{ResourceId, Uid};
use crate::provider::{Kind, Provider, Verification};
use crate::store::{Error, Page};

/// How many verifications of a provider are kept.
const KEPT: i64 = 100;

/// Stores a verification of the token and the kind that the provider still has. Returns whether it is the newest:
/// an older one only enters the history.
pub(super) fn store_latest(
    connection: &Connection,
    account: Uid,
    provider: &Provider,
    now: Timestamp,
) -> Result<bool, Error> {
    let Some(time) = provider.verification.last_verify_time else { return Ok(false) };
    let still: Option<(String, Option<i64>)> = connection
        .prepare_cached(
            "SELECT kind, verify_time FROM provider
             WHERE account = ?1 AND id = ?2 AND uid = ?3 AND token_version = ?4",
        )?
        .query_row(
            params![
                account.as_bytes(),
                provider.name.id.as_str(),
                provider.uid.as_bytes(),
                number(provider.token_version)?,
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (_, last) =
        still.filter(|(kind, _)| is_kind(kind, &provider.kind)).ok_or(Error::Conflict)?;
    // A time to come, from a clock that was wrong, holds up no later verification.
    let newest =
        last.is_none_or(|last| last <= time.as_microsecond() || last > now.as_microsecond());
    if newest {
        let rows = execute(
            connection,
            "UPDATE provider SET status = ?3, verification = ?4, verify_time = ?5
             WHERE account = ?1 AND id = ?2",
            params![
                account.as_bytes(),
                provider.name.id.as_str(),
                provider.verification.status.as_str(),
                json(&provider.verification)?,
                time.as_microsecond(),
            ],
        )?;
        exactly_one(rows)?;
    }
    // Nor does it crowd out those of now.
    execute(
        connection,
        "DELETE FROM provider_verification WHERE provider = ?1 AND time > max(?2, ?3)",
        params![provider.uid.as_bytes(), time.as_microsecond(), now.as_microsecond()],
    )?;
    append_history(connection, provider)?;
    Ok(newest)
}

/// Whether a stored kind is this one. Compared as what it means: rows of before a field existed lack it.
pub(super) fn is_kind(stored: &str, kind: &Kind) -> bool {
    serde_json::from_str::<Kind>(stored).is_ok_and(|stored| stored == *kind)
}

/// Adds the provider's verification to its history. One of the same time is replaced: the first of the two
/// lacked the checks that were still running.
pub(super) fn append_history(connection: &Connection, provider: &Provider) -> Result<(), Error> {
    let Some(time) = provider.verification.last_verify_time else { return Ok(()) };
    let uid = provider.uid.as_bytes();
    execute(
        connection,
        "INSERT OR REPLACE INTO provider_verification (provider, time, verification)
         VALUES (?1, ?2, ?3)",
        params![uid, time.as_microsecond(), json(&provider.verification)?],
    )?;
    execute(
        connection,
        "DELETE FROM provider_verification WHERE provider = ?1 AND time <=
         (SELECT time FROM provider_verification WHERE provider = ?1
          ORDER BY time DESC LIMIT 1 OFFSET ?2)",
        params![uid, KEPT],
    )
    .map(drop)
}

/// Forgets all verifications of a provider.
pub(super) fn delete_history(connection: &Connection, provider: Uid) -> Result<(), Error> {
    let sql = "DELETE FROM provider_verification WHERE provider = ?1";
    execute(connection, sql, [provider.as_bytes()]).map(drop)
}

/// Newest first, those before `before` (microseconds).
pub(super) fn list(
    connection: &Connection,
    account: Uid,
    id: &ResourceId,
    before: Option<i64>,
    limit: usize,
) -> ReadResult<Page<Verification>> {
    let sql = "SELECT verification FROM provider_verification
        WHERE provider = (SELECT uid FROM provider WHERE account = ?1 AND id = ?2) AND time < ?3
        ORDER BY time DESC";
    let before = before.unwrap_or(i64::MAX);
    read::page(connection, sql, params![account.as_bytes(), id.as_str(), before], limit, |row| {
        Ok((read::json(row, 0)?, read::text_size(row, &[0])?))
    })
}

/// Which providers there are in all accounts that are not disabled, by uid from `first` to `last`, both inclusive.
pub(super) fn providers_between(
    connection: &Connection,
    first: Uid,
    last: Uid,
    limit: usize,
) -> ReadResult<Page<(Account, ResourceId, Uid)>> {
    let sql = "SELECT a.uid, a.id, a.disabled, a.create_time, a.enrolled_keys_only, p.id, p.uid
         FROM provider AS p JOIN account AS a ON a.uid = p.account
         WHERE p.uid BETWEEN ?1 AND ?2 AND NOT a.disabled ORDER BY p.uid";
    read::page(connection, sql, params![first.as_bytes(), last.as_bytes()], limit, |row| {
        let found = || Ok((read::account(row, 0)?, read::resource_id(row, 5)?, read::uid(row, 6)?));
        // One that cannot be read must not hold up those behind it.
        let found = found().inspect_err(|error: &rusqlite::Error| {
            tracing::error!(%error, "a provider cannot be read");
        });
        Ok((found.ok(), 0))
    })
    .map(|page| Page {
        items: page.items.into_iter().flatten().collect(),
        more: page.more,
        reached: None,
    })
}
