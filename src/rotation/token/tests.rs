//! Rotations of tokens, whatever happens there.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::name::{ResourceId, Uid};
use crate::provider::{Objection, Refusal};
use crate::rotation::{Parent, RotationName, Unanswered, Work};

const MINE: (Uid, bool) = (Uid::from_bytes([1; 16]), false);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_777_636_800 + seconds).unwrap()
}

fn begun(hold: SignedDuration, require_confirmation: bool) -> Rotation {
    let parent = Parent::parse("accounts/acme/providers/main").unwrap();
    Rotation {
        name: RotationName { parent, id: ResourceId::made_at(at(0), [7; 10]) },
        resource: Uid::from_bytes([3; 16]),
        version: 2,
        revision: 1,
        state: State::Pending,
        overlap: SignedDuration::ZERO,
        require_confirmation,
        delivery: None,
        steps: Vec::new(),
        create_time: at(0),
        update_time: at(0),
        end_time: None,
        confirm_time: None,
        work: Some(Work::new(Task::Token { stage: Stage::Make, hold, replaces: 1 }, None, at(0))),
    }
}

/// What a call of this rotation is about, begun at its time, and when that is.
fn asked(rotation: &Rotation) -> (Rotation, Stage, Timestamp) {
    let due = rotation.work_time().unwrap();
    let asking = rotation.asking(MINE, due).unwrap();
    let stage = asking.stage().unwrap();
    (asking, stage, due)
}

fn done(rotation: &Rotation, stage: Stage) -> Rotation {
    let (asking, asked, now) = asked(rotation);
    assert_eq!(asked, stage);
    asking.stage_done(now)
}

fn unsure(rotation: &Rotation) -> bool {
    rotation.work.as_ref().is_some_and(|work| work.unsure)
}

#[test]
fn a_token_is_made_tried_held_for_a_minute_at_least_and_takes_the_place_of_the_old_one() {
    for (hold, waits) in [(SignedDuration::ZERO, 60), (SignedDuration::from_hours(2), 7200)] {
        let made = done(&begun(hold, false), Stage::Make);
        assert_eq!((made.state, made.work_time()), (State::Verifying, Some(at(0))));
        let held = done(&made, Stage::Verify);
        assert_eq!((held.state, held.work_time()), (State::Holding, Some(at(waits))));
        assert_eq!(held.asking(MINE, at(waits - 1)), None);
        let finished = done(&held, Stage::Finish);
        assert_eq!(finished.state, State::Finishing);
        let ended = done(&finished, Stage::Probe);
        assert_eq!((ended.state, ended.work_time()), (State::Succeeded, None));
        let kinds: Vec<_> = ended.steps.iter().map(|step| step.kind).collect();
        let all = [StepKind::Apply, StepKind::Verify, StepKind::Finish, StepKind::Probe];
        assert_eq!(kinds, all);
    }
}

#[test]
fn a_confirmation_ends_the_hold_and_one_that_is_required_has_no_other_end() {
    let held = |confirm| {
        let made = done(&begun(SignedDuration::from_hours(2), confirm), Stage::Make);
        done(&made, Stage::Verify)
    };
    let early = held(false).confirmed(at(5));
    assert_eq!(done(&early, Stage::Finish).state, State::Finishing);
    let waits = held(true);
    assert!(waits.awaits_confirmation() && waits.work_time().is_none());
    assert_eq!(done(&waits.confirmed(at(9_999)), Stage::Finish).state, State::Finishing);
    // Whoever confirms before the vault has tried the token itself is not waited for again.
    let made = done(&begun(SignedDuration::from_hours(2), true), Stage::Make);
    assert!(!made.awaits_confirmation() && made.needs_proof());
    let tried = done(&made.confirmed(at(1)), Stage::Verify);
    assert_eq!(tried.work_time(), Some(at(0)));
}

#[test]
fn what_an_answer_was_lost_of_is_removed_before_another_is_made() {
    let (asking, ..) = asked(&begun(SignedDuration::ZERO, false));
    let lost = asking.unanswered(Unanswered::Unknown, "UPSTREAM_TIMEOUT", None, at(0));
    assert!(unsure(&lost));
    let removed = done(&lost, Stage::Discard);
    assert!(!unsure(&removed));
    assert_eq!(done(&removed, Stage::Make).state, State::Verifying);
    // A call that nobody ended is a lost one.
    let again = asking.asking(MINE, at(30)).unwrap();
    assert_eq!(again.stage(), Some(Stage::Discard));
}

#[test]
fn a_carrier_that_never_tells_what_it_makes_is_asked_ever_more_rarely_and_a_person_is_told() {
    let mut rotation = begun(SignedDuration::ZERO, false);
    let mut calls = 0;
    while rotation.work_time().unwrap() < at(3_600) {
        let (asking, stage, now) = asked(&rotation);
        rotation = match stage {
            Stage::Discard => asking.stage_done(now),
            _ => asking.unanswered(Unanswered::Unknown, "UPSTREAM_TIMEOUT", None, now),
        };
        calls += 1;
    }
    assert!(calls < 45, "{calls}");
    assert!(rotation.steps.iter().any(|step| step.kind == StepKind::Wait));
}

#[test]
fn a_no_ends_it_only_before_there_is_a_token() {
    let no = Objection::Token(Refusal::RejectedToken);
    let (asking, _, now) = asked(&begun(SignedDuration::ZERO, false));
    assert_eq!(asking.objected(no, "X", now).state, State::Cancelled);
    let made = done(&begun(SignedDuration::ZERO, false), Stage::Make);
    let held = done(&made, Stage::Verify);
    let (asking, _, now) = asked(&held);
    let refused = asking.objected(no, "X", now);
    assert_eq!(refused.state, State::NeedsAttention);
    assert!(refused.given_up(now, "").is_some(), "the old one is surely alive");
    let lost = asking.unanswered(Unanswered::Unknown, "X", None, now);
    assert!(lost.given_up(now, "").is_none(), "the old one may be dead");
    let (asking, _, now) = asked(&lost);
    let alive = asking.unanswered(Unanswered::NeverDone, "X", None, now);
    assert!(alive.given_up(now, "").is_some());
}

#[test]
fn what_is_given_up_is_removed_at_the_carrier_first() {
    let given_up = begun(SignedDuration::ZERO, false).given_up(at(1), "").unwrap();
    assert_eq!(given_up.state, State::Cancelled, "there is nothing to remove");
    let made = done(&begun(SignedDuration::ZERO, false), Stage::Make);
    let given_up = made.given_up(at(1), "").unwrap();
    assert_eq!(given_up.state, State::Cancelling);
    assert_eq!(done(&given_up, Stage::GiveUp).state, State::Cancelled);
    let (asking, ..) = asked(&made);
    assert_eq!(asking.given_up(at(1), ""), None, "its answer says what there is");
}

/// What may become of a call.
#[derive(Debug, Clone, Copy)]
enum End {
    Done,
    NotDone,
    LostBefore,
    LostAfter,
    Crash { after: bool },
}

/// What the carrier has, as far as this rotation is concerned.
#[derive(Debug, Default)]
struct Carrier {
    /// Numbers of the tokens that it takes beside the old one: never more than one.
    second: Option<u32>,
    made: u32,
    old_is_dead: bool,
}

fn ends() -> impl Strategy<Value = Vec<End>> {
    let end = prop_oneof![
        4 => Just(End::Done),
        1 => Just(End::NotDone),
        1 => Just(End::LostBefore),
        1 => Just(End::LostAfter),
        1 => any::<bool>().prop_map(|after| End::Crash { after }),
    ];
    vec(end, 0..40)
}

proptest! {
    /// Whatever is lost: at each moment the carrier takes a token that the vault has.
    #[test]
    fn the_vault_always_holds_a_token_that_the_carrier_takes(ends in ends(), cancel in 0_usize..60) {
        let mut carrier = Carrier::default();
        let mut rotation = begun(SignedDuration::ZERO, false);
        let mut held: Option<u32> = None;
        let rest = std::iter::repeat_n(End::Done, 30);
        for (turn, end) in ends.into_iter().chain(rest).enumerate() {
            let Some(now) = rotation.work_time() else { break };
            if turn == cancel && let Some(next) = rotation.given_up(now, "") {
                rotation = next;
                continue;
            }
            let asking = rotation.asking(MINE, now).unwrap();
            let stage = asking.stage().unwrap();
            let has_effect = !matches!(end, End::NotDone | End::LostBefore | End::Crash { after: false });
            let mut told = None;
            if has_effect {
                match stage {
                    Stage::Make => {
                        carrier.made += 1;
                        carrier.second = Some(carrier.made);
                        told = carrier.second;
                    }
                    Stage::Discard | Stage::GiveUp => carrier.second = None,
                    Stage::Finish => {
                        prop_assert!(held.is_some() && (held == carrier.second));
                        carrier.old_is_dead = true;
                    }
                    Stage::Verify => prop_assert_eq!(held, carrier.second),
                    Stage::Probe => prop_assert!(carrier.old_is_dead),
                    Stage::Hold => prop_assert!(false, "a hold has no call"),
                }
            }
            let lost = |how| asking.unanswered(how, "X", None, now);
            let read = matches!(stage, Stage::Verify | Stage::Probe);
            rotation = match end {
                End::Done => {
                    if stage == Stage::Make {
                        held = told;
                    }
                    asking.stage_done(now)
                }
                End::NotDone => lost(Unanswered::NotDone),
                End::LostBefore | End::LostAfter if read => lost(Unanswered::NotDone),
                End::LostBefore | End::LostAfter => lost(Unanswered::Unknown),
                End::Crash { .. } => asking,
            };
            prop_assert!(!carrier.old_is_dead || (held.is_some() && held == carrier.second));
        }
        prop_assert!(rotation.state.is_final(), "{:?}", rotation.state);
        prop_assert_eq!(rotation.state == State::Succeeded, carrier.old_is_dead);
        prop_assert_eq!(carrier.second.is_some(), carrier.old_is_dead, "nothing is left behind");
    }
}
