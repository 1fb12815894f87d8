//! What a rotation does at a carrier: the journal of its calls, and what follows from each answer.
//!
//! A call is written down before it is made. So whatever is lost, the vault knows afterwards that the carrier may have
//! done it, and asks again until it knows that it has. All of it is pure: state and time in, the next state out.
//!
//! ```text
//! PENDING ── asking ──> APPLYING ── applied ──────────────────────────> SUCCEEDED
//!    ^                    │  ^  └── objected, and sure that nothing was done ──> CANCELLED
//!    │ confirmed          │  └──── unanswered: again after a pause
//! HOLDING                 └────── objected or unanswered for long ──> NEEDS_ATTENTION, which goes on asking
//! ```

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::token::Stage;
use super::{Outcome, Rotation, State, Step, StepKind};
use crate::credential::Chooser;
use crate::name::Uid;
use crate::provider::Objection;
use crate::recipient::{PublicKey, Recipient};

/// For how long whoever makes a call has it for himself: longer than any call may take, with its wait for a place.
pub const LEASE: SignedDuration = SignedDuration::from_secs(30);

/// How long a carrier may leave a rotation unanswered before a person is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(15);

/// The longest pause between two calls.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// How many steps are remembered: the first ones, and the last.
const MOST_STEPS: usize = 24;
const FIRST_STEPS: usize = 8;

/// The reason of a call whose end nobody saw: the process that made it was stopped.
pub const INTERRUPTED: &str = "INTERRUPTED";

/// What is to be done at a carrier, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What is to be done.
    #[serde(flatten)]
    pub task: Task,
    /// To whom the new secret goes, if to anybody.
    pub recipient: Option<Recipient>,
    /// For whom it is sealed once the carrier has said it.
    pub seal_for: Option<SealFor>,
    /// How many calls have begun.
    pub attempts: u32,
    /// Whether a call may have changed the password there though no answer said so.
    pub unsure: bool,
    /// Until when the call under way is awaited. None: there is none.
    pub lease_end: Option<Timestamp>,
    /// Which process makes that call.
    pub holder: Option<Uid>,
    /// When the first call began.
    pub first_time: Option<Timestamp>,
    /// No call begins before then.
    pub next_time: Timestamp,
    /// Why the carrier said no, if that ended it.
    pub objection: Option<Objection>,
}

/// What is to be done at a carrier. Stored by its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Task {
    /// Have a new token take the place of the old one.
    Token {
        /// What comes next.
        stage: Stage,
        /// How long both are valid at least.
        hold: SignedDuration,
        /// The version of the old one.
        replaces: u64,
    },
    /// Have a password replaced.
    Password {
        /// Who chooses the new one.
        chooser: Chooser,
        /// Whether its caller, who gets it in plaintext, has not got it yet.
        owed: bool,
    },
}

/// Whom a secret is sealed for that is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealFor {
    /// The key.
    pub key: PublicKey,
    /// The request that it answers; empty if that had none.
    pub request_id: String,
}

impl Work {
    /// A password to be replaced, which may begin at once.
    pub fn password(chooser: Chooser, recipient: Option<Recipient>, now: Timestamp) -> Self {
        let owed = recipient == Some(Recipient::Caller);
        Self::new(Task::Password { chooser, owed }, recipient, now)
    }

    /// Work that may begin at once.
    pub fn new(task: Task, recipient: Option<Recipient>, now: Timestamp) -> Self {
        Self {
            task,
            recipient,
            seal_for: None,
            attempts: 0,
            unsure: false,
            lease_end: None,
            holder: None,
            first_time: None,
            next_time: now,
            objection: None,
        }
    }

    /// Who chooses the password that it is about.
    pub fn chooser(&self) -> Option<Chooser> {
        match self.task {
            Task::Password { chooser, .. } => Some(chooser),
            Task::Token { .. } => None,
        }
    }

    pub(super) fn end_call(&mut self) {
        (self.lease_end, self.holder) = (None, None);
    }

    /// Whether the carrier has surely not been changed by it.
    pub fn has_done_nothing(&self) -> bool {
        !self.unsure && self.lease_end.is_none()
    }
}

/// How a call ended that did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// It has surely not been done.
    NotDone,
    /// It may have been done.
    Unknown,
    /// It has surely not been done, nor by any call before.
    NeverDone,
}

impl Rotation {
    /// When the next call is due. None: there is none to make.
    pub fn work_time(&self) -> Option<Timestamp> {
        let work = self.work.as_ref()?;
        let idle = self.state.is_final() || self.awaits_confirmation();
        (!idle).then(|| work.lease_end.unwrap_or(work.next_time))
    }

    /// With a call that begins at `now`: to be stored before it is made. None: it is not due.
    ///
    /// `holder` is the process that makes it. If it is `alone` with the store, whatever another had under way has ended
    /// with that one.
    pub fn asking(&self, (holder, alone): (Uid, bool), now: Timestamp) -> Option<Self> {
        let due = self.work_time().is_some_and(|due| due <= now);
        let left = |work: &Work| alone && work.holder.is_some_and(|it| it != holder);
        let waits = self.work_time().is_some();
        let work = self.work.clone().filter(|work| due || (waits && left(work)))?;
        let mut next = if work.lease_end.is_some() {
            self.with_step(Outcome::Unknown, INTERRUPTED, now)
        } else {
            self.clone()
        };
        // Of a call that was under way nobody knows what became of it.
        let is_read = self.stage().is_some_and(Stage::is_read);
        let unsure = work.unsure || (work.lease_end.is_some() && !is_read);
        next.work = Some(Work {
            task: work.task.asked(unsure),
            attempts: work.attempts.saturating_add(1),
            unsure,
            lease_end: Some(now.saturating_add(LEASE).unwrap_or(Timestamp::MAX)),
            holder: Some(holder),
            first_time: work.first_time.or(Some(now)),
            ..work
        });
        let state = match (self.state, self.stage()) {
            (State::Pending, _) => State::Applying,
            (_, Some(Stage::Hold)) => State::Finishing,
            (state, _) => state,
        };
        Some(next.moved(state, now))
    }

    /// After the carrier did it.
    #[must_use]
    pub fn applied(&self, now: Timestamp) -> Self {
        let mut next = self.with_step(Outcome::Done, "", now);
        if let Some(work) = &mut next.work {
            (work.unsure, work.seal_for) = (false, None);
            work.end_call();
        }
        next.moved(State::Succeeded, now)
    }

    /// After the carrier said no. If an earlier call may have been done all the same, that has to be found out first.
    #[must_use]
    pub fn objected(&self, objection: Objection, reason: &str, now: Timestamp) -> Self {
        let mut next = self.with_step(Outcome::Refused, reason, now);
        let Some(work) = &mut next.work else { return next };
        work.objection = Some(objection);
        // A password that the carrier does not take was not taken before either. Once there is a token to remove, a no
        // does not end it.
        let unsure = work.unsure && objection != Objection::Password;
        if unsure || self.stage().is_some_and(|stage| stage != Stage::Make) {
            return next.paused(now, true, SignedDuration::ZERO);
        }
        work.unsure = false;
        work.end_call();
        let next = Self { delivery: None, ..next };
        next.moved(State::Cancelled, now)
    }

    /// After a call that did not do it. The carrier may want to be left alone for a while.
    #[must_use]
    pub fn unanswered(
        &self,
        how: Unanswered,
        reason: &str,
        rest: Option<SignedDuration>,
        now: Timestamp,
    ) -> Self {
        let outcome = match how {
            Unanswered::NotDone | Unanswered::NeverDone => Outcome::NotDone,
            Unanswered::Unknown => Outcome::Unknown,
        };
        let mut next = self.with_step(outcome, reason, now);
        if let Some(work) = &mut next.work {
            match how {
                Unanswered::NotDone => {}
                Unanswered::Unknown => work.unsure = true,
                Unanswered::NeverDone => work.unsure = false,
            }
        }
        next.paused(now, false, rest.unwrap_or_default())
    }

    /// With its next call at once.
    #[must_use]
    pub fn resumed(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        if let Some(work) = &mut next.work {
            work.next_time = now;
        }
        next.moved(self.state, now)
    }

    /// With a pause before its next call.
    fn paused(mut self, now: Timestamp, refused: bool, least: SignedDuration) -> Self {
        let pause = self.pause().max(least.min(LONGEST_PAUSE));
        let Some(work) = &mut self.work else { return self };
        work.end_call();
        work.next_time = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
        let began = work.first_time.unwrap_or(now);
        let long = now.duration_since(began) >= PATIENCE;
        if self.state != State::NeedsAttention && !(refused || long) {
            return self.moved_on(now);
        }
        // What is to be seen to changes with what is known.
        let message = self.advice(refused);
        let told = self.steps.iter().rev().find(|step| step.kind == StepKind::Wait);
        if told.is_none_or(|told| told.message != message) {
            self.steps.push(Step::new(StepKind::Wait, now, message));
        }
        self.moved(State::NeedsAttention, now)
    }

    /// Twice as long each time, and not at the same instant as others that began together.
    fn pause(&self) -> SignedDuration {
        let attempts = self.work.as_ref().map_or(0, |work| work.attempts);
        let seconds = 1_i64 << attempts.saturating_sub(1).min(9);
        let pause = SignedDuration::from_secs(seconds).min(LONGEST_PAUSE);
        let first = u8::try_from(attempts % 256).unwrap_or_default();
        let bytes = self.name.id.as_str().bytes();
        let mixed = bytes.fold(first, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        // From three quarters of it to five.
        pause * 3 / 4 + pause / 512 * i32::from(mixed)
    }

    /// What a person should know and do.
    fn advice(&self, refused: bool) -> &'static str {
        let unsure = self.work.as_ref().is_some_and(|work| work.unsure);
        if let Some(stage) = self.stage() {
            return stage.advice(unsure);
        }
        let chooser = self.work.as_ref().and_then(Work::chooser);
        match (refused, unsure, chooser) {
            (true, _, Some(Chooser::Carrier)) => {
                "the carrier refuses, though an earlier call may have ended the old password: mend what it refuses \
                 (VerifyProvider says whether it is the token), and the vault gets a new password by itself"
            }
            (true, ..) => {
                "the carrier refuses, though an earlier call may have set the new password: mend what it refuses \
                 (VerifyProvider says whether it is the token), and the vault finishes by itself; both passwords are kept"
            }
            (false, true, Some(Chooser::Carrier)) => {
                "the carrier does not answer, and the old password may be dead there: the vault goes on asking and \
                 gets a new one as soon as it answers; see whether the carrier is up"
            }
            (false, true, _) => {
                "the carrier does not answer, so the new password may be set there or not: the vault goes on asking \
                 and keeps both; see whether the carrier is up"
            }
            (false, false, _) => {
                "the carrier has not been changed, since it cannot be asked: the vault goes on trying; see whether the \
                 carrier is up, or cancel"
            }
        }
    }

    pub(super) fn with_step(&self, outcome: Outcome, reason: &str, now: Timestamp) -> Self {
        let mut next = self.clone();
        let reason = reason.to_owned();
        let kind = self.stage().map_or(StepKind::Apply, Stage::step);
        next.steps.push(Step { outcome, reason, ..Step::new(kind, now, "") });
        // What became of it stays; of calls and of what a person was told, the first and the last.
        let is_passing = |step: &Step| step.kind == StepKind::Wait || step.kind.is_call();
        while next.steps.len() > MOST_STEPS {
            let Some(oldest) = next.steps.iter().skip(FIRST_STEPS).position(is_passing) else {
                break;
            };
            next.steps.remove(FIRST_STEPS + oldest);
        }
        next
    }

    /// In its next revision, and in the same state.
    fn moved_on(self, now: Timestamp) -> Self {
        let state = self.state;
        self.moved(state, now)
    }
}

#[cfg(test)]
mod tests;
