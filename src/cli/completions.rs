//! `credvault completions`: scripts that complete commands and options in a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

/// Print the script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bash   credvault completions bash > ~/.local/share/bash-completion/completions/credvault
  zsh    credvault completions zsh > ~/.zfunc/_credvault        (with ~/.zfunc in fpath)
  fish   credvault completions fish > ~/.config/fish/completions/credvault.fish")]
pub(super) struct Args {
    shell: Shell,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut command = super::Cli::command();
    clap_complete::generate(args.shell, &mut command, "credvault", &mut script);
    super::say(String::from_utf8_lossy(&script).trim_end())
}
