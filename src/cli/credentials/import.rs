//! `credvault credentials import`: many credentials from a file, again and again until all are there.
//!
//! Each line has a request id of its own, which survives an interruption: the vault then says of a credential that it
//! was created before, and one whose password got lost on the way is rotated. Nothing of a file is held but what is on
//! its way, what failed, and sixteen bytes for each user.

mod out;
mod progress;
mod rows;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{Connection, NO_ACCOUNT, Options, Output};
use crate::cli::client::{Change, refused, told};
use crate::cli::terminal::{harmless, is_watched};
use crate::cli::{NOT_ASKED, Signals, note, say};
use crate::grpc::client::{CALLS_AT_ONCE, CallError, Rpc};
use crate::grpc::proto::{
    CreateCredentialRequest, Credential, GetCredentialRequest, IssuedSecret,
    ListCredentialsRequest, RotateCredentialRequest,
};
use crate::server::StopSignal as _;
use out::Out;
use progress::Progress;
use rows::{Row, Source};

/// How many connections share the calls.
const CONNECTIONS: usize = 4;

/// How often a call is made that the vault was too busy for.
const TRIES: usize = 20;

/// How long to wait after an outcome that is not known.
const WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Refusals of one line, which say nothing of the others.
const OF_THE_LINE: [&str; 5] = [
    "ALREADY_EXISTS",
    "INVALID_FIELD",
    "MESSAGE_TOO_LARGE",
    "REQUEST_ID_REUSED",
    "SECRET_ALREADY_ISSUED",
];

/// Lines that failed and are told one by one in a terminal.
const TOLD: usize = 20;

/// Create many credentials from a file
///
/// The file is CSV with a header. Columns: username and realm; optional: id, password, description. Passwords that it
/// does not bring are generated; with passwords in it, only you may be able to read it. The file that --out names, made for you alone, gets a line for each credential that was
/// created: name, username, realm, and the generated password, or nothing where you brought one.
///
/// All lines are checked before the first credential is created. After an interruption run the same command again: it
/// goes on where it stopped, and gives a new password to those whose password was lost on the way. That works for a day.
///
/// Exit status: 0 if all are there; 1 if a line could not be imported, and standard error says which and why; 2 if it
/// could not begin, or stopped before the end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  printf 'id,username,realm\\ndesk-1,desk-1,sip.example.com\\n' > phones.csv
  credvault credentials import phones.csv --out phones.passwords.csv")]
pub(super) struct Args {
    /// What to create; -: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write what was created, with the generated passwords (CSV)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// What became of a line.
enum Fate {
    /// It is there now, with the password that the vault made for it, if it did.
    Created(Box<Credential>, Option<IssuedSecret>),
    /// It cannot be, whatever is done.
    Failed(String),
    /// The others would fare no better.
    Hopeless(CallError),
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let output = args.options.output;
    let source = Source::open(args.file)?;
    let total = rows::check(&source)?;
    let connections = (0..CONNECTIONS).map(|_| args.options.clone().connect());
    let connections = connections.collect::<anyhow::Result<Vec<Connection>>>()?;
    let first = connections.first().ok_or_else(|| anyhow!("there is no connection"))?;
    let parent = first.account()?;
    // One call that says what would be wrong with all.
    let look =
        ListCredentialsRequest { parent: parent.clone(), page_size: 1, ..Default::default() };
    first.ask(look, NO_ACCOUNT).await?;
    let (mut out, done) = Out::open(&args.out, &parent)?;
    let is_done = |row: &Row| done.contains(&row.username, &row.realm);
    let is_there = |(_, row): &(u64, Option<Row>)| row.as_ref().is_some_and(is_done);
    let before = rows::read(&source)?.filter(is_there).count();
    if before > 0 {
        note(format_args!("{before} are in {} already", args.out.display()));
    }
    let (nonce, reason) = (out.nonce(), &args.change.reason);
    let has_stopped = Cell::new(false);
    let rows = rows::read(&source)?.take_while(|_| !has_stopped.get());
    let rows = rows.filter(|row| !is_there(row));
    let calls = rows.zip(connections.iter().cycle()).map(|((line, row), connection)| {
        let request = row.map(|row| request(row, &parent, reason, nonce));
        async move {
            match request {
                Some(request) => (line, create(connection, request).await),
                None => (line, Fate::Failed("it is not what it was when it was checked".into())),
            }
        }
    });
    let mut calls = stream::iter(calls).buffer_unordered(CONNECTIONS * CALLS_AT_ONCE);
    let mut signals = Signals::listen()?;
    let mut progress = Progress::start(total.saturating_sub(before));
    let (mut created, mut failures, mut hopeless) = (0_u64, Vec::new(), None);
    loop {
        let next = tokio::select! {
            next = calls.next() => next,
            // What is under way is finished; who cannot wait asks again.
            () = signals.next() => if has_stopped.replace(true) { None } else { continue },
        };
        let Some((line, fate)) = next else { break };
        match fate {
            Fate::Created(credential, issued) => {
                out.write(&credential, issued.as_ref())?;
                created += 1;
            }
            Fate::Failed(problem) => failures.push((line, problem)),
            Fate::Hopeless(error) => {
                has_stopped.set(true);
                hopeless.get_or_insert(error);
            }
        }
        progress.step();
    }
    progress.end();
    failures.sort_unstable();
    let failed = failures.len();
    // A person is told some; a file or a program, all.
    let shown = if is_watched() { TOLD } else { failed };
    for (line, problem) in failures.iter().take(shown) {
        note(format_args!("line {line}: {problem}"));
    }
    if failed > shown {
        note(format_args!("… and {} more; 2> FILE tells all", failed - shown));
    }
    out.close(!has_stopped.get())?;
    if output == Output::Json {
        let told = json!({
            "created": created, "before": before, "failed": failed,
            "finished": !has_stopped.get(),
            "failures": failures.iter().map(|(line, problem)| json!({"line": line, "problem": problem}))
                .collect::<Vec<_>>(),
        });
        say(told)?;
    }
    note(format_args!("{created} credentials created in {parent}, {failed} lines failed"));
    if let Some(error) = hopeless {
        let why = match &error {
            // Its request id says what became of it.
            CallError::Lost(_) => anyhow!(told(&error)),
            _ => first.explain::<CreateCredentialRequest>(&error, NO_ACCOUNT),
        };
        if matches!(&error, CallError::Refused { reason, .. } if reason == "ROLE_MISSING") {
            return Err(why);
        }
        return Err(anyhow!("{why:#}\nRun the same command again: it goes on where it stopped"));
    }
    if has_stopped.get() {
        note("Stopped. Run the same command again: it goes on from here.");
        return Ok(NOT_ASKED.into());
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn request(row: Row, parent: &str, reason: &str, nonce: [u8; 12]) -> CreateCredentialRequest {
    let request_id = rows::request_id(nonce, &row);
    CreateCredentialRequest {
        parent: parent.to_owned(),
        credential_id: row.id,
        credential: Some(Credential {
            username: row.username,
            realm: row.realm,
            description: row.description,
            ..Credential::default()
        }),
        password: row.password,
        request_id,
        reason: reason.to_owned(),
        ..CreateCredentialRequest::default()
    }
}

async fn create(connection: &Connection, request: CreateCredentialRequest) -> Fate {
    match patiently(connection, &request).await {
        Ok(answer) => Fate::Created(answer.credential.unwrap_or_default().into(), answer.issued),
        Err(CallError::Refused { reason, resource: Some(name), .. })
            if reason == "SECRET_ALREADY_ISSUED" =>
        {
            give_new_password(connection, name, request.reason).await
        }
        Err(CallError::Refused { reason, message, .. })
            if OF_THE_LINE.contains(&reason.as_str()) =>
        {
            Fate::Failed(refused(&message, &reason))
        }
        Err(error) => Fate::Hopeless(error),
    }
}

/// For a credential that an earlier run created, and whose password was lost on the way: nobody has it, unless somebody
/// gave it another since.
async fn give_new_password(connection: &Connection, name: String, reason: String) -> Fate {
    let found = patiently(connection, &GetCredentialRequest { name: name.clone() }).await;
    let rotated = match found.map(|answer| answer.credential.unwrap_or_default()) {
        Ok(Credential { version: 1, etag, .. }) => {
            let rotate = RotateCredentialRequest {
                name,
                etag,
                reason,
                ..RotateCredentialRequest::default()
            };
            patiently(connection, &rotate).await
        }
        Ok(_) => {
            return Fate::Failed(format!(
                "it was created before, and its password is not known here; \
                 `credvault credentials rotate {}` gives it another",
                harmless(&name)
            ));
        }
        Err(error) => Err(error),
    };
    match rotated {
        Ok(answer) => Fate::Created(answer.credential.unwrap_or_default().into(), answer.issued),
        Err(CallError::Refused { reason, message, .. }) => Fate::Failed(refused(&message, &reason)),
        Err(error) => Fate::Hopeless(error),
    }
}

/// Calls; waits when the vault asks for that, or did not say how it ended.
async fn patiently<R: Rpc + Clone>(
    connection: &Connection,
    request: &R,
) -> Result<R::Response, CallError> {
    let mut tries = 1;
    loop {
        let result = connection.call(request.clone()).await;
        let wait = match &result {
            Err(CallError::Refused { retry_after: Some(wait), .. }) => *wait,
            Err(CallError::Refused { reason, .. }) if reason == "DEADLINE_EXCEEDED" => WAIT,
            _ => return result,
        };
        if tries == TRIES {
            return result;
        }
        tries += 1;
        tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
    }
}
