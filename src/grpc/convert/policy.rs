//! Rotation policies on the wire, of whatever resource has one.

use jiff::SignedDuration;
use jiff::civil::Weekday;

use super::field;
use crate::grpc::proto;
use crate::grpc::proto::rotation_policy::Delivery;
use crate::name::{Invalid, ResourceId};
use crate::recipient::RecipientKeyName;
use crate::rotation::policy::{Draft, Fault, Receiver, RotationPolicy};
use crate::rotation::sweep::Block;
use crate::rotation::window::Window;
use crate::vault::Error;

/// A policy, which stood in the field `path` of a resource of `account`.
pub(in crate::grpc) fn policy(
    path: &str,
    policy: proto::RotationPolicy,
    account: &ResourceId,
) -> Result<RotationPolicy, Error> {
    let wrong = |Fault(field, rule): Fault| {
        let dot = if field.is_empty() { "" } else { "." };
        Error::field(format!("{path}{dot}{field}"), rule)
    };
    let missing = |field: &'static str| wrong(Fault(field, Invalid("is required")));
    let window = policy.window.map(|window| {
        let length = window.length.ok_or_else(|| missing("window.length"))?;
        let length = length_of("window.length", length).map_err(wrong)?;
        let days: Option<Vec<_>> = window.days.iter().map(|day| weekday(*day)).collect();
        let unknown = Fault("window.days", Invalid("must be days of the week"));
        let days = days.ok_or_else(|| wrong(unknown))?;
        Window::parse(&window.start, length, &days, &window.time_zone).map_err(wrong)
    });
    let interval = policy.interval.ok_or_else(|| missing("interval"))?;
    let receiver = match policy.delivery {
        None | Some(Delivery::DeliverToNobody(false)) => None,
        Some(Delivery::DeliverToNobody(true)) => Some(Receiver::Nobody),
        Some(Delivery::RecipientKey(name)) => {
            let path = format!("{path}.recipient_key");
            let name = field(&path, &name, RecipientKeyName::parse)?;
            if name.account != *account {
                return Err(Error::field(&path, Invalid("must be of the same account")));
            }
            Some(Receiver::Key(name.id))
        }
    };
    let draft = Draft {
        interval: length_of("interval", interval).map_err(wrong)?,
        window: window.transpose()?,
        overlap: length_of("overlap", policy.overlap.unwrap_or_default()).map_err(wrong)?,
        receiver,
        require_confirmation: policy.require_confirmation,
    };
    RotationPolicy::parse(draft).map_err(wrong)
}

/// A policy of a resource of `account`.
pub(in crate::grpc) fn to_wire(
    policy: &RotationPolicy,
    account: &ResourceId,
) -> proto::RotationPolicy {
    let delivery = match policy.receiver() {
        Receiver::Nobody => Delivery::DeliverToNobody(true),
        Receiver::Key(id) => {
            let name = RecipientKeyName { account: account.clone(), id: id.clone() };
            Delivery::RecipientKey(name.to_string())
        }
    };
    proto::RotationPolicy {
        interval: Some(length_to_wire(policy.interval())),
        window: policy.window().map(|window| proto::RotationWindow {
            start: window.start(),
            length: Some(length_to_wire(window.length())),
            days: window.days().iter().map(|day| day.to_monday_one_offset().into()).collect(),
            time_zone: window.time_zone().to_owned(),
        }),
        overlap: (!policy.overlap().is_zero()).then(|| length_to_wire(policy.overlap())),
        delivery: Some(delivery),
        require_confirmation: policy.require_confirmation(),
    }
}

/// What is in the way of a rotation.
pub(in crate::grpc) fn block_to_wire(block: Option<Block>) -> proto::RotationBlock {
    match block {
        None => proto::RotationBlock::Unspecified,
        Some(Block::Disabled) => proto::RotationBlock::Disabled,
        Some(Block::InProgress) => proto::RotationBlock::InProgress,
        Some(Block::KeyRevoked) => proto::RotationBlock::KeyRevoked,
        Some(Block::TooManyVersions) => proto::RotationBlock::TooManyVersions,
    }
}

/// Days have the numbers of ISO 8601 on the wire.
fn weekday(number: i32) -> Option<Weekday> {
    Weekday::from_monday_one_offset(i8::try_from(number).ok()?).ok()
}

fn length_of(field: &'static str, length: prost_types::Duration) -> Result<SignedDuration, Fault> {
    let fault = || Fault(field, Invalid("must be a length of time, not negative"));
    let prost_types::Duration { seconds, nanos } = length;
    let is_one = seconds >= 0 && (0..1_000_000_000).contains(&nanos);
    is_one.then(|| SignedDuration::new(seconds, nanos)).ok_or_else(fault)
}

fn length_to_wire(length: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: length.as_secs(), nanos: length.subsec_nanos() }
}
