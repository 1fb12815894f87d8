//! Scheduled verification: every provider once an interval, each in its own slot.
//!
//! A provider's slot within the interval is its uid read as a fraction. Uids are random, so the slots spread over
//! the interval whatever was created when, and need no memory: after a start only slots that come are served,
//! not those that were missed, so nothing piles up.

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};

use super::{Error, Vault};
use crate::access::{Scope, VerifyProvider, Worker};
use crate::defect::{Defect, planted};
use crate::name::{ProviderName, Uid};
use crate::provider::Status;

/// How many providers are verified at once.
const AT_ONCE: usize = 4;

/// How many providers are read at a time.
const PAGE: usize = 100;

/// How often the schedule is looked at.
const TICK: SignedDuration = SignedDuration::from_secs(10);

impl Vault {
    /// Verifies every provider once an interval, for as long as it is polled.
    pub async fn run_scheduled_verifications(&self, interval: SignedDuration) {
        let mut done = self.clock.now();
        let mut looked = done;
        loop {
            // The earlier of the two: a clock that was set back meanwhile does not prolong the wait.
            let from = looked.min(self.clock.now());
            self.clock.wait_until(from.saturating_add(TICK).unwrap_or(from)).await;
            looked = self.clock.now();
            match self.verify_due(interval, done, looked).await {
                Ok(()) => done = looked,
                // The same slots again, with the next ones.
                Err(error) => tracing::error!(%error, "look for providers to verify"),
            }
        }
    }

    /// Verifies the providers whose slot lies after `from` and not after `to`. Those that were verified within
    /// half an interval are left for their next slot.
    pub async fn verify_due(
        &self,
        interval: SignedDuration,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(), Error> {
        let worker = Worker::verifier();
        for (first, last) in slots(interval, from, to) {
            let mut first = first;
            loop {
                let page = self.store.providers_between(&worker, first, last, PAGE).await?;
                let next = page.items.last().and_then(|(_, _, uid)| after(*uid));
                let at_once = (!planted(Defect::HurriedSchedule)).then_some(AT_ONCE);
                let verified = stream::iter(page.items).for_each_concurrent(
                    at_once,
                    async |(account, id, uid)| {
                        let name = ProviderName { account: account.id.clone(), id };
                        let scope = worker.scope(account);
                        // What fails here changes nothing, and comes again in the next slot.
                        if let Err(error) = self.verify_one(&scope, &name, uid, interval).await {
                            let reason = error.reason();
                            tracing::warn!(provider = %name, reason, "verify a provider on schedule");
                        }
                    },
                );
                verified.await;
                match next {
                    Some(next) if page.more => first = next,
                    _ => break,
                }
            }
        }
        Ok(())
    }

    async fn verify_one(
        &self,
        scope: &Scope<VerifyProvider>,
        name: &ProviderName,
        uid: Uid,
        interval: SignedDuration,
    ) -> Result<(), Error> {
        // Read only now: its turn may come minutes after the page was read.
        let Some(stored) = self.store.provider(scope, &name.id).await? else { return Ok(()) };
        let before = stored.provider.verification.clone();
        let age = before.last_verify_time.map(|last| self.clock.now().duration_since(last));
        // A time to come, from a clock that was wrong, does not count as recent.
        let recent = age.is_some_and(|age| !age.is_negative() && age < interval / 2);
        if stored.provider.uid != uid || (recent && before.surveyed) {
            return Ok(());
        }
        let provider = self.ask_again(scope, stored).await?;
        let change = provider.verification.change_since(&before);
        match provider.verification.status {
            _ if change.is_empty() => {}
            Status::Verified => tracing::info!(provider = %name, change, "a provider changed"),
            _ => tracing::warn!(provider = %name, change, "a provider changed"),
        }
        self.record_verification(scope, provider, change).await
    }
}

/// The ranges of uids whose slots lie after `from` and not after `to`, both ends inclusive: one range, or two
/// where the interval begins anew in between. Of more than an interval, all.
fn slots(interval: SignedDuration, from: Timestamp, to: Timestamp) -> Vec<(Uid, Uid)> {
    let length = interval.as_nanos();
    let (from, to) = (from.as_nanosecond(), to.as_nanosecond());
    if to <= from || length <= 0 {
        return Vec::new();
    }
    if to - from >= length {
        return vec![(uid(0), uid(u128::MAX))];
    }
    let (from, to) =
        (boundary(from.rem_euclid(length), length), boundary(to.rem_euclid(length), length));
    let range = |first: u128, end: u128| (end > first).then(|| (uid(first), uid(end - 1)));
    if from <= to {
        range(from, to).into_iter().collect()
    } else {
        let rest = Some((uid(from), uid(u128::MAX)));
        rest.into_iter().chain(range(0, to)).collect()
    }
}

/// The first uid of the slot that begins at `offset` of `length`, to 64 bits: finer has no meaning.
fn boundary(offset: i128, length: i128) -> u128 {
    let (offset, length) = (offset.unsigned_abs(), length.unsigned_abs());
    ((offset << 64) / length) << 64
}

fn uid(number: u128) -> Uid {
    Uid::from_bytes(number.to_be_bytes())
}

fn after(last: Uid) -> Option<Uid> {
    u128::from_be_bytes(*last.as_bytes()).checked_add(1).map(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn number(uid: Uid) -> u128 {
        u128::from_be_bytes(*uid.as_bytes())
    }

    #[test]
    fn an_interval_in_steps_covers_every_uid_once() {
        let hour = SignedDuration::from_hours(1);
        for step in [1, 7, 10, 60, 599, 3600] {
            let start = 1_790_000_123;
            let mut ranges = Vec::new();
            let mut from = start;
            while from < start + 3600 {
                let to = (from + step).min(start + 3600);
                ranges.extend(slots(hour, at(from), at(to)));
                from = to;
            }
            ranges.sort();
            assert_eq!(number(ranges.first().unwrap().0), 0, "{step}");
            assert_eq!(number(ranges.last().unwrap().1), u128::MAX, "{step}");
            for pair in ranges.windows(2) {
                assert_eq!(number(pair[0].1) + 1, number(pair[1].0), "{step}");
            }
        }
    }

    #[test]
    fn no_time_has_no_slots_and_a_long_time_has_all_of_them_once() {
        let hour = SignedDuration::from_hours(1);
        assert_eq!(slots(hour, at(5), at(5)), []);
        assert_eq!(slots(hour, at(5), at(4)), [], "a clock that was set back");
        assert_eq!(slots(hour, at(0), at(36_000)).len(), 1);
    }

    #[test]
    fn slots_are_as_wide_as_their_time() {
        let hour = SignedDuration::from_hours(1);
        let ranges = slots(hour, at(1800), at(1836));
        let width: u128 = ranges.iter().map(|(first, last)| number(*last) - number(*first)).sum();
        assert_eq!(u128::MAX / width, 100, "36 s are a hundredth of an hour");
    }
}
