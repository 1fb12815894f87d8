//! What changed, as the audit chains know it: each change has its entry, in the transaction that made it.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::credentials::{COLUMNS, credential_row};
use super::read::{FIXED, PAGE_BYTES, Result, last_link, link as link_row, one, text_size};
use crate::account::Account;
use crate::audit::{self, Link};
use crate::credential::Credential;
use crate::name::{AccountName, ResourceId, Uid};
use crate::store::Changes;

/// The link of a chain that has this sequence; its last one if none is named.
pub(super) fn link(
    connection: &Connection,
    chain: Uid,
    sequence: Option<u64>,
) -> Result<Option<Link>> {
    let Some(sequence) = sequence else { return last_link(connection, chain) };
    let Ok(sequence) = i64::try_from(sequence) else { return Ok(None) };
    let sql =
        "SELECT sequence, previous_hash, hash FROM audit_entry WHERE chain = ?1 AND sequence = ?2";
    one(connection, sql, params![chain.as_bytes(), sequence], link_row)
}

/// The credentials that entries after `after` name. Entries and credentials are read in one transaction, so none of these
/// is older than the entry that names it.
pub(super) fn changed_credentials(
    connection: &Connection,
    account: &Account,
    after: u64,
    limit: usize,
) -> Result<Changes> {
    let sql = "SELECT sequence, previous_hash, hash, resource, outcome FROM audit_entry
        WHERE chain = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let mut entries = statement.query(params![account.uid.as_bytes(), after, limit])?;
    let all = format!("{}/credentials/", AccountName(account.id.clone()));
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    let mut changes = Changes { credentials: Vec::new(), reached: None };
    while let Some(entry) = entries.next()? {
        // What was refused has changed nothing.
        let is_done = entry.get_ref(4)?.as_str()? == audit::OK;
        let named = if is_done { named(entry.get_ref(3)?.as_str()?, &all) } else { None };
        if let Some(id) = named.filter(|id| !seen.contains(id)) {
            let found = credential(connection, account, &id)?;
            bytes += FIXED + found.as_ref().map_or(0, |(_, size)| *size);
            if bytes > PAGE_BYTES && !changes.credentials.is_empty() {
                break;
            }
            seen.insert(id.clone());
            changes.credentials.push((id, found.map(|(credential, _)| credential)));
        }
        changes.reached = Some(link_row(entry)?);
    }
    Ok(changes)
}

/// The id of the credential that a resource is, or is below of.
fn named(resource: &str, all: &str) -> Option<ResourceId> {
    let id = resource.strip_prefix(all)?.split('/').next()?;
    ResourceId::parse(id).ok()
}

/// A credential without its secrets, and about how large it is.
fn credential(
    connection: &Connection,
    account: &Account,
    id: &ResourceId,
) -> Result<Option<(Credential, usize)>> {
    let sql = format!("SELECT {COLUMNS} FROM credential WHERE account = ?1 AND id = ?2");
    one(connection, &sql, params![account.uid.as_bytes(), id.as_str()], |row| {
        let credential = credential_row(row, account)?;
        let size = text_size(row, &[0, 2, 3, 5, 6])? + 16 * credential.labels.as_map().len();
        Ok((credential, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_of_the_account_are_named_also_by_what_is_below_them() {
        let of = |resource| named(resource, "accounts/acme/credentials/");
        let desk = ResourceId::parse("desk").ok();
        assert_eq!(of("accounts/acme/credentials/desk"), desk);
        assert_eq!(of("accounts/acme/credentials/desk/rotations/x00"), desk);
        for other in [
            "accounts/acme",
            "accounts/acme/credentials/",
            "accounts/acme/providers/desk",
            "accounts/other/credentials/desk",
            "vault",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
