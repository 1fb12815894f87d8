//! How often callers may have a carrier asked about tokens of theirs: it is an oracle.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use jiff::Timestamp;

use super::Error;
use crate::clock::Clock;
use crate::name::Uid;

/// Beyond this many keys, those whose buckets are full again are forgotten.
const KEYS: usize = 10_000;

/// How many tokens a minute a carrier is asked about. None: no limit.
#[derive(Debug, Clone, Copy)]
pub struct TokenLimits {
    /// For one provider, by `UpdateToken`.
    pub per_provider: Option<NonZeroU32>,
    /// For one account, by `UpdateToken` and `CreateProvider`.
    pub per_account: Option<NonZeroU32>,
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self { per_provider: NonZeroU32::new(5), per_account: NonZeroU32::new(30) }
    }
}

/// The buckets, one a key: full, they let a minute's tries through at once, and fill evenly over the minute.
#[derive(Debug)]
pub(super) struct Limits {
    clock: Arc<dyn Clock>,
    most: TokenLimits,
    filled: Mutex<Filled>,
}

/// The buckets as of a time.
#[derive(Debug)]
struct Filled {
    time: Timestamp,
    provider: Option<Buckets>,
    account: Option<Buckets>,
}

type Buckets = RateLimiter<Uid, HashMapStateStore<Uid>, VaultClock, NoOpMiddleware<Nanos>>;

impl Filled {
    fn new(limits: TokenLimits, clock: &Arc<dyn Clock>) -> Self {
        let buckets = |a_minute: Option<NonZeroU32>| {
            let quota = Quota::per_minute(a_minute?);
            let clock = VaultClock(Arc::clone(clock));
            Some(RateLimiter::new(quota, HashMapStateStore::default(), clock))
        };
        let (provider, account) = (buckets(limits.per_provider), buckets(limits.per_account));
        Self { time: clock.now(), provider, account }
    }
}

impl Limits {
    pub(super) fn new(limits: TokenLimits, clock: &Arc<dyn Clock>) -> Self {
        let filled = Mutex::new(Filled::new(limits, clock));
        Self { clock: Arc::clone(clock), most: limits, filled }
    }

    /// Whether a carrier may be asked about one more token, which is then counted.
    pub(super) fn may_ask(&self, account: Uid, provider: Option<Uid>) -> Result<(), Error> {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if now < filled.time {
            // The clock was set back: full buckets are better than ones that do not fill for hours.
            *filled = Filled::new(self.most, &self.clock);
        }
        filled.time = now;
        if let (Some(buckets), Some(provider)) = (&filled.provider, provider) {
            take("provider", buckets, provider)?;
        }
        filled.account.as_ref().map_or(Ok(()), |buckets| take("account", buckets, account))
    }
}

fn take(on: &'static str, buckets: &Buckets, key: Uid) -> Result<(), Error> {
    if buckets.len() > KEYS {
        buckets.retain_recent();
    }
    buckets.check_key(&key).map_err(|not_until| {
        let wait = not_until.wait_time_from(buckets.clock().now());
        // Whole seconds, upwards: a caller who comes back a moment too early comes back in vain.
        let begun = u64::from(wait.subsec_nanos() > 0);
        Error::RateLimited { on, retry_after: Duration::from_secs(wait.as_secs() + begun) }
    })
}

/// The vault's clock, for governor.
#[derive(Debug, Clone)]
struct VaultClock(Arc<dyn Clock>);

impl GovernorClock for VaultClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let nanos = u64::try_from(self.0.now().as_nanosecond()).unwrap_or(0);
        Nanos::from(Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::clock::MockClock;

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let clock = Arc::new(MockClock::at("2026-05-01T12:00:00Z".parse().unwrap()));
        let dyn_clock: Arc<dyn Clock> = Arc::<MockClock>::clone(&clock);
        let limits = Limits::new(TokenLimits::default(), &dyn_clock);
        let (account, provider) = (Uid::from_bytes([1; 16]), Some(Uid::from_bytes([2; 16])));
        let tries = || (0..10).filter(|_| limits.may_ask(account, provider).is_ok()).count();
        assert_eq!(tries(), 5);
        clock.advance(SignedDuration::from_secs(12));
        assert_eq!(tries(), 1);
        clock.advance(SignedDuration::from_hours(-1));
        assert_eq!(tries(), 5);
        clock.advance(SignedDuration::from_secs(60));
        assert_eq!(tries(), 5);
    }
}
