//! Who may call, remembered in memory: tokens and workloads that have called, with what is bound to them.
//!
//! It holds what the file holds: of a token the keyed hash, never the token itself. The promise of the store stays
//! (docs/adr/0017): a read sees every write that was acknowledged. For the writer forgets everything after a commit
//! that may have changed any of it, and only then answers; and what was read before that is not remembered after it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::access::Standing;
use crate::access::api_token::TokenId;
use crate::access::spiffe::SpiffeId;
use crate::defect::{Defect, planted};
use crate::store::{Change, Error, StoredApiToken};

/// Tokens, and as many workloads, that are remembered. One more, and all of them are read again.
const MOST: usize = 4096;

/// What is known of callers.
#[derive(Default)]
pub(super) struct Known {
    tokens: Memory<TokenId, StoredApiToken>,
    workloads: Memory<SpiffeId, Arc<Standing>>,
}

impl Known {
    /// A token as it is now. One that does not exist is never remembered: anybody can think of any number of those.
    pub(super) fn token(
        &self,
        id: &TokenId,
        read: impl FnOnce() -> Result<Option<StoredApiToken>, Error>,
    ) -> Result<Option<StoredApiToken>, Error> {
        self.tokens.get_or_read(id, read)
    }

    /// What is bound to a workload now. Also if that is nothing: a trust domain has vouched for it.
    pub(super) fn standing(
        &self,
        workload: &SpiffeId,
        read: impl FnOnce() -> Result<Standing, Error>,
    ) -> Result<Arc<Standing>, Error> {
        let read = || read().map(|standing| Some(Arc::new(standing)));
        Ok(self.workloads.get_or_read(workload, read)?.unwrap_or_default())
    }

    /// Forgets everything: tokens, role bindings or accounts may have changed.
    pub(super) fn forget(&self) {
        if planted(Defect::RememberRevoked) {
            return;
        }
        self.tokens.forget();
        self.workloads.forget();
    }
}

/// Whether a change may be one of who may call, and of what callers may do.
pub(super) fn concerns_callers(change: &Change) -> bool {
    match change {
        Change::CreateAccount(_)
        | Change::SetAccountDisabled { .. }
        | Change::DeleteAccount(_)
        | Change::CreateApiToken { .. }
        | Change::RevokeApiToken { .. }
        | Change::SetRoleBinding { .. }
        | Change::DeleteRoleBinding { .. }
        | Change::SetDeliveryPolicy { .. } => true,
        Change::AuditOnly
        | Change::SetAccessTokenPolicy { .. }
        | Change::MintAccessToken { .. }
        | Change::CreateRecipientKey(_)
        | Change::RevokeRecipientKey { .. }
        | Change::CreateCredential { .. }
        | Change::ReplaceCredential { .. }
        | Change::ReplaceRotation { .. }
        | Change::CountUses(_)
        | Change::DeleteCredential(_)
        | Change::CreateProvider(_)
        | Change::ReplaceProvider { .. }
        | Change::RecordVerification(_)
        | Change::DeleteProvider { .. } => false,
    }
}

struct Memory<K, V>(RwLock<Remembered<K, V>>);

struct Remembered<K, V> {
    /// How often everything was forgotten.
    generation: u64,
    values: HashMap<K, V>,
}

impl<K: Hash + Eq + Clone, V: Clone> Memory<K, V> {
    fn get_or_read(
        &self,
        key: &K,
        read: impl FnOnce() -> Result<Option<V>, Error>,
    ) -> Result<Option<V>, Error> {
        let before = {
            let remembered = self.read();
            if let Some(value) = remembered.values.get(key) {
                return Ok(Some(value.clone()));
            }
            remembered.generation
        };
        let Some(value) = read()? else { return Ok(None) };
        let mut remembered = self.write();
        // What was forgotten while this was read may be what was read.
        if remembered.generation == before {
            if remembered.values.len() >= MOST {
                remembered.values.clear();
            }
            remembered.values.insert(key.clone(), value.clone());
        }
        Ok(Some(value))
    }

    fn forget(&self) {
        let mut remembered = self.write();
        remembered.generation += 1;
        remembered.values.clear();
    }

    fn read(&self) -> RwLockReadGuard<'_, Remembered<K, V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Remembered<K, V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Remembered { generation: 0, values: HashMap::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_while_it_is_read_is_not_remembered() {
        let memory = Memory::<u8, u8>::default();
        let read = |value| memory.get_or_read(&1, || Ok(value)).ok().flatten();
        assert_eq!(read(None), None, "what is not there is looked for again");
        let stale = memory.get_or_read(&1, || {
            memory.forget();
            Ok(Some(1))
        });
        assert_eq!(stale.ok().flatten(), Some(1));
        assert_eq!(read(Some(2)), Some(2));
        assert_eq!(read(Some(3)), Some(2));
        memory.forget();
        assert_eq!(read(Some(4)), Some(4));
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let memory = Memory::<usize, usize>::default();
        for key in 0..3 * MOST {
            memory.get_or_read(&key, || Ok(Some(key))).ok();
        }
        assert!((1..=MOST).contains(&memory.read().values.len()));
    }
}
