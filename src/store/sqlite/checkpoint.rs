//! Checkpoints, on a thread and a connection of their own: a commit waits for one for 50 ms at the most.
//!
//! The log keeps every page ever written until it is truncated, overwritten ciphertext included. So:
//!
//! - once a second, what is committed moves into the main file when the log is large (PASSIVE: blocks nobody);
//! - 30 s after the first change since the last truncation, and at the stop, the log is cut to zero (TRUNCATE).
//!   That holds the write lock while it waits for readers, so it waits briefly and tries again a second later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::files;
use crate::defect::{Defect, planted};
use crate::store::OpenError;

const TICK: Duration = Duration::from_secs(1);
/// Half of the promised 60 s: the other half is for a truncation that readers held up.
const TRUNCATE_AFTER: Duration = Duration::from_secs(30);
/// How long a truncation may hold up commits while a reader is at work.
const PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE_AT_STOP: Duration = Duration::from_secs(1);
const PASSIVE_FROM: u64 = 4 << 20;
const TRUNCATE_FROM: u64 = 64 << 20;

/// Tells the thread that something was written.
#[derive(Clone)]
pub(super) struct Notifier(Arc<AtomicBool>);

impl Notifier {
    pub(super) fn notify(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The way to the checkpoint thread.
pub(super) struct Checkpointer {
    written: Notifier,
    stop: SyncSender<oneshot::Sender<()>>,
}

impl Checkpointer {
    /// Starts the thread. A log that an unclean stop left behind is truncated like any other.
    pub(super) fn start(
        connection: Connection,
        path: &Path,
        unclean: bool,
    ) -> Result<Self, OpenError> {
        let written = Notifier(Arc::new(AtomicBool::new(unclean)));
        connection.busy_timeout(PATIENCE).map_err(|source| files::damaged(path, &source))?;
        let (stop, stopped) = sync_channel(1);
        let log = files::beside(path, "-wal");
        let notifier = written.clone();
        thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &log, &notifier, &stopped))
            .map_err(|source| {
                OpenError::new(
                    format!("cannot start the checkpoint thread: {source}"),
                    "raise the limit of threads",
                )
            })?;
        Ok(Self { written, stop })
    }

    /// What the writer calls after each commit.
    pub(super) fn notifier(&self) -> Notifier {
        self.written.clone()
    }

    /// Truncates the log once more and ends the thread.
    pub(super) async fn stop(&self) {
        let (stopped, done) = oneshot::channel();
        if self.stop.try_send(stopped).is_ok() {
            done.await.ok();
        }
    }
}

fn run(
    connection: &Connection,
    log: &PathBuf,
    written: &Notifier,
    stop: &Receiver<oneshot::Sender<()>>,
) {
    let mut oldest: Option<Instant> = None;
    loop {
        match stop.recv_timeout(TICK) {
            Ok(stopped) => {
                if !planted(Defect::KeepRemnants) {
                    connection.busy_timeout(PATIENCE_AT_STOP).ok();
                    truncate(connection);
                }
                stopped.send(()).ok();
                return;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if written.0.swap(false, Ordering::AcqRel) {
            oldest.get_or_insert_with(Instant::now);
        }
        let size = std::fs::metadata(log).map_or(0, |log| log.len());
        let due = oldest.is_some_and(|since| since.elapsed() >= TRUNCATE_AFTER);
        if due || size >= TRUNCATE_FROM {
            if truncate(connection) {
                oldest = None;
            }
        } else if size >= PASSIVE_FROM {
            checkpoint(connection, "PASSIVE");
        }
    }
}

/// Whether the log was cut to zero. Most of the work is done before, while commits go on.
fn truncate(connection: &Connection) -> bool {
    checkpoint(connection, "PASSIVE");
    checkpoint(connection, "TRUNCATE")
}

/// Whether the checkpoint reached its end.
fn checkpoint(connection: &Connection, mode: &'static str) -> bool {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    match connection.query_row(&sql, [], |row| row.get::<_, bool>(0)) {
        Ok(busy) => !busy,
        Err(error) => {
            tracing::warn!(%error, mode, "checkpoint the store");
            files::exit_after_failed_fsync(&error);
            false
        }
    }
}
