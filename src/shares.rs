//! Shares: how many of something each of many may have at once, so that one cannot take them from all others.
//!
//! What they are shares of, and whether there is any left, is not known here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many for each key. All clones are one.
#[derive(Debug)]
pub struct Shares<K> {
    each: usize,
    /// Only keys of which somebody has something, or waits for it.
    taken: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self { each: self.each, taken: Arc::clone(&self.taken) }
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// Shares of this size.
    pub fn of(each: usize) -> Self {
        Self { each, taken: Arc::default() }
    }

    /// One of a share, for as long as what is returned lives. Waits until there is one, first come, first served.
    pub async fn take(&self, key: K) -> Shared<K> {
        // Made first: whoever stops waiting drops it.
        let (mut shared, semaphore) = self.begin(key);
        shared.permit = semaphore.acquire_owned().await.ok();
        shared
    }

    /// The same, if there is one now.
    pub fn try_take(&self, key: K) -> Option<Shared<K>> {
        let (mut shared, semaphore) = self.begin(key);
        shared.permit = Some(semaphore.try_acquire_owned().ok()?);
        Some(shared)
    }

    fn begin(&self, key: K) -> (Shared<K>, Arc<Semaphore>) {
        let new = || Arc::new(Semaphore::new(self.each));
        let semaphore = Arc::clone(self.taken().entry(key.clone()).or_insert_with(new));
        (Shared { shares: self.clone(), key, permit: None }, semaphore)
    }
}

impl<K> Shares<K> {
    fn taken(&self) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a share, back in it when this is dropped.
#[derive(Debug)]
pub struct Shared<K: Clone + Eq + Hash> {
    shares: Shares<K>,
    key: K,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Clone + Eq + Hash> Drop for Shared<K> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut taken = self.shares.taken();
        // Nobody else has one or waits: they are counted up under this lock only.
        if taken.get(&self.key).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            taken.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn one_that_has_its_share_waits_and_others_do_not() {
        let shares = Shares::of(2);
        let [first, second] = [(); 2].map(|()| shares.take("a").now_or_never().unwrap());
        assert!(shares.try_take("a").is_none());
        let mut third = Box::pin(shares.take("a"));
        assert!(third.as_mut().now_or_never().is_none());
        let other = shares.try_take("b").unwrap();
        drop(first);
        assert!(shares.try_take("a").is_none(), "who waits is first");
        drop(third.as_mut().now_or_never().unwrap());
        drop((second, other));
        drop(third);
        assert!(shares.taken().is_empty(), "nothing stays of those who have nothing");
    }

    #[test]
    fn who_stops_waiting_leaves_nothing() {
        let shares = Shares::of(1);
        let held = shares.try_take("a");
        let mut waits = Box::pin(shares.take("a"));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held);
        // It has been given one by now, and does not ask for it any more.
        drop(waits);
        assert!(shares.taken().is_empty());
        assert!(shares.try_take("a").is_some());
    }
}
