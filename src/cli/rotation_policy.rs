//! The options of a rotation policy, of whatever command sets one, and policies in words for people.

use anyhow::bail;
use jiff::SignedDuration;
use jiff::civil::Weekday;

use super::client::Connection;
use super::rotate::length;
use crate::grpc::client::{duration, length as length_of};
use crate::grpc::proto::rotation_policy::Delivery;
use crate::grpc::proto::{RotationPolicy, RotationWindow};
use crate::rotation::policy::{Fault, Length};
use crate::rotation::window::Window;

/// When the vault rotates something by itself.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "each is the flag of its name")]
#[command(next_help_heading = "Rotation by the vault itself")]
pub(super) struct Policy {
    /// Have the vault rotate it by itself this often, such as 12h or 90d, up to a tenth of it earlier. It needs
    /// --rotate-for KEY, with --rotate-overlap or --rotate-require-confirmation; or --rotate-for-nobody
    #[arg(long, value_name = "DURATION", value_parser = length)]
    rotate_every: Option<SignedDuration>,
    /// Only in these hours of a time zone, and on these days if any are named: '02:00-04:00 Europe/Berlin mon-fri',
    /// '22:00-02:00 UTC sat,sun' [default: at any time]
    #[arg(long, value_name = "WINDOW", value_parser = window, requires = "rotate_every")]
    rotate_window: Option<Window>,
    /// How long the old password works beside the new one: at least 1h, unless --rotate-require-confirmation is given
    #[arg(long, value_name = "DURATION", value_parser = length, requires = "rotate_every")]
    rotate_overlap: Option<SignedDuration>,
    /// Have each new password sealed for this enrolled key, by its id or whole name: `credvault rotations list` finds it
    #[arg(long, value_name = "KEY", requires = "rotate_every")]
    rotate_for: Option<String>,
    /// No new password ever leaves the vault: for what is used inside it only
    #[arg(long, requires = "rotate_every", conflicts_with = "rotate_for")]
    rotate_for_nobody: bool,
    /// Keep the old password the active one until somebody confirms with a proof that he holds the new one
    #[arg(long, requires = "rotate_every", conflicts_with = "rotate_for_nobody")]
    rotate_require_confirmation: bool,
}

impl Policy {
    /// The policy, if there is one.
    pub(super) fn policy(self, connection: &Connection) -> anyhow::Result<Option<RotationPolicy>> {
        let Some(interval) = self.rotate_every else { return Ok(None) };
        let delivery = match self.rotate_for {
            Some(key) => Delivery::RecipientKey(connection.name("recipientKeys", &key)?),
            None if self.rotate_for_nobody => Delivery::DeliverToNobody(true),
            None => bail!(
                "who takes the new passwords over? Name an enrolled key (--rotate-for KEY; `credvault recipient-keys \
                 list` shows which there are), or say --rotate-for-nobody if they are used inside the vault only"
            ),
        };
        Ok(Some(RotationPolicy {
            interval: Some(duration(interval)),
            window: self.rotate_window.map(|window| RotationWindow {
                start: window.start(),
                length: Some(duration(window.length())),
                days: window.days().iter().map(|it| it.to_monday_one_offset().into()).collect(),
                time_zone: window.time_zone().to_owned(),
            }),
            overlap: self.rotate_overlap.map(duration),
            delivery: Some(delivery),
            require_confirmation: self.rotate_require_confirmation,
        }))
    }
}

/// How often and when, such as `every 90d, 02:00-04:00 Europe/Berlin`.
pub(super) fn rhythm(policy: &RotationPolicy) -> String {
    let every = length_of(policy.interval).unwrap_or_default();
    match policy.window.as_ref().map(shown) {
        Some(window) => format!("every {}, {window}", Length(every)),
        None => format!("every {}", Length(every)),
    }
}

/// What a rotation of this policy does.
pub(super) fn effect(policy: &RotationPolicy) -> String {
    let receiver = match &policy.delivery {
        Some(Delivery::RecipientKey(name)) => format!("for {}", super::render::id(name)),
        Some(Delivery::DeliverToNobody(_)) | None => "for nobody".to_owned(),
    };
    let overlap = length_of(policy.overlap).filter(|it| !it.is_zero());
    let old = match (policy.require_confirmation, overlap) {
        (true, None) => "the old one works until it is confirmed".to_owned(),
        (true, Some(more)) => {
            format!("the old one works until it is confirmed and {} more", Length(more))
        }
        (false, None) => "the old one dies".to_owned(),
        (false, Some(more)) => format!("the old one works {} more", Length(more)),
    };
    format!("{receiver}; {old}")
}

/// As it is typed. One that this program does not know, as it came.
fn shown(window: &RotationWindow) -> String {
    let day = |day: &i32| Weekday::from_monday_one_offset(i8::try_from(*day).unwrap_or(0)).ok();
    let days: Vec<_> = window.days.iter().filter_map(day).collect();
    let length = length_of(window.length).unwrap_or_default();
    match Window::parse(&window.start, length, &days, &window.time_zone) {
        Ok(window) => window.to_string(),
        Err(_) => format!("from {} {}", window.start, window.time_zone),
    }
}

/// Parses a window.
fn window(text: &str) -> Result<Window, String> {
    text.parse().map_err(|Fault(field, rule)| {
        let what = field.strip_prefix("window.").unwrap_or(field);
        let what = if what.is_empty() { "it" } else { what };
        format!("{} {}", what.replace('_', " "), rule.0)
    })
}
