//! Accounts, API tokens and role bindings on the wire.

use jiff::SignedDuration;

use super::{field, timestamp};
use crate::access::Role;
use crate::access::api_token::{ApiToken, ApiTokenName, TokenMetadata};
use crate::access::principal::{Principal, RoleBinding};
use crate::account::Account;
use crate::grpc::proto;
use crate::name::{AccountName, Invalid, OwnerName, ResourceId};
use crate::provider::DisplayName;
use crate::vault::{Error, NewApiToken};

/// The parent of tokens, role bindings and audit entries.
pub(in crate::grpc) fn owner_name(text: &str) -> Result<OwnerName, Error> {
    field("parent", text, OwnerName::parse)
}

/// The name of an account.
pub(in crate::grpc) fn account_name(text: &str) -> Result<ResourceId, Error> {
    field("name", text, AccountName::parse).map(|name| name.0)
}

/// The name of a token.
pub(in crate::grpc) fn token_name(text: &str) -> Result<ApiTokenName, Error> {
    field("name", text, ApiTokenName::parse)
}

/// A principal.
pub(in crate::grpc) fn principal(path: &str, text: &str) -> Result<Principal, Error> {
    field(path, text, Principal::parse)
}

/// A token to be. What the vault sets may be sent and is not looked at (AIP-203).
pub(in crate::grpc) fn new_token(
    request: &proto::CreateApiTokenRequest,
) -> Result<NewApiToken, Error> {
    let Some(token) = &request.api_token else {
        return Err(Error::field("api_token", Invalid("is required")));
    };
    let roles = roles("api_token.roles", &token.roles)?;
    let display_name = field("api_token.display_name", &token.display_name, DisplayName::parse)?;
    Ok(NewApiToken { display_name, roles, lifetime: lifetime(request.lifetime)? })
}

fn lifetime(duration: Option<prost_types::Duration>) -> Result<SignedDuration, Error> {
    let Some(duration) = duration else { return Ok(NewApiToken::LIFETIME) };
    let nanos = duration.nanos.clamp(-999_999_999, 999_999_999);
    let asked = SignedDuration::from_secs(duration.seconds)
        .checked_add(SignedDuration::from_nanos(i64::from(nanos)));
    let range = NewApiToken::SHORTEST..=NewApiToken::LONGEST;
    asked
        .filter(|asked| range.contains(asked))
        .ok_or_else(|| Error::field("lifetime", Invalid("must be from 60s to 7776000s (90 days)")))
}

/// Roles, each once, in the order of their numbers.
pub(in crate::grpc) fn roles(path: &str, numbers: &[i32]) -> Result<Vec<Role>, Error> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let role = |number| match proto::Role::try_from(number) {
        Ok(proto::Role::Reader) => Ok(Role::Reader),
        Ok(proto::Role::Rotator) => Ok(Role::Rotator),
        Ok(proto::Role::TokenWriter) => Ok(Role::TokenWriter),
        Ok(proto::Role::Verifier) => Ok(Role::Verifier),
        Ok(proto::Role::SipClient) => Ok(Role::SipClient),
        Ok(proto::Role::Auditor) => Ok(Role::Auditor),
        Ok(proto::Role::AccountAdmin) => Ok(Role::AccountAdmin),
        Ok(proto::Role::Operator) => Ok(Role::Operator),
        Ok(proto::Role::Unspecified) | Err(_) => {
            Err(Error::field(path, Invalid("must be roles that this version knows")))
        }
    };
    numbers.into_iter().map(role).collect()
}

fn roles_to_wire(roles: &[Role]) -> Vec<i32> {
    let role = |role: &Role| match role {
        Role::Reader => proto::Role::Reader,
        Role::Rotator => proto::Role::Rotator,
        Role::TokenWriter => proto::Role::TokenWriter,
        Role::Verifier => proto::Role::Verifier,
        Role::SipClient => proto::Role::SipClient,
        Role::Auditor => proto::Role::Auditor,
        Role::AccountAdmin => proto::Role::AccountAdmin,
        Role::Operator => proto::Role::Operator,
    };
    let mut numbers: Vec<i32> = roles.iter().map(|each| role(each).into()).collect();
    numbers.sort_unstable();
    numbers
}

/// An account.
pub(in crate::grpc) fn account_to_wire(account: Account) -> proto::Account {
    proto::Account {
        name: AccountName(account.id).to_string(),
        disabled: account.disabled,
        create_time: Some(timestamp(account.create_time)),
    }
}

/// What is known of a token.
pub(in crate::grpc) fn token_to_wire(token: TokenMetadata) -> proto::ApiToken {
    proto::ApiToken {
        name: token.name.to_string(),
        display_name: token.display_name.as_str().to_owned(),
        roles: roles_to_wire(&token.roles),
        create_time: Some(timestamp(token.create_time)),
        expire_time: Some(timestamp(token.expire_time)),
        revoke_time: token.revoke_time.map(timestamp),
    }
}

/// A new token, on its one way out.
#[expect(clippy::disallowed_methods, reason = "the one answer that carries a token")]
pub(in crate::grpc) fn new_token_to_wire(
    (metadata, token): (TokenMetadata, ApiToken),
) -> proto::CreateApiTokenResponse {
    proto::CreateApiTokenResponse {
        api_token: Some(token_to_wire(metadata)),
        token: token.to_text().expose().to_owned(),
    }
}

/// A role binding.
pub(in crate::grpc) fn binding_to_wire(binding: RoleBinding) -> proto::RoleBinding {
    proto::RoleBinding {
        principal: binding.principal.to_string(),
        roles: roles_to_wire(&binding.roles),
        update_time: Some(timestamp(binding.update_time)),
    }
}
