//! What a person should know before the password of a credential at a carrier is replaced: said before anything has
//! happened, and only then done.

use std::ffi::OsString;
use std::io::{IsTerminal as _, stdin};
use std::path::Path;

use anyhow::{anyhow, bail};

use super::patience::{Patience, Trouble};
use super::{How, NOT_FOUND};
use crate::cli::client::Connection;
use crate::cli::terminal::{harmless, is_watched};
use crate::cli::{note, quoted, render};
use crate::config::typed;
use crate::grpc::proto::credential::AtCarrier;
use crate::grpc::proto::{Credential, GetCredentialRequest};

/// Looks where a credential lives. If that is at a carrier, refuses what cannot be had there, warns of what a rotation
/// does, and goes on only if somebody says so. Whether it is at one.
pub(super) async fn look(
    connection: &Connection,
    patience: &mut Patience,
    name: &str,
    args: &super::Args,
) -> anyhow::Result<bool> {
    let request = GetCredentialRequest { name: name.to_owned() };
    let doing = format!("looking at {}", harmless(render::id(name)));
    let answer = match patience.ask(connection, &request, &doing).await {
        Ok(answer) => answer,
        Err(Trouble::Interrupted) => bail!("interrupted: nothing has changed"),
        Err(Trouble::Call { error, .. }) => {
            return Err(connection.explain::<GetCredentialRequest>(&error, NOT_FOUND));
        }
    };
    let credential = answer.credential.unwrap_or_default();
    let Some(at) = &credential.at_carrier else { return Ok(false) };
    check(at, &args.how)?;
    note(warning(at, &credential, &args.how));
    agreed(patience, args.yes, "rotate").await?;
    Ok(true)
}

/// Goes on only if somebody says so: with `--yes`, which belongs behind the word `command` of what was typed, or at the
/// terminal.
pub(in crate::cli) async fn agreed(
    patience: &mut Patience,
    yes: bool,
    command: &str,
) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() || !is_watched() {
        let again = with_yes(&typed(), command);
        bail!("not rotated: nothing has changed\nTo rotate, type: `{again}`");
    }
    match patience.answer("Rotate? [y/N] ").await {
        Ok(answer) if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) => Ok(()),
        Ok(_) => Err(anyhow!("not rotated: nothing has changed")),
        Err(_) => Err(anyhow!("interrupted: nothing has changed")),
    }
}

/// What the vault would refuse as well, said before anything is asked or made.
fn check(at: &AtCarrier, how: &How) -> anyhow::Result<()> {
    let overlap = how.overlap.is_some_and(|overlap| !overlap.is_zero());
    match at {
        AtCarrier::Telepath(_) if overlap => bail!(
            "Telepath ends the old password when it makes the new one, so there is no overlap: leave out --overlap"
        ),
        AtCarrier::Telepath(_) if how.require_confirmation => bail!(
            "Telepath ends the old password when it makes the new one, so nothing can be confirmed before: leave out \
             --require-confirmation"
        ),
        AtCarrier::Telepath(_) if how.password_length != 0 => {
            bail!("Telepath makes the password, as long as it likes: leave out --password-length")
        }
        AtCarrier::Vobiz(_) if overlap => bail!(
            "Vobiz keeps one password for a credential, so there is no overlap: leave out --overlap, and name \
             --require-confirmation if the new one must arrive first"
        ),
        AtCarrier::Twilio(_) if overlap => bail!(
            "Twilio keeps one password for a username, so there is no overlap: leave out --overlap, and name \
             --require-confirmation if the new one must arrive first; or have a second credential in the list, and \
             rotate the two in turn"
        ),
        _ => Ok(()),
    }
}

fn warning(at: &AtCarrier, credential: &Credential, how: &How) -> String {
    let name = harmless(render::id(&credential.name));
    let provider = harmless(render::id(&credential.provider));
    let (carrier, one) = match at {
        AtCarrier::Telepath(_) => {
            return format!(
                "warning: {name} lives at Telepath (providers/{provider}). Telepath makes the new password itself and \
                 ends the old one at once: calls in progress complete, new registrations with the old password fail \
                 until the new one is installed; be ready to install it. A command behind -- gets it as soon as it is \
                 there"
            );
        }
        AtCarrier::Vobiz(_) => ("Vobiz", "a credential"),
        AtCarrier::Twilio(_) => ("Twilio", "a username"),
    };
    let what = if how.require_confirmation {
        "the new one is delivered first and set there when that has worked; from then on the old one is dead".to_owned()
    } else {
        format!(
            "the new one takes effect for the next SIP authentication, and the old one is dead then. With \
             --require-confirmation it is delivered first and set at {carrier} right after: if it cannot be delivered, \
             nothing has changed"
        )
    };
    format!(
        "warning: {name} lives at {carrier} (providers/{provider}), which keeps one password for {one}: {what}"
    )
}

/// What was typed, with `--yes` behind the word `command`. The words behind `--` may be confidential, and a log may keep what is printed.
fn with_yes(typed: &[OsString], command: &str) -> String {
    let mut words = typed.iter().skip(1);
    let mut line = "credvault".to_owned();
    let push = |line: &mut String, word: &str| {
        line.push(' ');
        line.push_str(word);
    };
    for word in words.by_ref() {
        if word == "--" {
            push(&mut line, "-- COMMAND");
            break;
        }
        push(&mut line, &quoted(Path::new(word)));
        if word == command && !line.contains(" --yes") {
            push(&mut line, "--yes");
        }
    }
    harmless(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::{TelepathTrunk, TwilioCredential, VobizCredential};

    fn everywhere() -> [AtCarrier; 3] {
        [
            AtCarrier::Twilio(TwilioCredential::default()),
            AtCarrier::Vobiz(VobizCredential::default()),
            AtCarrier::Telepath(TelepathTrunk::default()),
        ]
    }

    fn how(overlap: i64, require_confirmation: bool) -> How {
        let overlap = Some(jiff::SignedDuration::from_secs(overlap));
        How { overlap, require_confirmation, password_length: 0, etag: String::new() }
    }

    #[test]
    fn what_a_carrier_cannot_do_is_refused_with_what_to_leave_out() {
        for at in everywhere() {
            let refused = |how: &How| check(&at, how).map_err(|error| error.to_string());
            assert_eq!(refused(&how(0, false)), Ok(()));
            let told = refused(&how(60, false)).unwrap_err();
            assert!(told.contains("leave out --overlap"), "{told}");
            let is_telepath = matches!(at, AtCarrier::Telepath(_));
            assert_eq!(refused(&how(0, true)).is_err(), is_telepath);
            let long = How { password_length: 32, ..how(0, false) };
            assert_eq!(refused(&long).is_err(), is_telepath);
        }
    }

    #[test]
    fn what_is_to_be_typed_is_what_was_typed_and_shows_no_command() {
        let typed = |words: &str| words.split('|').map(OsString::from).collect::<Vec<_>>();
        let words = "./target/credvault|rotate|desk-1|--out|a b|--reason|rotate";
        assert_eq!(
            with_yes(&typed(words), "rotate"),
            "credvault rotate --yes desk-1 --out 'a b' --reason rotate"
        );
        let words = "credvault|rotate|desk-1|--|curl|-H|Authorization: x";
        assert_eq!(with_yes(&typed(words), "rotate"), "credvault rotate --yes desk-1 -- COMMAND");
    }
}
