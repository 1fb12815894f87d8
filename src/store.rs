//! Storage: what the vault remembers, behind one trait of coarse, atomic operations.
//!
//! A store sees ciphertext ([`Sealed`]) and metadata, never plaintext. Every mutation is one [`Write`]: the
//! change, its audit entry and its idempotency row, which become durable together or not at all. A new
//! store is one file, its SQL folder, a line in each match of `location`, and one line in the contract suite.

pub mod inspection;
mod location;
mod sqlite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::access::api_token::{TokenId, TokenMetadata};
use crate::access::principal::{Principal, RoleBinding};
use crate::access::spiffe::SpiffeId;
use crate::access::{AccountScope, Authorized, OperatorScope, Owner, OwnerScope, Standing, Worker};
use crate::account::Account;
use crate::audit::{self, Chain, Linked};
use crate::credential::{Credential, CredentialFilter, Realm, Username};
use crate::crypto::Sealed;
use crate::name::{ResourceId, Uid};
use crate::provider::{Provider, ProviderFilter, Verification};

pub use location::{Held, Identity, Location, OpenError, create, hold, open};

/// A credential with its active password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// The configuration.
    pub credential: Credential,
    /// The active password.
    pub password: Sealed,
}

/// A provider with its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProvider {
    /// The configuration.
    pub provider: Provider,
    /// The token.
    pub token: Sealed,
}

/// An API token as stored, with what it opens.
#[derive(Debug, Clone)]
pub struct StoredApiToken {
    /// Keyed hash of its secret.
    pub hash: [u8; 32],
    /// It is refused from then on.
    pub expire_time: Timestamp,
    /// Set when it was revoked.
    pub revoke_time: Option<Timestamp>,
    /// What it may do.
    pub standing: Arc<Standing>,
}

/// Under what a request id is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceKey {
    /// The account; zero for the vault itself.
    pub account: Uid,
    /// Who called.
    pub principal: String,
    /// Which RPC.
    pub method: &'static str,
    /// The caller's UUID.
    pub request_id: [u8; 16],
}

/// What a request id has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Keyed fingerprint of the request.
    pub fingerprint: [u8; 32],
    /// The id of the resource it acted on.
    pub resource_id: ResourceId,
    /// That resource itself: another one may have its id by now.
    pub resource: Uid,
    /// The secret version that it left.
    pub version: u64,
    /// When.
    pub time: Timestamp,
    /// Forgotten from then on.
    pub expire_time: Timestamp,
}

/// A change of state.
#[derive(Debug)]
pub enum Change {
    /// None: the audit entry is all (a refusal).
    AuditOnly,
    /// A new account. [`Error::Taken`] when its id is taken.
    CreateAccount(Account),
    /// Closes an account to everybody, or opens it again, if it is still there.
    SetAccountDisabled {
        /// The account.
        account: Uid,
        /// Whether it is closed.
        disabled: bool,
    },
    /// Removes a disabled account with everything in it. The audit entry keeps the last hash of its chain.
    DeleteAccount(Account),
    /// A token with its roles. [`Error::AdminExists`] when it was to be the first admin and is not.
    CreateApiToken {
        /// What is known of it.
        token: TokenMetadata,
        /// Keyed hash of its secret.
        hash: [u8; 32],
        /// Whether only the first admin is to be made.
        first_admin: bool,
    },
    /// The end of a token, if the owner has one of this id.
    RevokeApiToken {
        /// The token's public part.
        token: TokenId,
        /// When; an earlier time stays.
        time: Timestamp,
        /// Whether the last admin must stay: [`Error::LastAdmin`], [`Error::LastOperator`].
        keep_last_admin: bool,
    },
    /// Gives a principal exactly these roles.
    SetRoleBinding {
        /// The principal and its roles.
        binding: RoleBinding,
        /// Whether the last admin must stay.
        keep_last_admin: bool,
    },
    /// Takes all roles from a principal that has any.
    DeleteRoleBinding {
        /// The principal.
        principal: Principal,
        /// Whether the last admin must stay.
        keep_last_admin: bool,
    },
    /// A new credential. [`Error::Taken`] when its id or its username is taken.
    CreateCredential(StoredCredential),
    /// A credential's new state, if it is still at revision `expect`.
    ReplaceCredential {
        /// The revision that the new state was made from.
        expect: u64,
        /// The new state.
        new: StoredCredential,
    },
    /// Removes a credential and its secrets, if it is still at its revision.
    DeleteCredential(Credential),
    /// A new provider. [`Error::Taken`] when its id is taken.
    CreateProvider(StoredProvider),
    /// A provider's new state, if it is still at revision `expect`.
    ReplaceProvider {
        /// The revision that the new state was made from.
        expect: u64,
        /// The new state.
        new: StoredProvider,
    },
    /// A verification, if token and kind are still those that were verified. An older one than what is stored only
    /// enters the history.
    RecordVerification(Provider),
    /// Removes a provider and its token, if it is still at its revision.
    DeleteProvider(Provider),
}

/// One atomic mutation with its audit entry. A change needs a scope: nothing changes unauthorized.
#[derive(Debug)]
pub struct Write {
    account: Uid,
    chain: Chain,
    change: Change,
    record: Record,
    once: Option<(OnceKey, Done)>,
}

/// Where it stands that a write was made.
#[derive(Debug)]
enum Record {
    /// In the audit chain.
    Audit(Box<audit::Entry>),
    /// In the history of verifications alone, because nothing changed but the time.
    History,
}

impl Write {
    /// A change of what `scope` is about, and what its request id has done.
    pub fn new(
        scope: &impl Authorized,
        change: Change,
        entry: audit::Entry,
        once: Option<(OnceKey, Done)>,
    ) -> Self {
        let record = Record::Audit(Box::new(entry));
        Self { account: scope.owner_uid(), chain: scope.chain(), change, record, once }
    }

    /// A verification. Without an entry where it found nothing new: its place in the history is its record.
    pub fn verification(
        scope: &AccountScope,
        provider: Provider,
        entry: Option<audit::Entry>,
    ) -> Self {
        let account = scope.account().uid;
        let chain = Chain::of_account(scope.account());
        let record = entry.map_or(Record::History, |entry| Record::Audit(Box::new(entry)));
        Self { account, chain, change: Change::RecordVerification(provider), record, once: None }
    }

    /// Whether it must happen even for a caller who has gone: else refusals could be hidden.
    fn is_record_only(&self) -> bool {
        matches!(self.change, Change::AuditOnly)
    }

    /// The record of a refusal: it changes nothing but the chain.
    pub fn refusal(chain: Chain, entry: audit::Entry) -> Self {
        let record = Record::Audit(Box::new(entry));
        Self { account: Uid::ZERO, chain, change: Change::AuditOnly, record, once: None }
    }
}

/// What was taken already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The resource id.
    Id,
    /// The username in its realm.
    Username,
}

/// Why a store did not do what it was asked. Nothing of it has happened, except after `Unavailable` from
/// [`Store::commit`]: there the outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The row moved since it was read. Read again and decide again.
    #[error("the row changed in between")]
    Conflict,
    /// Something unique exists already.
    #[error("already exists")]
    Taken(Taken),
    /// The account has an admin already.
    #[error("the account has an admin")]
    AdminExists,
    /// Nobody could let anybody into the account any more.
    #[error("it is the account's last admin")]
    LastAdmin,
    /// Nobody could operate the vault any more.
    #[error("it is the vault's last operator")]
    LastOperator,
    /// The account was disabled since its caller was let in.
    #[error("the account is disabled")]
    Disabled,
    /// The request id was used already.
    #[error("the request id was used already")]
    Repeated(Done),
    /// Too many writes are waiting.
    #[error("the write queue is full")]
    Overloaded,
    /// The disk is full.
    #[error("the storage is full")]
    Full(#[source] Source),
    /// The storage does not answer, or failed.
    #[error("the storage failed")]
    Unavailable(#[source] Source),
    /// What is stored cannot be read as what it should be.
    #[error("a stored record is damaged")]
    Damaged(#[source] Source),
}

/// The cause of a storage failure, for the log.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// At most as many as were asked for, and at most about 768 KiB.
    pub items: Vec<T>,
    /// Whether there may be more.
    pub more: bool,
    /// Where the search for more goes on, if not behind the last item: it may end before it has found enough.
    pub reached: Option<String>,
}

/// The vault's memory. Every method is atomic; reads see every write that was acknowledged.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// What makes this vault this vault.
    fn identity(&self) -> &Identity;

    /// An API token and its standing.
    async fn api_token(&self, id: &TokenId) -> Result<Option<StoredApiToken>, Error>;

    /// Whose token it is, for whoever holds the store.
    async fn token_owner(&self, _: &OperatorScope, id: &TokenId) -> Result<Option<Owner>, Error>;

    /// What is bound to a workload: to its id, and to the paths above it.
    async fn standing(&self, workload: &SpiffeId) -> Result<Arc<Standing>, Error>;

    /// One account.
    async fn account(
        &self,
        scope: &OperatorScope,
        id: &ResourceId,
    ) -> Result<Option<Account>, Error>;

    /// Accounts ordered by id, after `after`.
    async fn list_accounts(
        &self,
        scope: &OperatorScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Account>, Error>;

    /// What is known of a token of the owner.
    async fn token_metadata(
        &self,
        scope: &OwnerScope,
        id: &TokenId,
    ) -> Result<Option<TokenMetadata>, Error>;

    /// The owner's tokens ordered by id, after `after`.
    async fn list_api_tokens(
        &self,
        scope: &OwnerScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<TokenMetadata>, Error>;

    /// The owner's role bindings ordered by principal, after `after`.
    async fn list_role_bindings(
        &self,
        scope: &OwnerScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<RoleBinding>, Error>;

    /// One credential.
    async fn credential(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<StoredCredential>, Error>;

    /// One credential, by what a phone presents.
    async fn credential_by_username(
        &self,
        scope: &AccountScope,
        realm: &Realm,
        username: &Username,
    ) -> Result<Option<StoredCredential>, Error>;

    /// Credentials that fit, ordered by [`CredentialFilter::position`], after `after`, which is one.
    async fn list_credentials(
        &self,
        scope: &AccountScope,
        filter: CredentialFilter,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Credential>, Error>;

    /// One provider.
    async fn provider(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<StoredProvider>, Error>;

    /// Providers ordered by id, after `after`.
    async fn list_providers(
        &self,
        scope: &AccountScope,
        filter: ProviderFilter,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Provider>, Error>;

    /// A provider's verifications, newest first, those before `before`.
    async fn list_verifications(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Page<Verification>, Error>;

    /// Which providers there are in all accounts that are not disabled, by uid from `first` to `last`, both
    /// inclusive.
    async fn providers_between(
        &self,
        worker: &Worker,
        first: Uid,
        last: Uid,
        limit: usize,
    ) -> Result<Page<(Account, ResourceId, Uid)>, Error>;

    /// The owner's audit entries after sequence `after`, oldest first.
    async fn list_audit_entries(
        &self,
        scope: &OwnerScope,
        resource: Option<String>,
        after: u64,
        limit: usize,
    ) -> Result<Page<Linked>, Error>;

    /// What a request id has done, unless it is forgotten.
    async fn done(&self, key: &OnceKey) -> Result<Option<Done>, Error>;

    /// Performs a write. `Ok` means durable: change, audit entry and request id, all three.
    async fn commit(&self, write: Write) -> Result<(), Error>;

    /// Whether there is room for changes. False from when the disk refused one until it has room again, which the
    /// store finds out by itself.
    fn has_room(&self) -> watch::Receiver<bool>;

    /// Finishes the writes that wait, moves everything into the main file and lets go of it.
    async fn close(&self);
}
