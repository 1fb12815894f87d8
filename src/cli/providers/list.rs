//! `credvault providers list`: what the vault knows, without asking a carrier.

use clap::builder::PossibleValuesParser;

use super::{all, cells, client, remarks, table};
use crate::cli::client::Output;
use crate::cli::terminal::{harmless_json, size};
use crate::cli::{note, say};
use crate::clock::Clock;
use crate::grpc::json;
use crate::grpc::proto::{ListProvidersResponse, ProviderFilter, ProviderType, VerificationStatus};

/// List an account's providers, and what their last verification found
///
/// SINCE is how long the status is what it is, VERIFIED when the carrier last answered, TOKEN the version of the
/// stored token and its age. Under a provider that is not verified stands each check that did not pass. No carrier
/// is asked: `credvault providers verify` does that.
///
/// With `--output json`, one `ListProvidersResponse` with all of them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those of this status
    #[arg(long, value_name = "STATUS",
        value_parser = PossibleValuesParser::new(["pending", "verified", "warning", "failed"]))]
    status: Option<String>,
    /// Only those at this carrier
    #[arg(long = "type", value_name = "CARRIER", value_parser = PossibleValuesParser::new(["twilio", "vobiz", "telepath"]))]
    provider_type: Option<String>,
    #[command(flatten)]
    options: client::Options,
}

pub(super) async fn run(args: Args, clock: &dyn Clock) -> anyhow::Result<()> {
    let filter = args.filter();
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.account()?;
    let providers = all(&connection, &parent, filter).await?;
    if output == Output::Json {
        let all = ListProvidersResponse { providers, ..ListProvidersResponse::default() };
        say(harmless_json(&json::pretty(&all)?))?;
        return Ok(());
    }
    if providers.is_empty() {
        introduce(&parent, filter != ProviderFilter::default());
        return Ok(());
    }
    let mut table = table();
    for provider in &providers {
        table.row(cells(provider, clock.now()), remarks(provider));
    }
    for line in table.lines(size().map(|(width, _)| width)) {
        say(line.painted())?;
    }
    Ok(())
}

impl Args {
    fn filter(&self) -> ProviderFilter {
        let status = self.status.as_ref().and_then(|status| {
            let name = format!("VERIFICATION_STATUS_{}", status.to_uppercase());
            VerificationStatus::from_str_name(&name)
        });
        let provider_type = self.provider_type.as_ref().and_then(|provider_type| {
            ProviderType::from_str_name(&format!("PROVIDER_TYPE_{}", provider_type.to_uppercase()))
        });
        ProviderFilter {
            status: status.unwrap_or_default().into(),
            provider_type: provider_type.unwrap_or_default().into(),
        }
    }
}

/// What to type when there is nothing to list.
fn introduce(parent: &str, filtered: bool) {
    if filtered {
        note(format_args!(
            "No provider in {parent} is like that; without --status and --type, all are listed."
        ));
        return;
    }
    note(format_args!(
        "There is no provider in {parent} yet. To create one:\n\n  \
         credvault providers create main --account-sid AC…       at Twilio\n  \
         credvault providers create main --vobiz-auth-id MA_…    at Vobiz\n  \
         credvault providers create main --telepath              at Telepath"
    ));
}
