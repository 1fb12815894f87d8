//! Storage: what the vault remembers, behind one trait of coarse, atomic operations.
//!
//! A store sees ciphertext ([`crate::crypto::Sealed`]) and metadata, never plaintext. Every mutation is one [`Write`]: the
//! change, its audit entry and its idempotency row, which become durable together or not at all. A new
//! store is one file, its SQL folder, a line in each match of `location`, and one line in the contract suite.

mod change;
pub mod inspection;
mod location;
mod sqlite;
mod stored;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::access::api_token::{TokenId, TokenMetadata};
use crate::access::principal::RoleBinding;
use crate::access::spiffe::SpiffeId;
use crate::access::{AccountScope, OperatorScope, Owner, OwnerScope, Standing, Worker};
use crate::access_token::AccessTokenPolicy;
use crate::account::Account;
use crate::audit::{Link, Linked};
use crate::credential::{Credential, CredentialFilter, Realm, Username};
use crate::name::{ResourceId, Uid};
use crate::provider::{Provider, ProviderFilter, Verification};
use crate::recipient::RecipientKey;
use crate::rotation::{Rotation, RotationFilter};

pub use change::{Change, Write};
pub use location::{Held, Identity, Location, OpenError, create, hold, open};
pub use stored::{StoredCredential, StoredProvider, StoredRotation, StoredToken, StoredVersion};

/// Where a look at what is due on its schedule stands: times, and what falls due at the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePosition {
    /// When it is due.
    pub time: Timestamp,
    /// Its account.
    pub account: Uid,
    /// Its id there.
    pub id: ResourceId,
}

/// What became of a version of a secret in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VersionUse {
    /// When it was last presented.
    pub last_success_time: Option<Timestamp>,
    /// How often it was presented.
    pub successes: u64,
    /// How often something else was presented while it was active.
    pub failures: u64,
}

impl VersionUse {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: Self) {
        self.successes += other.successes;
        self.failures += other.failures;
        self.last_success_time = self.last_success_time.max(other.last_success_time);
    }
}

/// A version of a resource's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionKey {
    /// The account.
    pub account: Uid,
    /// The resource.
    pub resource: Uid,
    /// The number of the version.
    pub version: u64,
}

/// What was counted of a version of a credential's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The version.
    pub key: VersionKey,
    /// The credential's id, by which it is found.
    pub credential: ResourceId,
    /// What is to be added.
    pub uses: VersionUse,
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

/// What was taken already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The resource id.
    Id,
    /// The username in its realm.
    Username,
    /// What it is at its carrier.
    AtCarrier,
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
    /// Something lives at the provider.
    #[error("the provider is in use")]
    InUse,
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

/// What the vault has to see to by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Credentials of which a version retires.
    Retirement,
    /// Providers of which a token retires.
    TokenRetirement,
    /// Rotations whose delivery or whose wait ends.
    Expiry,
    /// Rotations whose carrier is asked next.
    Work,
}

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

/// What became of an account's credentials after some entry of its audit chain.
#[derive(Debug)]
pub struct Changes {
    /// Each credential that the entries name, once: as it is now, or nothing if it is gone. About 768 KiB at the most.
    pub credentials: Vec<(ResourceId, Option<Credential>)>,
    /// The last entry that was looked at. None: there was none.
    pub reached: Option<Link>,
}

/// The vault's memory. Every method is atomic; reads see every write that was acknowledged.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// What makes this vault this vault.
    fn identity(&self) -> &Identity;

    /// Whether no other process can have this store open.
    fn is_exclusive(&self) -> bool;

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

    /// What is due by `until` in all accounts that are not disabled: credentials, providers or rotations.
    async fn due(
        &self,
        worker: &Worker,
        what: Due,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Account, ResourceId)>, Error>;

    /// Enabled credentials of all accounts that are not disabled, which are due on their schedule at `until` or before;
    /// the one that is due first comes first, those after `after`.
    async fn scheduled(
        &self,
        worker: &Worker,
        until: Timestamp,
        after: Option<DuePosition>,
        limit: usize,
    ) -> Result<Vec<(Account, DuePosition)>, Error>;

    /// How often versions were used; nothing for one that never was.
    async fn version_uses(&self, keys: &[VersionKey]) -> Result<Vec<VersionUse>, Error>;

    /// One rotation.
    async fn rotation(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<StoredRotation>, Error>;

    /// The rotation that made a version.
    async fn rotation_of_version(
        &self,
        scope: &AccountScope,
        resource: Uid,
        version: u64,
    ) -> Result<Option<StoredRotation>, Error>;

    /// Rotations that fit, newest first, those before `before`, which is an id.
    async fn list_rotations(
        &self,
        scope: &AccountScope,
        filter: RotationFilter,
        before: Option<String>,
        limit: usize,
    ) -> Result<Page<Rotation>, Error>;

    /// One recipient key.
    async fn recipient_key(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<RecipientKey>, Error>;

    /// What the account allows in access tokens, if it is still there.
    async fn access_token_policy(
        &self,
        scope: &AccountScope,
    ) -> Result<Option<AccessTokenPolicy>, Error>;

    /// Recipient keys ordered by id, after `after`.
    async fn list_recipient_keys(
        &self,
        scope: &AccountScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<RecipientKey>, Error>;

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

    /// The link of the account's audit chain that has this sequence; its last one if none is named.
    async fn link(
        &self,
        scope: &AccountScope,
        sequence: Option<u64>,
    ) -> Result<Option<Link>, Error>;

    /// The credentials that audit entries after sequence `after` name, as they are now: at least as new as the entries.
    /// Looks at no more than `limit` of these.
    async fn changed_credentials(
        &self,
        scope: &AccountScope,
        after: u64,
        limit: usize,
    ) -> Result<Changes, Error>;

    /// Tells of commits, some time after they are durable: whoever is told and reads finds what was committed. Others
    /// than those of this process may not be told of.
    fn commits(&self) -> watch::Receiver<()>;

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
