//! Rotation policies: how often something is rotated by the vault itself, when it may happen, and who gets the new
//! secret. Nothing here knows what is rotated.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::window::{Window, seconds};
use crate::name::{Invalid, ResourceId};
use crate::versions::LONGEST_OVERLAP;

/// The shortest time from one rotation to the next: who gets the secrets must keep up.
pub const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// The longest time, five years: what is rotated more seldom is not rotated.
pub const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_hours(1826 * 24);

/// How long the old secret works beside the new one at the least, where nobody confirms: long enough to fetch the new one.
pub const SHORTEST_OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// Who gets the new secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Whoever holds the private key of this enrolled key.
    Key(#[serde(with = "id")] ResourceId),
    /// Nobody: it is used inside the vault only.
    Nobody,
}

/// What a policy is made of, before anybody has looked whether it makes sense.
#[derive(Debug, Clone)]
pub struct Draft {
    /// How often.
    pub interval: SignedDuration,
    /// When it may happen; None: at any time.
    pub window: Option<Window>,
    /// How long the old secret works beside the new one.
    pub overlap: SignedDuration,
    /// Who gets the new one; None: nothing was said.
    pub receiver: Option<Receiver>,
    /// Whether the old one stays the active one until somebody proves to hold the new one.
    pub require_confirmation: bool,
}

/// A rule that a policy breaks, and the field where. Empty: the policy as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub &'static str, pub Invalid);

/// When the vault rotates something by itself, and how. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationPolicy {
    #[serde(with = "seconds")]
    interval: SignedDuration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    #[serde(with = "seconds")]
    overlap: SignedDuration,
    receiver: Receiver,
    require_confirmation: bool,
}

impl RotationPolicy {
    /// Looks whether a policy makes sense:
    ///
    /// - Its lengths are within their bounds. No overlap is longer than the interval, or old secrets would pile up.
    /// - It says who gets the new secret. Somebody must be able to fetch it before the old one dies: it is confirmed, or
    ///   there is an overlap.
    /// - What goes to nobody, nobody can confirm.
    pub fn parse(draft: Draft) -> Result<Self, Fault> {
        let Draft { interval, window, overlap, receiver, require_confirmation } = draft;
        let is_whole = |length: SignedDuration| length.subsec_nanos() == 0;
        let intervals = SHORTEST_INTERVAL..=LONGEST_INTERVAL;
        if !intervals.contains(&interval) || !is_whole(interval) {
            let rule = "must be from 3600s (an hour) to 157766400s (five years), in whole seconds";
            return Err(Fault("interval", Invalid(rule)));
        }
        let overlaps = SignedDuration::ZERO..=LONGEST_OVERLAP.min(interval);
        if !overlaps.contains(&overlap) || !is_whole(overlap) {
            let rule = "must be from 0s to 2592000s (30 days), not longer than the interval, in whole seconds";
            return Err(Fault("overlap", Invalid(rule)));
        }
        let Some(receiver) = receiver else {
            let rule = "must say who gets the new secret: name an enrolled recipient_key, or set deliver_to_nobody if \
                        it is used inside the vault only";
            return Err(Fault("", Invalid(rule)));
        };
        match receiver {
            Receiver::Nobody if require_confirmation => {
                let rule = "must be false with deliver_to_nobody: nobody could prove to hold the new secret";
                Err(Fault("require_confirmation", Invalid(rule)))
            }
            Receiver::Key(_) if !require_confirmation && overlap < SHORTEST_OVERLAP => {
                let rule = "must be at least 3600s unless require_confirmation is set: whoever holds the \
                            recipient_key needs time to fetch the new secret before the old one dies";
                Err(Fault("overlap", Invalid(rule)))
            }
            _ => Ok(Self { interval, window, overlap, receiver, require_confirmation }),
        }
    }

    /// How often.
    pub fn interval(&self) -> SignedDuration {
        self.interval
    }

    /// When it may happen; None: at any time.
    pub fn window(&self) -> Option<&Window> {
        self.window.as_ref()
    }

    /// How long the old secret works beside the new one.
    pub fn overlap(&self) -> SignedDuration {
        self.overlap
    }

    /// Who gets the new one.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Whether the old one stays the active one until somebody proves to hold the new one.
    pub fn require_confirmation(&self) -> bool {
        self.require_confirmation
    }
}

/// For people: `every 90d, 02:00-04:00 Europe/Berlin mon-fri, for recipientKeys/ops, overlap 1d`.
impl fmt::Display for RotationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {}", Length(self.interval))?;
        if let Some(window) = &self.window {
            write!(f, ", {window}")?;
        }
        match &self.receiver {
            Receiver::Key(id) => write!(f, ", for recipientKeys/{id}")?,
            Receiver::Nobody => f.write_str(", for nobody")?,
        }
        if !self.overlap.is_zero() {
            write!(f, ", overlap {}", Length(self.overlap))?;
        }
        let held = if self.require_confirmation { ", held until it is confirmed" } else { "" };
        f.write_str(held)
    }
}

/// A length as people write it: days, where it is whole days.
#[derive(Debug, Clone, Copy)]
pub struct Length(pub SignedDuration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 24 * 60 * 60;
        let length = self.0.as_secs();
        if length > 0 && length % DAY == 0 {
            write!(f, "{}d", length / DAY)
        } else {
            write!(f, "{:#}", self.0)
        }
    }
}

/// A policy, and since when it is so. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The policy.
    pub policy: RotationPolicy,
    /// When it was set. What is older than its interval already is not rotated at that very moment, but spread.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub since: Timestamp,
}

/// Ids as their text.
mod id {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::name::ResourceId;

    pub(super) fn serialize<S: Serializer>(
        id: &ResourceId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(id.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ResourceId, D::Error> {
        ResourceId::parse(&String::deserialize(from)?).map_err(|rule| D::Error::custom(rule.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn draft() -> Draft {
        Draft {
            interval: HOUR * 24 * 90,
            window: None,
            overlap: HOUR * 24,
            receiver: Some(Receiver::Key(ResourceId::parse("ops").unwrap())),
            require_confirmation: false,
        }
    }

    #[test]
    fn a_policy_without_a_way_to_deliver_is_refused() {
        let second = SignedDuration::from_secs(1);
        let fault = |draft: Draft| RotationPolicy::parse(draft).map_err(|fault| fault.0);
        for (field, bad) in [
            ("", Draft { receiver: None, ..draft() }),
            ("overlap", Draft { overlap: HOUR - second, ..draft() }),
            ("overlap", Draft { overlap: SignedDuration::ZERO, ..draft() }),
            ("overlap", Draft { overlap: -HOUR, ..draft() }),
            ("overlap", Draft { overlap: LONGEST_OVERLAP + second, ..draft() }),
            ("overlap", Draft { overlap: HOUR * 3, interval: HOUR * 2, ..draft() }),
            ("interval", Draft { interval: HOUR - second, ..draft() }),
            ("interval", Draft { interval: LONGEST_INTERVAL + second, ..draft() }),
            ("interval", Draft { interval: HOUR * 2 + SignedDuration::from_nanos(1), ..draft() }),
            (
                "require_confirmation",
                Draft { receiver: Some(Receiver::Nobody), require_confirmation: true, ..draft() },
            ),
        ] {
            assert_eq!(fault(bad.clone()), Err(field), "{bad:?}");
        }
        for good in [
            draft(),
            Draft { overlap: SignedDuration::ZERO, require_confirmation: true, ..draft() },
            Draft { overlap: SignedDuration::ZERO, receiver: Some(Receiver::Nobody), ..draft() },
            Draft { interval: HOUR, overlap: HOUR, ..draft() },
        ] {
            assert!(fault(good.clone()).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn policies_are_stored_as_they_were_and_say_what_they_are() {
        let window = Window::parse("22:30", HOUR * 3, &[], "Europe/Berlin").unwrap();
        let since = Timestamp::from_second(7).unwrap();
        let policy = RotationPolicy::parse(Draft { window: Some(window), ..draft() }).unwrap();
        let schedule = Schedule { policy, since };
        let json = serde_json::to_string(&schedule).unwrap();
        assert_eq!(
            json,
            "{\"policy\":{\"interval\":7776000,\"window\":{\"start\":\"22:30\",\"length\":10800,\"days\":[],\
             \"time_zone\":\"Europe/Berlin\"},\"overlap\":86400,\"receiver\":{\"key\":\"ops\"},\
             \"require_confirmation\":false},\"since\":7000000}"
        );
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        assert_eq!(
            schedule.policy.to_string(),
            "every 90d, 22:30-01:30 Europe/Berlin, for recipientKeys/ops, overlap 1d"
        );
        let nobody =
            Draft { receiver: Some(Receiver::Nobody), overlap: SignedDuration::ZERO, ..draft() };
        let policy = RotationPolicy::parse(nobody).unwrap();
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(
            json,
            "{\"interval\":7776000,\"overlap\":0,\"receiver\":\"nobody\",\"require_confirmation\":false}"
        );
        assert_eq!(serde_json::from_str::<RotationPolicy>(&json).unwrap(), policy);
    }
}
