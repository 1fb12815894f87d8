//! `VerifySipDigest`: a password does its work without being seen.

use super::limits::whole_seconds;
use super::{Error, Vault, place};
use crate::access::{Scope, VerifySipDigest};
use crate::credential::Credential;
use crate::crypto::Field;
use crate::defect::{Defect, planted};
use crate::digest::{Digest, Response, Source};
use crate::secret::SecretText;
use crate::telemetry::metrics::{DigestCheck, SecretVersion, VersionAge, digest_check};

impl Vault {
    /// The credential whose active password made `response`, or None.
    ///
    /// An unknown username, a disabled credential and a wrong response look the same.
    ///
    /// - Each takes from the bucket of its username, realm and source; a right response takes nothing, since a
    ///   registration storm must pass.
    /// - While that bucket is empty nothing is looked up or opened: a right response gets the same refusal, or the
    ///   limit would not hold up who guesses.
    /// - Without a source there is no bucket: to limit a credential as a whole would let anybody lock its phone out.
    pub async fn verify_sip_digest(
        &self,
        scope: &Scope<VerifySipDigest>,
        digest: &Digest,
        response: &Response,
        source: Option<&Source>,
    ) -> Result<Option<Credential>, Error> {
        let bucket = self.failed_digests.bucket(scope.account().uid, digest, source);
        if let Some(wait) = bucket.and_then(|bucket| self.failed_digests.wait(bucket)) {
            return Err(Error::DigestLimited { retry_after: whole_seconds(wait) });
        }
        let matched = self.matching_credential(scope, digest, response).await?;
        if let (Some(bucket), None) = (bucket, &matched) {
            self.failed_digests.count(bucket);
        }
        Ok(matched)
    }

    async fn matching_credential(
        &self,
        scope: &Scope<VerifySipDigest>,
        digest: &Digest,
        response: &Response,
    ) -> Result<Option<Credential>, Error> {
        let found =
            self.store.credential_by_username(scope, &digest.realm, &digest.username).await?;
        let Some(stored) = found else {
            digest.verify(&SecretText::new("nobody's password".to_owned()), response);
            digest_check(DigestCheck::Unknown, SecretVersion::None, VersionAge::None);
            return Ok(None);
        };
        let credential = stored.credential;
        let age = self.clock.now().duration_since(credential.rotate_time);
        let age = VersionAge::of(age.as_secs());
        let place = place(scope, credential.uid, Field::Password, credential.version);
        let password = match self.sealer.open(&place, &stored.password) {
            Err(_) if planted(Defect::TrustDamaged) => return Ok(Some(credential)),
            opened => opened.inspect_err(|_| {
                digest_check(DigestCheck::Damaged, SecretVersion::Active, age);
            })?,
        };
        let outcome = match (digest.verify(&password, response), credential.enabled) {
            (true, true) => DigestCheck::Valid,
            (false, true) => DigestCheck::Wrong,
            (_, false) => DigestCheck::Disabled,
        };
        digest_check(outcome, SecretVersion::Active, age);
        Ok((outcome == DigestCheck::Valid).then_some(credential))
    }
}
