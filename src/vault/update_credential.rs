//! `UpdateCredential`: what a caller may choose, the password included, which is never echoed.

use jiff::{SignedDuration, Timestamp};

use super::at_carrier::Beginning;
use super::get::check_etag;
use super::intent::Committed;
use super::rotate_credential::check_no_rotation;
use super::{ATTEMPTS, Error, Intent, Vault, place};
use crate::access::{Scope, UpdateCredential};
use crate::audit::Entry;
use crate::credential::{Chooser, Credential, Description, Labels, Realm, Residence, Username};
use crate::crypto::Field;
use crate::name::{Etag, Invalid, ResourceId};
use crate::rotation::policy::{RotationPolicy, Schedule};
use crate::secret::Password;
use crate::store::{Change, Done, StoredCredential, StoredVersion};
use crate::upstream::Effect;

/// What to change. None: leave as it is.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "may hold a password")]
pub struct CredentialChanges {
    /// Whether it verifies.
    pub enabled: Option<bool>,
    /// Free text.
    pub description: Option<Description>,
    /// Labels, all of them.
    pub labels: Option<Labels>,
    /// When the vault rotates it by itself.
    pub rotation_policy: PolicyChange,
    /// A new password.
    pub password: Option<Password>,
    /// The username that the caller takes it to have; another one is refused (immutable).
    pub username: Option<Username>,
    /// The realm that the caller takes it to have; another one is refused (immutable).
    pub realm: Option<Realm>,
}

/// What becomes of a rotation policy.
#[derive(Debug, Default)]
pub enum PolicyChange {
    /// It stays as it is.
    #[default]
    Keep,
    /// There is none any more.
    Clear,
    /// This one replaces it.
    Set(RotationPolicy),
}

impl Vault {
    /// Changes a credential. Nothing to change: the current one, no new version.
    pub async fn update_credential(
        &self,
        scope: &Scope<UpdateCredential>,
        id: &ResourceId,
        etag: Option<&Etag>,
        changes: CredentialChanges,
        intent: &Intent,
    ) -> Result<Credential, Error> {
        for _ in 0..ATTEMPTS {
            let found = self.find_credential(scope, id).await;
            if let Some(done) = self.done_before(scope, intent).await? {
                return match &changes.password {
                    Some(_) => self.set_before(scope, &done).await,
                    None => self.credential_of(scope, &done).await,
                };
            }
            let stored = found?;
            let old = stored.credential.clone();
            check_etag(etag, &old.etag())?;
            changes.check_immutable(&old)?;
            if let PolicyChange::Set(policy) = &changes.rotation_policy {
                self.check_receiver(scope, policy).await?;
                if let Some(residence) = &old.residence {
                    self.check_policy_there(scope, residence, policy).await?;
                }
            }
            let mut new = changes.apply(&old, self.clock.now());
            if let Some(residence) = &old.residence
                && self.change_there(scope, residence, (&old, &new), &changes).await?
                    == Chooser::Vault
                && let Some(password) = &changes.password
            {
                check_no_rotation(&old)?;
                match self.set_there(scope, stored, residence, password, intent).await? {
                    Some(credential) => return Ok(credential),
                    None => continue,
                }
            }
            let detail = changes.describe(&old, &new);
            if detail.is_empty() && intent.request.is_none() {
                return Ok(old);
            }
            let mut entry = Entry {
                version_before: old.version,
                version_after: old.version,
                detail,
                ..self.entry_of(scope, intent, &new.name.to_string())
            };
            let change = if entry.detail.is_empty() {
                // A request id must be remembered even so, or a retry could act later.
                "nothing to change".clone_into(&mut entry.detail);
                Change::AuditOnly
            } else {
                let configured = StoredCredential { credential: new, ..stored };
                let stored = match &changes.password {
                    None => configured.touched(entry.time),
                    Some(password) => {
                        check_no_rotation(&old)?;
                        let version = old.versions.next_number(old.version);
                        entry.version_after = version;
                        let place = place(scope, old.uid, Field::Password, version);
                        let sealed = self.sealer.seal(&place, password.as_text())?;
                        let version = StoredVersion { version, sealed };
                        configured.activated(version, SignedDuration::ZERO, entry.time)?
                    }
                };
                new = stored.credential.clone();
                let new = Box::new(stored);
                Change::ReplaceCredential {
                    expect: old.revision,
                    new,
                    rotation: None,
                    leaves_to: None,
                }
            };
            match self.commit(scope, intent, (id, new.uid), change, entry).await? {
                Committed::Now => return Ok(new),
                Committed::Before(done) => return self.credential_of(scope, &done).await,
                Committed::Moved => {}
            }
        }
        Err(Error::VersionConflict)
    }
}

impl Vault {
    /// Changes a credential's configuration at its carrier, before it is changed here. Says who chooses its passwords.
    async fn change_there(
        &self,
        scope: &Scope<UpdateCredential>,
        residence: &Residence,
        (old, new): (&Credential, &Credential),
        changes: &CredentialChanges,
    ) -> Result<Chooser, Error> {
        const ALONE: Invalid = Invalid(
            "must come alone, where the credential lives at a carrier: each is a change of its own there",
        );
        const FIXED: Error = Error::InvalidState(
            "this carrier does not disable and enable credentials: delete it there, or rotate it and tell nobody",
        );
        let stored = self.find_provider(scope, &residence.provider).await?;
        let upstream = self.upstream_of(&stored.provider.kind)?;
        let unknown = || Error::Internal("a carrier without credentials".into());
        let credentials = upstream.credentials().ok_or_else(unknown)?;
        // Sent even if it is so here: an answer that was lost may have left it otherwise there.
        let (enabled, description) = (changes.enabled, changes.description.as_ref());
        let with_password = changes.password.is_some();
        if with_password && credentials.chooser() == Chooser::Vault && (old != new) {
            return Err(Error::field("password", ALONE));
        }
        if !credentials.is_configurable() {
            let differs = old.enabled != new.enabled;
            return if differs { Err(FIXED) } else { Ok(credentials.chooser()) };
        }
        if enabled.is_some() || description.is_some() {
            let description = description.map(Description::as_str);
            let token = self.token_of(scope, &stored)?;
            match credentials.configure(&token, &residence.at, enabled, description).await {
                Effect::Done(()) => {}
                Effect::Refused(objection) => return Err(objection.into()),
                Effect::NotDone(outage) => return Err(outage.into()),
                Effect::Unknown(_) => return Err(Error::UpstreamUnsure),
            }
        }
        Ok(credentials.chooser())
    }

    /// Sets a password that the caller chose, at the carrier and here. None: the credential has moved.
    async fn set_there(
        &self,
        scope: &Scope<UpdateCredential>,
        stored: StoredCredential,
        residence: &Residence,
        password: &Password,
        intent: &Intent,
    ) -> Result<Option<Credential>, Error> {
        let beginning = Beginning {
            chooser: Chooser::Vault,
            password: Some(password),
            require_confirmation: false,
            recipient: None,
        };
        match self.begin(scope, stored, residence, beginning, intent).await? {
            (Committed::Moved, _) => Ok(None),
            (Committed::Before(done), _) => self.set_before(scope, &done).await.map(Some),
            (Committed::Now, name) => self.taken_there(scope, &name).await.map(Some),
        }
    }

    /// The answer to a retry that brought a password: what its carrier said of it, if it lives at one.
    async fn set_before(
        &self,
        scope: &Scope<UpdateCredential>,
        done: &Done,
    ) -> Result<Credential, Error> {
        let found = self.store.rotation_of_version(scope, done.resource, done.version).await?;
        match found.filter(|stored| stored.rotation.work.is_some()) {
            Some(stored) => self.taken_there(scope, &stored.rotation.name).await,
            None => self.credential_of(scope, done).await,
        }
    }
}

impl CredentialChanges {
    fn apply(&self, old: &Credential, now: Timestamp) -> Credential {
        Credential {
            enabled: self.enabled.unwrap_or(old.enabled),
            description: self.description.clone().unwrap_or_else(|| old.description.clone()),
            labels: self.labels.clone().unwrap_or_else(|| old.labels.clone()),
            schedule: self.rotation_policy.apply(old.schedule.as_ref(), now),
            ..old.clone()
        }
    }

    /// Which fields change, for the audit entry. Values of configuration that matter most are named.
    fn describe(&self, old: &Credential, new: &Credential) -> String {
        let changed = [
            (old.enabled != new.enabled).then(|| format!("enabled={}", new.enabled)),
            (old.description != new.description).then(|| "description".to_owned()),
            (old.labels != new.labels).then(|| "labels".to_owned()),
            (old.schedule != new.schedule).then(|| match &new.schedule {
                Some(schedule) => format!("rotated {}", schedule.policy),
                None => "no rotation policy".to_owned(),
            }),
            self.password.is_some().then(|| "password".to_owned()),
        ];
        changed.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn check_immutable(&self, old: &Credential) -> Result<(), Error> {
        const RULE: Invalid =
            Invalid("is immutable: create another credential and delete this one");
        if self.username.as_ref().is_some_and(|username| *username != old.username) {
            return Err(Error::field("credential.username", RULE));
        }
        if self.realm.as_ref().is_some_and(|realm| *realm != old.realm) {
            return Err(Error::field("credential.realm", RULE));
        }
        Ok(())
    }
}

impl PolicyChange {
    /// The same policy once more is no change: its schedule goes on.
    fn apply(&self, old: Option<&Schedule>, now: Timestamp) -> Option<Schedule> {
        match self {
            Self::Keep => old.cloned(),
            Self::Clear => None,
            Self::Set(policy) => {
                let same = old.filter(|old| old.policy == *policy).cloned();
                Some(same.unwrap_or_else(|| Schedule { policy: policy.clone(), since: now }))
            }
        }
    }
}
