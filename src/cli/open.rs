//! `credvault open`: opens a sealed password or token where its recipient is, without a vault.

use std::fs::File;
use std::io::{Read as _, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::client::Output;
use super::terminal::harmless;
use super::{keys, note, render, rotations, secrets};
use crate::grpc::json;
use crate::grpc::proto::{IssuedSecret, SealedSecret};

/// The longest file that is looked at: what an answer may be.
const MOST: u64 = 1 << 20;

/// Open a sealed password or token with the private key that it is sealed for; no vault is called
///
/// Takes what `credvault credentials create` and `rotate` print with --recipient-key, and any answer in JSON with a sealed
/// secret in it: of these with --output json, of `credvault rotations show`, or as grpcurl prints it. The token of
/// `credvault providers rotate-token --recipient-key` is in the answer of `credvault rotations show`.
///
/// Standard output is the password or token alone; with --output json a token stands in the field `password`, too. The
/// file of the private key holds one line of base64, 44 characters, and must be for its owner alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault open sealed.json --key-file ops.key
  credvault open sealed.json --key-file ops.key --out desk-1.password
  credvault rotations show desk-1/x0198c2a1… --output json | credvault open - --key-file ops.key
  credvault rotations show providers/main/x0198c2a1… --output json | credvault open - --key-file ops.key")]
pub(super) struct Args {
    /// What is sealed; -: standard input
    #[arg(value_name = "SEALED.json")]
    file: PathBuf,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    #[command(flatten)]
    out: secrets::Out,
    /// How to print: the password or token alone, or JSON for scripts, with the names of the contract
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
}

#[expect(clippy::disallowed_methods, reason = "hands out what its recipient opened")]
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let key = keys::private(&args.key_file)?;
    let context = || match args.file.as_path() {
        piped if piped == Path::new("-") => "standard input".to_owned(),
        file => file.display().to_string(),
    };
    let sealed = sealed_in(&read(&args.file)?).with_context(context)?;
    let secret = keys::open(&sealed, &key).with_context(context)?;
    let place = args.out.open()?;
    let lost = "It opens again: run the same command";
    if args.output == Output::Json {
        let version = sealed.version;
        let opened = IssuedSecret { password: secret.expose().to_owned(), version };
        return secrets::show(render::json(&opened)?, lost);
    }
    place.put(secret.expose(), lost)?;
    let of_token = rotations::is_of_token(&sealed.credential);
    let what = if of_token { "token version" } else { "version" };
    note(format_args!("{}: {what} {}", harmless(&sealed.credential), sealed.version));
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", file.display());
    let mut text = String::new();
    let read = if file == Path::new("-") {
        stdin().take(MOST).read_to_string(&mut text)
    } else {
        File::open(file).with_context(context)?.take(MOST).read_to_string(&mut text)
    };
    read.with_context(context)?;
    Ok(text)
}

/// The sealed secret that JSON is, or that an answer has. Nothing of it is quoted: an answer may carry a password.
fn sealed_in(text: &str) -> anyhow::Result<SealedSecret> {
    let value: Value = serde_json::from_str(text).ok().context("it is no JSON")?;
    let sealed = match value.get("sealed") {
        None if value.get("ciphertext").is_some() => Some(&value),
        None | Some(Value::Null) => None,
        sealed => sealed,
    };
    let Some(sealed) = sealed else {
        bail!(
            "it has no sealed secret: it was confirmed, its time has passed, or no recipient was named; \
             `credvault rotations show ROTATION` tells"
        );
    };
    json::parse(&sealed.to_string()).ok().context("its sealed secret is not as the vault gave it")
}

#[cfg(test)]
mod tests {
    use super::sealed_in;

    #[test]
    fn a_sealed_secret_is_found_alone_and_in_an_answer() {
        let sealed = r#"{"credential":"c","version":"2","ciphertext":"AA=="}"#;
        assert_eq!(sealed_in(sealed).unwrap().version, 2);
        let answer = format!(r#"{{"credential":{{"name":"c"}},"sealed":{sealed}}}"#);
        assert_eq!(sealed_in(&answer).unwrap(), sealed_in(sealed).unwrap());
        for (bad, says) in [
            ("", "no JSON"),
            ("{}", "no sealed secret"),
            (r#"{"sealed":null,"rotation":{}}"#, "no sealed secret"),
            (r#"{"issued":{"password":"hunter22"}}"#, "no sealed secret"),
            (r#"{"ciphertext":"?hunter22"}"#, "not as the vault gave it"),
            (r#"{"sealed":"hunter22"}"#, "not as the vault gave it"),
        ] {
            let said = format!("{:#}", sealed_in(bad).unwrap_err());
            assert!(said.contains(says) && !said.contains("hunter22"), "{bad}: {said}");
        }
    }
}
