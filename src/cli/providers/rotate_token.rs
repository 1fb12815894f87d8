//! `credvault providers rotate-token`: a new token that the carrier makes. What that does to others is said before; and who
//! wants to waits until the old one is dead.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::{NOT_FOUND, client};
use crate::cli::client::{Change, Connection, Output, Retry};
use crate::cli::rotate::caution::agreed;
use crate::cli::rotate::length;
use crate::cli::rotate::patience::{Patience, Trouble};
use crate::cli::terminal::harmless;
use crate::cli::{note, recipient_keys, render, rotations, say};
use crate::grpc::client::{CallError, duration, time};
use crate::grpc::proto::provider::Kind;
use crate::grpc::proto::{
    GetProviderRequest, GetRotationRequest, GetRotationResponse, Provider, RotateTokenRequest,
    Rotation, RotationState,
};

/// How long to wait before it is asked again how far a rotation is.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Have the carrier make a new token in place of the stored one, which ends; at Twilio only
///
/// The vault does it step by step, as said below, and goes on by itself whatever is lost or stopped on the way. It takes a
/// minute at the least. This command says how it began, and --wait waits for its end. Until the old token may have ended,
/// `credvault rotations cancel` gives the new one up.
///
/// Whoever else holds the old token, outside of the vault, is refused once it ends, and must have the new one before:
/// name his enrolled key with --recipient-key, and give him time with --hold, or with --require-confirmation until he has
/// proved that he holds it. He finds the new token, sealed, with `credvault rotations show`, opens it with `credvault open`,
/// and says with `credvault rotations confirm` that he has it, which ends the old one at once. While both work, Twilio
/// signs webhooks with the old Auth Token. If no key is named, the new token never leaves the vault: this command asks
/// whether that is meant; where there is no terminal it wants --yes.
///
/// A secondary Auth Token that the account has already is replaced. An API key must be a Main key, and what takes its place
/// is a Standard key, which cannot be rotated in turn. Vobiz and Telepath have one token at a time: make another in their
/// console, and `credvault providers update-token`.
///
/// With --wait, --output json prints at the end what `credvault rotations show` prints.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What happens:
  1. applying    Twilio makes a second token beside the old one (an Auth Token's secondary one; of an
                 API key, another key), and the vault keeps it
  2. verifying   the new one is tried until it works
  3. holding     both work, at Twilio as well: a minute, or --hold, or until it is confirmed
  4. finishing   Twilio ends the old one, and the new one is the provider's; the old one is tried
                 until it is refused
  5. succeeded   for a day, each verification looks whether the old one stays refused

Examples:
  credvault providers rotate-token main --wait                    asks first: nobody else gets it
  credvault providers rotate-token main --yes --wait              in a script; 0: the old one is dead
  credvault providers rotate-token main --recipient-key ops --hold 2h
  credvault providers rotate-token main --recipient-key ops --require-confirmation
  credvault rotations list providers/main                         how far it is
  credvault rotations show providers/main/x0198c2a1… --output json > sealed.json
  credvault open sealed.json --key-file ops.key --out new.token   where the key of ops is
  credvault rotations confirm providers/main/x0198c2a1… --password-file new.token")]
pub(super) struct Args {
    /// Its id, or whole name
    provider: String,
    /// How long both tokens work, such as 15m, 2h or 7d; at most 30d [default: a minute, which is the least]
    #[arg(long, value_name = "DURATION", value_parser = length)]
    hold: Option<SignedDuration>,
    /// Keep the old token until somebody proves that he holds the new one, however long that takes
    #[arg(long, requires = "recipient_key")]
    require_confirmation: bool,
    /// Have the new token sealed for this enrolled key, by its id or whole name [default: it never leaves the vault]
    #[arg(long, value_name = "KEY")]
    recipient_key: Option<String>,
    /// Only if this is still the provider's etag
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    /// Do not ask whether nobody else needs the new token
    #[arg(long)]
    yes: bool,
    /// Wait until the rotation ends, and say on standard error how far it is
    #[arg(long)]
    wait: bool,
    /// How long to try again when the vault is not there or its answer is lost; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = length)]
    retry_for: SignedDuration,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: client::Options,
}

/// A rotation that this command began.
struct Run {
    connection: Connection,
    patience: Patience,
    request: RotateTokenRequest,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let output = args.options.output;
    let mut patience = Patience::new(Duration::try_from(args.retry_for).unwrap_or_default())?;
    let connection = args.options.clone().connect()?;
    let name = connection.name("providers", &args.provider)?;
    let recipient = recipient_keys::recipient(&connection, args.recipient_key.as_deref())?;
    caution(&connection, &mut patience, &name, &args).await?;
    let request = RotateTokenRequest {
        name,
        hold: args.hold.map(duration),
        require_confirmation: args.require_confirmation,
        recipient,
        etag: args.etag,
        request_id: args.retry.id()?,
        reason: args.change.reason,
    };
    let mut run = Run { connection, patience, request };
    let doing = format!("rotating the token of {}", run.provider());
    let answer = match run.patience.ask(&run.connection, &run.request, &doing).await {
        Ok(answer) => answer,
        Err(trouble) => return Err(run.unanswered(trouble).await),
    };
    let rotation = answer.rotation.as_ref().context("the answer has no rotation")?;
    if args.wait {
        let ended = run.wait(rotation.clone()).await?;
        let rotation = ended.rotation.as_ref().context("the answer has no rotation")?;
        match output {
            Output::Json => say(render::json(&ended)?)?,
            Output::Table => print(rotation)?,
        }
        run.verdict(rotation)?;
        note(format_args!(
            "{}: token version {}; the old one is refused",
            harmless(&run.request.name),
            rotation.version
        ));
        return Ok(());
    }
    match output {
        Output::Json => say(render::json(&answer)?)?,
        Output::Table => print(rotation)?,
    }
    run.verdict(rotation)?;
    if output == Output::Table {
        told_of_sealed(rotation);
        rotations::advise(rotation);
        let name = harmless(&render::short(&rotation.name));
        note(format_args!("`credvault rotations show {name}` shows how far it is"));
    }
    Ok(())
}

/// Says whom a rotation harms. If the new token is for nobody, goes on only if that is meant.
async fn caution(
    connection: &Connection,
    patience: &mut Patience,
    name: &str,
    args: &Args,
) -> anyhow::Result<()> {
    let id = harmless(render::id(name));
    let when = match args.hold {
        Some(hold) => format!("{hold:#} after the new one works, at least a minute"),
        None => "a minute after the new one works".to_owned(),
    };
    if args.recipient_key.is_some() {
        if args.hold.is_none() && !args.require_confirmation {
            note(format_args!(
                "The old token of {id} ends {when}: whoever uses it must have the new one by then. --hold 2h, or \
                 --require-confirmation, gives more time"
            ));
        }
        return Ok(());
    }
    let mut key = String::new();
    if !args.yes {
        let provider = look(connection, patience, name).await?;
        check(&provider)?;
        if let Some(Kind::Twilio(twilio)) = &provider.kind
            && !twilio.api_key_sid.is_empty()
        {
            key = format!(
                ". Its token is the API key {}, which must be a Main key; what takes its place is a Standard key, which \
                 cannot be rotated in turn",
                harmless(&twilio.api_key_sid)
            );
        }
    }
    note(format_args!(
        "warning: nobody outside the vault gets the new token of {id}: whoever else uses the old one is refused once it \
         ends, {when}. --recipient-key names who gets it{key}"
    ));
    agreed(patience, args.yes, "rotate-token").await
}

async fn look(
    connection: &Connection,
    patience: &mut Patience,
    name: &str,
) -> anyhow::Result<Provider> {
    let request = GetProviderRequest { name: name.to_owned() };
    let doing = format!("looking at {}", harmless(render::id(name)));
    match patience.ask(connection, &request, &doing).await {
        Ok(answer) => Ok(answer.provider.unwrap_or_default()),
        Err(Trouble::Interrupted) => bail!("interrupted: nothing has changed"),
        Err(Trouble::Call { error, .. }) => {
            Err(connection.explain::<GetProviderRequest>(&error, NOT_FOUND))
        }
    }
}

/// What the vault refuses as well, with what to type in place of it.
fn check(provider: &Provider) -> anyhow::Result<()> {
    let carrier = match &provider.kind {
        Some(Kind::Vobiz(_)) => "Vobiz",
        Some(Kind::Telepath(_)) => "Telepath",
        Some(Kind::Twilio(_)) | None => return Ok(()),
    };
    bail!(
        "{carrier} has one token at a time, so the vault cannot have another made beside it: nothing has changed\nMake one \
         in {carrier}'s console; then `credvault providers update-token {}`",
        harmless(render::id(&provider.name))
    )
}

impl Run {
    /// As commands take it.
    fn provider(&self) -> String {
        harmless(render::id(&self.request.name))
    }

    /// What looks at this rotation again, with the same options.
    fn again(&self) -> String {
        format!(
            "the same command with --wait --request-id {} waits for its end",
            harmless(&self.request.request_id)
        )
    }

    /// Why there is no answer, and what to do.
    async fn unanswered(&mut self, trouble: Trouble) -> anyhow::Error {
        let list = format!("`credvault rotations list providers/{}` shows it", self.provider());
        let (error, is_undone) = match trouble {
            Trouble::Interrupted => {
                return anyhow!("interrupted: it may have begun, and {list}; {}", self.again());
            }
            Trouble::Call { error, is_undone } => (error, is_undone),
        };
        if let CallError::Refused { reason, .. } = &error
            && reason == "INVALID_STATE"
            && let Ok(provider) =
                look(&self.connection, &mut self.patience, &self.request.name).await
            && let Err(refused) = check(&provider)
        {
            return refused;
        }
        let told = self.connection.explain::<RotateTokenRequest>(&error, NOT_FOUND);
        if is_undone {
            return told;
        }
        anyhow!("{told:#}\nIf it has begun, {}", self.again())
    }

    /// Returns when the rotation has ended, or needs a person.
    async fn wait(&mut self, mut rotation: Rotation) -> anyhow::Result<GetRotationResponse> {
        let mut told = Told::new();
        loop {
            told.tell(&rotation);
            let state = rotation.state();
            let doing = format!("waiting for the token of {}, {}", self.provider(), word(state));
            if !is_over(state)
                && let Err(trouble) = self.patience.pause(told.pause(), &doing).await
            {
                return Err(self.not_waited(trouble, &rotation));
            }
            let request = GetRotationRequest { name: rotation.name.clone() };
            let answer = match self.patience.ask(&self.connection, &request, &doing).await {
                Ok(answer) => answer,
                Err(trouble) => return Err(self.not_waited(trouble, &rotation)),
            };
            rotation = answer.rotation.clone().context("the answer has no rotation")?;
            if is_over(rotation.state()) {
                told.tell(&rotation);
                return Ok(answer);
            }
        }
    }

    /// Why nobody waits any longer.
    fn not_waited(&self, trouble: Trouble, rotation: &Rotation) -> anyhow::Error {
        let why = match trouble {
            Trouble::Interrupted => anyhow!("interrupted"),
            Trouble::Call { error, .. } => {
                self.connection.explain::<GetRotationRequest>(&error, rotations::NOT_FOUND)
            }
        };
        let name = harmless(&render::short(&rotation.name));
        anyhow!(
            "{why:#}\nThe rotation goes on without this command: `credvault rotations show {name}` shows how far it is, and \
             {}",
            self.again()
        )
    }

    /// An error if the new token does not, or will not by itself, take the place of the old one.
    fn verdict(&self, rotation: &Rotation) -> anyhow::Result<()> {
        let name = harmless(&render::short(&rotation.name));
        let more = format!("`credvault rotations show {name}` tells more");
        match rotation.state() {
            RotationState::Cancelled => match rotations::refusal(rotation) {
                Some(reason) => bail!(
                    "the carrier makes no new token of {} ({})\nNothing has changed: the old token stays the active one. \
                     {more}",
                    self.provider(),
                    harmless(reason)
                ),
                None => bail!("the rotation was cancelled, so its new token is not used\n{more}"),
            },
            RotationState::Cancelling => {
                bail!("the rotation was given up: the old token stays the active one\n{more}")
            }
            RotationState::NeedsAttention => {
                let mut told = rotations::for_person(rotation)
                    .map_or("the rotation needs a person".to_owned(), |what| {
                        format!("it needs a person: {what}")
                    });
                if rotations::awaits_carrier(rotation) {
                    told = rotations::for_carrier(rotation);
                } else if let Some(advice) = rotations::advice(rotation) {
                    told = format!("{told}\n{advice}");
                }
                bail!(
                    "the rotation of the token of {} has not ended\n{told}\nOnce that is seen to, {}",
                    self.provider(),
                    self.again()
                )
            }
            _ => Ok(()),
        }
    }
}

/// Whether nothing more happens, or not without a person.
fn is_over(state: RotationState) -> bool {
    use RotationState::{Cancelled, NeedsAttention, Succeeded};
    matches!(state, Succeeded | Cancelled | NeedsAttention)
}

/// What was said of a rotation while somebody waits.
struct Told {
    state: RotationState,
    since: Instant,
    calls: usize,
    of_sealed: bool,
}

impl Told {
    fn new() -> Self {
        let (state, since) = (RotationState::Unspecified, Instant::now());
        Self { state, since, calls: 0, of_sealed: false }
    }

    /// Says each state once, each call that did not do what it should, and that the new token is there.
    fn tell(&mut self, rotation: &Rotation) {
        let (state, (calls, _)) = (rotation.state(), rotations::calls(rotation));
        if state != self.state {
            (self.state, self.since) = (state, Instant::now());
            if let Some(what) = stands(rotation) {
                note(what);
            }
        }
        if let Some(what) = rotations::trouble(rotation).filter(|_| calls > self.calls) {
            note(harmless(&what));
        }
        self.calls = calls;
        self.of_sealed = self.of_sealed || told_of_sealed(rotation);
    }

    /// How long to wait before it is asked again: a tenth of how long it stands so.
    fn pause(&self) -> Duration {
        (self.since.elapsed() / 10).clamp(LEAST_PAUSE, LONGEST_PAUSE)
    }
}

/// Says how the new token is opened, if it is there for its recipient.
fn told_of_sealed(rotation: &Rotation) -> bool {
    let is_there = rotation.expire_time.is_some();
    if is_there {
        note(rotations::how_to_open(rotation));
    }
    is_there
}

fn word(state: RotationState) -> &'static str {
    match state {
        RotationState::Pending => "pending",
        RotationState::Applying => "applying",
        RotationState::Verifying => "verifying",
        RotationState::Holding => "holding",
        RotationState::Finishing => "finishing",
        RotationState::Succeeded => "succeeded",
        RotationState::Cancelling => "cancelling",
        RotationState::Cancelled => "cancelled",
        RotationState::NeedsAttention => "needs-attention",
        RotationState::Unspecified => "unknown",
    }
}

/// Where a rotation stands, on a line. None: that is said when all is over.
fn stands(rotation: &Rotation) -> Option<String> {
    let state = rotation.state();
    let what = match state {
        RotationState::Pending | RotationState::Applying => {
            "the carrier is asked for a new token".to_owned()
        }
        RotationState::Verifying => "the new token is tried until it works".to_owned(),
        RotationState::Holding => rotations::advice(rotation)?,
        RotationState::Finishing => {
            "the old token is ended, and tried until it is refused".to_owned()
        }
        RotationState::Cancelling => "the carrier is asked to remove the new token".to_owned(),
        _ => return None,
    };
    Some(format!("{}: {what}", word(state)))
}

/// Prints how far a rotation is.
fn print(rotation: &Rotation) -> anyhow::Result<()> {
    let line = |name: &str, value: String| (name.to_owned(), value);
    let mut lines = vec![
        line("rotation", rotation.name.clone()),
        line("state", word(rotation.state()).to_owned()),
        line("token version", rotation.version.to_string()),
    ];
    if let Some(end) = old_end(rotation) {
        lines.push(line("old token", end));
    }
    render::lines(lines)
}

/// When the old token ends.
fn old_end(rotation: &Rotation) -> Option<String> {
    if let Some(step) = rotations::old_ended(rotation) {
        let at = time(step.time)?.strftime("%FT%TZ");
        return Some(format!("ended {at}"));
    }
    let held =
        rotation.hold.map_or(SignedDuration::ZERO, |it| SignedDuration::from_secs(it.seconds));
    let held = held.max(SignedDuration::from_mins(1));
    match rotation.state() {
        RotationState::Cancelled
        | RotationState::Cancelling
        | RotationState::NeedsAttention
        | RotationState::Finishing => None,
        _ if rotation.require_confirmation => Some("ends when it is confirmed".to_owned()),
        RotationState::Holding => {
            Some(format!("ends {}, or when it is confirmed before", rotations::next_call(rotation)))
        }
        _ => Some(format!("ends {held:#} after the new one works")),
    }
}
