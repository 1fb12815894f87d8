//! Audit entries and the hash chain that holds them together.
//!
//! An entry is a list of typed fields, never a dump of a request: what is not a field here cannot leak
//! here. Storing entries is the store's business; it does so in the transaction of the change itself.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::account::Account;
use crate::name::{AccountName, Uid, bounded_text};

/// Outcome of a call that did what it was asked.
pub const OK: &str = "OK";

/// Method of the entry that an operator set a wrong time right. Its detail is the newest time that was wrong.
pub const ACCEPT_CLOCK: &str = "AcceptClock";

/// Who acts, and from where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor {
    /// `token:{id}` or `operator:local`.
    pub principal: String,
    /// The peer's network address; empty for a command run beside the store.
    pub peer: String,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the vault decided.
    pub time: Timestamp,
    /// Who.
    pub actor: Actor,
    /// Which RPC or command.
    pub method: String,
    /// On what: a full resource name.
    pub resource: String,
    /// [`OK`], or the reason of the refusal.
    pub outcome: String,
    /// Secret version before; 0: none.
    pub version_before: u64,
    /// Secret version after; 0: none.
    pub version_after: u64,
    /// What else matters, in our words: which fields changed, which verdict was given. Or empty.
    pub detail: String,
    /// The caller's request id, or empty.
    pub request_id: String,
    /// The caller's reason, or empty.
    pub reason: String,
}

bounded_text!(
    /// Why a caller changes something; stands in the audit entry.
    Reason,
    |text| text.chars().count() <= 200 && !text.chars().any(char::is_control),
    "must be at most 200 characters without control characters"
);

/// Which chain an entry belongs to: an account's, or the vault's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    uid: Uid,
    name: String,
}

impl Chain {
    /// Operator acts, and refusals that must not show in the account that was named.
    pub fn of_vault() -> Self {
        Self { uid: Uid::ZERO, name: "vault".to_owned() }
    }

    /// The chain of one account.
    pub fn of_account(account: &Account) -> Self {
        Self { uid: account.uid, name: AccountName(account.id.clone()).to_string() }
    }

    /// The identity under which it is stored.
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Whose it is: an account's name, or `vault`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// An entry's place in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// From 1, without gaps.
    pub sequence: u64,
    /// Hash of the entry before; zeros for the first.
    pub previous_hash: [u8; 32],
    /// Hash of this entry.
    pub hash: [u8; 32],
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// The place.
    pub link: Link,
    /// The entry.
    pub entry: Entry,
}

/// Appends `entry` after `last` and computes its hash:
///
/// ```text
/// SHA-256( "credvault/audit/v1" | previous hash 32 | sequence u64
///   | time i64 (µs since 1970) | version before u64 | version after u64
///   | for chain, principal, peer, method, resource, outcome, detail, request id, reason:
///     length u32 | UTF-8 )
/// ```
///
/// All integers are big-endian; the lengths make the encoding unambiguous. The chain is its name,
/// `accounts/{account}` or `vault`: whoever has the entries can check them without the vault.
pub fn append(chain: &Chain, last: Option<&Link>, entry: &Entry) -> Link {
    link(&chain.name, last, entry)
}

/// The same for a chain of which only the name is known, to check what a vault has answered.
pub fn link(chain: &str, last: Option<&Link>, entry: &Entry) -> Link {
    let sequence = last.map_or(1, |last| last.sequence + 1);
    let previous_hash = last.map_or([0; 32], |last| last.hash);
    let mut hash = Sha256::new()
        .chain_update(b"credvault/audit/v1")
        .chain_update(previous_hash)
        .chain_update(sequence.to_be_bytes())
        .chain_update(entry.time.as_microsecond().to_be_bytes())
        .chain_update(entry.version_before.to_be_bytes())
        .chain_update(entry.version_after.to_be_bytes());
    let texts = [
        chain,
        &entry.actor.principal,
        &entry.actor.peer,
        &entry.method,
        &entry.resource,
        &entry.outcome,
        &entry.detail,
        &entry.request_id,
        &entry.reason,
    ];
    for text in texts {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        hash.update(length.to_be_bytes());
        hash.update(text.as_bytes());
    }
    Link { sequence, previous_hash, hash: hash.finalize().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ResourceId;

    fn acme() -> Chain {
        Chain::of_account(&Account {
            uid: Uid::from_bytes([1; 16]),
            id: ResourceId::parse("acme").unwrap(),
            disabled: false,
            enrolled_keys_only: false,
            create_time: Timestamp::UNIX_EPOCH,
        })
    }

    fn entry() -> Entry {
        Entry {
            time: Timestamp::UNIX_EPOCH,
            actor: Actor { principal: "token:1".to_owned(), peer: String::new() },
            method: "RotateCredential".to_owned(),
            resource: "accounts/acme/credentials/desk".to_owned(),
            outcome: OK.to_owned(),
            version_before: 1,
            version_after: 2,
            detail: String::new(),
            request_id: String::new(),
            reason: "weekly".to_owned(),
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let link = append(&acme(), None, &entry());
        assert_eq!(hex::encode(link.hash), include_str!("audit/entry_v1.hex").trim());
    }

    #[test]
    fn every_field_the_order_and_the_chain_are_covered() {
        let chain = &acme();
        let first = append(chain, None, &entry());
        let second = append(chain, Some(&first), &entry());
        assert_eq!((second.sequence, second.previous_hash), (2, first.hash));
        assert_ne!(second.hash, first.hash);
        assert_ne!(append(&Chain::of_vault(), None, &entry()).hash, first.hash);

        let changes: [fn(&mut Entry); 11] = [
            |e| e.time = Timestamp::from_microsecond(1).unwrap(),
            |e| e.actor.principal.push('x'),
            |e| e.actor.peer.push('x'),
            |e| e.method.push('x'),
            |e| e.resource.push('x'),
            |e| e.outcome.push('x'),
            |e| e.detail.push('x'),
            |e| e.version_before = 9,
            |e| e.version_after = 9,
            |e| e.request_id.push('x'),
            |e| (e.outcome, e.reason) = ("OKweekl".to_owned(), "y".to_owned()),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = entry();
            change(&mut changed);
            assert_ne!(append(chain, None, &changed).hash, first.hash, "change {number}");
        }
    }
}
