//! `IssueSipChallenge`: a challenge whose nonce the vault knows again. Nothing is looked up or stored.

use jiff::Timestamp;

use super::sip_nonces::{LIFETIME, Offer, Place};
use super::{Error, Vault};
use crate::access::{IssueSipChallenge, Scope, network};
use crate::credential::Realm;
use crate::digest::{Algorithm, Qop, Source};

/// What a phone is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChallenge {
    /// For whom it is to be.
    pub realm: Realm,
    /// The one algorithm of it.
    pub algorithm: Algorithm,
    /// What it offers: one at least.
    pub qop: Vec<Qop>,
    /// Where it goes, if the edge says so: then it can be answered from there only.
    pub source: Option<Source>,
}

/// A challenge that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The nonce.
    pub nonce: String,
    /// When that is stale.
    pub expire_time: Timestamp,
}

impl Vault {
    /// Makes a challenge. Whether somebody is in that realm makes no difference: it tells nothing.
    pub fn issue_sip_challenge(
        &self,
        scope: &Scope<IssueSipChallenge>,
        new: &NewChallenge,
    ) -> Result<Challenge, Error> {
        let now = self.clock.now();
        let network = new.source.as_ref().map(|source| network::of_source(source.as_str()));
        let place = Place {
            account: scope.account().uid,
            realm: new.realm.as_str(),
            network: network.as_deref(),
        };
        let offer = Offer::new(new.algorithm, &new.qop);
        let nonce = self.sip_nonces.make(&self.sealer, place, offer, now);
        let nonce = nonce.ok_or_else(|| Error::Internal("no random bytes at the start".into()))?;
        let expire_time = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
        Ok(Challenge { nonce, expire_time })
    }
}
