//! The one writer: a thread that owns the one connection which writes, and commits in groups.
//!
//! It takes one job, drains what else waits, performs them one after the other, commits once, and answers only then.
//!
//! - A job that fails before it changed anything, as a conflict does, is out; the others go on. If one fails later,
//!   all begin again, each with a savepoint that it alone is rolled back to. Not from the start: a savepoint costs a
//!   copy of each page that its job changes.
//! - SQLite answers some errors (a full disk) by rolling the whole transaction back, and a later savepoint
//!   would then commit alone: after any error, a connection in autocommit means that the whole batch failed.
//! - A failed COMMIT leaves the outcome unknown: the whole batch answers so.
//! - After a failed fsync nothing the kernel says about the file can be trusted: the process ends, and
//!   the next one recovers from what is on the disk (the lesson of PostgreSQL's "fsyncgate", 2018).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, ffi};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::checkpoint::Notes;
use super::files;
use super::known::{self, Known};
use super::readers::Commits;
use super::room::Room;
use super::write::{self, Heads};
use crate::clock::Clock;
use crate::defect::{Defect, planted};
use crate::store::{Error, OpenError, Write};
use crate::telemetry::metrics;

/// Jobs that may wait. More answer `Overloaded` at once.
const QUEUE: usize = 2048;

/// Jobs of one commit: beyond, the flush no longer dominates and waiting callers only wait longer.
const BATCH: usize = 256;

enum Message {
    Commit(Box<Job>),
    Stop(oneshot::Sender<()>),
}

struct Job {
    write: Write,
    answer: oneshot::Sender<Result<(), Error>>,
    queued: Instant,
}

/// What the thread works with beside its connection.
pub(super) struct Beside {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) notes: Notes,
    pub(super) commits: Commits,
    pub(super) known: Arc<Known>,
    pub(super) room: Room,
    pub(super) runtime: Handle,
}

/// The way to the writer thread.
pub(super) struct Writer {
    queue: SyncSender<Message>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, beside: Beside) -> Result<Self, OpenError> {
        let (queue, messages) = sync_channel(QUEUE);
        connection.set_prepared_statement_cache_capacity(64);
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let work = || run(connection, &messages, &beside);
                if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                    // Nothing could be written any more, and nobody would notice.
                    files::exit("the writer of the store panicked");
                }
            })
            .map_err(|source| {
                OpenError::new(
                    format!("cannot start the writer: {source}"),
                    "raise the limit of threads",
                )
            })?;
        Ok(Self { queue })
    }

    /// Hands a write over and waits until it is durable.
    pub(super) async fn commit(&self, write: Write) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job { write, answer, queued: Instant::now() };
        metrics::queued();
        let sent = self.queue.try_send(Message::Commit(Box::new(job)));
        if sent.is_err() {
            metrics::unqueued();
        }
        match sent {
            Ok(()) => answered.await.map_err(|source| Error::Unavailable(source.into()))?,
            Err(TrySendError::Full(_)) => Err(Error::Overloaded),
            Err(TrySendError::Disconnected(_)) => {
                Err(Error::Unavailable("the store is closed".into()))
            }
        }
    }

    /// Ends the thread once everything that waits is committed.
    pub(super) async fn stop(&self) {
        let (stopped, done) = oneshot::channel();
        let queue = self.queue.clone();
        // A full queue makes the send wait, so it must not hold an async worker.
        let sent = tokio::task::spawn_blocking(move || queue.send(Message::Stop(stopped)));
        if matches!(sent.await, Ok(Ok(()))) {
            done.await.ok();
        }
    }
}

fn run(connection: Connection, messages: &Receiver<Message>, beside: &Beside) {
    loop {
        beside.room.look();
        let first = match beside.room.next_look() {
            None => messages.recv().map_err(RecvTimeoutError::from),
            Some(wait) => messages.recv_timeout(wait),
        };
        let first = match first {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut jobs = Vec::new();
        let mut stop = None;
        for message in std::iter::once(first).chain(messages.try_iter().take(BATCH - 1)) {
            if let Message::Commit(job) = &message {
                metrics::taken(job.queued);
            }
            match message {
                // A caller that has gone does not get its change any more.
                Message::Commit(job) if job.answer.is_closed() && !job.write.is_record_only() => {}
                Message::Commit(job) => jobs.push(*job),
                Message::Stop(stopped) => {
                    stop = Some(stopped);
                    break;
                }
            }
        }
        if !jobs.is_empty() {
            if beside.notes.take_swept()
                && let Err(error) = connection.release_memory()
            {
                tracing::warn!(%error, "forget cached pages");
            }
            commit(&connection, jobs, beside);
            beside.notes.written();
        }
        if let Some(stopped) = stop {
            drop(connection);
            stopped.send(()).ok();
            return;
        }
    }
}

/// Commits a batch and answers every job.
fn commit(connection: &Connection, mut jobs: Vec<Job>, beside: &Beside) {
    if planted(Defect::AnswerBeforeCommit) {
        for job in &mut jobs {
            let (unheard, _) = oneshot::channel();
            std::mem::replace(&mut job.answer, unheard).send(Ok(())).ok();
        }
        thread::sleep(std::time::Duration::from_millis(30));
    }
    let began = Instant::now();
    let transacted = transact(connection, &jobs, beside.clock.as_ref());
    metrics::committed(jobs.len(), began.elapsed(), transacted.is_ok());
    // Before any answer, and also when the outcome is unknown.
    beside.commits.count();
    if jobs.iter().any(|job| known::concerns_callers(&job.write.change)) {
        beside.known.forget();
    }
    match transacted {
        Ok(results) => {
            if results.iter().any(|result| matches!(result, Err(Error::Full(_)))) {
                beside.room.is_full();
            }
            // By one task, so that all callers go on together: one by one, each would be woken, answer and sleep again.
            // Those who watch come after them.
            let commits = beside.commits.clone();
            beside.runtime.spawn(async move {
                for (job, result) in jobs.into_iter().zip(results) {
                    job.answer.send(result).ok();
                }
                commits.tell();
            });
        }
        Err(error) => {
            tracing::error!(%error, jobs = jobs.len(), "commit a batch");
            if !connection.is_autocommit()
                && let Err(error) = connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "roll back a batch");
            }
            if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
                beside.room.is_full();
            }
            for job in jobs {
                job.answer.send(Err(again(&error))).ok();
            }
            beside.commits.tell();
            files::exit_after_failed_fsync(&error);
        }
    }
}

/// One transaction: a result for each job, or the error that befell them all.
fn transact(
    connection: &Connection,
    jobs: &[Job],
    clock: &dyn Clock,
) -> rusqlite::Result<Vec<Result<(), Error>>> {
    let now = clock.now();
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let results = if let Some(results) = all_together(connection, jobs, now)? {
        results
    } else {
        connection.prepare_cached("ROLLBACK")?.execute([])?;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        each_alone(connection, jobs, now)?
    };
    // Twice as many as can have been added: what expires is always less than what is forgotten.
    if let Err(error) = write::forget_expired(connection, now, 2 * jobs.len()) {
        tracing::warn!(%error, "forget expired request ids");
        if connection.is_autocommit() {
            return Err(cause(&error));
        }
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(results)
}

/// Performs the jobs without savepoints. None: one failed when it may have changed something.
fn all_together(
    connection: &Connection,
    jobs: &[Job],
    now: Timestamp,
) -> rusqlite::Result<Option<Vec<Result<(), Error>>>> {
    let mut heads = Heads::default();
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        let before = connection.total_changes();
        let result = write::apply(connection, &mut heads, &job.write, now);
        if let Err(error) = &result {
            if connection.is_autocommit() {
                return Err(cause(error));
            }
            // A statement that fails midway is not in that count.
            let midway =
                matches!(error, Error::Full(_) | Error::Unavailable(_) | Error::Damaged(_));
            if midway || connection.total_changes() != before {
                return Ok(None);
            }
        }
        results.push(result);
    }
    Ok(Some(results))
}

/// Performs each job in a savepoint of its own.
fn each_alone(
    connection: &Connection,
    jobs: &[Job],
    now: Timestamp,
) -> rusqlite::Result<Vec<Result<(), Error>>> {
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        connection.prepare_cached("SAVEPOINT job")?.execute([])?;
        let result = write::apply(connection, &mut Heads::default(), &job.write, now);
        if let Err(error) = &result {
            if connection.is_autocommit() {
                return Err(cause(error));
            }
            connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        connection.prepare_cached("RELEASE job")?.execute([])?;
        results.push(result);
    }
    Ok(results)
}

/// SQLite's own error behind one of ours, for a batch that it rolled back as a whole.
fn cause(error: &Error) -> rusqlite::Error {
    let source = match error {
        Error::Full(source) | Error::Unavailable(source) | Error::Damaged(source) => Some(source),
        _ => None,
    };
    let code = source
        .and_then(|source| source.downcast_ref::<rusqlite::Error>())
        .and_then(rusqlite::Error::sqlite_extended_error_code)
        .unwrap_or(ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("the batch was rolled back".into()))
}

/// The same error once more, for the next job of the batch.
fn again(error: &rusqlite::Error) -> Error {
    let code = error.sqlite_extended_error_code().unwrap_or(ffi::SQLITE_ERROR);
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string())).into()
}
