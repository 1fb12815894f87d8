//! Whether the disk has room, for those who ask after the health of the writes.
//!
//! SQLite says when there is none: a commit fails with a full disk. That there is room again nobody says, so the
//! writer looks once a second: it writes a file beside the database and removes it. Changes that callers bring
//! meanwhile are tried all the same, and a small one may fit where the one before did not; that alone does not end
//! the state, or it would flicker.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::files;

/// How often to look while the disk is full.
const LOOK: Duration = Duration::from_secs(1);

/// What must fit: some dozen changes at once.
const ENOUGH: usize = 512 << 10;

/// The writer's side.
pub(super) struct Room {
    open: watch::Sender<bool>,
    trial: PathBuf,
    looked: Cell<Instant>,
}

impl Room {
    pub(super) fn beside(path: &Path) -> Self {
        let trial = files::beside(path, ".room");
        // One may be left from a process that was killed.
        fs::remove_file(&trial).ok();
        Self { open: watch::Sender::new(true), trial, looked: Cell::new(Instant::now()) }
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// The disk refused something.
    pub(super) fn is_full(&self) {
        self.looked.set(Instant::now());
        if self.open.send_replace(false) {
            tracing::error!("the disk is full: nothing can be changed until there is room");
        }
    }

    /// When to look again. None: there is room.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let full = !*self.open.borrow();
        full.then(|| LOOK.saturating_sub(self.looked.get().elapsed()))
    }

    /// Looks, if it is time.
    pub(super) fn look(&self) {
        if self.next_look().is_none_or(|wait| !wait.is_zero()) {
            return;
        }
        self.looked.set(Instant::now());
        let fits = self.try_to_write().is_ok();
        fs::remove_file(&self.trial).ok();
        if fits {
            self.open.send_replace(true);
            tracing::info!("the disk has room again");
        }
    }

    /// Some file systems find out only when they flush.
    fn try_to_write(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&self.trial)?;
        file.write_all(&vec![0; ENOUGH])?;
        file.sync_data()
    }
}
