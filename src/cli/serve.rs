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
    let settings = args.options.resolve()?;
    telemetry::start(settings.log);
    let operations = Operations::start(&settings, false).await;
    let vault =
        server::open_vault(&settings, Purpose::Real, Arc::new(SystemClock), &Network::internet())?;
    // Only now: a vault that is in use already says more than the port that is taken with it.
    let operations = operations?;
    let listener = server::listen(&settings).await?;
    let signals = Signals::listen()?;
    tracing::info!(address = listener.address(), "taking calls");
    let interval = settings.verification_interval;
    server::serve(listener, Arc::new(vault), interval, operations, signals).await
}
