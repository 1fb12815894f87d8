//! Watches: answers that go on for as long as their callers like. So there are few. Nobody needs a token for those of
//! health.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::health::{Asks, Health};
use super::status;
use crate::access::network;
use crate::shares::Shares;

/// Of one connection.
const OF_CONNECTION: usize = 8;

/// Of all strangers: those who show neither a certificate nor a valid token.
const OF_STRANGERS: usize = 64;

/// Of the strangers of one address.
const OF_ADDRESS: usize = 16;

/// Watches of credentials, of one caller, on however many connections.
const OF_CALLER: usize = 32;

/// Watches of credentials, of all callers.
const OF_ALL: usize = 128;

/// The one RPC of ours whose answer goes on.
pub(super) const CREDENTIALS: &str = "/credvault.v1.CredentialService/WatchCredentials";

/// Whether the answer to a call of `path` goes on for as long as its caller likes.
pub fn goes_on(path: &str) -> bool {
    path == CREDENTIALS || Health::is_asked_by(path) == Some(Asks::ToWatch)
}

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
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
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

/// The watches of credentials that there may still be. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct CredentialWatches {
    all: Arc<Semaphore>,
    by_caller: Shares<String>,
}

impl CredentialWatches {
    pub(super) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(OF_ALL)), by_caller: Shares::of(OF_CALLER) }
    }

    /// One less, of a connection and of whoever calls on it, for as long as what is returned lives.
    pub(super) fn take(
        &self,
        own: &Watches,
        caller: &str,
    ) -> Result<impl Send + Unpin + use<>, Status> {
        let place = || {
            let own = own.take()?;
            let share = self.by_caller.try_take(caller.to_owned())?;
            Some((own, share, Arc::clone(&self.all).try_acquire_owned().ok()?))
        };
        place().ok_or_else(status::too_many_credential_watches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_watches_credentials_eight_times_a_caller_thirty_two_and_all_a_hundred_and_twenty_eight()
     {
        let all = CredentialWatches::new();
        let connection = Watches::of_connection;
        let first = connection();
        let mut held: Vec<_> = (0..8).map(|_| all.take(&first, "a").unwrap()).collect();
        assert!(all.take(&first, "a").is_err());
        for caller in ["a", "b", "c", "d"] {
            while let Ok(place) = all.take(&connection(), caller) {
                held.push(place);
            }
        }
        assert_eq!(held.len(), 128);
        assert!(all.take(&connection(), "e").is_err());
        held.pop();
        assert!(all.take(&connection(), "e").is_ok());
    }

    #[test]
    fn two_rpcs_go_on() {
        for (path, goes) in [
            (CREDENTIALS, true),
            ("/grpc.health.v1.Health/Watch", true),
            ("/grpc.health.v1.Health/Check", false),
            ("/credvault.v1.CredentialService/ListCredentials", false),
            ("/x.Y/WatchCredentials", false),
        ] {
            assert_eq!(goes_on(path), goes, "{path}");
        }
    }
}
