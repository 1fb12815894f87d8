//! What is particular to the SQLite store: what its file says of itself, and what it refuses.

#![expect(clippy::disallowed_types, reason = "looks at the file from outside of the store")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use credvault::store::{Change, Error, Location};
use rusqlite::Connection;

use crate::contract::samples::{Home, create, credential, next, replace, scope, write};

fn home() -> Home {
    Home::new(|dir| Location::Sqlite(dir.join("credvault.db")))
}

fn path(home: &Home) -> &Path {
    let Location::Sqlite(path) = &home.location;
    path
}

/// The file, opened beside the store.
pub(crate) fn open(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

/// Stamps the file as one that a later Credvault has migrated.
pub(crate) fn set_schema_version(path: &Path, version: i64) {
    open(path).pragma_update(None, "user_version", version).unwrap();
}

/// The files of a store: the main one, the log, and the index of the log.
fn files(path: &Path) -> Vec<PathBuf> {
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let files = ["", "-wal", "-shm", ".lock"].map(beside);
    files.into_iter().filter(|file| file.exists()).collect()
}

#[test]
fn this_sqlite_does_not_lose_commits() {
    // Below, two connections in WAL mode can (sqlite.org/wal.html, "WAL-reset bug").
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[tokio::test]
async fn the_file_says_wal_strict_and_its_schema() {
    let home = home();
    let store = home.create();
    let file = open(path(&home));
    let text = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(text("PRAGMA journal_mode"), "wal");
    assert_eq!(number("PRAGMA user_version"), 11);
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(
        number("SELECT count(*) FROM pragma_foreign_key_check"),
        0,
        "every row refers to one that is there"
    );
    let tables = "FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'";
    assert!(number(&format!("SELECT count(*) {tables}")) >= 8);
    let loose = format!("SELECT coalesce(group_concat(name), '') {tables} AND NOT strict");
    assert_eq!(text(&loose), "", "tables that are not STRICT");
    drop(file);
    store.close().await;
}

#[tokio::test]
async fn only_the_owner_reads_any_file_of_it() {
    let home = home();
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    store.commit(create(&acme, &credential("desk", "alice", 1))).await.unwrap();
    let files = files(path(&home));
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    store.close().await;
}

#[tokio::test]
async fn what_was_replaced_or_deleted_is_in_no_file_after_the_close() {
    let home = home();
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let contains = |needle: &[u8]| {
        let holds = |file: &PathBuf| {
            let bytes = std::fs::read(file).unwrap();
            bytes.windows(needle.len()).any(|window| window == needle)
        };
        files(path(&home)).iter().any(holds)
    };
    // Enough rows that pages split and are freed again.
    let mut kept: Vec<_> =
        (0..50).map(|n| credential(&format!("desk-{n}"), &format!("user-{n}"), n)).collect();
    let mut gone = Vec::new();
    for new in &kept {
        store.commit(create(&acme, new)).await.unwrap();
    }
    for (n, stored) in (100..).zip(&mut kept) {
        let new = next(stored, n);
        store.commit(replace(&acme, stored.credential.revision, &new)).await.unwrap();
        gone.push(std::mem::replace(stored, new));
    }
    for stored in kept.split_off(10) {
        let change = Change::DeleteCredential(stored.credential.clone());
        store.commit(write(&acme, change)).await.unwrap();
        gone.push(stored);
    }
    store.close().await;
    for stored in &kept {
        assert!(contains(stored.password.as_bytes()), "what is kept is found");
    }
    for stored in &gone {
        // The tail: the head of every record is the same.
        let remnant = &stored.password.as_bytes()[100..];
        assert!(
            !contains(remnant),
            "{} version {}",
            stored.credential.name,
            stored.credential.version
        );
    }
    let log = path(&home).with_extension("db-wal");
    assert!(std::fs::metadata(log).map_or(0, |log| log.len()) == 0, "the log is gone or empty");
}

#[tokio::test]
async fn a_change_that_meets_a_damaged_index_leaves_nothing_of_itself() {
    let home = home();
    let store = home.create();
    let acme = scope(&*store, "acme").await;
    let stored = credential("desk", "alice", 1);
    store.commit(create(&acme, &stored)).await.unwrap();
    store.close().await;
    drop(store);
    // The row gets another username while an index looks away.
    let file = || {
        let file = open(path(&home));
        file.pragma_update(None, "writable_schema", "ON").unwrap();
        file
    };
    let index = "name = 'credential_by_username'";
    let aside = format!("CREATE TEMP TABLE aside AS SELECT * FROM sqlite_schema WHERE {index}");
    file()
        .execute_batch(&format!(
            "{aside}; DELETE FROM sqlite_schema WHERE {index}; PRAGMA writable_schema = RESET;
        UPDATE credential SET username = 'bob' WHERE id = 'desk'; PRAGMA writable_schema = ON;
        INSERT INTO sqlite_schema SELECT * FROM aside"
        ))
        .unwrap();
    let problems = || {
        let file = open(path(&home));
        let mut check = file.prepare("PRAGMA integrity_check").unwrap();
        let problems = check.query_map([], |row| row.get::<_, String>(0)).unwrap();
        problems.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let before = problems();
    assert!(before[0].contains("credential_by_username"), "{before:?}");

    let store = home.try_open().unwrap();
    let acme = scope(&*store, "acme").await;
    let delete = write(&acme, Change::DeleteCredential(stored.credential));
    let refused = store.commit(delete).await.unwrap_err();
    assert!(matches!(refused, Error::Damaged(_)), "{refused:?}");
    store.close().await;
    assert_eq!(problems(), before);
}

/// What happened to a file.
type Spoil = fn(&Path);

#[tokio::test]
async fn a_file_that_is_not_a_sound_store_of_ours_is_refused_with_its_cause() {
    let cases: [(&str, Spoil, [&str; 3]); 6] = [
        (
            "a newer schema",
            |path| set_schema_version(path, 99),
            ["newer Credvault", "schema 99", "start that version"],
        ),
        (
            "another program's file",
            |path| std::fs::write(path, "this is a letter to my aunt ".repeat(400)).unwrap(),
            ["not a Credvault store", "--data-dir", "credvault init"],
        ),
        (
            "an empty file",
            |path| std::fs::write(path, "").unwrap(),
            ["not a Credvault store", "--data-dir", "credvault init"],
        ),
        (
            "another program's database",
            |path| {
                std::fs::write(path, "").unwrap();
                let other = Connection::open(path).unwrap();
                other.execute_batch("CREATE TABLE letter (text TEXT)").unwrap();
            },
            ["not a Credvault store", "--data-dir", "credvault init"],
        ),
        (
            "a file with two names",
            |path| std::fs::hard_link(path, path.with_extension("also")).unwrap(),
            ["second name", "hard link", "remove that name"],
        ),
        (
            "a file that others may read",
            |path| {
                let mode = std::fs::Permissions::from_mode(0o640);
                std::fs::set_permissions(path, mode).unwrap();
            },
            ["others may read", "0640", "chmod 600"],
        ),
    ];
    for (case, spoil, says) in cases {
        let home = home();
        home.create().close().await;
        spoil(path(&home));
        let refusal = home.try_open().unwrap_err().to_string();
        for says in says {
            assert!(refusal.contains(says), "{case}: {refusal}");
        }
    }
}
