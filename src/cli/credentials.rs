//! `credvault credentials`: SIP credentials. A password is printed by the command that issues it, and by no other.

mod digest;
mod import;
mod issue;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;

use super::client::{Change, Connection, NO_ACCOUNT, Options, Output, Retry};
use super::rotation_policy::Policy;
use super::terminal::harmless;
use super::{note, or_not_asked, render, say, secrets};
use crate::clock::{Clock as _, SystemClock};
use crate::grpc::client::{field_mask, timestamp};
use crate::grpc::proto::{
    Credential, CredentialFilter, DeleteCredentialRequest, GetCredentialRequest,
    ListCredentialsRequest, ListCredentialsResponse, ListVersionsRequest, ProviderType,
    UpdateCredentialRequest,
};

/// What helps when a credential is not there.
const NOT_FOUND: &str = "`credvault credentials list` shows which there are";

/// Issue, rotate and look at SIP credentials
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault credentials create desk-1 --username desk-1 --realm sip.example.com
  credvault credentials rotate desk-1 --reason 'phone lost'
  credvault credentials list --rotated-before 2026-01-31T00:00:00Z
  credvault credentials versions desk-1
  credvault credentials watch
  credvault credentials import phones.csv --out phones.passwords.csv")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    ComputeDigest(digest::ComputeArgs),
    Create(issue::CreateArgs),
    Delete(DeleteArgs),
    Get(GetArgs),
    Import(import::Args),
    IssueChallenge(digest::ChallengeArgs),
    List(ListArgs),
    Rotate(issue::RotateArgs),
    Update(UpdateArgs),
    VerifyDigest(digest::VerifyArgs),
    VerifyDigests(digest::BatchArgs),
    Versions(VersionsArgs),
    Watch(watch::Args),
}

/// Show what is known of a credential: everything but its password
#[derive(Debug, clap::Args)]
struct GetArgs {
    /// Its id, or whole name
    credential: String,
    #[command(flatten)]
    options: Options,
}

/// List an account's credentials
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault credentials list --realm sip.example.com --label site=berlin
  credvault credentials list --rotated-before 2026-01-31T00:00:00Z          those whose password is older
  credvault credentials list --due                                          those that the vault should have rotated
  credvault credentials list --carrier vobiz                                those that live there
  credvault credentials list --limit 0 --output json | jq -r .credentials[].username")]
struct ListArgs {
    /// Only those of this realm
    #[arg(long, value_name = "REALM", default_value = "", hide_default_value = true)]
    realm: String,
    /// Only those whose username begins so, ordered by username instead of id
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    username_prefix: String,
    /// Only those with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only those that are enabled (true) or disabled (false)
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// Only those whose password is older, such as 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    rotated_before: Option<Timestamp>,
    /// Only those that live at this provider: its id, or whole name
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,
    /// Only those that live at this carrier
    #[arg(long, value_name = "CARRIER",
        value_parser = PossibleValuesParser::new(["twilio", "vobiz", "telepath"]))]
    carrier: Option<String>,
    /// Only those that are due by their rotation policy now; what is in the way is shown
    #[arg(long, conflicts_with = "due_before")]
    due: bool,
    /// Only those that are due by their rotation policy before then
    #[arg(long, value_name = "TIME", value_parser = time)]
    due_before: Option<Timestamp>,
    /// How many at the most; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    options: Options,
}

/// Change a credential: only what is named
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault credentials update desk-1 --enabled false --reason 'phone lost'
  credvault credentials update desk-1 --label site=berlin --label floor=2
  credvault credentials update desk-1 --password-file -                     asks for the new password
  credvault credentials update desk-1 --rotate-every 90d --rotate-window '02:00-04:00 Europe/Berlin mon-fri' \\
    --rotate-for ops --rotate-overlap 1d                                    `credvault rotations plan` says when
  credvault credentials update desk-1 --no-rotation-policy")]
struct UpdateArgs {
    /// Its id, or whole name
    credential: String,
    /// What it is, in words for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// All its labels from now on; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Take all labels away
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// Whether digest checks may succeed
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// A new password of your own: in a file that only you may read; or -, to pipe it in or be asked for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Take its rotation policy away
    #[arg(long, conflicts_with = "rotate_every")]
    no_rotation_policy: bool,
    /// Only if this is still its etag
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    policy: Policy,
}

/// Delete a credential for good, with its password
#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// Its id, or whole name
    credential: String,
    /// Only if this is still its etag
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: Options,
}

/// List the versions of a password: what they are, and when and how often each was used
///
/// The active one, those that work beside it, and the last ten that do not any more; newest first. So the minutes after a
/// rotation can be watched: an old version that is still used has phones that were not told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  credvault credentials versions desk-1")]
struct VersionsArgs {
    /// Its id, or whole name
    credential: String,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => issue::create(args).await?,
        Command::Delete(args) => delete(args).await?,
        Command::Get(args) => get(args).await?,
        Command::Import(args) => return Ok(or_not_asked(import::run(args).await)),
        Command::ComputeDigest(args) => digest::compute(args).await?,
        Command::IssueChallenge(args) => digest::challenge(args).await?,
        Command::List(args) => list(args).await?,
        Command::Rotate(args) => issue::rotate(args).await?,
        Command::Update(args) => update(args).await?,
        Command::VerifyDigest(args) => {
            return Ok(or_not_asked(digest::verify(args).await));
        }
        Command::VerifyDigests(args) => {
            return Ok(or_not_asked(digest::verify_all(args).await));
        }
        Command::Versions(args) => versions(args).await?,
        Command::Watch(args) => watch::run(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(args: GetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = connection.name("credentials", &args.credential)?;
    let answer = connection.ask(GetCredentialRequest { name }, NOT_FOUND).await?;
    render::one(output, &answer, answer.credential.as_ref())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let connection = args.options.connect()?;
    let provider = args.provider.map(|it| connection.name("providers", &it)).transpose()?;
    let carrier = args.carrier.and_then(|carrier| {
        ProviderType::from_str_name(&format!("PROVIDER_TYPE_{}", carrier.to_uppercase()))
    });
    let filter = CredentialFilter {
        enabled: args.enabled,
        realm: args.realm,
        username_prefix: args.username_prefix,
        labels: args.labels.into_iter().collect(),
        rotated_before: args.rotated_before.map(timestamp),
        provider: provider.unwrap_or_default(),
        provider_type: carrier.unwrap_or_default().into(),
        due_before: args.due_before.or(args.due.then(|| SystemClock.now())).map(timestamp),
    };
    let is_due = filter.due_before.is_some();
    let is_filtered = filter != CredentialFilter::default();
    let parent = connection.account()?;
    let request = |page_token| ListCredentialsRequest {
        parent: parent.clone(),
        page_size: 200,
        page_token,
        filter: Some(filter.clone()),
    };
    let open = |page: ListCredentialsResponse| (page.credentials, page.next_page_token);
    let (credentials, is_cut) = connection.list(request, open, limit, NO_ACCOUNT).await?;
    let answer = ListCredentialsResponse { credentials, ..ListCredentialsResponse::default() };
    let nothing = if is_filtered {
        "No credential is like that; without the filters, all are listed.".to_owned()
    } else {
        format!(
            "There is no credential in {parent} yet. To create one:\n\n  \
             credvault credentials create desk-1 --username desk-1 --realm sip.example.com"
        )
    };
    let mut columns = vec!["name", "username", "realm"];
    if is_due {
        columns.extend(["rotate_time", "next_rotation_time", "rotation_block"]);
    } else {
        columns.extend(["enabled", "version", "rotate_time"]);
    }
    // Most accounts have none at a carrier, and need no column that says so.
    if answer.credentials.iter().any(|it| !it.provider.is_empty()) {
        columns.push("provider");
    }
    if !is_due {
        columns.push("description");
    }
    render::list(output, &answer, &answer.credentials, &columns, &nothing)?;
    if is_cut {
        note(format_args!("There are more than {limit}; --limit 0 lists all."));
    }
    Ok(())
}

async fn update(args: UpdateArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let rotation_policy = args.policy.policy(&connection)?;
    let mut paths = Vec::new();
    for (path, is_named) in [
        ("description", args.description.is_some()),
        ("labels", !args.labels.is_empty() || args.no_labels),
        ("enabled", args.enabled.is_some()),
        ("rotation_policy", rotation_policy.is_some() || args.no_rotation_policy),
    ] {
        if is_named {
            paths.push(path);
        }
    }
    if paths.is_empty() && args.password_file.is_none() {
        bail!(
            "nothing to change: name --description, --label, --enabled, --rotate-every or --password-file"
        );
    }
    let password = args.password_file.as_deref().map(secrets::password).transpose()?;
    let request = UpdateCredentialRequest {
        credential: Some(Credential {
            name: connection.name("credentials", &args.credential)?,
            description: args.description,
            labels: args.labels.into_iter().collect(),
            enabled: args.enabled,
            rotation_policy,
            etag: args.etag,
            ..Credential::default()
        }),
        // The password lies outside of the mask.
        update_mask: (!paths.is_empty()).then(|| field_mask(&paths)),
        password,
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NOT_FOUND).await?;
    render::one(output, &answer, answer.credential.as_ref())
}

async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = connection.name("credentials", &args.credential)?;
    let request = DeleteCredentialRequest {
        name: name.clone(),
        etag: args.etag,
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NOT_FOUND).await?;
    note(format_args!("{name} is deleted"));
    render::one(output, &answer, None::<&Credential>)
}

async fn versions(args: VersionsArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.name("credentials", &args.credential)?;
    let answer = connection.ask(ListVersionsRequest { parent }, NOT_FOUND).await?;
    let columns = [
        "version",
        "state",
        "create_time",
        "retire_time",
        "destroy_time",
        "last_success_time",
        "success_count",
        "failure_count",
    ];
    render::list(output, &answer, &answer.versions, &columns, "There is none.")
}

/// Parses a time.
fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write a time such as 2026-01-31T00:00:00Z".to_owned())
}

/// Parses `KEY=VALUE`.
fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}
