//! `credvault tokens`: API tokens, over gRPC; or beside the stopped store, where nobody can call yet.

mod local;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Subcommand, builder::PossibleValuesParser};
use jiff::SignedDuration;

use super::client::{Change, Connection, Options, Output, Retry, Whose};
use super::terminal::harmless;
use super::{note, render, secrets};
use crate::access::Role;
use crate::access::api_token::TokenId;
use crate::grpc::client::duration;
use crate::grpc::proto::{
    self, ApiToken, CreateApiTokenRequest, GetApiTokenRequest, ListApiTokensRequest,
    ListApiTokensResponse, RevokeApiTokenRequest,
};

const NOT_FOUND: &str = "`credvault tokens list` shows which there are";

/// What helps when an account is not there.
const NO_ACCOUNT: &str =
    "`credvault accounts create`, typed by an operator, makes an account; --account names another";

/// Make, see and end API tokens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault tokens create --local --role operator --out operator.token    the first, beside the stopped vault
  credvault tokens create --account acme --role rotator --out bob.token   for a colleague
  credvault tokens list --account acme
  credvault tokens revoke 4f6b0c1d --account acme")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(CreateArgs),
    Get(GetArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Make a token and print it, this once
///
/// Standard output is the token alone, and what it is for goes to standard error.
///
/// Account admins make tokens of their account; operators make others, and an account's first admin. The first token of
/// a vault is made with --local, while the vault is stopped, by whoever may read its files; --local also makes the
/// account if there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault tokens create --local --role operator --out operator.token
  credvault tokens create --account acme --role account-admin --out acme.token
  credvault tokens create --account acme --role reader --role rotator --days 7 --display-name 'Bob, on call'")]
struct CreateArgs {
    /// What the token may do; may be given several times. operator: on the vault itself, alone
    #[arg(long = "role", required = true, value_name = "ROLE",
        value_parser = PossibleValuesParser::new(role_names()))]
    roles: Vec<String>,
    /// How many days it is good for, at most 90
    #[arg(long, default_value_t = 30, value_name = "DAYS",
        value_parser = clap::value_parser!(u16).range(1..=90))]
    days: u16,
    /// What it is for, in words for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    display_name: String,
    #[command(flatten)]
    out: secrets::Out,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    beside: local::Beside,
}

/// Show what is known of a token; the token itself cannot be read
#[derive(Debug, clap::Args)]
struct GetArgs {
    /// Its id: what stands between `cv1_` and the next `_`; or its whole name
    token: String,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    options: Options,
}

/// List the tokens of an account, or of the vault; those that have ended as well
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    options: Options,
}

/// Revoke a token: from then on it opens nothing
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Its id: what stands between `cv1_` and the next `_`, and in audit entries behind `token:`; or its whole name
    token: String,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    beside: local::Beside,
}

/// What `--role` takes.
pub(super) fn role_names() -> Vec<&'static str> {
    Role::ALL.iter().map(|(_, name)| *name).chain([Role::Operator.as_str()]).collect()
}

/// The contract's numbers of these roles.
pub(super) fn roles(names: &[String]) -> Vec<i32> {
    let number = |name: &String| {
        let name = format!("ROLE_{}", name.to_uppercase().replace('-', "_"));
        proto::Role::from_str_name(&name).map(i32::from)
    };
    names.iter().filter_map(number).collect()
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) if args.beside.is_meant() => create_beside(args).await?,
        Command::Create(args) => create(args).await?,
        Command::Get(args) => get(args).await?,
        Command::List(args) => list(args).await?,
        Command::Revoke(args) if args.beside.is_meant() => {
            local::revoke(args.beside, &args.token).await?;
        }
        Command::Revoke(args) => revoke(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let whose = Whose { vault: args.roles == [Role::Operator.as_str()] };
    if whose.vault && args.options.connection.account.is_some() {
        bail!(local::OPERATORS);
    }
    let connection = args.options.connect_for(whose)?;
    let request = CreateApiTokenRequest {
        parent: connection.parent()?,
        api_token: Some(ApiToken {
            display_name: args.display_name,
            roles: roles(&args.roles),
            ..ApiToken::default()
        }),
        lifetime: Some(duration(SignedDuration::from_hours(24 * i64::from(args.days)))),
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let place = args.out.open()?;
    let answer = connection.ask(request, NO_ACCOUNT).await?;
    let name = harmless(answer.api_token.as_ref().map_or("", |token| &token.name));
    let lost = lost(&name);
    if output == Output::Json {
        return secrets::show(render::json(&answer)?, &lost);
    }
    place.put(&answer.token, &lost)?;
    made(&name, &args.roles, args.days);
    Ok(())
}

/// What helps when a token reached nobody.
fn lost(name: &str) -> String {
    format!("The token is lost: end it with `credvault tokens revoke {name}`, and make another")
}

async fn create_beside(args: CreateArgs) -> anyhow::Result<()> {
    let asks_for_more = [&args.display_name, &args.retry.request_id, &args.change.reason];
    if asks_for_more.iter().any(|text| !text.is_empty()) || args.options.output == Output::Json {
        bail!(
            "--display-name, --reason, --request-id and --output json need a vault that runs; leave them out"
        );
    }
    let place = args.out.open()?;
    let account = args.options.connection.account.as_deref();
    let (id, token) = local::create(args.beside, account, &args.roles, args.days).await?;
    place.put(&token, &lost(&format!("{id} --local")))?;
    made(&id, &args.roles, args.days);
    Ok(())
}

/// Says what a new token is.
fn made(name: &str, roles: &[String], days: u16) {
    let plural = if days == 1 { "" } else { "s" };
    note(format_args!(
        "{name} with {}, good for {days} day{plural}; it is not shown again",
        roles.join(", ")
    ));
}

async fn get(args: GetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect_for(args.whose)?;
    let request = GetApiTokenRequest { name: name(&connection, &args.token)? };
    let answer = connection.ask(request, NOT_FOUND).await?;
    render::one(output, &answer, answer.api_token.as_ref())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect_for(args.whose)?;
    let parent = connection.parent()?;
    let request =
        |page_token| ListApiTokensRequest { parent: parent.clone(), page_size: 200, page_token };
    let open = |page: ListApiTokensResponse| (page.api_tokens, page.next_page_token);
    let (api_tokens, _) = connection.list(request, open, usize::MAX, NO_ACCOUNT).await?;
    let answer = ListApiTokensResponse { api_tokens, ..ListApiTokensResponse::default() };
    let columns = ["name", "display_name", "roles", "create_time", "expire_time", "revoke_time"];
    let nothing =
        format!("There is no token of {parent}; `credvault tokens create --role ROLE` makes one.");
    render::list(output, &answer, &answer.api_tokens, &columns, &nothing)
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect_for(args.whose)?;
    let name = name(&connection, &args.token)?;
    let told = format!("{} is revoked", harmless(&name));
    let request = RevokeApiTokenRequest { name, reason: args.change.reason };
    let answer = connection.ask(request, NOT_FOUND).await?;
    note(told);
    if output == Output::Json {
        return render::one(output, &answer, answer.api_token.as_ref());
    }
    Ok(())
}

/// The whole name of a token.
fn name(connection: &Connection, token: &str) -> anyhow::Result<String> {
    if token.contains('/') {
        return Ok(token.to_owned());
    }
    Ok(format!("{}/apiTokens/{}", connection.parent()?, parse_id(token)?))
}

/// A token's id. What is none is not quoted: it may be a whole token.
fn parse_id(token: &str) -> anyhow::Result<TokenId> {
    TokenId::parse(token).context("token id (what stands between `cv1_` and the next `_`)")
}
