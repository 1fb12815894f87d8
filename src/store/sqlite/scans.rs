//! Reads that may scan, which is what lists do: few at once, each on a blocking thread.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::Semaphore;

use super::readers::Readers;
use crate::name::Uid;
use crate::shares::Shares;
use crate::store::Error;

/// Scans that run at the same time. More wait: each may read everything that an account has.
const MOST: usize = 4;

/// Those of one owner. Its further ones wait for these, and only then with all others.
const OF_OWNER: usize = 2;

/// The scans of one store.
pub(super) struct Scans {
    readers: Arc<Readers>,
    running: Arc<Semaphore>,
    shares: Shares<Option<Uid>>,
}

impl Scans {
    /// Those that read by these connections.
    pub(super) fn of(readers: Readers) -> Self {
        let running = Arc::new(Semaphore::new(MOST));
        Self { readers: Arc::new(readers), running, shares: Shares::of(OF_OWNER) }
    }

    /// Reads on a blocking thread what is of one owner, or of none. Stops when nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        owner: Option<Uid>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let share = self.shares.take(owner).await;
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
            drop((permit, share));
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

#[cfg(test)]
mod tests {
    use std::sync::{PoisonError, mpsc};
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::super::readers::Commits;
    use super::*;

    /// Nothing that is asserted here takes so long.
    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn one_owner_with_a_long_queue_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        let scans = Scans::of(Readers::for_scans(&path, 1 << 20, Commits::default()));
        let owner = |number| Some(Uid::from_bytes([number; 16]));

        // Each tells that it runs, and ends when it is told to.
        let (end, told) = mpsc::channel::<()>();
        let told = Arc::new(Mutex::new(told));
        let (runs, mut running) = tokio::sync::mpsc::unbounded_channel();
        let slow = |_| {
            let (told, runs) = (Arc::clone(&told), runs.clone());
            scans.run(owner(1), move |_| {
                runs.send(()).unwrap();
                told.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
                Ok(())
            })
        };
        let others = async {
            for _ in 0..OF_OWNER {
                running.recv().await.unwrap();
            }
            // By now the rest of its queue had its chance to be in the way.
            for owner in [owner(2), None] {
                let list = scans.run(owner, |_| Ok(7));
                let list = tokio::time::timeout(LONG, list).await.expect("nothing holds it up");
                assert_eq!(list.unwrap(), 7);
            }
            assert!(running.try_recv().is_err(), "no third one of the same owner ran meanwhile");
            drop(end);
        };
        let (slow, ()) = tokio::join!(join_all((0..64).map(slow)), others);
        assert!(slow.iter().all(Result::is_ok), "all have their turn in the end");
    }
}
