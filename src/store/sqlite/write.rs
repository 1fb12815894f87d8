//! One write inside its transaction: request id, change, audit entry.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Params, params};

use crate::audit::{self, Chain, Entry, Link};
use crate::credential::Credential;
use crate::defect::{Defect, planted};
use crate::name::{ResourceId, Uid};
use crate::provider::Provider;
use crate::store::change::Record;
use crate::store::{Change, Done, Error, OnceKey, StoredRotation, Taken, Write};

use super::{access, credentials, providers, read, rotations, verifications};

/// The last links of the chains that a transaction has appended to, so that each is read once.
#[derive(Default)]
pub(super) struct Heads(HashMap<Uid, Link>);

/// Performs `write`. On an error the caller rolls back what it has changed.
pub(super) fn apply(
    connection: &Connection,
    heads: &mut Heads,
    write: &Write,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    still_open(connection, write)?;
    if let Some((key, _)) = &write.once
        && let Some(done) = read::done(connection, key, now)?
    {
        return Err(Error::Repeated(done));
    }
    let actor = match &write.record {
        Record::Audit(entry) => entry.actor.principal.as_str(),
        Record::History | Record::Counts => "",
    };
    let instead = change(connection, write.account, &write.change, (actor, now))?;
    if let Change::DeleteAccount(old) = &write.change {
        heads.0.remove(&old.uid);
    }
    match (&write.record, instead) {
        (Record::Audit(entry), None) => append(connection, heads, &write.chain, entry)?,
        (Record::Audit(entry), Some(detail)) => {
            append(connection, heads, &write.chain, &Entry { detail, ..Entry::clone(entry) })?;
        }
        (Record::History | Record::Counts, _) => {}
    }
    write.once.as_ref().map_or(Ok(()), |(key, done)| remember(connection, key, done))
}

/// Whether the accounts of a write are still as its caller found them, who may have been let in long ago. What came
/// into one that is deleted would stay for ever, and one that is disabled changes no more; a refusal is recorded there.
fn still_open(connection: &Connection, write: &Write) -> Result<(), Error> {
    if planted(Defect::TakeLateWrites) {
        return Ok(());
    }
    let (owner, chain) = (write.account, write.chain.uid());
    let further = (chain != owner).then_some(chain);
    for uid in [Some(owner), further].into_iter().flatten().filter(|uid| *uid != Uid::ZERO) {
        let account: Option<(bool, bool)> = connection
            .prepare_cached("SELECT disabled, enrolled_keys_only FROM account WHERE uid = ?1")?
            .query_row([uid.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match account {
            None => return Err(Error::Conflict),
            // What operators do to it stands in the vault's chain.
            Some((true, _)) if owner == chain => return Err(Error::Disabled),
            Some((_, enrolled_keys_only)) => {
                rotations::may_leave(connection, uid, enrolled_keys_only, &write.change)?;
            }
        }
    }
    Ok(())
}

/// Returns what the audit entry says instead, where only the store knows it.
fn change(
    connection: &Connection,
    account: Uid,
    change: &Change,
    (actor, now): (&str, jiff::Timestamp),
) -> Result<Option<String>, Error> {
    let guard = |keep: bool| access::Guard { actor, now, keep };
    let made = match change {
        Change::AuditOnly => Ok(()),
        Change::CreateAccount(new) => access::create_account(connection, new),
        Change::SetAccountDisabled { account, disabled } => {
            access::set_disabled(connection, *account, *disabled)
        }
        Change::DeleteAccount(old) => {
            return access::delete_account(connection, old.uid, guard(true)).map(Some);
        }
        Change::CreateApiToken { token, hash, first_admin } => {
            access::create_token(connection, account, (token, hash), *first_admin)
        }
        Change::RevokeApiToken { token, time, keep_last_admin } => {
            // It may be an operator's as well.
            let owners = [account, Uid::ZERO];
            guard(*keep_last_admin).keeping_last_admin(connection, &owners, || {
                access::revoke_token(connection, account, token, *time)
            })
        }
        Change::SetRoleBinding { binding, keep_last_admin } => guard(*keep_last_admin)
            .keeping_last_admin(connection, &[account], || {
                access::set_binding(connection, account, binding)
            }),
        Change::DeleteRoleBinding { principal, keep_last_admin } => guard(*keep_last_admin)
            .keeping_last_admin(connection, &[account], || {
                access::delete_binding(connection, account, principal)
            }),
        Change::SetDeliveryPolicy { account, enrolled_keys_only } => {
            rotations::set_delivery_policy(connection, *account, *enrolled_keys_only)
        }
        Change::SetAccessTokenPolicy { account, policy } => {
            access::set_access_token_policy(connection, *account, *policy)
        }
        Change::MintAccessToken { policy, provider, token_version } => {
            access::still_allows(connection, account, *policy)?;
            providers::still_holds(connection, account, *provider, *token_version)
        }
        Change::CreateRecipientKey(key) => {
            rotations::create_recipient_key(connection, account, key)
        }
        Change::RevokeRecipientKey { id, time } => {
            rotations::revoke_recipient_key(connection, account, id, *time)
        }
        Change::CreateCredential { new, rotation, .. } => {
            credentials::create(connection, account, new)
                .and_then(|()| store_rotation(connection, account, rotation.as_deref()))
        }
        Change::ReplaceCredential { expect, new, rotation, .. } => {
            credentials::replace(connection, account, *expect, new)
                .and_then(|()| store_rotation(connection, account, rotation.as_deref()))
        }
        Change::ReplaceRotation { rotation, .. } => {
            store_rotation(connection, account, Some(rotation))
        }
        Change::CountUses(uses) => rotations::count_uses(connection, uses),
        Change::DeleteCredential(credential) => {
            let Credential { uid, name, revision, .. } = credential;
            delete(connection, "credential", account, &name.id, *uid, *revision)?;
            rotations::delete_of(connection, account, *uid)
        }
        Change::CreateProvider(new) => providers::insert_new(connection, account, new),
        Change::ReplaceProvider { expect, new, rotation, .. } => {
            providers::replace(connection, account, *expect, new)
                .and_then(|()| store_rotation(connection, account, rotation.as_deref()))
        }
        Change::RecordVerification(provider) => {
            let news = verifications::store_latest(connection, account, provider, now)?;
            // What the entry says of a change did not come true.
            return Ok((!news).then(|| "a later verification is known".to_owned()));
        }
        Change::DeleteProvider { provider, rotation } => {
            store_rotation(connection, account, rotation.as_deref())?;
            let Provider { uid, name, revision, .. } = provider;
            if credentials::any_at(connection, account, *uid)? {
                return Err(Error::InUse);
            }
            delete(connection, "provider", account, &name.id, *uid, *revision)?;
            rotations::delete_of(connection, account, *uid)?;
            verifications::delete_history(connection, *uid)
        }
    };
    made.map(|()| None)
}

fn store_rotation(
    connection: &Connection,
    account: Uid,
    rotation: Option<&StoredRotation>,
) -> Result<(), Error> {
    rotation.map_or(Ok(()), |rotation| rotations::store(connection, account, rotation))
}

/// `table` is one of two literals of this file.
fn delete(
    connection: &Connection,
    table: &'static str,
    account: Uid,
    id: &ResourceId,
    uid: Uid,
    revision: u64,
) -> Result<(), Error> {
    let rows = execute(
        connection,
        &format!(
            "DELETE FROM {table} WHERE account = ?1 AND id = ?2 AND uid = ?3 AND revision = ?4"
        ),
        params![account.as_bytes(), id.as_str(), uid.as_bytes(), number(revision)?],
    )?;
    exactly_one(rows)?;
    read_back(connection, table, account, id, None)?;
    credentials::destroy_others(connection, account, uid)
}

/// Whether a change is what a reader finds. With a key damaged, SQLite may find one row and overwrite
/// another: the old secret would stay alive, and a stranger's would be gone.
pub(super) fn read_back(
    connection: &Connection,
    table: &'static str,
    account: Uid,
    id: &ResourceId,
    revision: Option<u64>,
) -> Result<(), Error> {
    let found: Option<i64> = connection
        .prepare_cached(&format!("SELECT revision FROM {table} WHERE account = ?1 AND id = ?2"))?
        .query_row(params![account.as_bytes(), id.as_str()], |row| row.get(0))
        .optional()?;
    if found == revision.map(number).transpose()? {
        Ok(())
    } else {
        Err(Error::Damaged("a change did not reach its row".into()))
    }
}

fn append(
    connection: &Connection,
    heads: &mut Heads,
    chain: &Chain,
    entry: &Entry,
) -> Result<(), Error> {
    let last = match heads.0.get(&chain.uid()) {
        Some(last) => Some(*last),
        None => read::last_link(connection, chain.uid())?,
    };
    let link = audit::append(chain, last.as_ref(), entry);
    execute(
        connection,
        "INSERT INTO audit_entry (chain, sequence, previous_hash, hash, time, principal, peer, method,
            resource, outcome, version_before, version_after, detail, request_id, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            chain.uid().as_bytes(),
            number(link.sequence)?,
            link.previous_hash,
            link.hash,
            entry.time.as_microsecond(),
            entry.actor.principal,
            entry.actor.peer,
            entry.method,
            entry.resource,
            entry.outcome,
            number(entry.version_before)?,
            number(entry.version_after)?,
            entry.detail,
            entry.request_id,
            entry.reason,
        ],
    )?;
    heads.0.insert(chain.uid(), link);
    Ok(())
}

/// Replaces a row of the same key that is expired but not yet pruned.
fn remember(connection: &Connection, key: &OnceKey, done: &Done) -> Result<(), Error> {
    execute(
        connection,
        "INSERT OR REPLACE INTO idempotency (account, principal, method, request_id, fingerprint,
            resource_id, resource, version, time, expire_time)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            key.account.as_bytes(),
            key.principal,
            key.method,
            key.request_id,
            done.fingerprint,
            done.resource_id.as_str(),
            done.resource.as_bytes(),
            number(done.version)?,
            done.time.as_microsecond(),
            done.expire_time.as_microsecond(),
        ],
    )
    .map(drop)
}

/// Forgets at most `limit` request ids whose time has passed.
pub(super) fn forget_expired(
    connection: &Connection,
    now: jiff::Timestamp,
    limit: usize,
) -> Result<(), Error> {
    execute(
        connection,
        "DELETE FROM idempotency WHERE (account, principal, method, request_id) IN
         (SELECT account, principal, method, request_id FROM idempotency WHERE expire_time <= ?1 LIMIT ?2)",
        params![now.as_microsecond(), i64::try_from(limit).unwrap_or(i64::MAX)],
    )
    .map(drop)
}

pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    arguments: impl Params,
) -> Result<usize, Error> {
    Ok(connection.prepare_cached(sql)?.execute(arguments)?)
}

/// Inserts a resource: its primary key is the id, and only a credential has a further unique key.
pub(super) fn insert(
    connection: &Connection,
    sql: &str,
    arguments: impl Params,
) -> Result<(), Error> {
    let inserted = connection.prepare_cached(sql)?.execute(arguments);
    inserted.map(drop).map_err(|error| match error.sqlite_extended_error_code() {
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => Error::Taken(Taken::Id),
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => Error::Taken(Taken::Username),
        _ => error.into(),
    })
}

pub(super) fn exactly_one(rows: usize) -> Result<(), Error> {
    if rows == 1 { Ok(()) } else { Err(Error::Conflict) }
}

pub(super) fn number(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|source| Error::Damaged(source.into()))
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Damaged(source.into()))
}
