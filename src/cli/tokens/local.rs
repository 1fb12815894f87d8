//! Tokens made and ended beside the store while the vault is stopped, by whoever may read its files: the first one, and
//! the way back in when no token is left.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use jiff::SignedDuration;

use super::{note, parse_id};
use crate::access::{LocalOperator, Role};
use crate::clock::SystemClock;
use crate::config::{Settings, StoreOptions};
use crate::name::{OwnerName, ResourceId};
use crate::server::{self, Purpose};
use crate::telemetry;
use crate::upstream::Network;
use crate::vault::{Error, Vault};

pub(super) const OPERATORS: &str =
    "operators belong to the vault, not to an account: leave --account out, and other roles";

/// Which store, if the command works beside one.
#[derive(Debug)]
pub(super) struct Beside {
    options: StoreOptions,
    is_meant: bool,
}

/// The flag, and what implies it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Beside the stopped vault")]
struct Flags {
    /// Open the vault's files in place of calling it; it must be stopped. --data-dir, --store and --config imply it
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    options: StoreOptions,
}

impl clap::Args for Beside {
    fn augment_args(command: clap::Command) -> clap::Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for Beside {
    /// Only what is typed implies it: a server's environment names its store to every command.
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Flags { local, options } = Flags::from_arg_matches(matches)?;
        let typed = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let implied = ["config", "data_dir", "store"].iter().any(typed);
        Ok(Self { options, is_meant: local || implied })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Beside {
    pub(super) fn is_meant(&self) -> bool {
        self.is_meant
    }
}

/// Makes a token; its id, and itself.
#[expect(clippy::disallowed_methods, reason = "hands out a new token, this once")]
pub(super) async fn create(
    beside: Beside,
    account: Option<&str>,
    roles: &[String],
    days: u16,
) -> anyhow::Result<(String, String)> {
    let settings = beside.options.resolve()?;
    telemetry::start(settings.log);
    let roles: Vec<Role> = roles.iter().filter_map(|name| Role::parse(name)).collect();
    let owner = match account {
        None if roles == [Role::Operator] => OwnerName::Vault,
        None => bail!("name the account that these roles are in: --account ACCOUNT"),
        Some(_) if roles.contains(&Role::Operator) => bail!(OPERATORS),
        Some(account) => {
            let id = account.strip_prefix("accounts/").unwrap_or(account);
            OwnerName::Account(ResourceId::parse(id).with_context(|| format!("account {account}"))?)
        }
    };
    let vault = open(&settings)?;
    let lifetime = SignedDuration::from_hours(24 * i64::from(days));
    let operator = LocalOperator::beside_the_store();
    let made = vault.add_api_token(&operator, &owner, &roles, lifetime).await;
    vault.close().await;
    let token = made?;
    Ok((format!("{owner}/apiTokens/{}", token.id), token.to_text().expose().to_owned()))
}

/// Ends a token of any owner: even the last admin's.
pub(super) async fn revoke(beside: Beside, token: &str) -> anyhow::Result<()> {
    let settings = beside.options.resolve()?;
    telemetry::start(settings.log);
    let id = parse_id(token.rsplit('/').next().unwrap_or(token))?;
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
    server::close_off()?;
    server::open_vault(settings, Purpose::Either, Arc::new(SystemClock), &Network::internet())
}
