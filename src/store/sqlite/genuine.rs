//! Which rows have been cross-checked with the index over usernames (docs/adr/0011), by a keyed hash of what the check
//! is about: account, id, uid, realm and username. None of them ever changes, so a row is checked once; one that is
//! damaged later has another hash, and is checked again.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{PoisonError, RwLock};

use crate::credential::Credential;
use crate::name::Uid;

/// Rows that are remembered, in about 10 MiB. One more, and all are checked again.
const MOST: usize = 900_000;

/// Rows that the index leads to by their username.
#[derive(Default)]
pub(super) struct Genuine {
    key: RandomState,
    rows: RwLock<HashSet<u64>>,
}

impl Genuine {
    /// Whether a row is one of them, or `check` says that it is.
    pub(super) fn is<E>(
        &self,
        account: Uid,
        row: &Credential,
        check: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (id, username, realm) = (&row.name.id, &row.username, &row.realm);
        let mark = self.key.hash_one((account, id, row.uid, username, realm));
        if self.rows.read().unwrap_or_else(PoisonError::into_inner).contains(&mark) {
            return Ok(true);
        }
        let genuine = check()?;
        if genuine {
            let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
            if rows.len() >= MOST {
                rows.clear();
            }
            rows.insert(mark);
        }
        Ok(genuine)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use jiff::Timestamp;

    use super::*;
    use crate::credential::{Description, Labels, Realm, Username};
    use crate::name::{CredentialName, ResourceId};

    #[test]
    fn a_row_is_checked_until_it_is_genuine_and_again_when_any_of_it_differs() {
        let row = Credential {
            uid: Uid::from_bytes([1; 16]),
            name: CredentialName {
                account: ResourceId::parse("acme").unwrap(),
                id: ResourceId::parse("desk").unwrap(),
            },
            username: Username::parse("alice").unwrap(),
            realm: Realm::parse("sip.test").unwrap(),
            enabled: true,
            description: Description::parse("").unwrap(),
            labels: Labels::default(),
            version: 1,
            revision: 1,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
            rotate_time: Timestamp::UNIX_EPOCH,
        };
        let (genuine, account) = (Genuine::default(), Uid::from_bytes([2; 16]));
        let is = |account: Uid, row: &Credential, says: bool| {
            genuine.is(account, row, || Ok::<_, Infallible>(says)).unwrap()
        };
        assert!(!is(account, &row, false) && !is(account, &row, false));
        assert!(is(account, &row, true) && is(account, &row, false));
        assert!(is(account, &Credential { version: 2, revision: 2, ..row.clone() }, false));
        let name = CredentialName { id: ResourceId::parse("desl").unwrap(), ..row.name.clone() };
        for other in [
            Credential { uid: Uid::from_bytes([3; 16]), ..row.clone() },
            Credential { name, ..row.clone() },
            Credential { username: Username::parse("alicf").unwrap(), ..row.clone() },
            Credential { realm: Realm::parse("sip.tesu").unwrap(), ..row.clone() },
        ] {
            assert!(!is(account, &other, false));
        }
        assert!(!is(Uid::from_bytes([4; 16]), &row, false));
    }
}
