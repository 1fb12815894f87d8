//! How often callers may have a carrier asked about tokens of theirs, which is an oracle; and how often somebody may
//! fail to say who they are.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use jiff::Timestamp;

use super::Error;
use crate::access::network;
use crate::clock::Clock;
use crate::name::Uid;

/// Beyond this many keys, those whose buckets are full again are forgotten.
const KEYS: usize = 10_000;

/// How many calls of some kinds are let through. None: no limit.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// Tokens a minute that a carrier is asked about for one provider, by `UpdateToken`.
    pub per_provider: Option<NonZeroU32>,
    /// The same for one account, by `UpdateToken` and `CreateProvider`.
    pub per_account: Option<NonZeroU32>,
    /// Calls a second from one address that fail to authenticate, in bursts of twice as many.
    pub failed_authentications: Option<NonZeroU32>,
    /// Digest responses a minute that are wrong, for one username in a realm and from one source.
    pub failed_digest_checks: Option<NonZeroU32>,
    /// Access tokens a minute that are minted for one account.
    pub access_tokens: Option<NonZeroU32>,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            per_provider: NonZeroU32::new(5),
            per_account: NonZeroU32::new(30),
            failed_authentications: NonZeroU32::new(10),
            failed_digest_checks: NonZeroU32::new(10),
            access_tokens: NonZeroU32::new(600),
        }
    }
}

/// Which of them let a call through no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallLimit {
    /// [`CallLimits::per_provider`].
    #[error("too many tokens were tried on this provider")]
    TokensOfProvider,
    /// [`CallLimits::per_account`].
    #[error("too many tokens were tried in this account")]
    TokensOfAccount,
    /// [`CallLimits::failed_authentications`].
    #[error("too many calls from this address had no valid token")]
    FailedAuthentications,
    /// [`CallLimits::access_tokens`].
    #[error("too many access tokens were minted in this account")]
    AccessTokens,
}

/// The buckets, one a key: full, they let a minute's tries through at once, and fill evenly over the minute.
#[derive(Debug)]
pub(super) struct Limits {
    clock: Arc<dyn Clock>,
    most: CallLimits,
    filled: Mutex<Filled>,
}

/// The buckets as of a time.
#[derive(Debug)]
struct Filled {
    time: Timestamp,
    provider: Option<Buckets<Uid>>,
    account: Option<Buckets<Uid>>,
    failures: Option<Buckets<String>>,
    minted: Option<Buckets<Uid>>,
}

type Buckets<K> = RateLimiter<K, HashMapStateStore<K>, VaultClock, NoOpMiddleware<Nanos>>;

impl Filled {
    fn new(limits: CallLimits, clock: &Arc<dyn Clock>) -> Self {
        let a_minute = |count: Option<NonZeroU32>| Some(buckets(Quota::per_minute(count?), clock));
        let (provider, account) = (a_minute(limits.per_provider), a_minute(limits.per_account));
        let failures = limits.failed_authentications.map(|a_second| {
            let burst = a_second.saturating_add(a_second.get());
            buckets(Quota::per_second(a_second).allow_burst(burst), clock)
        });
        let minted = a_minute(limits.access_tokens);
        Self { time: clock.now(), provider, account, failures, minted }
    }
}

fn buckets<K: Hash + Eq + Clone>(quota: Quota, clock: &Arc<dyn Clock>) -> Buckets<K> {
    RateLimiter::new(quota, HashMapStateStore::default(), VaultClock(Arc::clone(clock)))
}

impl Limits {
    pub(super) fn new(limits: CallLimits, clock: &Arc<dyn Clock>) -> Self {
        let filled = Mutex::new(Filled::new(limits, clock));
        Self { clock: Arc::clone(clock), most: limits, filled }
    }

    /// Whether a carrier may be asked about one more token, which is then counted.
    pub(super) fn may_ask(&self, account: Uid, provider: Option<Uid>) -> Result<(), Error> {
        let filled = self.filled();
        if let (Some(buckets), Some(provider)) = (&filled.provider, provider) {
            take(CallLimit::TokensOfProvider, buckets, provider)?;
        }
        let account_buckets = filled.account.as_ref();
        account_buckets.map_or(Ok(()), |buckets| take(CallLimit::TokensOfAccount, buckets, account))
    }

    /// Whether one more access token may be minted, which is then counted.
    pub(super) fn may_mint(&self, account: Uid) -> Result<(), Error> {
        let filled = self.filled();
        let minted = filled.minted.as_ref();
        minted.map_or(Ok(()), |buckets| take(CallLimit::AccessTokens, buckets, account))
    }

    /// Counts a call from `address` that failed to authenticate; an error once there are too many of them. Who
    /// authenticates is not looked at: nobody is refused for what others behind the same address do.
    pub(super) fn failed(&self, address: &str) -> Result<(), Error> {
        let filled = self.filled();
        let failures = filled.failures.as_ref();
        failures.map_or(Ok(()), |buckets| {
            take(CallLimit::FailedAuthentications, buckets, network::of_peer(address))
        })
    }

    fn filled(&self) -> MutexGuard<'_, Filled> {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if now < filled.time {
            // The clock was set back: full buckets are better than ones that do not fill for hours.
            *filled = Filled::new(self.most, &self.clock);
        }
        filled.time = now;
        filled
    }
}

fn take<K: Hash + Eq + Clone>(limit: CallLimit, buckets: &Buckets<K>, key: K) -> Result<(), Error> {
    if buckets.len() > KEYS {
        buckets.retain_recent();
    }
    buckets.check_key(&key).map_err(|not_until| {
        let wait = not_until.wait_time_from(buckets.clock().now());
        Error::RateLimited { limit, retry_after: whole_seconds(wait) }
    })
}

/// Upwards: a caller who comes back a moment too early comes back in vain.
pub(super) fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
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
        let limits = Limits::new(CallLimits::default(), &dyn_clock);
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
