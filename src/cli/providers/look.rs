//! `credvault providers get` and `history`.

use anstyle::Style;

use super::{NOT_FOUND, age, check_word, client, show, status_span};
use crate::cli::client::Output;
use crate::cli::terminal::{Span, Table, harmless_json, size};
use crate::cli::{note, say};
use crate::clock::Clock;
use crate::grpc::client::time;
use crate::grpc::json;
use crate::grpc::proto::{
    CheckStatus, GetProviderRequest, ListVerificationsRequest, ListVerificationsResponse,
    Verification,
};

/// Show a provider, and what its last verification found; no carrier is asked
#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    /// Its id, or whole name
    provider: String,
    #[command(flatten)]
    options: client::Options,
}

/// List the last 100 verifications of a provider, newest first
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Its id, or whole name
    provider: String,
    #[command(flatten)]
    options: client::Options,
}

pub(super) async fn get(args: GetArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = connection.name("providers", &args.provider)?;
    let answer = connection.ask(GetProviderRequest { name }, NOT_FOUND).await?;
    show(output, &answer, answer.provider.as_ref(), clock)
}

pub(super) async fn history(args: HistoryArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.name("providers", &args.provider)?;
    let request = |page_token| ListVerificationsRequest {
        parent: parent.clone(),
        page_size: 200,
        page_token,
    };
    let open = |page: ListVerificationsResponse| (page.verifications, page.next_page_token);
    let (verifications, _) = connection.list(request, open, usize::MAX, NOT_FOUND).await?;
    if output == Output::Json {
        let all =
            ListVerificationsResponse { verifications, ..ListVerificationsResponse::default() };
        say(harmless_json(&json::pretty(&all)?))?;
        return Ok(());
    }
    if verifications.is_empty() {
        note("It was not verified yet: `credvault providers verify` does that now.");
        return Ok(());
    }
    let mut table = Table::new(&["VERIFIED", "AGE", "STATUS", "TOKEN", "NOT PASSED"]);
    for verification in &verifications {
        table.row(cells(verification, clock), Vec::new());
    }
    for line in table.lines(size().map(|(width, _)| width)) {
        say(line.painted())?;
    }
    Ok(())
}

fn cells(verification: &Verification, clock: &dyn Clock) -> Vec<Span> {
    let at = time(verification.last_verify_time);
    let open = verification.checks.iter().filter(|check| check.status() != CheckStatus::Passed);
    let open: Vec<String> =
        open.map(|check| format!("{} {}", check.name, check_word(check.status()))).collect();
    vec![
        Span::plain(&at.map_or_else(super::dash, |at| at.strftime("%FT%TZ").to_string())),
        Span::new(&age(clock.now(), at), Style::new().dimmed()),
        status_span(verification.status()),
        Span::plain(&format!("v{}", verification.token_version)),
        Span::plain(&open.join(", ")),
    ]
}
