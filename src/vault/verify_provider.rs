//! `VerifyProvider`: the carrier is asked again, with the stored token.

use super::{Error, Intent, Vault, place};
use crate::access::{Scope, VerifyProvider};
use crate::audit::{Chain, Entry};
use crate::crypto::Field;
use crate::name::ResourceId;
use crate::provider::Provider;
use crate::store::{Change, StoredProvider, Write};

impl Vault {
    /// Stores the carrier's verdict on the stored token, good or bad. Without a verdict nothing changes.
    pub async fn verify_provider(
        &self,
        scope: &Scope<VerifyProvider>,
        id: &ResourceId,
    ) -> Result<Provider, Error> {
        let StoredProvider { provider, token } = self.find_provider(scope, id).await?;
        let place = place(scope, provider.uid, Field::Token, provider.token_version);
        let token = self.sealer.open(&place, &token)?;
        let verdict = match self.upstream_of(&provider.kind)?.ask(&provider.kind, &token).await {
            Ok(verdict) => verdict,
            Err(outage) => {
                let error = Error::from(outage);
                let entry = Entry {
                    outcome: error.reason().to_owned(),
                    version_before: provider.token_version,
                    version_after: provider.token_version,
                    ..self.entry_of(scope, &Intent::default(), &provider.name.to_string())
                };
                self.record_refusal(Chain::of_account(scope.account()), entry).await;
                return Err(error);
            }
        };
        let verification = verdict.into_verification(self.clock.now());
        let provider = Provider { verification, ..provider };

        let entry = Entry {
            version_before: provider.token_version,
            version_after: provider.token_version,
            detail: provider.verification.status.as_str().to_owned(),
            ..self.entry_of(scope, &Intent::default(), &provider.name.to_string())
        };
        let change = Change::RecordVerification(provider);
        self.store.commit(Write::new(scope, change, entry, None)).await?;
        self.find_provider(scope, id).await.map(|stored| stored.provider)
    }
}
