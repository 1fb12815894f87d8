//! Who sends wrong digest responses: a bucket for each credential and source, so that nobody guesses for long, and no
//! phone is locked out by what another address sends in its name.
//!
//! Not governor's: it cannot look at a bucket without taking from it, and right responses take nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::digest::Digest;
use crate::name::Uid;

/// Buckets that are not full, at the same time. Beyond it, the half that is nearest to full is forgotten: whoever brings
/// many sources has failed once from each, and an empty bucket stays.
const BUCKETS: usize = 50_000;

/// What a bucket takes to fill when it is empty.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// The buckets, full at first. Each failed check takes from one, and it fills evenly over a minute.
#[derive(Debug)]
pub(super) struct FailedDigests {
    clock: Arc<dyn Clock>,
    /// What one failure takes to be forgotten. None: no limit.
    each: Option<SignedDuration>,
    /// When each bucket is full again. What is not here is full.
    full_at: Mutex<HashMap<Bucket, Timestamp>>,
    hasher: RandomState,
}

/// Whose failures are counted together: the username and realm in an account, whether they exist or not, from one
/// network: of IPv6 whoever has an address has a /64 of them. As a hash under a key that nobody knows: two meet once in 2^64, and what is kept has the same size whatever
/// callers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bucket(u64);

impl FailedDigests {
    pub(super) fn new(a_minute: Option<NonZeroU32>, clock: &Arc<dyn Clock>) -> Self {
        let each = a_minute.map(|a_minute| {
            let nanos = WINDOW.as_nanos() / i128::from(a_minute.get());
            SignedDuration::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
        });
        let (full_at, hasher) = (Mutex::default(), RandomState::new());
        Self { clock: Arc::clone(clock), each, full_at, hasher }
    }

    /// The bucket that a check may take from; None: there is no limit, or nobody said where the request came from.
    pub(super) fn bucket(
        &self,
        account: Uid,
        digest: &Digest,
        network: Option<&str>,
    ) -> Option<Bucket> {
        self.each?;
        let who = (account, &digest.realm, &digest.username, network?);
        Some(Bucket(self.hasher.hash_one(who)))
    }

    /// How long this bucket stays empty; None: it is not empty.
    pub(super) fn wait(&self, bucket: Bucket) -> Option<Duration> {
        let each = self.each?;
        let missing = missing(&self.full_at(), bucket, self.clock.now());
        let wait = Duration::try_from(missing + each - WINDOW).ok()?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Takes from a bucket for a check that failed.
    pub(super) fn count(&self, bucket: Bucket) {
        let Some(each) = self.each else { return };
        let now = self.clock.now();
        let mut full_at = self.full_at();
        // Checks that ran at once may take more than there is: it is never more than empty.
        let missing = (missing(&full_at, bucket, now) + each).min(WINDOW);
        if full_at.len() >= BUCKETS && !full_at.contains_key(&bucket) {
            forget_half(&mut full_at);
        }
        full_at.insert(bucket, now.saturating_add(missing).unwrap_or(Timestamp::MAX));
    }

    fn full_at(&self) -> MutexGuard<'_, HashMap<Bucket, Timestamp>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a bucket is from full. A clock that was set back must lock nobody out: what would take longer than an
/// empty one is no bucket of this time.
fn missing(full_at: &HashMap<Bucket, Timestamp>, bucket: Bucket, now: Timestamp) -> SignedDuration {
    let missing = full_at.get(&bucket).map(|full_at| full_at.duration_since(now));
    missing.filter(|missing| missing.is_positive() && *missing <= WINDOW).unwrap_or_default()
}

fn forget_half(full_at: &mut HashMap<Bucket, Timestamp>) {
    let mut times: Vec<_> = full_at.values().copied().collect();
    let half = times.len() / 2;
    let (_, middle, _) = times.select_nth_unstable(half);
    full_at.retain(|_, full_at| *full_at > *middle);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MockClock;

    fn failed_digests(a_minute: u32) -> (FailedDigests, Arc<MockClock>) {
        let clock = Arc::new(MockClock::at("2026-05-01T12:00:00Z".parse().unwrap()));
        let dyn_clock: Arc<dyn Clock> = Arc::<MockClock>::clone(&clock);
        (FailedDigests::new(NonZeroU32::new(a_minute), &dyn_clock), clock)
    }

    /// Fails as often as it may, at most 100 times.
    fn fail(failed: &FailedDigests, bucket: Bucket) -> usize {
        let tries = (0..100).take_while(|_| failed.wait(bucket).is_none());
        tries.map(|_| failed.count(bucket)).count()
    }

    #[test]
    fn a_bucket_empties_and_fills_evenly() {
        for a_minute in [1, 7, 10, 60] {
            let (failed, clock) = failed_digests(a_minute);
            let (one, other) = (Bucket(1), Bucket(2));
            let most = usize::try_from(a_minute).unwrap();
            assert_eq!((fail(&failed, one), fail(&failed, other)), (most, most));
            let wait = failed.wait(one).unwrap();
            let each = Duration::from_mins(1) / a_minute;
            assert!(wait.abs_diff(each) < Duration::from_micros(2), "{wait:?}");
            clock.advance(wait.try_into().unwrap());
            assert_eq!(fail(&failed, one), 1);
            clock.advance(SignedDuration::from_mins(1));
            assert_eq!(fail(&failed, one), most);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let (failed, clock) = failed_digests(10);
        assert_eq!(fail(&failed, Bucket(1)), 10);
        clock.advance(SignedDuration::from_hours(-1));
        assert_eq!(fail(&failed, Bucket(1)), 10);
    }

    #[test]
    fn many_sources_neither_fill_the_memory_nor_free_who_failed_most() {
        let (failed, clock) = failed_digests(10);
        assert_eq!(fail(&failed, Bucket(0)), 10);
        for number in 1..=200_000 {
            failed.count(Bucket(number));
            clock.advance(SignedDuration::from_micros(10));
            assert!(failed.full_at().len() <= BUCKETS);
        }
        assert!(failed.wait(Bucket(0)).is_some(), "the empty one is still known");
    }
}
