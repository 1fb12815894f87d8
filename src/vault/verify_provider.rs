//! `VerifyProvider`: the carrier is asked again, with the stored token.

use super::{Error, Intent, Vault};
use crate::access::{Scope, VerifyProvider};
use crate::audit::{Chain, Entry};
use crate::name::ResourceId;
use crate::provider::Provider;

impl Vault {
    /// Stores the carrier's verdict on the stored token, good or bad. Without a verdict nothing changes.
    pub async fn verify_provider(
        &self,
        scope: &Scope<VerifyProvider>,
        id: &ResourceId,
    ) -> Result<Provider, Error> {
        let stored = self.find_provider(scope, id).await?;
        let before = stored.provider.clone();
        let provider = match self.ask_again(scope, stored).await {
            Ok(provider) => provider,
            Err(error) => {
                let entry = Entry {
                    outcome: error.reason().to_owned(),
                    version_before: before.token_version,
                    version_after: before.token_version,
                    ..self.entry_of(scope, &Intent::default(), &before.name.to_string())
                };
                let chain = Chain::of_account(scope.account());
                self.record_failed_validation(chain, entry, &error).await;
                return Err(error);
            }
        };
        let change = provider.verification.change_since(&before.verification);
        let status = provider.verification.status.as_str();
        let detail = if change.is_empty() { status.to_owned() } else { change };
        self.record_verification(scope, provider, detail).await?;
        self.find_provider(scope, id).await.map(|stored| stored.provider)
    }
}
