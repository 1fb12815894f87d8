//! Reads that may scan, which is what lists do: few at once, each on a blocking thread.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::Semaphore;

use super::readers::Readers;
use crate::store::Error;

/// Lists that run at the same time. More wait: each may read everything that an account has.
const MAX_SCANS: usize = 4;

/// The scans of one store.
pub(super) struct Scans {
    readers: Arc<Readers>,
    running: Arc<Semaphore>,
}

impl Scans {
    /// Those that read by these connections.
    pub(super) fn of(readers: Readers) -> Self {
        Self { readers: Arc::new(readers), running: Arc::new(Semaphore::new(MAX_SCANS)) }
    }

    /// Reads on a blocking thread: a list may scan. Stops when nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.running).acquire_owned().await;
        let permit = permit.map_err(|source| Error::Unavailable(source.into()))?;
        let reader = self.readers.take()?;
        let interrupt = reader.connection.get_interrupt_handle();
        let interrupt = Interrupt(Arc::new(Mutex::new(Some(interrupt))));
        let (readers, running) = (Arc::clone(&self.readers), Arc::clone(&interrupt.0));
        let scan = tokio::task::spawn_blocking(move || {
            let result = query(&reader.connection).map_err(Error::from);
            // From here on an interrupt would hit whoever uses the connection next.
            running.lock().unwrap_or_else(PoisonError::into_inner).take();
            readers.give_back(reader, result.is_ok());
            drop(permit);
            result
        });
        let result = scan.await.map_err(|source| Error::Unavailable(source.into()));
        drop(interrupt);
        result?
    }

    /// Closes the connections that are idle.
    pub(super) fn close(&self) {
        self.readers.close();
    }
}

/// Interrupts a scan when it is dropped before the scan has ended.
struct Interrupt(Arc<Mutex<Option<InterruptHandle>>>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(running) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            running.interrupt();
        }
    }
}
