//! The command line. One file a command.

mod access_tokens;
mod accounts;
mod audit;
mod client;
mod completions;
mod credentials;
mod delivery_policy;
mod dev;
mod doctor;
mod init;
mod keys;
mod open;
mod providers;
mod recipient_keys;
mod render;
mod roles;
mod rotate;
mod rotation_policy;
mod rotations;
mod secrets;
mod serve;
mod terminal;
mod tokens;
mod webhooks;

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::server::StopSignal;

const LEARN: &str = "\
First steps:
  credvault dev                                           try it: everything is made for you
  credvault init                                          make a vault for real use
  credvault tokens create --local --role operator         the first token, before it is served
  credvault serve                                         take calls
  credvault doctor                                        is anything unsafe or broken?
  credvault accounts create acme                          a wall around what is one team's
  credvault tokens create --account acme --role rotator   let somebody in
  credvault credentials create --help                     a phone's first password
  credvault rotate desk-1 --out desk-1.password           its next one, and nothing is lost on the way
  credvault providers verify --all --watch                see whether carriers take our tokens

Exit status:
  0  it is done, and what was asked for is so
  1  it failed, or the answer is no: a check that failed, a wrong digest, a broken chain, a line
     that could not be imported
  2  the command line cannot be read, or a command that checks or imports could not ask, or not to the end

Options are also environment variables (shown beside them) and keys of a file: see README.md.";

/// The exit status of a command that could not ask what it was to find out, or not to the end.
const NOT_ASKED: u8 = 2;

/// A credential vault for telephony: issues, rotates, validates and uses SIP passwords and carrier tokens,
/// and never gives them back.
#[derive(Debug, Parser)]
#[command(name = "credvault", version, after_help = LEARN, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    AccessTokenPolicy(access_tokens::PolicyArgs),
    AccessTokens(access_tokens::Args),
    Accounts(accounts::Args),
    Audit(audit::Args),
    Completions(completions::Args),
    Credentials(credentials::Args),
    DeliveryPolicy(delivery_policy::Args),
    Dev(dev::Args),
    Doctor(doctor::Args),
    Init(init::Args),
    Open(open::Args),
    Providers(providers::Args),
    RecipientKeys(recipient_keys::Args),
    Roles(roles::Args),
    Rotate(rotate::Args),
    Rotations(rotations::Args),
    Serve(serve::Args),
    Tokens(tokens::Args),
    Webhooks(webhooks::Args),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Sockets are looked at after so many turns of tasks, not 61: a few connections that are always busy (a flood of
        // PINGs) keep no others waiting.
        .event_interval(8)
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let result = runtime.block_on(async {
                match command {
                    Command::AccessTokenPolicy(args) => {
                        return access_tokens::run_policy(args).await;
                    }
                    Command::AccessTokens(args) => return access_tokens::run(args).await,
                    Command::Accounts(args) => return accounts::run(args).await,
                    Command::Audit(args) => return audit::run(args).await,
                    Command::Completions(args) => completions::run(args)?,
                    Command::Credentials(args) => return credentials::run(args).await,
                    Command::DeliveryPolicy(args) => return delivery_policy::run(args).await,
                    Command::Dev(args) => dev::run(args).await?,
                    Command::Doctor(args) => return Ok(or_not_asked(doctor::run(args).await)),
                    Command::Init(args) => init::run(args)?,
                    Command::Open(args) => open::run(args)?,
                    Command::Providers(args) => return providers::run(args).await,
                    Command::RecipientKeys(args) => return recipient_keys::run(args).await,
                    Command::Roles(args) => return roles::run(args).await,
                    Command::Rotate(args) => return rotate::run(args).await,
                    Command::Rotations(args) => return rotations::run(args).await,
                    Command::Serve(args) => serve::run(args).await?,
                    Command::Tokens(args) => return tokens::run(args).await,
                    Command::Webhooks(args) => return webhooks::run(args).await,
                }
                Ok(ExitCode::SUCCESS)
            });
            // A task that still runs (a scan) must not hold up the end.
            runtime.shutdown_background();
            result
        });
    result.unwrap_or_else(|error| {
        report(&error);
        ExitCode::FAILURE
    })
}

/// The exit status of a command that is asked a question: an error is no answer to it.
fn or_not_asked(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        report(&error);
        NOT_ASKED.into()
    })
}

/// Prints why something did not work.
fn report(error: &anyhow::Error) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    note(format_args!("{style}error:{style:#} {error:#}"));
}

/// Prints an answer. Whoever closed the pipe has read enough; any other answer that is not written is an error.
fn say(text: impl fmt::Display) -> anyhow::Result<()> {
    match print(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the answer to standard output")
        }
        _ => Ok(()),
    }
}

fn print(text: impl fmt::Display) -> io::Result<()> {
    let mut out = anstream::stdout();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints beside the answer, so that a script can take the answer alone.
fn note(text: impl fmt::Display) {
    writeln!(anstream::stderr(), "{text}").ok();
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What asks the process to stop: SIGTERM, or Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl StopSignal for Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
