//! What the operations on providers share: asking a carrier, and storing what it said.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Error, Intent, Vault, place};
use crate::access::AccountScope;
use crate::audit::{Chain, Entry};
use crate::crypto::Field;
use crate::name::ProviderName;
use crate::provider::{
    Check, CheckStatus, Kind, Provider, Refusal, Status, Token, TokenKind, Verification, check_name,
};
use crate::store::{StoredProvider, Write};
use crate::telemetry::metrics;
use crate::upstream::{self, Candidate, Failure, Misfit, UpstreamAccount, Validated};

/// How long a call may ask a carrier in all, what decides and what does not; a call has 8 s.
pub(super) const ASKING: Duration = Duration::from_millis(6_500);

/// A token that a caller sent, if it has its carrier's format.
pub(super) fn candidate(account: &dyn UpstreamAccount, token: Token) -> Result<Candidate, Error> {
    let (token_field, secret_field) = match token.kind {
        TokenKind::AuthToken => ("auth_token", "auth_token"),
        TokenKind::ApiKey { .. } => ("api_key", "api_key.secret"),
    };
    Candidate::new(account, token).map_err(|misfit| match misfit {
        Misfit::Kind(problem) => Error::field(token_field, problem),
        Misfit::Secret(problem) => Error::field(secret_field, problem),
    })
}

/// Counts a verification by its status.
fn count(verification: &Verification) {
    metrics::verification(match verification.status {
        Status::Verified => metrics::Verification::Verified,
        Status::Warning => metrics::Verification::Warning,
        Status::Failed => metrics::Verification::Failed,
        // Not what a verification ends with.
        Status::Pending => return,
    });
}

impl Vault {
    /// Asks the carrier about a candidate and records a failure, which changes nothing else.
    pub(super) async fn validate(
        &self,
        scope: &AccountScope,
        intent: &Intent,
        name: &ProviderName,
        (kind, candidate): (&Kind, Candidate),
        version: u64,
        deadline: Instant,
    ) -> Result<Validated, Error> {
        let upstream = self.upstream_of(kind)?;
        let (error, rejected) = match upstream::validate(&*upstream, candidate).await {
            Ok(validated) => return Ok(validated),
            Err(Failure::Refusal(Refusal::RejectedToken, candidate)) => {
                (Error::from(Refusal::RejectedToken), Some(candidate))
            }
            Err(Failure::Refusal(refusal, _)) => (refusal.into(), None),
            Err(Failure::Outage(outage)) => (outage.into(), None),
        };
        let entry = Entry {
            outcome: error.reason().to_owned(),
            version_before: version,
            version_after: version,
            ..self.entry_of(scope, intent, &name.to_string())
        };
        let chain = Chain::of_account(scope.account());
        self.record_failed_validation(chain, entry, &error).await;
        // Only now: a caller who leaves meanwhile has been recorded.
        let Some(candidate) = rejected else { return Err(error) };
        let works_in = candidate.works_elsewhere(&*upstream, deadline).await;
        Err(Error::UpstreamRejectedToken { works_in })
    }

    /// The provider as its carrier sees it now, with the stored token.
    pub(super) async fn ask_again(
        &self,
        scope: &AccountScope,
        stored: StoredProvider,
    ) -> Result<Provider, Error> {
        let deadline = Instant::now() + ASKING;
        let token = self.token_of(scope, &stored)?;
        let old = stored.others.iter().find(|it| it.version < stored.provider.token_version);
        let old = old.map(|it| self.other_token(scope, &stored, it));
        let provider = stored.provider;
        // The time of asking: of two answers, the one that was asked for later is the newer one.
        let now = self.clock.now();
        let (verdict, survey) = {
            let upstream = self.upstream_of(&provider.kind)?;
            let verdict = upstream.ask(&token).await.inspect_err(|_| {
                metrics::verification(metrics::Verification::Unavailable);
            })?;
            let survey = if verdict.refusal.is_some() {
                None
            } else {
                let (mut survey, of_old) = tokio::join!(
                    upstream.survey(&token, deadline),
                    self.old_token_check(&*upstream, old, deadline),
                );
                survey.checks.extend(of_old);
                Some(survey)
            };
            (verdict, survey)
        };
        let (before, version) = (&provider.verification, provider.token_version);
        let verification = Verification::after(before, version, &verdict, survey, now);
        count(&verification);
        Ok(Provider { verification, ..provider })
    }

    /// The provider with everything that its carrier tells beside the verdict. `before` is what was known when
    /// the call began: a verdict alone does not make the rest of it good.
    pub(super) async fn surveyed(
        &self,
        provider: Provider,
        before: &Verification,
        validated: &Validated,
        deadline: Instant,
    ) -> Provider {
        let survey = match self.upstream_of(&provider.kind) {
            Ok(upstream) => Some(upstream.survey(validated.token(), deadline).await),
            // A provider whose kind has no carrier was not validated.
            Err(_) => None,
        };
        let Some(survey) = survey else { return provider };
        let now = provider.verification.last_verify_time.unwrap_or_else(|| self.clock.now());
        let (version, verdict) = (provider.token_version, validated.verdict());
        let verification = Verification::after(before, version, verdict, Some(survey), now);
        Provider { verification, ..provider }
    }

    /// Completes the verification of a token that is committed. Nothing that fails here undoes that: what could
    /// not be looked at or stored is looked at again by the next verification.
    pub(super) async fn complete(
        &self,
        scope: &AccountScope,
        provider: Provider,
        before: &Verification,
        validated: &Validated,
        deadline: Instant,
    ) -> Provider {
        let committed = provider.verification.clone();
        let provider = self.surveyed(provider, before, validated, deadline).await;
        count(&provider.verification);
        let change = provider.verification.change_since(&committed);
        match self.record_verification(scope, provider.clone(), change).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(reason = error.reason(), "store a verification"),
        }
        provider
    }

    /// Whether the carrier still refuses the token that was rotated away a short while ago. None: there is none.
    async fn old_token_check(
        &self,
        upstream: &dyn UpstreamAccount,
        old: Option<Result<Token, Error>>,
        deadline: Instant,
    ) -> Option<Check> {
        let said = match old? {
            Ok(old) => timeout_at(deadline, upstream.ask(&old)).await.ok().and_then(Result::ok),
            // It was damaged where it is stored, which ends nothing else.
            Err(_) => None,
        };
        let (status, message) = match said.and_then(|verdict| verdict.takes_token()) {
            Some(false) => {
                (CheckStatus::Passed, "the carrier refuses the token that was rotated away")
            }
            Some(true) => (
                CheckStatus::Failed,
                "the token that was rotated away still works at the carrier: end it in the carrier's console, and find \
                 out who uses it",
            ),
            None => {
                (CheckStatus::Unavailable, "the carrier did not say whether the old token works")
            }
        };
        Some(Check::new(check_name::OLD_TOKEN, status, message.to_owned(), self.clock.now()))
    }

    /// Stores a verification, with an audit entry if there is something to say.
    pub(super) async fn record_verification(
        &self,
        scope: &AccountScope,
        provider: Provider,
        detail: String,
    ) -> Result<(), Error> {
        let entry = (!detail.is_empty()).then(|| Entry {
            version_before: provider.token_version,
            version_after: provider.token_version,
            detail,
            ..self.entry_of(scope, &Intent::default(), &provider.name.to_string())
        });
        Ok(self.store.commit(Write::verification(scope, provider, entry)).await?)
    }

    /// Opens a stored token for its carrier.
    pub(super) fn token_of(
        &self,
        scope: &AccountScope,
        stored: &StoredProvider,
    ) -> Result<Token, Error> {
        let StoredProvider { provider, token, .. } = stored;
        let place = place(scope, provider.uid, Field::Token, provider.token_version);
        let secret = self.sealer.open(&place, token)?;
        Ok(Token { kind: provider.token_kind.clone(), secret })
    }
}
