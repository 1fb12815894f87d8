//! Rotations that outlive their call: a secret that waits for its recipient, for a proof that it arrived, or for a
//! carrier. Below, those that the vault begins by itself: policies, their windows, and what is due.

pub mod policy;
pub mod sweep;
mod token;
pub mod window;
mod work;

use std::fmt;

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};

use crate::name::{CredentialName, Invalid, ProviderName, ResourceId, Uid};
use crate::recipient::PublicKey;
pub use token::{OLD_TOKEN_KEPT, OLD_TOKEN_WORKS, Stage};
pub use work::{INTERRUPTED, LEASE, SealFor, Task, Unanswered, Work};

/// How long a sealed secret is delivered again at the least, unless it is confirmed before.
const SHORTEST_DELIVERY: SignedDuration = SignedDuration::from_mins(15);

/// How long a rotation waits for its confirmation before a person should look at it.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How many rotations of a resource are remembered: more than versions can verify at the same time.
pub const REMEMBERED: usize = 20;

/// What is rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// The password of a credential.
    Credential(CredentialName),
    /// The token of a provider.
    Provider(ProviderName),
}

impl Parent {
    /// Parses the full name of either.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid(
            "must have the form accounts/{account}/credentials/{credential} or accounts/{account}/providers/{provider}",
        );
        let credential = CredentialName::parse(text).map(Self::Credential);
        let either = credential.or_else(|_| ProviderName::parse(text).map(Self::Provider));
        either.map_err(|_| SHAPE)
    }

    /// The account that owns it.
    pub fn account(&self) -> &ResourceId {
        match self {
            Self::Credential(name) => &name.account,
            Self::Provider(name) => &name.account,
        }
    }

    /// Its id there, among others of its kind.
    pub fn id(&self) -> &ResourceId {
        match self {
            Self::Credential(name) => &name.id,
            Self::Provider(name) => &name.id,
        }
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => name.fmt(f),
            Self::Provider(name) => name.fmt(f),
        }
    }
}

/// `accounts/{account}/credentials/{credential}/rotations/{rotation}`, or the same below a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationName {
    /// What is rotated.
    pub parent: Parent,
    /// Its id there.
    pub id: ResourceId,
}

impl RotationName {
    /// Parses a full name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid(
            "must have the form accounts/{account}/credentials/{credential}/rotations/{rotation} or \
             accounts/{account}/providers/{provider}/rotations/{rotation}",
        );
        let (parent, id) = text.split_once("/rotations/").ok_or(SHAPE)?;
        let parent = Parent::parse(parent).map_err(|_| SHAPE)?;
        Ok(Self { parent, id: ResourceId::parse(id).map_err(|_| SHAPE)? })
    }
}

impl fmt::Display for RotationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/rotations/{}", self.parent, self.id)
    }
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The carrier has not been asked yet.
    Pending,
    /// The carrier is asked, again and again if need be.
    Applying,
    /// A new token is tried until it works.
    Verifying,
    /// Old and new verify, until the recipient proves that it holds the new one; of a token, at most until its time.
    Holding,
    /// The old token is ended, and tried until it is refused.
    Finishing,
    /// The new one is active.
    Succeeded,
    /// The new one is destroyed, the old one is active.
    Cancelled,
    /// A person should decide or help. Old and new verify.
    NeedsAttention,
    /// It was given up, and the new token is to be removed at the carrier.
    Cancelling,
}

impl State {
    /// All of them, with their names as stored and typed.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Pending, "pending"),
        (Self::Applying, "applying"),
        (Self::Verifying, "verifying"),
        (Self::Holding, "holding"),
        (Self::Finishing, "finishing"),
        (Self::Succeeded, "succeeded"),
        (Self::Cancelled, "cancelled"),
        (Self::NeedsAttention, "needs_attention"),
        (Self::Cancelling, "cancelling"),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }

    /// Whether nothing more happens to it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled)
    }
}

/// Which rotations to list. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct RotationFilter {
    /// Only those of this resource.
    pub resource: Option<Uid>,
    /// Only those that stand so.
    pub state: Option<State>,
}

impl RotationFilter {
    /// Where a list of what fits stands at a rotation: those of one resource are in the order of their versions.
    pub fn position(&self, version: u64, id: &str) -> String {
        match self.resource {
            Some(_) => version.to_string(),
            None => id.to_owned(),
        }
    }
}

/// What happened in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The new version was made and stored.
    Store,
    /// The new version became active.
    Activate,
    /// The recipient has it; its sealed form is gone.
    Confirm,
    /// Somebody gave it up; the new version is gone.
    Cancel,
    /// The time of the sealed secret passed; its sealed form is gone.
    Expire,
    /// The carrier was asked for the new one.
    Apply,
    /// It waits for a person.
    Wait,
    /// The carrier was asked to remove a new token.
    Discard,
    /// The new token was tried.
    Verify,
    /// The carrier was asked to end the old token.
    Finish,
    /// The old token was tried.
    Probe,
}

impl StepKind {
    /// Whether a carrier was called.
    fn is_call(self) -> bool {
        matches!(self, Self::Apply | Self::Discard | Self::Verify | Self::Finish | Self::Probe)
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should.
    #[default]
    Done,
    /// The carrier said no, and did nothing.
    Refused,
    /// Nothing was done.
    NotDone,
    /// Nobody knows whether it was done.
    Unknown,
}

/// A step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What happened.
    pub kind: StepKind,
    /// When.
    pub time: Timestamp,
    /// What it means, for people; empty where the kind says it all.
    pub message: String,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// Why it did not end as it should, as in an error's reason; empty where it did.
    #[serde(default)]
    pub reason: String,
}

impl Step {
    /// A step that is done.
    pub fn new(kind: StepKind, time: Timestamp, message: &str) -> Self {
        let (outcome, reason) = (Outcome::Done, String::new());
        Self { kind, time, message: message.to_owned(), outcome, reason }
    }
}

/// For whom a secret was sealed, and until when it is delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The request that it answers; empty if that had none.
    pub request_id: String,
    /// Fingerprint of the key that it was sealed for.
    pub key_fingerprint: String,
    /// The end of its life. In whole seconds, so that it has one form as text.
    pub expire_time: Timestamp,
}

impl Delivery {
    /// A delivery that begins at `now`.
    pub fn starting(
        now: Timestamp,
        overlap: SignedDuration,
        require_confirmation: bool,
        (key, request_id): (&PublicKey, String),
    ) -> Self {
        let least = if require_confirmation { LONGEST_WAIT } else { SHORTEST_DELIVERY };
        let end = now.saturating_add(least.max(overlap)).unwrap_or(Timestamp::MAX);
        // Up: it must not end before what it was promised for.
        let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
        let expire_time = end.round(up).unwrap_or(end);
        Self { request_id, key_fingerprint: key.fingerprint(), expire_time }
    }

    /// What its ciphertext is bound to: everything that stands beside it, a line each.
    pub fn aad(&self, name: &impl fmt::Display, version: u64) -> String {
        let Self { request_id, key_fingerprint, expire_time } = self;
        format!("{name}\n{version}\n{request_id}\n{key_fingerprint}\n{expire_time}")
    }
}

/// A rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Full name.
    pub name: RotationName,
    /// Internal identity of what is rotated.
    pub resource: Uid,
    /// The version that it makes.
    pub version: u64,
    /// Counts its changes.
    pub revision: u64,
    /// Where it stands.
    pub state: State,
    /// How long the old version verifies once the new one is active.
    pub overlap: SignedDuration,
    /// Whether the new one becomes active only with a proof that it arrived.
    pub require_confirmation: bool,
    /// Its sealed secret, while there is one.
    pub delivery: Option<Delivery>,
    /// What happened, the oldest first.
    pub steps: Vec<Step>,
    /// When it began.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// When the recipient confirmed.
    pub confirm_time: Option<Timestamp>,
    /// What there is to do at a carrier, if what is rotated lives there.
    pub work: Option<Work>,
}

impl Rotation {
    /// Whether it waits for a proof that the new secret arrived.
    pub fn awaits_confirmation(&self) -> bool {
        // A token is held once it works, and not before.
        let may_wait = self.stage().is_none_or(|stage| stage == Stage::Hold);
        may_wait && self.needs_proof()
    }

    /// Whether it does not end without a proof that the new secret arrived.
    pub fn needs_proof(&self) -> bool {
        self.require_confirmation && self.confirm_time.is_none() && !self.state.is_final()
    }

    /// When the vault must look at it by itself, but for its work at a carrier.
    pub fn due_time(&self) -> Option<Timestamp> {
        if let Some(delivery) = &self.delivery {
            // What a carrier may be about to take must not be gone by then.
            return self.work_time().is_none().then_some(delivery.expire_time);
        }
        let waits = self.state == State::Holding && self.work_time().is_none();
        waits.then(|| self.create_time.saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX))
    }

    /// After a step at `now` that leads to `state`.
    #[must_use]
    pub fn after(&self, kind: StepKind, state: State, now: Timestamp, message: &str) -> Self {
        let mut next = self.clone();
        next.steps.push(Step::new(kind, now, message));
        next.moved(state, now)
    }

    /// In its next revision, and in this state.
    fn moved(self, state: State, now: Timestamp) -> Self {
        let end_time = self.end_time.or(state.is_final().then_some(now));
        Self { revision: self.revision + 1, state, update_time: now, end_time, ..self }
    }

    /// After its confirmation. Whether there was a proof is the caller's business.
    #[must_use]
    pub fn confirmed(&self, now: Timestamp) -> Self {
        let goes_on = self.awaits_confirmation() || self.stage() == Some(Stage::Hold);
        let state = match &self.work {
            None => State::Succeeded,
            Some(_) if goes_on && self.stage().is_none() => State::Pending,
            Some(_) => self.state,
        };
        let mut next = self.after(StepKind::Confirm, state, now, "");
        if let Some(work) = next.work.as_mut().filter(|_| goes_on) {
            work.next_time = now;
        }
        Self { delivery: None, confirm_time: Some(now), ..next }
    }

    /// After somebody gave it up.
    #[must_use]
    pub fn cancelled(&self, now: Timestamp) -> Self {
        let next = self.after(StepKind::Cancel, State::Cancelled, now, "");
        Self { delivery: None, ..next }
    }

    /// After its due time, or when its version is destroyed: the sealed secret goes, and a person is asked where the new version is not active yet.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Self {
        let (state, message) = match self.state {
            State::Holding => (
                State::NeedsAttention,
                "nobody confirmed in time, and both versions verify: confirm it if the new one arrived, or cancel it \
                 and rotate again",
            ),
            state => (state, ""),
        };
        Self { delivery: None, ..self.after(StepKind::Expire, state, now, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_what_they_print() {
        for parent in ["credentials/desk", "providers/main"] {
            let text = format!("accounts/acme/{parent}/rotations/x1a");
            assert_eq!(RotationName::parse(&text).unwrap().to_string(), text);
        }
        for bad in ["", "accounts/acme/credentials/desk", "accounts/acme/rotations/x1a"] {
            assert!(RotationName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_delivery_is_bound_to_what_stands_beside_it_in_one_form() {
        let key = PublicKey::parse(&[7; 32]).unwrap();
        let now = "2026-05-01T12:00:00.000001Z".parse().unwrap();
        let of = |overlap, confirm| {
            Delivery::starting(now, overlap, confirm, (&key, "an id".to_owned())).expire_time
        };
        assert_eq!(of(SignedDuration::ZERO, false).to_string(), "2026-05-01T12:15:01Z");
        assert_eq!(of(SignedDuration::from_hours(1), false).to_string(), "2026-05-01T13:00:01Z");
        assert_eq!(of(SignedDuration::ZERO, true).to_string(), "2026-05-31T12:00:01Z");
        let delivery =
            Delivery::starting(now, SignedDuration::ZERO, false, (&key, "an id".to_owned()));
        assert_eq!(
            delivery.aad(&"accounts/acme/credentials/desk", 3),
            format!(
                "accounts/acme/credentials/desk\n3\nan id\n{}\n2026-05-01T12:15:01Z",
                key.fingerprint()
            )
        );
    }
}
