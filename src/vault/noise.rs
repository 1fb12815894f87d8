//! Who is refused over and over, and who does not say who they are: counted, and recorded once a minute, so that nobody fills
//! the disk by calling in vain.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;

use super::{Error, Vault};
use crate::access::network;
use crate::audit::{Actor, Chain, Entry};
use crate::store;
use crate::telemetry::metrics::{self, AuthenticationFailure};

/// How often what was counted is recorded.
const INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// Refusals of one kind within an interval that have an entry each.
const EACH: u64 = 20;

/// Kinds that are told apart by address within an interval; further ones are counted together.
const KINDS: usize = 100;

/// What is counted together: refusals of one caller, from one network, by one RPC, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    chain: Chain,
    actor: Actor,
    method: String,
    outcome: String,
}

/// Within an interval.
#[derive(Debug, Default)]
struct Count {
    /// Those that have an entry of their own, or are about to.
    recorded: u64,
    /// All others.
    counted: u64,
}

/// What happened since the last record.
#[derive(Debug, Default)]
pub(super) struct Noise(Mutex<BTreeMap<Kind, Count>>);

impl Noise {
    fn with<T>(&self, mut kind: Kind, change: impl FnOnce(&mut Count) -> T) -> T {
        kind.actor.peer = network::of_peer(&kind.actor.peer);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= KINDS && !counts.contains_key(&kind) {
            "others".clone_into(&mut kind.actor.peer);
        }
        change(counts.entry(kind).or_default())
    }

    /// Counts so many that have no entry of their own.
    fn count(&self, kind: Kind, more: u64) {
        self.with(kind, |count| count.counted += more);
    }

    /// Whether one more has an entry of its own; else it is counted.
    fn has_entry(&self, kind: Kind) -> bool {
        self.with(kind, |count| {
            let has_entry = count.recorded < EACH;
            *(if has_entry { &mut count.recorded } else { &mut count.counted }) += 1;
            has_entry
        })
    }

    fn take(&self) -> BTreeMap<Kind, Count> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Vault {
    /// Counts a call from `peer` that did not authenticate; `principal` if it is known whom it would have been. Returns
    /// what it is told: that, or that there were too many. Why is for those who run the vault, not for the caller.
    pub fn not_authenticated(
        &self,
        peer: &str,
        principal: Option<String>,
        why: AuthenticationFailure,
    ) -> Error {
        metrics::authentication_failure(why);
        let error = self.limits.failed(peer).err().unwrap_or(Error::Unauthenticated);
        let principal = principal.unwrap_or_else(|| "unauthenticated".to_owned());
        let actor = Actor { principal, peer: peer.to_owned() };
        let (method, outcome) = ("Authenticate".to_owned(), error.reason().to_owned());
        self.noise.count(Kind { chain: Chain::of_vault(), actor, method, outcome }, 1);
        error
    }

    /// Records a refusal in `chain`, or counts it if there are many like it. It changed nothing, so it stands even when
    /// its record cannot be written.
    pub(super) async fn record_refusal(&self, chain: Chain, entry: Entry) {
        let kind = Kind {
            chain: chain.clone(),
            actor: entry.actor.clone(),
            method: entry.method.clone(),
            outcome: entry.outcome.clone(),
        };
        if self.noise.has_entry(kind.clone()) && !self.is_recorded(chain, entry).await {
            self.noise.count(kind, 1);
        }
    }

    /// Records that a carrier was asked in vain. Each time took an answer of theirs, or the wait for one, so there are
    /// few; but not of what was refused before anything was sent.
    pub(super) async fn record_failed_validation(&self, chain: Chain, entry: Entry, error: &Error) {
        if matches!(error, Error::UpstreamAtCapacity | Error::UpstreamCircuitOpen { .. }) {
            self.record_refusal(chain, entry).await;
        } else {
            self.is_recorded(chain, entry).await;
        }
    }

    /// Records once a minute what was counted, for as long as it is polled.
    pub async fn run_noise_records(&self) {
        loop {
            let now = self.clock.now();
            self.clock.wait_until(now.saturating_add(INTERVAL).unwrap_or(now)).await;
            self.record_noise().await;
        }
    }

    /// One entry for all of a kind. What cannot be recorded is counted on.
    pub(super) async fn record_noise(&self) {
        for (kind, Count { counted, .. }) in self.noise.take() {
            if counted == 0 {
                continue;
            }
            let entry = Entry {
                outcome: kind.outcome.clone(),
                detail: format!(
                    "{counted} calls without an entry each, since the entry before or within a minute"
                ),
                ..self.entry(&kind.actor, &kind.method, kind.chain.name())
            };
            if !self.is_recorded(kind.chain.clone(), entry).await {
                self.noise.count(kind, counted);
            }
        }
    }

    /// Whether a refusal is in the log now.
    async fn is_recorded(&self, chain: Chain, entry: Entry) -> bool {
        let recorded = match self.store.commit(store::Write::refusal(chain, entry.clone())).await {
            // Its account was deleted in the meantime.
            Err(store::Error::Conflict) => {
                self.store.commit(store::Write::refusal(Chain::of_vault(), entry)).await
            }
            recorded => recorded,
        };
        match &recorded {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "record a refusal"),
        }
        recorded.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(number: usize) -> Kind {
        let peer = format!("192.0.2.{number}");
        Kind {
            chain: Chain::of_vault(),
            actor: Actor { principal: "unauthenticated".to_owned(), peer },
            method: "Authenticate".to_owned(),
            outcome: "UNAUTHENTICATED".to_owned(),
        }
    }

    #[test]
    fn a_few_have_entries_and_the_rest_are_counted() {
        let noise = Noise::default();
        let entries = (0..1000).filter(|_| noise.has_entry(kind(1))).count();
        assert_eq!(entries, 20);
        assert_eq!(noise.take()[&kind(1)].counted, 980);
        assert!(noise.has_entry(kind(1)), "another minute");
    }

    #[test]
    fn many_addresses_are_counted_together() {
        let noise = Noise::default();
        (0..250).for_each(|number| noise.count(kind(number), 1));
        let counts = noise.take();
        assert_eq!(counts.len(), 101);
        assert_eq!(counts.values().map(|count| count.counted).sum::<u64>(), 250);
    }
}
