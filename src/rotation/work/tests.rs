//! Rotations at a carrier, whatever happens there.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::name::ResourceId;
use crate::provider::Refusal;
use crate::rotation::{Parent, RotationName};

const MINE: (Uid, bool) = (Uid::from_bytes([1; 16]), false);
const OTHERS: Uid = Uid::from_bytes([2; 16]);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_777_636_800 + seconds).unwrap()
}

fn begun(chooser: Chooser, require_confirmation: bool) -> Rotation {
    let parent = Parent::parse("accounts/acme/credentials/desk").unwrap();
    Rotation {
        name: RotationName { parent, id: ResourceId::made_at(at(0), [7; 10]) },
        resource: Uid::from_bytes([3; 16]),
        version: 2,
        revision: 1,
        state: if require_confirmation { State::Holding } else { State::Pending },
        overlap: SignedDuration::ZERO,
        require_confirmation,
        delivery: None,
        steps: Vec::new(),
        create_time: at(0),
        update_time: at(0),
        end_time: None,
        confirm_time: None,
        work: Some(Work::password(chooser, Some(Recipient::Caller), at(0))),
    }
}

fn unsure(rotation: &Rotation) -> bool {
    rotation.work.as_ref().is_some_and(|work| work.unsure)
}

#[test]
fn a_call_is_nobody_elses_until_its_time_is_over_and_then_its_end_is_unknown() {
    let asking = begun(Chooser::Vault, false).asking(MINE, at(0)).unwrap();
    assert_eq!((asking.state, unsure(&asking)), (State::Applying, false));
    assert_eq!(asking.work_time(), Some(at(30)));
    assert_eq!(asking.asking(MINE, at(29)), None);
    let again = asking.asking(MINE, at(30)).unwrap();
    assert!(unsure(&again), "the call may have been made");
    let step = again.steps.last().unwrap();
    assert_eq!((step.outcome, step.reason.as_str()), (Outcome::Unknown, INTERRUPTED));
    // Whoever is alone with the store knows that the other process has ended.
    assert_eq!(asking.asking((OTHERS, false), at(1)), None);
    assert!(asking.asking((OTHERS, true), at(1)).is_some_and(|it| unsure(&it)));
    assert_eq!(asking.asking((MINE.0, true), at(1)), None);
}

#[test]
fn what_waits_for_a_confirmation_is_not_asked_for() {
    let held = begun(Chooser::Vault, true);
    assert_eq!((held.work_time(), held.asking(MINE, at(999))), (None, None));
    let confirmed = held.confirmed(at(5));
    assert_eq!((confirmed.state, confirmed.work_time()), (State::Pending, Some(at(5))));
    assert_eq!(confirmed.confirmed(at(6)).state, State::Pending, "a second time changes nothing");
}

#[test]
fn a_no_ends_it_only_if_surely_nothing_was_done() {
    let no = Objection::Token(Refusal::RejectedToken);
    let asking = begun(Chooser::Vault, false).asking(MINE, at(0)).unwrap();
    let refused = asking.objected(no, "UPSTREAM_REJECTED_TOKEN", at(1));
    assert_eq!(refused.state, State::Cancelled);
    assert_eq!(refused.work.as_ref().unwrap().objection, Some(no));
    assert_eq!(refused.work_time(), None);

    let lost = asking.unanswered(Unanswered::Unknown, "UPSTREAM_TIMEOUT", None, at(1));
    let asking = lost.asking(MINE, at(10)).unwrap();
    let refused = asking.objected(no, "UPSTREAM_REJECTED_TOKEN", at(11));
    assert_eq!(refused.state, State::NeedsAttention);
    assert!(refused.steps.last().unwrap().message.contains("refuses"));
    assert!(refused.work_time().is_some(), "it goes on all the same");
    let done = refused.asking(MINE, at(999)).unwrap().applied(at(999));
    assert_eq!((done.state, unsure(&done)), (State::Succeeded, false));
}

#[test]
fn a_password_that_the_carrier_never_takes_ends_it_though_an_answer_was_lost() {
    let asking = begun(Chooser::Vault, false).asking(MINE, at(0)).unwrap();
    let lost = asking.unanswered(Unanswered::Unknown, "UPSTREAM_ERROR", None, at(1));
    let asking = lost.asking(MINE, at(10)).unwrap();
    let refused = asking.objected(Objection::Password, "UPSTREAM_REJECTED_PASSWORD", at(11));
    assert_eq!((refused.state, unsure(&refused)), (State::Cancelled, false));
}

#[test]
fn a_carrier_that_wants_to_be_left_alone_is() {
    let asking = begun(Chooser::Vault, false).asking(MINE, at(0)).unwrap();
    let rest = |seconds| Some(SignedDuration::from_secs(seconds));
    let limited =
        |rest| asking.unanswered(Unanswered::NotDone, "UPSTREAM_RATE_LIMITED", rest, at(0));
    assert_eq!(limited(rest(60)).work_time(), Some(at(60)));
    assert_eq!(limited(rest(99_999)).work_time(), Some(at(300)), "not for ever");
}

#[test]
fn pauses_double_to_five_minutes_and_a_person_is_told_once_after_fifteen() {
    let mut rotation = begun(Chooser::Carrier, false);
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..40 {
        rotation = rotation.asking(MINE, now).unwrap();
        rotation = rotation.unanswered(Unanswered::NotDone, "UPSTREAM_UNREACHABLE", None, now);
        let next = rotation.work_time().unwrap();
        pauses.push(next.duration_since(now).as_secs_f64());
        let long = now.duration_since(at(0)) >= PATIENCE;
        assert_eq!(rotation.state == State::NeedsAttention, long);
        now = next;
    }
    for (expected, pause) in [1.0, 2.0, 4.0, 8.0].iter().zip(&pauses) {
        assert!((0.75..1.25).contains(&(pause / expected)), "{pause} s");
    }
    assert!(pauses.iter().all(|pause| *pause < 375.0), "{pauses:?}");
    assert!(rotation.steps.len() <= MOST_STEPS);
    let told = rotation.steps.iter().filter(|step| step.kind == StepKind::Wait);
    assert!(told.count() <= 1);
    assert!(!unsure(&rotation), "it can be cancelled");
}

/// What can happen at a carrier to a call.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Done,
    DoneAndLost,
    LostBefore,
    NotSent,
    Refused,
    /// The process ends, with the call done or not.
    Stopped(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        Just(Happens::Done),
        Just(Happens::DoneAndLost),
        Just(Happens::LostBefore),
        Just(Happens::NotSent),
        Just(Happens::Refused),
        any::<bool>().prop_map(Happens::Stopped),
    ]
}

proptest! {
    /// Whatever happens, the vault never gives up a password that may be the only one that the carrier takes.
    #[test]
    fn no_sequence_of_ends_strands_a_password(all in vec(happens(), 1..60), by_carrier: bool) {
        let chooser = if by_carrier { Chooser::Carrier } else { Chooser::Vault };
        let mut rotation = begun(chooser, false);
        let (mut now, mut changed) = (at(0), false);
        for what in all {
            let Some(due) = rotation.work_time() else { break };
            now = now.max(due);
            let asking = rotation.asking(MINE, now).unwrap();
            prop_assert!(asking.revision > rotation.revision);
            rotation = match what {
                Happens::Done => asking.applied(now),
                Happens::DoneAndLost => {
                    changed = true;
                    asking.unanswered(Unanswered::Unknown, "UPSTREAM_TIMEOUT", None, now)
                }
                Happens::LostBefore => {
                    asking.unanswered(Unanswered::Unknown, "UPSTREAM_TIMEOUT", None, now)
                }
                Happens::NotSent => {
                    asking.unanswered(Unanswered::NotDone, "UPSTREAM_UNREACHABLE", None, now)
                }
                Happens::Refused => {
                    asking.objected(Objection::NotFound, "UPSTREAM_CREDENTIAL_NOT_FOUND", now)
                }
                Happens::Stopped(done) => {
                    changed |= done;
                    asking
                }
            };
            let given_up = rotation.state == State::Cancelled;
            prop_assert!(!(given_up && changed), "given up, though the carrier has it");
            let may_be_cancelled = rotation.work.as_ref().is_some_and(Work::has_done_nothing);
            prop_assert!(!(may_be_cancelled && changed && !rotation.state.is_final()));
            prop_assert!(rotation.steps.len() <= MOST_STEPS + 2);
        }
        if !rotation.state.is_final() {
            let due = rotation.work_time();
            prop_assert!(due.is_some_and(|due| due.duration_since(now) <= LONGEST_PAUSE * 5 / 4));
        }
    }
}
