//! `VerifyTwilioWebhook`: a token does its work without being seen.

use jiff::{SignedDuration, Timestamp};

use super::verify_sip_digest::version_label;
use super::{Error, Vault};
use crate::access::{AccountScope, Scope, VerifyTwilioWebhook};
use crate::defect::{Defect, planted};
use crate::name::ResourceId;
use crate::provider::{ProviderType, TokenKind};
use crate::rotation::OLD_TOKEN_KEPT;
use crate::store::{StoredProvider, StoredToken};
use crate::telemetry::metrics::{SecretVersion, WebhookCheck, webhook_check};
use crate::versions::State;
use crate::webhook::{Signature, Webhook};

/// How long a token that was rotated away verifies what it signed before (docs/adr/0041).
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// What a signature shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookVerdict {
    /// Twilio made the request.
    Signed {
        /// The version of the token that signed it.
        version: u64,
        /// What that version is; None: the active one.
        state: Option<State>,
    },
    /// There is no signature.
    NotSigned,
    /// None of the tokens made it.
    WrongSignature,
    /// The signature is right, and binds no such body.
    WrongBody,
}

impl WebhookVerdict {
    fn count(self) {
        let (outcome, version) = match self {
            Self::Signed { state, .. } => (WebhookCheck::Valid, version_label(state)),
            Self::NotSigned => (WebhookCheck::NotSigned, SecretVersion::None),
            Self::WrongSignature => (WebhookCheck::WrongSignature, SecretVersion::None),
            Self::WrongBody => (WebhookCheck::WrongBody, SecretVersion::None),
        };
        webhook_check(outcome, version);
    }
}

impl Vault {
    /// Whether Twilio made this request for the provider's account. `header` is empty where there was none.
    ///
    /// - Twilio signs with the primary token, and the moment at which another one becomes that is Twilio's: a new one
    ///   verifies from when it is known, so that nothing is refused while its promotion is on its way here.
    /// - One that was rotated away verifies for [`GRACE`] longer, for what was under way. It is kept for longer than that
    ///   to see that it stays dead, and whoever stole it must not sign for a day.
    /// - One that `UpdateToken` replaced is gone at once.
    pub async fn verify_twilio_webhook(
        &self,
        scope: &Scope<VerifyTwilioWebhook>,
        provider: &ResourceId,
        webhook: &Webhook,
        header: &str,
    ) -> Result<WebhookVerdict, Error> {
        let stored = self.find_provider(scope, provider).await?;
        signs_webhooks(&stored)?;
        let verdict = self.verdict_on(scope, &stored, (webhook, header))?;
        verdict.count();
        Ok(verdict)
    }

    fn verdict_on(
        &self,
        scope: &AccountScope,
        stored: &StoredProvider,
        (webhook, header): (&Webhook, &str),
    ) -> Result<WebhookVerdict, Error> {
        let active = WebhookVerdict::Signed { version: stored.provider.token_version, state: None };
        if header.is_empty() {
            let trusts = planted(Defect::TrustUnsigned);
            return Ok(if trusts { active } else { WebhookVerdict::NotSigned });
        }
        let Some(signature) = Signature::parse(header) else {
            return Ok(WebhookVerdict::WrongSignature);
        };
        let signed = self.signed_by(scope, stored, (webhook, &signature))?;
        Ok(match signed {
            Some(_) if !webhook.has_its_body() => WebhookVerdict::WrongBody,
            Some((version, state)) => WebhookVerdict::Signed { version, state },
            None => WebhookVerdict::WrongSignature,
        })
    }

    /// The version that signed: the active one is tried first, which signs nearly always, then the newest.
    fn signed_by(
        &self,
        scope: &AccountScope,
        stored: &StoredProvider,
        (webhook, signature): (&Webhook, &Signature),
    ) -> Result<Option<(u64, Option<State>)>, Error> {
        let active = self.token_of(scope, stored)?;
        if webhook.is_signed_by(&active.secret, signature) {
            return Ok(Some((stored.provider.token_version, None)));
        }
        for (state, kept) in stored.also_signing(self.clock.now()) {
            let token = self.other_token(scope, stored, kept)?;
            if webhook.is_signed_by(&token.secret, signature) {
                return Ok(Some((kept.version, Some(state))));
            }
        }
        Ok(None)
    }
}

impl StoredProvider {
    /// The tokens beside the active one that may have signed what arrives at `now`, the newest first.
    fn also_signing(&self, now: Timestamp) -> impl Iterator<Item = (State, &StoredToken)> {
        let versions = self.provider.versions.iter().rev();
        let signing = versions.filter(move |version| signs(version.state, now));
        signing.filter_map(|version| {
            let kept = self.others.iter().find(|other| other.version == version.number)?;
            (kept.kind == TokenKind::AuthToken).then_some((version.state, kept))
        })
    }
}

/// Whether a token in this state may have signed what arrives at `now`.
fn signs(state: State, now: Timestamp) -> bool {
    match state {
        State::Pending => true,
        State::Retiring { until } => {
            let kept_on = if planted(Defect::TrustOldToken) {
                SignedDuration::ZERO
            } else {
                OLD_TOKEN_KEPT - GRACE
            };
            // Counted from its end: when it was replaced is not written down.
            until.saturating_sub(kept_on).is_ok_and(|end| now < end)
        }
        State::Awaited | State::Destroyed { .. } => false,
    }
}

/// Whether webhooks can be verified with what a provider holds.
fn signs_webhooks(stored: &StoredProvider) -> Result<(), Error> {
    let provider = &stored.provider;
    if provider.kind.provider_type() != ProviderType::Twilio {
        return Err(Error::InvalidState(
            "the provider is not at Twilio: name the one whose account's webhooks these are",
        ));
    }
    if provider.token_kind != TokenKind::AuthToken {
        return Err(Error::InvalidState(
            "Twilio signs webhooks with the account's Auth Token, and this provider holds an API key: create another \
             provider of the account with its Auth Token, and name that",
        ));
    }
    Ok(())
}
