//! `credvault audit`: who changed what, and whether the record is whole.

mod verify;

use std::collections::VecDeque;
use std::process::ExitCode;

use clap::Subcommand;

use super::client::{Connection, NO_ACCOUNT, Options, Whose};
use super::terminal::harmless;
use super::{note, or_not_asked, render};
use crate::grpc::proto::{
    AuditEntry, AuditFilter, ListAuditEntriesRequest, ListAuditEntriesResponse,
};

/// Read the audit log, and check that nothing in it was changed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault audit list
  credvault audit list --last 20
  credvault audit list --resource accounts/acme/credentials/desk-1
  credvault audit verify --account acme
  credvault audit list --vault           what operators did, and refusals of strangers")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListArgs),
    Verify(verify::Args),
}

/// List the audit entries of an account, or of the vault, oldest first
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those on this resource, by its whole name
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    resource: String,
    /// How many at the most; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Only the newest; all are read to get there
    #[arg(long, value_name = "N", conflicts_with = "limit")]
    last: Option<usize>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(args).await.map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => Ok(or_not_asked(verify::run(args).await)),
    }
}

/// The request for a page of a chain.
fn page(parent: &str, resource: &str, page_token: String) -> ListAuditEntriesRequest {
    ListAuditEntriesRequest {
        parent: parent.to_owned(),
        page_size: 200,
        page_token,
        filter: Some(AuditFilter { resource: resource.to_owned() }),
    }
}

/// The last entries of all, without holding more.
async fn newest(
    connection: &Connection,
    request: impl FnMut(String) -> ListAuditEntriesRequest,
    most: usize,
) -> anyhow::Result<Vec<AuditEntry>> {
    let mut newest = VecDeque::new();
    let take = |page: ListAuditEntriesResponse| {
        newest.extend(page.entries);
        newest.drain(..newest.len().saturating_sub(most));
        page.next_page_token
    };
    connection.pages(request, take, NO_ACCOUNT).await?;
    Ok(newest.into())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let connection = args.options.connect_for(args.whose)?;
    let parent = connection.parent()?;
    let request = |token| page(&parent, &args.resource, token);
    let open = |page: ListAuditEntriesResponse| (page.entries, page.next_page_token);
    let (entries, is_cut) = match args.last {
        Some(last) => (newest(&connection, request, last).await?, false),
        None => connection.list(request, open, limit, NO_ACCOUNT).await?,
    };
    let answer = ListAuditEntriesResponse { entries, ..ListAuditEntriesResponse::default() };
    let columns =
        ["sequence", "time", "principal", "method", "resource", "outcome", "detail", "reason"];
    let nothing = if args.resource.is_empty() {
        format!("Nothing has happened in {parent} yet.")
    } else {
        format!(
            "Nothing in {parent} is about {}. The whole name is needed, such as {parent}/credentials/desk-1.",
            harmless(&args.resource)
        )
    };
    render::list(output, &answer, &answer.entries, &columns, &nothing)?;
    if is_cut {
        note(format_args!("There are more than {limit}; --limit 0 lists all."));
    }
    Ok(())
}
