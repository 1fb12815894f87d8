//! What may be changed at a carrier, and what is known of a change afterwards.
//!
//! A change may happen though its answer is lost. So it has four ends, not two, and whoever asks for one has written
//! down before that it does.

use async_trait::async_trait;

use super::Outage;
use super::http::{Answer, Lost};
use crate::credential::CarrierCredential;
pub use crate::credential::Chooser;
pub use crate::provider::Objection;
use crate::provider::Token;
use crate::secret::SecretText;

/// What became of a call to a carrier.
#[expect(missing_debug_implementations, reason = "may hold a secret")]
pub enum Effect<T> {
    /// It is done, and this is the answer.
    Done(T),
    /// The carrier said no. Nothing has changed there.
    Refused(Objection),
    /// Nothing has changed there: it was not sent, or the carrier said that it did nothing.
    NotDone(Outage),
    /// Nobody knows whether it is done.
    Unknown(Outage),
}

/// Why something is not done at a carrier, or not known to be.
///
/// - Without an answer, only what was never sent is not done: no place for the call, a circuit that is open, an address
///   that is blocked, a connection that was not made.
/// - 429 says in general only that there were too many requests (RFC 6585 section 4). A carrier that publishes that it
///   did nothing by then says so itself; of the others nobody knows.
/// - A further 4xx is a no. But 408 is what gateways also say who gave up waiting for those behind them, and 425 has
///   no meaning here: they tell nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undone {
    /// As [`Effect::Refused`].
    Refused(Objection),
    /// As [`Effect::NotDone`].
    NotDone(Outage),
    /// As [`Effect::Unknown`].
    Unknown(Outage),
}

impl Undone {
    /// What an answer says that is not the good one, where its status has no meaning of its own.
    pub(super) fn by_status(answer: &Answer) -> Self {
        match answer.status.as_u16() {
            408 | 425 => Self::Unknown(Outage::Protocol),
            400..=499 => Self::Refused(Objection::Other),
            _ => Self::Unknown(Outage::Protocol),
        }
    }

    /// The same of a read, which changes nothing.
    pub(super) fn of_a_read(self) -> Self {
        match self {
            Self::Unknown(outage) => Self::NotDone(outage),
            known => known,
        }
    }
}

impl From<Lost> for Undone {
    fn from(Lost { outage, sent }: Lost) -> Self {
        if sent { Self::Unknown(outage) } else { Self::NotDone(outage) }
    }
}

impl<T> From<Result<T, Undone>> for Effect<T> {
    fn from(result: Result<T, Undone>) -> Self {
        match result {
            Ok(answer) => Self::Done(answer),
            Err(Undone::Refused(objection)) => Self::Refused(objection),
            Err(Undone::NotDone(outage)) => Self::NotDone(outage),
            Err(Undone::Unknown(outage)) => Self::Unknown(outage),
        }
    }
}

impl<T> Effect<T> {
    /// The same with another answer.
    pub fn map<U>(self, answer: impl FnOnce(T) -> U) -> Effect<U> {
        match self {
            Self::Done(done) => Effect::Done(answer(done)),
            Self::Refused(objection) => Effect::Refused(objection),
            Self::NotDone(outage) => Effect::NotDone(outage),
            Self::Unknown(outage) => Effect::Unknown(outage),
        }
    }
}

/// A credential as its carrier has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its username.
    pub username: String,
    /// Whether it may be used there. None: the carrier has no such switch.
    pub enabled: Option<bool>,
}

/// SIP credentials of an account at a carrier. Each has one password at a time there.
#[async_trait]
pub trait UpstreamCredentials: Send + Sync {
    /// Who chooses their passwords.
    fn chooser(&self) -> Chooser;

    /// Whether the carrier can disable them, and keeps their description.
    fn is_configurable(&self) -> bool;

    /// Looks one up. It changes nothing, so it is never [`Effect::Unknown`].
    async fn find(&self, token: &Token, id: &CarrierCredential) -> Effect<Found>;

    /// Replaces the password by this one. Done twice it is as if done once. [`Objection::Other`] where the carrier
    /// chooses.
    async fn set_password(
        &self,
        token: &Token,
        id: &CarrierCredential,
        password: &SecretText,
    ) -> Effect<()>;

    /// Has the carrier replace the password; each time by another one, which only this answer tells.
    /// [`Objection::Other`] where the vault chooses.
    async fn make_password(&self, token: &Token, id: &CarrierCredential) -> Effect<SecretText>;

    /// Sets what is given. Done twice it is as if done once.
    async fn configure(
        &self,
        token: &Token,
        id: &CarrierCredential,
        enabled: Option<bool>,
        description: Option<&str>,
    ) -> Effect<()>;
}

/// Tokens of an account at a carrier that lets two be valid for a while.
#[async_trait]
pub trait UpstreamTokens: Send + Sync {
    /// Removes what [`Self::make`] made under this label, if there is something; afterwards only `current` is valid.
    /// Of several that there are, some may be removed by then if it is refused.
    async fn discard(&self, current: &Token, label: &str) -> Effect<()>;

    /// Makes a second token, which only this answer tells. Both are valid from then on.
    async fn make(&self, current: &Token, label: &str) -> Effect<Token>;

    /// Ends the old token. The new one has to work by then: it may have taken a minute to. Done twice it is as if done
    /// once; if it is done, the carrier refused the old token or said that it ends.
    async fn finish(&self, new: &Token, old: &Token) -> Effect<()>;
}
