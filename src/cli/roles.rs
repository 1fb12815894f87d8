//! `credvault roles`: who may do what in an account, or is an operator of the vault.

use std::process::ExitCode;

use clap::Subcommand;

use super::client::{Change, Options, Whose};
use super::terminal::harmless;
use super::tokens::{role_names, roles};
use super::{note, render};
use crate::grpc::proto::{
    DeleteRoleBindingRequest, ListRoleBindingsRequest, ListRoleBindingsResponse, RoleBinding,
    SetRoleBindingRequest,
};

const NOT_FOUND: &str = "`credvault roles list` shows who has which";

/// See and change who may do what
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault roles set 'spiffe://example.org/edge/*' --role verifier
  credvault roles set token:4f6b0c --role reader --role auditor
  credvault roles set spiffe://example.org/ops --role operator --vault")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Delete(DeleteArgs),
    List(ListArgs),
    Set(SetArgs),
}

/// Give somebody exactly these roles, in place of those from before
///
/// Who: `token:ID`; a SPIFFE ID, `spiffe://example.org/edge/one`; or all below a path, `spiffe://example.org/edge/*`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault roles set 'spiffe://example.org/edge/*' --role verifier
  credvault roles set token:4f6b0c --role reader --role auditor
  credvault roles set spiffe://example.org/ops --role operator --vault")]
struct SetArgs {
    /// Who
    principal: String,
    /// What they may do; may be given several times
    #[arg(long = "role", required = true, value_name = "ROLE",
        value_parser = clap::builder::PossibleValuesParser::new(role_names()))]
    roles: Vec<String>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// List who has which roles
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    options: Options,
}

/// Take all roles from somebody
#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// Who
    principal: String,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Delete(args) => delete(args).await?,
        Command::List(args) => list(args).await?,
        Command::Set(args) => set(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect_for(args.whose)?;
    let request = SetRoleBindingRequest {
        parent: connection.parent()?,
        role_binding: Some(RoleBinding {
            principal: args.principal,
            roles: roles(&args.roles),
            ..RoleBinding::default()
        }),
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NOT_FOUND).await?;
    render::one(output, &answer, answer.role_binding.as_ref())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect_for(args.whose)?;
    let parent = connection.parent()?;
    let request =
        |page_token| ListRoleBindingsRequest { parent: parent.clone(), page_size: 200, page_token };
    let open = |page: ListRoleBindingsResponse| (page.role_bindings, page.next_page_token);
    let (role_bindings, _) = connection.list(request, open, usize::MAX, NOT_FOUND).await?;
    let answer = ListRoleBindingsResponse { role_bindings, ..Default::default() };
    let columns = ["principal", "roles", "update_time"];
    let nothing = format!("Nobody has a role in {parent}.");
    render::list(output, &answer, &answer.role_bindings, &columns, &nothing)
}

async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect_for(args.whose)?;
    let principal = args.principal;
    let parent = connection.parent()?;
    let told = format!("{} has no role in {parent} any more", harmless(&principal));
    let request = DeleteRoleBindingRequest { parent, principal, reason: args.change.reason };
    let answer = connection.ask(request, NOT_FOUND).await?;
    note(told);
    render::one(output, &answer, None::<&RoleBinding>)
}
