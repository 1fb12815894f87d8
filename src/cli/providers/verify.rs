//! `credvault providers verify`: asks carriers, once or again and again.

use std::process::ExitCode;

use anstyle::Style;
use anyhow::bail;
use jiff::SignedDuration;

use super::{
    CallError, Connection, NOT_FOUND, Provider, VerificationStatus, age, all, carrier_account,
    checks, client, id, mark, status, status_span, watch,
};
use crate::cli::client::Output;
use crate::cli::terminal::{Line, Progress, Span, harmless, harmless_json};
use crate::cli::{NOT_ASKED, note, report, say};
use crate::clock::Clock;
use crate::grpc::client::time;
use crate::grpc::json;
use crate::grpc::proto::{CheckStatus, ProviderFilter, VerificationCheck, VerifyProviderRequest};

/// The exit status if one provider failed.
const FAILED: u8 = 1;

/// Ask the carriers of providers whether their tokens, and what else calls need, are in order
///
/// Prints each check: ✓ passed, ✗ failed, – skipped because another failed, ? the carrier could not be asked. The
/// vault stores the verdict. It needs the role token-writer or account-admin.
///
/// Exit status: 0 if all are verified, or work with a warning; 1 if one failed; 2 if none failed but one could not be
/// asked. A watch that is ended by Ctrl-C: 0.
///
/// With `--output json`, a line for each provider: the `Provider` of the contract, or its name and an error. A watch
/// prints one when it changed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Their ids, such as main, or whole names
    #[arg(value_name = "PROVIDER")]
    providers: Vec<String>,
    /// All of the account, as there are now
    #[arg(long, conflicts_with = "providers")]
    all: bool,
    /// Verify again and again until Ctrl-C: in a terminal as a table, else as a line for each change
    #[arg(long)]
    watch: bool,
    /// How long after a verification the next begins, such as 90s or 5m; 10s at least
    #[arg(long, requires = "watch", default_value = "60s", value_name = "DURATION", value_parser = every)]
    every: SignedDuration,
    #[command(flatten)]
    options: client::Options,
}

fn every(text: &str) -> Result<SignedDuration, String> {
    let (least, most) = (SignedDuration::from_secs(10), SignedDuration::from_hours(7 * 24));
    match text.parse::<SignedDuration>() {
        Ok(every) if (least..=most).contains(&every) => Ok(every),
        _ => Err("write a duration from 10s to 168h, such as 60s or 5m".to_owned()),
    }
}

pub(super) async fn run(args: Args, clock: &dyn Clock) -> anyhow::Result<ExitCode> {
    let output = args.options.output;
    if args.providers.is_empty() && !args.all {
        bail!(
            "which providers? Name them, or --all; `credvault providers list` shows which there are"
        );
    }
    let connection = args.options.connect()?;
    let names = if args.all {
        let found = all(&connection, &connection.account()?, ProviderFilter::default()).await?;
        found.into_iter().map(|provider| provider.name).collect()
    } else {
        let names = args.providers.iter().map(|name| connection.name("providers", name));
        names.collect::<anyhow::Result<Vec<String>>>()?
    };
    if names.is_empty() {
        note("There is no provider to verify: `credvault providers list` says how to create one.");
        return Ok(ExitCode::SUCCESS);
    }
    if args.watch {
        watch::run(&connection, clock, args.every, names, output).await?;
        return Ok(ExitCode::SUCCESS);
    }
    once(&connection, clock, &names, output).await
}

/// Has the carrier asked about one provider.
pub(super) async fn verify(connection: &Connection, name: &str) -> Result<Provider, CallError> {
    let answer = connection.call(VerifyProviderRequest { name: name.to_owned() }).await?;
    answer.provider.ok_or_else(|| CallError::Lost("it names no provider".to_owned()))
}

/// What a script reads: the provider, or why there is none.
pub(super) fn to_json(name: &str, answer: Result<&Provider, &CallError>) -> anyhow::Result<String> {
    let json = match answer {
        Ok(provider) => json::compact(provider)?,
        Err(
            CallError::NoAnswer(problem)
            | CallError::NoHandshake(problem)
            | CallError::Lost(problem),
        ) => error_json(name, "NO_ANSWER", problem),
        Err(CallError::Refused { reason, message, .. }) => error_json(name, reason, message),
    };
    Ok(harmless_json(&json))
}

fn error_json(name: &str, reason: &str, message: &str) -> String {
    serde_json::json!({ "name": name, "error": { "reason": reason, "message": message } })
        .to_string()
}

async fn once(
    connection: &Connection,
    clock: &dyn Clock,
    names: &[String],
    output: Output,
) -> anyhow::Result<ExitCode> {
    let (mut failed, mut not_asked) = (false, false);
    for (number, name) in (1..).zip(names) {
        let which =
            if names.len() > 1 { format!(" ({number} of {})", names.len()) } else { String::new() };
        let progress = Progress::show(&format!("asking about {}{which}", id(name)));
        let answer = verify(connection, name).await;
        drop(progress);
        if output == Output::Json {
            say(to_json(name, answer.as_ref())?)?;
        }
        match answer {
            Ok(provider) => {
                match status(&provider) {
                    VerificationStatus::Verified | VerificationStatus::Warning => {}
                    VerificationStatus::Failed => failed = true,
                    VerificationStatus::Pending | VerificationStatus::Unspecified => {
                        not_asked = true;
                    }
                }
                if output == Output::Table {
                    print(&provider, clock)?;
                }
            }
            Err(error) => {
                not_asked = true;
                let error = connection.explain::<VerifyProviderRequest>(&error, NOT_FOUND);
                report(&error.context(format!("{} could not be asked", harmless(id(name)))));
            }
        }
    }
    Ok(match (failed, not_asked) {
        (true, _) => FAILED.into(),
        (false, true) => NOT_ASKED.into(),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Prints a verdict and its checks.
pub(super) fn print(provider: &Provider, clock: &dyn Clock) -> anyhow::Result<()> {
    let since = provider.verification.as_ref().and_then(|it| time(it.status_change_time));
    let about = format!(
        " for {}, token v{}, {}",
        age(clock.now(), since),
        provider.token_version,
        carrier_account(provider)
    );
    let mut heading = vec![Span::new(id(&provider.name), Style::new().bold()), Span::plain("  ")];
    if let Some(name) = provider.display_name.as_deref().filter(|name| !name.is_empty()) {
        heading.extend([Span::plain(name), Span::plain("  ")]);
    }
    heading.extend([status_span(status(provider)), Span::new(&about, Style::new().dimmed())]);
    say(Line(heading).painted())?;
    let widest = checks(provider).iter().map(|check| Span::plain(&check.name).width()).max();
    for check in checks(provider) {
        let name = Span::plain(&check.name).padded(widest.unwrap_or_default());
        let (gap, message) = (Span::plain("  "), Span::plain(&check.message));
        let spans = vec![gap.clone(), mark(check.status()), Span::plain(" "), name, gap, message];
        say(Line(spans).painted())?;
    }
    let refused = |check: &VerificationCheck| {
        check.name == "credentials" && check.status() == CheckStatus::Failed
    };
    if checks(provider).iter().any(refused) {
        note(format_args!(
            "`credvault providers update-token {}` stores a token that works",
            harmless(id(&provider.name))
        ));
    }
    Ok(())
}
