//! Rotations that outlive their call, how often versions are used, and the keys that secrets are sealed for.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::read::{
    self, LOOKED_AT, Result, count, json, one, optional_time, page, parsed, resource_id, search,
    text_size, time, uid, wrong,
};
use super::write::{exactly_one, execute, insert, json as to_json, number};
use crate::account::Account;
use crate::crypto::delivery::Delivered;
use crate::name::{AccountName, ResourceId, Uid};
use crate::provider::DisplayName;
use crate::recipient::{PublicKey, Recipient, RecipientKey, RecipientKeyName};
use crate::rotation::{
    Delivery, Parent, REMEMBERED, Rotation, RotationFilter, RotationName, State, Step, Work,
};
use crate::store::{Change, Counted, Due, Error, Page, StoredRotation, VersionKey, VersionUse};

type Written<T = ()> = std::result::Result<T, Error>;

/// What no query asks for.
#[derive(Serialize, Deserialize)]
struct Details {
    overlap: SignedDuration,
    require_confirmation: bool,
    delivery: Option<Delivery>,
    steps: Vec<Step>,
    end_time: Option<Timestamp>,
    confirm_time: Option<Timestamp>,
    #[serde(default)]
    work: Option<Work>,
}

const COLUMNS: &str =
    "id, parent, resource, version, revision, state, details, create_time, update_time, sealed";

fn rotation_row(row: &Row<'_>, account: &Account) -> Result<Rotation> {
    let details: Details = json(row, 6)?;
    Ok(Rotation {
        name: RotationName {
            parent: parsed(row, 1, |stored| {
                Parent::parse(&format!("{}/{stored}", AccountName(account.id.clone())))
            })?,
            id: resource_id(row, 0)?,
        },
        resource: uid(row, 2)?,
        version: count(row, 3)?,
        revision: count(row, 4)?,
        state: State::parse(row.get_ref(5)?.as_str()?).ok_or_else(|| wrong(5, "a state"))?,
        overlap: details.overlap,
        require_confirmation: details.require_confirmation,
        delivery: details.delivery,
        steps: details.steps,
        create_time: time(row, 7)?,
        update_time: time(row, 8)?,
        end_time: details.end_time,
        confirm_time: details.confirm_time,
        work: details.work,
    })
}

/// The parent as stored: the last two parts of its name.
fn parent(parent: &Parent) -> String {
    match parent {
        Parent::Credential(name) => format!("credentials/{}", name.id),
        Parent::Provider(name) => format!("providers/{}", name.id),
    }
}

fn stored(row: &Row<'_>, account: &Account) -> Result<StoredRotation> {
    let rotation = rotation_row(row, account)?;
    let sealed: Option<Vec<u8>> = row.get(9)?;
    let sealed = sealed.as_deref().map(Delivered::from_bytes).transpose();
    let sealed = sealed.map_err(|_| wrong(9, "a secret for a recipient"))?;
    if sealed.is_some() == rotation.delivery.is_some() {
        Ok(StoredRotation { rotation, sealed })
    } else {
        Err(wrong(9, "a secret for the delivery, or neither"))
    }
}

pub(super) fn rotation(
    connection: &Connection,
    account: &Account,
    id: &ResourceId,
) -> Result<Option<StoredRotation>> {
    let sql = format!("SELECT {COLUMNS} FROM rotation WHERE account = ?1 AND id = ?2");
    let key = params![account.uid.as_bytes(), id.as_str()];
    one(connection, &sql, key, |row| stored(row, account))
}

pub(super) fn of_version(
    connection: &Connection,
    account: &Account,
    resource: Uid,
    version: u64,
) -> Result<Option<StoredRotation>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rotation WHERE account = ?1 AND resource = ?2 AND version = ?3"
    );
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    let key = params![account.uid.as_bytes(), resource.as_bytes(), version];
    one(connection, &sql, key, |row| stored(row, account))
}

pub(super) fn list(
    connection: &Connection,
    account: &Account,
    filter: &RotationFilter,
    before: Option<&str>,
    limit: usize,
) -> Result<Page<Rotation>> {
    let position = |row: &Row<'_>| Ok(filter.position(count(row, 3)?, row.get_ref(0)?.as_str()?));
    let read = |row: &Row<'_>| {
        if filter
            .state
            .is_some_and(|it| row.get_ref(5).is_ok_and(|is| is.as_str() != Ok(it.as_str())))
        {
            return Ok(None);
        }
        Ok(Some((rotation_row(row, account)?, text_size(row, &[0, 1, 6])?)))
    };
    let bounds = (limit, LOOKED_AT);
    let account = account.uid.as_bytes();
    if let Some(resource) = filter.resource {
        let sql = format!(
            "SELECT {COLUMNS} FROM rotation WHERE account = ?1 AND resource = ?2 AND version < ?3
             ORDER BY version DESC"
        );
        let before = before.and_then(|version| version.parse().ok()).unwrap_or(i64::MAX);
        let arguments = params![account, resource.as_bytes(), before];
        return search(connection, &sql, arguments, bounds, position, read);
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM rotation WHERE account = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC"
    );
    search(connection, &sql, params![account, before], bounds, position, read)
}

pub(super) fn due(
    connection: &Connection,
    what: Due,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<(Account, ResourceId)>> {
    let (table, time) = match what {
        Due::Retirement => ("credential", "retire_time"),
        Due::TokenRetirement => ("provider", "retire_time"),
        Due::Expiry => ("rotation", "due_time"),
        Due::Work => ("rotation", "work_time"),
    };
    let sql = format!(
        "SELECT a.uid, a.id, a.disabled, a.create_time, a.enrolled_keys_only, it.id
         FROM {table} it JOIN account a ON a.uid = it.account
         WHERE it.{time} <= ?1 AND NOT a.disabled ORDER BY it.{time} LIMIT ?2"
    );
    read::due(connection, &sql, until, limit)
}

/// Stores a rotation: a new one, or the next revision of one. Of each resource the newest are remembered, and those
/// that are not over.
pub(super) fn store(connection: &Connection, account: Uid, new: &StoredRotation) -> Written {
    let StoredRotation { rotation, sealed } = new;
    let details = to_json(&Details {
        overlap: rotation.overlap,
        require_confirmation: rotation.require_confirmation,
        delivery: rotation.delivery.clone(),
        steps: rotation.steps.clone(),
        end_time: rotation.end_time,
        confirm_time: rotation.confirm_time,
        work: rotation.work.clone(),
    })?;
    let work_time = rotation.work_time().map(Timestamp::as_microsecond);
    let due_time = rotation.due_time().map(Timestamp::as_microsecond);
    let sealed = sealed.as_ref().map(Delivered::to_bytes);
    let (id, state) = (rotation.name.id.as_str(), rotation.state.as_str());
    let (revision, update_time) =
        (number(rotation.revision)?, rotation.update_time.as_microsecond());
    if rotation.revision > 1 {
        let rows = execute(
            connection,
            "UPDATE rotation SET revision = ?3, state = ?4, details = ?5, update_time = ?6, due_time = ?7, sealed = ?8,
                work_time = ?9
             WHERE account = ?1 AND id = ?2 AND revision = ?3 - 1",
            params![
                account.as_bytes(),
                id,
                revision,
                state,
                details,
                update_time,
                due_time,
                sealed,
                work_time,
            ],
        )?;
        return exactly_one(rows);
    }
    insert(
        connection,
        "INSERT INTO rotation (account, id, parent, resource, version, revision, state, details, create_time,
            update_time, due_time, sealed, work_time)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            account.as_bytes(),
            id,
            parent(&rotation.name.parent),
            rotation.resource.as_bytes(),
            number(rotation.version)?,
            revision,
            state,
            details,
            rotation.create_time.as_microsecond(),
            update_time,
            due_time,
            sealed,
            work_time,
        ],
    )?;
    execute(
        connection,
        "DELETE FROM rotation WHERE account = ?1 AND state IN ('succeeded', 'cancelled') AND sealed IS NULL AND id IN
            (SELECT id FROM rotation WHERE account = ?1 AND resource = ?2 ORDER BY version DESC LIMIT -1 OFFSET ?3)",
        params![account.as_bytes(), rotation.resource.as_bytes(), i64::try_from(REMEMBERED).unwrap_or(i64::MAX)],
    )
    .map(drop)
}

/// Forgets the rotations and the counts of a resource that goes.
pub(super) fn delete_of(connection: &Connection, account: Uid, resource: Uid) -> Written {
    for sql in [
        "DELETE FROM rotation WHERE account = ?1 AND resource = ?2",
        "DELETE FROM version_use WHERE account = ?1 AND resource = ?2",
    ] {
        execute(connection, sql, params![account.as_bytes(), resource.as_bytes()])?;
    }
    Ok(())
}

pub(super) fn uses(connection: &Connection, keys: &[VersionKey]) -> Result<Vec<VersionUse>> {
    let sql = "SELECT last_success_time, successes, failures FROM version_use
        WHERE account = ?1 AND resource = ?2 AND version = ?3";
    let one_of = |key: &VersionKey| {
        let version = i64::try_from(key.version).unwrap_or(i64::MAX);
        let key = params![key.account.as_bytes(), key.resource.as_bytes(), version];
        let found = one(connection, sql, key, |row| {
            Ok(VersionUse {
                last_success_time: optional_time(row, 0)?,
                successes: count(row, 1)?,
                failures: count(row, 2)?,
            })
        })?;
        Ok(found.unwrap_or_default())
    };
    keys.iter().map(one_of).collect()
}

/// How far back counts go: further than versions are remembered, unless very many were cancelled in between.
const COUNTED: i64 = 200;

/// Adds to the counts of those versions whose credential still exists.
pub(super) fn count_uses(connection: &Connection, uses: &[Counted]) -> Written {
    for Counted { key, credential, uses: count } in uses {
        let version = number(key.version)?;
        let added = execute(
            connection,
            "INSERT INTO version_use (account, resource, version, last_success_time, successes, failures)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE EXISTS (SELECT 1 FROM credential WHERE account = ?1 AND id = ?7 AND uid = ?2)
             ON CONFLICT (account, resource, version) DO UPDATE SET
                last_success_time = max(coalesce(last_success_time, ?4), coalesce(?4, last_success_time)),
                successes = successes + ?5, failures = failures + ?6",
            params![
                key.account.as_bytes(),
                key.resource.as_bytes(),
                version,
                count.last_success_time.map(Timestamp::as_microsecond),
                number(count.successes)?,
                number(count.failures)?,
                credential.as_str(),
            ],
        )?;
        if added > 0 {
            execute(
                connection,
                "DELETE FROM version_use WHERE account = ?1 AND resource = ?2 AND version < ?3",
                params![key.account.as_bytes(), key.resource.as_bytes(), version - COUNTED],
            )?;
        }
    }
    Ok(())
}

/// Whether a password may leave the account as the change says. Its caller may have been let in before that was
/// forbidden, or the key revoked.
pub(super) fn may_leave(
    connection: &Connection,
    account: Uid,
    enrolled_keys_only: bool,
    change: &Change,
) -> Written {
    let (Change::CreateCredential { leaves_to, .. }
    | Change::ReplaceCredential { leaves_to, .. }
    | Change::ReplaceProvider { leaves_to, .. }
    | Change::ReplaceRotation { leaves_to, .. }) = change
    else {
        return Ok(());
    };
    let may = match leaves_to {
        None => true,
        Some(Recipient::Caller | Recipient::Key(_)) => !enrolled_keys_only,
        Some(Recipient::Enrolled(id)) => {
            let sql =
                "SELECT revoke_time IS NULL FROM recipient_key WHERE account = ?1 AND id = ?2";
            let key = params![account.as_bytes(), id.as_str()];
            one(connection, sql, key, |row| row.get(0))?.unwrap_or(false)
        }
    };
    if may { Ok(()) } else { Err(Error::Conflict) }
}

/// Has the vault look at deliveries of versions that verify no more.
pub(super) fn end_deliveries(
    connection: &Connection,
    (account, resource): (Uid, Uid),
    verifies: impl Fn(u64) -> bool,
) -> Written {
    let sql = "SELECT id, version FROM rotation WHERE account = ?1 AND resource = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let key = params![account.as_bytes(), resource.as_bytes()];
    let known = statement.query_map(key, |row| Ok((row.get::<_, String>(0)?, count(row, 1)?)))?;
    for known in known {
        let (id, version) = known?;
        if !verifies(version) {
            execute(
                connection,
                "UPDATE rotation SET due_time = 0 WHERE account = ?1 AND id = ?2 AND sealed IS NOT NULL",
                params![account.as_bytes(), id],
            )?;
        }
    }
    Ok(())
}

pub(super) fn set_delivery_policy(
    connection: &Connection,
    account: Uid,
    enrolled_keys_only: bool,
) -> Written {
    let sql = "UPDATE account SET enrolled_keys_only = ?2 WHERE uid = ?1";
    exactly_one(execute(connection, sql, params![account.as_bytes(), enrolled_keys_only])?)
}

const KEY: &str = "id, public_key, display_name, create_time, revoke_time";

fn key_row(row: &Row<'_>, account: &Account) -> Result<RecipientKey> {
    Ok(RecipientKey {
        name: RecipientKeyName { account: account.id.clone(), id: resource_id(row, 0)? },
        public_key: PublicKey::parse(row.get_ref(1)?.as_blob()?).map_err(|it| wrong(1, it.0))?,
        display_name: parsed(row, 2, DisplayName::parse)?,
        create_time: time(row, 3)?,
        revoke_time: optional_time(row, 4)?,
    })
}

pub(super) fn recipient_key(
    connection: &Connection,
    account: &Account,
    id: &ResourceId,
) -> Result<Option<RecipientKey>> {
    let sql = format!("SELECT {KEY} FROM recipient_key WHERE account = ?1 AND id = ?2");
    let key = params![account.uid.as_bytes(), id.as_str()];
    one(connection, &sql, key, |row| key_row(row, account))
}

pub(super) fn list_recipient_keys(
    connection: &Connection,
    account: &Account,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<RecipientKey>> {
    let sql = format!("SELECT {KEY} FROM recipient_key WHERE account = ?1 AND id > ?2 ORDER BY id");
    let arguments = params![account.uid.as_bytes(), after.unwrap_or_default()];
    page(connection, &sql, arguments, limit, |row| {
        Ok((key_row(row, account)?, text_size(row, &[0, 2])?))
    })
}

pub(super) fn create_recipient_key(
    connection: &Connection,
    account: Uid,
    key: &RecipientKey,
) -> Written {
    insert(
        connection,
        "INSERT INTO recipient_key (account, id, public_key, display_name, create_time)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            account.as_bytes(),
            key.name.id.as_str(),
            key.public_key.as_bytes(),
            key.display_name.as_str(),
            key.create_time.as_microsecond(),
        ],
    )
}

pub(super) fn revoke_recipient_key(
    connection: &Connection,
    account: Uid,
    id: &ResourceId,
    time: Timestamp,
) -> Written {
    let sql = "UPDATE recipient_key SET revoke_time = coalesce(revoke_time, ?3)
        WHERE account = ?1 AND id = ?2";
    let arguments = params![account.as_bytes(), id.as_str(), time.as_microsecond()];
    exactly_one(execute(connection, sql, arguments)?)
}
