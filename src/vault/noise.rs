//! Callers who do not say who they are: counted, and recorded once a minute, so that they cannot fill the disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;

use super::{Error, Vault};
use crate::audit::{Actor, Chain, Entry};

/// How often what was counted is recorded.
const INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// Addresses that are told apart within an interval; further ones are counted together.
const ADDRESSES: usize = 1000;

/// How often each address failed since the last record, by the reason that it was told.
#[derive(Debug, Default)]
pub(super) struct Noise(Mutex<BTreeMap<(String, &'static str), u64>>);

impl Noise {
    fn count(&self, address: &str, reason: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (address.to_owned(), reason);
        if counts.len() >= ADDRESSES && !counts.contains_key(&key) {
            "others".clone_into(&mut key.0);
        }
        *counts.entry(key).or_default() += 1;
    }

    fn take(&self) -> BTreeMap<(String, &'static str), u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Vault {
    /// Counts a call from `address` that did not authenticate. Returns what it is told: that, or that there were
    /// too many.
    pub fn not_authenticated(&self, address: &str) -> Error {
        let error = self.limits.failed(address).err().unwrap_or(Error::Unauthenticated);
        self.noise.count(address, error.reason());
        error
    }

    /// Records once a minute what did not authenticate, for as long as it is polled.
    pub async fn run_noise_records(&self) {
        loop {
            let now = self.clock.now();
            self.clock.wait_until(now.saturating_add(INTERVAL).unwrap_or(now)).await;
            self.record_noise().await;
        }
    }

    /// One entry in the vault's chain for each address and reason.
    pub(super) async fn record_noise(&self) {
        for ((address, reason), count) in self.noise.take() {
            let actor = Actor { principal: "unauthenticated".to_owned(), peer: address };
            let entry = Entry {
                outcome: reason.to_owned(),
                detail: format!("{count} calls since the entry before, or within a minute"),
                ..self.entry(&actor, "Authenticate", "vault")
            };
            self.record_refusal(Chain::of_vault(), entry).await;
        }
    }
}
