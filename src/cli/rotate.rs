//! `credvault rotate`: a new password that is not lost on its way, whatever breaks.
//!
//! The vault seals it for a key that is made here, so the same request may be sent until an answer arrives; it is
//! confirmed when it is delivered, and not before.

mod begin;
pub(super) mod caution;
mod destination;
pub(super) mod patience;
mod state;
mod waiting;

use std::ffi::OsString;
use std::path::{self, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ArgAction;
use jiff::{SignedDuration, Span, SpanRelativeTo};

use super::client::{Change, Connection, Options, Output, told};
use super::terminal::harmless;
use super::{keys, note, quoted, render, rotations, say};
use crate::defect::{Defect, planted};
use crate::grpc::client::{CallError, Rpc, time};
use crate::grpc::proto::{
    GetRotationRequest, RotateCredentialRequest, Rotation, RotationState, SealedSecret,
};
use crate::secret::SecretText;
use destination::{Destination, OutFile};
use patience::{Patience, Trouble};
use state::{Job, Key, StateFile};
use waiting::Seen;

const NOT_FOUND: &str = "`credvault credentials list` shows which there are";

/// How a new password takes the place of the old one.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// How long the old password works beside the new one, such as 30s, 15m, 1h or 7d; at most 30d. No carrier can
    /// [default: it dies at once]
    #[arg(long, value_name = "DURATION", value_parser = length)]
    pub(super) overlap: Option<SignedDuration>,
    /// Keep the old password the active one until somebody proves that he holds the new one; until then both work. At a
    /// carrier the old one works until then, and the new one from then on
    #[arg(long)]
    pub(super) require_confirmation: bool,
    /// How long the generated password is, 16 to 64 [default: 24]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(super) password_length: u32,
    /// Only if this is still its etag
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub(super) etag: String,
}

/// Parses a length of time.
pub(super) fn length(text: &str) -> Result<SignedDuration, String> {
    let parsed = text.parse::<Span>().ok();
    let length = parsed.and_then(|it| it.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    length
        .filter(|length| !length.is_negative())
        .ok_or("write a duration such as 30s, 15m, 1h or 7d".to_owned())
}

/// Give a credential a new password safely: try again, deliver, and only then confirm
///
/// The vault seals the password for a key that this command makes, so an answer that is lost is asked for again, and is
/// the same. Then the password goes to standard output, to a file (--out), or to the standard input of a command (behind
/// --; without a line feed). When that has worked, and not before, the rotation is confirmed. With
/// --require-confirmation the old password works until then: if the file cannot be written or the command fails, no
/// phone is locked out.
///
/// With --out FILE a file FILE.rotation, for you alone, holds what is needed to go on, from before the request until all
/// is done; with a command, CREDENTIAL.rotation in this folder; --state names another. If this command is killed or
/// gives up, `credvault rotate --resume FILE.rotation` goes on with the same request and the same password. It holds a
/// private key: keep it to yourself, and on a disk that stays. A command that was killed in between is run again, with
/// the same password. The vault keeps that, sealed, for 15 minutes; longer with a longer --overlap; with
/// --require-confirmation for 30 days.
///
/// Of a credential at a carrier, which keeps one password at a time, this command first says what will stop working, and
/// asks; where there is no terminal it wants --yes. The password is delivered when the carrier has it in force, and not
/// before. At Twilio and Vobiz --require-confirmation is the better order: it is delivered first, and set there when that
/// has worked. Telepath makes the password itself and ends the old one at once: have a command behind -- that installs
/// it. While a carrier does not answer, this command waits (--retry-for), and the vault goes on without it; then --resume
/// asks at once and delivers. The file for that is there for standard output as well.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotate desk-1                                              prints it
  credvault rotate desk-1 --out desk-1.password --overlap 1h           the old one works for an hour more
  credvault rotate desk-1 --require-confirmation -- ./install.sh       the old one dies when install.sh has succeeded
  credvault rotate desk-1 -- kubectl create secret generic desk-1 --from-file=password=/dev/stdin
  credvault rotate --resume desk-1.password.rotation                   after a crash
  credvault rotate desk-1 --key-file ops.key                           with an enrolled key of yours
  credvault rotate pbx --yes --require-confirmation -- ./install.sh    at Twilio or Vobiz: set there when it is installed
  credvault rotate trunk-1 --yes --retry-for 10m -- ./install.sh       at Telepath: installed as soon as it is known

install.sh reads the password from its standard input: password=$(cat).")]
pub(super) struct Args {
    /// Its id, or whole name
    #[arg(required_unless_present = "resume")]
    credential: Option<String>,
    #[command(flatten)]
    how: How,
    /// Have it sealed for an enrolled key, whose private key is in this file, in place of one made for this rotation
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Which enrolled key that is, by its id or whole name [default: the vault is asked]
    #[arg(long, value_name = "KEY", requires = "key_file")]
    recipient_key: Option<String>,
    /// Write the password to this new file, for you alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to keep what is needed to go on, until all is done
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Go on with the rotation of this file; --out and -- COMMAND may differ from before
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "credential", "overlap", "require_confirmation", "password_length", "etag", "recipient_key", "state", "reason",
    ])]
    resume: Option<PathBuf>,
    /// Rotate at a carrier without being asked
    #[arg(long)]
    yes: bool,
    /// How long to try again when the vault is not there or its answer is lost, and to wait for a carrier; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = length)]
    retry_for: SignedDuration,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
    /// Hand the password to this command, and wait for its end
    #[arg(last = true, value_name = "COMMAND", action = ArgAction::Append, conflicts_with = "out")]
    command: Vec<OsString>,
}

/// A rotation on its way.
struct Run {
    connection: Connection,
    patience: Patience,
    job: Job,
    state: Option<StateFile>,
    /// An earlier run may have had an effect.
    is_resumed: bool,
    to: Destination,
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut run = Run::prepare(args).await?;
    if let Some((sealed, rotation)) = run.ask().await? {
        let password = run.open(&sealed, &rotation)?;
        let delivered = run.deliver(&password, &rotation);
        if !planted(Defect::ConfirmUndelivered) {
            delivered?;
        }
        let rotation = run.confirm(&password, rotation).await?;
        // At a carrier that may be what has it set.
        let (_, rotation) = run.in_force((None, rotation)).await?;
        run.finish(&rotation, run.to.is_elsewhere(), &run.to.told())?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Run {
    /// Makes all that may fail before anything has happened.
    async fn prepare(args: Args) -> anyhow::Result<Self> {
        let output = args.options.output;
        let mut patience = Patience::new(Duration::try_from(args.retry_for).unwrap_or_default())?;
        let connection = args.options.clone().connect()?;
        let mut at_carrier = false;
        let (resumed, mut job) = if let Some(file) = args.resume.clone() {
            let (state, job) = StateFile::open(file, args.key_file.clone())?;
            (Some(state), job)
        } else {
            let credential = args.credential.as_deref().context("which credential?")?;
            let name = connection.name("credentials", credential)?;
            at_carrier = caution::look(&connection, &mut patience, &name, &args).await?;
            (None, begin::new_job(&args, name, &connection).await?)
        };
        let to = if !args.command.is_empty() {
            job.out = None;
            Destination::Command(args.command)
        } else if let Some(out) = args.out.or(job.out.take()) {
            // A run that goes on may be typed in another folder.
            let whole = path::absolute(&out).with_context(|| format!("find {}", out.display()))?;
            job.out = Some(whole);
            Destination::File(OutFile::open(&out, resumed.is_some())?)
        } else {
            Destination::StandardOutput
        };
        let is_resumed = resumed.is_some();
        let state = match (resumed, args.state) {
            (Some(state), _) => Some(state),
            (None, Some(file)) => Some(StateFile::create(file, &job)?),
            (None, None) => {
                let file = to.state(&job.request.name, at_carrier);
                file.map(|file| StateFile::create(file, &job)).transpose()?
            }
        };
        Ok(Self { connection, patience, job, state, is_resumed, to, output })
    }

    /// As commands take it.
    fn credential(&self) -> String {
        harmless(render::id(&self.job.request.name))
    }

    /// The command that goes on from here, if anything can.
    fn resume(&self) -> Option<String> {
        let state = self.state.as_ref()?;
        Some(format!("`credvault rotate --resume {}{}`", state.quoted(), self.to.again()))
    }

    /// The sealed password and its rotation; None: all was done before.
    async fn ask(&mut self) -> anyhow::Result<Option<(SealedSecret, Rotation)>> {
        if let Some(name) = self.job.rotation.clone() {
            return self.look(name).await;
        }
        let doing = format!("rotating {}", self.credential());
        let request = self.job.request.clone();
        let answer = match self.patience.ask(&self.connection, &request, &doing).await {
            Ok(answer) => answer,
            Err(trouble) => return Err(self.unanswered(trouble)),
        };
        let Some(rotation) = answer.rotation else {
            bail!("the vault sealed nothing: it is older than this command; update it");
        };
        self.job.rotation = Some(rotation.name.clone());
        if let Some(state) = &self.state
            && let Err(error) = state.replace(&self.job)
        {
            // The request in it still leads there.
            note(format_args!("{} is not brought up to date: {error:#}", state.quoted()));
        }
        let seen = self.in_force((answer.sealed, rotation)).await?;
        self.given(seen)
    }

    /// Looks after a rotation that an earlier run began.
    async fn look(&mut self, name: String) -> anyhow::Result<Option<(SealedSecret, Rotation)>> {
        let doing = format!("looking after {}", self.credential());
        let request = GetRotationRequest { name };
        let answer = match self.patience.ask(&self.connection, &request, &doing).await {
            Ok(answer) => answer,
            Err(trouble) => {
                let told = self.explain::<GetRotationRequest>(&trouble, rotations::NOT_FOUND);
                if let Trouble::Call { error: CallError::Refused { reason, .. }, .. } = &trouble
                    && reason == "NOT_FOUND"
                {
                    return Err(told);
                }
                return Err(match self.resume() {
                    Some(resume) => anyhow!("{told}\nNothing has changed: {resume} goes on"),
                    None => told,
                });
            }
        };
        let rotation = answer.rotation.context("the answer has no rotation")?;
        let seen = self.speed_up((answer.sealed, rotation)).await;
        let seen = self.in_force(seen).await?;
        self.given(seen)
    }

    /// The sealed password, if it is there; None: all was done before.
    fn given(&self, (sealed, rotation): Seen) -> anyhow::Result<Option<(SealedSecret, Rotation)>> {
        if let Some(sealed) = sealed {
            return Ok(Some((sealed, rotation)));
        }
        let (credential, file) = (self.credential(), self.file());
        if rotation.confirm_time.is_some() {
            let told = "it was delivered and confirmed before: nothing is left to do";
            self.finish(&rotation, true, told)?;
            return Ok(None);
        }
        rotations::advise(&rotation);
        bail!(
            "its time has passed, and its sealed password is gone: remove {file}, and rotate {credential} again"
        )
    }

    /// The file of its state, as a shell takes it.
    fn file(&self) -> String {
        self.state.as_ref().map_or_else(|| "its file".to_owned(), StateFile::quoted)
    }

    /// Why there is no answer, and what to do. What surely did nothing leaves nothing behind.
    fn unanswered(&self, trouble: Trouble) -> anyhow::Error {
        let name = self.credential();
        let told = self.explain::<RotateCredentialRequest>(&trouble, NOT_FOUND);
        let is_undone = match &trouble {
            // The carrier said no, which ended the rotation.
            Trouble::Call { error: CallError::Refused { reason, .. }, .. }
                if reason.starts_with("UPSTREAM_") =>
            {
                true
            }
            Trouble::Call { is_undone, .. } => *is_undone && !self.is_resumed,
            Trouble::Interrupted => false,
        };
        if is_undone {
            return match self.state.as_ref().map(StateFile::remove) {
                Some(Err(error)) => anyhow!("{told:#}\n{error:#}"),
                _ => told,
            };
        }
        if let Trouble::Call { error: CallError::Refused { reason, .. }, .. } = &trouble
            && reason == "SECRET_ALREADY_ISSUED"
        {
            let file = self.file();
            return anyhow!(
                "{told:#}\nIt was confirmed, or its time has passed: if nobody has the password, remove {file}, and \
                 rotate {name} again"
            );
        }
        match self.resume() {
            Some(resume) => {
                anyhow!("{told:#}\nIt may be done: {resume} goes on, with the same password")
            }
            None => anyhow!(
                "{told:#}\nIt may be done, and this password is lost: `credvault rotations list {name}` shows it; cancel \
                 it if it is holding, and rotate again. With --out or --state this can be gone on with"
            ),
        }
    }

    /// What went wrong with a call of `R`.
    fn explain<R: Rpc>(&self, trouble: &Trouble, not_found: &'static str) -> anyhow::Error {
        match trouble {
            Trouble::Interrupted => anyhow!("interrupted"),
            // What to do about it, this command knows better.
            Trouble::Call { error: error @ CallError::Lost(_), .. } => anyhow!(told(error)),
            Trouble::Call { error: error @ CallError::Refused { reason, .. }, .. }
                if reason == "DEADLINE_EXCEEDED" =>
            {
                anyhow!(told(error))
            }
            Trouble::Call { error, .. } => self.connection.explain::<R>(error, not_found),
        }
    }

    fn open(&self, sealed: &SealedSecret, rotation: &Rotation) -> anyhow::Result<SecretText> {
        let RotateCredentialRequest { name, request_id, .. } = &self.job.request;
        let is_ours = sealed.credential == *name
            && sealed.request_id == *request_id
            && sealed.version == rotation.version;
        let opened = if is_ours {
            keys::open(sealed, self.job.key.private())
        } else {
            Err(anyhow!("the answer is to another request"))
        };
        opened.with_context(|| {
            let rotation = harmless(&render::short(&rotation.name));
            format!(
                "the new password cannot be opened, and is not confirmed (`credvault rotations show {rotation}` has it)"
            )
        })
    }

    fn deliver(&mut self, password: &SecretText, rotation: &Rotation) -> anyhow::Result<()> {
        let Err(error) = self.to.deliver(password, rotation, self.output) else { return Ok(()) };
        let name = harmless(&render::short(&rotation.name));
        let waits = rotation.state() == RotationState::Holding;
        let next = match (self.resume(), &self.job.key) {
            (Some(resume), _) => format!("{resume} goes on, with the same password"),
            (None, Key::Enrolled(_, file)) => format!(
                "`credvault rotations show {name} --output json | credvault open - --key-file {}` has it still",
                quoted(file)
            ),
            (None, Key::Fresh(_)) if waits => format!(
                "nobody has its key any more, so `credvault rotations cancel {name}`, and rotate again"
            ),
            (None, Key::Fresh(_)) => {
                format!("it is lost, so rotate again: `credvault rotate {}`", self.credential())
            }
        };
        let old = old(rotation);
        Err(anyhow!(
            "{error:#}\nThe new password is not delivered, so it is not confirmed, and {old}: {next}"
        ))
    }

    async fn confirm(
        &mut self,
        password: &SecretText,
        rotation: Rotation,
    ) -> anyhow::Result<Rotation> {
        let reason = self.job.request.reason.clone();
        let request = rotations::confirmation(rotation.name.clone(), Some(password), reason);
        let doing = format!("confirming {}", self.credential());
        let trouble = match self.patience.ask(&self.connection, &request, &doing).await {
            Ok(answer) => return Ok(answer.rotation.unwrap_or(rotation)),
            Err(trouble) => trouble,
        };
        let told = match &trouble {
            Trouble::Interrupted => "interrupted".to_owned(),
            Trouble::Call { error: error @ CallError::Refused { reason, .. }, .. }
                if reason == "INVALID_STATE" =>
            {
                bail!("{}\nThe password that was delivered does not work", told(error));
            }
            Trouble::Call { error, .. } => told(error),
        };
        let name = harmless(&render::short(&rotation.name));
        let by_hand = match &self.job.out {
            Some(out) => format!(
                "`credvault rotations confirm {name} --password-file {}`, or {}",
                quoted(out),
                self.resume().unwrap_or_default()
            ),
            None => self
                .resume()
                .unwrap_or(format!("`credvault rotations confirm {name} --password-file FILE`")),
        };
        let old = if rotation.state() == RotationState::Holding {
            "the old one works until that is confirmed"
        } else {
            "all that is left is to confirm that"
        };
        Err(anyhow!("{told}\nThe new password is delivered, and {old}: {by_hand}"))
    }

    /// Says how it ended, and takes the state away.
    fn finish(&self, rotation: &Rotation, answers: bool, told: &str) -> anyhow::Result<()> {
        if self.output == Output::Json && answers {
            say(render::json(&destination::answer(None, rotation.clone()))?)?;
        }
        let old = old(rotation);
        note(format_args!(
            "{}: version {}, confirmed; {old}; {}",
            harmless(&self.job.request.name),
            rotation.version,
            told
        ));
        self.state.as_ref().map_or(Ok(()), StateFile::remove)
    }
}

/// What becomes of the old password.
fn old(rotation: &Rotation) -> String {
    if matches!(rotation.state(), RotationState::Holding | RotationState::NeedsAttention) {
        return "the old one is the active one".to_owned();
    }
    let replaced =
        if rotation.require_confirmation { rotation.confirm_time } else { rotation.create_time };
    let until = time(replaced).zip(rotation.overlap).and_then(|(replaced, overlap)| {
        replaced.checked_add(SignedDuration::from_secs(overlap.seconds)).ok()
    });
    match until {
        Some(until) => format!("the old one works until {}", until.strftime("%FT%TZ")),
        None => "the old one is dead".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_written_as_people_do() {
        for (text, seconds) in [
            ("0s", 0),
            ("30s", 30),
            ("15m", 900),
            ("1h", 3600),
            ("1h30m", 5400),
            ("7d", 7 * 86_400),
            ("30 days", 30 * 86_400),
        ] {
            assert_eq!(length(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "1", "-1h", "1 month", "soon"] {
            assert!(length(bad).unwrap_err().contains("15m"), "{bad}");
        }
    }
}
