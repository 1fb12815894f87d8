//! Providers with their tokens: the active one in the provider's row, the others beside those of credentials.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::credentials::replace_others;
use super::read::{
    Result, count, json, one, page, parsed, resource_id, sealed, text_size, time, uid, wrong,
};
use super::write::{exactly_one, execute, insert, json as to_json, number, read_back};
use super::{rotations, verifications};
use crate::access::AccountScope;
use crate::account::Account;
use crate::name::{ProviderName, ResourceId, Uid};
use crate::provider::{DisplayName, Provider, ProviderFilter};
use crate::store::{Error, Page, StoredProvider, StoredToken};

type Written<T = ()> = std::result::Result<T, Error>;

/// For all of an account: rows for [`genuine`].
pub(super) fn all() -> String {
    format!("SELECT {PROVIDER} FROM provider AS p WHERE p.account = ?1")
}

/// Columns of the table `provider AS p`.
const PROVIDER: &str =
    "p.id, p.uid, p.display_name, p.kind, p.verification, p.token_version, p.revision,
    p.token_update_time, p.create_time, p.update_time, p.token_kind, p.sealed, p.versions";

fn provider_row(row: &Row<'_>, account: &Account) -> Result<Provider> {
    Ok(Provider {
        name: ProviderName { account: account.id.clone(), id: resource_id(row, 0)? },
        uid: uid(row, 1)?,
        display_name: parsed(row, 2, DisplayName::parse)?,
        kind: json(row, 3)?,
        token_kind: json(row, 10)?,
        verification: json(row, 4)?,
        token_version: count(row, 5)?,
        versions: json(row, 12)?,
        revision: count(row, 6)?,
        token_update_time: time(row, 7)?,
        create_time: time(row, 8)?,
        update_time: time(row, 9)?,
    })
}

/// A provider with its tokens, if it has those that its row says.
pub(super) fn genuine(
    connection: &Connection,
    row: &Row<'_>,
    account: &Account,
) -> Result<StoredProvider> {
    let provider = provider_row(row, account)?;
    let others = if provider.versions.any_kept() {
        others(connection, account.uid, provider.uid)?
    } else {
        Vec::new()
    };
    let kept = provider.versions.iter().map(|it| it.number);
    if !kept.filter(|it| provider.versions.keeps(*it)).eq(others.iter().map(|it| it.version)) {
        return Err(wrong(12, "the tokens that are stored"));
    }
    Ok(StoredProvider { provider, token: sealed(row, 11)?, others })
}

fn others(connection: &Connection, account: Uid, resource: Uid) -> Result<Vec<StoredToken>> {
    let sql = "SELECT version, sealed, token_kind FROM secret_version WHERE account = ?1 AND resource = ?2
        ORDER BY version";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![account.as_bytes(), resource.as_bytes()], |row| {
        Ok(StoredToken { version: count(row, 0)?, sealed: sealed(row, 1)?, kind: json(row, 2)? })
    })?;
    rows.collect()
}

pub(super) fn provider(
    connection: &Connection,
    scope: &AccountScope,
    id: &ResourceId,
) -> Result<Option<StoredProvider>> {
    let sql = format!("SELECT {PROVIDER} FROM provider AS p WHERE p.account = ?1 AND p.id = ?2");
    let key = params![scope.account().uid.as_bytes(), id.as_str()];
    one(connection, &sql, key, |row| genuine(connection, row, scope.account()))
}

pub(super) fn list(
    connection: &Connection,
    account: &Account,
    filter: &ProviderFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Provider>> {
    let sql = format!(
        "SELECT {PROVIDER} FROM provider AS p WHERE p.account = ?1 AND p.id > ?2
        AND (?3 IS NULL OR p.type = ?3) AND (?4 IS NULL OR p.status = ?4) ORDER BY p.id"
    );
    let arguments = params![
        account.uid.as_bytes(),
        after.unwrap_or_default(),
        filter.provider_type.map(crate::provider::ProviderType::as_str),
        filter.status.map(crate::provider::Status::as_str),
    ];
    page(connection, &sql, arguments, limit, |row| {
        Ok((provider_row(row, account)?, text_size(row, &[0, 2, 3, 4, 10, 12])?))
    })
}

pub(super) fn insert_new(connection: &Connection, account: Uid, new: &StoredProvider) -> Written {
    let StoredProvider { provider, token, .. } = new;
    insert(
        connection,
        "INSERT INTO provider (account, id, uid, display_name, type, kind, status, verification,
            token_version, revision, token_update_time, create_time, update_time, sealed, token_kind,
            verify_time)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            account.as_bytes(),
            provider.name.id.as_str(),
            provider.uid.as_bytes(),
            provider.display_name.as_str(),
            provider.kind.provider_type().as_str(),
            to_json(&provider.kind)?,
            provider.verification.status.as_str(),
            to_json(&provider.verification)?,
            number(provider.token_version)?,
            number(provider.revision)?,
            provider.token_update_time.as_microsecond(),
            provider.create_time.as_microsecond(),
            provider.update_time.as_microsecond(),
            token.as_bytes(),
            to_json(&provider.token_kind)?,
            provider.verification.last_verify_time.map(Timestamp::as_microsecond),
        ],
    )?;
    verifications::append_history(connection, provider)
}

/// Whether a provider is still there, with this version of its token.
pub(super) fn still_holds(
    connection: &Connection,
    account: Uid,
    provider: Uid,
    token_version: u64,
) -> Written {
    let sql = "SELECT 1 FROM provider WHERE account = ?1 AND uid = ?2 AND token_version = ?3";
    let arguments = params![account.as_bytes(), provider.as_bytes(), number(token_version)?];
    exactly_one(connection.prepare_cached(sql)?.exists(arguments)?.into())
}

/// Tokens that it keeps no more are destroyed with it: nothing is left of their ciphertext.
pub(super) fn replace(
    connection: &Connection,
    account: Uid,
    expect: u64,
    new: &StoredProvider,
) -> Written {
    let StoredProvider { provider, token, others } = new;
    // One of meanwhile is newer than the one that this change was made from.
    let before: Option<(i64, String)> = connection
        .prepare_cached("SELECT token_version, kind FROM provider WHERE account = ?1 AND id = ?2")?
        .query_row(params![account.as_bytes(), provider.name.id.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let version = number(provider.token_version)?;
    let keeps_verification = before.is_some_and(|(stored, kind)| {
        stored == version && verifications::is_kind(&kind, &provider.kind)
    });
    let rows = execute(
        connection,
        "UPDATE provider SET display_name = ?5,
            status = iif(?16, status, ?6), verification = iif(?16, verification, ?7),
            verify_time = iif(?16, verify_time, ?14),
            token_version = ?8, revision = ?9, token_update_time = ?10, update_time = ?11,
            sealed = ?12, kind = ?13, token_kind = ?15, versions = ?17, retire_time = ?18
         WHERE account = ?1 AND id = ?2 AND uid = ?3 AND revision = ?4",
        params![
            account.as_bytes(),
            provider.name.id.as_str(),
            provider.uid.as_bytes(),
            number(expect)?,
            provider.display_name.as_str(),
            provider.verification.status.as_str(),
            to_json(&provider.verification)?,
            number(provider.token_version)?,
            number(provider.revision)?,
            provider.token_update_time.as_microsecond(),
            provider.update_time.as_microsecond(),
            token.as_bytes(),
            to_json(&provider.kind)?,
            provider.verification.last_verify_time.map(Timestamp::as_microsecond),
            to_json(&provider.token_kind)?,
            keeps_verification,
            to_json(&provider.versions)?,
            provider.versions.next_retirement().map(Timestamp::as_microsecond),
        ],
    )?;
    exactly_one(rows)?;
    if !keeps_verification {
        verifications::append_history(connection, provider)?;
    }
    let (id, key) = (&provider.name.id, (account, provider.uid));
    read_back(connection, "provider", account, id, Some(provider.revision))?;
    let kept = others.iter().map(|it| Ok((it.version, &it.sealed, Some(to_json(&it.kind)?))));
    replace_others(connection, key, kept.collect::<Written<Vec<_>>>()?)?;
    rotations::end_deliveries(connection, key, |version| provider.holds(version))
}
