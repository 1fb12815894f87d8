//! Credentials with all versions of their passwords: one row, and one more for each version beside the active one.

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::checksum;
use super::read::{
    Result, account as read_account, count, json, one, parsed, resource_id, sealed, time,
    time as time_of, uid, wrong,
};
use super::rotations;
use super::write::{exactly_one, execute, insert, json as to_json, number, read_back};
use crate::access::AccountScope;
use crate::account::Account;
use crate::credential::{Credential, Description, Labels, Realm, Residence, Username};
use crate::crypto::Sealed;
use crate::name::{CredentialName, ResourceId, Uid};
use crate::store::{DuePosition, Error, StoredCredential, StoredVersion, Taken};

/// The columns that [`credential_row`] and [`stored`] read, for SQL that is put together at compile time.
macro_rules! columns {
    () => {
        "id, uid, username, realm, enabled, description, labels, version, revision,
        create_time, update_time, rotate_time, sealed, versions, provider, provider_uid, carrier, schedule,
        next_rotation_time"
    };
}

pub(super) const COLUMNS: &str = columns!();

pub(super) fn credential_row(row: &Row<'_>, account: &Account) -> Result<Credential> {
    Ok(Credential {
        name: CredentialName { account: account.id.clone(), id: resource_id(row, 0)? },
        uid: uid(row, 1)?,
        username: parsed(row, 2, Username::parse)?,
        realm: parsed(row, 3, Realm::parse)?,
        enabled: row.get(4)?,
        description: parsed(row, 5, Description::parse)?,
        labels: Labels::parse(json(row, 6)?).map_err(|error| wrong(6, error.0))?,
        version: count(row, 7)?,
        revision: count(row, 8)?,
        create_time: time(row, 9)?,
        update_time: time(row, 10)?,
        rotate_time: time(row, 11)?,
        versions: json(row, 13)?,
        residence: residence(row)?,
        schedule: schedule(row)?.map(|_| json(row, 17)).transpose()?,
    })
}

pub(super) fn residence(row: &Row<'_>) -> Result<Option<Residence>> {
    if row.get_ref(14)? == ValueRef::Null {
        return Ok(None);
    }
    let (provider, provider_uid) = (resource_id(row, 14)?, uid(row, 15)?);
    Ok(Some(Residence { provider, provider_uid, at: json(row, 16)? }))
}

/// With a row or an index damaged, one user could pass for another: names are not part of what a ciphertext is bound
/// to. SQLite takes some of them from the index, which is why all are held against its checksum.
pub(super) fn genuine(
    connection: &Connection,
    row: &Row<'_>,
    account: &Account,
) -> Result<StoredCredential> {
    let credential = credential_row(row, account)?;
    let checksum = row.get_ref(19)?.as_blob()?;
    if checksum != checksum::of(account.uid, &credential, schedule(row)?) {
        return Err(wrong(19, "the checksum of what the row holds"));
    }
    let others = if credential.versions.any_kept() {
        others(connection, account.uid, credential.uid)?
    } else {
        Vec::new()
    };
    let kept = credential.versions.iter().map(|it| it.number);
    if !kept.filter(|it| credential.versions.keeps(*it)).eq(others.iter().map(|it| it.version)) {
        return Err(wrong(13, "the versions that are stored"));
    }
    Ok(StoredCredential { credential, password: sealed(row, 12)?, others })
}

/// The schedule as stored.
fn schedule<'a>(row: &'a Row<'_>) -> Result<Option<&'a str>> {
    Ok(row.get_ref(17)?.as_str_or_null()?)
}

fn others(connection: &Connection, account: Uid, resource: Uid) -> Result<Vec<StoredVersion>> {
    let sql = "SELECT version, sealed FROM secret_version WHERE account = ?1 AND resource = ?2
        ORDER BY version";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![account.as_bytes(), resource.as_bytes()], |row| {
        Ok(StoredVersion { version: count(row, 0)?, sealed: sealed(row, 1)? })
    })?;
    rows.collect()
}

pub(super) fn credential(
    connection: &Connection,
    scope: &AccountScope,
    id: &ResourceId,
) -> Result<Option<StoredCredential>> {
    let sql =
        concat!("SELECT ", columns!(), ", checksum FROM credential WHERE account = ?1 AND id = ?2");
    let key = params![scope.account().uid.as_bytes(), id.as_str()];
    one(connection, sql, key, |row| genuine(connection, row, scope.account()))
}

pub(super) fn by_username(
    connection: &Connection,
    scope: &AccountScope,
    realm: &Realm,
    username: &Username,
) -> Result<Option<StoredCredential>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        ", checksum FROM credential WHERE account = ?1 AND realm = ?2 AND username = ?3"
    );
    let key = params![scope.account().uid.as_bytes(), realm.as_str(), username.as_str()];
    one(connection, sql, key, |row| genuine(connection, row, scope.account()))
}

/// For all of an account: rows for [`genuine`].
pub(super) fn all() -> String {
    format!("SELECT {COLUMNS}, checksum FROM credential WHERE account = ?1")
}

pub(super) fn scheduled(
    connection: &Connection,
    until: Timestamp,
    after: Option<&DuePosition>,
    limit: usize,
) -> Result<Vec<(Account, DuePosition)>> {
    let sql = "SELECT a.uid, a.id, a.disabled, a.create_time, a.enrolled_keys_only, c.id, c.next_rotation_time
        FROM credential c JOIN account a ON a.uid = c.account
        WHERE c.next_rotation_time <= ?1 AND (c.next_rotation_time, c.account, c.id) > (?2, ?3, ?4)
            AND c.enabled AND NOT a.disabled
        ORDER BY c.next_rotation_time, c.account, c.id LIMIT ?5";
    let (time, account, id) = match after {
        Some(at) => (at.time.as_microsecond(), at.account, at.id.as_str()),
        None => (i64::MIN, Uid::ZERO, ""),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let arguments = params![until.as_microsecond(), time, account.as_bytes(), id, limit];
    let rows = statement.query_map(arguments, |row| {
        let account = read_account(row, 0)?;
        let (id, uid) = (resource_id(row, 5)?, account.uid);
        Ok((account, DuePosition { time: time_of(row, 6)?, account: uid, id }))
    })?;
    rows.collect()
}

pub(super) fn create(
    connection: &Connection,
    account: Uid,
    new: &StoredCredential,
) -> std::result::Result<(), Error> {
    let StoredCredential { credential, password, .. } = new;
    let residence = credential.residence.as_ref();
    let carrier = residence.map(|residence| to_json(&residence.at)).transpose()?;
    if let Some((residence, carrier)) = residence.zip(carrier.as_ref()) {
        may_live_at(connection, account, residence, carrier)?;
    }
    let schedule = credential.schedule.as_ref().map(to_json).transpose()?;
    insert(
        connection,
        "INSERT INTO credential (account, id, uid, username, realm, enabled, description, labels, version,
            revision, create_time, update_time, rotate_time, sealed, versions, retire_time, checksum, provider,
            provider_uid, carrier, schedule, next_rotation_time)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
            ?22)",
        params![
            account.as_bytes(),
            credential.name.id.as_str(),
            credential.uid.as_bytes(),
            credential.username.as_str(),
            credential.realm.as_str(),
            credential.enabled,
            credential.description.as_str(),
            to_json(credential.labels.as_map())?,
            number(credential.version)?,
            number(credential.revision)?,
            credential.create_time.as_microsecond(),
            credential.update_time.as_microsecond(),
            credential.rotate_time.as_microsecond(),
            password.as_bytes(),
            to_json(&credential.versions)?,
            credential.versions.next_retirement().map(Timestamp::as_microsecond),
            checksum::of(account, credential, schedule.as_deref()),
            residence.map(|residence| residence.provider.as_str()),
            residence.map(|residence| residence.provider_uid.as_bytes()),
            carrier,
            schedule,
            credential.next_rotation_time().map(Timestamp::as_microsecond),
        ],
    )
}

/// The provider must be there still, and no other credential may be the same one at the carrier.
fn may_live_at(
    connection: &Connection,
    account: Uid,
    residence: &Residence,
    carrier: &str,
) -> std::result::Result<(), Error> {
    let Residence { provider, provider_uid, .. } = residence;
    let sql = "SELECT 1 FROM provider WHERE account = ?1 AND id = ?2 AND uid = ?3";
    let key = params![account.as_bytes(), provider.as_str(), provider_uid.as_bytes()];
    if !connection.prepare_cached(sql)?.exists(key)? {
        return Err(Error::Conflict);
    }
    let sql = "SELECT 1 FROM credential WHERE account = ?1 AND provider_uid = ?2 AND carrier = ?3";
    let key = params![account.as_bytes(), provider_uid.as_bytes(), carrier];
    if connection.prepare_cached(sql)?.exists(key)? {
        return Err(Error::Taken(Taken::AtCarrier));
    }
    Ok(())
}

/// Whether a credential lives at this provider.
pub(super) fn any_at(
    connection: &Connection,
    account: Uid,
    provider: Uid,
) -> std::result::Result<bool, Error> {
    let sql = "SELECT 1 FROM credential WHERE account = ?1 AND provider_uid = ?2";
    let key = params![account.as_bytes(), provider.as_bytes()];
    Ok(connection.prepare_cached(sql)?.exists(key)?)
}

/// Versions that are not part of the new state are destroyed with this: nothing is left of their ciphertext, and the
/// audit entry says what they were.
pub(super) fn replace(
    connection: &Connection,
    account: Uid,
    expect: u64,
    new: &StoredCredential,
) -> std::result::Result<(), Error> {
    let StoredCredential { credential, password, others } = new;
    let schedule = credential.schedule.as_ref().map(to_json).transpose()?;
    // A checksum that does not fit the row must not become one that does by a change of something else.
    let rows = execute(
        connection,
        "UPDATE credential SET enabled = ?5, description = ?6, labels = ?7, version = ?8, revision = ?9,
            update_time = ?10, rotate_time = ?11, sealed = ?12, versions = ?13, retire_time = ?14,
            checksum = iif(schedule IS ?15, checksum, ?16), schedule = ?15, next_rotation_time = ?17
         WHERE account = ?1 AND id = ?2 AND uid = ?3 AND revision = ?4",
        params![
            account.as_bytes(),
            credential.name.id.as_str(),
            credential.uid.as_bytes(),
            number(expect)?,
            credential.enabled,
            credential.description.as_str(),
            to_json(credential.labels.as_map())?,
            number(credential.version)?,
            number(credential.revision)?,
            credential.update_time.as_microsecond(),
            credential.rotate_time.as_microsecond(),
            password.as_bytes(),
            to_json(&credential.versions)?,
            credential.versions.next_retirement().map(Timestamp::as_microsecond),
            schedule,
            checksum::of(account, credential, schedule.as_deref()),
            credential.next_rotation_time().map(Timestamp::as_microsecond),
        ],
    )?;
    exactly_one(rows)?;
    let (id, key) = (&credential.name.id, (account, credential.uid));
    read_back(connection, "credential", account, id, Some(credential.revision))?;
    replace_others(connection, key, others.iter().map(|it| (it.version, &it.sealed, None)))?;
    rotations::end_deliveries(connection, key, |version| {
        version == credential.version || credential.versions.keeps(version)
    })
}

/// Stores what is kept beside the active secret of a resource, each with its version and, of a token, its kind.
pub(super) fn replace_others<'a>(
    connection: &Connection,
    (account, resource): (Uid, Uid),
    others: impl IntoIterator<Item = (u64, &'a Sealed, Option<String>)>,
) -> std::result::Result<(), Error> {
    destroy_others(connection, account, resource)?;
    for (version, sealed, kind) in others {
        execute(
            connection,
            "INSERT INTO secret_version (account, resource, version, sealed, token_kind) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                account.as_bytes(),
                resource.as_bytes(),
                number(version)?,
                sealed.as_bytes(),
                kind
            ],
        )?;
    }
    Ok(())
}

pub(super) fn destroy_others(
    connection: &Connection,
    account: Uid,
    resource: Uid,
) -> std::result::Result<(), Error> {
    let sql = "DELETE FROM secret_version WHERE account = ?1 AND resource = ?2";
    execute(connection, sql, params![account.as_bytes(), resource.as_bytes()]).map(drop)
}
