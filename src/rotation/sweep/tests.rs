//! What sweeps promise, whatever the policies, the clocks and the order of events.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::policy::{Draft, Receiver};
use super::super::window::tests::{is_open, times, windows};
use super::*;
use crate::name::ResourceId;
use crate::versions::Versions;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const NIGHT: &str = "02:00";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policy(interval: SignedDuration, window: Option<Window>) -> RotationPolicy {
    let receiver = Some(Receiver::Key(ResourceId::parse("ops").unwrap()));
    let (overlap, require_confirmation) = (HOUR, false);
    RotationPolicy::parse(Draft { interval, window, overlap, receiver, require_confirmation })
        .unwrap()
}

fn nightly(interval: SignedDuration) -> RotationPolicy {
    policy(interval, Some(Window::parse(NIGHT, HOUR * 2, &[], "Europe/Berlin").unwrap()))
}

/// A schedule from before everything else.
fn long_since(policy: RotationPolicy) -> Schedule {
    Schedule { policy, since: at("2001-01-01T00:00Z") }
}

fn item(schedule: &Schedule, uid: u128, last: Timestamp) -> Item<'_> {
    let uid = Uid::from_bytes(uid.to_be_bytes());
    Item { uid, schedule, last, given_up: None, block: None }
}

/// As random as real ones, and the same each time.
fn uid(number: u64) -> u128 {
    let mixed = |seed: u64| {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (u128::from(mixed(number)) << 64) | u128::from(mixed(number + 1_000_000))
}

fn policies() -> impl Strategy<Value = RotationPolicy> {
    (1..24 * 400_i64, prop::option::of(windows()))
        .prop_map(|(hours, window)| policy(SignedDuration::from_hours(hours), window))
}

proptest! {
    #[test]
    fn what_is_due_lies_in_its_window_after_the_last_rotation(
        policy in policies(), uid in any::<u128>(), last in times(), age in 0..5_000_i64, gave_up in any::<bool>(),
    ) {
        let since = last - SignedDuration::from_hours(age);
        let schedule = Schedule { policy, since };
        let given_up = gave_up.then(|| last + HOUR);
        let item = Item { given_up, ..item(&schedule, uid, last) };
        let interval = schedule.policy.interval();
        let due = due_time(&item);
        prop_assert!(due >= last + interval - interval / 10);
        match schedule.policy.window() {
            Some(window) => prop_assert!(is_open(window, due), "{due}"),
            None if !gave_up => prop_assert!(due < last + interval),
            None => {}
        }
    }

    #[test]
    fn at_the_time_that_it_names_an_item_is_rotated_and_not_before_and_only_in_its_window(
        policy in policies(), uid in any::<u128>(), last in times(), late in 0..1_000_i64,
    ) {
        let schedule = long_since(policy);
        let item = item(&schedule, uid, last);
        // The vault was not there for a while.
        let mut now = due_time(&item) + SignedDuration::from_mins(late * late);
        let (mut asked, mut named) = (0, None);
        loop {
            let operation = decide(now, &item);
            prop_assert_eq!(operation, decide(now, &item));
            match operation.what {
                What::Rotate => break,
                What::Wait { until, why } => {
                    prop_assert!(until > now && why == Wait::Window);
                    let before = decide(until - SignedDuration::from_micros(1), &item);
                    prop_assert!(matches!(before.what, What::Wait { .. }), "{:?}", before);
                    (now, named) = (until, Some(until));
                }
                What::Blocked(_) => unreachable!(),
            }
            asked += 1;
            prop_assert!(asked < 3, "it is rotated when it said so");
        }
        prop_assert!(named.is_none_or(|named| named == now));
        if let Some(window) = schedule.policy.window() {
            prop_assert!(is_open(window, now), "{now}");
        }
    }

    #[test]
    fn a_sweep_at_the_same_time_again_does_nothing_more(
        policy in policies(), uids in prop::collection::vec(any::<u128>(), 1..60), last in times(), most in 1..20_usize,
        late in 0..3_000_i64,
    ) {
        let schedule = long_since(policy);
        let now = last + schedule.policy.interval() + SignedDuration::from_mins(late);
        let mut items: Vec<_> = uids.iter().map(|uid| item(&schedule, *uid, last)).collect();
        let mut rotated = 0;
        loop {
            let operations = sweep(now, &items, most);
            prop_assert_eq!(&operations, &sweep(now, &items, most));
            prop_assert!(operations.is_sorted_by_key(|operation| operation.due));
            let due: Vec<_> = operations.iter().filter(|it| it.what == What::Rotate).collect();
            prop_assert!(due.len() <= most);
            let waits = operations.iter().any(|it| matches!(it.what, What::Wait { why: Wait::Portion, .. }));
            prop_assert!(!waits || due.len() == most, "nothing waits while there is room");
            if due.is_empty() {
                break;
            }
            for operation in due {
                items[operation.item].last = now;
                rotated += 1;
            }
        }
        prop_assert!(rotated <= items.len(), "each once");
    }

    /// As the vault performs what a sweep says, with people who confirm, cancel and rotate in between.
    #[test]
    fn no_item_is_ever_without_an_active_version(
        hours in 1..50_i64, overlap in 0..40_i64, confirms in any::<bool>(), uid in any::<u128>(),
        events in prop::collection::vec((0..4_u8, 0..3_000_i64), 0..80),
    ) {
        let receiver = Some(Receiver::Key(ResourceId::parse("ops").unwrap()));
        let draft = Draft {
            interval: SignedDuration::from_hours(hours),
            window: None,
            overlap: SignedDuration::from_hours(overlap.min(hours).max(i64::from(!confirms))),
            receiver,
            require_confirmation: confirms,
        };
        let schedule = long_since(RotationPolicy::parse(draft).unwrap());
        let overlap = schedule.policy.overlap();
        let mut now = at("2026-01-01T00:00Z");
        let (mut active, mut versions, mut last) = (1, Versions::default(), now);
        let mut given_up = None;
        for (event, minutes) in events {
            now += SignedDuration::from_mins(minutes);
            versions = versions.at(now);
            let pending = versions.pending().copied();
            match (event, pending) {
                (0, Some(pending)) => {
                    let Ok(after) = versions.promoted().replacing(active, last, now, overlap) else { continue };
                    (versions, active, last, given_up) = (after, pending.number, now, None);
                }
                (1, Some(_)) => (versions, given_up) = (versions.cancelled(now), Some(now)),
                (2, None) => {
                    let next = versions.next_number(active);
                    let Ok(after) = versions.replacing(active, last, now, HOUR) else { continue };
                    (versions, active, last, given_up) = (after, next, now, None);
                }
                _ => {}
            }
            let full = versions.replacing(active, last, now, overlap).is_err();
            let pending = versions.pending().is_some();
            let block = if pending { Some(Block::InProgress) } else { full.then_some(Block::TooManyVersions) };
            let operations = sweep(now, &[Item { given_up, block, ..item(&schedule, uid, last) }], 1);
            if operations[0].what == What::Rotate {
                let (next, before) = (versions.next_number(active), active);
                if confirms {
                    versions = versions.with_pending(next, now);
                } else {
                    let after = versions.replacing(active, last, now, overlap);
                    (versions, active, last, given_up) = (after.unwrap(), next, now, None);
                }
                let works = |number| number == active || versions.iter().any(|it| it.number == number && it.verifies(now));
                prop_assert!(works(before) && works(next), "old and new work");
            }
            prop_assert!(versions.iter().all(|version| version.number != active));
            prop_assert!(versions.iter().filter(|version| version.verifies(now)).count() <= 8);
        }
    }
}

/// How many fall into the fullest of these steps.
fn fullest(times: impl Iterator<Item = Timestamp>, step: SignedDuration) -> usize {
    let mut count = BTreeMap::new();
    for time in times {
        *count.entry(time.as_second() / step.as_secs()).or_insert(0) += 1;
    }
    count.into_values().max().unwrap_or(0)
}

#[test]
fn ten_thousand_made_in_one_minute_do_not_fall_due_in_one() {
    const MINUTE: SignedDuration = SignedDuration::from_mins(1);
    let made = at("2026-05-01T12:00Z");
    let dues = |schedule: &Schedule| {
        let due = |number| due_time(&item(schedule, uid(number), made));
        (0..10_000).map(due).collect::<Vec<_>>()
    };
    // Nine days: 13 thousand minutes.
    let anytime = dues(&long_since(policy(DAY * 90, None)));
    assert!(fullest(anytime.iter().copied(), MINUTE) <= 8);
    assert!(fullest(anytime.iter().copied(), HOUR) <= 80);
    // Nine nights of two hours.
    let nightly = dues(&long_since(nightly(DAY * 90)));
    assert!(fullest(nightly.iter().copied(), DAY) <= 1_400);
    assert!(fullest(nightly.iter().copied(), MINUTE) <= 30);
    // One night in a week: all of them in it, over all of it.
    let window = Window::parse(NIGHT, HOUR * 2, &[jiff::civil::Weekday::Sunday], "Europe/Berlin");
    let weekly = dues(&long_since(policy(DAY * 7, Some(window.unwrap()))));
    assert!(fullest(weekly.iter().copied(), MINUTE) <= 130);
}

#[test]
fn ten_thousand_that_are_overdue_are_spread_over_the_next_window_and_never_rotated_at_once() {
    let (made, now) = (at("2026-01-01T12:00Z"), at("2026-06-01T12:00Z"));
    let schedule = long_since(nightly(DAY * 90));
    let items: Vec<_> = (0..10_000).map(|number| item(&schedule, uid(number), made)).collect();
    let until = |operation: &Operation| match operation.what {
        What::Wait { until, why: Wait::Window } => until,
        other => panic!("{other:?}"),
    };
    let planned: Vec<_> = sweep(now, &items, 200).iter().map(until).collect();
    let (first, last) = (planned.iter().min().unwrap(), planned.iter().max().unwrap());
    assert!(*first >= at("2026-06-02T00:00Z") && *last < at("2026-06-02T02:00Z"));
    let fullest = fullest(planned.iter().copied(), SignedDuration::from_mins(1));
    assert!(fullest <= 130, "{fullest}");

    // It comes back in the middle of the window, or there is none: as many as may at a time, those first that wait longest.
    for (now, schedule) in
        [(at("2026-06-02T01:30Z"), schedule.clone()), (now, long_since(policy(DAY * 90, None)))]
    {
        let items: Vec<_> = (0..10_000).map(|number| item(&schedule, uid(number), made)).collect();
        let operations = sweep(now, &items, 200);
        let rotated: Vec<_> = operations.iter().filter(|it| it.what == What::Rotate).collect();
        assert_eq!(rotated.len(), 200);
        let waits =
            operations.iter().filter(|it| matches!(it.what, What::Wait { why: Wait::Portion, .. }));
        assert!(waits.map(|it| it.due).min() >= rotated.iter().map(|it| it.due).max());
    }
}

#[test]
fn what_is_too_old_when_its_policy_is_set_is_rotated_within_a_tenth_of_the_interval() {
    let now = at("2026-05-01T12:00Z");
    let schedule = Schedule { policy: policy(DAY * 90, None), since: now };
    let due = |number| due_time(&item(&schedule, uid(number), at("2020-01-01T00:00Z")));
    let dues: Vec<_> = (0..1_000).map(due).collect();
    assert!(dues.iter().all(|due| now <= *due && *due < now + DAY * 9));
    assert!(fullest(dues.into_iter(), DAY) <= 150);
}

#[test]
fn what_somebody_gave_up_comes_again_after_a_tenth_of_the_interval() {
    let now = at("2026-05-01T12:00Z");
    let schedule = long_since(policy(DAY * 90, None));
    let item = Item { given_up: Some(now), ..item(&schedule, uid(7), at("2026-01-01T00:00Z")) };
    let due = due_time(&item);
    assert!(due >= now + DAY * 9 && due < now + DAY * 18, "{due}");
}

#[test]
fn what_is_blocked_is_not_rotated_and_says_why() {
    let schedule = long_since(policy(DAY * 90, None));
    let now = at("2026-05-01T12:00Z");
    for block in [Block::Disabled, Block::InProgress, Block::KeyRevoked, Block::TooManyVersions] {
        let blocked =
            Item { block: Some(block), ..item(&schedule, uid(1), at("2026-01-01T00:00Z")) };
        let operation = decide(now, &blocked);
        assert_eq!((operation.what, operation.time()), (What::Blocked(block), operation.due));
        let free = item(&schedule, uid(2), at("2026-01-01T00:00Z"));
        let operations = sweep(now, &[blocked, free], 1);
        let rotated: Vec<_> = operations.iter().filter(|it| it.what == What::Rotate).collect();
        assert!(rotated.len() == 1 && rotated[0].item == 1, "it holds up nobody");
        assert!(!block.to_string().is_empty());
    }
}
