//! What a caller says beside a mutation: its request id, which makes a retry safe, and its reason.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Error, Vault};
use crate::access::{AccountScope, Authorized};
use crate::audit::{Entry, Reason};
use crate::credential::Credential;
use crate::crypto;
use crate::defect::{Defect, planted};
use crate::name::{ResourceId, Uid};
use crate::provider::Provider;
use crate::rotation::LONGEST_WAIT;
use crate::store::{self, Change, Done, OnceKey, Write};

/// How long a request id is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// A request id with the canonical form of its request.
#[expect(
    missing_debug_implementations,
    reason = "the canonical form contains the request's secrets"
)]
pub struct Request {
    /// UUID4 (AIP-155).
    pub id: Uuid,
    /// The encoded request; its keyed hash tells a retry from another request.
    pub canonical: Zeroizing<Vec<u8>>,
}

/// What a caller says beside a mutation.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "contains the request's secrets")]
pub struct Intent {
    /// The request id, if there is one.
    pub request: Option<Request>,
    /// Why, for the audit entry.
    pub reason: Option<Reason>,
}

impl Intent {
    pub(super) fn request_id(&self) -> String {
        self.request.as_ref().map_or_else(String::new, |request| request.id.to_string())
    }

    pub(super) fn reason_text(&self) -> String {
        self.reason.as_ref().map_or_else(String::new, |reason| reason.as_str().to_owned())
    }
}

/// How a commit ended.
pub(super) enum Committed {
    /// It happened, and is durable.
    Now,
    /// A retry of the same request had done it already.
    Before(Done),
    /// The resource moved since it was read: read again and decide again.
    Moved,
}

impl Vault {
    /// What this request has done already, or an error if another request used its id.
    ///
    /// Counts before etag, existence and state: a retry answers as a retry even when the first run itself
    /// moved the etag. So operations read the resource *first*, then look here, then judge what they read:
    /// a first run that ends in between is seen by one of the two, or by the commit.
    pub(super) async fn done_before(
        &self,
        scope: &impl Authorized,
        intent: &Intent,
    ) -> Result<Option<Done>, Error> {
        let Some(request) = &intent.request else { return Ok(None) };
        match self.store.done(&once_key(scope, request)).await? {
            Some(done) => self.same_request(request, done).map(Some),
            None => Ok(None),
        }
    }

    /// Makes a change of `resource` durable together with its audit entry and its request id.
    pub(super) async fn commit(
        &self,
        scope: &impl Authorized,
        intent: &Intent,
        (resource_id, resource): (&ResourceId, Uid),
        change: Change,
        entry: Entry,
    ) -> Result<Committed, Error> {
        let remembered = intent.request.as_ref().filter(|_| !planted(Defect::ForgetRequests));
        let once = remembered.map(|request| {
            let done = Done {
                fingerprint: self.sealer.request_fingerprint(&request.canonical),
                resource_id: resource_id.clone(),
                resource,
                version: entry.version_after,
                time: entry.time,
                expire_time: remembered_until(entry.time, &change),
            };
            (once_key(scope, request), done)
        });
        match (self.store.commit(Write::new(scope, change, entry, once)).await, &intent.request) {
            (Ok(()), _) => Ok(Committed::Now),
            (Err(store::Error::Conflict), _) => Ok(Committed::Moved),
            (Err(store::Error::Repeated(done)), Some(request)) => {
                self.same_request(request, done).map(Committed::Before)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// The credential that a request acted on before, if it still exists.
    pub(super) async fn credential_of(
        &self,
        scope: &AccountScope,
        done: &Done,
    ) -> Result<Credential, Error> {
        let credential = self.find_credential(scope, &done.resource_id).await?.credential;
        if credential.uid == done.resource {
            Ok(credential)
        } else {
            Err(Error::NotFound { name: credential.name.to_string() })
        }
    }

    /// The provider that a request acted on before, if it still exists.
    pub(super) async fn provider_of(
        &self,
        scope: &AccountScope,
        done: &Done,
    ) -> Result<Provider, Error> {
        let provider = self.find_provider(scope, &done.resource_id).await?.provider;
        if provider.uid == done.resource {
            Ok(provider)
        } else {
            Err(Error::NotFound { name: provider.name.to_string() })
        }
    }

    fn same_request(&self, request: &Request, done: Done) -> Result<Done, Error> {
        let fingerprint = self.sealer.request_fingerprint(&request.canonical);
        if crypto::equal(&fingerprint, &done.fingerprint) {
            Ok(done)
        } else {
            Err(Error::RequestIdReused)
        }
    }
}

/// As long as any retry may come, and as long as one is answered with a sealed secret.
fn remembered_until(now: Timestamp, change: &Change) -> Timestamp {
    let rotation = match change {
        Change::CreateCredential { rotation, .. }
        | Change::ReplaceCredential { rotation, .. }
        | Change::ReplaceProvider { rotation, .. } => rotation.as_ref(),
        _ => None,
    };
    let delivery = rotation.and_then(|stored| stored.rotation.delivery.as_ref());
    // At a carrier it may take long, and its password goes to this request alone.
    let is_at_carrier = rotation.is_some_and(|stored| stored.rotation.work.is_some());
    let remembered = if is_at_carrier { LONGEST_WAIT } else { REMEMBERED };
    let until = now.saturating_add(remembered).unwrap_or(now);
    delivery.map_or(until, |delivery| until.max(delivery.expire_time))
}

fn once_key(scope: &impl Authorized, request: &Request) -> OnceKey {
    OnceKey {
        account: scope.owner_uid(),
        principal: scope.actor().principal.clone(),
        method: scope.method(),
        request_id: *request.id.as_bytes(),
    }
}
