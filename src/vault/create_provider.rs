//! `CreateProvider`: a carrier's account enters with a token that the carrier confirmed.

use tokio::time::Instant;

use super::intent::Committed;
use super::verification::{ASKING, candidate};
use super::{Error, Intent, Vault, place};
use crate::access::{CreateProvider, Scope};
use crate::audit::Entry;
use crate::crypto::{Field, random};
use crate::name::{ProviderName, ResourceId, Uid};
use crate::provider::{DisplayName, Kind, Provider, Token, Verification};
use crate::store::{Change, StoredProvider};
use crate::versions::Versions;

/// A provider to be.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct NewProvider {
    /// Its id; None: a random one.
    pub id: Option<ResourceId>,
    /// A name for people.
    pub display_name: DisplayName,
    /// Which carrier and account.
    pub kind: Kind,
    /// The carrier's token.
    pub token: Token,
    /// Ask the carrier, store nothing.
    pub validate_only: bool,
}

impl Vault {
    /// Creates a provider, after its carrier confirmed the token.
    pub async fn create_provider(
        &self,
        scope: &Scope<CreateProvider>,
        new: NewProvider,
        intent: &Intent,
    ) -> Result<Provider, Error> {
        let deadline = Instant::now() + ASKING;
        // Before anything else: no network for what cannot be a token, nor for what is taken.
        let candidate = candidate(&*self.upstream_of(&new.kind)?, new.token)?;
        let taken = match &new.id {
            Some(id) => self.store.provider(scope, id).await?.is_some(),
            None => false,
        };
        if let Some(done) = self.done_before(scope, intent).await? {
            return self.provider_of(scope, &done).await;
        }
        if taken {
            return Err(Error::AlreadyExists { what: "id" });
        }
        let id = match new.id {
            Some(id) => id,
            None => ResourceId::made_at(self.clock.now(), random::bytes()?),
        };
        let name = ProviderName { account: scope.account().id.clone(), id };
        self.limits.may_ask(scope.account().uid, None)?;
        let validated =
            self.validate(scope, intent, &name, (&new.kind, candidate), 0, deadline).await?;

        let now = self.clock.now();
        let pending = Verification::pending();
        let provider = Provider {
            uid: Uid::from_bytes(random::bytes()?),
            name,
            display_name: new.display_name,
            kind: new.kind,
            token_kind: validated.token().kind.clone(),
            verification: Verification::after(&pending, 1, validated.verdict(), None, now),
            token_version: 1,
            versions: Versions::default(),
            revision: 1,
            token_update_time: now,
            create_time: now,
            update_time: now,
        };
        if new.validate_only {
            return Ok(self.surveyed(provider, &pending, &validated, deadline).await);
        }
        let place = place(scope, provider.uid, Field::Token, provider.token_version);
        let token = self.sealer.seal(&place, &validated.token().secret)?;
        let entry = Entry {
            version_after: provider.token_version,
            detail: provider.verification.status.as_str().to_owned(),
            ..self.entry_of(scope, intent, &provider.name.to_string())
        };
        let change = Change::CreateProvider(StoredProvider {
            provider: provider.clone(),
            token,
            others: Vec::new(),
        });
        let resource = (&provider.name.id, provider.uid);
        match self.commit(scope, intent, resource, change, entry).await? {
            Committed::Now => {
                Ok(self.complete(scope, provider, &pending, &validated, deadline).await)
            }
            Committed::Before(done) => self.provider_of(scope, &done).await,
            Committed::Moved => Err(Error::VersionConflict),
        }
    }
}
