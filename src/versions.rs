//! Versions of a secret: what verifies beside the active one, until when, and what became of those before it.
//!
//! A version is pending → active → (retiring until a time) → destroyed. The active one is its owner's own business
//! and not listed here. Numbers are never used twice: that of a version which never became active is gone as well.

use jiff::fmt::serde::timestamp::microsecond;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest time that a version may verify after it was replaced.
pub const LONGEST_OVERLAP: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How many versions may verify beside the active one: each makes a wrong answer cost one more digest.
pub const MOST_RETIRING: usize = 8;

/// How many destroyed versions are remembered: they lie in their owner's row.
const REMEMBERED: usize = 10;

/// What a version is to those who present it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made but not yet active. It verifies: whoever received it may use it.
    Pending,
    /// A carrier is asked to make it. Nobody has it yet, so nothing verifies.
    Awaited,
    /// Replaced; it verifies until then.
    Retiring {
        /// From then on it verifies no more.
        until: Timestamp,
    },
    /// It verifies no more, and its ciphertext is gone.
    Destroyed {
        /// Since when it does not verify.
        time: Timestamp,
    },
}

/// A version that is not the active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// When it became active; of a pending one, when it was made.
    pub create_time: Timestamp,
    /// What it is now.
    pub state: State,
}

/// A version as stored, times in microseconds: short, since every credential that was rotated carries some.
#[derive(Serialize, Deserialize)]
struct Stored {
    v: u64,
    #[serde(with = "microsecond::required")]
    made: Timestamp,
    /// Retiring until then.
    #[serde(default, with = "microsecond::optional", skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Destroyed then. Neither: pending.
    #[serde(default, with = "microsecond::optional", skip_serializing_if = "Option::is_none")]
    gone: Option<Timestamp>,
    /// Pending, and a carrier is asked to make it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    awaited: bool,
}

impl From<Stored> for Version {
    fn from(stored: Stored) -> Self {
        let state = match (stored.gone, stored.until) {
            (Some(time), _) => State::Destroyed { time },
            (None, Some(until)) => State::Retiring { until },
            (None, None) if stored.awaited => State::Awaited,
            (None, None) => State::Pending,
        };
        Self { number: stored.v, create_time: stored.made, state }
    }
}

impl From<Version> for Stored {
    fn from(version: Version) -> Self {
        let (until, gone) = match version.state {
            State::Pending | State::Awaited => (None, None),
            State::Retiring { until } => (Some(until), None),
            State::Destroyed { time } => (None, Some(time)),
        };
        let awaited = version.state == State::Awaited;
        Self { v: version.number, made: version.create_time, until, gone, awaited }
    }
}

impl Version {
    /// Whether it verifies at `now`.
    pub fn verifies(&self, now: Timestamp) -> bool {
        match self.state {
            State::Pending => true,
            State::Retiring { until } => now < until,
            State::Awaited | State::Destroyed { .. } => false,
        }
    }

    /// Whether its ciphertext is kept.
    fn is_kept(&self) -> bool {
        matches!(self.state, State::Pending | State::Retiring { .. })
    }

    fn is_destroyed(&self) -> bool {
        matches!(self.state, State::Destroyed { .. })
    }
}

/// As many versions verify beside the active one as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The versions of one secret that are not active, by number. Stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Versions(Vec<Version>);

impl Versions {
    /// All of them, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.0.iter()
    }

    /// Whether any has a ciphertext that is kept beside the active one.
    pub fn any_kept(&self) -> bool {
        self.0.iter().any(Version::is_kept)
    }

    /// Whether the ciphertext of this one is kept.
    pub fn keeps(&self, number: u64) -> bool {
        self.0.iter().any(|version| version.number == number && version.is_kept())
    }

    /// The one that waits to become active.
    pub fn pending(&self) -> Option<&Version> {
        self.0.iter().find(|version| matches!(version.state, State::Pending | State::Awaited))
    }

    /// The next retiring one whose time comes.
    pub fn next_retirement(&self) -> Option<Timestamp> {
        let until = |version: &Version| match version.state {
            State::Retiring { until } => Some(until),
            State::Pending | State::Awaited | State::Destroyed { .. } => None,
        };
        self.0.iter().filter_map(until).min()
    }

    /// The number of the next version, beside the active one's.
    pub fn next_number(&self, active: u64) -> u64 {
        self.0.iter().map(|version| version.number).fold(active, u64::max) + 1
    }

    /// What they are once another version takes the place of `active`, which was made at `create_time`.
    ///
    /// Without an overlap nothing but the new one verifies any more: whoever rotates so fears for the old ones. With
    /// one, those that retire already keep their times.
    pub fn replacing(
        &self,
        active: u64,
        create_time: Timestamp,
        now: Timestamp,
        overlap: SignedDuration,
    ) -> Result<Self, TooMany> {
        let until = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
        let state = if overlap.is_zero() {
            State::Destroyed { time: now }
        } else {
            State::Retiring { until }
        };
        let mut versions = if overlap.is_zero() { self.all_destroyed(now) } else { self.at(now) };
        versions.0.push(Version { number: active, create_time, state });
        if versions.0.iter().filter(|version| !version.is_destroyed()).count() > MOST_RETIRING {
            return Err(TooMany);
        }
        Ok(versions.tidied())
    }

    /// The same where only `active` is kept for a while, and none before it.
    #[must_use]
    pub fn replacing_alone(
        &self,
        active: u64,
        create_time: Timestamp,
        now: Timestamp,
        kept: SignedDuration,
    ) -> Self {
        let until = now.saturating_add(kept).unwrap_or(Timestamp::MAX);
        let mut versions = self.all_destroyed(now);
        let state = State::Retiring { until };
        versions.0.push(Version { number: active, create_time, state });
        versions.tidied()
    }

    /// With a version that waits to become active.
    #[must_use]
    pub fn with_pending(&self, number: u64, now: Timestamp) -> Self {
        self.with(Version { number, create_time: now, state: State::Pending }, now)
    }

    /// With a version that a carrier is to make.
    #[must_use]
    pub fn with_awaited(&self, number: u64, now: Timestamp) -> Self {
        self.with(Version { number, create_time: now, state: State::Awaited }, now)
    }

    fn with(&self, version: Version, now: Timestamp) -> Self {
        let mut versions = self.at(now);
        versions.0.push(version);
        versions.tidied()
    }

    /// Without the pending one, which becomes active.
    #[must_use]
    pub fn promoted(&self) -> Self {
        let waits = |version: &&Version| matches!(version.state, State::Pending | State::Awaited);
        let kept = self.0.iter().filter(|version| !waits(version));
        Self(kept.copied().collect())
    }

    /// With the pending one destroyed.
    #[must_use]
    pub fn cancelled(&self, now: Timestamp) -> Self {
        let state = State::Destroyed { time: now };
        let cancel = |version: &Version| match version.state {
            State::Pending | State::Awaited => Version { state, ..*version },
            _ => *version,
        };
        Self(self.0.iter().map(cancel).collect()).tidied()
    }

    /// As they are at `now`: those whose time has passed are destroyed.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        let at = |version: &Version| match version.state {
            State::Retiring { until } if until <= now => {
                Version { state: State::Destroyed { time: until }, ..*version }
            }
            _ => *version,
        };
        Self(self.0.iter().map(at).collect()).tidied()
    }

    fn all_destroyed(&self, now: Timestamp) -> Self {
        let destroy = |version: &Version| {
            if version.is_destroyed() {
                *version
            } else {
                Version { state: State::Destroyed { time: now }, ..*version }
            }
        };
        Self(self.0.iter().map(destroy).collect())
    }

    /// In order, without the oldest of too many destroyed ones.
    fn tidied(mut self) -> Self {
        self.0.sort_by_key(|version| version.number);
        let destroyed = self.0.iter().filter(|version| version.is_destroyed()).count();
        let mut surplus = destroyed.saturating_sub(REMEMBERED);
        self.0.retain(|version| {
            let forget = surplus > 0 && version.is_destroyed();
            surplus -= usize::from(forget);
            !forget
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    #[test]
    fn an_overlap_keeps_the_one_before_until_its_time_and_no_overlap_kills_all() {
        let first = Versions::default().replacing(1, at(0), at(10), HOUR).unwrap();
        assert_eq!(first.next_retirement(), Some(at(3610)));
        assert!(first.0[0].verifies(at(3609)) && !first.0[0].verifies(at(3610)));
        let second = first.replacing(2, at(10), at(20), HOUR * 2).unwrap();
        assert_eq!(second.iter().filter(|version| version.verifies(at(30))).count(), 2);
        assert_eq!(second.next_retirement(), Some(at(3610)), "it keeps its time");
        let third = second.replacing(3, at(20), at(30), SignedDuration::ZERO).unwrap();
        assert!(!third.any_kept() && third.iter().count() == 3);
    }

    #[test]
    fn as_many_retire_at_once_as_may() {
        let mut versions = Versions::default();
        for number in 1..=8 {
            versions = versions.replacing(number, at(0), at(10), HOUR).unwrap();
        }
        assert_eq!(versions.replacing(9, at(0), at(10), HOUR), Err(TooMany));
        assert!(versions.replacing(9, at(0), at(10), SignedDuration::ZERO).is_ok());
        assert!(versions.replacing(9, at(0), at(3610), HOUR).is_ok(), "their time has passed");
    }

    #[test]
    fn they_are_stored_as_they_were_and_short() {
        let versions = Versions::default()
            .replacing(1, at(0), at(1), SignedDuration::ZERO)
            .unwrap()
            .replacing(2, at(1), at(2), HOUR)
            .unwrap()
            .with_pending(4, at(3));
        let json = serde_json::to_string(&versions).unwrap();
        assert_eq!(
            json,
            "[{\"v\":1,\"made\":0,\"gone\":1000000},{\"v\":2,\"made\":1000000,\"until\":3602000000},\
             {\"v\":4,\"made\":3000000}]"
        );
        assert_eq!(serde_json::from_str::<Versions>(&json).unwrap(), versions);
    }

    /// What may happen to a secret.
    #[derive(Debug, Clone)]
    enum Event {
        Rotate(i64),
        Stage,
        Promote(i64),
        Cancel,
        Wait(i64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            (0..100_i64).prop_map(Event::Rotate),
            Just(Event::Stage),
            (0..100_i64).prop_map(Event::Promote),
            Just(Event::Cancel),
            (0..200_i64).prop_map(Event::Wait),
        ];
        proptest::collection::vec(event, 0..60)
    }

    proptest! {
        #[test]
        fn no_number_is_used_twice_and_nothing_destroyed_comes_back(events in events()) {
            let (mut active, mut made, mut now) = (1_u64, at(0), at(0));
            let mut versions = Versions::default();
            let (mut used, mut dead) = (vec![1_u64], Vec::<u64>::new());
            for event in events {
                match event {
                    Event::Wait(seconds) => {
                        now += SignedDuration::from_secs(seconds);
                        versions = versions.at(now);
                    }
                    Event::Rotate(overlap) if versions.pending().is_none() => {
                        let overlap = SignedDuration::from_secs(overlap);
                        let next = versions.next_number(active);
                        let Ok(after) = versions.replacing(active, made, now, overlap) else { continue };
                        prop_assert!(!used.contains(&next));
                        used.push(next);
                        (versions, active, made) = (after, next, now);
                    }
                    Event::Stage if versions.pending().is_none() => {
                        let next = versions.next_number(active);
                        prop_assert!(!used.contains(&next));
                        used.push(next);
                        versions = versions.with_pending(next, now);
                    }
                    Event::Promote(overlap) => {
                        let Some(pending) = versions.pending().copied() else { continue };
                        let overlap = SignedDuration::from_secs(overlap);
                        let Ok(after) = versions.promoted().replacing(active, made, now, overlap) else { continue };
                        (versions, active, made) = (after, pending.number, pending.create_time);
                    }
                    Event::Cancel => versions = versions.cancelled(now),
                    Event::Rotate(_) | Event::Stage => {}
                }
                prop_assert!(versions.iter().all(|version| version.number != active));
                prop_assert!(versions.0.is_sorted_by_key(|version| version.number));
                for version in versions.iter() {
                    prop_assert!(version.is_destroyed() || !dead.contains(&version.number));
                    if version.is_destroyed() && !dead.contains(&version.number) {
                        dead.push(version.number);
                    }
                }
                prop_assert!(versions.iter().filter(|version| version.is_destroyed()).count() <= REMEMBERED);
            }
        }
    }
}
