//! `credvault rotations`: rotations that outlive their command, seen, ended and sped up; and those to come.

mod plan;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, builder::PossibleValuesParser};

use super::client::{Change, Connection, Options, Output, told};
use super::terminal::harmless;
use super::{note, render, say, secrets};
use crate::clock::SystemClock;
use crate::crypto;
use crate::grpc::client::CallError;
use crate::grpc::json;
use crate::grpc::proto::{
    CancelRotationRequest, ConfirmRotationRequest, GetRotationRequest, ListRotationsRequest,
    ListRotationsResponse, ResumeRotationRequest, Rotation, RotationFilter, RotationState,
};
use crate::rotation::RotationName;
use crate::secret::SecretText;
use words::print;
pub(super) use words::{
    advice, advise, awaits_carrier, calls, for_carrier, for_person, how_to_open, is_of_token,
    next_call, old_ended, refusal, secret, trouble,
};

/// What helps when a rotation is not there.
pub(super) const NOT_FOUND: &str = "`credvault rotations list` shows which there are; of each credential and \
     provider the last twenty, and all that are not over";

/// Where a rotation may stand, as it is typed.
const STATES: [&str; 9] = [
    "pending",
    "applying",
    "verifying",
    "holding",
    "finishing",
    "succeeded",
    "cancelling",
    "cancelled",
    "needs-attention",
];

/// See, confirm and cancel rotations that wait for their recipient or for a carrier, and plan those to come
///
/// They are of the passwords of credentials, and of the tokens of providers (`credvault providers rotate-token`). One is
/// named as `credvault rotations list` shows it, such as desk-1/x0198c2a1… of a credential and providers/main/x0198c2a1… of
/// a provider; by what follows its account, credentials/desk-1/rotations/x0198c2a1…; or by its whole name.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations list --state holding                            those that wait for their confirmation
  credvault rotations list --state applying                           those that wait for their carrier
  credvault rotations show desk-1/x0198c2a1…
  credvault rotations confirm desk-1/x0198c2a1… --password-file desk-1.password
  credvault rotations confirm providers/main/x0198c2a1…               of a token: the old one ends now
  credvault rotations cancel desk-1/x0198c2a1… --reason 'phone unreachable'
  credvault rotations resume desk-1/x0198c2a1…                        the carrier is up again: ask it now
  credvault rotations plan                                            what the vault is going to rotate by itself")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cancel(CancelArgs),
    Confirm(ConfirmArgs),
    List(ListArgs),
    Resume(ResumeArgs),
    Plan(plan::Args),
    Show(ShowArgs),
}

/// Give up a rotation that waits: the new password or token dies, the old one stays
///
/// Who uses the new one already is refused from then on. One that has succeeded cannot be cancelled: rotate again. At a
/// carrier it can be cancelled until that may have changed the password, or ended the old token: from then on the vault
/// finds out, and finishes by itself. A new token is removed at the carrier first.
#[derive(Debug, clap::Args)]
struct CancelArgs {
    /// Which, such as desk-1/x0198c2a1…
    rotation: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// Say that the new password or token arrived: its sealed form is gone, and the old one dies if it waited for this
///
/// A rotation with --require-confirmation wants a proof, which is computed here from the new password or token: that
/// itself is not sent. At a carrier a new password is set by this, and not before. `credvault rotate` confirms by itself.
///
/// Of a provider's token it says that all who hold the old one have the new one: the old one ends now, and not when its
/// --hold is over.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations confirm desk-1/x0198c2a1… --password-file desk-1.password
  credvault open sealed.json --key-file ops.key | credvault rotations confirm desk-1/x0198c2a1… --password-file -
  credvault rotations confirm desk-1/x0198c2a1…              no proof: for a rotation that does not wait for one
  credvault rotations confirm providers/main/x0198c2a1… --password-file twilio.token")]
struct ConfirmArgs {
    /// Which, such as desk-1/x0198c2a1…
    rotation: String,
    /// The new password, or token: in a file that only you may read; or -, to pipe it in or be asked for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// List rotations of an account, or of one credential or provider, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations list
  credvault rotations list desk-1
  credvault rotations list providers/main                 those of a provider's token
  credvault rotations list --state holding
  credvault rotations list --state applying               their carriers have not answered yet
  credvault rotations list --state needs-attention        nobody confirmed for 30 days, or a carrier refuses or does not
                                                          answer: a person should see to it")]
struct ListArgs {
    /// Only those of this credential, by its id, or of this provider, as providers/ID; or by its whole name
    #[arg(value_name = "CREDENTIAL | providers/PROVIDER")]
    of: Option<String>,
    /// Only those that stand so
    #[arg(long, value_name = "STATE",
        value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// How many at the most; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    options: Options,
}

/// Show a rotation with its steps, and whether its sealed password or token is still there
///
/// With --output json the sealed secret is part of the answer: `credvault open` takes all of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations show desk-1/x0198c2a1…
  credvault rotations show desk-1/x0198c2a1… --output json | credvault open - --key-file ops.key")]
struct ShowArgs {
    /// Which, such as desk-1/x0198c2a1…
    rotation: String,
    #[command(flatten)]
    options: Options,
}

/// Have a rotation that waits for its carrier ask at once, and say how that ended
///
/// It is never needed, since the vault goes on by itself, ever more rarely, and at last every five minutes: type it when
/// a carrier is up again, or when what it refused is mended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations list --state needs-attention
  credvault rotations resume desk-1/x0198c2a1… --reason 'token updated'")]
struct ResumeArgs {
    /// Which, such as desk-1/x0198c2a1…
    rotation: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Cancel(args) => cancel(args).await?,
        Command::Confirm(args) => confirm(args).await?,
        Command::List(args) => list(args).await?,
        Command::Resume(args) => resume(args).await?,
        Command::Plan(args) => plan::run(args, &SystemClock).await?,
        Command::Show(args) => show(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The whole name of what is called `desk-1/x1`, `providers/main/x1`, `credentials/desk-1/rotations/x1`, or by its whole
/// name already.
fn name(connection: &Connection, text: &str) -> anyhow::Result<String> {
    let which = || {
        format!(
            "which rotation is {}? Write it as `credvault rotations list` shows it, such as desk-1/x0198c2a1… or \
             providers/main/x0198c2a1…",
            harmless(text)
        )
    };
    let whole = if text.starts_with("accounts/") {
        text.to_owned()
    } else {
        let (collection, short) = of_collection(text);
        let parts = short.split_once("/rotations/").or_else(|| short.split_once('/'));
        let (resource, id) = parts.with_context(which)?;
        format!("{}/{collection}/{resource}/rotations/{id}", connection.account()?)
    };
    let parsed = RotationName::parse(&whole).ok().with_context(which)?;
    Ok(parsed.to_string())
}

/// What is rotated, of which collection, and the rest of its name: of credentials, if nothing is said.
fn of_collection(text: &str) -> (&'static str, &str) {
    match text.strip_prefix("providers/") {
        Some(provider) => ("providers", provider),
        None => ("credentials", text.strip_prefix("credentials/").unwrap_or(text)),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let connection = args.options.connect()?;
    let parent = match args.of.as_deref().map(of_collection) {
        Some((collection, id)) => connection.name(collection, id)?,
        None => connection.account()?,
    };
    let of_token = is_of_token(&parent);
    let state = args.state.as_ref().and_then(|state| {
        let name = format!("ROTATION_STATE_{}", state.to_uppercase().replace('-', "_"));
        RotationState::from_str_name(&name)
    });
    let filter = RotationFilter { state: state.unwrap_or_default().into() };
    let request = |page_token| ListRotationsRequest {
        parent: parent.clone(),
        page_size: 200,
        page_token,
        filter: Some(filter),
    };
    let open = |page: ListRotationsResponse| (page.rotations, page.next_page_token);
    let not_found = if of_token {
        "`credvault providers list` shows which there are"
    } else {
        "`credvault credentials list` shows which there are; of a provider, write providers/ID"
    };
    let (rotations, is_cut) = connection.list(request, open, limit, not_found).await?;
    let answer = ListRotationsResponse { rotations, ..ListRotationsResponse::default() };
    let nothing = match &args.state {
        Some(state) => format!("No rotation of {} is {state}.", harmless(&parent)),
        None if of_token => format!(
            "There is none of {}: `credvault providers rotate-token` begins one",
            harmless(&parent)
        ),
        None => format!(
            "There is none of {}: only rotations for a recipient, with --require-confirmation, and at a carrier are \
             kept. `credvault credentials versions ID` tells of others",
            harmless(&parent)
        ),
    };
    let columns = ["name", "state", "version", "create_time", "expire_time", "end_time"];
    render::list(output, &answer, &answer.rotations, &columns, &nothing)?;
    if is_cut {
        note(format_args!("There are more than {limit}; --limit 0 lists all."));
    }
    Ok(())
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = GetRotationRequest { name: name(&connection, &args.rotation)? };
    let answer = connection.ask(request, NOT_FOUND).await?;
    let Some(rotation) = answer.rotation.as_ref().filter(|_| output == Output::Table) else {
        return say(render::json(&answer)?);
    };
    print(rotation)?;
    if answer.sealed.is_some() {
        note(how_to_open(rotation));
    }
    advise(rotation);
    Ok(())
}

/// A request that proves with the new password that it arrived.
pub(super) fn confirmation(
    name: String,
    password: Option<&SecretText>,
    reason: String,
) -> ConfirmRotationRequest {
    let proof = password.map(|password| crypto::proof_of(password, &name).to_vec());
    ConfirmRotationRequest { name, proof: proof.unwrap_or_default(), reason }
}

async fn confirm(args: ConfirmArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = name(&connection, &args.rotation)?;
    let what = secret(&name);
    let password = args.password_file.map(|file| secrets::read(&file, &format!("new {what}")));
    let password = password.transpose()?.map(SecretText::new);
    let request = confirmation(name, password.as_ref(), args.change.reason);
    let answer = match connection.call(request).await {
        Ok(answer) => answer,
        Err(CallError::Refused { reason, message, .. })
            if reason == "INVALID_FIELD" && message.starts_with("proof ") =>
        {
            let refused = CallError::Refused { reason, message, resource: None, retry_after: None };
            let next = match password {
                None => format!("Prove that the new {what} arrived: --password-file FILE"),
                Some(_) => format!("That is not the new {what}, or that of another rotation"),
            };
            anyhow::bail!("{}\n{next}", told(&refused));
        }
        Err(error) => return Err(connection.explain::<ConfirmRotationRequest>(&error, NOT_FOUND)),
    };
    show_end(output, &answer, answer.rotation.as_ref())
}

async fn cancel(args: CancelArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = name(&connection, &args.rotation)?;
    let request = CancelRotationRequest { name, reason: args.change.reason };
    let answer = connection.ask(request, NOT_FOUND).await?;
    show_end(output, &answer, answer.rotation.as_ref())
}

async fn resume(args: ResumeArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = name(&connection, &args.rotation)?;
    let request = ResumeRotationRequest { name, reason: args.change.reason };
    let answer = connection.ask(request, NOT_FOUND).await?;
    show_end(output, &answer, answer.rotation.as_ref())
}

/// Prints how a rotation ended, or what it waits for now.
fn show_end<A: json::Described>(
    output: Output,
    answer: &A,
    rotation: Option<&Rotation>,
) -> anyhow::Result<()> {
    match rotation {
        Some(rotation) if output == Output::Table => {
            print(rotation)?;
            advise(rotation);
            Ok(())
        }
        _ => say(render::json(answer)?),
    }
}
