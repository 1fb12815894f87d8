//! `credvault init`: a vault for real use.

use std::path::{Path, PathBuf};

use super::{quoted, say};
use crate::config::StoreOptions;
use crate::{server, telemetry};

/// Make a vault for real use: its key file and its empty store
///
/// Folder, store and key are for their owner alone, so run it as the user that will run `credvault serve`. Nothing that
/// exists is overwritten: a vault that is there is refused, and a key file that is there is used as it is. Back the key up
/// apart from the data: without it no secret opens, and with both every secret does.
///
/// It makes no token, since a token that is printed among other lines ends up in logs; it says how to make the first.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: StoreOptions,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    server::close_off()?;
    let given = args.options.clone();
    let settings = args.options.resolve()?;
    telemetry::start(settings.log);
    let made = server::create_vault(&settings, false)?;
    let key_file = settings.key_file(false)?;
    let made = if made { "made; back it up apart from the data" } else { "used as it was" };
    let good = anstyle::AnsiColor::Green.on_default().bold();
    let same = options_again(&given);
    say(format_args!(
        "{good}A new vault is ready.{good:#}

  store {}
  key   {} ({made})

Next, as this user:
  credvault tokens create --local{same} --role operator --out operator.token
                      the first token, for who makes accounts and lets their first admins in
  credvault doctor{same}
                      is anything unsafe?
  credvault serve{same}
                      take calls",
        settings.store,
        key_file.path().display(),
    ))
}

/// The options that the next commands need as well; the environment stays as it is.
pub(super) fn options_again(options: &StoreOptions) -> String {
    let StoreOptions { config, data_dir, store, key_file, log: _, accept_clock: _ } = options;
    let file = |flag: &str, path: &Option<PathBuf>| {
        path.as_ref().map(|path| format!(" --{flag} {}", quoted(path)))
    };
    let store = store.as_ref().map(|url| format!(" --store {}", quoted(Path::new(url))));
    let all =
        [file("config", config), file("data-dir", data_dir), store, file("key-file", key_file)];
    all.into_iter().flatten().collect()
}
