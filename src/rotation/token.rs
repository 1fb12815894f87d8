//! How a token is rotated at a carrier that lets two be valid for a while: stages, each with one kind of call.
//!
//! ```text
//! Make ──> Verify ──> Hold ──> Finish ──> Probe ──> SUCCEEDED
//!  │ ^                                       the old one is dead
//!  │ └─ Discard <── asked again: nobody reads back a token whose answer was lost
//!  └── objected: CANCELLED
//! Make … Finish, while the old one is surely alive ── given up: GiveUp ──> CANCELLED
//! ```
//!
//! The old token is the active one until Finish is done. So whatever is lost before costs nothing, and afterwards the new
//! one is known, stored and tried.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Outcome, Rotation, State, StepKind, Task};

/// How long Twilio takes to spread a new token (twilio.com/docs/iam/api/authtoken).
const SPREAD: SignedDuration = SignedDuration::from_mins(1);

/// How long a token that has ended is kept, to see that it stays dead.
pub const OLD_TOKEN_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// The reason of a probe that the carrier still took.
pub const OLD_TOKEN_WORKS: &str = "OLD_TOKEN_WORKS";

/// The reason of a probe that was not made: the token is not kept any more.
const TOKEN_REPLACED: &str = "TOKEN_REPLACED";

/// What comes next of a token's rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The carrier makes the new one.
    Make,
    /// What an earlier call may have made is removed.
    Discard,
    /// The new one is tried.
    Verify,
    /// Both are valid for a while. There is no call to make.
    Hold,
    /// The carrier ends the old one.
    Finish,
    /// The old one is tried.
    Probe,
    /// The new one is removed, since somebody gave it up.
    GiveUp,
}

impl Stage {
    /// Whether its call only reads: whatever becomes of that, nothing has changed.
    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Verify | Self::Probe)
    }

    /// What its call is.
    pub(super) fn step(self) -> StepKind {
        match self {
            Self::Make => StepKind::Apply,
            Self::Discard | Self::GiveUp => StepKind::Discard,
            Self::Verify => StepKind::Verify,
            Self::Hold | Self::Finish => StepKind::Finish,
            Self::Probe => StepKind::Probe,
        }
    }

    /// What a person should know and do once it does not go on.
    pub(super) fn advice(self, unsure: bool) -> &'static str {
        match self {
            Self::Make | Self::Discard => {
                "the carrier does not make a new token, and the old one stays the active one: the vault goes on asking; \
                 see whether the carrier is up and takes the old one (VerifyProvider), or cancel"
            }
            Self::Verify => {
                "the new token does not work yet, and the old one stays the active one: the vault goes on trying; see \
                 whether the carrier is up, or cancel"
            }
            Self::Hold | Self::Finish if unsure => {
                "the old token may have ended, and no answer says so: the vault goes on asking and keeps both; see \
                 whether the carrier is up. If it takes neither, make a token in its console, promote it there, and send it \
                 with UpdateToken"
            }
            Self::Hold | Self::Finish => {
                "the carrier does not let the new token take the place of the old one, which stays the active one: \
                 somebody may have removed the new one there. Cancel and rotate again, or send another with UpdateToken"
            }
            Self::Probe => {
                "the new token is the active one, and the old one still works: the vault goes on trying it; end it in \
                 the carrier's console if it must not"
            }
            Self::GiveUp => {
                "the new token is not removed at the carrier yet, and the old one stays the active one: the vault goes \
                 on asking; see whether the carrier is up and takes the old one (VerifyProvider)"
            }
        }
    }
}

impl Task {
    /// With the call that begins now: what comes after a hold, and what must go before another token is made.
    pub(super) fn asked(self, unsure: bool) -> Self {
        let Self::Token { stage, hold, replaces } = self else { return self };
        let stage = match stage {
            Stage::Make if unsure => Stage::Discard,
            Stage::Hold => Stage::Finish,
            other => other,
        };
        Self::Token { stage, hold, replaces }
    }
}

impl Rotation {
    /// What comes next, if it is a token's.
    pub fn stage(&self) -> Option<Stage> {
        match self.work.as_ref()?.task {
            Task::Token { stage, .. } => Some(stage),
            Task::Password { .. } => None,
        }
    }

    /// After the call of its stage did what it should.
    #[must_use]
    pub fn stage_done(&self, now: Timestamp) -> Self {
        self.stage_ended(Outcome::Done, "", now)
    }

    /// After there was no old token left to try: somebody has sent another one since.
    #[must_use]
    pub fn unprobed(&self, now: Timestamp) -> Self {
        Self { delivery: None, ..self.stage_ended(Outcome::NotDone, TOKEN_REPLACED, now) }
    }

    /// What was given up once it turns out to have taken the old one's place all the same.
    #[must_use]
    pub fn in_force_after_all(&self, now: Timestamp) -> Self {
        let mut finished = self.clone();
        if let Some(Task::Token { stage, .. }) = finished.work.as_mut().map(|work| &mut work.task) {
            *stage = Stage::Finish;
        }
        finished.stage_done(now)
    }

    fn stage_ended(&self, outcome: Outcome, reason: &str, now: Timestamp) -> Self {
        let mut next = self.with_step(outcome, reason, now);
        let is_confirmed = next.confirm_time.is_some();
        let Some(work) = &mut next.work else { return next };
        let Task::Token { stage, hold, .. } = &mut work.task else { return next };
        let (done, hold) = (*stage, (*hold).max(SPREAD));
        let (after, state) = match done {
            // A person who was told of it is not told again and again.
            Stage::Discard => (Stage::Make, self.state),
            Stage::Make => (Stage::Verify, State::Verifying),
            Stage::Verify => (Stage::Hold, State::Holding),
            Stage::Hold | Stage::Finish => (Stage::Probe, State::Finishing),
            Stage::Probe => (done, State::Succeeded),
            Stage::GiveUp => (done, State::Cancelled),
        };
        *stage = after;
        let holds = after == Stage::Hold && !is_confirmed;
        work.next_time = if holds { now.saturating_add(hold).unwrap_or(now) } else { now };
        work.unsure = false;
        work.end_call();
        // A carrier that removes what it never says it made is not asked ever faster.
        if done != Stage::Discard {
            (work.attempts, work.first_time) = (0, None);
        }
        next.moved(state, now)
    }

    /// After somebody gave it up, or nobody can have it: at once if the carrier has made nothing, else once it has removed
    /// that. None: the old token may have ended, or a call is under way.
    pub fn given_up(&self, now: Timestamp, message: &str) -> Option<Self> {
        let work = self.work.as_ref().filter(|work| work.lease_end.is_none())?;
        match self.stage()? {
            Stage::Make if !work.unsure => return Some(self.cancelled(now)),
            Stage::Finish if work.unsure => return None,
            Stage::Probe | Stage::GiveUp => return None,
            _ => {}
        }
        let mut next = self.after(StepKind::Cancel, State::Cancelling, now, message);
        next.delivery = None;
        if let Some(work) = &mut next.work {
            if let Task::Token { stage, .. } = &mut work.task {
                *stage = Stage::GiveUp;
            }
            (work.attempts, work.first_time, work.next_time) = (0, None, now);
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests;
