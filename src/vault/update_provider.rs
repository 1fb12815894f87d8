//! `UpdateProvider`: the name for people, and the trunk. The carrier's account is immutable.

use super::get::check_etag;
use super::intent::Committed;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{Scope, UpdateProvider};
use crate::audit::Entry;
use crate::name::{Etag, ResourceId};
use crate::provider::{DisplayName, KindChanges, Provider, Verification};
use crate::store::{Change, StoredProvider};

/// What to change. None: leave as it is.
#[derive(Debug, Default)]
pub struct ProviderChanges {
    /// A name for people.
    pub display_name: Option<DisplayName>,
    /// What is the carrier's own.
    pub kind: KindChanges,
}

impl Vault {
    /// Changes a provider. Nothing to change: the current one.
    pub async fn update_provider(
        &self,
        scope: &Scope<UpdateProvider>,
        id: &ResourceId,
        etag: Option<&Etag>,
        changes: ProviderChanges,
        intent: &Intent,
    ) -> Result<Provider, Error> {
        for _ in 0..ATTEMPTS {
            let found = self.find_provider(scope, id).await;
            if let Some(done) = self.done_before(scope, intent).await? {
                return self.provider_of(scope, &done).await;
            }
            let StoredProvider { provider: old, token, others } = found?;
            check_etag(etag, &old.etag())?;
            let kind = old
                .kind
                .changed(&changes.kind)
                .map_err(|(field, problem)| Error::field(format!("provider.{field}"), problem))?;
            let display_name = changes.display_name.clone();
            let mut new = Provider {
                display_name: display_name.unwrap_or_else(|| old.display_name.clone()),
                kind,
                ..old.clone()
            };
            let changed = [
                ("display_name", new.display_name != old.display_name),
                ("trunk", new.kind != old.kind),
            ];
            let changed: Vec<_> =
                changed.into_iter().filter_map(|(what, changed)| changed.then_some(what)).collect();
            if new.kind != old.kind {
                // What was found was found of another trunk.
                new.verification = Verification::pending();
            }
            if new == old && intent.request.is_none() {
                return Ok(old);
            }
            let mut entry = Entry {
                version_before: old.token_version,
                version_after: old.token_version,
                detail: changed.join(", "),
                ..self.entry_of(scope, intent, &new.name.to_string())
            };
            let change = if new == old {
                // A request id must be remembered even so, or a retry could act later.
                "nothing to change".clone_into(&mut entry.detail);
                Change::AuditOnly
            } else {
                new.revision = old.revision + 1;
                new.update_time = entry.time;
                let (new, expect) =
                    (StoredProvider { provider: new.clone(), token, others }, old.revision);
                Change::ReplaceProvider { expect, new, rotation: None, leaves_to: None }
            };
            match self.commit(scope, intent, (id, new.uid), change, entry).await? {
                Committed::Now if new.kind != old.kind => {
                    return Ok(self.verify_changed(scope, id, new).await);
                }
                Committed::Now => return Ok(new),
                Committed::Before(done) => return self.provider_of(scope, &done).await,
                Committed::Moved => {}
            }
        }
        Err(Error::VersionConflict)
    }

    /// The provider with what its carrier says of the new trunk. Nothing that fails here undoes the change: the
    /// provider is PENDING then, until the next verification.
    async fn verify_changed(
        &self,
        scope: &Scope<UpdateProvider>,
        id: &ResourceId,
        changed: Provider,
    ) -> Provider {
        let verified = async {
            let provider = self.ask_again(scope, self.find_provider(scope, id).await?).await?;
            let change = provider.verification.change_since(&changed.verification);
            self.record_verification(scope, provider.clone(), change).await?;
            Ok::<_, Error>(provider)
        };
        verified.await.unwrap_or_else(|error| {
            let name = changed.name.to_string();
            tracing::warn!(provider = name, reason = error.reason(), "verify a changed provider");
            changed
        })
    }
}
