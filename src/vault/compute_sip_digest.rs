//! `ComputeSipDigest`: a password answers a challenge without being seen.

use super::{Error, Vault, place};
use crate::access::{ComputeSipDigest, Scope};
use crate::credential::Realm;
use crate::crypto::{Field, random};
use crate::digest::{
    Algorithm, Auth, BodyHash, Digest, Method, Nonce, NonceCount, Qop, Response, Uri,
};
use crate::name::{Invalid, ResourceId};

/// A challenge, and the request that is to answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAnswer {
    /// The realm of the challenge.
    pub realm: Realm,
    /// Its nonce.
    pub nonce: Nonce,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// What is chosen of its qop values. None: it has none.
    pub qop: Option<Qop>,
    /// How often the nonce was used, this time included.
    pub nonce_count: NonceCount,
    /// The request's method.
    pub method: Method,
    /// What it is made to.
    pub uri: Uri,
    /// Its body.
    pub body: BodyHash,
}

/// The answer to a challenge: good for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Computed {
    /// What was answered, and how.
    pub digest: Digest,
    /// The response.
    pub response: Response,
    /// The version of the password that made it.
    pub version: u64,
}

impl Vault {
    /// Answers a challenge with the active password of a credential.
    ///
    /// - Only in the credential's own realm: a server of another one has no business with its password.
    /// - Only while it is enabled.
    /// - The cnonce is the vault's own: neither the server nor the caller chooses all that is hashed.
    pub async fn compute_sip_digest(
        &self,
        scope: &Scope<ComputeSipDigest>,
        id: &ResourceId,
        new: NewAnswer,
    ) -> Result<Computed, Error> {
        let stored = self.find_credential(scope, id).await?;
        let credential = stored.credential;
        if credential.realm != new.realm {
            return Err(Error::field("realm", Invalid("must be that of the credential")));
        }
        if !credential.enabled {
            return Err(Error::InvalidState("the credential is disabled"));
        }
        let auth = match new.qop {
            None => None,
            Some(qop) => Some(Auth {
                nc: new.nonce_count,
                cnonce: Nonce::made_of(random::bytes()?),
                body: (qop == Qop::AuthInt).then_some(new.body),
            }),
        };
        let digest = Digest {
            username: credential.username,
            realm: credential.realm,
            method: new.method,
            uri: new.uri,
            nonce: new.nonce,
            auth,
            algorithm: new.algorithm,
        };
        let version = credential.version;
        let place = place(scope, credential.uid, Field::Password, version);
        let password = self.sealer.open(&place, &stored.password)?;
        Ok(Computed { response: digest.answer(&password), digest, version })
    }
}
