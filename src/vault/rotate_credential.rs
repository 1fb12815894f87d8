//! `RotateCredential`: a new password. The old one dies in the same commit, or verifies for an overlap, or for as
//! long as nobody has proved to hold the new one.

use jiff::{SignedDuration, Timestamp};

use super::at_carrier::{Beginning, check_plan, check_request};
use super::delivery::{Plan, begin_rotation, described, made_now};
use super::get::check_etag;
use super::intent::Committed;
use super::{ATTEMPTS, Error, Intent, Made, Vault, place};
use crate::access::{AccountScope, RotateCredential, Scope};
use crate::audit::Entry;
use crate::credential::{Chooser, Credential};
use crate::crypto::Field;
use crate::crypto::password;
use crate::defect::{Defect, planted};
use crate::name::{Etag, ResourceId};
use crate::recipient::{PublicKey, Recipient};
use crate::secret::{Password, PasswordLength};
use crate::store::{Change, StoredCredential, StoredRotation, StoredVersion};
use crate::versions::TooMany;

/// How to rotate.
#[derive(Debug)]
pub struct NewRotation {
    /// How long the new password is.
    pub length: PasswordLength,
    /// How long the old one verifies beside it.
    pub overlap: SignedDuration,
    /// Whether the old one stays until somebody proves to hold the new one.
    pub require_confirmation: bool,
    /// Who gets it.
    pub recipient: Recipient,
}

impl Vault {
    /// Replaces a credential's password by a generated one.
    pub async fn rotate_credential(
        &self,
        scope: &Scope<RotateCredential>,
        id: &ResourceId,
        etag: Option<&Etag>,
        how: NewRotation,
        intent: &Intent,
    ) -> Result<Made, Error> {
        let password = password::generate(how.length)?;
        if planted(Defect::LogSecret) {
            leak(&password);
        }
        let plan = Plan {
            overlap: planted_overlap(how.overlap),
            require_confirmation: how.require_confirmation,
        };
        for _ in 0..ATTEMPTS {
            let found = self.find_credential(scope, id).await;
            if let Some(done) = self.done_before(scope, intent).await? {
                return self.rotated_before(scope, &done).await;
            }
            let old = found?;
            check_etag(etag, &old.credential.etag())?;
            check_no_rotation(&old.credential)?;
            let key = self.recipient_of(scope, &how.recipient).await?;
            if let Some(residence) = old.credential.residence.clone() {
                let chooser = self.chooser(scope, &residence).await?;
                check_plan(&residence, chooser, plan)?;
                check_request(&how.recipient, intent)?;
                let beginning = Beginning {
                    chooser,
                    password: (chooser == Chooser::Vault).then_some(&password),
                    require_confirmation: plan.require_confirmation,
                    recipient: Some((how.recipient.clone(), key)),
                };
                match self.begin(scope, old, &residence, beginning, intent).await? {
                    (Committed::Now, name) => return self.carried_out(scope, &name).await,
                    (Committed::Before(done), _) => return self.rotated_before(scope, &done).await,
                    (Committed::Moved, _) => continue,
                }
            }
            let to = (Some(&how.recipient), key);
            let Staged { credential, rotation, change, entry } =
                self.stage(scope, old, plan, (&password, to), intent)?;
            let version = entry.version_after;
            let resource = (&credential.name.id, credential.uid);
            match self.commit(scope, intent, resource, change, entry).await? {
                Committed::Now => {
                    return Ok(made_now(credential, (password, version), rotation));
                }
                Committed::Before(done) => return self.rotated_before(scope, &done).await,
                Committed::Moved => {}
            }
        }
        Err(Error::VersionConflict)
    }

    /// Makes the state after a rotation, which nobody knows of until it is committed. Without a recipient the password
    /// goes to nobody.
    pub(super) fn stage(
        &self,
        scope: &AccountScope,
        old: StoredCredential,
        plan: Plan,
        (password, (recipient, key)): (&Password, (Option<&Recipient>, Option<PublicKey>)),
        intent: &Intent,
    ) -> Result<Staged, Error> {
        let (expect, before) = (old.credential.revision, old.credential.version);
        let now = self.clock.now();
        let version = old.credential.versions.next_number(before);
        let place = place(scope, old.credential.uid, Field::Password, version);
        let sealed = self.sealer.seal(&place, password.as_text())?;
        let new = old.rotated(StoredVersion { version, sealed }, plan, now)?;
        let credential = new.credential.clone();
        let rotation = begin_rotation(&credential, version, plan, (password, key, intent), now)?;
        let to = recipient.map(|recipient| described(recipient, key.as_ref()));
        let entry = Entry {
            version_before: before,
            version_after: version,
            detail: plan.described(to.unwrap_or_else(|| Some("for nobody".to_owned()))),
            ..self.entry_of(scope, intent, &credential.name.to_string())
        };
        let change = Change::ReplaceCredential {
            expect,
            new: Box::new(new),
            rotation: rotation.clone().map(Box::new),
            leaves_to: recipient.cloned(),
        };
        Ok(Staged { credential, rotation, change, entry })
    }
}

/// A rotation that is ready to be committed.
pub(super) struct Staged {
    /// The credential after it.
    pub(super) credential: Credential,
    /// The rotation, if it outlives its call.
    pub(super) rotation: Option<StoredRotation>,
    /// What is committed.
    pub(super) change: Change,
    /// Its audit entry.
    pub(super) entry: Entry,
}

/// Two rotations at once would each take the other's version for the old one.
pub(super) fn check_no_rotation(credential: &Credential) -> Result<(), Error> {
    match credential.versions.pending() {
        Some(_) => Err(Error::RotationInProgress),
        None => Ok(()),
    }
}

const TOO_MANY: Error = Error::InvalidState(
    "eight versions retire already: wait until one is gone (ListVersions), or rotate without an overlap, which ends \
     them all",
);

impl StoredCredential {
    /// With a new version: active at once, or pending until it is confirmed.
    fn rotated(mut self, new: StoredVersion, plan: Plan, now: Timestamp) -> Result<Self, Error> {
        if plan.require_confirmation {
            // What ConfirmRotation will do, for which it must not be too late then.
            let credential = &mut self.credential;
            let (active, made) = (credential.version, credential.rotate_time);
            let after = credential.versions.replacing(active, made, now, plan.overlap);
            after.map_err(|TooMany| TOO_MANY)?;
            credential.versions = credential.versions.with_pending(new.version, now);
            self.others.push(new);
            Ok(self.touched(now))
        } else {
            self.activated(new, plan.overlap, now)
        }
    }

    /// With another active version, which is none of the others. The one before retires, or is gone.
    pub(super) fn activated(
        mut self,
        new: StoredVersion,
        overlap: SignedDuration,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let credential = &mut self.credential;
        let replaced =
            credential.versions.replacing(credential.version, credential.rotate_time, now, overlap);
        credential.versions = replaced.map_err(|TooMany| TOO_MANY)?;
        let old = std::mem::replace(&mut self.password, new.sealed);
        self.others.push(StoredVersion { version: credential.version, sealed: old });
        credential.version = new.version;
        credential.rotate_time = now;
        Ok(self.touched(now))
    }

    /// In its next revision.
    pub(super) fn touched(mut self, now: Timestamp) -> Self {
        self.credential.revision += 1;
        self.credential.update_time = now;
        self.with_kept_versions()
    }

    /// With the ciphertext of those versions that are still kept.
    pub(super) fn with_kept_versions(mut self) -> Self {
        let versions = &self.credential.versions;
        self.others.retain(|other| versions.keeps(other.version));
        self
    }
}

impl Plan {
    /// What the audit entry says of it.
    fn described(self, recipient: Option<String>) -> String {
        let overlap = (!self.overlap.is_zero()).then(|| format!("overlap {:#}", self.overlap));
        let held = self.require_confirmation.then(|| "held until it is confirmed".to_owned());
        [recipient, overlap, held].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The planted defects that the checks beside rotations must find.
pub(super) fn planted_overlap(overlap: SignedDuration) -> SignedDuration {
    if planted(Defect::NoOverlap) {
        SignedDuration::ZERO
    } else if planted(Defect::KeepReplaced) {
        overlap.max(SignedDuration::from_secs(1))
    } else {
        overlap
    }
}

/// The planted defect that the canary scan must find.
#[expect(clippy::disallowed_methods, reason = "exists in test builds only, to be found")]
fn leak(password: &Password) {
    tracing::trace!(password = password.as_text().expose(), "rotate");
}
