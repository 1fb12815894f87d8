//! Logs: ours at the chosen level, other crates' warnings only.
//!
//! A filter for other crates cannot be asked for: at TRACE the HTTP stacks print headers and bodies, which
//! hold tokens and passwords. Lines are for people in a terminal and JSON elsewhere.

pub mod metrics;

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// Starts logging to standard error, and makes panics say where they happened but not what they said.
pub fn start(level: LevelFilter) {
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("credvault", level);
    // It would tell of a line that could not be written (a full disk) on the same standard error, and panic then.
    let lines = fmt::layer().log_internal_errors(false);
    let lines = lines.with_writer(std::io::stderr).with_target(false);
    let lines = if std::io::stderr().is_terminal() {
        lines.compact().boxed()
    } else {
        lines.with_ansi(false).json().flatten_event(true).boxed()
    };
    // A second start (tests) keeps the first.
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().ok();
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "panic");
        metrics::panicked();
    }));
}
