//! What may be changed at a carrier, and what is known of a change afterwards.
//!
//! A change may happen though its answer is lost. So it has four ends, not two, and whoever asks for one has written
//! down before that it does.

use async_trait::async_trait;

use super::Outage;
use crate::credential::CarrierCredential;
use crate::provider::{Refusal, Token};
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

/// Why a carrier did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// It does not take the token, or serves its account no more.
    Token(Refusal),
    /// It has no such credential.
    NotFound,
    /// It does not take such a password.
    Password,
    /// The token may not do this.
    NotAllowed,
    /// It did not like the request, and what it says of why is not known here.
    Other,
}

/// A credential as its carrier has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its username.
    pub username: String,
    /// Whether it may be used there. None: the carrier has no such switch.
    pub enabled: Option<bool>,
}

/// Who chooses a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chooser {
    /// The vault, and the carrier takes it.
    Vault,
    /// The carrier, which says it once.
    Carrier,
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
    async fn discard(&self, current: &Token, label: &str) -> Effect<()>;

    /// Makes a second token, which only this answer tells. Both are valid from then on.
    async fn make(&self, current: &Token, label: &str) -> Effect<Token>;

    /// Ends the old token, authenticated with the new one. Done twice it is as if done once.
    async fn finish(&self, new: &Token, old: &Token) -> Effect<()>;
}
