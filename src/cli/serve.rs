//! `credvault serve`: take calls.

use std::sync::Arc;

use super::Signals;
use crate::clock::SystemClock;
use crate::config::ServeOptions;
use crate::server::{self, Operations, Purpose};
use crate::telemetry;
use crate::upstream::Network;

/// Take calls on a vault that `credvault init` made
///
/// Ends within 10 seconds of SIGTERM, whatever clients do; calls in progress are finished first.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: ServeOptions,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    server::close_off()?;
    let settings = args.options.resolve()?;
    telemetry::start(settings.log);
    let clock = Arc::new(SystemClock);
    // All that can refuse the start comes before the first change.
    let admitted = server::admit(&settings, Purpose::Real, clock, &Network::internet())?;
    let reserved = server::reserve(&settings).await?;
    let operations = Operations::start(&settings, false).await?;
    let vault = admitted.open_and_record().await?;
    let listener = reserved.listen()?;
    let signals = Signals::listen()?;
    tracing::info!(address = listener.address(), "taking calls");
    let interval = settings.verification_interval;
    server::serve(listener, Arc::new(vault), interval, operations, signals).await
}
