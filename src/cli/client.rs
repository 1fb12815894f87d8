//! What all client commands share: how they reach a vault, and what they say to type next.
//!
//! A further one flattens [`Options`], calls with [`Connection::call`], explains its errors with
//! [`Connection::explain`], and prints with `terminal` and with [`json`].

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;

use super::quoted;
use super::terminal::harmless;
use crate::config::{ClientOptions, ClientSettings};
use crate::grpc::client::{CallError, Client, Rpc};

/// Options of every client command.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// How to print: a table for people, or JSON for scripts, with the names of the contract
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub(super) output: Output,
    #[command(flatten)]
    connection: ClientOptions,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    #[value(help = None)]
    Table,
    #[value(help = None)]
    Json,
}

/// A vault that can be called.
pub(super) struct Connection {
    client: Client,
    settings: ClientSettings,
}

/// What helps after an error that depends on the command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Advice {
    /// When something does not exist.
    pub(super) not_found: &'static str,
    /// A role that is enough for the command.
    pub(super) role: &'static str,
}

impl Options {
    /// Connects at the first call, not now.
    pub(super) fn connect(self) -> anyhow::Result<Connection> {
        let settings = self.connection.resolve()?;
        let client = Client::new(&settings.address, &settings.token).with_context(|| {
            let token = token_source(&settings);
            format!("cannot call {} with the token of {token}", settings.address)
        })?;
        Ok(Connection { client, settings })
    }
}

impl Connection {
    pub(super) async fn call<R: Rpc>(&self, request: R) -> Result<R::Response, CallError> {
        self.client.call(request).await
    }

    /// `accounts/{account}`.
    pub(super) fn account(&self) -> anyhow::Result<String> {
        let account = self.settings.account.as_ref();
        let account =
            account.context("which account? Name it with --account or CREDVAULT_ACCOUNT")?;
        Ok(format!("accounts/{account}"))
    }

    /// The whole name of what a person calls by its id, or by its whole name already.
    pub(super) fn name(&self, collection: &str, id: &str) -> anyhow::Result<String> {
        if id.contains('/') {
            return Ok(id.to_owned());
        }
        Ok(format!("{}/{collection}/{id}", self.account()?))
    }

    /// An error for a person, with what to type next.
    pub(super) fn explain(&self, error: &CallError, advice: Advice) -> anyhow::Error {
        let ClientSettings { address, account, .. } = &self.settings;
        let (reason, retry_after) = match error {
            CallError::NoAnswer(problem) => {
                return anyhow!(
                    "no vault answers at {address}: {}\nIs it running? `credvault dev` or `credvault serve` \
                     starts one; --address names another place",
                    harmless(problem)
                );
            }
            CallError::Refused { reason, retry_after, .. } => (reason, retry_after),
        };
        let account = account.as_ref().map_or("ACCOUNT", |account| account.as_str());
        let create =
            format!("`credvault tokens create --account {account} --role {}`", advice.role);
        let next = match reason.as_str() {
            "UNAUTHENTICATED" => format!(
                "\nThe token is from {}. Name a file with a good one with --token-file; {create}, beside the \
                 stopped vault, makes one",
                token_source(&self.settings)
            ),
            "ROLE_MISSING" => {
                format!("\n{create}, beside the stopped vault, makes a token that may")
            }
            "NOT_FOUND" => format!("\n{}", advice.not_found),
            _ => match retry_after {
                Some(wait) => format!("\nTry again in {} s", whole_seconds(*wait)),
                None => String::new(),
            },
        };
        anyhow!("{}{next}", told(error))
    }

    /// The grpcurl command for what no command does yet; the request comes from a file.
    pub(super) fn grpcurl(&self, method: &str) -> String {
        let token = match &self.settings.token_file {
            Some(file) => format!("CREDVAULT_TOKEN=\"$(cat {})\" ", quoted(file)),
            None => String::new(),
        };
        format!(
            "{token}grpcurl -plaintext -expand-headers -H 'authorization: Bearer ${{CREDVAULT_TOKEN}}' -d @ \
             {} credvault.v1.{method}",
            self.settings.address
        )
    }
}

/// An error in one line, without advice.
pub(super) fn told(error: &CallError) -> String {
    match error {
        CallError::NoAnswer(problem) => format!("no vault answers: {}", harmless(problem)),
        CallError::Refused { reason, message, .. } => {
            format!("{} ({})", harmless(message), harmless(reason))
        }
    }
}

fn token_source(settings: &ClientSettings) -> String {
    match &settings.token_file {
        Some(file) => file.display().to_string(),
        None => "CREDVAULT_TOKEN".to_owned(),
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
