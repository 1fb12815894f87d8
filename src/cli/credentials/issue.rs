//! `credvault credentials create` and `rotate`: the commands that issue a password, each with one call.

use std::path::PathBuf;

use anyhow::{anyhow, bail};

use super::{
    Change, NO_ACCOUNT, NOT_FOUND, Options, Output, Retry, harmless, label, note, render, say,
    secrets,
};
use crate::cli::client::is_undone;
use crate::cli::rotate::How;
use crate::cli::rotation_policy::Policy;
use crate::cli::{recipient_keys, rotations};
use crate::grpc::client::{duration, time};
use crate::grpc::proto::credential::AtCarrier;
use crate::grpc::proto::{
    CreateCredentialRequest, Credential, IssuedSecret, RotateCredentialRequest, Rotation,
    SealedSecret, TelepathTrunk, TwilioCredential, VobizCredential,
};

/// Whom the password is for.
#[derive(Debug, clap::Args)]
struct For {
    /// Have it sealed for this enrolled key, by its id or whole name: `credvault open` opens what is then printed
    #[arg(long, value_name = "KEY")]
    recipient_key: Option<String>,
}

/// Where a credential lives, if its carrier has the word on it.
#[derive(Debug, clap::Args)]
struct Residence {
    /// It lives at the carrier of this provider: its id, or whole name; say with one of the three options below what it
    /// is there
    #[arg(long, value_name = "PROVIDER", requires_all = ["at_carrier", "password_file"],
        help_heading = AT_CARRIER)]
    provider: Option<String>,
    #[command(flatten)]
    at: At,
}

/// What it is there.
#[derive(Debug, clap::Args)]
#[group(id = "at_carrier", multiple = false, requires = "provider")]
struct At {
    /// At Twilio: a SIP credential list, and the credential in it
    #[arg(long, value_name = "CL…/CR…", value_parser = twilio_credential, help_heading = AT_CARRIER)]
    twilio_credential: Option<(String, String)>,
    /// At Vobiz: a SIP credential, by its id there
    #[arg(long, value_name = "ID", help_heading = AT_CARRIER)]
    vobiz_credential: Option<String>,
    /// At Telepath: a trunk, by its id there, such as `conn_abc123xyz`
    #[arg(long, value_name = "ID", help_heading = AT_CARRIER)]
    telepath_trunk: Option<String>,
}

const AT_CARRIER: &str = "A credential that is at a carrier already";

impl At {
    fn into_wire(self) -> Option<AtCarrier> {
        let twilio = self.twilio_credential.map(|(credential_list_sid, credential_sid)| {
            AtCarrier::Twilio(TwilioCredential { credential_list_sid, credential_sid })
        });
        let vobiz = self.vobiz_credential;
        let vobiz = vobiz.map(|credential_id| AtCarrier::Vobiz(VobizCredential { credential_id }));
        let trunk = self.telepath_trunk;
        twilio.or(vobiz).or(trunk.map(|trunk_id| AtCarrier::Telepath(TelepathTrunk { trunk_id })))
    }
}

/// Parses `CL…/CR…`.
fn twilio_credential(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('/').ok_or("write CL…/CR…: the list, and the credential in it")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// Create a credential and print its password, this once
///
/// Standard output is the password alone, and what it is for goes to standard error. A password of your own is never
/// printed.
///
/// With --provider it takes over a credential that exists at a carrier: from then on its password is changed there and
/// here together. The username is the one that it has there. --password-file holds the password in force there, since no
/// carrier tells it; where nobody knows it any more, write anything, and `credvault rotate` it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault credentials create desk-1 --username desk-1 --realm sip.example.com
  credvault credentials create desk-1 --username desk-1 --realm sip.example.com --out desk-1.password
  credvault credentials create desk-1 --username desk-1 --realm sip.example.com --recipient-key ops > sealed.json
  credvault credentials create desk-1 --username desk-1 --realm sip.example.com --rotate-every 90d --rotate-for ops \\
    --rotate-overlap 1d                                                        and the vault rotates it by itself
  pass show desk-1 | credvault credentials create desk-1 --username desk-1 --realm sip.example.com --password-file -

One that is at a carrier already, with its password in desk-1.password:
  credvault credentials create desk-1 --username desk-1 --realm MA_XXXXXXXX.sip.vobiz.ai \
    --provider vobiz --vobiz-credential aabbccdd-1234-5678-90ab-cdef12345678 --password-file desk-1.password
  credvault credentials create trunk-1 --username agent-prod-01 --realm sip.telepathvoice.com \
    --provider telepath --telepath-trunk conn_abc123xyz --password-file trunk-1.password
  credvault credentials create pbx --username pbx --realm example.pstn.twilio.com \
    --provider twilio --twilio-credential CL0123456789abcdef0123456789abcdef/CR0123456789abcdef0123456789abcdef \
    --password-file pbx.password")]
pub(super) struct CreateArgs {
    /// Its id, such as desk-1 [default: the vault makes one]
    #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
    id: String,
    /// The user part of its SIP address
    #[arg(long, value_name = "NAME")]
    username: String,
    /// The SIP realm, such as sip.example.com
    #[arg(long, value_name = "REALM")]
    realm: String,
    /// What it is, in words for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A password of your own: in a file that only you may read; or -, to pipe it in or be asked for it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_length", "out", "recipient_key"])]
    password_file: Option<PathBuf>,
    /// How long the generated password is, 16 to 64 [default: 24]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    password_length: u32,
    #[command(flatten)]
    residence: Residence,
    #[command(flatten)]
    recipient: For,
    #[command(flatten)]
    out: secrets::Out,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    policy: Policy,
}

/// Give a credential a new password and print it, this once; the old one ends at once, or as the options say
///
/// One call and no more: an answer that is lost takes the password with it, unless --recipient-key had it sealed.
/// `credvault rotate` is the safe way, which tries again and confirms.
///
/// At a carrier the old password is dead as soon as the new one is set there. While the carrier has not answered there is
/// no new one to print: the command fails, the vault goes on, and the same command with the --request-id that it names
/// gets the password when it is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault credentials rotate desk-1 --reason weekly
  credvault credentials rotate desk-1 --out desk-1.password --overlap 1h       the old one works for an hour more
  credvault credentials rotate desk-1 --require-confirmation                   it works until you confirm
  credvault credentials rotate desk-1 --recipient-key ops > sealed.json        for who holds the key of ops
  credvault open sealed.json --key-file ops.key
In a script, a --request-id makes it safe to repeat after an answer that was lost.")]
pub(super) struct RotateArgs {
    /// Its id, or whole name
    credential: String,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    recipient: For,
    #[command(flatten)]
    out: secrets::Out,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.account()?;
    let password = args.password_file.as_deref().map(secrets::password).transpose()?;
    let recipient =
        recipient_keys::recipient(&connection, args.recipient.recipient_key.as_deref())?;
    let provider =
        args.residence.provider.map(|it| connection.name("providers", &it)).transpose()?;
    let is_at_carrier = provider.is_some();
    let not_found = if is_at_carrier {
        "`credvault providers list` shows which providers there are"
    } else {
        NO_ACCOUNT
    };
    let rotation_policy = args.policy.policy(&connection)?;
    let place = args.out.open()?;
    let request = CreateCredentialRequest {
        parent,
        credential_id: args.id,
        credential: Some(Credential {
            username: args.username,
            realm: args.realm,
            description: args.description,
            labels: args.labels.into_iter().collect(),
            provider: provider.unwrap_or_default(),
            at_carrier: args.residence.at.into_wire(),
            rotation_policy,
            ..Credential::default()
        }),
        password,
        password_length: args.password_length,
        request_id: args.retry.request_id,
        reason: args.change.reason,
        recipient,
    };
    let answer = connection.ask(request, not_found).await?;
    let made = Made {
        credential: answer.credential.as_ref(),
        issued: answer.issued.as_ref(),
        sealed: answer.sealed.as_ref(),
        rotation: answer.rotation.as_ref(),
    };
    if output == Output::Json {
        let json = render::json(&answer)?;
        let carries_one = answer.issued.is_some() || answer.sealed.is_some();
        return if carries_one { secrets::show(json, &made.lost()) } else { say(json) };
    }
    made.hand_out(place)
}

pub(super) async fn rotate(args: RotateArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let name = connection.name("credentials", &args.credential)?;
    let recipient =
        recipient_keys::recipient(&connection, args.recipient.recipient_key.as_deref())?;
    let place = args.out.open()?;
    let request_id = args.retry.id()?;
    let request = RotateCredentialRequest {
        name,
        etag: args.how.etag,
        password_length: args.how.password_length,
        request_id: request_id.clone(),
        reason: args.change.reason,
        overlap: args.how.overlap.map(duration),
        require_confirmation: args.how.require_confirmation,
        recipient,
    };
    let answer = match connection.call(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let told = connection.explain::<RotateCredentialRequest>(&error, NOT_FOUND);
            if is_undone(&error) {
                return Err(told);
            }
            return Err(anyhow!(
                "{told:#}\nIts request was {request_id}: if it lives at a carrier, the same command with --request-id \
                 {request_id} gets the password"
            ));
        }
    };
    let made = Made {
        credential: answer.credential.as_ref(),
        issued: answer.issued.as_ref(),
        sealed: answer.sealed.as_ref(),
        rotation: answer.rotation.as_ref(),
    };
    let carries_one = answer.issued.is_some() || answer.sealed.is_some();
    match output {
        Output::Json if carries_one => secrets::show(render::json(&answer)?, &made.lost())?,
        Output::Json => say(render::json(&answer)?)?,
        Output::Table if carries_one => made.hand_out(place)?,
        Output::Table => {}
    }
    made.check_done(&request_id)
}

/// What an answer says of a new password.
struct Made<'a> {
    credential: Option<&'a Credential>,
    issued: Option<&'a IssuedSecret>,
    sealed: Option<&'a SealedSecret>,
    rotation: Option<&'a Rotation>,
}

impl Made<'_> {
    fn name(&self) -> String {
        harmless(self.credential.map_or("", |credential| &credential.name))
    }

    /// As commands take it.
    fn rotation(&self) -> Option<String> {
        self.rotation.map(|rotation| harmless(&render::short(&rotation.name)))
    }

    /// What helps when a password reached nobody.
    fn lost(&self) -> String {
        let name = self.name();
        match self.rotation() {
            Some(rotation) if self.sealed.is_some() => {
                format!("It is still there: `credvault rotations show {rotation} --output json`")
            }
            Some(rotation) => format!(
                "The password of {name} is lost, and the old one works: `credvault rotations cancel {rotation}`, and \
                 rotate again"
            ),
            None => format!(
                "The password of {name} is lost: rotate again, `credvault credentials rotate {name}`"
            ),
        }
    }

    /// Hands out what was made: nothing, where callers bring their own.
    fn hand_out(&self, place: secrets::Place) -> anyhow::Result<()> {
        let (name, lost) = (self.name(), self.lost());
        match (self.issued, self.sealed) {
            (Some(issued), _) => {
                place.put(&issued.password, &lost)?;
                note(format_args!(
                    "{name}: version {}; its password is not shown again",
                    issued.version
                ));
            }
            (None, Some(sealed)) => {
                place.put(&render::compact(sealed)?, &lost)?;
                let rotation = self.rotation().unwrap_or_default();
                let until = time(sealed.expire_time).map_or(String::new(), |it| it.to_string());
                note(format_args!(
                    "{name}: version {}, sealed; `credvault open` opens it. It can be had again until {until}: \
                     `credvault rotations show {rotation}`",
                    sealed.version
                ));
            }
            (None, None) => note(format_args!("{name}: with the password that you brought")),
        }
        // What waits for its carrier is said as an error.
        if let Some(rotation) = self.rotation.filter(|it| !rotations::awaits_carrier(it)) {
            rotations::advise(rotation);
        }
        Ok(())
    }

    /// An error if a carrier has not taken a rotation's password yet, or nobody got it.
    fn check_done(&self, request_id: &str) -> anyhow::Result<()> {
        let Some(rotation) = self.rotation else { return Ok(()) };
        let (name, waits) = (self.name(), rotations::awaits_carrier(rotation));
        let known = rotations::for_carrier(rotation);
        if waits && self.sealed.is_some() {
            bail!(
                "the carrier of {name} has not answered yet, so the password that was sealed is not in force there\n{known}"
            );
        } else if waits {
            bail!(
                "the carrier of {name} has not answered yet, so there is no password to print\n{known}\n\
                 The same command with --request-id {request_id} gets the password when it is there, once"
            );
        } else if self.issued.is_none() && self.sealed.is_none() {
            let rotation = self.rotation().unwrap_or_default();
            bail!(
                "nobody has the new password of {name}, so nobody can confirm it\n`credvault rotations cancel \
                 {rotation}`; then `credvault rotate` it with --require-confirmation, or name a --recipient-key"
            );
        }
        Ok(())
    }
}
