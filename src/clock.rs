//! The only reader of the system time, behind a trait so that tests hold the clock.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use jiff::{SignedDuration, Timestamp};

/// Where the time comes from.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now, cut to the microseconds that the store keeps.
    fn now(&self) -> Timestamp;

    /// Waits until `now` is not before `time`.
    async fn wait_until(&self, time: Timestamp);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    async fn wait_until(&self, time: Timestamp) {
        let wait = Duration::try_from(time.duration_since(self.now())).unwrap_or(Duration::ZERO);
        tokio::time::sleep(wait).await;
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct MockClock(watch::Sender<Timestamp>);

impl MockClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(watch::Sender::new(now))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: SignedDuration) {
        self.0.send_modify(|now| *now = now.saturating_add(by).unwrap_or(Timestamp::MAX));
    }
}

#[async_trait]
impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    async fn wait_until(&self, time: Timestamp) {
        // It cannot fail: the sender is in self.
        self.0.subscribe().wait_for(|now| *now >= time).await.ok();
    }
}
