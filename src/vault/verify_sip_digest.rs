//! `VerifySipDigest`: a password does its work without being seen.

use jiff::Timestamp;

use super::get::active_version;
use super::limits::whole_seconds;
use super::{Error, Vault, place};
use crate::access::{AccountScope, Scope, VerifySipDigest};
use crate::credential::Credential;
use crate::crypto::{Field, Sealed};
use crate::defect::{Defect, planted};
use crate::digest::{Digest, Response, Right, Source};
use crate::name::CredentialName;
use crate::secret::SecretText;
use crate::store::{StoredCredential, VersionKey};
use crate::telemetry::metrics::{DigestCheck, SecretVersion, VersionAge, digest_check};
use crate::versions::State;

impl Vault {
    /// The credential of which a password that verifies made `response`, or None.
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
    ) -> Result<Option<Matched>, Error> {
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
    ) -> Result<Option<Matched>, Error> {
        let found =
            self.store.credential_by_username(scope, &digest.realm, &digest.username).await?;
        let Some(stored) = found else {
            digest.verify(&SecretText::new("nobody's password".to_owned()), response);
            digest_check(DigestCheck::Unknown, SecretVersion::None, VersionAge::None);
            return Ok(None);
        };
        let (now, credential) = (self.clock.now(), &stored.credential);
        let age = VersionAge::of(now.duration_since(credential.rotate_time).as_secs());
        let mut outcome = DigestCheck::Wrong;
        for (version, sealed) in stored.verifying(now) {
            let place = place(scope, credential.uid, Field::Password, version.number);
            let password = match self.sealer.open(&place, sealed) {
                Err(_) if planted(Defect::TrustDamaged) => {
                    return Ok(Some(Matched::of(credential, version, Right { rspauth: None })));
                }
                opened => opened.inspect_err(|_| {
                    digest_check(DigestCheck::Damaged, version.label(), age);
                })?,
            };
            let Some(right) = digest.verify(&password, response) else { continue };
            if credential.enabled {
                self.uses.success(version.key(scope, credential), credential, now);
                digest_check(DigestCheck::Valid, version.label(), age);
                return Ok(Some(Matched::of(credential, version, right)));
            }
            outcome = DigestCheck::Disabled;
        }
        if !credential.enabled {
            outcome = DigestCheck::Disabled;
        }
        if outcome == DigestCheck::Wrong {
            self.uses.failure(active_version(scope, credential), credential);
        }
        digest_check(outcome, SecretVersion::Active, age);
        Ok(None)
    }
}

/// What a right response was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// The credential.
    pub credential: CredentialName,
    /// The version of its password.
    pub version: u64,
    /// What that version is; None: the active one.
    pub state: Option<State>,
    /// What proves that the vault knows it. None without qop.
    pub rspauth: Option<String>,
}

impl Matched {
    fn of(credential: &Credential, version: Verifying, right: Right) -> Self {
        let Verifying { number, state } = version;
        let Right { rspauth } = right;
        Self { credential: credential.name.clone(), version: number, state, rspauth }
    }
}

/// A version that verifies.
#[derive(Debug, Clone, Copy)]
struct Verifying {
    number: u64,
    /// None: the active one.
    state: Option<State>,
}

impl Verifying {
    fn label(self) -> SecretVersion {
        match self.state {
            None => SecretVersion::Active,
            Some(State::Pending | State::Awaited) => SecretVersion::Pending,
            Some(State::Retiring { .. } | State::Destroyed { .. }) => SecretVersion::Retiring,
        }
    }

    fn key(self, scope: &AccountScope, credential: &Credential) -> VersionKey {
        VersionKey { version: self.number, ..active_version(scope, credential) }
    }
}

impl StoredCredential {
    /// The versions that verify at `now`: the active one first, which most phones have, then the newest.
    fn verifying(&self, now: Timestamp) -> impl Iterator<Item = (Verifying, &Sealed)> {
        let active = Verifying { number: self.credential.version, state: None };
        let others = self.credential.versions.iter().rev().filter(move |it| it.verifies(now));
        let others = others.filter_map(|it| {
            let other = self.others.iter().find(|other| other.version == it.number)?;
            Some((Verifying { number: it.number, state: Some(it.state) }, &other.sealed))
        });
        std::iter::once((active, &self.password)).chain(others)
    }
}
