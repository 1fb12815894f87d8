//! Rotations of credentials that live at a carrier: begun, waited for a while, and what their calls answer.

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::delivery::{Plan, described, sealed_for, verifies};
use super::intent::Committed;
use super::verification::ASKING;
use super::{ATTEMPTS, Error, Intent, Issued, Made, Outgoing, SealedSecret, Vault, place};
use crate::access::AccountScope;
use crate::audit::Entry;
use crate::credential::{Chooser, Credential, Residence};
use crate::crypto::{Field, random};
use crate::name::{Invalid, ResourceId};
use crate::provider::ProviderType;
use crate::recipient::{PublicKey, Recipient};
use crate::rotation::{
    Delivery, LONGEST_WAIT, Parent, Rotation, RotationName, SealFor, State, StepKind, Task, Work,
};
use crate::secret::{Password, SecretText};
use crate::store::{self, Change, StoredCredential, StoredRotation, StoredVersion, Write};

/// Where a caller's key stands in a request.
pub(super) const KEY: &str = "recipient.hpke_public_key";

/// A new version that a carrier is to take or to make.
pub(super) struct Beginning<'a> {
    pub(super) chooser: Chooser,
    /// The password, if the vault or its caller chose it.
    pub(super) password: Option<&'a Password>,
    pub(super) require_confirmation: bool,
    /// Who gets it, if anybody does, and the key that it is sealed for.
    pub(super) recipient: Option<(Recipient, Option<PublicKey>)>,
}

impl Vault {
    /// Who chooses the passwords at the carrier where a credential lives.
    pub(super) async fn chooser(
        &self,
        scope: &AccountScope,
        residence: &Residence,
    ) -> Result<Chooser, Error> {
        let provider = self.find_provider(scope, &residence.provider).await?.provider;
        let upstream = self.upstream_of(&provider.kind)?;
        let credentials = upstream.credentials();
        let unknown = || Error::Internal("a carrier without credentials".into());
        Ok(credentials.ok_or_else(unknown)?.chooser())
    }

    /// Begins a rotation. Its work is done by whoever works at carriers.
    pub(super) async fn begin(
        &self,
        scope: &AccountScope,
        old: StoredCredential,
        residence: &Residence,
        new: Beginning<'_>,
        intent: &Intent,
    ) -> Result<(Committed, RotationName), Error> {
        let (now, expect) = (self.clock.now(), old.credential.revision);
        let before = old.credential.version;
        let to = new.recipient.as_ref();
        let leaves_to = to.map(|(recipient, _)| recipient.clone());
        let sent = to.and_then(|(recipient, key)| described(recipient, key.as_ref()));
        let held = new.require_confirmation.then(|| "held until it is confirmed".to_owned());
        let at = format!("at providers/{}", residence.provider);
        let detail = [Some(at), sent, held].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let (new, rotation) = self.beginning(scope, old, new, intent, now)?;
        let name = rotation.rotation.name.clone();
        let entry = Entry {
            version_before: before,
            version_after: rotation.rotation.version,
            detail,
            ..self.entry_of(scope, intent, &name.parent.to_string())
        };
        let uid = new.credential.uid;
        let change = Change::ReplaceCredential {
            expect,
            new: Box::new(new),
            rotation: Some(Box::new(rotation)),
            leaves_to,
        };
        let committed = self.commit(scope, intent, (name.parent.id(), uid), change, entry).await?;
        Ok((committed, name))
    }

    /// The credential with a new version that waits for its carrier, and the rotation that sees to it.
    fn beginning(
        &self,
        scope: &AccountScope,
        mut stored: StoredCredential,
        new: Beginning<'_>,
        intent: &Intent,
        now: Timestamp,
    ) -> Result<(StoredCredential, StoredRotation), Error> {
        let Beginning { chooser, password, require_confirmation, recipient, .. } = new;
        let credential = &mut stored.credential;
        let version = credential.versions.next_number(credential.version);
        let (to, key) = recipient.unzip();
        let mut work = Work::password(chooser, to, now);
        let (mut delivery, mut sealed) = (None, None);
        match (password, key.flatten()) {
            (None, key) => {
                credential.versions = credential.versions.with_awaited(version, now);
                let request_id = intent.request_id();
                if let Some(key) = &key {
                    // Once the carrier has made the password it is too late to find that nothing can be sealed for it.
                    sealed_for(KEY, key, "", &SecretText::new(String::new()))?;
                }
                work.seal_for = key.map(|key| SealFor { key, request_id });
            }
            (Some(password), key) => {
                credential.versions = credential.versions.with_pending(version, now);
                let place = place(scope, credential.uid, Field::Password, version);
                let new = self.sealer.seal(&place, password.as_text())?;
                stored.others.push(StoredVersion { version, sealed: new });
                if let Some(key) = key {
                    let of = (&key, intent.request_id());
                    // The carrier may take long, and it must not be in force there with nobody who can get it.
                    let made = Delivery::starting(now, LONGEST_WAIT, require_confirmation, of);
                    let aad = made.aad(&stored.credential.name, version);
                    sealed = Some(sealed_for(KEY, &key, &aad, password.as_text())?);
                    delivery = Some(made);
                }
            }
        }
        let stored = stored.touched(now);
        let id = ResourceId::made_at(now, random::bytes()?);
        let state = if require_confirmation { State::Holding } else { State::Pending };
        let rotation = Rotation {
            name: RotationName { parent: Parent::Credential(stored.credential.name.clone()), id },
            resource: stored.credential.uid,
            version,
            revision: 0,
            state,
            overlap: jiff::SignedDuration::ZERO,
            require_confirmation,
            delivery,
            steps: Vec::new(),
            create_time: now,
            update_time: now,
            end_time: None,
            confirm_time: None,
            work: Some(work),
        };
        let rotation = rotation.after(StepKind::Store, state, now, "");
        Ok((stored, StoredRotation { rotation, sealed }))
    }

    /// Has a rotation go on, and waits until it is over, or waits for something else than an answer under way.
    pub(super) async fn settled(
        &self,
        scope: &AccountScope,
        name: &RotationName,
    ) -> Result<StoredRotation, Error> {
        let deadline = Instant::now() + ASKING;
        let mut moved = self.work.moved();
        self.work.begin();
        loop {
            let stored = self.find_rotation(scope, name).await?;
            let due = stored.rotation.work_time().is_some_and(|due| due <= self.clock.now());
            let work = stored.rotation.work.as_ref();
            let under_way = due || work.is_some_and(|work| work.lease_end.is_some());
            let over = stored.rotation.state.is_final();
            if over || !under_way || timeout_at(deadline, moved.changed()).await.is_err() {
                return Ok(stored);
            }
        }
    }

    /// The answer to the call that began a rotation at a carrier, and to its retries: how far it is, and its secret once
    /// it has come.
    pub(super) async fn carried_out(
        &self,
        scope: &AccountScope,
        name: &RotationName,
    ) -> Result<Made, Error> {
        let stored = self.settled(scope, name).await?;
        let credential = self.find_credential(scope, name.parent.id()).await?.credential;
        let rotation = stored.rotation.clone();
        let work = rotation.work.as_ref();
        if rotation.state == State::Cancelled {
            let objection = work.and_then(|work| work.objection);
            let cancelled =
                "the rotation that this request began was cancelled: rotate under a new request_id";
            return Err(objection.map_or(Error::InvalidState(cancelled), Error::from));
        }
        let for_caller = work.is_some_and(|work| work.recipient == Some(Recipient::Caller));
        let is_ready = rotation.state == State::Succeeded || rotation.awaits_confirmation();
        if is_ready && for_caller {
            return self.issue_once(scope, name).await;
        }
        let now = self.clock.now();
        let verifies = verifies(&credential, &rotation, now);
        let secret = SealedSecret::again(stored, verifies, now);
        let secret = secret.map(Outgoing::Sealed);
        let nothing_left = secret.is_none() && rotation.state.is_final();
        if nothing_left && work.is_some_and(|work| work.recipient.is_some()) {
            return Err(already_issued(&rotation));
        }
        Ok(Made { credential, secret, rotation: Some(rotation) })
    }

    /// The credential once its carrier has taken a password that the caller chose.
    pub(super) async fn taken_there(
        &self,
        scope: &AccountScope,
        name: &RotationName,
    ) -> Result<Credential, Error> {
        let made = self.carried_out(scope, name).await?;
        match made.rotation.filter(|rotation| !rotation.state.is_final()) {
            Some(_) => Err(Error::UpstreamPending),
            None => Ok(made.credential),
        }
    }

    /// Issues the password of a rotation in plaintext: to the first who comes for it, and never again.
    async fn issue_once(&self, scope: &AccountScope, name: &RotationName) -> Result<Made, Error> {
        for _ in 0..ATTEMPTS {
            let StoredRotation { mut rotation, sealed } = self.find_rotation(scope, name).await?;
            let stored = self.find_credential(scope, name.parent.id()).await?;
            let issued = Err(already_issued(&rotation));
            let version = rotation.version;
            let is_its = stored.credential.uid == rotation.resource;
            let Some(sealed_here) = stored.sealed(version).filter(|_| is_its) else {
                return issued;
            };
            match &mut rotation.work {
                Some(Work { task: Task::Password { owed, .. }, .. }) if *owed => *owed = false,
                _ => return issued,
            }
            let place = place(scope, stored.credential.uid, Field::Password, version);
            let password = Password::from_generated(self.sealer.open(&place, sealed_here)?);
            let credential = stored.credential;
            rotation.revision += 1;
            let entry = Entry {
                version_before: version,
                version_after: version,
                detail: "issued".to_owned(),
                ..self.entry_of(scope, &Intent::default(), &name.to_string())
            };
            let known = rotation.clone();
            let rotation = Box::new(StoredRotation { rotation, sealed });
            let leaves_to = Some(Recipient::Caller);
            let change = Change::ReplaceRotation { rotation, leaves_to };
            match self.store.commit(Write::new(scope, change, entry, None)).await {
                Ok(()) => {
                    let secret = Some(Outgoing::Issued(Issued::new(password, version)));
                    return Ok(Made { credential, secret, rotation: Some(known) });
                }
                Err(store::Error::Conflict) => {
                    // It may not leave so any more, or somebody else has got it: the next look says which.
                    self.recipient_of(scope, &Recipient::Caller).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }
}

/// The answer to a retry for which there is no secret any more.
fn already_issued(rotation: &Rotation) -> Error {
    let name = rotation.name.parent.to_string();
    Error::SecretAlreadyIssued { name, version: rotation.version, time: rotation.create_time }
}

/// A password in plaintext goes to its request: the carrier may take longer than the call.
pub(super) fn check_request(recipient: &Recipient, intent: &Intent) -> Result<(), Error> {
    const NEEDED: Invalid = Invalid(
        "is required without a recipient where the credential lives at a carrier: if that answers late, only the same \
         request can get the password",
    );
    match (recipient, &intent.request) {
        (Recipient::Caller, None) => Err(Error::field("request_id", NEEDED)),
        _ => Ok(()),
    }
}

/// What a carrier cannot do that a rotation asks for.
pub(super) fn check_plan(residence: &Residence, chooser: Chooser, plan: Plan) -> Result<(), Error> {
    if !plan.overlap.is_zero() {
        return Err(Error::InvalidState(match residence.at.provider_type() {
            ProviderType::Twilio => {
                "Twilio keeps one password for a username, so there is no overlap: rotate without one, or have a second \
                 credential in the list and rotate the two in turn"
            }
            ProviderType::Vobiz => {
                "Vobiz keeps one password for a credential, so there is no overlap: rotate without one, with \
                 require_confirmation if the new one must arrive first"
            }
            ProviderType::Telepath => {
                "Telepath ends the old password when it makes the new one, so there is no overlap: rotate without one"
            }
        }));
    }
    if plan.require_confirmation && chooser == Chooser::Carrier {
        return Err(Error::InvalidState(
            "this carrier makes the password and ends the old one at once, so nothing can be confirmed before: rotate \
             without require_confirmation",
        ));
    }
    Ok(())
}
