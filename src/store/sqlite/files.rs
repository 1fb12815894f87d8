//! The files of a store: making them, locking them, opening connections, migrations.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, ffi, params};

use super::place::{folder, prepare};
use crate::defect::{Defect, planted};
use crate::store::{Identity, OpenError};

/// One migration a file, applied in order and never changed once released.
const MIGRATIONS: [&str; 11] = [
    include_str!("0001_foundation.sql"),
    include_str!("0002_verifications.sql"),
    include_str!("0003_access.sql"),
    include_str!("0004_lists.sql"),
    include_str!("0005_no_tombstones.sql"),
    include_str!("0006_checksums.sql"),
    include_str!("0007_rotations.sql"),
    include_str!("0008_carriers.sql"),
    include_str!("0009_schedules.sql"),
    include_str!("0010_tokens.sql"),
    include_str!("0011_access_tokens.sql"),
];

/// Below it, two connections in WAL mode can lose committed writes (sqlite.org/wal.html#walresetbug).
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a connection waits for another one of this process: a checkpoint, at the worst.
const BUSY: Duration = Duration::from_secs(5);

/// Why a process ends after a failed fsync.
pub(super) const NO_FLUSH: &str = "the disk did not confirm a flush";

/// Marks a file as ours ("CVLT"), so that no other program's database is ever touched.
pub(super) const APPLICATION_ID: i32 = 0x4356_4c54;

/// Creates the file with its schema and the identity of a new vault, wholly or not at all.
pub(in crate::store) fn create(path: &Path, identity: &Identity) -> Result<(), OpenError> {
    let failed = |source: &dyn std::fmt::Display| {
        OpenError::new(
            format!("cannot create {}: {source}", path.display()),
            "choose a --data-dir that you may write",
        )
    };
    prepare(path)?;
    // Two that create at once would share the draft.
    let _lock = Lock::take(path)?;
    let draft = beside(path, ".new");
    fs::remove_file(&draft).or_else(absent_is_fine).map_err(|e| failed(&e))?;
    // Made here and not by SQLite, so that no one else can read it; -wal and -shm take over its mode.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    file.map_err(|e| failed(&e))?;
    let insert = || -> rusqlite::Result<()> {
        let mut connection = Connection::open(&draft)?;
        configure(&connection)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        migrate(&mut connection, 0)?;
        connection.execute(
            "INSERT INTO vault (one, uid, dev, sealed_root, create_time) VALUES (1, ?1, ?2, ?3, ?4)",
            params![
                identity.uid.as_bytes(),
                identity.dev,
                identity.root.0.as_bytes(),
                identity.create_time.as_microsecond(),
            ],
        )?;
        // The last connection moves its log into the file as it closes.
        connection.close().map_err(|(_, error)| error)
    };
    insert().map_err(|e| failed(&e))?;
    // Unlike a rename, a link does not replace what somebody else made in between.
    fs::hard_link(&draft, path).and_then(|()| fs::remove_file(&draft)).map_err(|e| failed(&e))
}

fn absent_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Opens a connection that may write, on a file that [`create`] made, and migrates it.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let mut connection = Connection::open_with_flags(path, flags)?;
        let version = schema(&connection)?;
        configure(&connection).and_then(|()| migrate(&mut connection, version))?;
        Ok(connection)
    };
    open().map_err(|source| damaged(path, &source))
}

/// Opens a connection to look with, to a store that no other process uses: it changes no file, and makes none.
/// Refuses what this Credvault cannot open.
pub(super) fn open_to_look(path: &Path) -> Result<Connection, OpenError> {
    check_sqlite(rusqlite::version_number(), rusqlite::version())?;
    let connection = look(path).map_err(|source| damaged(path, &source))?;
    let version = schema(&connection).map_err(|source| damaged(path, &source))?;
    check_schema(path, version)?;
    Ok(connection)
}

fn look(path: &Path) -> rusqlite::Result<Connection> {
    let connection = if size_of(&beside(path, "-wal")) == 0 {
        // All that there is lies in the file. A plain reader would leave a log and its index behind.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let url = format!("file:{}?immutable=1", percent_encoded(path));
        Connection::open_with_flags(url, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?
    } else {
        // A crash left a log. Who has the file alone keeps the index of it in memory; that takes a connection that
        // could write, which this one is told not to, not even as it closes.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        connection.pragma_update(None, "query_only", true)?;
        connection
    };
    harden(&connection)?;
    Ok(connection)
}

/// A path as SQLite reads it in a URI (sqlite.org/uri.html).
fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                text.push(char::from(*byte));
            }
            other => write!(text, "%{other:02x}").unwrap_or_default(),
        }
    }
    text
}

/// Which schema a file has: the number of its last migration.
pub(super) fn schema(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The schema that this Credvault works with.
pub(super) fn newest_schema() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn check_schema(path: &Path, version: i64) -> Result<(), OpenError> {
    if version <= newest_schema() {
        return Ok(());
    }
    Err(OpenError::new(
        format!("{} was written by a newer Credvault (schema {version})", path.display()),
        "start that version or a newer one",
    ))
}

fn check_sqlite(number: i32, version: &str) -> Result<(), OpenError> {
    if number >= OLDEST_SQLITE {
        return Ok(());
    }
    Err(OpenError::new(
        format!("SQLite {version} can lose committed writes"),
        "build with the bundled SQLite, at least 3.51.3",
    ))
}

/// Makes the log's name durable. SQLite syncs the folder of a log that it makes, and not that of one that it finds;
/// and it does not look whether that worked.
pub(super) fn sync_folder(path: &Path) -> Result<(), OpenError> {
    let folder = folder(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| {
        OpenError::new(format!("cannot sync {}: {source}", folder.display()), "check the disk")
    })
}

/// After a crash, before anybody is answered: brings to the disk what the process before may have left in the
/// kernel's memory only. SQLite takes all of it for committed, and a retry would be told that it was done;
/// then the power could still take it. The checkpoint writes it once more, so this holds after a failed fsync
/// as well, when the kernel may call pages clean that no disk has.
pub(super) fn settle(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    if planted(Defect::UnsettledStart) {
        return Ok(());
    }
    let settled = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    match settled {
        // The log itself was synced before there was no room for the database to grow.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            tracing::warn!(%error, "checkpoint the store");
            Ok(())
        }
        settled => settled.map_err(|source| damaged(path, &source)),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // A file system that cannot share memory would silently keep another mode.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| {
        let mode: String = row.get(0)?;
        let fits = mode.eq_ignore_ascii_case("wal");
        let problem = "the file system cannot do WAL: keep the vault on a local disk";
        fits.then_some(()).ok_or_else(|| rusqlite::Error::InvalidParameterName(problem.into()))
    })?;
    let synchronous = if planted(Defect::RelaxedSync) { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "secure_delete", !planted(Defect::KeepRemnants))?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    harden(connection)
}

/// Applies the migrations after `version`, each in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    super::checksum::teach(connection)?;
    for (next, migration) in (1_i64..).zip(MIGRATIONS).filter(|(next, _)| *next > version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The most of the file that a reader maps: the most that SQLite can. What lies behind is read with system calls.
const MAPPED: i64 = 0x7fff_0000;

/// Has a connection read from the mapped file, or with system calls again (docs/adr/0030). The sizes of cells are not
/// checked in a page of the map: it would be checked at each look at it, all of its rows.
pub(super) fn map(connection: &Connection, mapped: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cell_size_check", !mapped)?;
    let size = if mapped { MAPPED } else { 0 };
    connection.pragma_update_and_check(None, "mmap_size", size, |_| Ok(()))
}

/// Opens a connection that can only read.
pub(super) fn open_for_reading(path: &Path, cache: usize) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    harden(&connection)?;
    connection.set_prepared_statement_cache_capacity(32);
    // Negative: in KiB.
    connection.pragma_update(None, "cache_size", -i64::try_from(cache / 1024).unwrap_or(2048))?;
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

/// The WAL or lock file beside `path`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How long a file is; 0 if it is not there.
pub(super) fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Checks the whole file after an unclean stop, while the server already answers.
pub(super) fn check_in_background(path: &Path) -> Option<InterruptHandle> {
    tracing::warn!("the store was not closed; it recovers from its log and is checked meanwhile");
    let connection = open_for_reading(path, super::SMALL_CACHE)
        .inspect_err(|error| tracing::error!(%error, "open the store for its check"))
        .ok()?;
    let interrupt = connection.get_interrupt_handle();
    let check = move || {
        let verdict = connection.query_row("PRAGMA quick_check", [], |row| row.get(0));
        match verdict {
            Ok(verdict) if verdict == "ok" => tracing::info!("the store is sound"),
            Ok::<String, _>(verdict) => {
                tracing::error!(verdict, "the store is damaged: restore a backup");
            }
            Err(error) => tracing::error!(%error, "check the store"),
        }
    };
    let spawned = std::thread::Builder::new().name("quick-check".into()).spawn(check);
    spawned.inspect_err(|error| tracing::error!(%error, "start the check of the store")).ok()?;
    Some(interrupt)
}

fn unusable(lock: &Path, source: &std::io::Error) -> OpenError {
    OpenError::new(
        format!("cannot use the lock file {}: {source}", lock.display()),
        "keep the vault on a local disk, in a folder that you may write",
    )
}

/// Holds the store for one process. The system lets go of it when the process ends, however it ends.
pub(super) struct Lock {
    file: File,
    marked: Once,
    /// Whether the process before did not close the store.
    pub(super) unclean: bool,
}

impl Lock {
    /// Takes the lock beside `path`, or says that another process has it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let lock = beside(path, ".lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&lock).map_err(|source| unusable(&lock, &source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::new(
                    format!("another process uses the vault at {}", path.display()),
                    "stop it first (SIGTERM lets it finish its work), or choose another --data-dir",
                ));
            }
            Err(TryLockError::Error(source)) => return Err(unusable(&lock, &source)),
        }
        let unclean = file.metadata().is_ok_and(|lock| lock.len() > 0);
        Ok(Self { file, marked: Once::new(), unclean })
    }

    /// Notes, before the first write, that the store is in use. Emptied by a clean stop; whoever finds it
    /// written knows that there was none.
    pub(super) fn in_use(&self) {
        self.marked.call_once(|| {
            let written = (&self.file).write_all(b"in use\n").and_then(|()| self.file.sync_all());
            if let Err(error) = written {
                tracing::warn!(%error, "write the lock file");
            }
        });
    }

    /// Notes that the store was closed in order.
    pub(super) fn closed(&self) {
        self.file.set_len(0).ok();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child between fork and exec shares the lock, and would keep it.
        self.file.unlock().ok();
    }
}

/// Keeps others from opening the store, without a change to the lock file.
#[derive(Debug)]
pub(super) struct Look {
    /// Lets go as it is closed; None: there is no lock file, since nobody has opened the store yet.
    _file: Option<File>,
    /// Whether the process before did not close the store.
    pub(super) unclean: bool,
}

impl Look {
    /// Several may look at once; None: a process uses the store.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, OpenError> {
        let lock = beside(path, ".lock");
        let file = match File::open(&lock) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Some(Self { _file: None, unclean: false }));
            }
            Err(source) => return Err(unusable(&lock, &source)),
        };
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(unusable(&lock, &source)),
        }
        let unclean = file.metadata().is_ok_and(|lock| lock.len() > 0);
        Ok(Some(Self { _file: Some(file), unclean }))
    }
}

/// Ends the process after a failed fsync: what the kernel says of the file afterwards cannot be trusted,
/// and trying again could end in a false OK. The next start recovers from what the disk holds.
pub(super) fn exit_after_failed_fsync(error: &rusqlite::Error) {
    let code = error.sqlite_extended_error_code();
    if planted(Defect::SwallowSync) {
        return;
    }
    if matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) {
        exit(NO_FLUSH);
    }
}

/// Ends the process because the store cannot go on.
#[expect(clippy::disallowed_methods, reason = "a half-dead process would answer as if it lived")]
pub(super) fn exit(why: &'static str) -> ! {
    tracing::error!(why, "ending; the next start recovers from what the disk holds");
    std::process::exit(74); // EX_IOERR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_that_loses_commits_is_refused() {
        assert!(check_sqlite(rusqlite::version_number(), rusqlite::version()).is_ok());
        assert!(check_sqlite(OLDEST_SQLITE, "3.51.3").is_ok());
        for (number, version) in [(3_051_002, "3.51.2"), (3_046_001, "3.46.1")] {
            let refusal = check_sqlite(number, version).unwrap_err().to_string();
            assert!(refusal.contains(version) && refusal.contains("at least 3.51.3"), "{refusal}");
        }
    }

    #[test]
    fn a_path_reaches_sqlite_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b?c=d&e#f%41 é.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        let looking = look(&path).unwrap();
        let tables = "SELECT name FROM sqlite_schema";
        assert_eq!(looking.query_row(tables, [], |row| row.get::<_, String>(0)).unwrap(), "t");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "it made no file");
    }
}
