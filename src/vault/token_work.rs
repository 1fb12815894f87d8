//! What the rotation of a token has to do at its carrier: its calls, and what is stored of their ends.

use super::at_carrier::KEY;
use super::carrier_work::{Brought, Ended, ended};
use super::delivery::sealed_for;
use super::rotate_token::without_pending;
use super::{Error, Vault, place};
use crate::access::AccountScope;
use crate::crypto::Field;
use crate::provider::{Kind, Objection, Token, Verdict};
use crate::rotation::{
    Delivery, LONGEST_WAIT, OLD_TOKEN_KEPT, OLD_TOKEN_WORKS, Rotation, Stage, State, Unanswered,
};
use crate::store::{Change, StoredProvider, StoredRotation, StoredToken, Write};
use crate::upstream::{Effect, Outage, UpstreamAccount};

/// All that a call about a token needs.
pub(super) struct TokenCall {
    kind: Kind,
    stage: Stage,
    /// By what the carrier's list of tokens tells those of this rotation.
    label: String,
    active: Token,
    /// The new one, or once it is active the one before it. None: it is not kept.
    other: Option<Token>,
}

impl Vault {
    /// What a rotation of a token needs for its next call.
    pub(super) async fn token_call(
        &self,
        scope: &AccountScope,
        rotation: &Rotation,
        (stage, replaces): (Stage, u64),
    ) -> Result<TokenCall, Error> {
        let gone = Error::InvalidState("the provider whose token is rotated is gone");
        let stored = self.rotated_provider(scope, rotation).await?.ok_or(gone)?;
        let other = if stage == Stage::Probe { replaces } else { rotation.version };
        let other = stored.others.iter().find(|it| it.version == other);
        let other = other.map(|it| self.other_token(scope, &stored, it));
        let other = match stage {
            // What is damaged can be removed all the same.
            Stage::Make | Stage::Discard | Stage::GiveUp => other.and_then(Result::ok),
            Stage::Verify | Stage::Hold | Stage::Finish | Stage::Probe => other.transpose()?,
        };
        Ok(TokenCall {
            stage,
            label: format!("credvault {}", rotation.name.id),
            active: self.token_of(scope, &stored)?,
            other,
            kind: stored.provider.kind,
        })
    }

    /// Opens a token that is kept beside the active one.
    pub(super) fn other_token(
        &self,
        scope: &AccountScope,
        stored: &StoredProvider,
        token: &StoredToken,
    ) -> Result<Token, Error> {
        let place = place(scope, stored.provider.uid, Field::Token, token.version);
        Ok(Token { kind: token.kind.clone(), secret: self.sealer.open(&place, &token.sealed)? })
    }

    pub(super) async fn make_token_call(&self, call: TokenCall) -> Ended {
        let TokenCall { kind, stage, label, active, other } = call;
        let upstream = match self.upstream_of(&kind) {
            Ok(upstream) => upstream,
            Err(error) => return Ended::Unanswered(Unanswered::NotDone, error.reason(), None),
        };
        let Some(tokens) = upstream.tokens() else {
            return Ended::Objected(Objection::Other);
        };
        let nothing = |()| Brought::Nothing;
        match (stage, other) {
            (Stage::Make, _) => ended(tokens.make(&active, &label).await.map(Brought::Token)),
            (Stage::GiveUp, Some(new)) => match tokens.discard(&active, &label).await {
                // Somebody has put it in the place of the old one: then it is the one that the carrier takes.
                Effect::Refused(Objection::Token(_))
                    if replaces(&*upstream, &new, &active).await =>
                {
                    Ended::Done(Brought::InForce)
                }
                other => ended(other.map(nothing)),
            },
            (Stage::Discard | Stage::GiveUp, _) => {
                ended(tokens.discard(&active, &label).await.map(nothing))
            }
            (Stage::Verify, Some(new)) => try_out(&*upstream, &new).await,
            (Stage::Hold | Stage::Finish, Some(new)) => match tokens.finish(&new, &active).await {
                Effect::Refused(objection @ Objection::Token(_)) => {
                    // Where the old one works, it has not ended, whatever was lost before.
                    match takes(&*upstream, &active).await {
                        Some(true) => Ended::Unanswered(
                            Unanswered::NeverDone,
                            Error::from(objection).reason(),
                            None,
                        ),
                        _ => Ended::Objected(objection),
                    }
                }
                other => ended(other.map(nothing)),
            },
            (Stage::Probe, Some(old)) => probe(&*upstream, &old).await,
            // Somebody has sent another token since.
            (Stage::Probe, None) => Ended::Done(Brought::NotTried),
            (Stage::Verify | Stage::Hold | Stage::Finish, None) => {
                Ended::Objected(Objection::Other)
            }
        }
    }

    /// A rotation of a token after its call did what it should. None: its provider is gone.
    pub(super) async fn token_done(
        &self,
        scope: &AccountScope,
        stored: StoredRotation,
        (brought, leaves): (&Brought, bool),
    ) -> Result<Option<Write>, Error> {
        let now = self.clock.now();
        let StoredRotation { rotation, sealed } = stored;
        let next = match brought {
            Brought::InForce => rotation.in_force_after_all(now),
            Brought::NotTried => rotation.unprobed(now),
            _ => rotation.stage_done(now),
        };
        let Some(provider) = self.rotated_provider(scope, &rotation).await? else {
            return Ok(None);
        };
        let active = provider.provider.token_version;
        let state = next.state;
        let (change, state) = match (rotation.stage(), brought) {
            (Some(Stage::Make), Brought::Token(token)) => {
                self.token_made(scope, provider, next, (token, leaves)).await?
            }
            (_, Brought::InForce) | (Some(Stage::Hold | Stage::Finish), _) => {
                let Some((expect, new)) = token_activated(provider, &rotation, now) else {
                    return Ok(None);
                };
                let rotation = Some(Box::new(StoredRotation { rotation: next, sealed }));
                (Change::ReplaceProvider { expect, new, rotation, leaves_to: None }, state)
            }
            (Some(Stage::GiveUp), _) => (without_pending(provider, next, now), state),
            _ => {
                let sealed = sealed.filter(|_| next.delivery.is_some());
                let next = StoredRotation { rotation: next, sealed };
                return Ok(Some(self.gone_on(scope, &rotation, next)));
            }
        };
        let entry = self.ended(scope, &rotation, state, active);
        Ok(Some(Write::new(scope, change, entry, None)))
    }

    /// The provider with the token that its carrier made, and how the rotation stands then. If it was for somebody who may
    /// not have it any more, it is removed again: nobody could take it over before the old one ends.
    async fn token_made(
        &self,
        scope: &AccountScope,
        mut stored: StoredProvider,
        mut next: Rotation,
        (token, leaves): (&Token, bool),
    ) -> Result<(Change, State), Error> {
        let (now, expect, version) = (next.update_time, stored.provider.revision, next.version);
        let place = place(scope, stored.provider.uid, Field::Token, version);
        let kept = self.sealer.seal(&place, &token.secret)?;
        stored.others.push(StoredToken { version, kind: token.kind.clone(), sealed: kept });
        let versions = stored.provider.versions.promoted().with_pending(version, now);
        let new = stored.with_versions(versions).touched(now);
        let (mut sealed, mut leaves_to) = (None, None);
        let work = next.work.as_mut();
        let to = work.and_then(|work| work.recipient.clone().zip(work.seal_for.take()));
        if let Some((recipient, seal_for)) = to {
            let of = (&seal_for.key, seal_for.request_id);
            let delivery = Delivery::starting(now, LONGEST_WAIT, next.require_confirmation, of);
            let aad = delivery.aad(&next.name.parent, version);
            let may = self.recipient_of(scope, &recipient).await;
            match may.and_then(|_| sealed_for(KEY, &seal_for.key, &aad, &token.secret)) {
                Ok(delivered) if leaves => {
                    (sealed, next.delivery) = (Some(delivered), Some(delivery));
                    leaves_to = Some(recipient);
                }
                _ => {
                    tracing::warn!(rotation = %next.name, "a new token may not leave: it is given up");
                    let message = "its recipient may not have it any more, so it is removed: rotate again for another";
                    let revision = next.revision;
                    if let Some(given_up) = next.given_up(now, message) {
                        next = Rotation { revision, ..given_up };
                    }
                }
            }
        }
        let state = next.state;
        let rotation = Some(Box::new(StoredRotation { rotation: next, sealed }));
        Ok((Change::ReplaceProvider { expect, new, rotation, leaves_to }, state))
    }

    /// The carrier makes no token: the rotation is over.
    pub(super) async fn token_objected(
        &self,
        scope: &AccountScope,
        before: &Rotation,
        next: Rotation,
    ) -> Result<Option<(Change, u64)>, Error> {
        let Some(stored) = self.rotated_provider(scope, before).await? else { return Ok(None) };
        let active = stored.provider.token_version;
        let now = next.update_time;
        Ok(Some((without_pending(stored, next, now), active)))
    }

    /// The provider whose token is rotated, if it is still there.
    pub(super) async fn rotated_provider(
        &self,
        scope: &AccountScope,
        rotation: &Rotation,
    ) -> Result<Option<StoredProvider>, Error> {
        let found = self.store.provider(scope, rotation.name.parent.id()).await?;
        Ok(found.filter(|stored| stored.provider.uid == rotation.resource))
    }
}

/// The new token takes the place of the old one, which is kept for a while to see that it stays dead. None: it is not
/// there any more.
fn token_activated(
    mut stored: StoredProvider,
    rotation: &Rotation,
    now: jiff::Timestamp,
) -> Option<(u64, StoredProvider)> {
    let expect = stored.provider.revision;
    let at = stored.others.iter().position(|other| other.version == rotation.version);
    let at = at.filter(|_| stored.provider.versions.pending().is_some())?;
    let StoredToken { version, kind, sealed } = stored.others.remove(at);
    let provider = &mut stored.provider;
    let (active, made) = (provider.token_version, provider.token_update_time);
    let versions = provider.versions.promoted();
    let versions = versions.replacing_alone(active, made, now, OLD_TOKEN_KEPT);
    // It was tried; the rest is as it was found last, and looked at again on schedule.
    provider.verification.token_version = version;
    provider.verification.surveyed = false;
    provider.token_version = version;
    provider.token_update_time = now;
    let old_kind = std::mem::replace(&mut provider.token_kind, kind);
    let old = std::mem::replace(&mut stored.token, sealed);
    stored.others.push(StoredToken { version: active, kind: old_kind, sealed: old });
    stored.others.sort_by_key(|other| other.version);
    Some((expect, stored.with_versions(versions).touched(now)))
}

/// Whether a new token works.
async fn try_out(upstream: &dyn UpstreamAccount, new: &Token) -> Ended {
    match upstream.ask(new).await {
        Ok(Verdict { refusal: None, .. }) => Ended::Done(Brought::Nothing),
        Ok(Verdict { refusal: Some(refusal), .. }) => {
            Ended::Unanswered(Unanswered::NotDone, Error::from(refusal).reason(), None)
        }
        Err(outage) => not_asked(outage),
    }
}

/// Whether an old token is refused.
async fn probe(upstream: &dyn UpstreamAccount, old: &Token) -> Ended {
    match upstream.ask(old).await {
        Ok(verdict) => match (verdict.takes_token(), verdict.refusal) {
            (Some(false), _) => Ended::Done(Brought::Nothing),
            (None, Some(refusal)) => {
                Ended::Unanswered(Unanswered::NotDone, Error::from(refusal).reason(), None)
            }
            _ => Ended::Unanswered(Unanswered::NotDone, OLD_TOKEN_WORKS, None),
        },
        Err(outage) => not_asked(outage),
    }
}

/// Whether the carrier takes a token. None: it does not say.
async fn takes(upstream: &dyn UpstreamAccount, token: &Token) -> Option<bool> {
    upstream.ask(token).await.ok().and_then(|verdict| verdict.takes_token())
}

/// Whether the carrier takes the new token, and the old one no more.
async fn replaces(upstream: &dyn UpstreamAccount, new: &Token, old: &Token) -> bool {
    takes(upstream, old).await == Some(false) && takes(upstream, new).await == Some(true)
}

/// A read that was not answered has changed nothing.
fn not_asked(outage: Outage) -> Ended {
    ended(Effect::<Brought>::NotDone(outage))
}
