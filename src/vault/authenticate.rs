//! Who calls: an API token, or the identity in a certificate, becomes a [`Caller`].

use super::{Error, Vault};
use crate::access::Caller;
use crate::access::api_token::ApiToken;
use crate::access::principal::Principal;
use crate::access::spiffe::Workload;
use crate::audit::Actor;
use crate::crypto;
use crate::telemetry::metrics::AuthenticationFailure;

impl Vault {
    /// The caller who presents `token` from `peer`.
    ///
    /// Unknown, wrong, expired and revoked tokens get one answer, after the same work.
    pub async fn authenticate(&self, token: &str, peer: String) -> Result<Caller, Error> {
        let token = ApiToken::parse(token)
            .map_err(|_| self.not_authenticated(&peer, None, AuthenticationFailure::Malformed))?;
        let stored = self.store.api_token(&token.id).await?;
        let expected = stored.as_ref().map_or([0; 32], |stored| stored.hash);
        let right = crypto::equal(&self.sealer.token_hash(token.secret()), &expected);
        let principal = right.then(|| token.id.principal());
        let why = match stored {
            None => AuthenticationFailure::Unknown,
            Some(_) if !right => AuthenticationFailure::WrongSecret,
            Some(stored) if stored.revoke_time.is_some() => AuthenticationFailure::Revoked,
            Some(stored) if self.clock.now() >= stored.expire_time => {
                AuthenticationFailure::Expired
            }
            Some(stored) => {
                let actor = Actor { principal: token.id.principal(), peer };
                let (standing, expire_time) = (stored.standing, stored.expire_time);
                return Ok(Caller { actor, standing, expire_time });
            }
        };
        Err(self.not_authenticated(&peer, principal, why))
    }

    /// The caller whose certificate says who it is. The connection has proved that it is theirs; that may be long
    /// ago, so whether it is still good is looked at on each call.
    pub async fn authenticate_workload(
        &self,
        workload: &Workload,
        peer: String,
    ) -> Result<Caller, Error> {
        if self.clock.now() >= workload.expire_time {
            let principal = Some(workload.id.to_string());
            return Err(self.not_authenticated(&peer, principal, AuthenticationFailure::Expired));
        }
        let actor = Actor { principal: workload.id.to_string(), peer };
        let standing = self.store.standing(&workload.id).await?;
        Ok(Caller { actor, standing, expire_time: workload.expire_time })
    }

    /// The same caller with what they may do by now, if they are still somebody. It is no try, so nothing is counted.
    pub(super) async fn authenticate_again(&self, caller: Caller) -> Result<Caller, Error> {
        if self.clock.now() >= caller.expire_time {
            return Err(Error::Unauthenticated);
        }
        let standing = match Principal::parse(&caller.actor.principal) {
            Ok(Principal::Token(id)) => {
                let stored = self.store.api_token(&id).await?;
                stored.filter(|it| it.revoke_time.is_none()).map(|it| it.standing)
            }
            Ok(Principal::Workload(id)) => Some(self.store.standing(&id).await?),
            // Nobody presents the others.
            Ok(Principal::Workloads(_)) | Err(_) => None,
        };
        Ok(Caller { standing: standing.ok_or(Error::Unauthenticated)?, ..caller })
    }
}
