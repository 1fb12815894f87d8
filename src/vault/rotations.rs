//! Rotations that outlive their call: seen, confirmed, cancelled and resumed.

use jiff::Timestamp;

use super::delivery::verifies;
use super::intent::Intent;
use super::{ATTEMPTS, Error, Listed, PageRequest, SealedSecret, Vault, place};
use crate::access::{
    AccountScope, CancelRotation, ConfirmRotation, GetRotation, ListRotations, ListVersions,
    ResumeRotation, Scope,
};
use crate::audit::Entry;
use crate::crypto::{self, Field, Sealed};
use crate::name::{Invalid, ResourceId, Uid};
use crate::rotation::{Parent, Rotation, RotationFilter, RotationName, Stage, State};
use crate::store::{
    self, Change, StoredCredential, StoredProvider, StoredRotation, VersionKey, VersionUse, Write,
};
use crate::versions;

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
        let (rotation, now) = (stored.rotation.clone(), self.clock.now());
        let verifies = self.verifies(scope, &rotation, now).await?;
        Ok((rotation, SealedSecret::again(stored, verifies, now)))
    }

    /// Rotations, newest first, of one credential or provider or of all.
    pub async fn list_rotations(
        &self,
        scope: &Scope<ListRotations>,
        parent: Option<&Parent>,
        mut filter: RotationFilter,
        request: PageRequest,
    ) -> Result<Listed<Rotation>, Error> {
        filter.resource = match parent {
            None => None,
            Some(Parent::Credential(name)) => {
                Some(self.find_credential(scope, &name.id).await?.credential.uid)
            }
            Some(Parent::Provider(name)) => {
                Some(self.find_provider(scope, &name.id).await?.provider.uid)
            }
        };
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
            let is_made = !matches!(rotation.stage(), Some(Stage::Make | Stage::Discard));
            if !is_made || rotation.work.as_ref().is_some_and(|work| work.seal_for.is_some()) {
                return Err(Error::InvalidState(
                    "the carrier has not made the new one yet, so nothing can have arrived",
                ));
            }
            if rotation.stage() == Some(Stage::GiveUp) {
                return Err(Error::InvalidState("the rotation was given up: rotate again"));
            }
            let waits = rotation.awaits_confirmation();
            if !waits && rotation.confirm_time.is_some() {
                return Ok(rotation);
            }
            if rotation.needs_proof() && proof.is_none() {
                let rule = "is required: the rotation waits for it (require_confirmation)";
                return Err(Error::field("proof", Invalid(rule)));
            }
            let stored = self.secrets_of(scope, &name.parent).await?;
            if let Some(proof) = proof {
                self.check_proof(scope, &stored, &rotation, proof)?;
            }
            let (entry, before) =
                (self.entry_of(scope, intent, &name.to_string()), stored.active());
            let confirmed = rotation.confirmed(entry.time);
            let detail = if proof.is_some() { "with a proof" } else { "without a proof" };
            let entry = Entry {
                version_before: before,
                version_after: rotation.version,
                detail: detail.to_owned(),
                ..entry
            };
            let change = match stored {
                Secrets::Credential(stored) if waits && rotation.work.is_none() => {
                    // None: it was confirmed or cancelled since the rotation was read.
                    match promoted(*stored, &rotation, confirmed.clone(), entry.time)? {
                        Some(change) => change,
                        None => continue,
                    }
                }
                _ => {
                    let rotation = confirmed.clone();
                    let rotation = Box::new(StoredRotation { rotation, sealed: None });
                    Change::ReplaceRotation { rotation, leaves_to: None }
                }
            };
            match self.store.commit(Write::new(&**scope, change, entry, None)).await {
                Ok(()) if rotation.work.is_some() && confirmed.work_time().is_some() => {
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
                _ if rotation.stage() == Some(Stage::GiveUp) => {
                    return Ok(self.settled(scope, name).await?.rotation);
                }
                State::Succeeded => {
                    return Err(Error::InvalidState(
                        "the rotation has succeeded, so its new version is the active one: rotate again",
                    ));
                }
                _ if rotation.stage().is_some() => {
                    match self.cancel_token_rotation(scope, name, rotation, intent).await? {
                        Some(rotation) => return Ok(rotation),
                        None => continue,
                    }
                }
                _ if rotation.work.as_ref().is_some_and(|work| !work.has_done_nothing()) => {
                    return Err(Error::InvalidState(
                        "the carrier may have changed the password already: the vault finds out and finishes by \
                         itself (GetRotation says how far it is; ResumeRotation asks at once)",
                    ));
                }
                _ => {}
            }
            let mut stored = self.find_credential(scope, name.parent.id()).await?;
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
            if rotation.work_time().is_none() || rotation.stage() == Some(Stage::Hold) {
                return Err(Error::InvalidState(
                    "the rotation waits for no carrier: it is over, or is held until its time or ConfirmRotation",
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

    fn check_proof(
        &self,
        scope: &AccountScope,
        stored: &Secrets,
        rotation: &Rotation,
        proof: &Proof,
    ) -> Result<(), Error> {
        const WRONG: Invalid = Invalid(
            "must be HMAC-SHA256 of the rotation's name, keyed with the new secret as it was issued",
        );
        let version = rotation.version;
        let gone = "the rotation's version is destroyed: confirm without a proof";
        let sealed = stored.sealed(version).ok_or(Error::InvalidState(gone))?;
        let place = place(scope, stored.resource(), stored.field(), version);
        let secret = self.sealer.open(&place, sealed)?;
        let expected = crypto::proof_of(&secret, &rotation.name.to_string());
        if crypto::equal(&expected, proof) { Ok(()) } else { Err(Error::field("proof", WRONG)) }
    }

    /// What a rotation is of, if it is still there.
    async fn secrets_of(&self, scope: &AccountScope, parent: &Parent) -> Result<Secrets, Error> {
        Ok(match parent {
            Parent::Credential(name) => {
                Secrets::Credential(Box::new(self.find_credential(scope, &name.id).await?))
            }
            Parent::Provider(name) => {
                Secrets::Provider(Box::new(self.find_provider(scope, &name.id).await?))
            }
        })
    }

    /// Whether the version that a rotation made is good for anything.
    pub(super) async fn verifies(
        &self,
        scope: &AccountScope,
        rotation: &Rotation,
        now: Timestamp,
    ) -> Result<bool, Error> {
        Ok(match self.secrets_of(scope, &rotation.name.parent).await? {
            Secrets::Credential(stored) => verifies(&stored.credential, rotation, now),
            Secrets::Provider(stored) => {
                let provider = stored.provider;
                provider.uid == rotation.resource && provider.holds(rotation.version)
            }
        })
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

/// A resource with its secrets.
enum Secrets {
    Credential(Box<StoredCredential>),
    Provider(Box<StoredProvider>),
}

impl Secrets {
    fn resource(&self) -> Uid {
        match self {
            Self::Credential(stored) => stored.credential.uid,
            Self::Provider(stored) => stored.provider.uid,
        }
    }

    fn field(&self) -> Field {
        match self {
            Self::Credential(_) => Field::Password,
            Self::Provider(_) => Field::Token,
        }
    }

    fn active(&self) -> u64 {
        match self {
            Self::Credential(stored) => stored.credential.version,
            Self::Provider(stored) => stored.provider.token_version,
        }
    }

    fn sealed(&self, version: u64) -> Option<&Sealed> {
        match self {
            Self::Credential(stored) => stored.sealed(version),
            Self::Provider(stored) => stored.sealed(version),
        }
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
