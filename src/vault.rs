//! The operations, in domain terms: one file each, or one for a small resource. Who calls and over which wire is not known here.
//!
//! Every operation takes a [`Scope`] of its own action, reads, decides, seals, and hands the store one
//! atomic [`Write`]. No network call happens while the store holds anything: stage, call, compare-and-set.

mod access_tokens;
mod accounts;
mod api_tokens;
mod at_carrier;
mod authenticate;
mod carrier_work;
mod compute_sip_digest;
mod create_credential;
mod create_provider;
mod delete_credential;
mod delete_provider;
mod delivery;
mod error;
mod expiry;
mod failed_digests;
mod get;
mod intent;
mod issue_sip_challenge;
mod issued;
mod limits;
mod list;
mod noise;
mod password_work;
mod planted;
mod recipient_keys;
mod role_bindings;
mod rotate_credential;
mod rotate_token;
mod rotations;
mod scheduled_verification;
mod schedules;
mod sip_nonces;
mod token_work;
mod update_credential;
mod update_provider;
mod update_token;
mod use_counts;
mod verification;
mod verify_provider;
mod verify_sip_digest;
mod verify_twilio_webhook;
mod watch_credentials;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::access::{
    self, AccountScope, Action, Authorized, Caller, CreateApiToken, Denied, LocalOperator,
    OperatorScope, OwnerScope, RotateToken, Scope,
};
use crate::audit::{self, Chain, Entry};
use crate::clock::Clock;
use crate::crypto::{self, Field, Place, Sealer};
use crate::name::{OwnerName, ResourceId, Uid};
use crate::provider::{Kind, Objection, Refusal};
use crate::rotation::Parent;
use crate::store::{self, Store, Write};
use crate::upstream::{Outage, Upstream, UpstreamAccount};
use carrier_work::CarrierWork;
use failed_digests::FailedDigests;
use limits::Limits;
use noise::Noise;
use sip_nonces::SipNonces;
use use_counts::UseCounts;

pub use api_tokens::NewApiToken;
pub use compute_sip_digest::{Computed, NewAnswer};
pub use create_credential::{NewCredential, NewPassword};
pub use create_provider::NewProvider;
pub use delivery::Made;
pub use error::{Error, FieldError};
pub use get::CredentialView;
pub use intent::{Intent, Request};
pub use issue_sip_challenge::{Challenge, NewChallenge};
pub use issued::{Issued, Outgoing, SealedSecret};
pub use limits::{CallLimit, CallLimits};
pub use list::{Listed, PageRequest};
pub use recipient_keys::NewRecipientKey;
pub use rotate_credential::NewRotation;
pub use rotate_token::NewTokenRotation;
pub use rotations::{Proof, VersionView};
pub use schedules::Outlook;
pub use update_credential::{CredentialChanges, PolicyChange};
pub use update_provider::ProviderChanges;
pub use update_token::TokenUpdate;
pub use verify_sip_digest::{Matched, NonceOwner, Presented, Rejected, Verdict};
pub use verify_twilio_webhook::WebhookVerdict;
pub use watch_credentials::{News, Told, Watch};

/// How often a change is decided again when the row moved in between, before the caller is told.
const ATTEMPTS: usize = 8;

/// A vault, open and ready.
#[expect(missing_debug_implementations, reason = "holds keys")]
pub struct Vault {
    store: Arc<dyn Store>,
    sealer: Sealer,
    upstreams: Vec<Box<dyn Upstream>>,
    limits: Limits,
    failed_digests: FailedDigests,
    sip_nonces: SipNonces,
    uses: UseCounts,
    work: CarrierWork,
    noise: Noise,
    clock: Arc<dyn Clock>,
}

impl Vault {
    /// Puts a vault together.
    pub fn new(
        store: Arc<dyn Store>,
        sealer: Sealer,
        upstreams: Vec<Box<dyn Upstream>>,
        limits: CallLimits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let failed_digests = FailedDigests::new(limits.failed_digest_checks, &clock);
        let (limits, noise) = (Limits::new(limits, &clock), Noise::default());
        // Without random bytes nothing works; zeros only have a call waited for that another process has left.
        let holder = Uid::from_bytes(crypto::random::bytes().unwrap_or_default());
        let (uses, work) = (UseCounts::default(), CarrierWork::new(holder));
        let sip_nonces = SipNonces::new(crypto::random::bytes().ok());
        Self {
            store,
            sealer,
            upstreams,
            limits,
            failed_digests,
            sip_nonces,
            uses,
            work,
            noise,
            clock,
        }
    }

    /// Whether `credvault dev` made it.
    pub fn is_dev(&self) -> bool {
        self.store.identity().dev
    }

    /// Whether there is room for changes. It changes with the disk.
    pub fn has_room(&self) -> watch::Receiver<bool> {
        self.store.has_room()
    }

    /// Decides whether `caller` may perform `A` in `account`, and records a refusal.
    ///
    /// A refusal for want of membership goes to the vault's chain, never to the account that was named.
    pub async fn authorize<A: Action>(
        &self,
        caller: &Caller,
        account: &ResourceId,
        resource: &str,
    ) -> Result<Scope<A>, Error> {
        match access::authorize::<A>(caller, account) {
            Ok(scope) => Ok(scope),
            Err(denied) => Err(self.refuse(caller, A::METHOD, denied, resource).await),
        }
    }

    /// Decides whether `caller` may perform `A` on a rotation of `parent`, and records a refusal. One of a token is for
    /// those who may begin it.
    pub async fn authorize_rotation<A: Action>(
        &self,
        caller: &Caller,
        parent: &Parent,
        resource: &str,
    ) -> Result<Scope<A>, Error> {
        let account = parent.account();
        let decided = match parent {
            Parent::Credential(_) => access::authorize::<A>(caller, account),
            Parent::Provider(_) => access::authorize_as::<A, RotateToken>(caller, account),
        };
        match decided {
            Ok(scope) => Ok(scope),
            Err(denied) => Err(self.refuse(caller, A::METHOD, denied, resource).await),
        }
    }

    /// Decides whether `caller` may perform `A` on the vault itself, and records a refusal.
    pub async fn authorize_operator<A: Action>(
        &self,
        caller: &Caller,
        resource: &str,
    ) -> Result<Scope<A, OperatorScope>, Error> {
        match access::authorize_operator::<A>(caller) {
            Ok(scope) => Ok(scope),
            Err(denied) => Err(self.refuse(caller, A::METHOD, denied, resource).await),
        }
    }

    /// Decides whether `caller` may perform `A` on what belongs to `owner`, and records a refusal.
    pub async fn authorize_owner<A: Action>(
        &self,
        caller: &Caller,
        owner: &OwnerName,
        resource: &str,
    ) -> Result<Scope<A, OwnerScope>, Error> {
        match access::authorize_owner::<A>(caller, owner) {
            Ok(scope) => Ok(scope),
            Err(denied) => Err(self.refuse(caller, A::METHOD, denied, resource).await),
        }
    }

    /// As [`Self::authorize_owner`]; and an operator may let an account's first admin in.
    pub async fn authorize_new_token(
        &self,
        caller: &Caller,
        owner: &OwnerName,
    ) -> Result<Scope<CreateApiToken, OwnerScope>, Error> {
        let denied = match access::authorize_owner::<CreateApiToken>(caller, owner) {
            Ok(scope) => return Ok(scope),
            Err(denied) => denied,
        };
        if let OwnerName::Account(id) = owner
            && let Ok(operator) = access::authorize_operator::<CreateApiToken>(caller)
            && let Some(account) = self.store.account(&operator, id).await?
        {
            return Ok(operator.first_admin_of(account));
        }
        Err(self.refuse(caller, CreateApiToken::METHOD, denied, &owner.to_string()).await)
    }

    /// Records a refusal; returns what the caller is told. Boxed: it is rare, and every call would be larger by it.
    fn refuse<'a>(
        &'a self,
        caller: &'a Caller,
        method: &'static str,
        denied: Denied,
        resource: &'a str,
    ) -> BoxFuture<'a, Error> {
        Box::pin(self.record_denied(caller, method, denied, resource))
    }

    async fn record_denied(
        &self,
        caller: &Caller,
        method: &'static str,
        denied: Denied,
        resource: &str,
    ) -> Error {
        let (chain, error) = match denied {
            Denied::NotMember => (Chain::of_vault(), Error::NotFound { name: resource.to_owned() }),
            Denied::RoleMissing(account) => {
                (Chain::of_account(&account), Error::RoleMissing { method })
            }
            Denied::AccountDisabled(account) => {
                (Chain::of_account(&account), Error::AccountDisabled)
            }
            Denied::NotOperator => (Chain::of_vault(), Error::NotOperator { method }),
        };
        self.record_refusal(
            chain,
            Entry {
                outcome: error.reason().to_owned(),
                ..self.entry(&caller.actor, method, resource)
            },
        )
        .await;
        planted::refusal(self, method, resource, error).await
    }

    /// Records that the clock was wrong when entries up to `newest` were made, and that it is right now.
    pub async fn accept_clock(
        &self,
        operator: &LocalOperator,
        newest: Timestamp,
    ) -> Result<(), Error> {
        let entry = Entry {
            detail: newest.to_string(),
            ..self.entry(operator.actor(), audit::ACCEPT_CLOCK, "vault")
        };
        // It changes nothing but the chain, like a refusal.
        Ok(self.store.commit(Write::refusal(Chain::of_vault(), entry)).await?)
    }

    /// Finishes all writes and lets go of the store.
    pub async fn close(&self) {
        self.record_noise().await;
        self.record_uses().await;
        self.store.close().await;
    }

    fn entry(&self, actor: &audit::Actor, method: &str, resource: &str) -> Entry {
        Entry {
            time: self.clock.now(),
            actor: actor.clone(),
            method: method.to_owned(),
            resource: resource.to_owned(),
            outcome: audit::OK.to_owned(),
            version_before: 0,
            version_after: 0,
            detail: String::new(),
            request_id: String::new(),
            reason: String::new(),
        }
    }

    /// The entry for a change within `scope`.
    fn entry_of(&self, scope: &impl Authorized, intent: &Intent, resource: &str) -> Entry {
        Entry {
            request_id: intent.request_id(),
            reason: intent.reason_text(),
            ..self.entry(scope.actor(), scope.method(), resource)
        }
    }

    fn upstream_of<'a>(&'a self, kind: &'a Kind) -> Result<Box<dyn UpstreamAccount + 'a>, Error> {
        self.upstreams
            .iter()
            .find_map(|upstream| upstream.account(kind))
            .ok_or_else(|| Error::Internal("no carrier of a stored type".into()))
    }
}

/// The place of a resource's secret.
fn place(scope: &AccountScope, resource: Uid, field: Field, version: u64) -> Place {
    Place { account: scope.account().uid, resource, field, version }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::RejectedToken => Self::UpstreamRejectedToken { works_in: None },
            Refusal::NotPermitted => Self::UpstreamNotPermitted,
            Refusal::AccountInactive => Self::UpstreamAccountInactive,
            Refusal::AccountNotFound => Self::UpstreamAccountNotFound,
            Refusal::SidMismatch => Self::UpstreamSidMismatch,
        }
    }
}

impl From<Objection> for Error {
    fn from(objection: Objection) -> Self {
        match objection {
            Objection::Token(refusal) => refusal.into(),
            Objection::NotFound => Self::UpstreamCredentialNotFound,
            Objection::Password => Self::UpstreamRejectedPassword,
            Objection::NotAllowed => Self::UpstreamNotAllowed,
            Objection::Other => Self::UpstreamRefused,
        }
    }
}

impl From<Outage> for Error {
    fn from(outage: Outage) -> Self {
        match outage {
            Outage::RateLimited(retry_after) => Self::UpstreamRateLimited { retry_after },
            Outage::ServerError => Self::UpstreamError,
            Outage::Timeout => Self::UpstreamTimeout,
            Outage::Unreachable => Self::UpstreamUnreachable,
            Outage::Tls => Self::UpstreamTls,
            Outage::Redirect => Self::UpstreamRedirect,
            Outage::Protocol => Self::UpstreamProtocol,
            Outage::BlockedAddress => Self::UpstreamBlockedAddress,
            Outage::AtCapacity => Self::UpstreamAtCapacity,
            Outage::CircuitOpen(retry_after) => Self::UpstreamCircuitOpen { retry_after },
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Conflict => Self::VersionConflict,
            store::Error::Taken(store::Taken::Id) => Self::AlreadyExists { what: "id" },
            store::Error::Taken(store::Taken::Username) => {
                Self::AlreadyExists { what: "username in this realm" }
            }
            store::Error::Taken(store::Taken::AtCarrier) => {
                Self::AlreadyExists { what: "id at the carrier" }
            }
            // `Vault::commit` looks at repeats itself; without a request id there are none.
            store::Error::Repeated(_) => Self::RequestIdReused,
            store::Error::AdminExists => {
                Self::InvalidState("the account has an admin: ask one of them for a token")
            }
            store::Error::LastAdmin => Self::LastAdmin,
            store::Error::LastOperator => Self::LastOperator,
            store::Error::InUse => Self::ProviderInUse,
            store::Error::Disabled => Self::AccountDisabled,
            store::Error::Overloaded => Self::Overloaded,
            store::Error::Full(source) => Self::StorageFull(source),
            store::Error::Unavailable(source) => Self::StorageUnavailable(source),
            store::Error::Damaged(source) => Self::RecordDamaged(source),
        }
    }
}

impl From<crypto::Error> for Error {
    fn from(error: crypto::Error) -> Self {
        match error {
            // Nobody but a caller brings keys; whoever takes one says in which field it stood.
            crypto::Error::UnfitKey => Self::Internal(error.into()),
            crypto::Error::Random(source) => source.into(),
            damaged => Self::RecordDamaged(damaged.into()),
        }
    }
}

impl From<crypto::random::Error> for Error {
    fn from(error: crypto::random::Error) -> Self {
        Self::Internal(error.into())
    }
}
