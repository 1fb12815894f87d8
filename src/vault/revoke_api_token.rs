//! The end of an API token, by whoever holds the store itself.

use super::{Error, Vault};
use crate::access::LocalOperator;
use crate::access::api_token::TokenId;
use crate::store::{self, Change, Write};

impl Vault {
    /// Revokes a token. One that was revoked before stays so.
    pub async fn revoke_api_token(
        &self,
        operator: &LocalOperator,
        token: &TokenId,
    ) -> Result<(), Error> {
        let name = format!("apiTokens/{token}");
        let entry = self.entry(operator.actor(), "RevokeApiToken", &name);
        let change = Change::RevokeApiToken { token: token.clone(), time: entry.time };
        match self.store.commit(Write::by_operator(operator, change, entry)).await {
            Err(store::Error::Conflict) => Err(Error::NotFound { name }),
            result => Ok(result?),
        }
    }
}
