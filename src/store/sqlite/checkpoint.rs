//! Checkpoints, on a thread and a connection of their own, so that commits rarely wait for one.
//!
//! The log keeps every page ever written until it is truncated, overwritten ciphertext included. So:
//!
//! - once a second, what is committed moves into the main file when the log is large (PASSIVE: blocks nobody, and yields
//!   the processor to everybody), and the log is cut when it is very large. So under full load it is larger than that, by
//!   what a few seconds write;
//! - 30 s after the first change since the last truncation, and at the stop, the log is cut to zero (TRUNCATE).
//!   That holds the write lock while it waits for readers, so it waits briefly and tries again a second later.
//!   What SQLite left in the gaps of its pages is zeroed after it (`sweep.rs`), which reads the whole file: so only then.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::files;
use super::readers::Readers;
use super::sweep::Sweeper;
use crate::defect::{Defect, planted};
use crate::store::OpenError;
use crate::telemetry::metrics::{self, Checkpoint, CheckpointEnd};

const TICK: Duration = Duration::from_secs(1);
/// Half of the promised 60 s: the other half is for a truncation that readers held up.
const TRUNCATE_AFTER: Duration = Duration::from_secs(30);
/// How long a truncation may hold up commits while a reader is at work.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a pass may wait for the processor to have nothing else to do.
const IDLE_PASS: Duration = Duration::from_secs(1);
const PATIENCE_AT_STOP: Duration = Duration::from_secs(1);
const PASSIVE_FROM: u64 = 4 << 20;
const TRUNCATE_FROM: u64 = 64 << 20;

/// What the writer and the checkpoint thread tell each other.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Flags>);

#[derive(Default)]
struct Flags {
    written: AtomicBool,
    swept: AtomicBool,
}

impl Notes {
    /// Something was committed.
    pub(super) fn written(&self) {
        self.0.written.store(true, Ordering::Release);
    }

    /// Whether the file was swept since the last call: pages that the writer remembers are not, and would
    /// bring back what was zeroed.
    pub(super) fn take_swept(&self) -> bool {
        self.0.swept.swap(false, Ordering::AcqRel)
    }
}

/// The way to the checkpoint thread.
pub(super) struct Checkpointer {
    notes: Notes,
    stop: SyncSender<oneshot::Sender<bool>>,
}

impl Checkpointer {
    /// Starts the thread. A log that an earlier stop left behind is truncated like any other.
    pub(super) fn start(
        connection: Connection,
        path: &Path,
        readers: Arc<Readers>,
        unclean: bool,
    ) -> Result<Self, OpenError> {
        let notes = Notes::default();
        let log = files::beside(path, "-wal");
        if unclean || files::size_of(&log) > 0 {
            notes.written();
        }
        let sweeper = Sweeper::open(path).map_err(|source| {
            OpenError::new(
                format!("cannot open {}: {source}", path.display()),
                "check the file's permissions",
            )
        })?;
        connection.busy_timeout(PATIENCE).map_err(|source| files::damaged(path, &source))?;
        let (stop, stopped) = sync_channel(1);
        let thread = Thread { connection, readers, sweeper, log, notes: notes.clone() };
        thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || {
                let work = AssertUnwindSafe(|| thread.run(&stopped));
                if std::panic::catch_unwind(work).is_err() {
                    // The log would grow for ever, and keep what was overwritten.
                    files::exit("the checkpoint thread of the store panicked");
                }
            })
            .map_err(|source| {
                OpenError::new(
                    format!("cannot start the checkpoint thread: {source}"),
                    "raise the limit of threads",
                )
            })?;
        Ok(Self { notes, stop })
    }

    /// The writer's side of the notes.
    pub(super) fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Truncates the log once more and ends the thread. Returns whether nothing is left to do.
    pub(super) async fn stop(&self) -> bool {
        let (stopped, done) = oneshot::channel();
        self.stop.try_send(stopped).is_ok() && done.await.unwrap_or(false)
    }
}

/// What the thread owns.
struct Thread {
    connection: Connection,
    readers: Arc<Readers>,
    sweeper: Sweeper,
    log: PathBuf,
    notes: Notes,
}

impl Thread {
    fn run(mut self, stop: &Receiver<oneshot::Sender<bool>>) {
        let mut oldest: Option<Instant> = None;
        loop {
            match stop.recv_timeout(TICK) {
                Ok(stopped) => {
                    self.connection.busy_timeout(PATIENCE_AT_STOP).ok();
                    let written = self.notes.0.written.load(Ordering::Acquire);
                    // With nothing written since the last time, all is clean.
                    let clean = (oldest.is_none() && !written) || self.clean();
                    // The last connection takes the log away as it closes, and only then is all said.
                    drop(self);
                    stopped.send(clean).ok();
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.notes.0.written.swap(false, Ordering::AcqRel) {
                oldest.get_or_insert_with(Instant::now);
            }
            let size = files::size_of(&self.log);
            metrics::log_size(size);
            let due = oldest.is_some_and(|since| since.elapsed() >= TRUNCATE_AFTER);
            if due {
                if self.clean() {
                    oldest = None;
                }
            } else if size >= TRUNCATE_FROM {
                self.truncate();
            } else if size >= PASSIVE_FROM {
                self.pass();
            }
        }
    }

    /// Moves what is committed into the main file while commits go on, on a thread that has the processor when nobody
    /// else wants it: a second's changes are many milliseconds of copying, which callers would wait for. Where there is
    /// no such moment for too long, it is done like all other work.
    fn pass(&mut self) {
        let interrupt = self.connection.get_interrupt_handle();
        let (connection, readers) = (&mut self.connection, &*self.readers);
        let (done, ended) = sync_channel::<()>(1);
        let is_done = thread::scope(|scope| {
            let pass = thread::Builder::new().name("store-pass".into()).spawn_scoped(scope, || {
                let (connection, done) = (connection, done);
                run_when_idle();
                checkpoint(connection, readers, Checkpoint::Passive);
                done.send(()).ok();
            });
            if let Err(error) = pass {
                tracing::warn!(%error, "start a thread that checkpoints the store");
                return false;
            }
            let mut wait = IDLE_PASS;
            let mut is_done = true;
            // It may not even have begun, so once is not enough. It ends: an idle thread gets a little of any processor.
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
                (wait, is_done) = (PATIENCE, false);
            }
            is_done
        });
        if !is_done {
            checkpoint(&self.connection, &self.readers, Checkpoint::Passive);
        }
    }

    /// Cuts the log to zero. Most of the work is done before, while commits go on; then most of what came meanwhile.
    fn truncate(&mut self) -> bool {
        self.pass();
        self.pass();
        checkpoint(&self.connection, &self.readers, Checkpoint::Truncate)
    }

    /// Cuts the log to zero and sweeps the file.
    fn clean(&mut self) -> bool {
        if planted(Defect::KeepRemnants) {
            return true;
        }
        if !self.truncate() {
            return false;
        }
        let swept = self.sweeper.sweep();
        self.notes.0.swept.store(true, Ordering::Release);
        match swept {
            Ok(pages) => {
                tracing::trace!(pages, "swept the store");
                true
            }
            Err(error) => {
                tracing::error!(%error, "sweep the store");
                false
            }
        }
    }
}

/// Whether the checkpoint reached its end.
fn checkpoint(connection: &Connection, readers: &Readers, mode: Checkpoint) -> bool {
    let sql = match mode {
        Checkpoint::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Checkpoint::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let _let_go = readers.let_go();
    match connection.query_row(sql, [], |row| row.get::<_, bool>(0)) {
        Ok(busy) => {
            let end = if busy { CheckpointEnd::Busy } else { CheckpointEnd::Done };
            metrics::checkpoint(mode, end);
            !busy
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            metrics::checkpoint(mode, CheckpointEnd::Busy);
            false
        }
        Err(error) => {
            metrics::checkpoint(mode, CheckpointEnd::Failed);
            tracing::warn!(%error, ?mode, "checkpoint the store");
            files::exit_after_failed_fsync(&error);
            false
        }
    }
}

/// Leaves the processor to all other threads from here on.
#[cfg(target_os = "linux")]
fn run_when_idle() {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };

    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let changed = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    if let Err(error) = changed {
        tracing::debug!(?error, "lower the priority of a pass");
    }
}

#[cfg(not(target_os = "linux"))]
fn run_when_idle() {}
