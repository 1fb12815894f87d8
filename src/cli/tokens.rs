//! `credvault tokens`: API tokens, made beside the store while the server is stopped.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Subcommand, builder::PossibleValuesParser};
use jiff::SignedDuration;

use super::{note, say};
use crate::access::api_token::TokenId;
use crate::access::{LocalOperator, Role};
use crate::clock::SystemClock;
use crate::config::{Settings, StoreOptions};
use crate::name::{OwnerName, ResourceId};
use crate::server::{self, Purpose};
use crate::telemetry;
use crate::upstream::Network;
use crate::vault::{Error, Vault};

/// Manage API tokens (the server must be stopped)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(CreateArgs),
    Revoke(RevokeArgs),
}

/// Revoke a token: from then on it opens nothing
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// The token's id: what stands between `cv1_` and the next `_`, and in audit entries behind `token:`
    id: String,
    #[command(flatten)]
    options: StoreOptions,
}

/// Make a token for one account and print it, this once; makes the account if there is none
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The account, for example acme; for `--role operator` none: operators belong to the vault
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// What the token may do there; may be given several times
    #[arg(long = "role", required = true, value_name = "ROLE",
        value_parser = PossibleValuesParser::new(role_names()))]
    roles: Vec<String>,
    /// How many days it is good for, at most 90
    #[arg(long, default_value_t = 30, value_name = "DAYS",
        value_parser = clap::value_parser!(u16).range(1..=90))]
    days: u16,
    #[command(flatten)]
    options: StoreOptions,
}

/// What `--role` takes.
fn role_names() -> Vec<&'static str> {
    Role::ALL.iter().map(|(_, name)| *name).chain([Role::Operator.as_str()]).collect()
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create(args) => create(args).await,
        Command::Revoke(args) => revoke(args).await,
    }
}

#[expect(clippy::disallowed_methods, reason = "prints a new token, this once")]
async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let settings = args.options.resolve()?;
    telemetry::start(settings.log);
    let roles: Vec<Role> = args.roles.iter().filter_map(|name| Role::parse(name)).collect();
    let owner = match &args.account {
        None if roles == [Role::Operator] => OwnerName::Vault,
        None => bail!("name the account that these roles are in: --account ACCOUNT"),
        Some(_) if roles.contains(&Role::Operator) => {
            bail!(
                "operators belong to the vault, not to an account: leave --account out, and other roles"
            )
        }
        Some(account) => {
            let id = account.strip_prefix("accounts/").unwrap_or(account);
            OwnerName::Account(ResourceId::parse(id).with_context(|| format!("account {account}"))?)
        }
    };
    let vault = open(&settings)?;
    let lifetime = SignedDuration::from_hours(24 * i64::from(args.days));
    let operator = LocalOperator::beside_the_store();
    let made = vault.add_api_token(&operator, &owner, &roles, lifetime).await;
    vault.close().await;
    let token = made?;
    say(token.to_text().expose());
    note(format_args!(
        "token {} for {owner} with {}, good for {} days; it is not shown again",
        token.id,
        args.roles.join(", "),
        args.days
    ));
    Ok(())
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let settings = args.options.resolve()?;
    telemetry::start(settings.log);
    // Not quoted: it may be a whole token.
    let id = TokenId::parse(&args.id)
        .context("token id (what stands between `cv1_` and the next `_`)")?;
    let vault = open(&settings)?;
    let revoked = vault.revoke_local_api_token(&LocalOperator::beside_the_store(), &id).await;
    vault.close().await;
    match revoked {
        Err(Error::NotFound { .. }) => bail!(
            "there is no token {id} in this vault; take the id from the token itself, \
             or choose another --data-dir"
        ),
        other => drop(other?),
    }
    note(format_args!("token {id} is revoked"));
    Ok(())
}

/// The vault itself, whichever kind it is.
fn open(settings: &Settings) -> anyhow::Result<Vault> {
    server::open_vault(settings, Purpose::Either, Arc::new(SystemClock), &Network::internet())
}
