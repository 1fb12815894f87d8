//! The files of a store: making them, locking them, opening connections, migrations.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use crate::defect::{Defect, planted};
use crate::store::{Identity, OpenError};

/// One migration a file, applied in order and never changed once released.
const MIGRATIONS: [&str; 1] = [include_str!("0001_foundation.sql")];

/// Below it, two connections in WAL mode can lose committed writes (sqlite.org/wal.html#walresetbug).
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a connection waits for another one of this process: a checkpoint, at the worst.
const BUSY: Duration = Duration::from_secs(5);

/// Creates the file with its schema and the identity of a new vault.
pub(in crate::store) fn create(path: &Path, identity: &Identity) -> Result<(), OpenError> {
    // Made here and not by SQLite, so that no one else can read it; -wal and -shm take over its mode.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|source| {
        OpenError::new(
            format!("cannot create {}: {source}", path.display()),
            "if a vault is there already, use it with `credvault serve`; otherwise choose another --data-dir",
        )
    })?;
    let _lock = Lock::take(path)?;
    let connection = connect(path)?;
    let insert = || -> rusqlite::Result<()> {
        connection.execute(
            "INSERT INTO vault (one, uid, dev, sealed_root, create_time) VALUES (1, ?1, ?2, ?3, ?4)",
            params![
                identity.uid.as_bytes(),
                identity.dev,
                identity.root.0.as_bytes(),
                identity.create_time.as_microsecond(),
            ],
        )?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    insert().map_err(|source| damaged(path, &source))
}

/// Opens a connection that may write, on a file that [`create`] made.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, OpenError> {
    if !path.exists() {
        return Err(OpenError::new(
            format!("there is no vault at {}", path.display()),
            "make one with `credvault init`, or try `credvault dev`",
        ));
    }
    connect(path)
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::new(
            format!("SQLite {} can lose committed writes", rusqlite::version()),
            "build with the bundled SQLite, at least 3.51.3",
        ));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepare = || -> rusqlite::Result<(Connection, i64)> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", !planted(Defect::KeepRemnants))?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        harden(&connection)?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok((connection, version))
    };
    let (mut connection, version) = prepare().map_err(|source| damaged(path, &source))?;
    if !(0..=i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)).contains(&version) {
        return Err(OpenError::new(
            format!("{} was written by a newer Credvault (schema {version})", path.display()),
            "start that version or a newer one",
        ));
    }
    for (next, migration) in (1_i64..).zip(MIGRATIONS).filter(|(next, _)| *next > version) {
        let mut migrate = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", next)?;
            transaction.commit()
        };
        migrate().map_err(|source| damaged(path, &source))?;
    }
    Ok(connection)
}

/// Opens a connection that can only read.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    harden(&connection)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn harden(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // A plan must not depend on bound values: SQLite would prepare the statement again at every call.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// The error for a file that SQLite does not accept.
pub(super) fn damaged(path: &Path, source: &rusqlite::Error) -> OpenError {
    OpenError::new(
        format!("cannot use {}: {source}", path.display()),
        "check the disk and the file's permissions, or restore the vault from a backup",
    )
}

/// Whether the last process on this file did not close it: its log is still there.
pub(super) fn was_left_open(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// The WAL or lock file beside `path`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Checks the whole file after an unclean stop, while the server already answers.
pub(super) fn check_in_background(path: &Path) {
    tracing::warn!(
        "the store was not closed; recovered from its log, checking it in the background"
    );
    let path = path.to_owned();
    let check = move || match open_for_reading(&path)
        .and_then(|connection| connection.query_row("PRAGMA quick_check", [], |row| row.get(0)))
    {
        Ok(verdict) if verdict == "ok" => tracing::info!("the store is sound"),
        Ok::<String, _>(verdict) => {
            tracing::error!(verdict, "the store is damaged: restore a backup");
        }
        Err(error) => tracing::error!(%error, "check the store"),
    };
    if let Err(error) = std::thread::Builder::new().name("quick-check".into()).spawn(check) {
        tracing::error!(%error, "start the check of the store");
    }
}

/// Holds the store for one process. The system lets go of it when the process ends, however it ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock beside `path`, or says that another process has it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let lock = beside(path, ".lock");
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let file = file.map_err(|source| {
            OpenError::new(
                format!("cannot open the lock file {}: {source}", lock.display()),
                "make a vault with `credvault init` first, or check --data-dir and its permissions",
            )
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::new(
                format!("another process uses the vault at {}", path.display()),
                "stop it first (SIGTERM lets it finish its work), or choose another --data-dir",
            )),
            Err(TryLockError::Error(source)) => Err(OpenError::new(
                format!("cannot lock {}: {source}", lock.display()),
                "keep the vault on a local file system",
            )),
        }
    }
}
