//! Places: of what costs memory there are few at once, so that one connection or caller cannot take it from all others.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::shares::Shares;

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of one connection.
    pub(super) connection: usize,
    /// Of one caller, on however many connections.
    pub(super) caller: usize,
    /// Of all together.
    pub(super) all: usize,
    /// How many of one connection may wait for one.
    pub(super) waiting: usize,
}

/// The places that there still are on one connection. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct OwnPlaces {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The places that there still are on all connections. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    by_caller: Shares<String>,
}

impl OwnPlaces {
    /// Those of a new connection.
    pub(super) fn new(bounds: Bounds) -> Self {
        let [places, waiting] =
            [bounds.connection, bounds.waiting].map(|most| Arc::new(Semaphore::new(most)));
        Self { places, waiting }
    }
}

impl Places {
    pub(super) fn new(bounds: Bounds) -> Self {
        let all = Arc::new(Semaphore::new(bounds.all));
        Self { all, by_caller: Shares::of(bounds.caller) }
    }

    /// One less, of a connection and of whoever calls on it, for as long as what is returned lives. Waits until there is
    /// one; none where as many wait as may.
    pub(super) async fn take(
        &self,
        own: &OwnPlaces,
        caller: &str,
    ) -> Option<impl Send + Unpin + use<>> {
        let _waits = own.waiting.try_acquire().ok()?;
        // None of them is ever closed.
        let place = Arc::clone(&own.places).acquire_owned().await.ok();
        let share = self.by_caller.take(caller.to_owned()).await;
        Some((place, share, Arc::clone(&self.all).acquire_owned().await.ok()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn took<T>(taking: impl Future<Output = Option<T>>) -> T {
        taking.now_or_never().flatten().expect("there is one")
    }

    #[test]
    fn a_connection_a_caller_and_all_have_as_many_as_the_bounds_say() {
        let bounds = Bounds { connection: 2, caller: 64, all: 256, waiting: 2 };
        let all = Places::new(bounds);
        let take = |own: &OwnPlaces, caller: &'static str| {
            let (own, all) = (own.clone(), all.clone());
            Box::pin(async move { all.take(&own, caller).await })
        };
        let connection = || OwnPlaces::new(bounds);
        let first = connection();
        let mut held: Vec<_> = (0..2).map(|_| took(take(&first, "a"))).collect();
        let mut third = take(&first, "a");
        assert!(third.as_mut().now_or_never().is_none());
        let mut fourth = take(&first, "a");
        assert!(fourth.as_mut().now_or_never().is_none());
        assert!(take(&first, "a").now_or_never().unwrap().is_none(), "two wait already");
        drop(fourth);
        assert!(take(&first, "a").now_or_never().is_none(), "one waits");
        for caller in ["a", "b", "c", "d"] {
            let left = if caller == "a" { bounds.caller - 2 } else { bounds.caller };
            held.extend((0..left).map(|_| took(take(&connection(), caller))));
            assert!(take(&connection(), caller).now_or_never().is_none(), "{caller} has its share");
        }
        assert_eq!(held.len(), bounds.all);
        let other = connection();
        let mut waits = take(&other, "e");
        assert!(waits.as_mut().now_or_never().is_none());
        // The deadline of a call drops it while it waits.
        drop(third);
        held.remove(0);
        // What is over makes room.
        held.push(took(waits));
        held.clear();
        for own in [first, other] {
            assert_eq!([own.places, own.waiting].map(|left| left.available_permits()), [2, 2]);
        }
        assert_eq!(all.all.available_permits(), 256);
    }
}
