//! Watches of health: answers that go on for as long as their callers like, and that nobody needs a token for. So there
//! are few.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::Status;

use super::status;
use crate::access::network;
use crate::shares::Shares;

/// Of one connection.
const OF_CONNECTION: usize = 8;

/// Of all strangers: those who show neither a certificate nor a valid token.
const OF_STRANGERS: usize = 64;

/// Of the strangers of one address.
const OF_ADDRESS: usize = 16;

/// The watches that there may still be on one connection. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Watches(Arc<Semaphore>);

/// The watches that there may still be of strangers. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct StrangersWatches {
    all: Arc<Semaphore>,
    by_address: Shares<String>,
}

impl Watches {
    /// Those of a new connection.
    pub(super) fn of_connection() -> Self {
        Self(Arc::new(Semaphore::new(OF_CONNECTION)))
    }

    /// One less, for as long as what is returned lives.
    pub(super) fn take(&self) -> Result<impl Send + Unpin + 'static, Status> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| status::too_many_watches())
    }
}

impl StrangersWatches {
    pub(super) fn new() -> Self {
        let all = Arc::new(Semaphore::new(OF_STRANGERS));
        Self { all, by_address: Shares::of(OF_ADDRESS) }
    }

    /// One less, of this peer, for as long as what is returned lives.
    pub(super) fn take(&self, address: &str) -> Result<impl Send + Unpin + 'static, Status> {
        let own = self.by_address.try_take(network::of_peer(address));
        let place =
            own.and_then(|own| Some((own, Arc::clone(&self.all).try_acquire_owned().ok()?)));
        place.ok_or_else(status::too_many_watches)
    }
}
