//! `credvault delivery-policy`: how generated passwords leave an account.

use std::process::ExitCode;

use clap::Subcommand;

use super::client::{Change, NO_ACCOUNT, Options, Output};
use super::{render, say};
use crate::grpc::json::Described;
use crate::grpc::proto::{DeliveryPolicy, GetDeliveryPolicyRequest, UpdateDeliveryPolicyRequest};

/// See and say how generated passwords leave an account
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault delivery-policy get
  credvault delivery-policy set --enrolled-keys-only true --reason 'no plaintext in answers'")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Get(GetArgs),
    Set(SetArgs),
}

/// Show how generated passwords leave an account
#[derive(Debug, clap::Args)]
struct GetArgs {
    #[command(flatten)]
    options: Options,
}

/// Say how generated passwords leave an account
///
/// With --enrolled-keys-only true they leave only sealed for a key of `credvault recipient-keys list`: not in plaintext,
/// and not for a key that a caller brings. Passwords of your own leave in no case.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault recipient-keys create ops --generate ops.key        somebody who may receive
  credvault delivery-policy set --enrolled-keys-only true
  credvault rotate desk-1 --key-file ops.key                    works; without --key-file it is refused")]
struct SetArgs {
    /// Whether they leave only sealed for an enrolled key
    #[arg(long, value_name = "BOOL", required = true)]
    enrolled_keys_only: Option<bool>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Get(args) => get(args).await?,
        Command::Set(args) => set(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(args: GetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = format!("{}/deliveryPolicy", connection.account()?);
    let answer = connection.ask(GetDeliveryPolicyRequest { name }, NO_ACCOUNT).await?;
    show(output, &answer, answer.delivery_policy.as_ref())
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let policy = DeliveryPolicy {
        name: format!("{}/deliveryPolicy", connection.account()?),
        enrolled_keys_only: args.enrolled_keys_only,
    };
    let request =
        UpdateDeliveryPolicyRequest { delivery_policy: Some(policy), reason: args.change.reason };
    let answer = connection.ask(request, NO_ACCOUNT).await?;
    show(output, &answer, answer.delivery_policy.as_ref())
}

/// Prints a policy. That nothing is demanded is said as well.
fn show<A: Described>(
    output: Output,
    answer: &A,
    policy: Option<&DeliveryPolicy>,
) -> anyhow::Result<()> {
    let Some(policy) = policy.filter(|_| output == Output::Table) else {
        return say(render::json(answer)?);
    };
    let only = policy.enrolled_keys_only.unwrap_or_default().to_string();
    render::lines(vec![
        ("name".to_owned(), policy.name.clone()),
        ("enrolled_keys_only".to_owned(), only),
    ])
}
