//! `VerifySipDigest`: a password does its work without being seen.

use super::{Error, Vault, place};
use crate::access::{Scope, VerifySipDigest};
use crate::credential::Credential;
use crate::crypto::Field;
use crate::defect::{Defect, planted};
use crate::digest::{Digest, Response};
use crate::secret::SecretText;
use crate::telemetry::metrics::{DigestCheck, SecretVersion, digest_check};

impl Vault {
    /// The credential whose active password made `response`, or None.
    ///
    /// An unknown username, a disabled credential and a wrong response look the same.
    pub async fn verify_sip_digest(
        &self,
        scope: &Scope<VerifySipDigest>,
        digest: &Digest,
        response: &Response,
    ) -> Result<Option<Credential>, Error> {
        let found =
            self.store.credential_by_username(scope, &digest.realm, &digest.username).await?;
        let Some(stored) = found else {
            digest.verify(&SecretText::new("nobody's password".to_owned()), response);
            digest_check(DigestCheck::Unknown, SecretVersion::None);
            return Ok(None);
        };
        let credential = stored.credential;
        let place = place(scope, credential.uid, Field::Password, credential.version);
        let password = match self.sealer.open(&place, &stored.password) {
            Err(_) if planted(Defect::TrustDamaged) => return Ok(Some(credential)),
            opened => opened.inspect_err(|_| {
                digest_check(DigestCheck::Damaged, SecretVersion::Active);
            })?,
        };
        let outcome = match (digest.verify(&password, response), credential.enabled) {
            (true, true) => DigestCheck::Valid,
            (false, true) => DigestCheck::Wrong,
            (_, false) => DigestCheck::Disabled,
        };
        digest_check(outcome, SecretVersion::Active);
        Ok((outcome == DigestCheck::Valid).then_some(credential))
    }
}
