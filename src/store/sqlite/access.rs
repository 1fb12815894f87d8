//! Accounts, API tokens and role bindings: who may do what.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Rows, params};

use super::read::{self, Result, one, optional_time, page, parsed, text_size, time, uid, wrong};
use super::write::{exactly_one, execute};
use crate::access::api_token::{ApiTokenName, TokenId, TokenMetadata};
use crate::access::principal::{Principal, RoleBinding};
use crate::access::spiffe::SpiffeId;
use crate::access::{Membership, Owner, Role, Standing};
use crate::access_token::AccessTokenPolicy;
use crate::account::Account;
use crate::defect::{Defect, planted};
use crate::name::{OwnerName, ResourceId, Uid};
use crate::provider::DisplayName;
use crate::store::{Error, Page, StoredApiToken, Taken};

type Written<T = ()> = std::result::Result<T, Error>;

/// The columns that [`add_binding`] reads.
const BINDING: &str =
    "a.uid, a.id, a.disabled, a.create_time, a.enrolled_keys_only, b.account, b.role";

pub(super) fn api_token(connection: &Connection, id: &TokenId) -> Result<Option<StoredApiToken>> {
    let sql = format!(
        "SELECT {BINDING}, t.hash, t.expire_time, t.revoke_time
        FROM api_token t
        LEFT JOIN role_binding b ON b.principal = 'token:' || t.id
        LEFT JOIN account a ON a.uid = b.account
        WHERE t.id = ?1
        ORDER BY b.account"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.to_string()])?;
    let (mut token, mut standing) = (None, Standing::default());
    while let Some(row) = rows.next()? {
        token = Some((row.get(7)?, time(row, 8)?, optional_time(row, 9)?));
        if row.get_ref(6)?.as_str_or_null()?.is_some() {
            add_binding(&mut standing, row)?;
        }
    }
    Ok(token.map(|(hash, expire_time, revoke_time)| StoredApiToken {
        hash,
        expire_time,
        revoke_time,
        standing: Arc::new(standing),
    }))
}

pub(super) fn standing(connection: &Connection, workload: &SpiffeId) -> Result<Standing> {
    let sql = format!(
        "SELECT {BINDING} FROM role_binding b LEFT JOIN account a ON a.uid = b.account
        WHERE b.principal IN (SELECT value FROM json_each(?1)) ORDER BY b.account"
    );
    let covering = serde_json::to_string(&Principal::covering(workload)).map_err(read::not_sql)?;
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows: Rows<'_> = statement.query([covering])?;
    let mut standing = Standing::default();
    while let Some(row) = rows.next()? {
        add_binding(&mut standing, row)?;
    }
    Ok(standing)
}

/// Adds the binding of a row; rows of one account follow each other.
fn add_binding(standing: &mut Standing, row: &Row<'_>) -> Result<()> {
    let role = role(row.get_ref(6)?.as_str()?)?;
    let owner = uid(row, 5)?;
    if owner == Uid::ZERO {
        standing.operator |= role == Role::Operator;
        return Ok(());
    }
    match standing.memberships.last_mut() {
        Some(membership) if membership.account.uid == owner => membership.roles.push(role),
        _ => {
            let account = read::account(row, 0)?;
            standing.memberships.push(Membership { account, roles: vec![role] });
        }
    }
    Ok(())
}

fn role(name: &str) -> Result<Role> {
    Role::parse(name).ok_or_else(|| wrong(0, "an unknown role"))
}

/// Roles as `group_concat` joins them, in the order of their names.
fn roles(row: &Row<'_>, column: usize) -> Result<Vec<Role>> {
    let names = row.get_ref(column)?.as_str_or_null()?.unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(role).collect()
}

pub(super) fn account(connection: &Connection, id: &ResourceId) -> Result<Option<Account>> {
    let sql =
        "SELECT uid, id, disabled, create_time, enrolled_keys_only FROM account WHERE id = ?1";
    one(connection, sql, [id.as_str()], |row| read::account(row, 0))
}

pub(super) fn list_accounts(
    connection: &Connection,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Account>> {
    let sql = "SELECT uid, id, disabled, create_time, enrolled_keys_only FROM account
        WHERE id > ?1 ORDER BY id";
    page(connection, sql, [after.unwrap_or_default()], limit, |row| {
        Ok((read::account(row, 0)?, text_size(row, &[1])?))
    })
}

pub(super) fn token_owner(connection: &Connection, id: &TokenId) -> Result<Option<Owner>> {
    let sql = "SELECT a.uid, a.id, a.disabled, a.create_time, a.enrolled_keys_only FROM api_token t
        LEFT JOIN account a ON a.uid = t.account WHERE t.id = ?1";
    one(connection, sql, [id.to_string()], |row| match row.get_ref(0)? {
        ValueRef::Null => Ok(Owner::Vault),
        _ => read::account(row, 0).map(Owner::Account),
    })
}

const TOKEN: &str = "t.id, t.display_name, t.create_time, t.expire_time, t.revoke_time,
    (SELECT group_concat(b.role) FROM role_binding b
        WHERE b.principal = 'token:' || t.id AND b.account = t.account)";

fn token_row(row: &Row<'_>, owner: &OwnerName) -> Result<TokenMetadata> {
    Ok(TokenMetadata {
        name: ApiTokenName { owner: owner.clone(), id: parsed(row, 0, TokenId::parse)? },
        display_name: parsed(row, 1, DisplayName::parse)?,
        create_time: time(row, 2)?,
        expire_time: time(row, 3)?,
        revoke_time: optional_time(row, 4)?,
        roles: roles(row, 5)?,
    })
}

pub(super) fn token_metadata(
    connection: &Connection,
    (owner, name): (Uid, &OwnerName),
    id: &TokenId,
) -> Result<Option<TokenMetadata>> {
    let sql = format!("SELECT {TOKEN} FROM api_token t WHERE t.account = ?1 AND t.id = ?2");
    let key = params![owner.as_bytes(), id.to_string()];
    one(connection, &sql, key, |row| token_row(row, name))
}

pub(super) fn list_api_tokens(
    connection: &Connection,
    (owner, name): (Uid, &OwnerName),
    after: Option<&str>,
    limit: usize,
) -> Result<Page<TokenMetadata>> {
    let sql =
        format!("SELECT {TOKEN} FROM api_token t WHERE t.account = ?1 AND t.id > ?2 ORDER BY t.id");
    let arguments = params![owner.as_bytes(), after.unwrap_or_default()];
    page(connection, &sql, arguments, limit, |row| {
        Ok((token_row(row, name)?, text_size(row, &[0, 1])?))
    })
}

pub(super) fn list_role_bindings(
    connection: &Connection,
    owner: Uid,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<RoleBinding>> {
    let sql = "SELECT principal, max(update_time), group_concat(role) FROM role_binding
        WHERE account = ?1 AND principal > ?2 GROUP BY principal ORDER BY principal";
    page(connection, sql, params![owner.as_bytes(), after.unwrap_or_default()], limit, |row| {
        let binding = RoleBinding {
            principal: parsed(row, 0, Principal::parse)?,
            update_time: time(row, 1)?,
            roles: roles(row, 2)?,
        };
        Ok((binding, text_size(row, &[0])?))
    })
}

pub(super) fn create_account(connection: &Connection, account: &Account) -> Written {
    let rows = execute(
        connection,
        "INSERT INTO account (uid, id, disabled, create_time) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO NOTHING",
        params![
            account.uid.as_bytes(),
            account.id.as_str(),
            account.disabled,
            account.create_time.as_microsecond()
        ],
    )?;
    if rows == 1 { Ok(()) } else { Err(Error::Taken(Taken::Id)) }
}

pub(super) fn set_disabled(connection: &Connection, account: Uid, disabled: bool) -> Written {
    let sql = "UPDATE account SET disabled = ?2 WHERE uid = ?1";
    exactly_one(execute(connection, sql, params![account.as_bytes(), disabled])?)
}

/// Returns what the audit entry says of the chain that ends with the account. Its tokens go with it, but for the
/// vault's last operator, and the last admin of another account.
pub(super) fn delete_account(
    connection: &Connection,
    account: Uid,
    guard: Guard<'_>,
) -> Written<String> {
    let sql = "SELECT DISTINCT account FROM role_binding WHERE account <> ?1
        AND principal IN (SELECT 'token:' || id FROM api_token WHERE account = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    let owners = statement.query_map([account.as_bytes()], |row| uid(row, 0))?;
    let owners = owners.collect::<Result<Vec<_>>>()?;
    guard.keeping_last_admin(connection, &owners, || delete_all(connection, account))
}

fn delete_all(connection: &Connection, account: Uid) -> Written<String> {
    let last = read::last_link(connection, account)?;
    for sql in [
        "DELETE FROM secret_version WHERE account = ?1",
        "DELETE FROM version_use WHERE account = ?1",
        "DELETE FROM rotation WHERE account = ?1",
        "DELETE FROM recipient_key WHERE account = ?1",
        "DELETE FROM provider_verification WHERE provider IN
            (SELECT uid FROM provider WHERE account = ?1)",
        "DELETE FROM credential WHERE account = ?1",
        "DELETE FROM provider WHERE account = ?1",
        "DELETE FROM idempotency WHERE account = ?1",
        "DELETE FROM role_binding WHERE account = ?1
            OR principal IN (SELECT 'token:' || id FROM api_token WHERE account = ?1)",
        "DELETE FROM api_token WHERE account = ?1",
        "DELETE FROM audit_entry WHERE chain = ?1",
    ] {
        execute(connection, sql, [account.as_bytes()])?;
    }
    let sql = "DELETE FROM account WHERE uid = ?1 AND disabled";
    exactly_one(execute(connection, sql, [account.as_bytes()])?)?;
    Ok(match last {
        Some(last) => {
            format!("its chain ended at entry {}, hash {}", last.sequence, hex::encode(last.hash))
        }
        None => "its chain had no entry".to_owned(),
    })
}

pub(super) fn create_token(
    connection: &Connection,
    owner: Uid,
    (token, hash): (&TokenMetadata, &[u8; 32]),
    first_admin: bool,
) -> Written {
    if first_admin && has_admin(connection, owner, token.create_time)? {
        return Err(Error::AdminExists);
    }
    execute(
        connection,
        "INSERT INTO api_token (id, hash, create_time, expire_time, account, display_name)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            token.name.id.to_string(),
            hash,
            token.create_time.as_microsecond(),
            token.expire_time.as_microsecond(),
            owner.as_bytes(),
            token.display_name.as_str(),
        ],
    )?;
    bind(connection, owner, &token.name.id.principal(), &token.roles, token.create_time)
}

pub(super) fn revoke_token(
    connection: &Connection,
    owner: Uid,
    token: &TokenId,
    time: Timestamp,
) -> Written {
    let sql = "UPDATE api_token SET revoke_time = coalesce(revoke_time, ?3) WHERE account = ?1 AND id = ?2";
    let arguments = params![owner.as_bytes(), token.to_string(), time.as_microsecond()];
    exactly_one(execute(connection, sql, arguments)?)
}

pub(super) fn set_binding(connection: &Connection, owner: Uid, binding: &RoleBinding) -> Written {
    let principal = binding.principal.to_string();
    unbind(connection, owner, &principal)?;
    bind(connection, owner, &principal, &binding.roles, binding.update_time)
}

pub(super) fn delete_binding(
    connection: &Connection,
    owner: Uid,
    principal: &Principal,
) -> Written {
    match unbind(connection, owner, &principal.to_string())? {
        0 => Err(Error::Conflict),
        _ => Ok(()),
    }
}

/// What a change may not do: take away the last who can let others in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard<'a> {
    /// Who makes the change.
    pub(super) actor: &'a str,
    pub(super) now: Timestamp,
    /// Whoever holds the store may.
    pub(super) keep: bool,
}

impl Guard<'_> {
    /// Performs `change` unless it takes the last admin of one of these accounts away, or the last operator of the vault.
    pub(super) fn keeping_last_admin<T>(
        self,
        connection: &Connection,
        owners: &[Uid],
        change: impl FnOnce() -> Written<T>,
    ) -> Written<T> {
        let mut led = Vec::new();
        for owner in owners.iter().filter(|_| self.keep && !planted(Defect::ForgetLastAdmin)) {
            if self.has_known_admin(connection, *owner)? {
                led.push(*owner);
            }
        }
        let changed = change()?;
        for owner in led {
            if !self.has_known_admin(connection, owner)? {
                return Err(if owner == Uid::ZERO {
                    Error::LastOperator
                } else {
                    Error::LastAdmin
                });
            }
        }
        Ok(changed)
    }

    /// Whether somebody who is known to get in can let others in: a token that is neither revoked nor expired, or the
    /// workload that makes this change. Whether anybody has the certificate of another is not known.
    fn has_known_admin(self, connection: &Connection, owner: Uid) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM role_binding b WHERE b.account = ?1 AND b.role = ?2
            AND (b.principal IN (SELECT value FROM json_each(?4)) OR EXISTS (SELECT 1 FROM api_token t
                WHERE t.id = substr(b.principal, 7) AND b.principal = 'token:' || t.id
                AND t.revoke_time IS NULL AND t.expire_time > ?3)))";
        let actor = SpiffeId::parse(self.actor).map(|id| Principal::covering(&id));
        let actor = serde_json::to_string(&actor.unwrap_or_default()).map_err(read::not_sql)?;
        let now = self.now.as_microsecond();
        connection
            .prepare_cached(sql)?
            .query_row(params![owner.as_bytes(), admin(owner).as_str(), now, actor], |row| {
                row.get(0)
            })
    }
}

/// The role that lets others in.
fn admin(owner: Uid) -> Role {
    if owner == Uid::ZERO { Role::Operator } else { Role::AccountAdmin }
}

fn bind(
    connection: &Connection,
    owner: Uid,
    principal: &str,
    roles: &[Role],
    time: Timestamp,
) -> Written {
    let sql =
        "INSERT INTO role_binding (principal, account, role, update_time) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO NOTHING";
    for role in roles {
        let row = params![principal, owner.as_bytes(), role.as_str(), time.as_microsecond()];
        execute(connection, sql, row)?;
    }
    Ok(())
}

fn unbind(connection: &Connection, owner: Uid, principal: &str) -> Written<usize> {
    let sql = "DELETE FROM role_binding WHERE principal = ?1 AND account = ?2";
    execute(connection, sql, params![principal, owner.as_bytes()])
}

/// Whether somebody may let others in: a workload, or a token that is neither revoked nor expired.
pub(super) fn has_admin(connection: &Connection, owner: Uid, now: Timestamp) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM role_binding b WHERE b.account = ?1 AND b.role = ?2
        AND (b.principal NOT LIKE 'token:%' OR EXISTS (SELECT 1 FROM api_token t
            WHERE t.id = substr(b.principal, 7) AND t.revoke_time IS NULL AND t.expire_time > ?3)))";
    let role = admin(owner).as_str();
    connection
        .prepare_cached(sql)?
        .query_row(params![owner.as_bytes(), role, now.as_microsecond()], |row| row.get(0))
}

pub(super) fn access_token_policy(
    connection: &Connection,
    account: Uid,
) -> Result<Option<AccessTokenPolicy>> {
    let sql = "SELECT access_token_grants, access_token_seconds FROM account WHERE uid = ?1";
    one(connection, sql, [account.as_bytes()], |row| {
        let policy = AccessTokenPolicy::from_stored(row.get(0)?, row.get(1)?);
        policy.ok_or_else(|| wrong(0, "a policy of access tokens"))
    })
}

pub(super) fn set_access_token_policy(
    connection: &Connection,
    account: Uid,
    policy: AccessTokenPolicy,
) -> Written {
    let sql =
        "UPDATE account SET access_token_grants = ?2, access_token_seconds = ?3 WHERE uid = ?1";
    let (grants, seconds) = policy.to_stored();
    exactly_one(execute(connection, sql, params![account.as_bytes(), grants, seconds])?)
}

/// Whether the policy is still the one that a token was judged by.
pub(super) fn still_allows(
    connection: &Connection,
    account: Uid,
    policy: AccessTokenPolicy,
) -> Written {
    let found = access_token_policy(connection, account)?;
    if found == Some(policy) { Ok(()) } else { Err(Error::Conflict) }
}
