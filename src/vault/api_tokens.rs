//! API tokens: made once, listed, ended. The token itself is shown by the call that makes it and by no other.

use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::intent::Committed;
use super::{Error, Intent, Vault};
use crate::access::api_token::{ApiToken, ApiTokenName, TokenId, TokenMetadata};
use crate::access::{
    CreateApiToken, GetApiToken, LocalOperator, Owner, OwnerScope, RevokeApiToken, Role, Scope,
};
use crate::audit::Entry;
use crate::crypto::random;
use crate::name::{Invalid, OwnerName, Uid};
use crate::provider::DisplayName;
use crate::store::{self, Change, Done, Write};

/// A token to be.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// What it is for.
    pub display_name: DisplayName,
    /// What it may do.
    pub roles: Vec<Role>,
    /// How long it is good for.
    pub lifetime: SignedDuration,
}

impl NewApiToken {
    /// How long a token is good for unless its maker says otherwise.
    pub const LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

    /// The longest that a token is good for.
    pub const LONGEST: SignedDuration = SignedDuration::from_hours(90 * 24);

    /// The shortest.
    pub const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
}

impl Vault {
    /// Makes a token; returns it, this once, with what is known of it from now on.
    pub async fn create_api_token(
        &self,
        scope: &Scope<CreateApiToken, OwnerScope>,
        new: NewApiToken,
        intent: &Intent,
    ) -> Result<(TokenMetadata, ApiToken), Error> {
        // Whoever holds the store may make one that opens nothing yet.
        if !new.roles.is_empty() || scope.keeps_last_admin() {
            check_roles("api_token.roles", scope.owner(), &new.roles)?;
        }
        if scope.is_for_first_admin() && new.roles != [Role::AccountAdmin] {
            return Err(Error::field(
                "api_token.roles",
                Invalid(
                    "must be ROLE_ACCOUNT_ADMIN alone: an operator lets in an account's first admin only",
                ),
            ));
        }
        if let Some(done) = self.done_before(scope, intent).await? {
            return Err(issued_before(scope, &done));
        }
        let now = self.clock.now();
        let secret = Zeroizing::new(random::bytes()?);
        let token = ApiToken::new(TokenId::from_random(random::bytes()?), secret);
        let metadata = TokenMetadata {
            name: ApiTokenName { owner: scope.owner().name(), id: token.id.clone() },
            display_name: new.display_name,
            roles: new.roles,
            create_time: now,
            expire_time: now.saturating_add(new.lifetime).unwrap_or(now),
            revoke_time: None,
        };
        let entry = Entry {
            time: now,
            detail: format!("{}; expires {}", names(&metadata.roles), metadata.expire_time),
            ..self.entry_of(scope, intent, &metadata.name.to_string())
        };
        let change = Change::CreateApiToken {
            token: metadata.clone(),
            hash: self.sealer.token_hash(token.secret()),
            first_admin: scope.is_for_first_admin(),
        };
        let resource = (&token.id.as_resource_id(), Uid::ZERO);
        match self.commit(scope, intent, resource, change, entry).await? {
            Committed::Now => Ok((metadata, token)),
            Committed::Before(done) => Err(issued_before(scope, &done)),
            Committed::Moved => Err(Error::VersionConflict),
        }
    }

    /// What is known of a token.
    pub async fn get_api_token(
        &self,
        scope: &Scope<GetApiToken, OwnerScope>,
        id: &TokenId,
    ) -> Result<TokenMetadata, Error> {
        self.find_token(scope, id).await
    }

    /// Ends a token. One that was revoked before stays so.
    pub async fn revoke_api_token(
        &self,
        scope: &Scope<RevokeApiToken, OwnerScope>,
        id: &TokenId,
        intent: &Intent,
    ) -> Result<TokenMetadata, Error> {
        let name = ApiTokenName { owner: scope.owner().name(), id: id.clone() };
        let entry = self.entry_of(scope, intent, &name.to_string());
        let change = Change::RevokeApiToken {
            token: id.clone(),
            time: entry.time,
            keep_last_admin: scope.keeps_last_admin(),
        };
        match self.store.commit(Write::new(scope, change, entry, None)).await {
            Err(store::Error::Conflict) => Err(Error::NotFound { name: name.to_string() }),
            result => {
                result?;
                self.find_token(scope, id).await
            }
        }
    }

    /// Makes a token for whoever holds the store itself; its account is created if it does not exist.
    pub async fn add_api_token(
        &self,
        operator: &LocalOperator,
        owner: &OwnerName,
        roles: &[Role],
        lifetime: SignedDuration,
    ) -> Result<ApiToken, Error> {
        let owner = match owner {
            OwnerName::Vault => Owner::Vault,
            OwnerName::Account(id) => Owner::Account(self.ensure_account(operator, id).await?),
        };
        let display_name =
            DisplayName::parse("").map_err(|rule| Error::field("display_name", rule))?;
        let new = NewApiToken { display_name, roles: roles.to_vec(), lifetime };
        let scope = operator.owner_scope(owner);
        let (_, token) = self.create_api_token(&scope, new, &Intent::default()).await?;
        Ok(token)
    }

    /// Ends a token of any owner, for whoever holds the store itself: even the last admin's.
    pub async fn revoke_local_api_token(
        &self,
        operator: &LocalOperator,
        id: &TokenId,
    ) -> Result<TokenMetadata, Error> {
        let owner = self.store.token_owner(&operator.scope::<RevokeApiToken>(), id).await?;
        let owner = owner.ok_or_else(|| Error::NotFound { name: format!("apiTokens/{id}") })?;
        self.revoke_api_token(&operator.owner_scope(owner), id, &Intent::default()).await
    }

    async fn find_token(&self, scope: &OwnerScope, id: &TokenId) -> Result<TokenMetadata, Error> {
        self.store.token_metadata(scope, id).await?.ok_or_else(|| {
            let name = ApiTokenName { owner: scope.owner().name(), id: id.clone() };
            Error::NotFound { name: name.to_string() }
        })
    }
}

/// Whether an owner has these roles at all.
pub(super) fn check_roles(field: &str, owner: &Owner, roles: &[Role]) -> Result<(), Error> {
    let rule = match owner {
        _ if roles.is_empty() => "must have at least one role",
        Owner::Vault if roles != [Role::Operator] => "must be ROLE_OPERATOR alone in the vault",
        Owner::Account(_) if roles.contains(&Role::Operator) => {
            "must not have ROLE_OPERATOR in an account: operators belong to the vault"
        }
        _ => return Ok(()),
    };
    Err(Error::field(field, Invalid(rule)))
}

/// Roles as audit entries name them.
pub(super) fn names(roles: &[Role]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    names.join(", ")
}

/// The answer to a retry whose first answer carried the token.
fn issued_before(scope: &OwnerScope, done: &Done) -> Error {
    let id = done.resource_id.as_str().trim_start_matches('t');
    let name = format!("{}/apiTokens/{id}", scope.owner());
    Error::TokenAlreadyIssued { name, time: done.time }
}
