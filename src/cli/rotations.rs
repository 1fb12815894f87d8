//! `credvault rotations`: rotations that outlive their command, seen, ended and sped up; and those to come.

mod plan;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, builder::PossibleValuesParser};

use super::client::{Change, Connection, Options, Output, told};
use super::terminal::harmless;
use super::{note, render, say, secrets};
use crate::clock::SystemClock;
use crate::crypto;
use crate::grpc::client::{CallError, time};
use crate::grpc::json;
use crate::grpc::proto::{
    CancelRotationRequest, ConfirmRotationRequest, GetRotationRequest, ListRotationsRequest,
    ListRotationsResponse, ResumeRotationRequest, Rotation, RotationFilter, RotationState,
    RotationStep, RotationStepKind, RotationStepOutcome,
};
use crate::rotation::{INTERRUPTED, RotationName};
use crate::secret::SecretText;

/// What helps when a rotation is not there.
pub(super) const NOT_FOUND: &str = "`credvault rotations list` shows which there are; of each credential the last twenty, \
     and all that are not over";

/// Where a rotation may stand, as it is typed.
const STATES: [&str; 6] =
    ["pending", "applying", "holding", "succeeded", "cancelled", "needs-attention"];

/// See, confirm and cancel rotations that wait for their recipient or for a carrier, and plan those to come
///
/// A rotation is named as `credvault rotations list` shows it, such as desk-1/x0198c2a1…; by what follows its account,
/// credentials/desk-1/rotations/x0198c2a1…; or by its whole name.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations list --state holding                            those that wait for their confirmation
  credvault rotations list --state applying                           those that wait for their carrier
  credvault rotations show desk-1/x0198c2a1…
  credvault rotations confirm desk-1/x0198c2a1… --password-file desk-1.password
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

/// Give up a rotation that waits: the new password dies, the old one stays
///
/// Who uses the new password already is refused from then on. One that has succeeded cannot be cancelled: rotate again.
/// At a carrier it can be cancelled until that may have changed the password: from then on the vault finds out, and
/// finishes by itself.
#[derive(Debug, clap::Args)]
struct CancelArgs {
    /// Which, such as desk-1/x0198c2a1…
    rotation: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// Say that the new password arrived: its sealed form is gone, and the old password dies if it waited for this
///
/// A rotation with --require-confirmation wants a proof, which is computed here from the new password: that itself is
/// not sent. At a carrier the new password is set by this, and not before. `credvault rotate` confirms by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations confirm desk-1/x0198c2a1… --password-file desk-1.password
  credvault open sealed.json --key-file ops.key | credvault rotations confirm desk-1/x0198c2a1… --password-file -
  credvault rotations confirm desk-1/x0198c2a1…              no proof: for a rotation that does not wait for one")]
struct ConfirmArgs {
    /// Which, such as desk-1/x0198c2a1…
    rotation: String,
    /// The new password: in a file that only you may read; or -, to pipe it in or be asked for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// List rotations of an account, or of one credential, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations list
  credvault rotations list desk-1
  credvault rotations list --state holding
  credvault rotations list --state applying               their carriers have not answered yet
  credvault rotations list --state needs-attention        nobody confirmed for 30 days, or a carrier refuses or does not
                                                          answer: a person should see to it")]
struct ListArgs {
    /// Only those of this credential: its id, or whole name
    credential: Option<String>,
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

/// Show a rotation with its steps, and whether its sealed password is still there
///
/// With --output json the sealed password is part of the answer: `credvault open` takes all of it.
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

/// The whole name of what is called `desk-1/x1`, `credentials/desk-1/rotations/x1`, or by its whole name already.
fn name(connection: &Connection, text: &str) -> anyhow::Result<String> {
    let which = || {
        format!(
            "which rotation is {}? Write it as `credvault rotations list` shows it, such as desk-1/x0198c2a1…",
            harmless(text)
        )
    };
    let whole = if text.starts_with("accounts/") {
        text.to_owned()
    } else {
        let short = text.strip_prefix("credentials/").unwrap_or(text);
        let parts = short.split_once("/rotations/").or_else(|| short.split_once('/'));
        let (credential, id) = parts.with_context(which)?;
        format!("{}/credentials/{credential}/rotations/{id}", connection.account()?)
    };
    let parsed = RotationName::parse(&whole).ok().with_context(which)?;
    Ok(parsed.to_string())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let connection = args.options.connect()?;
    let parent = match &args.credential {
        Some(credential) => connection.name("credentials", credential)?,
        None => connection.account()?,
    };
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
    let not_found = "`credvault credentials list` shows which there are";
    let (rotations, is_cut) = connection.list(request, open, limit, not_found).await?;
    let answer = ListRotationsResponse { rotations, ..ListRotationsResponse::default() };
    let nothing = match &args.state {
        Some(state) => format!("No rotation of {} is {state}.", harmless(&parent)),
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
        let name = render::short(&rotation.name);
        note(format_args!(
            "Its password is there, sealed: `credvault rotations show {} --output json | credvault open - --key-file \
             FILE` opens it",
            harmless(&name)
        ));
    }
    advise(rotation);
    Ok(())
}

/// Prints a rotation: its fields, whether its secret is there, and a line for each step.
fn print(rotation: &Rotation) -> anyhow::Result<()> {
    let mut lines = json::fields(rotation)?;
    lines.retain(|(name, _)| !name.starts_with("steps["));
    let sealed = match time(rotation.expire_time) {
        Some(until) => format!("there, until {until} or its confirmation"),
        None => "not there".to_owned(),
    };
    lines.push(("sealed secret".to_owned(), sealed));
    for step in &rotation.steps {
        let what = match step.kind() {
            RotationStepKind::Store => "the new password is stored beside the active one",
            RotationStepKind::Activate => "the new password is the active one",
            RotationStepKind::Confirm => "its recipient has it",
            RotationStepKind::Cancel => "cancelled",
            RotationStepKind::Expire => "its time has passed",
            RotationStepKind::Apply => "the carrier was asked",
            RotationStepKind::Wait => "it needs a person",
            RotationStepKind::Unspecified => "something that is not known here",
        };
        let when = time(step.time).map_or(String::new(), |it| it.strftime("%FT%TZ  ").to_string());
        let ended = ended(step).map_or(String::new(), |ended| format!(": {ended}"));
        let more = if step.message.is_empty() { "" } else { ": " };
        lines.push(("step".to_owned(), format!("{when}{what}{ended}{more}{}", step.message)));
    }
    render::lines(lines)
}

/// How a step ended at its carrier. None: it was no call.
fn ended(step: &RotationStep) -> Option<String> {
    let how = match step.outcome() {
        _ if step.kind() != RotationStepKind::Apply => return None,
        RotationStepOutcome::Done => "it did so",
        RotationStepOutcome::Refused => "it said no, and did nothing",
        RotationStepOutcome::NotDone => "nothing was done",
        RotationStepOutcome::Unknown if step.reason == INTERRUPTED => {
            "the vault was stopped before the answer came, so it may be done"
        }
        RotationStepOutcome::Unknown => "no answer says whether it was done",
        RotationStepOutcome::Unspecified => "how that ended is not known here",
    };
    let reason = &step.reason;
    Some(if reason.is_empty() { how.to_owned() } else { format!("{how} ({reason})") })
}

/// How often the carrier was asked, and how the last call ended.
pub(super) fn calls(rotation: &Rotation) -> (usize, Option<String>) {
    let mut calls = rotation.steps.iter().filter(|step| step.kind() == RotationStepKind::Apply);
    (calls.clone().count(), calls.next_back().and_then(ended))
}

/// Why the carrier refused a rotation, if that ended it.
pub(super) fn refusal(rotation: &Rotation) -> Option<&str> {
    let last = rotation.steps.last().filter(|_| rotation.state() == RotationState::Cancelled)?;
    (last.outcome() == RotationStepOutcome::Refused).then_some(last.reason.as_str())
}

/// Whether its next step is a call to a carrier, or the answer to one.
pub(super) fn awaits_carrier(rotation: &Rotation) -> bool {
    rotation.next_call_time.is_some()
}

/// Says what a rotation waits for, and what can be done about that.
pub(super) fn advise(rotation: &Rotation) {
    let name = harmless(&render::short(&rotation.name));
    match rotation.state() {
        _ if awaits_carrier(rotation) => note(for_carrier(rotation)),
        RotationState::Holding | RotationState::NeedsAttention => note(format_args!(
            "Both passwords work until `credvault rotations confirm {name} --password-file FILE`, with the new one in \
             FILE; `credvault rotations cancel {name}` gives it up. At a carrier only the old one works until then"
        )),
        _ => {}
    }
}

/// What is known of a rotation that waits for its carrier, and what can be done.
pub(super) fn for_carrier(rotation: &Rotation) -> String {
    let name = harmless(&render::short(&rotation.name));
    let waits = rotation.steps.iter().rfind(|step| step.kind() == RotationStepKind::Wait);
    let waits = waits.filter(|_| rotation.state() == RotationState::NeedsAttention);
    let known = match waits.map(|step| harmless(&step.message)) {
        Some(message) => format!("It needs a person: {message}"),
        None if rotation.uncertain => {
            "The new password may be in force at the carrier, though no answer says so: \
             the vault asks until it knows, and keeps what may be in force"
                .to_owned()
        }
        None => "Nothing has changed at the carrier yet: the vault goes on asking".to_owned(),
    };
    let due =
        time(rotation.next_call_time).map_or(String::new(), |it| it.strftime("%FT%TZ").to_string());
    let cancel = if rotation.uncertain {
        String::new()
    } else {
        format!("; `credvault rotations cancel {name}` gives it up")
    };
    format!(
        "{known}. The next call is due by {due}; `credvault rotations resume {name}` asks at once{cancel}"
    )
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
    let password = args.password_file.map(|file| secrets::read(&file, "new password"));
    let password = password.transpose()?.map(SecretText::new);
    let request = confirmation(name, password.as_ref(), args.change.reason);
    let answer = match connection.call(request).await {
        Ok(answer) => answer,
        Err(CallError::Refused { reason, message, .. })
            if reason == "INVALID_FIELD" && message.starts_with("proof ") =>
        {
            let refused = CallError::Refused { reason, message, resource: None, retry_after: None };
            let next = match password {
                None => "Prove that the new password arrived: --password-file FILE",
                Some(_) => "That is not the new password, or that of another rotation",
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
