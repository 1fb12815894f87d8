//! A rotation's beginning: which key its password is sealed for, and its request with an id of its own.

use std::path;

use anyhow::{Context as _, bail};

use super::state::{Job, Key};
use crate::cli::client::{Connection, new_request_id};
use crate::cli::terminal::harmless;
use crate::cli::{keys, recipient_keys};
use crate::crypto::delivery::PrivateKey;
use crate::grpc::client::duration;
use crate::grpc::proto::recipient::Key as For;
use crate::grpc::proto::{Recipient, RecipientKey, RotateCredentialRequest};

/// What the options ask for. Nothing has happened yet.
pub(super) async fn new_job(
    args: &super::Args,
    name: String,
    connection: &Connection,
) -> anyhow::Result<Job> {
    let (key, recipient) = match &args.key_file {
        None => {
            let key = PrivateKey::generate()?;
            let public = key.public_key()?.as_bytes().to_vec();
            (Key::Fresh(key), For::HpkePublicKey(public))
        }
        Some(file) => {
            let key = keys::private(file)?;
            let whole = path::absolute(file).with_context(|| format!("find {}", file.display()))?;
            let enrolled = enrolled(connection, &name, &key, args.recipient_key.as_deref()).await?;
            (Key::Enrolled(key, whole), For::RecipientKey(enrolled))
        }
    };
    let request = RotateCredentialRequest {
        name,
        etag: args.how.etag.clone(),
        password_length: args.how.password_length,
        request_id: new_request_id()?,
        reason: args.change.reason.clone(),
        overlap: args.how.overlap.map(duration),
        require_confirmation: args.how.require_confirmation,
        recipient: Some(Recipient { key: Some(recipient) }),
    };
    Ok(Job { request, key, out: None, rotation: None })
}

/// The enrolled key that this private key is of: found out before anything is sealed for another.
async fn enrolled(
    connection: &Connection,
    credential: &str,
    key: &PrivateKey,
    named: Option<&str>,
) -> anyhow::Result<String> {
    let parent = credential.split_once("/credentials/").map_or(credential, |(parent, _)| parent);
    let named = named.map(|key| connection.name("recipientKeys", key)).transpose()?;
    let public = key.public_key()?;
    let all = recipient_keys::all(connection, parent).await?;
    let is_its = |known: &&RecipientKey| known.public_key == public.as_bytes();
    let list = recipient_keys::NOT_FOUND;
    let found = if let Some(named) = &named {
        let found = all.iter().find(|known| known.name == *named);
        let found = found.with_context(|| format!("there is no {}; {list}", harmless(named)))?;
        Some(found).filter(is_its).with_context(|| {
            format!(
                "the file of --key-file is not that of {}: its public key is {}; {list}",
                harmless(named),
                keys::public_text(&public)
            )
        })?
    } else {
        let fitting = || all.iter().filter(is_its);
        let good = fitting().find(|known| known.revoke_time.is_none());
        good.or_else(|| fitting().next()).with_context(|| {
            format!(
                "the key of --key-file is not enrolled; its public key is {}, which `credvault recipient-keys create ID \
                 --public-key-file FILE` enrolls",
                keys::public_text(&public)
            )
        })?
    };
    if found.revoke_time.is_some() {
        bail!("{} is revoked; {list}", harmless(&found.name));
    }
    Ok(found.name.clone())
}
