//! What is to be rotated now, and why: a pure function of the time, the policies and what is known of the items.
//!
//! - An item is due when its interval is nearly over: up to a tenth of it earlier, by an amount that its uid decides. So
//!   what was made in one minute does not fall due in one minute, and nothing without a window is later than its interval.
//! - A policy that was set when its item was older already, and a rotation that somebody gave up, do not make it due at
//!   once, but within a tenth of the interval, or after another one.
//! - With a window it is due in the first opening from then on; if that has to come first, at a moment of it that its
//!   uid decides.
//! - What was not done in its opening, because the vault was not there, is done in a later one, spread in the same way.
//! - As many at a time as the caller says, the longest overdue first.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::policy::{RotationPolicy, Schedule};
use super::window::{Opening, Window};
use crate::defect::{Defect, planted};
use crate::name::Uid;

/// Something that is rotated on a schedule, whatever it is.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// Its identity. Random, so that moments that are taken from it are spread.
    pub uid: Uid,
    /// Its schedule.
    pub schedule: &'a Schedule,
    /// When its active secret was set.
    pub last: Timestamp,
    /// When somebody gave up a rotation of it, if that was after `last`.
    pub given_up: Option<Timestamp>,
    /// What is in the way of a rotation.
    pub block: Option<Block>,
}

/// What is in the way of a rotation until somebody does something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// It is disabled.
    Disabled,
    /// A rotation waits for its confirmation.
    InProgress,
    /// The recipient key is revoked.
    KeyRevoked,
    /// As many old versions verify as may.
    TooManyVersions,
}

/// What happens to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is rotated now.
    Rotate,
    /// It is rotated then, if nothing changes.
    Wait {
        /// When.
        until: Timestamp,
        /// Why not now.
        why: Wait,
    },
    /// It is not rotated.
    Blocked(Block),
}

/// Why an item is not rotated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It is not due.
    NotDue,
    /// It is overdue, and its window is closed or its moment of it has not come.
    Window,
    /// It is due, and as many as may are rotated already.
    Portion,
}

/// What happens to an item, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Which of the items.
    pub item: usize,
    /// When it is or was due.
    pub due: Timestamp,
    /// What happens.
    pub what: What,
}

impl Operation {
    /// When it is rotated, or would be if nothing were in the way.
    pub fn time(&self) -> Timestamp {
        match self.what {
            What::Wait { until, .. } => until,
            What::Rotate | What::Blocked(_) => self.due,
        }
    }
}

/// Decides what happens to each item at `now`: the one that was due first comes first, and at most `most` are rotated.
pub fn sweep(now: Timestamp, items: &[Item<'_>], most: usize) -> Vec<Operation> {
    let decide = |(item, it)| Operation { item, ..decide(now, it) };
    let mut operations: Vec<_> = items.iter().enumerate().map(decide).collect();
    let uid = |operation: &Operation| items.get(operation.item).map(|item| item.uid);
    operations.sort_by_key(|operation| (operation.due, uid(operation)));
    let due = operations.iter_mut().filter(|operation| operation.what == What::Rotate);
    for surplus in due.skip(most) {
        surplus.what = What::Wait { until: now, why: Wait::Portion };
    }
    operations
}

/// Decides what happens to an item at `now`, if it were the only one.
pub fn decide(now: Timestamp, item: &Item<'_>) -> Operation {
    let due = due_time(item);
    let operation = |what| Operation { item: 0, due, what };
    if let Some(block) = item.block {
        return operation(What::Blocked(block));
    }
    if now < due {
        return operation(What::Wait { until: due, why: Wait::NotDue });
    }
    let policy = &item.schedule.policy;
    let Some(window) = window_of(policy) else { return operation(What::Rotate) };
    let Some(opening) = window.open_at_or_after(now) else {
        return operation(What::Wait { until: Timestamp::MAX, why: Wait::Window });
    };
    // Due in this very opening: it has its moment already. Otherwise it has one of its own in each.
    let moment = if due >= opening.start { due } else { moment_of(item, opening) };
    if now >= moment {
        operation(What::Rotate)
    } else {
        operation(What::Wait { until: moment, why: Wait::Window })
    }
}

/// When an item is due: at some moment after its last rotation that lies in its window.
pub fn due_time(item: &Item<'_>) -> Timestamp {
    let Schedule { policy, since } = item.schedule;
    let interval = policy.interval();
    let (tenth, spread) = (interval / 10, share(spread_of(item.uid).0, interval / 10));
    let after = |time: Timestamp, length: SignedDuration| {
        time.saturating_add(length + spread).unwrap_or(Timestamp::MAX)
    };
    let by_interval = after(item.last, interval - tenth);
    let by_policy = after(*since, SignedDuration::ZERO);
    let by_hand = item.given_up.map(|time| after(time, tenth));
    let earliest = by_interval.max(by_policy).max(by_hand.unwrap_or(Timestamp::MIN));
    // The store keeps microseconds; down, so that it stays within its opening.
    let earliest = Timestamp::from_microsecond(earliest.as_microsecond()).unwrap_or(earliest);
    let Some(window) = window_of(policy) else { return earliest };
    match window.open_at_or_after(earliest) {
        None => Timestamp::MAX,
        Some(opening) if opening.start <= earliest => earliest,
        Some(opening) => moment_of(item, opening),
    }
}

/// An item's own moment of an opening. All of them fill it, up to a tenth of their interval, and leave a tenth of it to
/// those that do not get their turn at their moment.
fn moment_of(item: &Item<'_>, opening: Opening) -> Timestamp {
    let length = opening.end.duration_since(opening.start);
    let length = (length / 10 * 9).min(item.schedule.policy.interval() / 10);
    let moment = opening.start.saturating_add(share(spread_of(item.uid).1, length));
    let moment = moment.unwrap_or(Timestamp::MAX);
    Timestamp::from_microsecond(moment.as_microsecond()).unwrap_or(moment)
}

/// Two numbers from a uid, which have nothing to do with each other.
fn spread_of(uid: Uid) -> (u64, u64) {
    let [first @ .., _, _, _, _, _, _, _, _] = *uid.as_bytes();
    let [_, _, _, _, _, _, _, _, second @ ..] = *uid.as_bytes();
    (u64::from_be_bytes(first), u64::from_be_bytes(second))
}

/// As much of a length as a number is of all numbers; never all of it.
fn share(number: u64, length: SignedDuration) -> SignedDuration {
    // A tenth of the longest interval is far below 64 bits.
    let share = (length.as_millis().unsigned_abs() * u128::from(number)) >> 64;
    SignedDuration::from_millis(i64::try_from(share).unwrap_or(i64::MAX))
}

fn window_of(policy: &RotationPolicy) -> Option<&Window> {
    policy.window().filter(|_| !planted(Defect::IgnoreWindow))
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "it is disabled",
            Self::InProgress => "a rotation waits for its confirmation",
            Self::KeyRevoked => "its recipient key is revoked",
            Self::TooManyVersions => "eight old versions still verify",
        })
    }
}

#[cfg(test)]
mod tests;
