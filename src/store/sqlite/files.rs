//! The files of a store: making them, locking them, opening connections, migrations.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, ffi, params};

use crate::defect::{Defect, planted};
use crate::store::{Identity, OpenError};

/// One migration a file, applied in order and never changed once released.
const MIGRATIONS: [&str; 3] = [
    include_str!("0001_foundation.sql"),
    include_str!("0002_verifications.sql"),
    include_str!("0003_access.sql"),
];

/// Below it, two connections in WAL mode can lose committed writes (sqlite.org/wal.html#walresetbug).
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a connection waits for another one of this process: a checkpoint, at the worst.
const BUSY: Duration = Duration::from_secs(5);

/// Why a process ends after a failed fsync.
pub(super) const NO_FLUSH: &str = "the disk did not confirm a flush";

/// Marks a file as ours ("CVLT"), so that no other program's database is ever touched.
const APPLICATION_ID: i32 = 0x4356_4c54;

/// Creates the file with its schema and the identity of a new vault, wholly or not at all.
pub(in crate::store) fn create(path: &Path, identity: &Identity) -> Result<(), OpenError> {
    let failed = |source: &dyn std::fmt::Display| {
        OpenError::new(
            format!("cannot create {}: {source}", path.display()),
            "choose a --data-dir that you may write",
        )
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed(&e))?;
    }
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

/// Where a vault's file really lies: one vault has one lock, whatever links lead to it. Refuses what is not
/// a store of ours before anything is written beside it.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let path = path.canonicalize().map_err(|_| {
        OpenError::new(
            format!("there is no vault at {}", path.display()),
            "make one with `credvault init`, or try `credvault dev`",
        )
    })?;
    let read = || -> std::io::Result<([u8; 72], fs::Metadata)> {
        let file = File::open(&path)?;
        let mut header = [0; 72];
        file.read_exact_at(&mut header, 0)?;
        Ok((header, file.metadata()?))
    };
    // SQLite's header: its magic first, the application id at 68 (fileformat2.html §1.3).
    let ours = |header: &[u8; 72]| {
        header.starts_with(b"SQLite format 3\0") && header.ends_with(&APPLICATION_ID.to_be_bytes())
    };
    let metadata = match read() {
        Ok((header, metadata)) if ours(&header) => metadata,
        Err(source) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(OpenError::new(
                format!("cannot open {}: {source}", path.display()),
                "run as the user that owns the vault",
            ));
        }
        _ => {
            return Err(OpenError::new(
                format!("{} is not a Credvault store", path.display()),
                "check --data-dir and --store; a new vault is made with `credvault init`",
            ));
        }
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(OpenError::new(
            format!("others may read {} (mode {:04o})", path.display(), metadata.mode() & 0o7777),
            format!("run `chmod 600 {}`", path.display()),
        ));
    }
    // A creation that was cut off between its last two steps left its draft's name behind.
    let draft = beside(&path, ".new");
    let same =
        |other: &fs::Metadata| other.ino() == metadata.ino() && other.dev() == metadata.dev();
    let left_over = fs::metadata(&draft).is_ok_and(|other| same(&other));
    let names = metadata.nlink() - u64::from(left_over && fs::remove_file(&draft).is_ok());
    if names > 1 {
        return Err(OpenError::new(
            format!("{} has a second name (a hard link)", path.display()),
            "remove that name: two processes could open the vault under two names at once",
        ));
    }
    Ok(path)
}

/// Opens a connection that may write, on a file that [`create`] made, and migrates it.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::new(
            format!("SQLite {} can lose committed writes", rusqlite::version()),
            "build with the bundled SQLite, at least 3.51.3",
        ));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<(Connection, i64)> {
        let connection = Connection::open_with_flags(path, flags)?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok((connection, version))
    };
    let (mut connection, version) = open().map_err(|source| damaged(path, &source))?;
    if version > i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX) {
        return Err(OpenError::new(
            format!("{} was written by a newer Credvault (schema {version})", path.display()),
            "start that version or a newer one",
        ));
    }
    let prepared = configure(&connection).and_then(|()| migrate(&mut connection, version));
    prepared.map_err(|source| damaged(path, &source))?;
    Ok(connection)
}

/// Makes the log's name durable. SQLite syncs the folder of a log that it makes, and not that of one that it finds;
/// and it does not look whether that worked.
pub(super) fn sync_folder(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().unwrap_or(path);
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
fn migrate(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    for (next, migration) in (1_i64..).zip(MIGRATIONS).filter(|(next, _)| *next > version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
    }
    Ok(())
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
    let connection = open_for_reading(path)
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
        let unusable = |source: &std::io::Error| {
            OpenError::new(
                format!("cannot use the lock file {}: {source}", lock.display()),
                "keep the vault on a local disk, in a folder that you may write",
            )
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&lock).map_err(|source| unusable(&source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::new(
                    format!("another process uses the vault at {}", path.display()),
                    "stop it first (SIGTERM lets it finish its work), or choose another --data-dir",
                ));
            }
            Err(TryLockError::Error(source)) => return Err(unusable(&source)),
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
