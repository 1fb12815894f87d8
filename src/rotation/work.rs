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
    /// Who chooses the new password.
    pub chooser: Chooser,
    /// To whom it goes, if to anybody.
    pub recipient: Option<Recipient>,
    /// For whom it is sealed once the carrier has said it.
    pub seal_for: Option<SealFor>,
    /// Whether its caller, who gets it in plaintext, has not got it yet.
    pub owed: bool,
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

/// Whom a password is sealed for that is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealFor {
    /// The key.
    pub key: PublicKey,
    /// The request that it answers; empty if that had none.
    pub request_id: String,
}

impl Work {
    /// Work that may begin at once.
    pub fn new(chooser: Chooser, recipient: Option<Recipient>, now: Timestamp) -> Self {
        Self {
            chooser,
            owed: recipient == Some(Recipient::Caller),
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

    fn end_call(&mut self) {
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
        next.work = Some(Work {
            attempts: work.attempts.saturating_add(1),
            // Of a call that was under way nobody knows what became of it.
            unsure: work.unsure || work.lease_end.is_some(),
            lease_end: Some(now.saturating_add(LEASE).unwrap_or(Timestamp::MAX)),
            holder: Some(holder),
            first_time: work.first_time.or(Some(now)),
            ..work
        });
        let state = if self.state == State::Pending { State::Applying } else { self.state };
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
        // A password that the carrier does not take was not taken before either.
        if work.unsure && objection != Objection::Password {
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
            Unanswered::NotDone => Outcome::NotDone,
            Unanswered::Unknown => Outcome::Unknown,
        };
        let mut next = self.with_step(outcome, reason, now);
        if let Some(work) = &mut next.work {
            work.unsure |= how == Unanswered::Unknown;
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
        let chooser = self.work.as_ref().map(|work| work.chooser);
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

    fn with_step(&self, outcome: Outcome, reason: &str, now: Timestamp) -> Self {
        let mut next = self.clone();
        let reason = reason.to_owned();
        next.steps.push(Step { outcome, reason, ..Step::new(StepKind::Apply, now, "") });
        if next.steps.len() > MOST_STEPS {
            let is_call = |step: &Step| step.kind == StepKind::Apply;
            let oldest = next.steps.iter().skip(FIRST_STEPS).position(is_call);
            next.steps.remove(FIRST_STEPS + oldest.unwrap_or_default());
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
