//! Watches of health: answers that go on for as long as their callers like, and that nobody needs a token for. So there
//! are few.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::status;

/// Of one connection.
const OF_CONNECTION: usize = 8;

/// Of all connections that show no certificate.
const OF_STRANGERS: usize = 64;

/// The watches that there may still be: on one connection, or of all strangers. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Watches(Arc<Semaphore>);

impl Watches {
    /// Those of a new connection.
    pub(super) fn of_connection() -> Self {
        Self(Arc::new(Semaphore::new(OF_CONNECTION)))
    }

    pub(super) fn of_strangers() -> Self {
        Self(Arc::new(Semaphore::new(OF_STRANGERS)))
    }

    /// One less, for as long as what is returned lives.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| status::too_many_watches())
    }
}
