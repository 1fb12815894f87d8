//! What a caller says beside a mutation: its request id, which makes a retry safe, and its reason.

use jiff::SignedDuration;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Error, Vault};
use crate::access::AccountScope;
use crate::audit::Reason;
use crate::crypto;
use crate::name::ResourceId;
use crate::store::{Done, OnceKey};

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

impl Vault {
    /// What this request has done already, or an error if another request used its id.
    ///
    /// Looked up after authorization and before etag, existence and state: a retry of a change answers as
    /// a retry even when the change itself moved the etag.
    pub(super) async fn done_before(
        &self,
        scope: &AccountScope,
        intent: &Intent,
    ) -> Result<Option<Done>, Error> {
        let Some(request) = &intent.request else { return Ok(None) };
        match self.store.done(&once_key(scope, request)).await? {
            Some(done) => self.same_request(request, done).map(Some),
            None => Ok(None),
        }
    }

    /// The idempotency row of a change that is about to happen.
    pub(super) fn once(
        &self,
        scope: &AccountScope,
        intent: &Intent,
        resource_id: &ResourceId,
        version: u64,
    ) -> Option<(OnceKey, Done)> {
        let request = intent.request.as_ref()?;
        let time = self.clock.now();
        let expire_time = time.saturating_add(REMEMBERED).unwrap_or(time);
        let fingerprint = self.sealer.request_fingerprint(&request.canonical);
        let resource_id = resource_id.clone();
        Some((
            once_key(scope, request),
            Done { fingerprint, resource_id, version, time, expire_time },
        ))
    }

    /// For a commit that found its request id taken by a retry that ran at the same time.
    pub(super) fn raced(&self, intent: &Intent, done: Done) -> Result<Done, Error> {
        match &intent.request {
            Some(request) => self.same_request(request, done),
            None => Err(Error::RequestIdReused),
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

fn once_key(scope: &AccountScope, request: &Request) -> OnceKey {
    OnceKey {
        account: scope.account().uid,
        principal: scope.actor().principal.clone(),
        method: scope.method(),
        request_id: *request.id.as_bytes(),
    }
}
