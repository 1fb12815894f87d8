//! Rotations on a schedule: what is due is looked for, decided by a pure function, and performed as a call would.
//!
//! Two workers do no harm: a rotation is committed only on the state that it was decided from.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::at_carrier::{Beginning, check_plan};
use super::delivery::Plan;
use super::rotate_credential::{Staged, planted_overlap};
use super::{Error, Intent, Vault};
use crate::access::{AccountScope, Worker};
use crate::audit::Entry;
use crate::credential::{Chooser, Credential, Residence};
use crate::crypto::password;
use crate::name::ResourceId;
use crate::recipient::{PublicKey, Recipient};
use crate::rotation::policy::{Length, Receiver, RotationPolicy};
use crate::rotation::sweep::{Block, Item, What, decide, sweep};
use crate::secret::PasswordLength;
use crate::store::{self, DuePosition, StoredCredential, Write};

/// How many credentials are rotated in one look, at the most: whoever takes the passwords over must keep up.
const MOST: usize = 200;

/// How many that are due are looked at, at the most: those that are blocked or wait for their window are due as well.
const LOOKED_AT: usize = 1_000;

/// How many of them are read at a time.
const PAGE: usize = 200;

/// How many are rotated at once, so that they share their commits.
const AT_ONCE: usize = 32;

/// What a schedule will do with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// When it is rotated; a time that has passed: as soon as nothing is in the way.
    pub time: Timestamp,
    /// What is in the way.
    pub block: Option<Block>,
}

/// A credential that is due, as it was read, and what its policy says of the key.
struct Due {
    scope: AccountScope,
    position: DuePosition,
    stored: StoredCredential,
    key: Key,
}

/// For whom a policy has secrets sealed.
#[derive(Debug, Clone, Copy)]
enum Key {
    /// Nobody gets them.
    None,
    /// This one.
    Good(PublicKey),
    /// One that is revoked.
    Revoked,
}

impl Vault {
    /// Rotates credentials that are due at `now`, as many as may at a time, from a position on or from the start.
    /// Returns where the next look goes on, so that what is blocked holds up nobody; None: all were looked at.
    pub async fn rotate_due(
        &self,
        now: Timestamp,
        from: Option<DuePosition>,
    ) -> Result<Option<DuePosition>, Error> {
        let worker = Worker::rotations();
        let (mut from, mut left) = (from, MOST);
        for _ in 0..LOOKED_AT / PAGE {
            let page = self.store.scheduled(&worker, now, from.clone(), PAGE).await?;
            let (is_last, reached) = (page.len() < PAGE, page.last().map(|(_, at)| at.clone()));
            let mut due = Vec::new();
            for (account, position) in page {
                let scope = worker.schedule(account);
                match self.due_of(scope, position).await {
                    Ok(found) => due.extend(found),
                    Err(error) => tracing::warn!(reason = error.reason(), "read what is due"),
                }
            }
            // Each of them has a schedule, and so an item.
            let items: Vec<_> = due.iter().filter_map(|due| due.item(now)).collect();
            let operations = sweep(now, &items, left);
            let mut chosen: Vec<_> = operations
                .iter()
                .filter(|operation| operation.what == What::Rotate)
                .map(|operation| operation.item)
                .collect();
            chosen.sort_unstable();
            left -= chosen.len();
            let last = chosen.last().and_then(|last| due.get(*last)).map(|it| it.position.clone());
            let due = due.into_iter().enumerate();
            let due = due.filter(|(item, _)| chosen.binary_search(item).is_ok());
            let rotations = due.map(|(_, due)| self.rotate_one(due));
            stream::iter(rotations).buffer_unordered(AT_ONCE).collect::<()>().await;
            if left == 0 {
                // What was due behind that is first in the next look.
                return Ok(last);
            }
            if is_last {
                return Ok(None);
            }
            from = reached;
        }
        Ok(from)
    }

    /// What the schedules of credentials will do with them; None for those without one.
    pub(super) async fn outlooks(
        &self,
        scope: &AccountScope,
        credentials: &[&Credential],
    ) -> Result<Vec<Option<Outlook>>, Error> {
        let now = self.clock.now();
        let (mut keys, mut outlooks) = (HashMap::new(), Vec::new());
        for credential in credentials {
            let Some(schedule) = &credential.schedule else {
                outlooks.push(None);
                continue;
            };
            let key = match schedule.policy.receiver() {
                Receiver::Nobody => Key::None,
                Receiver::Key(id) => {
                    if !keys.contains_key(id) {
                        keys.insert(id.clone(), self.key_of(scope, id).await?);
                    }
                    keys.get(id).copied().unwrap_or(Key::Revoked)
                }
            };
            let block = block(credential, key, now);
            let outlook = |item| Outlook { time: decide(now, &item).time(), block };
            outlooks.push(credential.item(block).map(outlook));
        }
        Ok(outlooks)
    }

    /// Whether the key exists for which a policy has secrets sealed.
    pub(super) async fn check_receiver(
        &self,
        scope: &AccountScope,
        policy: &RotationPolicy,
    ) -> Result<(), Error> {
        match policy.receiver() {
            Receiver::Nobody => Ok(()),
            Receiver::Key(id) => {
                self.recipient_of(scope, &Recipient::Enrolled(id.clone())).await.map(drop)
            }
        }
    }

    /// Whether a policy asks for what the carrier can do where a credential lives.
    pub(super) async fn check_policy_there(
        &self,
        scope: &AccountScope,
        residence: &Residence,
        policy: &RotationPolicy,
    ) -> Result<(), Error> {
        let plan =
            Plan { overlap: policy.overlap(), require_confirmation: policy.require_confirmation() };
        check_plan(residence, self.chooser(scope, residence).await?, plan)
    }

    /// A credential that was found to be due, if it is still there.
    async fn due_of(
        &self,
        scope: AccountScope,
        position: DuePosition,
    ) -> Result<Option<Due>, Error> {
        let Some(stored) = self.store.credential(&scope, &position.id).await? else {
            return Ok(None);
        };
        let Some(schedule) = &stored.credential.schedule else { return Ok(None) };
        let key = match schedule.policy.receiver() {
            Receiver::Nobody => Key::None,
            Receiver::Key(id) => self.key_of(&scope, id).await?,
        };
        Ok(Some(Due { scope, position, stored, key }))
    }

    async fn key_of(&self, scope: &AccountScope, id: &ResourceId) -> Result<Key, Error> {
        let key = self.store.recipient_key(scope, id).await?;
        let good = key.filter(|key| key.revoke_time.is_none());
        Ok(good.map_or(Key::Revoked, |key| Key::Good(key.public_key)))
    }

    /// Rotates a credential, if it is still as it was read. What fails changes nothing, and comes again.
    async fn rotate_one(&self, due: Due) {
        let name = due.stored.credential.name.to_string();
        match self.try_rotate(due).await {
            Ok(()) | Err(Error::VersionConflict) => {}
            Err(error) => {
                let reason = error.reason();
                tracing::warn!(credential = %name, reason, "rotate a credential on its schedule");
            }
        }
    }

    async fn try_rotate(&self, due: Due) -> Result<(), Error> {
        let Due { scope, stored, key, .. } = due;
        let Some(schedule) = stored.credential.schedule.clone() else { return Ok(()) };
        let policy = &schedule.policy;
        let password = password::generate(PasswordLength::default())?;
        let plan = Plan {
            overlap: planted_overlap(policy.overlap()),
            require_confirmation: policy.require_confirmation(),
        };
        let (recipient, key) = match (policy.receiver(), key) {
            (Receiver::Nobody, _) => (None, None),
            (Receiver::Key(id), Key::Good(key)) => {
                (Some(Recipient::Enrolled(id.clone())), Some(key))
            }
            // The sweep does not get here: nobody could ever take the password over.
            (Receiver::Key(_), Key::None | Key::Revoked) => return Ok(()),
        };
        let intent = Intent::default();
        if let Some(residence) = stored.credential.residence.clone() {
            let chooser = self.chooser(&scope, &residence).await?;
            check_plan(&residence, chooser, plan)?;
            let beginning = Beginning {
                chooser,
                password: (chooser == Chooser::Vault).then_some(&password),
                require_confirmation: plan.require_confirmation,
                recipient: recipient.map(|recipient| (recipient, key)),
            };
            self.begin(&scope, stored, &residence, beginning, &intent).await?;
            self.work.begin();
            return Ok(());
        }
        let to = (recipient.as_ref(), key);
        let Staged { credential, change, entry, .. } =
            self.stage(&scope, stored, plan, (&password, to), &intent)?;
        let detail = format!("on schedule, every {}, {}", Length(policy.interval()), entry.detail);
        let entry = Entry { detail, ..entry };
        match self.store.commit(Write::new(&scope, change, entry, None)).await {
            Ok(()) => {
                tracing::info!(credential = %credential.name, "rotated on schedule");
                Ok(())
            }
            // Somebody else did it, or changed it: the next look decides again.
            Err(store::Error::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Due {
    fn item(&self, now: Timestamp) -> Option<Item<'_>> {
        let credential = &self.stored.credential;
        credential.item(block(credential, self.key, now))
    }
}

/// What is in the way of a scheduled rotation.
fn block(credential: &Credential, key: Key, now: Timestamp) -> Option<Block> {
    let schedule = credential.schedule.as_ref()?;
    let (versions, overlap) = (&credential.versions, schedule.policy.overlap());
    let full =
        || versions.replacing(credential.version, credential.rotate_time, now, overlap).is_err();
    if !credential.enabled {
        Some(Block::Disabled)
    } else if versions.pending().is_some() {
        Some(Block::InProgress)
    } else if matches!(key, Key::Revoked) {
        Some(Block::KeyRevoked)
    } else {
        full().then_some(Block::TooManyVersions)
    }
}
