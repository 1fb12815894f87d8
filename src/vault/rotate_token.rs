//! `RotateToken`: the carrier makes a new token, which takes the place of the stored one. What is done there is
//! `token_work`'s business; here it begins, and is given up.

use jiff::{SignedDuration, Timestamp};

use super::at_carrier::KEY;
use super::delivery::{described, sealed_for};
use super::get::check_etag;
use super::intent::Committed;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{AccountScope, RotateToken, Scope};
use crate::audit::Entry;
use crate::crypto::random;
use crate::name::{Etag, Invalid, ResourceId, Uid};
use crate::provider::Provider;
use crate::recipient::{PublicKey, Recipient};
use crate::rotation::{Parent, Rotation, RotationName, SealFor, Stage, State, Task, Work};
use crate::secret::SecretText;
use crate::store::{self, Change, Done, StoredProvider, StoredRotation, Write};
use crate::versions::Versions;

/// How to rotate a token.
#[derive(Debug)]
pub struct NewTokenRotation {
    /// How long both are valid at least.
    pub hold: SignedDuration,
    /// Whether the old one stays until somebody proves to hold the new one.
    pub require_confirmation: bool,
    /// Whom the new one is sealed for. None: it stays in the vault.
    pub recipient: Option<Recipient>,
}

impl Vault {
    /// Begins to replace a provider's token by one that its carrier makes, and says how far it is.
    pub async fn rotate_token(
        &self,
        scope: &Scope<RotateToken>,
        id: &ResourceId,
        etag: Option<&Etag>,
        how: NewTokenRotation,
        intent: &Intent,
    ) -> Result<(Provider, Rotation), Error> {
        if how.require_confirmation && how.recipient.is_none() {
            const NEEDED: Invalid =
                Invalid("is required with require_confirmation: nobody else could confirm");
            return Err(Error::field("recipient", NEEDED));
        }
        for attempt in 0..ATTEMPTS {
            let found = self.find_provider(scope, id).await;
            if let Some(done) = self.done_before(scope, intent).await? {
                return self.token_rotated_before(scope, &done).await;
            }
            let old = found?;
            check_etag(etag, &old.provider.etag())?;
            check_no_token_rotation(&old.provider)?;
            if self.upstream_of(&old.provider.kind)?.tokens().is_none() {
                return Err(Error::InvalidState(
                    "this carrier has one token at a time, so the vault cannot make another beside it: make one in the \
                     carrier's console, and send it with UpdateToken",
                ));
            }
            let key = match &how.recipient {
                Some(recipient) => self.recipient_of(scope, recipient).await?,
                None => None,
            };
            if let Some(key) = &key {
                // Once the carrier has made the token it is too late to find that nothing can be sealed for it.
                sealed_for(KEY, key, "", &SecretText::new(String::new()))?;
            }
            if attempt == 0 {
                self.limits.may_ask(scope.account().uid, Some(old.provider.uid))?;
            }
            let begun = self.beginning_of_token(scope, old, &how, key, intent)?;
            let (name, uid) = (begun.name, begun.resource);
            match self.commit(scope, intent, (id, uid), begun.change, begun.entry).await? {
                Committed::Now => {
                    let rotation = self.settled(scope, &name).await?.rotation;
                    return begun_or_refused(
                        self.find_provider(scope, id).await?.provider,
                        rotation,
                    );
                }
                Committed::Before(done) => return self.token_rotated_before(scope, &done).await,
                Committed::Moved => {}
            }
        }
        Err(Error::VersionConflict)
    }

    /// The answer to a retry: how far it is.
    async fn token_rotated_before(
        &self,
        scope: &AccountScope,
        done: &Done,
    ) -> Result<(Provider, Rotation), Error> {
        let provider = self.provider_of(scope, done).await?;
        let found = self.store.rotation_of_version(scope, done.resource, done.version).await?;
        let forgotten = "this request_id began a rotation long ago, which is not remembered any more: rotate under a \
                         new one";
        let stored = found.ok_or(Error::InvalidState(forgotten))?;
        begun_or_refused(provider, stored.rotation)
    }

    /// The provider with a version that waits for its carrier, and the rotation that sees to it.
    fn beginning_of_token(
        &self,
        scope: &AccountScope,
        stored: StoredProvider,
        how: &NewTokenRotation,
        key: Option<PublicKey>,
        intent: &Intent,
    ) -> Result<Begun, Error> {
        let (now, expect) = (self.clock.now(), stored.provider.revision);
        let replaces = stored.provider.token_version;
        let version = stored.provider.versions.next_number(replaces);
        let versions = stored.provider.versions.with_awaited(version, now);
        let new = stored.with_versions(versions).touched(now);
        let task = Task::Token { stage: Stage::Make, hold: how.hold, replaces };
        let request_id = intent.request_id();
        let work = Work {
            seal_for: key.map(|key| SealFor { key, request_id }),
            ..Work::new(task, how.recipient.clone(), now)
        };
        let name = RotationName {
            parent: Parent::Provider(new.provider.name.clone()),
            id: ResourceId::made_at(now, random::bytes()?),
        };
        let rotation = Rotation {
            name: name.clone(),
            resource: new.provider.uid,
            version,
            revision: 1,
            state: State::Pending,
            overlap: SignedDuration::ZERO,
            require_confirmation: how.require_confirmation,
            delivery: None,
            steps: Vec::new(),
            create_time: now,
            update_time: now,
            end_time: None,
            confirm_time: None,
            work: Some(work),
        };
        let to = how.recipient.as_ref();
        let sent = to.and_then(|recipient| described(recipient, key.as_ref()));
        let held = (!how.hold.is_zero()).then(|| format!("held for {:#}", how.hold));
        let confirmed = how.require_confirmation.then(|| "held until it is confirmed".to_owned());
        let entry = Entry {
            version_before: replaces,
            version_after: version,
            detail: [sent, held, confirmed].into_iter().flatten().collect::<Vec<_>>().join(", "),
            ..self.entry_of(scope, intent, &new.provider.name.to_string())
        };
        let resource = new.provider.uid;
        let rotation = Some(Box::new(StoredRotation { rotation, sealed: None }));
        let leaves_to = how.recipient.clone();
        let change = Change::ReplaceProvider { expect, new, rotation, leaves_to };
        Ok(Begun { name, resource, change, entry })
    }

    /// Gives a token's rotation up. None: it moved meanwhile.
    pub(super) async fn cancel_token_rotation(
        &self,
        scope: &AccountScope,
        name: &RotationName,
        mut rotation: Rotation,
        intent: &Intent,
    ) -> Result<Option<Rotation>, Error> {
        let calls =
            |rotation: &Rotation| rotation.work.as_ref().is_some_and(|it| it.lease_end.is_some());
        let waited = calls(&rotation);
        if waited {
            // Its answer says whether there is something to remove.
            rotation = self.settled(scope, name).await?.rotation;
        }
        if rotation.state.is_final() {
            return Ok(None);
        }
        if calls(&rotation) {
            return Err(Error::UpstreamPending);
        }
        let entry = self.entry_of(scope, intent, &name.to_string());
        let Some(next) = rotation.given_up(entry.time, "") else {
            return Err(Error::InvalidState(
                "the old token may have ended already: the vault finds out and finishes by itself (GetRotation says how \
                 far it is; ResumeRotation asks at once)",
            ));
        };
        let Some(active) = self.rotated_provider(scope, &rotation).await? else {
            return Err(Error::NotFound { name: name.to_string() });
        };
        let active_version = active.provider.token_version;
        let entry =
            Entry { version_before: rotation.version, version_after: active_version, ..entry };
        let change = if next.state == State::Cancelled {
            without_pending(active, next.clone(), entry.time)
        } else {
            let rotation = Box::new(StoredRotation { rotation: next.clone(), sealed: None });
            Change::ReplaceRotation { rotation, leaves_to: None }
        };
        match self.store.commit(Write::new(scope, change, entry, None)).await {
            Ok(()) if waited => {
                // There is no time to wait for another answer.
                self.work.begin();
                Ok(Some(next))
            }
            Ok(()) => Ok(Some(self.settled(scope, name).await?.rotation)),
            Err(store::Error::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The rotation of a provider's token that a caller's own token ends: one that needs a person. An error while one
    /// goes on by itself.
    pub(super) async fn superseded(
        &self,
        scope: &AccountScope,
        provider: &Provider,
        now: Timestamp,
    ) -> Result<Option<Box<StoredRotation>>, Error> {
        let Some(pending) = provider.versions.pending() else { return Ok(None) };
        let found = self.store.rotation_of_version(scope, provider.uid, pending.number).await?;
        let Some(StoredRotation { rotation, .. }) = found else { return Ok(None) };
        let under_way = rotation.work.as_ref().is_some_and(|work| work.lease_end.is_some());
        if rotation.state != State::NeedsAttention || under_way {
            return Err(Error::RotationInProgress);
        }
        let rotation = rotation.cancelled(now);
        Ok(Some(Box::new(StoredRotation { rotation, sealed: None })))
    }
}

/// The answer to the call that began a rotation: how far it is, unless the carrier did not make a token.
fn begun_or_refused(provider: Provider, rotation: Rotation) -> Result<(Provider, Rotation), Error> {
    let objection = rotation.work.as_ref().and_then(|work| work.objection);
    match objection.filter(|_| rotation.state == State::Cancelled) {
        Some(objection) => Err(objection.into()),
        None => Ok((provider, rotation)),
    }
}

/// A token's rotation that is ready to be committed.
struct Begun {
    name: RotationName,
    resource: Uid,
    change: Change,
    entry: Entry,
}

/// Two rotations at once would each remove the other's token.
fn check_no_token_rotation(provider: &Provider) -> Result<(), Error> {
    match provider.versions.pending() {
        Some(_) => Err(Error::RotationInProgress),
        None => Ok(()),
    }
}

/// The end of a rotation that was given up: its token is destroyed.
pub(super) fn without_pending(stored: StoredProvider, ended: Rotation, now: Timestamp) -> Change {
    let expect = stored.provider.revision;
    let versions = stored.provider.versions.cancelled(now);
    let new = stored.with_versions(versions).touched(now);
    let rotation = Some(Box::new(StoredRotation { rotation: ended, sealed: None }));
    Change::ReplaceProvider { expect, new, rotation, leaves_to: None }
}

impl StoredProvider {
    /// With these versions, and the tokens that they keep.
    pub(super) fn with_versions(mut self, versions: Versions) -> Self {
        self.others.retain(|other| versions.keeps(other.version));
        self.provider.versions = versions;
        self
    }

    /// In its next revision.
    pub(super) fn touched(mut self, now: Timestamp) -> Self {
        self.provider.revision += 1;
        self.provider.update_time = now;
        self
    }
}
