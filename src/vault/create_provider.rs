//! `CreateProvider`: a carrier's account enters with a token that the carrier confirmed.

use super::intent::Committed;
use super::{Error, Intent, Vault, place};
use crate::access::{CreateProvider, Scope};
use crate::audit::{Chain, Entry};
use crate::crypto::{Field, random};
use crate::name::{ProviderName, ResourceId, Uid};
use crate::provider::{DisplayName, Kind, Provider};
use crate::secret::SecretText;
use crate::store::{Change, StoredProvider};
use crate::upstream::{self, Candidate, Validated};

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
    pub auth_token: SecretText,
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
        // Before anything else: no network for what cannot be a token, nor for what is taken.
        let upstream = self.upstream_of(&new.kind)?;
        let candidate = Candidate::new(upstream, new.auth_token)
            .map_err(|problem| Error::field("auth_token", problem))?;
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
            None => ResourceId::from_random(random::bytes()?),
        };
        let name = ProviderName { account: scope.account().id.clone(), id };
        let validated = self.validate(scope, intent, &name, (&new.kind, candidate), 0).await?;

        let now = self.clock.now();
        let provider = Provider {
            uid: Uid::from_bytes(random::bytes()?),
            name,
            display_name: new.display_name,
            kind: new.kind,
            verification: validated.verification().clone(),
            token_version: 1,
            revision: 1,
            token_update_time: now,
            create_time: now,
            update_time: now,
        };
        if new.validate_only {
            return Ok(provider);
        }
        let place = place(scope, provider.uid, Field::Token, provider.token_version);
        let token = self.sealer.seal(&place, validated.token())?;
        let entry = Entry {
            version_after: provider.token_version,
            detail: provider.verification.status.as_str().to_owned(),
            ..self.entry_of(scope, intent, &provider.name.to_string())
        };
        let change = Change::CreateProvider(StoredProvider { provider: provider.clone(), token });
        let resource = (&provider.name.id, provider.uid);
        match self.commit(scope, intent, resource, change, entry).await? {
            Committed::Now => Ok(provider),
            Committed::Before(done) => self.provider_of(scope, &done).await,
            Committed::Moved => Err(Error::VersionConflict),
        }
    }

    /// Asks the carrier about a candidate and records a failure, which changes nothing else.
    pub(super) async fn validate(
        &self,
        scope: &crate::access::AccountScope,
        intent: &Intent,
        name: &ProviderName,
        (kind, candidate): (&Kind, Candidate),
        version_before: u64,
    ) -> Result<Validated, Error> {
        let upstream = self.upstream_of(kind)?;
        let now = || self.clock.now();
        match upstream::validate(upstream, kind, candidate, now).await {
            Ok(validated) => Ok(validated),
            Err(failure) => {
                let error = Error::from(failure);
                let entry = Entry {
                    outcome: error.reason().to_owned(),
                    version_before,
                    version_after: version_before,
                    ..self.entry_of(scope, intent, &name.to_string())
                };
                self.record_refusal(Chain::of_account(scope.account()), entry).await;
                Err(error)
            }
        }
    }
}
