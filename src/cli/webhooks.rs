//! `credvault webhooks`: whether a carrier made a request.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use url::form_urlencoded;

use super::client::{Options, Output};
use super::{or_not_asked, quoted, render, say};
use crate::grpc::proto::verify_twilio_webhook_request::Content;
use crate::grpc::proto::{
    VerifyTwilioWebhookRequest, VersionState, WebhookFault, WebhookField, WebhookForm,
};

/// Check that Twilio called a webhook
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault webhooks verify main --url https://example.com/voice --field CallSid=CA… --field From=+1… \\
    --signature 0/KCTR6DLpKmkAf8muzZqo1nDgQ=
  credvault webhooks verify main --url 'https://example.com/event?bodySHA256=0a1f…' --body-file event.json \\
    --signature a9nBmqA0ju/hNViExpshrM61xv4=")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(VerifyArgs),
}

/// Check the signature of a webhook against the stored Auth Token, which stays inside
///
/// A valid signature is valid again tomorrow: whether the request is here for the first time is for you to know. Exit
/// status: 0 if Twilio made the request; 1 if it did not; 2 if the vault could not be asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  credvault webhooks verify main --url https://example.com/voice --field CallSid=CA… --field From=+1… \\
    --signature 0/KCTR6DLpKmkAf8muzZqo1nDgQ=")]
struct VerifyArgs {
    /// The provider whose account called: its id, or whole name
    provider: String,
    /// The URL as Twilio called it, with its query
    #[arg(long)]
    url: String,
    /// A field of the form, decoded; once for each
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = field)]
    fields: Vec<(String, String)>,
    /// The body of a form as it came, such as CallSid=CA1&To=%2B1…; what is in --field shows in the list of processes
    #[arg(long, value_name = "FILE", conflicts_with = "fields")]
    form_file: Option<PathBuf>,
    /// The body as it came, where it is no form, such as JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fields", "form_file"])]
    body_file: Option<PathBuf>,
    /// The value of the header X-Twilio-Signature; nothing where there was none
    #[arg(long, default_value = "", hide_default_value = true)]
    signature: String,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Verify(args) => Ok(or_not_asked(verify(args).await)),
    }
}

async fn verify(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let read =
        |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", quoted(file)));
    let form = |fields: Vec<(String, String)>| {
        let fields = fields.into_iter().map(|(name, value)| WebhookField { name, value });
        Some(Content::Form(WebhookForm { fields: fields.collect() }))
    };
    let content = match (args.body_file, args.form_file) {
        (Some(file), _) => Some(Content::Body(read(&file)?)),
        (None, Some(file)) => {
            let body = read(&file)?;
            form(form_urlencoded::parse(&body).into_owned().collect())
        }
        (None, None) if args.fields.is_empty() => None,
        (None, None) => form(args.fields),
    };
    let request = VerifyTwilioWebhookRequest {
        name: connection.name("providers", &args.provider)?,
        url: args.url,
        content,
        signature: args.signature,
    };
    let answer = connection.ask(request, super::providers::NOT_FOUND).await?;
    if output == Output::Json {
        render::one(output, &answer, Some(&answer))?;
    } else if answer.valid {
        let which = match answer.version_state() {
            VersionState::Pending => ", which is about to be the active one",
            VersionState::Retiring => ", which was the active one until a moment ago",
            _ => "",
        };
        say(format_args!("valid: token version {}{which}", answer.version))?;
    } else {
        say(match answer.fault() {
            WebhookFault::NotSigned => "not valid: it is not signed",
            WebhookFault::WrongBody => "not valid: the body is not the one that the URL names",
            WebhookFault::WrongSignature | WebhookFault::Unspecified => {
                "not valid: no token of this provider signed this URL with these fields"
            }
        })?;
    }
    Ok(if answer.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Parses `NAME=VALUE`.
fn field(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}
