//! `credvault providers create`, `update`, `update-token` and `delete`.

use std::path::PathBuf;

use anyhow::bail;

use super::{NO_ACCOUNT, NOT_FOUND, client, show};
use crate::cli::client::{Change, Retry};
use crate::cli::terminal::harmless;
use crate::cli::{note, render, secrets};
use crate::clock::Clock;
use crate::grpc::client::field_mask;
use crate::grpc::proto::{
    CreateProviderRequest, DeleteProviderRequest, Provider, TelepathProvider, TwilioApiKey,
    TwilioProvider, UpdateProviderRequest, UpdateTokenRequest, VobizProvider, provider::Kind,
};

/// Create a provider: an account at a carrier, with the token that opens it
///
/// The carrier is asked first; nothing is stored unless it confirms the token. The token is never an argument: it comes
/// from a file that only you may read, from standard input, or from you, when you are asked for it.
///
/// Vobiz and Telepath keep one password for each SIP user: when it is rotated there, the old one dies at once. Telepath
/// says its new one only in the answer to the rotation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault providers create main --account-sid AC…                                asks for the Auth Token
  credvault providers create main --account-sid AC… --auth-token-file twilio.token
  credvault providers create main --account-sid AC… --api-key-sid SK… --trunk-sid TK… --credential-list-sid CL…
  credvault providers create india --vobiz-auth-id MA_… --auth-token-file vobiz.token
  credvault providers create agents --telepath                                     asks for the API key")]
pub(super) struct CreateArgs {
    /// Its id, such as main [default: the vault makes one]
    #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
    id: String,
    #[command(flatten)]
    carrier: CarrierArgs,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The Twilio region of the token: us1, ie1, au1 or jp1 [default: us1]
    #[arg(
        long,
        value_name = "REGION",
        default_value = "",
        hide_default_value = true,
        conflicts_with_all = ["vobiz_auth_id", "telepath"]
    )]
    region: String,
    /// The Elastic SIP Trunk at Twilio that verifications look at
    #[arg(long, value_name = "SID", conflicts_with_all = ["vobiz_auth_id", "telepath"])]
    trunk_sid: Option<String>,
    /// The Credential List that must be attached to the trunk
    #[arg(long, value_name = "SID", conflicts_with_all = ["vobiz_auth_id", "telepath"])]
    credential_list_sid: Option<String>,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: client::Options,
}

/// Which carrier, and which account there: one of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct CarrierArgs {
    /// The account at Twilio
    #[arg(long, value_name = "SID")]
    account_sid: Option<String>,
    /// The account at Vobiz
    #[arg(long, value_name = "AUTH_ID")]
    vobiz_auth_id: Option<String>,
    /// The account at Telepath that the API key opens: Telepath has no id for it
    #[arg(long)]
    telepath: bool,
}

/// Which token, and whether it is only tried.
#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// The account's Auth Token (at Telepath, an API key): in a file that only you may read; or -, to pipe it in or be
    /// asked for it
    #[arg(long, value_name = "FILE", default_value = "-", conflicts_with = "api_key_sid")]
    auth_token_file: PathBuf,
    /// In place of the Auth Token, at Twilio: the SID of an API key
    #[arg(long, value_name = "SID")]
    api_key_sid: Option<String>,
    /// The API key's secret, as with --auth-token-file
    #[arg(long, value_name = "FILE", default_value = "-", requires = "api_key_sid")]
    api_key_secret_file: PathBuf,
    /// Ask the carrier, and store nothing
    #[arg(long)]
    validate_only: bool,
}

/// Change a provider's name, or, at Twilio, the trunk that verifications look at: only what is named
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault providers update main --display-name 'Main trunk'
  credvault providers update main --trunk-sid ''                 looks at no trunk from now on")]
pub(super) struct UpdateArgs {
    /// Its id, or whole name
    provider: String,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The Elastic SIP Trunk; empty: none
    #[arg(long, value_name = "SID")]
    trunk_sid: Option<String>,
    /// The Credential List that must be attached to the trunk; empty: none
    #[arg(long, value_name = "SID")]
    credential_list_sid: Option<String>,
    /// Only if this is still its etag
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: client::Options,
}

/// Replace a provider's token by one that the carrier confirms; the old one cannot be recovered
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault providers update-token main                                 asks for the new token
  credvault providers update-token main --auth-token-file twilio.token --reason 'rotated in the Console'
  credvault providers update-token main --validate-only                 would it work?")]
pub(super) struct UpdateTokenArgs {
    /// Its id, or whole name
    provider: String,
    /// Only if this is still its etag
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: client::Options,
}

/// Delete a provider, with its token here; at the carrier the token stays valid
#[derive(Debug, clap::Args)]
pub(super) struct DeleteArgs {
    /// Its id, or whole name
    provider: String,
    /// Only if this is still its etag
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: client::Options,
}

impl TokenArgs {
    /// The token, which people call `what`; empty if there is an API key of Twilio's in place of it.
    fn read(self, what: &str) -> anyhow::Result<(String, Option<TwilioApiKey>)> {
        let Some(sid) = self.api_key_sid else {
            return Ok((secrets::read(&self.auth_token_file, what)?, None));
        };
        let secret = secrets::read(&self.api_key_secret_file, "secret of the API key")?;
        Ok((String::new(), Some(TwilioApiKey { sid, secret })))
    }
}

/// What was asked for was only tried.
fn tried(validate_only: bool) {
    if validate_only {
        note("The carrier confirms the token; nothing was stored.");
    }
}

pub(super) async fn create(args: CreateArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.account()?;
    let validate_only = args.token.validate_only;
    let CarrierArgs { account_sid, vobiz_auth_id, telepath } = args.carrier;
    let (kind, what) = match (account_sid, vobiz_auth_id) {
        (Some(account_sid), _) => {
            let twilio = TwilioProvider {
                account_sid,
                region: args.region,
                sip_trunk_sid: args.trunk_sid,
                credential_list_sid: args.credential_list_sid,
                ..TwilioProvider::default()
            };
            (Kind::Twilio(twilio), "Auth Token")
        }
        (None, Some(auth_id)) => (Kind::Vobiz(VobizProvider { auth_id }), "Auth Token"),
        (None, None) => (Kind::Telepath(TelepathProvider {}), "API key"),
    };
    let (auth_token, api_key) = args.token.read(what)?;
    let request = CreateProviderRequest {
        parent,
        provider_id: args.id,
        provider: Some(Provider {
            display_name: args.display_name,
            kind: Some(kind),
            ..Provider::default()
        }),
        auth_token,
        api_key,
        validate_only,
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NO_ACCOUNT).await?;
    show(output, &answer, answer.provider.as_ref(), clock)?;
    if telepath && !validate_only {
        note(
            "At Telepath a rotation of a trunk's password kills the old one at once: know where the new one has to go \
             before you rotate.",
        );
    }
    tried(validate_only);
    Ok(())
}

pub(super) async fn update(args: UpdateArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let mut paths = Vec::new();
    for (path, value) in [
        ("display_name", &args.display_name),
        ("twilio.sip_trunk_sid", &args.trunk_sid),
        ("twilio.credential_list_sid", &args.credential_list_sid),
    ] {
        if value.is_some() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        bail!("nothing to change: name --display-name, --trunk-sid or --credential-list-sid");
    }
    let of_twilio = args.trunk_sid.is_some() || args.credential_list_sid.is_some();
    let twilio = TwilioProvider {
        sip_trunk_sid: args.trunk_sid,
        credential_list_sid: args.credential_list_sid,
        ..TwilioProvider::default()
    };
    let request = UpdateProviderRequest {
        provider: Some(Provider {
            name: connection.name("providers", &args.provider)?,
            display_name: args.display_name,
            kind: of_twilio.then_some(Kind::Twilio(twilio)),
            etag: args.etag,
            ..Provider::default()
        }),
        update_mask: Some(field_mask(&paths)),
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NOT_FOUND).await?;
    show(output, &answer, answer.provider.as_ref(), clock)
}

pub(super) async fn update_token(args: UpdateTokenArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = connection.name("providers", &args.provider)?;
    let validate_only = args.token.validate_only;
    let (auth_token, api_key) = args.token.read("token")?;
    let request = UpdateTokenRequest {
        name,
        auth_token,
        api_key,
        etag: args.etag,
        validate_only,
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NOT_FOUND).await?;
    show(output, &answer, answer.provider.as_ref(), clock)?;
    tried(validate_only);
    Ok(())
}

pub(super) async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = connection.name("providers", &args.provider)?;
    let request = DeleteProviderRequest {
        name: name.clone(),
        etag: args.etag,
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = connection.ask(request, NOT_FOUND).await?;
    note(format_args!("{} is deleted; at the carrier its token stays valid", harmless(&name)));
    render::one(output, &answer, None::<&Provider>)
}
