//! The circuit breaker: when a carrier that keeps failing is left alone. What a failure is, the caller says.
//!
//! - Closed: calls go through. `MOST_FAILURES` in a row open it.
//! - Open: calls are refused for `REST`; then one probe at a time goes through, the others are still refused.
//! - A failed probe opens it for another `REST`. Any success closes it, also of a call that began before.
//! - A call that ended without a verdict, such as one that its caller dropped, counts for nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

const MOST_FAILURES: u32 = 10;
const REST: SignedDuration = SignedDuration::from_secs(30);

/// One breaker for each origin, under a clock.
pub(super) struct Breakers {
    clock: Arc<dyn Clock>,
    of: Mutex<HashMap<String, Breaker>>,
}

impl Breakers {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, of: Mutex::default() }
    }

    /// How much longer an origin rests, if it does. Takes nothing.
    pub(super) fn check(&self, origin: &str) -> Result<(), Duration> {
        self.of().get(origin).map_or(Ok(()), |breaker| breaker.check(self.clock.now()))
    }

    /// Lets a call to an origin through, or says how much longer the origin rests.
    pub(super) fn pass(&self, origin: String) -> Result<Pass<'_>, Duration> {
        let probe = self.of().entry(origin.clone()).or_default().pass(self.clock.now())?;
        Ok(Pass { breakers: self, origin, probe, end: End::Unknown })
    }

    /// How many origins are left alone, or tried with one probe at a time.
    pub(super) fn open(&self) -> usize {
        self.of().values().filter(|breaker| matches!(breaker, Breaker::Open { .. })).count()
    }

    fn of(&self) -> MutexGuard<'_, HashMap<String, Breaker>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way. Counts when it is dropped.
pub(super) struct Pass<'a> {
    breakers: &'a Breakers,
    origin: String,
    probe: bool,
    end: End,
}

impl Pass<'_> {
    pub(super) fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let now = self.breakers.clock.now();
        let mut breakers = self.breakers.of();
        let breaker = breakers.entry(self.origin.clone()).or_default();
        if breaker.end(self.probe, self.end, now) {
            tracing::warn!(
                origin = self.origin,
                "the carrier keeps failing: left alone for a while"
            );
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Success,
    Failure,
    Unknown,
}

/// The state machine.
#[derive(Debug)]
enum Breaker {
    Closed { failures: u32 },
    Open { since: Timestamp, probing: bool },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    fn check(&self, now: Timestamp) -> Result<(), Duration> {
        let Self::Open { since, probing } = self else { return Ok(()) };
        let rested = now.duration_since(*since);
        if !rested.is_negative() && rested < REST {
            Err((REST - rested).unsigned_abs())
        } else if *probing {
            Err(Duration::ZERO)
        } else {
            // A clock that was set back does not prolong the rest either.
            Ok(())
        }
    }

    /// Whether the call that goes through is a probe.
    fn pass(&mut self, now: Timestamp) -> Result<bool, Duration> {
        self.check(now)?;
        if let Self::Open { probing, .. } = self {
            *probing = true;
        }
        Ok(matches!(self, Self::Open { .. }))
    }

    /// Whether the breaker opens by it.
    fn end(&mut self, probe: bool, end: End, now: Timestamp) -> bool {
        match (end, &mut *self) {
            (End::Success, _) => *self = Self::default(),
            (End::Failure, Self::Closed { failures }) => {
                *failures += 1;
                if *failures >= MOST_FAILURES {
                    *self = Self::Open { since: now, probing: false };
                    return true;
                }
            }
            (End::Failure, Self::Open { .. }) if probe => {
                *self = Self::Open { since: now, probing: false };
                return true;
            }
            (End::Unknown, Self::Open { probing, .. }) if probe => *probing = false,
            (End::Failure | End::Unknown, _) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MockClock;

    const ORIGIN: &str = "https://api.twilio.com";

    fn start() -> (Arc<MockClock>, Breakers) {
        let clock = Arc::new(MockClock::at(Timestamp::UNIX_EPOCH));
        (Arc::clone(&clock), Breakers::new(clock))
    }

    /// A call that ends before the next begins: None, or how long the origin rests.
    fn call(breakers: &Breakers, end: End) -> Option<u64> {
        let checked = breakers.check(ORIGIN);
        let passed = breakers.pass(ORIGIN.to_owned());
        assert_eq!(checked.err(), passed.as_ref().err().copied(), "asked twice, told the same");
        match passed {
            Ok(pass) => {
                pass.end(end);
                None
            }
            Err(rest) => Some(rest.as_secs()),
        }
    }

    fn open(breakers: &Breakers) {
        for _ in 0..MOST_FAILURES {
            assert_eq!(call(breakers, End::Failure), None);
        }
        assert_eq!(call(breakers, End::Success), Some(30));
    }

    #[test]
    fn ten_failures_in_a_row_open_it_for_thirty_seconds() {
        let (clock, breakers) = start();
        for _ in 1..MOST_FAILURES {
            assert_eq!(call(&breakers, End::Failure), None);
        }
        assert_eq!(call(&breakers, End::Success), None, "a success resets the count");
        open(&breakers);
        clock.advance(SignedDuration::from_secs(29));
        assert_eq!(call(&breakers, End::Success), Some(1));
        assert!(breakers.pass("https://api.vobiz.ai".to_owned()).is_ok(), "another origin");
        clock.advance(SignedDuration::from_secs(1));
        assert_eq!(call(&breakers, End::Success), None);
        assert_eq!(call(&breakers, End::Success), None);
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let (clock, breakers) = start();
        open(&breakers);
        clock.advance(SignedDuration::from_secs(30));
        let probe = breakers.pass(ORIGIN.to_owned()).ok().unwrap();
        assert_eq!(call(&breakers, End::Success), Some(0));
        drop(probe);
        assert_eq!(call(&breakers, End::Unknown), None, "a dropped probe makes room for another");
        assert_eq!(call(&breakers, End::Failure), None);
        assert_eq!(call(&breakers, End::Success), Some(30));
        clock.advance(SignedDuration::from_secs(30));
        assert_eq!(call(&breakers, End::Success), None);
        assert_eq!(call(&breakers, End::Failure), None);
        assert_eq!(call(&breakers, End::Failure), None, "closed, it counts from one again");
    }

    #[test]
    fn calls_from_before_it_opened_neither_prolong_the_rest_nor_free_the_probe() {
        let (clock, breakers) = start();
        let mut early: Vec<_> =
            (0..3).map(|_| breakers.pass(ORIGIN.to_owned()).ok().unwrap()).collect();
        open(&breakers);
        clock.advance(SignedDuration::from_secs(20));
        early.pop().unwrap().end(End::Failure);
        assert_eq!(call(&breakers, End::Success), Some(10));
        clock.advance(SignedDuration::from_secs(10));
        let probe = breakers.pass(ORIGIN.to_owned()).ok().unwrap();
        drop(early.pop());
        assert_eq!(call(&breakers, End::Success), Some(0));
        early.pop().unwrap().end(End::Success);
        assert_eq!(call(&breakers, End::Unknown), None, "it works again");
        probe.end(End::Failure);
        assert_eq!(call(&breakers, End::Unknown), None, "one failure of a closed one");
    }

    #[test]
    fn a_dropped_call_is_no_failure_and_a_clock_set_back_does_not_prolong_the_rest() {
        let (clock, breakers) = start();
        for _ in 0..2 * MOST_FAILURES {
            assert_eq!(call(&breakers, End::Unknown), None);
        }
        open(&breakers);
        clock.advance(SignedDuration::from_hours(-1));
        assert_eq!(call(&breakers, End::Unknown), None);
    }
}
