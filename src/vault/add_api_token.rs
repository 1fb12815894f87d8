//! A new API token, made by whoever holds the store itself.

use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::{Error, Vault};
use crate::access::api_token::{ApiToken, TokenId};
use crate::access::{LocalOperator, Role};
use crate::account::Account;
use crate::audit::Entry;
use crate::crypto::random;
use crate::name::{ResourceId, Uid};
use crate::store::{Change, Write};

impl Vault {
    /// Makes a token with `roles` in `account`, which is created if it does not exist. The token is
    /// returned this once; only a keyed hash of it is stored.
    pub async fn add_api_token(
        &self,
        operator: &LocalOperator,
        account: &ResourceId,
        roles: &[Role],
        lifetime: SignedDuration,
    ) -> Result<ApiToken, Error> {
        let now = self.clock.now();
        let secret = Zeroizing::new(random::bytes()?);
        let token = ApiToken::new(TokenId::from_random(random::bytes()?), secret);
        let expire_time = now.saturating_add(lifetime).unwrap_or(now);
        let change = Change::AddApiToken {
            account: Account {
                uid: Uid::from_bytes(random::bytes()?),
                id: account.clone(),
                disabled: false,
                create_time: now,
            },
            token: token.id.clone(),
            hash: self.sealer.token_hash(token.secret()),
            expire_time,
            roles: roles.to_vec(),
        };
        let resource = format!("accounts/{account}/apiTokens/{}", token.id);
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let entry = Entry {
            detail: format!("{}; expires {expire_time}", names.join(", ")),
            ..self.entry(operator.actor(), "CreateApiToken", &resource)
        };
        self.store.commit(Write::by_operator(operator, change, entry)).await?;
        Ok(token)
    }
}
