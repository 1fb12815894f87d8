//! What the contract suites store: accounts, credentials, providers, and the scopes to store them with.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use credvault::access::api_token::{ApiTokenName, TokenId, TokenMetadata};
use credvault::access::{
    self, AccountScope, Caller, CreateAccount, CreateApiToken, CreateCredential, DisableAccount,
    ListAuditEntries, LocalOperator, Owner, OwnerScope, Role,
};
use credvault::account::Account;
use credvault::audit::{self, Actor, Chain, Entry, Linked};
use credvault::clock::{Clock, MockClock};
use credvault::credential::{Credential, CredentialFilter, Description, Labels, Realm, Username};
use credvault::crypto::{Kek, Keyring, Sealed, Sealer, random};
use credvault::name::{CredentialName, ProviderName, ResourceId, Uid};
use credvault::provider::twilio::{AccountSid, Region, TwilioAccount};
use credvault::provider::{
    Check, CheckStatus, DisplayName, Facts, Kind, Provider, Status, TokenKind, Verification,
};
use credvault::store::{
    self, Change, Done, Identity, Location, OnceKey, OpenError, Page, Store, StoredCredential,
    StoredProvider, Write,
};
use credvault::versions::Versions;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

/// A place for a store, with a clock that stands still.
pub(crate) struct Home {
    _dir: tempfile::TempDir,
    pub(crate) location: Location,
    pub(crate) clock: Arc<MockClock>,
    pub(crate) identity: Identity,
}

impl Home {
    pub(crate) fn new(location: fn(&Path) -> Location) -> Self {
        let dir = private_dir();
        let uid = Uid::from_bytes([42; 16]);
        let keyring = Keyring::new(vec![Kek::new(1, &[1; 32])]).unwrap();
        let root = Sealer::create_root(&keyring, uid).unwrap();
        let create_time = time("2026-01-01T00:00:00.123456Z");
        Self {
            location: location(dir.path()),
            clock: Arc::new(MockClock::at(time("2026-05-01T12:00:00Z"))),
            identity: Identity { uid, dev: false, root, create_time },
            _dir: dir,
        }
    }

    /// Creates the store and opens it.
    pub(crate) fn create(&self) -> Arc<dyn Store> {
        store::create(&self.location, &self.identity).unwrap();
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Arc<dyn Store>, OpenError> {
        let clock: Arc<dyn Clock> = Arc::<MockClock>::clone(&self.clock);
        store::open(&self.location, clock)
    }

    /// Closes the store and opens what it left.
    pub(crate) async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store.close().await;
        drop(store);
        self.try_open().unwrap()
    }

    /// A request id of `scope`, and what it has done.
    pub(crate) fn once(&self, scope: &AccountScope, request: u8) -> (OnceKey, Done) {
        let key = OnceKey {
            account: scope.account().uid,
            principal: scope.actor().principal.clone(),
            method: scope.method(),
            request_id: [request; 16],
        };
        let time = self.clock.now();
        let expire_time = time + SignedDuration::from_hours(24);
        let resource_id = id("desk");
        let resource = Uid::from_bytes([request; 16]);
        let fingerprint = [request; 32];
        (key, Done { fingerprint, resource_id, resource, version: 3, time, expire_time })
    }
}

/// A folder for its owner alone, as a store asks.
pub(crate) fn private_dir() -> tempfile::TempDir {
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

/// Stores a token with `roles` in an account, and returns the caller that it makes.
pub(crate) async fn add_token(
    store: &dyn Store,
    token: [u8; 12],
    account: &str,
    roles: &[Role],
) -> Caller {
    let token = TokenId::from_random(token);
    let operator = LocalOperator::beside_the_store();
    let scope = operator.scope::<CreateAccount>();
    let account = match store.account(&scope, &id(account)).await.unwrap() {
        Some(account) => account,
        None => add_account(store, account).await,
    };
    let scope = operator.owner_scope::<CreateApiToken>(Owner::Account(account));
    let change = Change::CreateApiToken {
        token: metadata(&scope, token.clone(), roles),
        hash: [7; 32],
        first_admin: false,
    };
    store.commit(Write::new(&scope, change, entry("CreateApiToken"), None)).await.unwrap();
    let stored = store.api_token(&token).await.unwrap().unwrap();
    let (standing, expire_time) = (stored.standing, stored.expire_time);
    Caller { actor: actor(&token.principal()), standing, expire_time }
}

/// What is known of a token that is good for years.
pub(crate) fn metadata(scope: &OwnerScope, token: TokenId, roles: &[Role]) -> TokenMetadata {
    TokenMetadata {
        name: ApiTokenName { owner: scope.owner().name(), id: token },
        display_name: DisplayName::parse("").unwrap(),
        roles: roles.to_vec(),
        create_time: time("2026-01-02T00:00:00Z"),
        expire_time: time("2030-01-01T00:00:00Z"),
        revoke_time: None,
    }
}

/// Stores an account without anything in it.
pub(crate) async fn add_account(store: &dyn Store, name: &str) -> Account {
    let account = Account {
        uid: Uid::from_bytes(random::bytes().unwrap()),
        id: id(name),
        disabled: false,
        enrolled_keys_only: false,
        create_time: time("2026-01-02T00:00:00Z"),
    };
    let scope = LocalOperator::beside_the_store().scope::<CreateAccount>();
    let change = Change::CreateAccount(account.clone());
    store.commit(Write::new(&scope, change, entry("CreateAccount"), None)).await.unwrap();
    account
}

/// Disables an account.
pub(crate) async fn close(store: &dyn Store, account: &Account) {
    let scope = LocalOperator::beside_the_store().scope::<DisableAccount>();
    let change = Change::SetAccountDisabled { account: account.uid, disabled: true };
    store.commit(Write::new(&scope, change, entry("DisableAccount"), None)).await.unwrap();
}

/// The scope of an admin of an account, which is made if it does not exist.
pub(crate) async fn scope(store: &dyn Store, account: &str) -> AccountScope {
    let token = random::bytes().unwrap();
    let caller = add_token(store, token, account, &[Role::AccountAdmin]).await;
    authorized(&caller, account)
}

/// The right to read a chain: an account's, or without one the vault's.
pub(crate) fn audit_scope(scope: Option<&AccountScope>) -> OwnerScope {
    let owner = scope.map_or(Owner::Vault, |scope| Owner::Account(scope.account().clone()));
    let scope = LocalOperator::beside_the_store().owner_scope::<ListAuditEntries>(owner);
    OwnerScope::clone(&scope)
}

fn authorized(caller: &Caller, account: &str) -> AccountScope {
    AccountScope::clone(&access::authorize::<CreateCredential>(caller, &id(account)).unwrap())
}

fn actor(principal: &str) -> Actor {
    Actor { principal: principal.to_owned(), peer: "127.0.0.1".to_owned() }
}

/// The change as a write with an audit entry and without a request id.
pub(crate) fn write(scope: &AccountScope, change: Change) -> Write {
    Write::new(scope, change, entry("Test"), None)
}

pub(crate) fn create(scope: &AccountScope, new: &StoredCredential) -> Write {
    write(scope, creation(new.clone()))
}

/// A new credential without a rotation.
pub(crate) fn creation(new: StoredCredential) -> Change {
    Change::CreateCredential { new: Box::new(new), rotation: None, leaves_to: None }
}

pub(crate) fn replace(scope: &AccountScope, expect: u64, new: &StoredCredential) -> Write {
    write(scope, replacement(expect, new.clone()))
}

/// A new state of a credential without a rotation.
pub(crate) fn replacement(expect: u64, new: StoredCredential) -> Change {
    Change::ReplaceCredential { expect, new: Box::new(new), rotation: None, leaves_to: None }
}

pub(crate) fn entry(method: &str) -> Entry {
    Entry {
        time: time("2026-05-01T12:00:00.000001Z"),
        actor: actor("token:1"),
        method: method.to_owned(),
        resource: "accounts/acme/credentials/desk".to_owned(),
        outcome: audit::OK.to_owned(),
        version_before: 0,
        version_after: 1,
        detail: "enabled=false".to_owned(),
        request_id: String::new(),
        reason: "ü\"'".to_owned(),
    }
}

/// All entries of an account's chain, page by page; each must follow from the one before.
pub(crate) async fn chain(store: &dyn Store, scope: &AccountScope) -> Vec<Linked> {
    chain_of(store, Some(scope)).await
}

/// The same of the vault's chain, without a scope.
pub(crate) async fn chain_of(store: &dyn Store, scope: Option<&AccountScope>) -> Vec<Linked> {
    let chain = scope.map_or_else(Chain::of_vault, |scope| Chain::of_account(scope.account()));
    let scope = &audit_scope(scope);
    let mut entries: Vec<Linked> = Vec::new();
    for _ in 0..100 {
        let after = entries.last().map_or(0, |last| last.link.sequence);
        let page = store.list_audit_entries(scope, None, after, 7).await.unwrap();
        for linked in page.items {
            let last = entries.last().map(|last| &last.link);
            assert_eq!(linked.link, audit::append(&chain, last, &linked.entry));
            entries.push(linked);
        }
        if !page.more {
            return entries;
        }
    }
    panic!("the chain does not end");
}

pub(crate) async fn all_credentials(store: &dyn Store, scope: &AccountScope) -> Page<Credential> {
    store.list_credentials(scope, CredentialFilter::default(), None, 1000).await.unwrap()
}

pub(crate) fn ids(credentials: &[Credential]) -> Vec<&str> {
    credentials.iter().map(|credential| credential.name.id.as_str()).collect()
}

/// A credential at its first revision, whose ciphertext is recognised by `fill`.
pub(crate) fn credential(name: &str, user: &str, fill: u8) -> StoredCredential {
    let created = time("2026-05-01T12:00:00Z");
    let credential = Credential {
        uid: uid(&format!("{name} {user} {fill}")),
        name: CredentialName { account: id("acme"), id: id(name) },
        username: username(user),
        realm: realm("sip.test"),
        enabled: true,
        description: Description::parse("").unwrap(),
        labels: Labels::default(),
        version: 1,
        revision: 1,
        create_time: created,
        update_time: created,
        rotate_time: created,
        versions: Versions::default(),
        residence: None,
        schedule: None,
    };
    StoredCredential { credential, password: sealed(fill), others: Vec::new() }
}

/// The state after a rotation.
pub(crate) fn next(stored: &StoredCredential, fill: u8) -> StoredCredential {
    let mut next = stored.clone();
    next.credential.version += 1;
    next.credential.revision += 1;
    next.credential.rotate_time += SignedDuration::from_secs(1);
    next.credential.update_time = next.credential.rotate_time;
    next.password = sealed(fill);
    next
}

/// A provider at its first revision, whose ciphertext is recognised by `fill`.
pub(crate) fn provider(name: &str, fill: u8) -> StoredProvider {
    let created = time("2026-05-01T12:00:00Z");
    let account_sid = AccountSid::parse(&format!("AC{}", "0a".repeat(16))).unwrap();
    let provider = Provider {
        versions: Versions::default(),
        uid: uid(&format!("{name} {fill}")),
        name: ProviderName { account: id("acme"), id: id(name) },
        display_name: DisplayName::parse("Twilio, Köln").unwrap(),
        kind: Kind::Twilio(TwilioAccount { account_sid, region: Region::Ie1, trunk: None }),
        token_kind: TokenKind::AuthToken,
        verification: verification(Status::Verified, CheckStatus::Passed),
        token_version: 1,
        revision: 1,
        token_update_time: created,
        create_time: created,
        update_time: created,
    };
    StoredProvider { provider, token: sealed(fill), others: Vec::new() }
}

pub(crate) fn verification(status: Status, check: CheckStatus) -> Verification {
    let time = time("2026-05-01T12:00:01.5Z");
    let check = Check::new("credentials", check, "as \"it\" was".to_owned(), time);
    let facts = Facts { phone_number_count: Some(3), ..Facts::default() };
    Verification {
        status,
        last_verify_time: Some(time),
        status_change_time: Some(time),
        token_version: 1,
        surveyed: true,
        checks: vec![check],
        facts,
    }
}

/// A record in the form of a sealed one (`crypto/envelope.rs`). A store never opens any.
pub(crate) fn sealed(fill: u8) -> Sealed {
    let mut bytes = b"CV\x01\x01\x00\x00\x00\x01".to_vec();
    bytes.extend((0..5).flat_map(|block: u8| Sha256::digest([fill, block])));
    Sealed::from_bytes(bytes).unwrap()
}

/// An identity for each text.
pub(crate) fn uid(text: &str) -> Uid {
    Uid::from_bytes(*Sha256::digest(text).first_chunk().unwrap())
}

pub(crate) fn id(text: &str) -> ResourceId {
    ResourceId::parse(text).unwrap()
}

pub(crate) fn realm(text: &str) -> Realm {
    Realm::parse(text).unwrap()
}

pub(crate) fn username(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Labels::parse(pairs.collect::<BTreeMap<_, _>>()).unwrap()
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}
