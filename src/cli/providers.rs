//! `credvault providers`: accounts at carriers, and whether they work. How one looks, in every command.

mod change;
mod list;
mod look;
mod rotate_token;
mod verify;
mod watch;

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Subcommand;
use jiff::Timestamp;

use super::client::{Connection, NO_ACCOUNT, Output};
use super::render::id;
use super::terminal::{Line, Span, Table};
use super::{client, or_not_asked, render};
use crate::clock::{Clock, SystemClock};
use crate::grpc::client::{CallError, time};
use crate::grpc::json::{self, Described};
use crate::grpc::proto::{
    CheckStatus, ListProvidersRequest, ListProvidersResponse, Provider, ProviderFilter,
    Verification, VerificationCheck, VerificationStatus, provider::Kind,
};

/// What helps when a provider is not there.
pub(super) const NOT_FOUND: &str = "`credvault providers list` shows which there are";

/// Keep accounts at carriers, and see whether they work
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault providers create main --account-sid AC…          asks for the token, and Twilio whether it is right
  credvault providers create india --vobiz-auth-id MA_…      the same at Vobiz
  credvault providers list
  credvault providers verify --all --watch
  credvault providers update-token main                      a token of yours in place of the old one
  credvault providers rotate-token main --wait               at Twilio: one that Twilio makes")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(change::CreateArgs),
    Delete(change::DeleteArgs),
    Get(look::GetArgs),
    History(look::HistoryArgs),
    List(list::Args),
    RotateToken(rotate_token::Args),
    Update(change::UpdateArgs),
    UpdateToken(change::UpdateTokenArgs),
    Verify(verify::Args),
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let clock = &SystemClock;
    match args.command {
        Command::Create(args) => change::create(args, clock).await?,
        Command::Delete(args) => change::delete(args).await?,
        Command::Get(args) => look::get(args, clock).await?,
        Command::History(args) => look::history(args, clock).await?,
        Command::List(args) => list::run(args, clock).await?,
        Command::RotateToken(args) => rotate_token::run(args).await?,
        Command::Update(args) => change::update(args, clock).await?,
        Command::UpdateToken(args) => change::update_token(args, clock).await?,
        Command::Verify(args) => return Ok(or_not_asked(verify::run(args, clock).await)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an answer: its provider with each check and what it consists of, or all of it as JSON.
fn show<A: Described>(
    output: Output,
    answer: &A,
    provider: Option<&Provider>,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    let Some(provider) = provider.filter(|_| output == Output::Table) else {
        return render::one(output, answer, provider);
    };
    verify::print(provider, clock)?;
    let mut fields = json::fields(provider)?;
    fields.retain(|(name, _)| !name.starts_with("verification."));
    render::lines(fields)?;
    Ok(())
}

/// All providers of an account that the filter lets through.
async fn all(
    connection: &Connection,
    parent: &str,
    filter: ProviderFilter,
) -> anyhow::Result<Vec<Provider>> {
    let request = |page_token| ListProvidersRequest {
        parent: parent.to_owned(),
        page_size: 200,
        page_token,
        filter: Some(filter),
    };
    let open = |page: ListProvidersResponse| (page.providers, page.next_page_token);
    Ok(connection.list(request, open, usize::MAX, NO_ACCOUNT).await?.0)
}

fn status(provider: &Provider) -> VerificationStatus {
    provider.verification.as_ref().map_or(VerificationStatus::Pending, Verification::status)
}

fn checks(provider: &Provider) -> &[VerificationCheck] {
    provider.verification.as_ref().map_or(&[], |it| &it.checks)
}

fn status_word(status: VerificationStatus) -> &'static str {
    match status {
        VerificationStatus::Unspecified => "unknown",
        VerificationStatus::Pending => "pending",
        VerificationStatus::Verified => "verified",
        VerificationStatus::Warning => "warning",
        VerificationStatus::Failed => "failed",
    }
}

fn status_span(status: VerificationStatus) -> Span {
    let style = match status {
        VerificationStatus::Verified => AnsiColor::Green.on_default(),
        VerificationStatus::Warning => AnsiColor::Yellow.on_default(),
        VerificationStatus::Failed => AnsiColor::Red.on_default().bold(),
        VerificationStatus::Pending | VerificationStatus::Unspecified => Style::new().dimmed(),
    };
    Span::new(status_word(status), style)
}

fn check_word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Unspecified => "unknown",
        CheckStatus::Passed => "passed",
        CheckStatus::Failed => "failed",
        CheckStatus::Skipped => "skipped",
        CheckStatus::Unavailable => "unavailable",
    }
}

fn mark(status: CheckStatus) -> Span {
    match status {
        CheckStatus::Passed => Span::new("✓", AnsiColor::Green.on_default()),
        CheckStatus::Failed => Span::new("✗", AnsiColor::Red.on_default().bold()),
        CheckStatus::Skipped => Span::new("–", Style::new().dimmed()),
        CheckStatus::Unavailable | CheckStatus::Unspecified => {
            Span::new("?", AnsiColor::Yellow.on_default())
        }
    }
}

/// The checks that did not pass, a line each.
fn remarks(provider: &Provider) -> Vec<Line> {
    if status(provider) == VerificationStatus::Verified {
        return Vec::new();
    }
    let open = checks(provider).iter().filter(|check| check.status() != CheckStatus::Passed);
    let remark = |check: &VerificationCheck| {
        let text = format!(" {}: {}", check.name, check.message);
        Line(vec![Span::plain("  "), mark(check.status()), Span::plain(&text)])
    };
    open.map(remark).collect()
}

/// The account at the carrier, with its region unless that is the usual one.
fn carrier_account(provider: &Provider) -> String {
    match &provider.kind {
        Some(Kind::Twilio(twilio)) if ["", "us1"].contains(&twilio.region.as_str()) => {
            twilio.account_sid.clone()
        }
        Some(Kind::Twilio(twilio)) => format!("{} ({})", twilio.account_sid, twilio.region),
        Some(Kind::Vobiz(vobiz)) => vobiz.auth_id.clone(),
        // It publishes no id of an account.
        Some(Kind::Telepath(_)) => "at Telepath".to_owned(),
        None => String::new(),
    }
}

fn table() -> Table {
    Table::new(&[
        "PROVIDER",
        "DISPLAY NAME",
        "CARRIER ACCOUNT",
        "STATUS",
        "SINCE",
        "VERIFIED",
        "NUMBERS",
        "TOKEN",
    ])
}

fn cells(provider: &Provider, now: Timestamp) -> Vec<Span> {
    let verification = provider.verification.clone().unwrap_or_default();
    let numbers = provider.phone_number_count.map_or_else(dash, |count| count.to_string());
    let token = age(now, time(provider.token_update_time));
    vec![
        Span::new(id(&provider.name), Style::new().bold()),
        Span::plain(provider.display_name.as_deref().unwrap_or_default()),
        Span::plain(&carrier_account(provider)),
        status_span(status(provider)),
        Span::plain(&age(now, time(verification.status_change_time))),
        Span::plain(&age(now, time(verification.last_verify_time))),
        Span::plain(&numbers),
        Span::plain(&format!("v{}, {token}", provider.token_version)),
    ]
}

/// How long ago, in the largest unit that says enough.
fn age(now: Timestamp, then: Option<Timestamp>) -> String {
    let Some(then) = then else { return dash() };
    // Two clocks may differ by a little.
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        for (then, told) in [
            ("2026-05-01T12:00:01Z", "0s"),
            ("2026-05-01T11:59:01Z", "59s"),
            ("2026-05-01T11:59:00Z", "1m"),
            ("2026-05-01T11:00:01Z", "59m"),
            ("2026-05-01T11:00:00Z", "1h"),
            ("2026-04-29T12:00:01Z", "47h"),
            ("2026-04-29T12:00:00Z", "2d"),
            ("2025-05-01T12:00:00Z", "365d"),
        ] {
            assert_eq!(age(now, Some(then.parse().unwrap())), told, "{then}");
        }
        assert_eq!(age(now, None), "-");
    }
}
