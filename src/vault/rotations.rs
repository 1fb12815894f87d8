//! Rotations that outlive their call: seen, confirmed, cancelled, and ended by the vault itself when their time comes.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::intent::Intent;
use super::{ATTEMPTS, Error, Listed, PageRequest, SealedSecret, Vault, place};
use crate::access::{
    AccountScope, CancelRotation, ConfirmRotation, GetRotation, ListRotations, ListVersions,
    ResumeRotation, Scope, Worker,
};
use crate::audit::Entry;
use crate::crypto::{self, Field};
use crate::defect::{Defect, planted};
use crate::name::{Invalid, ResourceId};
use crate::rotation::{Rotation, RotationFilter, RotationName, State};
use crate::store::{
    self, Change, Due, StoredCredential, StoredRotation, VersionKey, VersionUse, Write,
};
use crate::versions;

/// How often the vault looks whether a time has come.
const TICK: SignedDuration = SignedDuration::from_secs(10);

/// How much of what is due is read at a time.
const PAGE: usize = 200;

/// How much of it is ended at once.
const AT_ONCE: usize = 32;

/// A version of a credential's password, and what became of it.
#[derive(Debug, Clone)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// When it became active; of a pending one, when it was made.
    pub create_time: Timestamp,
    /// None: it is the active one.
    pub state: Option<versions::State>,
    /// How often it was used.
    pub uses: VersionUse,
}

/// Proof that the sender holds the new secret: HMAC-SHA256 under it, of the rotation's name.
pub type Proof = [u8; 32];

impl Vault {
    /// A rotation, and its secret for its recipient while that is kept.
    pub async fn get_rotation(
        &self,
        scope: &Scope<GetRotation>,
        name: &RotationName,
    ) -> Result<(Rotation, Option<SealedSecret>), Error> {
        let stored = self.find_rotation(scope, name).await?;
        let credential = self.find_credential(scope, &name.parent.id).await?.credential;
        let rotation = stored.rotation.clone();
        Ok((rotation, SealedSecret::again(stored, &credential, self.clock.now())))
    }

    /// Rotations, newest first, of one credential or of all.
    pub async fn list_rotations(
        &self,
        scope: &Scope<ListRotations>,
        credential: Option<&ResourceId>,
        mut filter: RotationFilter,
        request: PageRequest,
    ) -> Result<Listed<Rotation>, Error> {
        if let Some(id) = credential {
            filter.resource = Some(self.find_credential(scope, id).await?.credential.uid);
        }
        let before = self.position(scope, &request)?;
        let page = self.store.list_rotations(scope, filter.clone(), before, request.size).await?;
        self.listed(scope, &request, page, |last| {
            filter.position(last.version, last.name.id.as_str())
        })
    }

    /// The versions of a credential's password that are remembered, newest first.
    pub async fn list_versions(
        &self,
        scope: &Scope<ListVersions>,
        id: &ResourceId,
    ) -> Result<Vec<VersionView>, Error> {
        let credential = self.find_credential(scope, id).await?.credential;
        let now = self.clock.now();
        let active = (credential.version, credential.rotate_time, None);
        let others = credential.versions.at(now);
        let others = others.iter().map(|it| (it.number, it.create_time, Some(it.state)));
        let mut known: Vec<_> = others.chain([active]).collect();
        known.sort_by_key(|(number, ..)| std::cmp::Reverse(*number));
        let (account, resource) = (scope.account().uid, credential.uid);
        let keys: Vec<_> = known
            .iter()
            .map(|(version, ..)| VersionKey { account, resource, version: *version })
            .collect();
        let uses = self.uses_of(&keys).await?;
        let view = |((version, create_time, state), uses)| VersionView {
            version,
            create_time,
            state,
            uses,
        };
        Ok(known.into_iter().zip(uses).map(view).collect())
    }

    /// Ends the delivery of a secret; and makes it active, if it waits for a proof that it arrived.
    pub async fn confirm_rotation(
        &self,
        scope: &Scope<ConfirmRotation>,
        name: &RotationName,
        proof: Option<&Proof>,
        intent: &Intent,
    ) -> Result<Rotation, Error> {
        for _ in 0..ATTEMPTS {
            let StoredRotation { rotation, .. } = self.find_rotation(scope, name).await?;
            if rotation.state == State::Cancelled {
                return Err(Error::InvalidState("the rotation is cancelled: rotate again"));
            }
            if rotation.work.as_ref().is_some_and(|work| work.seal_for.is_some()) {
                return Err(Error::InvalidState(
                    "the carrier has not made the new password yet, so nothing can have arrived",
                ));
            }
            let waits = rotation.awaits_confirmation();
            if !waits && rotation.confirm_time.is_some() {
                return Ok(rotation);
            }
            let stored = self.find_credential(scope, &name.parent.id).await?;
            if waits && proof.is_none() {
                let rule = "is required: the rotation waits for it (require_confirmation)";
                return Err(Error::field("proof", Invalid(rule)));
            }
            if let Some(proof) = proof {
                self.check_proof(scope, &stored, &rotation, proof)?;
            }
            let (entry, before) =
                (self.entry_of(scope, intent, &name.to_string()), stored.credential.version);
            let confirmed = rotation.confirmed(entry.time);
            let detail = if proof.is_some() { "with a proof" } else { "without a proof" };
            let entry = Entry {
                version_before: before,
                version_after: rotation.version,
                detail: detail.to_owned(),
                ..entry
            };
            let change = if waits && rotation.work.is_none() {
                // None: it was confirmed or cancelled since the rotation was read.
                match promoted(stored, &rotation, confirmed.clone(), entry.time)? {
                    Some(change) => change,
                    None => continue,
                }
            } else {
                let rotation =
                    Box::new(StoredRotation { rotation: confirmed.clone(), sealed: None });
                Change::ReplaceRotation { rotation, leaves_to: None }
            };
            match self.store.commit(Write::new(&**scope, change, entry, None)).await {
                Ok(()) if waits && rotation.work.is_some() => {
                    return Ok(self.settled(scope, name).await?.rotation);
                }
                Ok(()) => return Ok(confirmed),
                Err(store::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }

    /// Gives up a rotation that waits: the new version is destroyed, the old one stays.
    pub async fn cancel_rotation(
        &self,
        scope: &Scope<CancelRotation>,
        name: &RotationName,
        intent: &Intent,
    ) -> Result<Rotation, Error> {
        for _ in 0..ATTEMPTS {
            let StoredRotation { rotation, .. } = self.find_rotation(scope, name).await?;
            match rotation.state {
                State::Cancelled => return Ok(rotation),
                State::Succeeded => {
                    return Err(Error::InvalidState(
                        "the rotation has succeeded, so its new version is the active one: rotate again",
                    ));
                }
                _ if rotation.work.as_ref().is_some_and(|work| !work.has_done_nothing()) => {
                    return Err(Error::InvalidState(
                        "the carrier may have changed the password already: the vault finds out and finishes by \
                         itself (GetRotation says how far it is; ResumeRotation asks at once)",
                    ));
                }
                _ => {}
            }
            let mut stored = self.find_credential(scope, &name.parent.id).await?;
            let entry = self.entry_of(scope, intent, &name.to_string());
            let (expect, active) = (stored.credential.revision, stored.credential.version);
            let entry = Entry { version_before: rotation.version, version_after: active, ..entry };
            stored.credential.versions = stored.credential.versions.cancelled(entry.time);
            let cancelled = rotation.cancelled(entry.time);
            let change = Change::ReplaceCredential {
                expect,
                new: Box::new(stored.touched(entry.time)),
                rotation: Some(Box::new(StoredRotation {
                    rotation: cancelled.clone(),
                    sealed: None,
                })),
                leaves_to: None,
            };
            match self.store.commit(Write::new(&**scope, change, entry, None)).await {
                Ok(()) => return Ok(cancelled),
                Err(store::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }

    /// Has a rotation that waits for its carrier ask at once.
    pub async fn resume_rotation(
        &self,
        scope: &Scope<ResumeRotation>,
        name: &RotationName,
        intent: &Intent,
    ) -> Result<Rotation, Error> {
        for _ in 0..ATTEMPTS {
            let StoredRotation { rotation, sealed } = self.find_rotation(scope, name).await?;
            if rotation.work_time().is_none() {
                return Err(Error::InvalidState(
                    "the rotation waits for no carrier: it is over, or waits for ConfirmRotation",
                ));
            }
            let entry = self.entry_of(scope, intent, &name.to_string());
            let (version, rotation) = (rotation.version, rotation.resumed(entry.time));
            let entry = Entry { version_before: version, version_after: version, ..entry };
            let rotation = Box::new(StoredRotation { rotation, sealed });
            let change = Change::ReplaceRotation { rotation, leaves_to: None };
            match self.store.commit(Write::new(&**scope, change, entry, None)).await {
                Ok(()) => return Ok(self.settled(scope, name).await?.rotation),
                Err(store::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }

    /// Destroys what no longer verifies, ends what nobody confirmed, and rotates what is due on its schedule, for as long as it is polled.
    pub async fn run_rotations(&self) {
        let mut from = None;
        loop {
            let now = self.clock.now();
            self.clock.wait_until(now.saturating_add(TICK).unwrap_or(now)).await;
            if let Err(error) = self.end_due(self.clock.now()).await {
                tracing::error!(%error, "end rotations whose time has come");
            }
            match self.rotate_due(self.clock.now(), from.take()).await {
                Ok(reached) => from = reached,
                Err(error) => tracing::error!(%error, "look for what is due on its schedule"),
            }
        }
    }

    /// Does what is due at `now`.
    pub async fn end_due(&self, now: Timestamp) -> Result<(), Error> {
        let worker = Worker::rotations();
        loop {
            let due = self.store.due(&worker, Due::Retirement, now, PAGE).await?;
            let full = due.len() == PAGE;
            let ends = due.into_iter().map(|(account, id)| {
                let scope = worker.retirement(account);
                async move { self.retire(&scope, &id, now).await }.boxed()
            });
            // What cannot be ended comes again, and does not hold up the rest.
            if ended(ends.collect()).await == 0 || !full {
                break;
            }
        }
        loop {
            let due = self.store.due(&worker, Due::Expiry, now, PAGE).await?;
            let full = due.len() == PAGE;
            let ends = due.into_iter().map(|(account, id)| {
                let scope = worker.expiry(account);
                async move { self.expire(&scope, &id, now).await }.boxed()
            });
            if ended(ends.collect()).await == 0 || !full {
                return Ok(());
            }
        }
    }

    /// Destroys the versions of a credential whose time has passed. Whether there were any. Its etag stays: nobody has
    /// changed anything. A change that began before puts them back, and they are destroyed again.
    async fn retire(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let Some(mut stored) = self.store.credential(scope, id).await? else { return Ok(false) };
        let (expect, active) = (stored.credential.revision, stored.credential.version);
        let versions = stored.credential.versions.at(now);
        if versions == stored.credential.versions {
            return Ok(false);
        }
        let gone = stored.others.iter().filter(|it| !versions.keeps(it.version));
        let gone: Vec<_> = gone.map(|it| it.version.to_string()).collect();
        let name = stored.credential.name.to_string();
        let entry = Entry {
            version_before: active,
            version_after: active,
            detail: format!("destroyed: {}", gone.join(", ")),
            ..self.entry(scope.actor(), scope.method(), &name)
        };
        stored.credential.versions = versions;
        let new = Box::new(stored.with_kept_versions());
        let change = Change::ReplaceCredential { expect, new, rotation: None, leaves_to: None };
        self.store.commit(Write::new(scope, change, entry, None)).await?;
        Ok(true)
    }

    /// Ends the delivery of a rotation whose time has passed or whose version is destroyed, or its wait. Whether it was
    /// so.
    async fn expire(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let Some(stored) = self.store.rotation(scope, id).await? else { return Ok(false) };
        let Rotation { name, resource, version, .. } = &stored.rotation;
        let credential = self.store.credential(scope, &name.parent.id).await?;
        let verifies = credential.is_some_and(|it| {
            it.credential.uid == *resource && it.credential.verifies(*version, now)
        });
        let is_due = stored.rotation.due_time().is_some_and(|due| due <= now || !verifies);
        if !is_due || planted(Defect::KeepDelivery) {
            return Ok(false);
        }
        let rotation = stored.rotation.expired(now);
        if rotation.state == State::NeedsAttention {
            tracing::warn!(rotation = %rotation.name, "nobody confirmed a rotation in time");
        }
        let entry = Entry {
            version_before: rotation.version,
            version_after: rotation.version,
            ..self.entry(scope.actor(), scope.method(), &rotation.name.to_string())
        };
        let rotation = Box::new(StoredRotation { rotation, sealed: None });
        let change = Change::ReplaceRotation { rotation, leaves_to: None };
        self.store.commit(Write::new(scope, change, entry, None)).await?;
        Ok(true)
    }

    fn check_proof(
        &self,
        scope: &AccountScope,
        stored: &StoredCredential,
        rotation: &Rotation,
        proof: &Proof,
    ) -> Result<(), Error> {
        const WRONG: Invalid = Invalid(
            "must be HMAC-SHA256 of the rotation's name, keyed with the new password as it was issued",
        );
        let version = rotation.version;
        let gone = "the rotation's version is destroyed: confirm without a proof";
        let sealed = stored.sealed(version).ok_or(Error::InvalidState(gone))?;
        let place = place(scope, stored.credential.uid, Field::Password, version);
        let secret = self.sealer.open(&place, sealed)?;
        let expected = crypto::proof_of(&secret, &rotation.name.to_string());
        if crypto::equal(&expected, proof) { Ok(()) } else { Err(Error::field("proof", WRONG)) }
    }

    pub(super) async fn find_rotation(
        &self,
        scope: &AccountScope,
        name: &RotationName,
    ) -> Result<StoredRotation, Error> {
        let found = self.store.rotation(scope, &name.id).await?;
        let found = found.filter(|stored| stored.rotation.name == *name);
        found.ok_or_else(|| Error::NotFound { name: name.to_string() })
    }
}

/// The pending version becomes active; the one before retires or is gone. None: there is no such pending one.
pub(super) fn promoted(
    mut stored: StoredCredential,
    rotation: &Rotation,
    confirmed: Rotation,
    now: Timestamp,
) -> Result<Option<Change>, Error> {
    let expect = stored.credential.revision;
    let at = stored.others.iter().position(|other| other.version == rotation.version);
    let Some(at) = at.filter(|_| stored.credential.versions.pending().is_some()) else {
        return Ok(None);
    };
    let pending = stored.others.remove(at);
    stored.credential.versions = stored.credential.versions.promoted();
    let new = Box::new(stored.activated(pending, rotation.overlap, now)?);
    let rotation = Some(Box::new(StoredRotation { rotation: confirmed, sealed: None }));
    Ok(Some(Change::ReplaceCredential { expect, new, rotation, leaves_to: None }))
}

/// Ends what is due, some at once so that they share their commits. How many were ended.
async fn ended(ends: Vec<BoxFuture<'_, Result<bool, Error>>>) -> usize {
    let mut ends = stream::iter(ends).buffer_unordered(AT_ONCE);
    let mut sum = 0;
    while let Some(ended) = ends.next().await {
        if let Err(error) = &ended {
            tracing::warn!(reason = error.reason(), "end what is due");
        }
        sum += usize::from(ended.unwrap_or(false));
    }
    sum
}
