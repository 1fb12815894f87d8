//! How often each version is presented: counted in memory, and added to what is stored twice a minute.
//!
//! A call that uses a secret does not wait for a disk. What was counted since the last time is lost with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::Vault;
use crate::access::Worker;
use crate::credential::Credential;
use crate::name::ResourceId;
use crate::store::{self, Counted, VersionKey, VersionUse, Write};

/// How often counts are stored.
const EVERY: SignedDuration = SignedDuration::from_secs(30);

/// How many versions are counted between two times; those beyond are not counted.
const MOST: usize = 100_000;

/// How many go into one commit.
const AT_ONCE: usize = 100;

/// What was counted since the last time.
#[derive(Default)]
pub(super) struct UseCounts(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    new: HashMap<VersionKey, (ResourceId, VersionUse)>,
    /// On its way to the store: known here until it is there. Even without whoever waits for it, it arrives.
    storing: HashMap<VersionKey, VersionUse>,
}

impl UseCounts {
    pub(super) fn success(&self, key: VersionKey, credential: &Credential, now: Timestamp) {
        self.count(key, credential, |count| {
            count.successes += 1;
            count.last_success_time = count.last_success_time.max(Some(now));
        });
    }

    pub(super) fn failure(&self, key: VersionKey, credential: &Credential) {
        self.count(key, credential, |count| count.failures += 1);
    }

    fn count(&self, key: VersionKey, of: &Credential, add: impl FnOnce(&mut VersionUse)) {
        let new = &mut self.counts().new;
        if let Some((_, count)) = new.get_mut(&key) {
            add(count);
        } else if new.len() < MOST {
            let mut count = VersionUse::default();
            add(&mut count);
            new.insert(key, (of.name.id.clone(), count));
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is not stored yet of one version.
    pub(super) fn of(&self, key: &VersionKey) -> VersionUse {
        let counts = self.counts();
        let mut sum = counts.new.get(key).map(|(_, count)| *count).unwrap_or_default();
        sum.add(counts.storing.get(key).copied().unwrap_or_default());
        sum
    }

    fn begin_storing(&self) -> Vec<Counted> {
        let mut counts = self.counts();
        let new = std::mem::take(&mut counts.new).into_iter();
        let begun: Vec<_> =
            new.map(|(key, (credential, uses))| Counted { key, credential, uses }).collect();
        counts.storing = begun.iter().map(|counted| (counted.key, counted.uses)).collect();
        begun
    }

    fn stored(&self, some: &[Counted]) {
        let mut counts = self.counts();
        for counted in some {
            counts.storing.remove(&counted.key);
        }
    }

    /// Counts what the store certainly did not take once more.
    fn not_stored(&self, some: &[Counted]) {
        self.stored(some);
        let new = &mut self.counts().new;
        for Counted { key, credential, uses } in some {
            let count =
                new.entry(*key).or_insert_with(|| (credential.clone(), VersionUse::default()));
            count.1.add(*uses);
        }
    }
}

impl Vault {
    /// Stores counts twice a minute, for as long as it is polled.
    pub async fn run_use_counts(&self) {
        loop {
            let now = self.clock.now();
            self.clock.wait_until(now.saturating_add(EVERY).unwrap_or(now)).await;
            self.record_uses().await;
        }
    }

    /// Stores what was counted.
    pub(super) async fn record_uses(&self) {
        for some in self.uses.begin_storing().chunks(AT_ONCE) {
            let stored = self.store.commit(Write::uses(&Worker::rotations(), some.to_vec())).await;
            if let Err(error) = &stored {
                tracing::warn!(%error, versions = some.len(), "store counts of uses");
            }
            match stored {
                // Of an unknown outcome it could count twice.
                Ok(()) | Err(store::Error::Unavailable(_)) => self.uses.stored(some),
                Err(_) => self.uses.not_stored(some),
            }
        }
    }

    /// How often versions were used, up to now.
    pub(super) async fn uses_of(
        &self,
        keys: &[VersionKey],
    ) -> Result<Vec<VersionUse>, super::Error> {
        let mut uses = self.store.version_uses(keys).await?;
        for (known, key) in uses.iter_mut().zip(keys) {
            known.add(self.uses.of(key));
        }
        Ok(uses)
    }
}
