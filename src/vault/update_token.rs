//! `UpdateToken`: stage, ask the carrier, compare-and-set. A failed validation changes nothing.

use jiff::SignedDuration;
use tokio::time::Instant;

use super::get::check_etag;
use super::intent::Committed;
use super::verification::{ASKING, candidate};
use super::{Error, Intent, Vault, place};
use crate::access::{Scope, UpdateToken};
use crate::audit::Entry;
use crate::crypto::Field;
use crate::name::{Etag, ResourceId};
use crate::provider::{Provider, Token, Verification};
use crate::store::{Change, StoredProvider};
use crate::versions::TooMany;

/// A token to replace the stored one.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct TokenUpdate {
    /// The new token.
    pub token: Token,
    /// Replace only if the provider is still in this state.
    pub etag: Option<Etag>,
    /// Ask the carrier, store nothing.
    pub validate_only: bool,
}

impl Vault {
    /// Replaces a provider's token by one that its carrier confirmed for the stored account.
    pub async fn update_token(
        &self,
        scope: &Scope<UpdateToken>,
        id: &ResourceId,
        update: TokenUpdate,
        intent: &Intent,
    ) -> Result<Provider, Error> {
        let deadline = Instant::now() + ASKING;
        let found = self.find_provider(scope, id).await;
        if let Some(done) = self.done_before(scope, intent).await? {
            return self.provider_of(scope, &done).await;
        }
        let stored = found?;
        let old = stored.provider.clone();
        check_etag(update.etag.as_ref(), &old.etag())?;
        if !update.validate_only {
            self.superseded(scope, &old, self.clock.now()).await?;
        }
        let candidate = candidate(&*self.upstream_of(&old.kind)?, update.token)?;
        self.limits.may_ask(scope.account().uid, Some(old.uid))?;
        let validated = self
            .validate(scope, intent, &old.name, (&old.kind, candidate), old.token_version, deadline)
            .await?;

        let now = self.clock.now();
        let (version, verdict) = (old.versions.next_number(old.token_version), validated.verdict());
        // Whoever brings a token of his own fears for those before.
        let versions = old.versions.cancelled(now).replacing(
            old.token_version,
            old.token_update_time,
            now,
            SignedDuration::ZERO,
        );
        let versions = versions.map_err(|TooMany| Error::Internal("tokens that retire".into()))?;
        let new = Provider {
            verification: Verification::after(&old.verification, version, verdict, None, now),
            token_kind: validated.token().kind.clone(),
            token_version: version,
            versions,
            revision: old.revision + 1,
            token_update_time: now,
            update_time: now,
            ..old.clone()
        };
        if update.validate_only {
            // What it would look like, but for what only a commit makes.
            let new = self.surveyed(new, &old.verification, &validated, deadline).await;
            return Ok(Provider { verification: new.verification, ..old });
        }
        let place = place(scope, new.uid, Field::Token, new.token_version);
        let token = self.sealer.seal(&place, &validated.token().secret)?;
        let entry = Entry {
            version_before: old.token_version,
            version_after: new.token_version,
            detail: new.verification.status.as_str().to_owned(),
            ..self.entry_of(scope, intent, &new.name.to_string())
        };
        let rotation = self.superseded(scope, &old, now).await?;
        let entry = match &rotation {
            Some(ended) => {
                let detail = format!("{}, ends rotations/{}", entry.detail, ended.rotation.name.id);
                Entry { detail, ..entry }
            }
            None => entry,
        };
        let new_row = StoredProvider { provider: new.clone(), token, others: Vec::new() };
        let expect = old.revision;
        let change = Change::ReplaceProvider { expect, new: new_row, rotation, leaves_to: None };
        match self.commit(scope, intent, (id, new.uid), change, entry).await? {
            Committed::Now => {
                Ok(self.complete(scope, new, &old.verification, &validated, deadline).await)
            }
            Committed::Before(done) => self.provider_of(scope, &done).await,
            // Not decided again: somebody else's token may be newer than this one.
            Committed::Moved => Err(Error::VersionConflict),
        }
    }
}
