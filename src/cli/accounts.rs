//! `credvault accounts`: the walls between teams and customers. For operators.

use std::process::ExitCode;

use clap::Subcommand;

use super::client::{Change, Options, Retry};
use super::terminal::harmless;
use super::{note, render};
use crate::grpc::proto::{
    Account, CreateAccountRequest, DeleteAccountRequest, DisableAccountRequest,
    EnableAccountRequest, GetAccountRequest, ListAccountsRequest, ListAccountsResponse,
};

const NOT_FOUND: &str = "`credvault accounts list` shows which there are";

/// Create, disable and delete accounts, as an operator
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault accounts create acme
  credvault tokens create --account acme --role account-admin --out acme.token    its first admin
  credvault accounts disable acme --reason 'contract ended'
  credvault accounts delete acme")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(CreateArgs),
    Delete(DeleteArgs),
    Disable(DisableArgs),
    Enable(EnableArgs),
    Get(GetArgs),
    List(ListArgs),
}

/// Create an account, without anybody in it
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Its id, such as acme
    #[arg(value_name = "ACCOUNT")]
    id: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: Options,
}

/// Show an account
#[derive(Debug, clap::Args)]
struct GetArgs {
    /// Its id, or whole name
    #[arg(value_name = "ACCOUNT")]
    id: String,
    #[command(flatten)]
    options: Options,
}

/// List all accounts
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    options: Options,
}

/// Close an account to everybody, phones included; nothing is lost
#[derive(Debug, clap::Args)]
struct DisableArgs {
    /// Its id, or whole name
    #[arg(value_name = "ACCOUNT")]
    id: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// Open a disabled account again
#[derive(Debug, clap::Args)]
struct EnableArgs {
    /// Its id, or whole name
    #[arg(value_name = "ACCOUNT")]
    id: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// Delete a disabled account with everything in it, for good
#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// Its id, or whole name
    #[arg(value_name = "ACCOUNT")]
    id: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => create(args).await?,
        Command::Delete(args) => delete(args).await?,
        Command::Disable(args) => disable(args).await?,
        Command::Enable(args) => enable(args).await?,
        Command::Get(args) => get(args).await?,
        Command::List(args) => list(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `accounts/acme` of either.
fn name(account: &str) -> String {
    if account.contains('/') { account.to_owned() } else { format!("accounts/{account}") }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let id = args.id.strip_prefix("accounts/").unwrap_or(&args.id).to_owned();
    let request = CreateAccountRequest {
        account_id: id.clone(),
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NOT_FOUND).await?;
    render::one(output, &answer, answer.account.as_ref())?;
    note(format_args!(
        "Let its first admin in: `credvault tokens create --account {id} --role account-admin`"
    ));
    Ok(())
}

async fn get(args: GetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = GetAccountRequest { name: name(&args.id) };
    let answer = connection.ask(request, NOT_FOUND).await?;
    render::one(output, &answer, answer.account.as_ref())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = |page_token| ListAccountsRequest { page_size: 200, page_token };
    let open = |page: ListAccountsResponse| (page.accounts, page.next_page_token);
    let (accounts, _) = connection.list(request, open, usize::MAX, NOT_FOUND).await?;
    let answer = ListAccountsResponse { accounts, ..ListAccountsResponse::default() };
    let nothing = "There is no account yet: `credvault accounts create acme` makes one.";
    render::list(output, &answer, &answer.accounts, &["name", "disabled", "create_time"], nothing)
}

async fn disable(args: DisableArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = DisableAccountRequest { name: name(&args.id), reason: args.change.reason };
    let answer = connection.ask(request, NOT_FOUND).await?;
    render::one(output, &answer, answer.account.as_ref())
}

async fn enable(args: EnableArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = EnableAccountRequest { name: name(&args.id), reason: args.change.reason };
    let answer = connection.ask(request, NOT_FOUND).await?;
    render::one(output, &answer, answer.account.as_ref())
}

async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = name(&args.id);
    let request = DeleteAccountRequest { name: name.clone(), reason: args.change.reason };
    // Refused as INVALID_STATE: nothing is deleted by one wrong word.
    let answer = connection.ask(request, NOT_FOUND).await?;
    note(format_args!("{} is deleted, with everything in it", harmless(&name)));
    render::one(output, &answer, None::<&Account>)
}
