//! `credvault serve`: take calls.

use std::sync::Arc;

use super::Signals;
use crate::clock::SystemClock;
use crate::config::ServeOptions;
use crate::server::{self, Purpose};
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
    let vault =
        server::open_vault(&settings, Purpose::Real, Arc::new(SystemClock), &Network::internet())?;
    let listener = server::listen(&settings).await?;
    let signals = Signals::listen()?;
    tracing::info!(address = %listener.local_addr()?, "taking calls");
    server::serve(listener, Arc::new(vault), settings.verification_interval, signals).await
}
