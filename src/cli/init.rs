//! `credvault init`: a vault for real use.

use super::say;
use crate::config::StoreOptions;
use crate::{server, telemetry};

/// Make a vault for real use: its key file and its empty store
///
/// A key file that exists already is used as it is. Back it up apart from the data: without it no secret
/// opens, and with both every secret does.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: StoreOptions,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    server::close_off()?;
    let settings = args.options.resolve()?;
    telemetry::start(settings.log);
    let made = server::create_vault(&settings, false)?;
    let key_file = settings.key_file(false)?;
    let made = if made { "made; back it up apart from the data" } else { "used as it was" };
    let good = anstyle::AnsiColor::Green.on_default().bold();
    say(format_args!(
        "{good}A new vault is ready.{good:#}

  store {}
  key   {} ({made})

Next:
  credvault tokens create --account acme --role account-admin   a token for its first admin
  credvault serve                                               take calls
with the same --data-dir, --store and --key-file as now.",
        settings.store,
        key_file.path().display(),
    ));
    Ok(())
}
