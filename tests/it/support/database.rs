//! What lies in the file itself, read beside the vault that serves it.

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row};

use super::TestVault;

impl TestVault {
    /// Every row of every table but the audit log's: what a refused call leaves as it was.
    pub(crate) fn state(&self) -> Vec<String> {
        let tables = "SELECT name FROM sqlite_schema
            WHERE type = 'table' AND name <> 'audit_entry' ORDER BY name";
        let file = self.reading();
        let tables = query(&file, tables, |row| row.get::<_, String>(0));
        let rows = tables.iter().flat_map(|table| {
            let rows = query(&file, &format!("SELECT * FROM {table}"), values);
            rows.into_iter().map(move |row| format!("{table} {row:?}"))
        });
        rows.collect()
    }

    /// The first column of every row.
    pub(crate) fn column<T: rusqlite::types::FromSql>(&self, sql: &str) -> Vec<T> {
        query(&self.reading(), sql, |row| row.get(0))
    }

    fn reading(&self) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(self.database(), flags).unwrap()
    }
}

fn query<T>(
    connection: &Connection,
    sql: &str,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], read).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Changes the file behind the vault's back.
pub(crate) fn tamper(database: &std::path::Path, sql: &str) {
    assert_eq!(Connection::open(database).unwrap().execute(sql, []).unwrap(), 1);
}

/// Lets nobody else write until it is dropped.
pub(crate) fn locked(database: &std::path::Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// Changes its schema.
pub(crate) fn alter(database: &std::path::Path, sql: &str) {
    Connection::open(database).unwrap().execute_batch(sql).unwrap();
}

fn values(row: &Row<'_>) -> rusqlite::Result<Vec<Value>> {
    (0..row.as_ref().column_count()).map(|column| row.get(column)).collect()
}

/// Takes back what 0011, 0010, 0009, 0008 and 0007 changed.
pub(crate) const BEFORE_ROTATIONS: &str = "
    ALTER TABLE account DROP COLUMN access_token_grants;
    ALTER TABLE account DROP COLUMN access_token_seconds;
    DROP INDEX provider_by_retirement;
    ALTER TABLE provider DROP COLUMN retire_time;
    ALTER TABLE provider DROP COLUMN versions;
    DROP INDEX credential_by_next_rotation;
    ALTER TABLE credential DROP COLUMN next_rotation_time;
    ALTER TABLE credential DROP COLUMN schedule;
    DROP INDEX credential_by_carrier;
    ALTER TABLE credential DROP COLUMN provider;
    ALTER TABLE credential DROP COLUMN provider_uid;
    ALTER TABLE credential DROP COLUMN carrier;
    DROP TABLE rotation;
    DROP TABLE recipient_key;
    DROP TABLE version_use;
    DROP TABLE secret_version;
    CREATE TABLE secret_version (
        resource BLOB NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, sealed BLOB,
        create_time INTEGER NOT NULL, retire_time INTEGER, destroy_time INTEGER,
        PRIMARY KEY (resource, version)) STRICT, WITHOUT ROWID;
    DROP INDEX credential_by_retirement;
    ALTER TABLE credential DROP COLUMN retire_time;
    ALTER TABLE credential DROP COLUMN versions;
    ALTER TABLE account DROP COLUMN enrolled_keys_only;";
