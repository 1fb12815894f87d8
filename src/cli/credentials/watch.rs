//! `credvault credentials watch`: what there is, and then what changes, a line for each.
//!
//! A vault that is gone for a while is something to wait for: the watch goes on where it was. The end is Ctrl-C, or that
//! nobody reads any more.

use std::io;
use std::time::Duration;

use anstyle::Style;
use jiff::Timestamp;
use tokio::time::sleep;

use crate::cli::client::{Connection, NO_ACCOUNT, Options, Output, told};
use crate::cli::rotate::patience::pause;
use crate::cli::terminal::{Line, Span};
use crate::cli::{Signals, note, print, render};
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::random;
use crate::grpc::client::{CallError, time};
use crate::grpc::proto::watch_credentials_response::Change;
use crate::grpc::proto::{Credential, WatchCredentialsRequest, WatchCredentialsResponse};
use crate::server::StopSignal as _;

/// Watch an account's credentials: what there is, then each change as it comes
///
/// Several changes of one credential may come as one, and some may come twice; none is missed, also while the vault
/// restarts. When it ends, it says how to go on later from there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault credentials watch
  credvault credentials watch --output json | jq -r '.credential.username // .deleted'
  credvault credentials watch --once --resume TOKEN                  what has changed since then")]
pub(super) struct Args {
    /// Go on where another watch ended: the token that it printed, or a resumeToken of its JSON
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    resume: String,
    /// End when all that there is has been told, instead of waiting for changes
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    options: Options,
}

/// Why a watch is over that did not fail.
enum End {
    /// All is told that was asked for.
    Told,
    /// Nobody reads any more.
    Unread,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let connection = args.options.clone().connect()?;
    let parent = connection.account()?;
    let mut watch = Watch {
        connection: &connection,
        output: args.options.output,
        once: args.once,
        request: WatchCredentialsRequest { parent, resume_token: args.resume },
        is_heard: false,
        is_up_to_date: false,
        tries: 0,
    };
    let end = tokio::select! {
        end = watch.run() => end?,
        () = signals.next() => End::Told,
    };
    if matches!(end, End::Told) && !watch.request.resume_token.is_empty() {
        note(format_args!(
            "To go on from here:\n  credvault credentials watch --resume {}",
            watch.request.resume_token
        ));
    }
    Ok(())
}

struct Watch<'a> {
    connection: &'a Connection,
    output: Output,
    once: bool,
    /// Goes on where the last answer was.
    request: WatchCredentialsRequest,
    /// Whether a vault has answered at all.
    is_heard: bool,
    /// Whether all that there was at the start has been told.
    is_up_to_date: bool,
    /// Since the last answer.
    tries: u32,
}

impl Watch<'_> {
    async fn run(&mut self) -> anyhow::Result<End> {
        loop {
            let error = match self.follow().await? {
                Ok(end) => return Ok(end),
                Err(error) => error,
            };
            self.tries = self.tries.saturating_add(1);
            let chance = random::bytes().map_or(u8::MAX, |[byte]| byte);
            // It never gives up what it had, so the last wait comes again and again.
            let wait = pause(&error, self.tries.min(10), chance, Duration::MAX);
            let Some(wait) = wait.filter(|_| self.is_heard) else {
                return Err(self.connection.explain::<WatchCredentialsRequest>(&error, NO_ACCOUNT));
            };
            note(format_args!("{}; going on in {:.1} s", told(&error), wait.as_secs_f64()));
            sleep(wait).await;
        }
    }

    /// Prints what is told until it ends. The outer error is one of this machine.
    async fn follow(&mut self) -> anyhow::Result<Result<End, CallError>> {
        let mut answers = match self.connection.stream(self.request.clone()).await {
            Ok(answers) => answers,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let answer = match answers.next().await {
                Ok(Some(answer)) => answer,
                // A vault ends a watch with an error only.
                Ok(None) => return Ok(Err(CallError::Lost("it ended".to_owned()))),
                Err(error) => return Ok(Err(error)),
            };
            (self.is_heard, self.tries) = (true, 0);
            if let Some(line) = self.line(&answer)? {
                match print(line) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(Ok(End::Unread));
                    }
                    printed => printed?,
                }
            }
            // After it is printed: who reads it may be gone.
            self.request.resume_token.clone_from(&answer.resume_token);
            if matches!(answer.change, Some(Change::CaughtUp(_))) {
                if self.once {
                    return Ok(Ok(End::Told));
                }
                let was = std::mem::replace(&mut self.is_up_to_date, true);
                if self.output == Output::Table && !was {
                    note("That is all so far; changes follow as they come. Ctrl-C ends.");
                }
            }
        }
    }

    fn line(&self, answer: &WatchCredentialsResponse) -> anyhow::Result<Option<String>> {
        let Some(change) = &answer.change else { return Ok(None) };
        if self.output == Output::Json {
            return render::compact(answer).map(Some);
        }
        Ok(match change {
            Change::Credential(credential) => Some(changed(credential).painted()),
            Change::Deleted(name) => Some(line(SystemClock.now(), name, "deleted").painted()),
            Change::CaughtUp(_) => None,
        })
    }
}

fn changed(credential: &Credential) -> Line {
    let Credential { username, realm, version, .. } = credential;
    let disabled = if credential.enabled() { "" } else { "  disabled" };
    let is = format!("{username}@{realm}  version {version}{disabled}");
    line(time(credential.update_time).unwrap_or_default(), &credential.name, &is)
}

fn line(when: Timestamp, name: &str, what: &str) -> Line {
    let when = Span::new(&when.strftime("%FT%TZ  ").to_string(), Style::new().dimmed());
    let name = Span::new(render::id(name), Style::new().bold());
    Line(vec![when, name, Span::plain("  "), Span::plain(what)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_which_and_what_it_is() {
        let credential = Credential {
            name: "accounts/acme/credentials/desk".to_owned(),
            username: "desk".to_owned(),
            realm: "sip.test".to_owned(),
            version: 3,
            ..Credential::default()
        };
        let of = |credential: &Credential| {
            let text: String =
                anstream::adapter::strip_str(&changed(credential).painted()).to_string();
            text
        };
        assert_eq!(
            of(&credential),
            "1970-01-01T00:00:00Z  desk  desk@sip.test  version 3  disabled"
        );
        let enabled = Credential { enabled: Some(true), ..credential };
        assert!(of(&enabled).ends_with("version 3"));
    }
}
