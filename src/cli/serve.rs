//! `credvault serve`: take calls.

use std::sync::Arc;

use anyhow::bail;

use super::stop_signal;
use crate::clock::SystemClock;
use crate::config::ServeOptions;
use crate::{server, telemetry};

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
    let key_file = settings.key_file()?;
    let vault = server::open_vault(&settings, &key_file, Arc::new(SystemClock))?;
    if vault.is_dev() {
        bail!(
            "the vault in {} was made by `credvault dev`, with its key beside it; \
             make another with `credvault init --data-dir DIR`",
            settings.data_dir.display()
        );
    }
    let listener = server::listen(&settings).await?;
    tracing::info!(address = %listener.local_addr()?, "taking calls");
    server::serve(listener, Arc::new(vault), stop_signal()).await
}
