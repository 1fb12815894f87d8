//! SQLite: the embedded default. The only module that knows rusqlite.
//!
//! - One writer thread with group commit (`writer.rs`): many requests, one fsync.
//! - Reads run where they are called, on pooled read-only connections; lists go to a blocking thread.
//! - Checkpoints have a thread of their own (`checkpoint.rs`); after a change of a secret the log is
//!   truncated within 60 s, so that overwritten ciphertext does not stay in the files.
//! - `synchronous=FULL`: NORMAL loses acknowledged commits on a power cut. `secure_delete=ON`: freed pages
//!   are zeroed.

mod access;
mod changes;
mod checkpoint;
mod checksum;
mod credentials;
mod files;
mod inspect;
mod known;
mod list;
mod place;
mod providers;
mod read;
mod readers;
mod room;
mod rotations;
mod scans;
mod sweep;
mod verifications;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, InterruptHandle};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{
    Changes, Done, Due, DuePosition, Error, Held, Identity, OnceKey, OpenError, Page, Store,
    StoredApiToken, StoredCredential, StoredProvider, StoredRotation, VersionKey, VersionUse,
    Write,
};
use crate::access::api_token::{TokenId, TokenMetadata};
use crate::access::principal::RoleBinding;
use crate::access::spiffe::SpiffeId;
use crate::access::{AccountScope, OperatorScope, Owner, OwnerScope, Standing, Worker};
use crate::account::Account;
use crate::audit::{Link, Linked};
use crate::clock::Clock;
use crate::credential::{Credential, CredentialFilter, Realm, Username};
use crate::defect::{Defect, planted};
use crate::name::{ResourceId, Uid};
use crate::provider::{Provider, ProviderFilter, Verification};
use crate::recipient::RecipientKey;
use crate::rotation::{Rotation, RotationFilter};
use checkpoint::Checkpointer;
use known::Known;
use readers::{Commits, Readers};
use room::Room;
use scans::Scans;
use writer::Writer;

pub(super) use files::create;
pub(super) use inspect::Inspected;
pub(super) use place::{find, folder, place_problems, prepare};

/// Memory for pages that point reads have read, all connections together.
const READ_CACHE: usize = 64 << 20;

/// The same for each connection at the least, and for the ones that lists scan with.
const SMALL_CACHE: usize = 2 << 20;

/// A vault in one SQLite file.
pub(super) struct SqliteStore {
    identity: Identity,
    readers: Arc<Readers>,
    scans: Scans,
    known: Arc<Known>,
    writer: Writer,
    checkpointer: Checkpointer,
    check: Option<InterruptHandle>,
    has_room: watch::Receiver<bool>,
    commits: Commits,
    clock: Arc<dyn Clock>,
    lock: files::Lock,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the file at `path`, for which this process holds the lock.
    fn open(path: &Path, lock: files::Lock, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let writing = files::open_for_writing(path)?;
        files::sync_folder(path)?;
        // A full disk may have taken the lock file's mark, too.
        if lock.unclean || files::size_of(&files::beside(path, "-wal")) > 0 {
            files::settle(path, &writing)?;
        }
        let identity = read::identity(&writing).map_err(|source| files::damaged(path, &source))?;
        let check = if lock.unclean { files::check_in_background(path) } else { None };
        let commits = Commits::default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cache = SMALL_CACHE.max(READ_CACHE / cores);
        let readers = Arc::new(Readers::of(path, cache, commits.clone()));
        let scans = Scans::of(Readers::for_scans(path, SMALL_CACHE, commits.clone()));
        let connection = files::open_for_writing(path)?;
        let kept = Arc::clone(&readers);
        let checkpointer = Checkpointer::start(connection, path, kept, lock.unclean)?;
        let room = Room::beside(path);
        let has_room = room.watch();
        let known = Arc::<Known>::default();
        let beside = writer::Beside {
            clock: Arc::clone(&clock),
            notes: checkpointer.notes(),
            commits: commits.clone(),
            known: Arc::clone(&known),
            room,
            runtime: Handle::current(),
        };
        let writer = Writer::start(writing, beside)?;
        Ok(Self {
            identity,
            readers,
            scans,
            known,
            writer,
            checkpointer,
            check,
            has_room,
            commits,
            clock,
            lock,
        })
    }

    /// Reads where it is called: a point read takes microseconds, a hop to a thread takes longer.
    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.readers.with(query)
    }
}

/// Takes the file at `path` for this process alone, and looks at it.
pub(super) fn hold(path: &Path, clock: Arc<dyn Clock>) -> Result<Held, OpenError> {
    let path = place::resolve(path)?;
    let lock = files::Lock::take(&path)?;
    if planted(Defect::EarlyMigration) {
        files::open_for_writing(&path)?;
    }
    let looking = files::open_to_look(&path)?;
    let look = || Ok((read::identity(&looking)?, read::newest_entry(&looking, clock.now())?));
    let (identity, newest_entry) = look().map_err(|source| files::damaged(&path, &source))?;
    drop(looking);
    let open = move || -> Result<Arc<dyn Store>, OpenError> {
        Ok(Arc::new(SqliteStore::open(&path, lock, clock)?))
    };
    Ok(Held { identity, newest_entry, open: Box::new(open) })
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.into()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.into())
            }
            Some(_) => Self::Unavailable(error.into()),
            // Not SQLite's own: a column did not hold what its type promises.
            None => Self::Damaged(error.into()),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A second process on the same file does not start.
    fn is_exclusive(&self) -> bool {
        true
    }

    async fn api_token(&self, id: &TokenId) -> Result<Option<StoredApiToken>, Error> {
        self.known.token(id, || self.read(|connection| access::api_token(connection, id)))
    }

    async fn token_owner(&self, _: &OperatorScope, id: &TokenId) -> Result<Option<Owner>, Error> {
        self.read(|connection| access::token_owner(connection, id))
    }

    async fn standing(&self, workload: &SpiffeId) -> Result<Arc<Standing>, Error> {
        let read = || self.read(|connection| access::standing(connection, workload));
        self.known.standing(workload, read)
    }

    async fn account(&self, _: &OperatorScope, id: &ResourceId) -> Result<Option<Account>, Error> {
        self.read(|connection| access::account(connection, id))
    }

    async fn list_accounts(
        &self,
        _: &OperatorScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Account>, Error> {
        self.scans
            .run(Some(Uid::ZERO), move |connection| {
                access::list_accounts(connection, after.as_deref(), limit)
            })
            .await
    }

    async fn token_metadata(
        &self,
        scope: &OwnerScope,
        id: &TokenId,
    ) -> Result<Option<TokenMetadata>, Error> {
        let owner = scope.owner();
        self.read(|connection| access::token_metadata(connection, (owner.uid(), &owner.name()), id))
    }

    async fn list_api_tokens(
        &self,
        scope: &OwnerScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<TokenMetadata>, Error> {
        let (owner, name) = (scope.owner().uid(), scope.owner().name());
        self.scans
            .run(Some(owner), move |connection| {
                access::list_api_tokens(connection, (owner, &name), after.as_deref(), limit)
            })
            .await
    }

    async fn list_role_bindings(
        &self,
        scope: &OwnerScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<RoleBinding>, Error> {
        let owner = scope.owner().uid();
        self.scans
            .run(Some(owner), move |connection| {
                access::list_role_bindings(connection, owner, after.as_deref(), limit)
            })
            .await
    }

    async fn credential(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<StoredCredential>, Error> {
        self.read(|connection| credentials::credential(connection, scope, id))
    }

    async fn credential_by_username(
        &self,
        scope: &AccountScope,
        realm: &Realm,
        username: &Username,
    ) -> Result<Option<StoredCredential>, Error> {
        self.read(|connection| credentials::by_username(connection, scope, realm, username))
    }

    async fn list_credentials(
        &self,
        scope: &AccountScope,
        filter: CredentialFilter,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Credential>, Error> {
        let account = scope.account().clone();
        self.scans
            .run(Some(account.uid), move |connection| {
                list::list_credentials(connection, &account, &filter, after.as_deref(), limit)
            })
            .await
    }

    async fn due(
        &self,
        _: &Worker,
        what: Due,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Account, ResourceId)>, Error> {
        let due = move |connection: &Connection| rotations::due(connection, what, until, limit);
        match what {
            // Whoever asks has calls under way, and does not wait behind lists.
            Due::Work => self.read(due),
            Due::Retirement | Due::TokenRetirement | Due::Expiry => self.scans.run(None, due).await,
        }
    }

    async fn scheduled(
        &self,
        _: &Worker,
        until: Timestamp,
        after: Option<DuePosition>,
        limit: usize,
    ) -> Result<Vec<(Account, DuePosition)>, Error> {
        self.scans
            .run(None, move |connection| {
                credentials::scheduled(connection, until, after.as_ref(), limit)
            })
            .await
    }

    async fn version_uses(&self, keys: &[VersionKey]) -> Result<Vec<VersionUse>, Error> {
        self.read(|connection| rotations::uses(connection, keys))
    }

    async fn rotation(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<StoredRotation>, Error> {
        self.read(|connection| rotations::rotation(connection, scope.account(), id))
    }

    async fn rotation_of_version(
        &self,
        scope: &AccountScope,
        resource: Uid,
        version: u64,
    ) -> Result<Option<StoredRotation>, Error> {
        let account = scope.account();
        self.read(|connection| rotations::of_version(connection, account, resource, version))
    }

    async fn list_rotations(
        &self,
        scope: &AccountScope,
        filter: RotationFilter,
        before: Option<String>,
        limit: usize,
    ) -> Result<Page<Rotation>, Error> {
        let account = scope.account().clone();
        self.scans
            .run(Some(account.uid), move |connection| {
                rotations::list(connection, &account, &filter, before.as_deref(), limit)
            })
            .await
    }

    async fn recipient_key(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<RecipientKey>, Error> {
        self.read(|connection| rotations::recipient_key(connection, scope.account(), id))
    }

    async fn access_token_policy(
        &self,
        scope: &AccountScope,
    ) -> Result<Option<crate::access_token::AccessTokenPolicy>, Error> {
        self.read(|connection| access::access_token_policy(connection, scope.account().uid))
    }

    async fn list_recipient_keys(
        &self,
        scope: &AccountScope,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<RecipientKey>, Error> {
        let account = scope.account().clone();
        self.scans
            .run(Some(account.uid), move |connection| {
                rotations::list_recipient_keys(connection, &account, after.as_deref(), limit)
            })
            .await
    }

    async fn provider(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<StoredProvider>, Error> {
        self.read(|connection| providers::provider(connection, scope, id))
    }

    async fn list_providers(
        &self,
        scope: &AccountScope,
        filter: ProviderFilter,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Provider>, Error> {
        let account = scope.account().clone();
        self.scans
            .run(Some(account.uid), move |connection| {
                providers::list(connection, &account, &filter, after.as_deref(), limit)
            })
            .await
    }

    async fn list_verifications(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Page<Verification>, Error> {
        let account = scope.account().uid;
        let before = before.map(Timestamp::as_microsecond);
        self.read(|connection| verifications::list(connection, account, id, before, limit))
    }

    async fn providers_between(
        &self,
        _: &Worker,
        first: Uid,
        last: Uid,
        limit: usize,
    ) -> Result<Page<(Account, ResourceId, Uid)>, Error> {
        self.scans
            .run(None, move |connection| {
                verifications::providers_between(connection, first, last, limit)
            })
            .await
    }

    async fn list_audit_entries(
        &self,
        scope: &OwnerScope,
        resource: Option<String>,
        after: u64,
        limit: usize,
    ) -> Result<Page<Linked>, Error> {
        let owner = scope.owner().uid();
        self.scans
            .run(Some(owner), move |connection| {
                read::list_audit_entries(connection, owner, resource.as_deref(), after, limit)
            })
            .await
    }

    async fn link(
        &self,
        scope: &AccountScope,
        sequence: Option<u64>,
    ) -> Result<Option<Link>, Error> {
        let chain = scope.account().uid;
        self.read(|connection| changes::link(connection, chain, sequence))
    }

    async fn changed_credentials(
        &self,
        scope: &AccountScope,
        after: u64,
        limit: usize,
    ) -> Result<Changes, Error> {
        let account = scope.account().clone();
        self.scans
            .run(Some(account.uid), move |connection| {
                changes::changed_credentials(connection, &account, after, limit)
            })
            .await
    }

    fn commits(&self) -> watch::Receiver<()> {
        self.commits.follow()
    }

    async fn done(&self, key: &OnceKey) -> Result<Option<Done>, Error> {
        let now = self.clock.now();
        self.read(|connection| read::done(connection, key, now))
    }

    async fn commit(&self, write: Write) -> Result<(), Error> {
        self.lock.in_use();
        self.writer.commit(write).await
    }

    fn has_room(&self) -> watch::Receiver<bool> {
        self.has_room.clone()
    }

    async fn close(&self) {
        self.writer.stop().await;
        if let Some(check) = &self.check {
            check.interrupt();
        }
        self.readers.close();
        self.scans.close();
        if self.checkpointer.stop().await {
            self.lock.closed();
        }
    }
}
