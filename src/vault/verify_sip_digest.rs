//! `VerifySipDigest`: a password does its work without being seen.

use jiff::Timestamp;

use super::get::active_version;
use super::limits::whole_seconds;
use super::sip_nonces::{OwnNonce, Place, SipNonces, Use};
use super::{Error, Vault, place};
use crate::access::{AccountScope, BatchVerifySipDigest, Scope, VerifySipDigest, network};
use crate::credential::Credential;
use crate::crypto::{Field, Sealed};
use crate::defect::{Defect, planted};
use crate::digest::{Digest, Response, Right, Source};
use crate::name::CredentialName;
use crate::secret::SecretText;
use crate::store::{StoredCredential, VersionKey};
use crate::telemetry::metrics::{DigestCheck, SecretVersion, VersionAge, digest_check};
use crate::versions::State;

/// Checks of a batch that are made without letting others go first.
const AT_ONCE: usize = 16;

impl Vault {
    /// Whether a password that verifies made a response, and of which credential it is.
    ///
    /// An unknown username, a disabled credential and a wrong response look the same.
    ///
    /// - A nonce that should be the vault's own, and is not, ends it before anything is looked up. What is stale or
    ///   replayed is said of a right response only: of a wrong one nobody learns more than that.
    /// - Each wrong response takes from the bucket of its username, realm and source; a right response takes nothing, since a
    ///   registration storm must pass; nor does what says nothing about a password. Where one version is damaged and another
    ///   was compared, it is wrong: that other one could be guessed.
    /// - While that bucket is empty nothing is looked up or opened: a right response gets the same refusal, or the
    ///   limit would not hold up who guesses.
    /// - Without a source there is no bucket: to limit a credential as a whole would let anybody lock its phone out.
    pub async fn verify_sip_digest(
        &self,
        scope: &Scope<VerifySipDigest>,
        presented: &Presented,
    ) -> Result<Verdict, Error> {
        self.check(scope, presented).await
    }

    /// The same for each of many, in their order, and none has an effect on another.
    pub async fn batch_verify_sip_digest(
        &self,
        scope: &Scope<BatchVerifySipDigest>,
        batch: Vec<Result<Presented, Error>>,
    ) -> Vec<Result<Verdict, Error>> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for (number, presented) in batch.into_iter().enumerate() {
            if number % AT_ONCE == AT_ONCE - 1 {
                // A look-up does not wait for anything, so others would wait for all of them.
                tokio::task::yield_now().await;
            }
            verdicts.push(match presented {
                Ok(presented) => self.check(scope, &presented).await,
                Err(error) => Err(error),
            });
        }
        verdicts
    }

    async fn check(&self, scope: &AccountScope, presented: &Presented) -> Result<Verdict, Error> {
        let Presented { digest, source, nonce_owner, .. } = presented;
        let account = scope.account().uid;
        let network = source.as_ref().map(|source| network::of_source(source.as_str()));
        let network = network.as_deref();
        let bucket = self.failed_digests.bucket(account, digest, network);
        if let Some(wait) = bucket.and_then(|bucket| self.failed_digests.wait(bucket)) {
            return Err(Error::DigestLimited { retry_after: whole_seconds(wait) });
        }
        let nonce = match nonce_owner {
            NonceOwner::Caller => None,
            NonceOwner::Vault => {
                let place = Place { account, realm: digest.realm.as_str(), network };
                let Some(own) = self.own_nonce(digest, place) else {
                    let (version, age) = (SecretVersion::None, VersionAge::None);
                    digest_check(DigestCheck::Foreign, version, age);
                    return Ok(Verdict::Invalid(Rejected::Foreign));
                };
                Some(own)
            }
        };
        let (verdict, wrong) = match self.verdict(scope, presented, nonce).await? {
            Compared::Damaged { error, others_are_wrong } => (Err(error), others_are_wrong),
            Compared::Whole(verdict) => {
                let wrong = verdict == Verdict::Invalid(Rejected::Wrong);
                (Ok(verdict), wrong)
            }
        };
        if let (Some(bucket), true) = (bucket, wrong) {
            self.failed_digests.count(bucket);
        }
        verdict
    }

    /// The nonce of a response, and its count, if the vault made it for what it came with.
    fn own_nonce(&self, digest: &Digest, place: Place<'_>) -> Option<(OwnNonce, u32)> {
        let auth = digest.auth.as_ref()?;
        let kind = (digest.algorithm, auth.qop());
        let nonce = SipNonces::read(digest.nonce.as_str(), &self.sealer, place, kind)?;
        Some((nonce, auth.nc.number()))
    }

    async fn verdict(
        &self,
        scope: &AccountScope,
        Presented { digest, response, .. }: &Presented,
        nonce: Option<(OwnNonce, u32)>,
    ) -> Result<Compared, Error> {
        let wrong = Verdict::Invalid(Rejected::Wrong);
        let found =
            self.store.credential_by_username(scope, &digest.realm, &digest.username).await?;
        let Some(stored) = found else {
            digest.verify(&SecretText::new("nobody's password".to_owned()), response);
            digest_check(DigestCheck::Unknown, SecretVersion::None, VersionAge::None);
            return Ok(Compared::Whole(wrong));
        };
        let (now, credential) = (self.clock.now(), &stored.credential);
        let age = VersionAge::of(now.duration_since(credential.rotate_time).as_secs());
        let (mut outcome, mut damaged, mut others_are_wrong) = (DigestCheck::Wrong, None, false);
        for (version, sealed) in stored.verifying(now) {
            let place = place(scope, credential.uid, Field::Password, version.number);
            let password = match self.sealer.open(&place, sealed) {
                Err(_) if planted(Defect::TrustDamaged) => {
                    let right = Right { rspauth: None };
                    let matched = Matched::of(credential, version, right);
                    return Ok(Compared::Whole(Verdict::Valid(matched)));
                }
                Err(error) => {
                    // Another version may be whole, and its phone has done nothing wrong.
                    digest_check(DigestCheck::Damaged, version.label(), age);
                    damaged = Some(error);
                    continue;
                }
                Ok(password) => password,
            };
            let Some(right) = digest.verify(&password, response) else {
                others_are_wrong = true;
                continue;
            };
            if credential.enabled {
                // Only now: nobody uses up the counts of a phone without its password.
                let used = nonce.map(|(nonce, nc)| self.sip_nonces.take(nonce, nc, now));
                let (outcome, rejected) = match used {
                    Some(Use::Stale) => (DigestCheck::Stale, Rejected::Stale),
                    Some(Use::Replayed) => (DigestCheck::Replayed, Rejected::Replayed),
                    Some(Use::Fresh) | None => {
                        let key = version.key(scope, credential);
                        self.uses.success(key, credential, now);
                        digest_check(DigestCheck::Valid, version.label(), age);
                        let matched = Matched::of(credential, version, right);
                        return Ok(Compared::Whole(Verdict::Valid(matched)));
                    }
                };
                digest_check(outcome, version.label(), age);
                return Ok(Compared::Whole(Verdict::Invalid(rejected)));
            }
            outcome = DigestCheck::Disabled;
        }
        if let Some(error) = damaged {
            return Ok(Compared::Damaged { error: error.into(), others_are_wrong });
        }
        if !credential.enabled {
            outcome = DigestCheck::Disabled;
        }
        if outcome == DigestCheck::Wrong {
            self.uses.failure(active_version(scope, credential), credential);
        }
        digest_check(outcome, SecretVersion::Active, age);
        Ok(Compared::Whole(wrong))
    }
}

/// A response, as a phone sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// What it answers, and how.
    pub digest: Digest,
    /// The response.
    pub response: Response,
    /// Where it came from, if the edge says so.
    pub source: Option<Source>,
    /// Who made the nonce.
    pub nonce_owner: NonceOwner,
}

impl Presented {
    /// A response from nobody knows where, to a nonce of the caller's.
    pub fn new(digest: Digest, response: Response) -> Self {
        Self { digest, response, source: None, nonce_owner: NonceOwner::Caller }
    }
}

/// Who looks after a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceOwner {
    /// The caller: any nonce is as good as another here.
    Caller,
    /// The vault: it must have made it, and not long ago, and each count is good once.
    Vault,
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A password made the response.
    Valid(Matched),
    /// None did, or the nonce is not good.
    Invalid(Rejected),
}

impl Verdict {
    /// What matched, if it is valid.
    pub fn matched(self) -> Option<Matched> {
        match self {
            Self::Valid(matched) => Some(matched),
            Self::Invalid(_) => None,
        }
    }
}

/// What a look at the versions of a password came to.
enum Compared {
    /// A verdict.
    Whole(Verdict),
    /// No version made the response, and one of them does not open.
    Damaged {
        /// How.
        error: Error,
        /// Whether another one was compared.
        others_are_wrong: bool,
    },
}

/// Why a response is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It is wrong, or there is nobody of that name, or it is disabled: nobody is told which.
    Wrong,
    /// The vault did not make this nonce for what it came with. Nothing was compared.
    Foreign,
    /// It is right, and its nonce too old.
    Stale,
    /// It is right, and its count was used before.
    Replayed,
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
    pub rspauth: Option<Response>,
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
        version_label(self.state)
    }

    fn key(self, scope: &AccountScope, credential: &Credential) -> VersionKey {
        VersionKey { version: self.number, ..active_version(scope, credential) }
    }
}

/// What the metrics call a version in this state; None is the active one.
pub(super) fn version_label(state: Option<State>) -> SecretVersion {
    match state {
        None => SecretVersion::Active,
        Some(State::Pending | State::Awaited) => SecretVersion::Pending,
        Some(State::Retiring { .. } | State::Destroyed { .. }) => SecretVersion::Retiring,
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
