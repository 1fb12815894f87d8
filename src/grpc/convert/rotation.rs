//! Rotations, recipients and sealed secrets on the wire.

use jiff::SignedDuration;

use super::{field, timestamp};
use crate::account::Account;
use crate::grpc::proto;
use crate::grpc::proto::recipient::Key;
use crate::name::{AccountName, Invalid, ResourceId};
use crate::provider::DisplayName;
use crate::recipient::{PublicKey, Recipient, RecipientKey, RecipientKeyName};
use crate::rotation::{
    Outcome, Parent, Rotation, RotationFilter, RotationName, State, Step, StepKind, Task,
};
use crate::vault::{Error, NewRecipientKey, NewTokenRotation, Proof, SealedSecret};
use crate::versions::LONGEST_OVERLAP;

/// The name of a rotation.
pub(in crate::grpc) fn name(text: &str) -> Result<RotationName, Error> {
    field("name", text, RotationName::parse)
}

/// The parent of rotations: an account, or one credential or provider of it.
pub(in crate::grpc) fn parent(text: &str) -> Result<(ResourceId, Option<Parent>), Error> {
    const SHAPE: Invalid = Invalid(
        "must have the form accounts/{account}, accounts/{account}/credentials/{credential} or \
         accounts/{account}/providers/{provider}",
    );
    let parse = |text: &str| match AccountName::parse(text) {
        Ok(account) => Ok((account.0, None)),
        Err(_) => match Parent::parse(text) {
            Ok(parent) => Ok((parent.account().clone(), Some(parent))),
            Err(_) => Err(SHAPE),
        },
    };
    field("parent", text, parse)
}

/// Which rotations to list, of all credentials.
pub(in crate::grpc) fn filter(
    filter: Option<proto::RotationFilter>,
) -> Result<RotationFilter, Error> {
    let number = filter.unwrap_or_default().state;
    if number == 0 {
        return Ok(RotationFilter::default());
    }
    let state = State::ALL.iter().find(|(state, _)| i32::from(state_to_wire(*state)) == number);
    let state = state.ok_or_else(|| Error::field("filter.state", Invalid("is unknown")))?;
    Ok(RotationFilter { resource: None, state: Some(state.0) })
}

/// A proof, if there is one.
pub(in crate::grpc) fn proof(bytes: &[u8]) -> Result<Option<Proof>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let proof = bytes.try_into();
    proof.map(Some).map_err(|_| Error::field("proof", Invalid("must be 32 bytes (HMAC-SHA256)")))
}

/// Whom a secret is for.
pub(in crate::grpc) fn recipient(
    recipient: Option<proto::Recipient>,
    account: &ResourceId,
) -> Result<Recipient, Error> {
    const KEY: &str = "recipient.hpke_public_key";
    const NAME: &str = "recipient.recipient_key";
    let Some(recipient) = recipient else { return Ok(Recipient::Caller) };
    match recipient.key {
        None => Err(Error::field("recipient", Invalid("must name a key when it is there"))),
        Some(Key::HpkePublicKey(bytes)) => {
            PublicKey::parse(&bytes).map(Recipient::Key).map_err(|rule| Error::field(KEY, rule))
        }
        Some(Key::RecipientKey(name)) => {
            let name = field(NAME, &name, RecipientKeyName::parse)?;
            if name.account != *account {
                return Err(Error::field(NAME, Invalid("must be of the same account")));
            }
            Ok(Recipient::Enrolled(name.id))
        }
    }
}

/// How to rotate a token.
pub(in crate::grpc) fn new_token_rotation(
    request: proto::RotateTokenRequest,
    account: &ResourceId,
) -> Result<NewTokenRotation, Error> {
    let to = request.recipient.map(|to| recipient(Some(to), account)).transpose()?;
    Ok(NewTokenRotation {
        hold: up_to_30_days("hold", request.hold)?,
        require_confirmation: request.require_confirmation,
        recipient: to,
    })
}

/// How long an old secret verifies.
pub(in crate::grpc) fn overlap(
    duration: Option<prost_types::Duration>,
) -> Result<SignedDuration, Error> {
    up_to_30_days("overlap", duration)
}

fn up_to_30_days(
    path: &str,
    duration: Option<prost_types::Duration>,
) -> Result<SignedDuration, Error> {
    let Some(duration) = duration else { return Ok(SignedDuration::ZERO) };
    let nanos = SignedDuration::from_nanos(i64::from(duration.nanos));
    let asked = SignedDuration::from_secs(duration.seconds).checked_add(nanos);
    asked
        .filter(|_| (0..1_000_000_000).contains(&duration.nanos))
        .filter(|asked| (SignedDuration::ZERO..=LONGEST_OVERLAP).contains(asked))
        .ok_or_else(|| Error::field(path, Invalid("must be from 0s to 2592000s (30 days)")))
}

fn duration(duration: SignedDuration) -> Option<prost_types::Duration> {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    (!duration.is_zero()).then_some(prost_types::Duration { seconds, nanos })
}

fn state_to_wire(state: State) -> proto::RotationState {
    match state {
        State::Pending => proto::RotationState::Pending,
        State::Applying => proto::RotationState::Applying,
        State::Verifying => proto::RotationState::Verifying,
        State::Holding => proto::RotationState::Holding,
        State::Finishing => proto::RotationState::Finishing,
        State::Succeeded => proto::RotationState::Succeeded,
        State::Cancelled => proto::RotationState::Cancelled,
        State::NeedsAttention => proto::RotationState::NeedsAttention,
        State::Cancelling => proto::RotationState::Cancelling,
    }
}

fn step_to_wire(step: Step) -> proto::RotationStep {
    let kind = match step.kind {
        StepKind::Store => proto::RotationStepKind::Store,
        StepKind::Activate => proto::RotationStepKind::Activate,
        StepKind::Confirm => proto::RotationStepKind::Confirm,
        StepKind::Cancel => proto::RotationStepKind::Cancel,
        StepKind::Expire => proto::RotationStepKind::Expire,
        StepKind::Apply => proto::RotationStepKind::Apply,
        StepKind::Wait => proto::RotationStepKind::Wait,
        StepKind::Discard => proto::RotationStepKind::Discard,
        StepKind::Verify => proto::RotationStepKind::Verify,
        StepKind::Finish => proto::RotationStepKind::Finish,
        StepKind::Probe => proto::RotationStepKind::Probe,
    };
    let outcome = match step.outcome {
        Outcome::Done => proto::RotationStepOutcome::Done,
        Outcome::Refused => proto::RotationStepOutcome::Refused,
        Outcome::NotDone => proto::RotationStepOutcome::NotDone,
        Outcome::Unknown => proto::RotationStepOutcome::Unknown,
    };
    proto::RotationStep {
        kind: kind.into(),
        time: Some(timestamp(step.time)),
        message: step.message,
        outcome: outcome.into(),
        reason: step.reason,
    }
}

/// A rotation. There is no field for a secret to be in.
pub(in crate::grpc) fn to_wire(rotation: Rotation) -> proto::Rotation {
    let next_call_time = rotation.work_time();
    let hold = match rotation.work.as_ref().map(|work| &work.task) {
        Some(Task::Token { hold, .. }) => *hold,
        _ => SignedDuration::ZERO,
    };
    let (fingerprint, expire_time) = match rotation.delivery {
        Some(delivery) => (delivery.key_fingerprint, Some(timestamp(delivery.expire_time))),
        None => (String::new(), None),
    };
    proto::Rotation {
        name: rotation.name.to_string(),
        state: state_to_wire(rotation.state).into(),
        version: super::count(rotation.version),
        overlap: duration(rotation.overlap),
        require_confirmation: rotation.require_confirmation,
        public_key_sha256: fingerprint,
        expire_time,
        steps: rotation.steps.into_iter().map(step_to_wire).collect(),
        create_time: Some(timestamp(rotation.create_time)),
        update_time: Some(timestamp(rotation.update_time)),
        end_time: rotation.end_time.map(timestamp),
        confirm_time: rotation.confirm_time.map(timestamp),
        next_call_time: next_call_time.map(timestamp),
        hold: duration(hold),
        uncertain: rotation.work.is_some_and(|work| work.unsure),
    }
}

/// A secret in the form that only its recipient opens.
pub(in crate::grpc) fn sealed_to_wire(sealed: SealedSecret) -> proto::SealedSecret {
    proto::SealedSecret {
        credential: sealed.resource.to_string(),
        version: super::count(sealed.version),
        request_id: sealed.delivery.request_id,
        public_key_sha256: sealed.delivery.key_fingerprint,
        expire_time: Some(timestamp(sealed.delivery.expire_time)),
        encapsulated_key: sealed.delivered.encapsulated_key.to_vec(),
        ciphertext: sealed.delivered.ciphertext,
    }
}

/// The name of a recipient key.
pub(in crate::grpc) fn key_name(text: &str) -> Result<RecipientKeyName, Error> {
    field("name", text, RecipientKeyName::parse)
}

/// A recipient key to be. What the vault sets may be sent and is not looked at (AIP-203).
pub(in crate::grpc) fn new_key(
    request: proto::CreateRecipientKeyRequest,
) -> Result<NewRecipientKey, Error> {
    const KEY: &str = "recipient_key.public_key";
    let id = super::chosen_id("recipient_key_id", &request.recipient_key_id)?;
    let key = request.recipient_key;
    let key = key.ok_or_else(|| Error::field("recipient_key", Invalid("is required")))?;
    let public_key = PublicKey::parse(&key.public_key).map_err(|rule| Error::field(KEY, rule))?;
    let display_name = field("recipient_key.display_name", &key.display_name, DisplayName::parse)?;
    Ok(NewRecipientKey { id, public_key, display_name })
}

/// A recipient key.
pub(in crate::grpc) fn key_to_wire(key: RecipientKey) -> proto::RecipientKey {
    proto::RecipientKey {
        name: key.name.to_string(),
        public_key: key.public_key.as_bytes().to_vec(),
        display_name: key.display_name.as_str().to_owned(),
        public_key_sha256: key.public_key.fingerprint(),
        create_time: Some(timestamp(key.create_time)),
        revoke_time: key.revoke_time.map(timestamp),
    }
}

/// The account of a delivery policy.
pub(in crate::grpc) fn policy_account(path: &str, text: &str) -> Result<ResourceId, Error> {
    const SHAPE: Invalid = Invalid("must have the form accounts/{account}/deliveryPolicy");
    field(path, text, |text| {
        let account = text.strip_suffix("/deliveryPolicy").ok_or(SHAPE)?;
        AccountName::parse(account).map(|name| name.0).map_err(|_| SHAPE)
    })
}

/// The delivery policy of an account.
pub(in crate::grpc) fn policy_to_wire(
    account: &Account,
    enrolled_keys_only: bool,
) -> proto::DeliveryPolicy {
    let name = format!("{}/deliveryPolicy", AccountName(account.id.clone()));
    proto::DeliveryPolicy { name, enrolled_keys_only: Some(enrolled_keys_only) }
}
