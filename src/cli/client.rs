//! What all client commands share: how they reach a vault, and what they say to type next.
//!
//! A further one flattens [`Options`], asks with [`Connection::ask`] or [`Connection::pages`], and prints with `render`.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use uuid::Builder;

use super::terminal::harmless;
use crate::access::ACTIONS;
use crate::config::{ClientOptions, ClientSettings};
use crate::crypto::random;
use crate::grpc::client::{Answers, CallError, Client, Identity, Rpc};
use crate::name::ResourceId;

/// Options of every client command.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// How to print: a table for people, or JSON for scripts, with the names of the contract
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) connection: ClientOptions,
}

/// Options of commands that change something.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Change {
    /// Why, for the audit log
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    pub(super) reason: String,
}

/// Options of commands that a script may have to repeat.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Retry {
    /// A UUID4 that makes it safe to run the command again with the same one
    #[arg(long, default_value = "", value_name = "UUID", hide_default_value = true)]
    pub(super) request_id: String,
}

/// Options of commands about what an account has, and the vault itself.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Whose {
    /// Of the vault itself, for operators, in place of an account
    #[arg(long, conflicts_with = "account")]
    pub(super) vault: bool,
}

impl Retry {
    /// The id that was named, or a new one.
    pub(super) fn id(self) -> anyhow::Result<String> {
        if self.request_id.is_empty() { new_request_id() } else { Ok(self.request_id) }
    }
}

/// A UUID4 that no other request has.
pub(super) fn new_request_id() -> anyhow::Result<String> {
    Ok(Builder::from_random_bytes(random::bytes()?).into_uuid().to_string())
}

/// What helps when an account is not there.
pub(super) const NO_ACCOUNT: &str =
    "Choose another with --account, or a token of that account with --token-file";

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    #[value(help = None)]
    Table,
    #[value(help = None)]
    Json,
}

/// A vault that can be called.
pub(super) struct Connection {
    client: Client,
    settings: ClientSettings,
    /// The command is about the vault itself.
    is_for_vault: bool,
}

impl Options {
    /// Connects at the first call, not now.
    pub(super) fn connect(self) -> anyhow::Result<Connection> {
        let settings = self.connection.resolve()?;
        let certificate = settings.identity.as_ref();
        let identity = Identity {
            token: settings.token.as_ref(),
            authorities: settings.authorities.as_deref(),
            certificate: certificate.map(|(certificate, key)| (certificate.as_str(), key)),
        };
        let client = Client::new(&settings.address, &identity).with_context(|| {
            let source = token_source(&settings);
            format!("cannot call {} with {source}", settings.address)
        })?;
        Ok(Connection { client, settings, is_for_vault: false })
    }

    /// The same for a command about what an account or the vault has.
    pub(super) fn connect_for(self, whose: Whose) -> anyhow::Result<Connection> {
        Ok(Connection { is_for_vault: whose.vault, ..self.connect()? })
    }
}

impl Connection {
    pub(super) async fn call<R: Rpc>(&self, request: R) -> Result<R::Response, CallError> {
        self.client.call(request).await
    }

    pub(super) async fn stream<R: Rpc>(
        &self,
        request: R,
    ) -> Result<Answers<R::Response>, CallError> {
        self.client.stream(request).await
    }

    /// Calls, and explains what goes wrong; `not_found` helps when what was named does not exist.
    pub(super) async fn ask<R: Rpc>(
        &self,
        request: R,
        not_found: &'static str,
    ) -> anyhow::Result<R::Response> {
        self.call(request).await.map_err(|error| self.explain::<R>(&error, not_found))
    }

    /// Asks for pages until there are no more, or `take` wants none: it returns the token of the next one, or nothing.
    pub(super) async fn pages<R: Rpc>(
        &self,
        mut request: impl FnMut(String) -> R,
        mut take: impl FnMut(R::Response) -> String,
        not_found: &'static str,
    ) -> anyhow::Result<()> {
        let mut token = String::new();
        loop {
            token = take(self.ask(request(token), not_found).await?);
            if token.is_empty() {
                return Ok(());
            }
        }
    }

    /// The first `most` of all that pages hold, and whether there are more. `open` takes a page apart into what it holds
    /// and the token of the next.
    pub(super) async fn list<R: Rpc, T>(
        &self,
        request: impl FnMut(String) -> R,
        open: impl Fn(R::Response) -> (Vec<T>, String),
        most: usize,
        not_found: &'static str,
    ) -> anyhow::Result<(Vec<T>, bool)> {
        let mut found = Vec::new();
        let take = |page| {
            let (more, next) = open(page);
            found.extend(more);
            // One more than wanted tells that there are more.
            if found.len() > most { String::new() } else { next }
        };
        self.pages(request, take, not_found).await?;
        let is_cut = found.len() > most;
        found.truncate(most);
        Ok((found, is_cut))
    }

    /// `accounts/{account}`.
    pub(super) fn account(&self) -> anyhow::Result<String> {
        let account = self.settings.account.as_ref();
        let account =
            account.context("which account? Name it with --account or CREDVAULT_ACCOUNT")?;
        Ok(format!("accounts/{account}"))
    }

    /// `vault`, or `accounts/{account}`: what a [`Whose`] chose.
    pub(super) fn parent(&self) -> anyhow::Result<String> {
        if self.is_for_vault { Ok("vault".to_owned()) } else { self.account() }
    }

    /// The whole name of what a person calls by its id, or by its whole name already.
    pub(super) fn name(&self, collection: &str, id: &str) -> anyhow::Result<String> {
        if id.contains('/') {
            return Ok(id.to_owned());
        }
        if let Err(rule) = ResourceId::parse(id) {
            let command = if collection == "recipientKeys" { "recipient-keys" } else { collection };
            bail!(
                "the id {} {rule}; `credvault {command} list` shows which there are",
                harmless(id)
            );
        }
        Ok(format!("{}/{collection}/{id}", self.account()?))
    }

    /// An error of a call of `R` for a person, with what to type next.
    pub(super) fn explain<R: Rpc>(
        &self,
        error: &CallError,
        not_found: &'static str,
    ) -> anyhow::Error {
        let role = if self.is_for_vault { "operator" } else { role_for(R::PATH) };
        let ClientSettings { address, account, .. } = &self.settings;
        let (reason, retry_after) = match error {
            CallError::NoAnswer(problem) => {
                return anyhow!(
                    "no vault answers at {address}: {}\nIs it running? `credvault dev` or `credvault serve` \
                     starts one; --address names another place",
                    harmless(problem)
                );
            }
            CallError::NoHandshake(problem) => {
                return anyhow!(
                    "no TLS connection to {address} came about: {}",
                    in_plain_words(&harmless(problem))
                );
            }
            CallError::Lost(problem) => {
                let done = may_be_done(R::PATH)
                    .map_or(String::new(), |look| format!("\nIt may be done all the same: {look}"));
                let hint = if self.settings.identity.is_some() {
                    "\nA vault that does not take the certificate of --client-cert-file ends so"
                } else if address.starts_with("https:") || address.starts_with("unix:") {
                    ""
                } else {
                    "\nIf it takes calls by TLS, write https://HOST:PORT"
                };
                return anyhow!(
                    "something is at {address}, and its answer is lost or none of a vault: {}{done}{hint}",
                    harmless(problem)
                );
            }
            CallError::Refused { reason, retry_after, .. } => (reason, retry_after),
        };
        let account = account.as_ref().map_or("ACCOUNT", |account| account.as_str());
        let create = |role: &str| match role {
            "operator" => "`credvault tokens create --role operator`".to_owned(),
            role => format!("`credvault tokens create --account {account} --role {role}`"),
        };
        let maker = if role == "operator" { "operator" } else { "account-admin" };
        let next = match reason.as_str() {
            "UNAUTHENTICATED" => format!(
                "The vault does not take {}. Name a file with a good token with --token-file: {} makes one, typed by \
                 an {maker}; where there is none, with --local beside the stopped vault",
                token_source(&self.settings),
                create(role)
            ),
            "ROLE_MISSING" => {
                format!("{} makes a token that may, typed by an {maker}", create(role))
            }
            "NOT_FOUND" => not_found.to_owned(),
            "ACCOUNT_DISABLED" => {
                format!("`credvault accounts enable {account}` opens it, typed by an operator")
            }
            "ALREADY_EXISTS" if R::PATH.ends_with("/CreateCredential") => {
                "`credvault credentials list --realm REALM --username-prefix NAME` shows who has the username, and \
                 `credvault credentials get ID` who has the id"
                    .to_owned()
            }
            "DEADLINE_EXCEEDED" => may_be_done(R::PATH)
                .map_or("Try again".to_owned(), |look| format!("It may be done: {look}")),
            "ROTATION_IN_PROGRESS" if R::PATH.contains("Provider") => "`credvault rotations list providers/ID` shows it, and \
                 how far it is; it goes on by itself, `credvault rotations confirm` ends the old token before its time, \
                 and `credvault rotations cancel` gives the new one up"
                .to_owned(),
            "ROTATION_IN_PROGRESS" => "`credvault rotations list ID` shows it; `credvault rotations confirm` ends it with \
                 the new password, `credvault rotations cancel` with the old one; one that waits for its carrier ends by \
                 itself, and `credvault rotations resume` has it ask at once"
                .to_owned(),
            "UPSTREAM_PENDING" => "`credvault rotations list` shows it, and `credvault rotations resume` has the carrier \
                 asked at once"
                .to_owned(),
            "PROVIDER_IN_USE" => {
                "`credvault credentials list --provider ID` shows which live there".to_owned()
            }
            "RECIPIENT_KEY_REQUIRED" => "`credvault recipient-keys list` shows which keys there are: name one with \
                 --recipient-key; `credvault rotate` wants the file of its private key, --key-file"
                .to_owned(),
            "LAST_ADMIN" => format!("{} makes another", create("account-admin")),
            "LAST_OPERATOR" => format!("{} makes another", create("operator")),
            _ => match retry_after {
                Some(wait) => format!("Try again in {} s", whole_seconds(*wait)),
                None => return anyhow!(told(error)),
            },
        };
        anyhow!("{}\n{next}", told(error))
    }
}

/// The least role that may call this method, by its path.
fn role_for(path: &str) -> &'static str {
    let method = path.rsplit('/').next().unwrap_or_default();
    let found = ACTIONS.iter().find(|(name, _)| *name == method);
    found.and_then(|(_, roles)| roles.first()).map_or("account-admin", |role| role.as_str())
}

/// What to look at when the answer of a call that changes something was lost.
fn may_be_done(path: &str) -> Option<&'static str> {
    let method = path.rsplit('/').next().unwrap_or_default();
    if ["Get", "List", "Verify", "Watch"].iter().any(|reads| method.starts_with(reads)) {
        return None;
    }
    Some(match method {
        "CreateCredential" => {
            "`credvault credentials list` shows it, and `credvault credentials rotate ID` gives it a password"
        }
        "RotateCredential" => {
            "`credvault credentials get ID` shows its version; rotate it again for a password"
        }
        "RotateToken" => "`credvault rotations list providers/ID` shows how far it is",
        "CreateApiToken" => {
            "`credvault tokens list` shows it; revoke it, since nobody has the token, and make another"
        }
        "UpdateDeliveryPolicy" => "look with `credvault delivery-policy get`",
        "UpdateAccessTokenPolicy" => "look with `credvault access-token-policy get`",
        "MintTwilioAccessToken" => "nobody has the token: make another",
        method if method.ends_with("RecipientKey") => "look with `credvault recipient-keys list`",
        method if method.ends_with("Rotation") => "look with `credvault rotations list`",
        method if method.ends_with("Credential") => "look with `credvault credentials list`",
        method if method.ends_with("ApiToken") => "look with `credvault tokens list`",
        method if method.ends_with("RoleBinding") => "look with `credvault roles list`",
        method if method.ends_with("Account") => "look with `credvault accounts list`",
        _ => "look with `credvault providers list`",
    })
}

/// Whether the vault surely did nothing.
pub(super) fn is_undone(error: &CallError) -> bool {
    const UNKNOWN: [&str; 5] = [
        "DEADLINE_EXCEEDED",
        "INTERNAL",
        "SECRET_ALREADY_ISSUED",
        "STORAGE_FULL",
        "STORAGE_UNAVAILABLE",
    ];
    match error {
        CallError::NoAnswer(_) | CallError::NoHandshake(_) => true,
        CallError::Lost(_) => false,
        CallError::Refused { reason, .. } => !UNKNOWN.contains(&reason.as_str()),
    }
}

/// Why no TLS connection came about, and what helps.
fn in_plain_words(problem: &str) -> String {
    let means = [
        (
            "CaUsedAsEndEntity",
            "its certificate is that of an authority; it needs one of its own, signed by that",
        ),
        ("BadSignature", "whom you trust did not sign its certificate; --ca-file names who did"),
        (
            "UnknownIssuer",
            "nobody who is trusted here vouches for its certificate; --ca-file names who does",
        ),
        (
            "not valid for name",
            "its certificate is for another name; call it by that one with --address",
        ),
        ("Expired", "its certificate has expired; renew it"),
        ("fatal alert", "it does not take the certificate of --client-cert-file, or wants one"),
        ("InvalidContentType", "it takes calls without TLS; leave out https://"),
    ];
    let found = means.iter().find(|(word, _)| problem.contains(word));
    found.map_or(problem.to_owned(), |(_, means)| format!("{means} ({problem})"))
}

/// A refusal in one line.
pub(super) fn refused(message: &str, reason: &str) -> String {
    format!("{} ({})", harmless(message), harmless(reason))
}

/// An error in one line, without advice.
pub(super) fn told(error: &CallError) -> String {
    match error {
        CallError::NoAnswer(problem) | CallError::NoHandshake(problem) => {
            format!("no vault answers: {}", harmless(problem))
        }
        CallError::Lost(problem) => {
            format!("the answer is lost or none of a vault: {}", harmless(problem))
        }
        CallError::Refused { reason, message, .. } => refused(message, reason),
    }
}

fn token_source(settings: &ClientSettings) -> String {
    match (&settings.token_file, &settings.token) {
        (Some(file), _) => format!("the token from {}", file.display()),
        (None, Some(_)) => "the token from CREDVAULT_TOKEN".to_owned(),
        (None, None) => "the certificate of --client-cert-file".to_owned(),
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
