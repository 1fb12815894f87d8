//! What ends by itself when its time comes: versions that retire, sealed secrets, waits for a confirmation.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::{Error, Vault};
use crate::access::{AccountScope, Worker};
use crate::audit::Entry;
use crate::defect::{Defect, planted};
use crate::name::ResourceId;
use crate::rotation::State;
use crate::store::{Change, Due, StoredRotation, Write};

/// How often the vault looks whether a time has come.
const TICK: SignedDuration = SignedDuration::from_secs(10);

/// How much of what is due is read at a time.
const PAGE: usize = 200;

/// How much of it is ended at once.
const AT_ONCE: usize = 32;

impl Vault {
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
        for what in [Due::Retirement, Due::TokenRetirement, Due::Expiry] {
            loop {
                let due = self.store.due(&worker, what, now, PAGE).await?;
                let full = due.len() == PAGE;
                let ends = due.into_iter().map(|(account, id)| {
                    let worker = &worker;
                    async move {
                        match what {
                            Due::TokenRetirement => {
                                self.retire_token(&worker.retirement(account), &id, now).await
                            }
                            Due::Expiry => self.expire(&worker.expiry(account), &id, now).await,
                            _ => self.retire(&worker.retirement(account), &id, now).await,
                        }
                    }
                    .boxed()
                });
                // What cannot be ended comes again, and does not hold up the rest.
                if ended(ends.collect()).await == 0 || !full {
                    break;
                }
            }
        }
        Ok(())
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

    /// The same of the tokens of a provider.
    async fn retire_token(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let Some(stored) = self.store.provider(scope, id).await? else { return Ok(false) };
        let (expect, active) = (stored.provider.revision, stored.provider.token_version);
        let versions = stored.provider.versions.at(now);
        if versions == stored.provider.versions {
            return Ok(false);
        }
        // A rotation that has not seen it dead needs it.
        let uid = stored.provider.uid;
        let rotation = self.store.rotation_of_version(scope, uid, active).await?;
        if rotation.is_some_and(|it| !it.rotation.state.is_final()) {
            return Ok(false);
        }
        let gone = stored.others.iter().filter(|it| !versions.keeps(it.version));
        let gone: Vec<_> = gone.map(|it| it.version.to_string()).collect();
        let entry = Entry {
            version_before: active,
            version_after: active,
            detail: format!("destroyed: {}", gone.join(", ")),
            ..self.entry(scope.actor(), scope.method(), &stored.provider.name.to_string())
        };
        let new = stored.with_versions(versions);
        let change = Change::ReplaceProvider { expect, new, rotation: None, leaves_to: None };
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
        let verifies = match self.verifies(scope, &stored.rotation, now).await {
            Err(Error::NotFound { .. }) => false,
            verifies => verifies?,
        };
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
