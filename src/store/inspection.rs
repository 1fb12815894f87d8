//! A look into a store that no process uses, for `credvault doctor`. It changes no file.

use std::fmt::Debug;

use jiff::Timestamp;

use super::{Error, Identity, Location, OpenError, Page, sqlite};
use crate::access::Owner;
use crate::access::api_token::TokenMetadata;
use crate::account::Account;
use crate::audit::Linked;
use crate::crypto::Sealed;
use crate::name::Uid;

/// Whether there is a store of ours that this process may read.
pub fn find(location: &Location) -> Result<(), OpenError> {
    match location {
        Location::Sqlite(path) => sqlite::find(path).map(drop),
    }
}

/// Looks for a store; None: a process uses it. While the answer is held, none can open it.
pub fn inspect(location: &Location) -> Result<Option<Box<dyn Inspection>>, OpenError> {
    match location {
        Location::Sqlite(path) => Ok(match sqlite::Inspected::of(path)? {
            Some(inspected) => Some(Box::new(inspected)),
            None => None,
        }),
    }
}

/// Why the place of a store is not fit for one: what would refuse its start before it is opened.
pub fn place_problems(location: &Location) -> Vec<OpenError> {
    match location {
        Location::Sqlite(path) => sqlite::place_problems(path),
    }
}

/// A secret as it is stored.
#[derive(Debug)]
pub struct StoredSecret {
    /// The name of the resource that it belongs to.
    pub name: String,
    /// That resource.
    pub resource: Uid,
    /// Whose kind it is.
    pub kind: SecretKind,
    /// The secret version.
    pub version: u64,
    /// The secret.
    pub sealed: Sealed,
}

/// What a stored secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// A credential's password.
    Password,
    /// A provider's token.
    Token,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Credentials and providers, each with a secret.
    pub secrets: u64,
    /// Audit entries.
    pub entries: u64,
}

/// A store that was looked into. Nothing here trusts what the file holds.
pub trait Inspection: Debug {
    /// Whose store it is.
    fn identity(&self) -> Result<Identity, Error>;

    /// Its schema, and the one that this Credvault works with. What is older is brought up to date by a start; until
    /// then only its identity can be read.
    fn schema(&self) -> Result<(i64, i64), Error>;

    /// Whether the process before closed it in order.
    fn was_closed(&self) -> bool;

    /// What is wrong with the file as such, in the storage's words. The thorough check compares each index with its
    /// table, too.
    fn check(&self, thorough: bool) -> Result<Vec<String>, Error>;

    /// The time of the newest audit entry, but for times that an operator has set right since.
    fn newest_entry(&self, now: Timestamp) -> Result<Option<Timestamp>, Error>;

    /// How much there is.
    fn counts(&self) -> Result<Counts, Error>;

    /// All accounts, by id.
    fn accounts(&self) -> Result<Vec<Account>, Error>;

    /// Whether anybody may let others in.
    fn has_admin(&self, owner: &Owner, now: Timestamp) -> Result<bool, Error>;

    /// All tokens of an owner, by id.
    fn tokens(&self, owner: &Owner) -> Result<Vec<TokenMetadata>, Error>;

    /// Every secret of an account; for one that cannot be read as what it should be, the name of its place.
    fn secrets(
        &self,
        account: &Account,
        each: &mut dyn FnMut(Result<StoredSecret, String>),
    ) -> Result<(), Error>;

    /// The entries of a chain after a sequence, oldest first.
    fn entries(&self, chain: Uid, after: u64) -> Result<Page<Linked>, Error>;

    /// Chains of accounts that are not there.
    fn stray_chains(&self) -> Result<u64, Error>;
}
