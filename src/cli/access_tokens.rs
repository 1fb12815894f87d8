//! `credvault access-tokens`: Twilio Access Tokens for phones and browsers, and `access-token-policy`: what an account allows
//! in them.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::client::{Change, NO_ACCOUNT, Options, Output};
use super::secrets::Out;
use super::terminal::harmless;
use super::{note, render, say};
use crate::grpc::client::{duration, time};
use crate::grpc::json::Described;
use crate::grpc::proto::{
    AccessTokenGrant, AccessTokenPolicy, ChatGrant, DataSyncGrant, GetAccessTokenPolicyRequest,
    MintTwilioAccessTokenRequest, UpdateAccessTokenPolicyRequest, VideoGrant, VoiceGrant,
};

/// Make Twilio Access Tokens with an API key that stays inside
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault access-token-policy set --grant voice-incoming --max-lifetime 1h
  credvault access-tokens mint main --identity alice --voice-incoming")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mint(MintArgs),
}

/// Make an access token: a JWT for a phone or a browser
///
/// The provider holds an API key, Main or Standard. The token is printed alone, and cannot be revoked alone: it ends at its
/// time, or with its key. At least one grant is needed, and the account's policy must allow it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault access-tokens mint main --identity alice --voice-incoming --lifetime 10m
  credvault access-tokens mint main --identity alice --voice-application AP… --out alice.jwt")]
struct MintArgs {
    /// The provider whose key signs: its id, or whole name
    provider: String,
    /// Who has it, as Twilio calls it
    #[arg(long)]
    identity: String,
    /// How long it is good for, such as 10m; at most 24h [default: 1h, or what the policy allows]
    #[arg(long, value_name = "TIME")]
    lifetime: Option<jiff::SignedDuration>,
    /// Programmable Voice: to be called
    #[arg(long)]
    voice_incoming: bool,
    /// Programmable Voice: to call through this TwiML application
    #[arg(long, value_name = "AP…", default_value = "", hide_default_value = true)]
    voice_application: String,
    /// Video: this room; without a name, any
    #[arg(long, value_name = "ROOM", num_args = 0..=1, default_missing_value = "")]
    video: Option<String>,
    /// Conversations: this service
    #[arg(long, value_name = "IS…")]
    chat: Option<String>,
    /// Sync: this service
    #[arg(long, value_name = "IS…")]
    data_sync: Option<String>,
    #[command(flatten)]
    out: Out,
    #[command(flatten)]
    options: Options,
}

/// See and say what an account allows in Twilio Access Tokens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault access-token-policy get
  credvault access-token-policy set --grant voice-incoming --grant video --max-lifetime 1h
  credvault access-token-policy set --max-lifetime 1h                no tokens any more")]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Get(GetArgs),
    Set(SetArgs),
}

/// Show what an account allows in access tokens
#[derive(Debug, clap::Args)]
struct GetArgs {
    #[command(flatten)]
    options: Options,
}

/// Say what an account allows in access tokens: exactly this
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  credvault access-token-policy set --grant voice-incoming --grant video --max-lifetime 1h")]
struct SetArgs {
    /// What they may grant; once for each. None: no token is made
    #[arg(long = "grant", value_enum, value_name = "GRANT")]
    grants: Vec<Grant>,
    /// How long they may be good for, such as 1h; at most 24h
    #[arg(long, value_name = "TIME")]
    max_lifetime: jiff::SignedDuration,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

/// What a token may grant.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Grant {
    /// To be called
    VoiceIncoming,
    /// To call, which costs money
    VoiceOutgoing,
    /// Video
    Video,
    /// Conversations
    Chat,
    /// Sync
    DataSync,
}

impl From<Grant> for AccessTokenGrant {
    fn from(grant: Grant) -> Self {
        match grant {
            Grant::VoiceIncoming => Self::VoiceIncoming,
            Grant::VoiceOutgoing => Self::VoiceOutgoing,
            Grant::Video => Self::Video,
            Grant::Chat => Self::Chat,
            Grant::DataSync => Self::DataSync,
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Mint(args) => mint(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn run_policy(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        PolicyCommand::Get(args) => get(args).await?,
        PolicyCommand::Set(args) => set(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn mint(args: MintArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let place = args.out.open()?;
    let connection = args.options.connect()?;
    let voice = (args.voice_incoming || !args.voice_application.is_empty()).then(|| VoiceGrant {
        incoming: args.voice_incoming,
        outgoing_application_sid: args.voice_application,
        ..VoiceGrant::default()
    });
    let request = MintTwilioAccessTokenRequest {
        name: connection.name("providers", &args.provider)?,
        identity: args.identity,
        voice,
        video: args.video.map(|room| VideoGrant { room }),
        chat: args.chat.map(|service_sid| ChatGrant { service_sid, ..ChatGrant::default() }),
        data_sync: args
            .data_sync
            .map(|service_sid| DataSyncGrant { service_sid, ..DataSyncGrant::default() }),
        lifetime: args.lifetime.map(duration),
    };
    let answer = connection.ask(request, super::providers::NOT_FOUND).await?;
    if output == Output::Json {
        return say(render::json(&answer)?);
    }
    place.put(&answer.token, "The token is lost; make another")?;
    let end = time(answer.expire_time).map_or_else(String::new, |end| end.to_string());
    note(format_args!("{}, good until {end}", harmless(&answer.jti)));
    Ok(())
}

async fn get(args: GetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = format!("{}/accessTokenPolicy", connection.account()?);
    let answer = connection.ask(GetAccessTokenPolicyRequest { name }, NO_ACCOUNT).await?;
    show(output, &answer, answer.access_token_policy.as_ref())
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let policy = AccessTokenPolicy {
        name: format!("{}/accessTokenPolicy", connection.account()?),
        grants: args.grants.into_iter().map(|it| AccessTokenGrant::from(it).into()).collect(),
        max_lifetime: Some(duration(args.max_lifetime)),
    };
    let request = UpdateAccessTokenPolicyRequest {
        access_token_policy: Some(policy),
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NO_ACCOUNT).await?;
    show(output, &answer, answer.access_token_policy.as_ref())
}

/// Prints a policy. That nothing is allowed is said as well.
fn show<A: Described>(
    output: Output,
    answer: &A,
    policy: Option<&AccessTokenPolicy>,
) -> anyhow::Result<()> {
    let nothing = policy.filter(|policy| policy.grants.is_empty() && output == Output::Table);
    render::one(output, answer, policy)?;
    if nothing.is_some() {
        note("No token is made; `credvault access-token-policy set --grant GRANT` allows some");
    }
    Ok(())
}
