//! `credvault recipient-keys`: public keys that generated passwords may be sealed for.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::client::{Change, Connection, NO_ACCOUNT, Options, Output, Retry, is_undone};
use super::terminal::harmless;
use super::{keys, note, quoted, render, say};
use crate::crypto::delivery::PrivateKey;
use crate::grpc::json;
use crate::grpc::proto::recipient::Key;
use crate::grpc::proto::{
    CreateRecipientKeyRequest, ListRecipientKeysRequest, ListRecipientKeysResponse, Recipient,
    RecipientKey, RevokeRecipientKeyRequest,
};

/// What helps when a key is not there.
pub(super) const NOT_FOUND: &str = "`credvault recipient-keys list` shows which there are";

/// The recipient that is this enrolled key, by its id or whole name.
pub(super) fn recipient(
    connection: &Connection,
    key: Option<&str>,
) -> anyhow::Result<Option<Recipient>> {
    let name = key.map(|key| connection.name("recipientKeys", key)).transpose()?;
    Ok(name.map(|name| Recipient { key: Some(Key::RecipientKey(name)) }))
}

/// Keep the keys that generated passwords may be sealed for
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault recipient-keys create ops --generate ops.key
  credvault recipient-keys list
  credvault rotate desk-1 --key-file ops.key
  credvault recipient-keys revoke ops --reason 'laptop lost'")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(CreateArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Enroll a key: from then on generated passwords may be sealed for it
///
/// Only who holds the private key opens what is sealed; the vault never sees it. The files of private and of public keys
/// hold one line of base64, 44 characters (X25519): `wg genkey` and `wg pubkey` write the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault recipient-keys create ops --generate ops.key            a new pair; ops.key gets the private key
  credvault recipient-keys create bob --public-key-file bob.pub --display-name 'Bob, on call'
  wg pubkey < ops.key | credvault recipient-keys create ops --public-key-file -")]
#[command(group = clap::ArgGroup::new("key").required(true))]
struct CreateArgs {
    /// Its id, such as ops [default: the vault makes one]
    #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
    id: String,
    /// The public key; -: standard input
    #[arg(long, value_name = "FILE", group = "key")]
    public_key_file: Option<PathBuf>,
    /// Make a key pair, and write the private key to this new file, for you alone
    #[arg(long, value_name = "FILE", group = "key")]
    generate: Option<PathBuf>,
    /// Whose it is, in words for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    display_name: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: Options,
}

/// List the keys of an account; those that are revoked as well
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    options: Options,
}

/// Revoke a key: nothing is sealed for it any more
///
/// What was sealed before, its holder can still open: rotate what he holds.
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Its id, or whole name
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => create(args).await?,
        Command::List(args) => list(args).await?,
        Command::Revoke(args) => revoke(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.account()?;
    let public_key = match (&args.generate, &args.public_key_file) {
        (Some(file), _) => {
            let key = PrivateKey::generate()?;
            let public_key = key.public_key()?;
            // Before it is enrolled: nobody shall seal for a key that is lost.
            keys::write_private(file, &key)?;
            public_key
        }
        (None, Some(file)) => keys::public(file)?,
        (None, None) => anyhow::bail!("which key? Name --generate FILE or --public-key-file FILE"),
    };
    let request = CreateRecipientKeyRequest {
        parent,
        recipient_key_id: args.id,
        recipient_key: Some(RecipientKey {
            public_key: public_key.as_bytes().to_vec(),
            display_name: args.display_name,
            ..RecipientKey::default()
        }),
        request_id: args.retry.request_id,
        reason: args.change.reason,
    };
    let answer = match connection.call(request).await {
        Ok(answer) => answer,
        Err(error) => {
            if let Some(file) = &args.generate {
                if is_undone(&error) {
                    fs::remove_file(file).ok();
                } else {
                    let (key, file) = (keys::public_text(&public_key), quoted(file));
                    note(format_args!(
                        "{file} stays, since its public key, {key}, may be enrolled"
                    ));
                }
            }
            return Err(connection.explain::<CreateRecipientKeyRequest>(&error, NO_ACCOUNT));
        }
    };
    match answer.recipient_key.as_ref().filter(|_| output == Output::Table) {
        Some(key) => {
            let mut fields = json::fields(key)?;
            // In the form of its file.
            if let Some((_, value)) = fields.iter_mut().find(|(name, _)| name == "public_key") {
                *value = keys::public_text(&public_key);
            }
            render::lines(fields)?;
        }
        None => say(render::json(&answer)?)?,
    }
    if let Some(file) = &args.generate {
        note(format_args!(
            "Its private key is in {}, for you alone: who loses it loses what is sealed for it",
            quoted(file)
        ));
    }
    Ok(())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.account()?;
    let answer = ListRecipientKeysResponse {
        recipient_keys: all(&connection, &parent).await?,
        ..ListRecipientKeysResponse::default()
    };
    let columns = ["name", "display_name", "create_time", "revoke_time", "public_key_sha256"];
    let nothing = format!(
        "There is no recipient key in {parent} yet. To enroll one:\n\n  \
         credvault recipient-keys create ops --generate ops.key"
    );
    render::list(output, &answer, &answer.recipient_keys, &columns, &nothing)
}

/// All recipient keys of an account.
pub(super) async fn all(
    connection: &Connection,
    parent: &str,
) -> anyhow::Result<Vec<RecipientKey>> {
    let request = |page_token| ListRecipientKeysRequest {
        parent: parent.to_owned(),
        page_size: 200,
        page_token,
    };
    let open = |page: ListRecipientKeysResponse| (page.recipient_keys, page.next_page_token);
    Ok(connection.list(request, open, usize::MAX, NO_ACCOUNT).await?.0)
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = connection.name("recipientKeys", &args.key)?;
    let told = format!(
        "{} is revoked: nothing is sealed for it any more. Rotate what its holder has",
        harmless(&name)
    );
    let request = RevokeRecipientKeyRequest { name, reason: args.change.reason };
    let answer = connection.ask(request, NOT_FOUND).await?;
    note(told);
    if output == Output::Json {
        return render::one(output, &answer, answer.recipient_key.as_ref());
    }
    Ok(())
}
