//! Read-only connections that wait for work: as many as there were readers at once.
//!
//! A connection keeps its read transaction from one read to the next while nothing was committed in between: beginning
//! one costs two system calls and more. Reads see every write that was acknowledged all the same
//! (docs/adr/0028): the writer counts each commit before it answers, and whoever reads looks at the count first.
//!
//! After many reads without a commit the file is mapped (docs/adr/0030).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::watch;

use super::files;
use crate::store::Error;

/// Reads without a commit between them, from which on the file is mapped: after each commit SQLite would map it anew,
/// and hold up those who write by that.
const MANY: u32 = 1_000;

/// Commits so far.
#[derive(Clone, Default)]
pub(super) struct Commits(Arc<(AtomicU64, watch::Sender<()>)>);

impl Commits {
    /// Counts one. After it is durable, and before anybody is told.
    pub(super) fn count(&self) {
        self.0.0.fetch_add(1, Ordering::Release);
    }

    fn so_far(&self) -> u64 {
        self.0.0.load(Ordering::Acquire)
    }

    /// Tells those who follow that there was one. It waits for none of them.
    pub(super) fn tell(&self) {
        self.0.1.send_replace(());
    }

    /// Who follows is told of commits from now on; of several as of one, if they come before they are looked at.
    pub(super) fn follow(&self) -> watch::Receiver<()> {
        self.0.1.subscribe()
    }
}

/// The connections for one kind of reads.
pub(super) struct Readers {
    path: PathBuf,
    /// The most memory that a connection keeps pages in.
    cache: usize,
    commits: Commits,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    readers: Vec<Reader>,
    /// No transaction is kept: these read seldom and long, or a checkpoint is on, which waits for transactions.
    lets_go: bool,
}

/// A connection that nobody else uses.
pub(super) struct Reader {
    pub(super) connection: Connection,
    /// The commits that its open transaction sees, at least.
    sees: Option<u64>,
    /// Reads in this transaction, up to the one from which on they are from the mapped file.
    reads: u32,
}

impl Readers {
    pub(super) fn of(path: &Path, cache: usize, commits: Commits) -> Self {
        Self { path: path.to_owned(), cache, commits, idle: Mutex::default() }
    }

    /// Those that keep no transaction.
    pub(super) fn for_scans(path: &Path, cache: usize, commits: Commits) -> Self {
        let idle = Mutex::new(Idle { lets_go: true, ..Idle::default() });
        Self { idle, ..Self::of(path, cache, commits) }
    }

    /// Reads, in a transaction that sees all that was acknowledged by now.
    pub(super) fn with<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let reader = self.take()?;
        let result = query(&reader.connection);
        self.give_back(reader, result.is_ok());
        Ok(result?)
    }

    /// A connection in such a transaction.
    pub(super) fn take(&self) -> Result<Reader, Error> {
        // Before the transaction begins, so that it sees at least as much.
        let commits = self.commits.so_far();
        let idle = self.idle().readers.pop();
        let mut reader = if let Some(reader) = idle {
            reader
        } else {
            let connection = files::open_for_reading(&self.path, self.cache)?;
            Reader { connection, sees: None, reads: 0 }
        };
        if reader.sees != Some(commits) {
            reader.end()?;
            reader.forget_map()?;
            reader.connection.prepare_cached("BEGIN")?.execute([])?;
            reader.sees = Some(commits);
        }
        reader.count()?;
        Ok(reader)
    }

    /// Keeps a connection for the next read. After an error it begins anew, or is closed.
    pub(super) fn give_back(&self, mut reader: Reader, good: bool) {
        if !good && reader.end().is_err() {
            return;
        }
        let mut idle = self.idle();
        if idle.lets_go {
            drop(idle);
            if reader.end().is_err() {
                return;
            }
            idle = self.idle();
        }
        idle.readers.push(reader);
    }

    /// Ends the transactions that are kept, and keeps none until what is returned is dropped: a checkpoint gets no
    /// further than the oldest of them, and cannot cut the log while there is one.
    pub(super) fn let_go(&self) -> LetGo<'_> {
        let mut idle = self.idle();
        idle.lets_go = true;
        idle.readers.retain_mut(|reader| reader.end().is_ok());
        LetGo(self)
    }

    /// Closes what is idle.
    pub(super) fn close(&self) {
        self.idle().readers.clear();
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Counts a read, and maps the file when there were many without a commit.
    fn count(&mut self) -> rusqlite::Result<()> {
        if self.reads < MANY {
            self.reads += 1;
            if self.reads == MANY {
                files::map(&self.connection, true)?;
            }
        }
        Ok(())
    }

    /// Not at the end of the transaction, which may come while others wait: to let go of a large map takes a moment.
    fn forget_map(&mut self) -> rusqlite::Result<()> {
        if self.reads == MANY {
            files::map(&self.connection, false)?;
        }
        self.reads = 0;
        Ok(())
    }

    fn end(&mut self) -> rusqlite::Result<()> {
        if self.sees.take().is_some() && !self.connection.is_autocommit() {
            self.connection.prepare_cached("COMMIT")?.execute([])?;
        }
        Ok(())
    }
}

/// While it lives no transaction is kept.
pub(super) struct LetGo<'a>(&'a Readers);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.idle().lets_go = false;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_file_is_mapped_after_many_reads_and_no_longer_after_a_commit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapped.db");
        let writing = Connection::open(&path).unwrap();
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE t (n); PRAGMA wal_checkpoint(TRUNCATE);";
        writing.execute_batch(sql).unwrap();
        let commits = Commits::default();
        let readers = Readers::of(&path, 1 << 20, commits.clone());
        let count = |times: u32| {
            for _ in 0..times {
                readers.with(|c| c.query_row("SELECT count(*) FROM t", [], |_| Ok(()))).unwrap();
            }
        };
        // Not the index of the log, which is always mapped.
        let mapped = || {
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().any(|line| line.ends_with("mapped.db"))
        };
        count(MANY - 1);
        assert!(!mapped());
        count(1);
        assert!(mapped());
        commits.count();
        count(1);
        assert!(!mapped());
        count(MANY);
        assert!(mapped());
        drop(readers.let_go());
        count(1);
        assert!(!mapped());
    }
}
