//! Who calls: an API token, or the identity in a certificate, becomes a [`Caller`].

use super::{Error, Vault};
use crate::access::Caller;
use crate::access::api_token::ApiToken;
use crate::access::spiffe::Workload;
use crate::audit::Actor;
use crate::crypto;
use crate::telemetry::metrics::{self, AuthenticationFailure};

impl Vault {
    /// The caller who presents `token` from `peer`.
    ///
    /// Unknown, wrong, expired and revoked tokens get one answer, after the same work.
    pub async fn authenticate(&self, token: &str, peer: String) -> Result<Caller, Error> {
        let token = ApiToken::parse(token).map_err(|_| {
            metrics::authentication_failure(AuthenticationFailure::Malformed);
            Error::Unauthenticated
        })?;
        let stored = self.store.api_token(&token.id).await?;
        let expected = stored.as_ref().map_or([0; 32], |stored| stored.hash);
        let right = crypto::equal(&self.sealer.token_hash(token.secret()), &expected);
        match stored {
            Some(stored)
                if right
                    && stored.revoke_time.is_none()
                    && self.clock.now() < stored.expire_time =>
            {
                let actor = Actor { principal: token.id.principal(), peer };
                Ok(Caller { actor, standing: stored.standing })
            }
            stored => {
                // For those who run the vault, not for the caller.
                metrics::authentication_failure(match stored {
                    None => AuthenticationFailure::Unknown,
                    Some(_) if !right => AuthenticationFailure::WrongSecret,
                    Some(stored) if stored.revoke_time.is_some() => AuthenticationFailure::Revoked,
                    Some(_) => AuthenticationFailure::Expired,
                });
                Err(Error::Unauthenticated)
            }
        }
    }

    /// The caller whose certificate says who it is. The connection has proved that it is theirs; that may be long
    /// ago, so whether it is still good is looked at on each call.
    pub async fn authenticate_workload(
        &self,
        workload: &Workload,
        peer: String,
    ) -> Result<Caller, Error> {
        if self.clock.now() >= workload.expire_time {
            metrics::authentication_failure(AuthenticationFailure::Expired);
            return Err(Error::Unauthenticated);
        }
        let actor = Actor { principal: workload.id.to_string(), peer };
        Ok(Caller { actor, standing: self.store.standing(&workload.id).await? })
    }
}
