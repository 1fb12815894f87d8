//! The phone's side of SIP digest authentication, to try `VerifySipDigest` without a phone.
//!
//! It computes a `response` (RFC 3261 section 22, RFC 7616, RFC 8760) from the password and prints
//! the request that asks the vault to check it; into a pipe or a file, nothing but that request. On
//! purpose it shares no code with the vault: what the two agree on, they agree on because of the
//! RFCs, and not because of a common mistake.
//!
//! Its own test vectors: `cargo test --example digest`.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use md5::Md5;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const HELP: &str = "\
The phone's side of SIP digest authentication: prints the response that a phone would send, and
the request with which the vault checks it, ready to paste after grpcurl's -d. Into a pipe or a
file it prints that request alone, ready for grpcurl's -d @.

Usage: cargo run --example digest -- USERNAME REALM PASSWORD [OPTIONS]

  USERNAME, REALM      of the credential, as the vault holds them
  PASSWORD             its password, or - to read a line from stdin. A password on the command
                       line is for trials only: other users of the machine can see it there, and
                       the shell remembers it

Values of the Authorization header, as the phone would send them:
  --method METHOD      method of the SIP request                          [REGISTER]
  --uri URI            what is asked for                                  [sip:REALM]
  --nonce NONCE        the challenge. The vault leaves nonces to its
                       caller, so for a trial any text will do            [that of RFC 2617]
  --algorithm NAME     MD5 or SHA-256                                     [MD5]
  --qop auth           the newer form, which adds the next two            [the older form]
  --nc COUNT           how often the nonce was used, 8 hexadecimal digits [00000001]
  --cnonce TEXT        the phone's own nonce                              [0a4f113b]

  --help               this text

Example, with a password out of RotateCredential:
  cargo run --example digest -- alice sip.example.com - --qop auth --algorithm SHA-256";

/// A hash function with the name that it has in `algorithm`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    /// Its hash of a text, as lower-case hexadecimal digits: `H` in the RFCs.
    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex::encode(Md5::digest(text)),
            Self::Sha256 => hex::encode(Sha256::digest(text)),
        }
    }
}

/// What stands in the Authorization header, beside the response, and the method of the request.
#[derive(Debug, PartialEq)]
struct Authorization {
    username: String,
    realm: String,
    method: String,
    uri: String,
    nonce: String,
    algorithm: Algorithm,
    /// Only with `qop=auth`.
    auth: Option<Auth>,
}

/// What `qop=auth` adds.
#[derive(Debug, PartialEq)]
struct Auth {
    nc: String,
    cnonce: String,
}

impl Authorization {
    /// RFC 7616 section 3.4.1, and RFC 2069 without qop.
    fn response(&self, password: &str) -> String {
        let h = |text: String| self.algorithm.hash(&text);
        let ha1 = h(format!("{}:{}:{password}", self.username, self.realm));
        let ha2 = h(format!("{}:{}", self.method, self.uri));
        let nonce = &self.nonce;
        match &self.auth {
            None => h(format!("{ha1}:{nonce}:{ha2}")),
            Some(Auth { nc, cnonce }) => h(format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}")),
        }
    }

    /// `VerifySipDigestRequest` as JSON, its fields in the order of the proto.
    fn request(&self, response: &str) -> String {
        let mut fields = vec![
            ("parent", "accounts/dev"),
            ("username", &self.username),
            ("realm", &self.realm),
            ("method", &self.method),
            ("uri", &self.uri),
            ("nonce", &self.nonce),
        ];
        if let Some(Auth { nc, cnonce }) = &self.auth {
            fields.extend([("nc", nc.as_str()), ("cnonce", cnonce), ("qop", "auth")]);
        }
        let algorithm = match self.algorithm {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        };
        fields.extend([("algorithm", algorithm), ("response", response)]);
        let fields = fields.into_iter();
        let pairs = fields.map(|(name, value)| format!(r#""{name}":{}"#, Value::from(value)));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
    }
}

/// Reads the command line: the header, and PASSWORD as it stands there.
fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<(Authorization, String)> {
    let mut positional = Vec::new();
    let (mut method, mut uri, mut nonce, mut algorithm) = (None, None, None, None);
    let (mut qop, mut nc, mut cnonce) = (None, None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let option = match argument.as_str() {
            "--method" => &mut method,
            "--uri" => &mut uri,
            "--nonce" => &mut nonce,
            "--algorithm" => &mut algorithm,
            "--qop" => &mut qop,
            "--nc" => &mut nc,
            "--cnonce" => &mut cnonce,
            other if other.starts_with("--") => bail!("there is no option {other}, see --help"),
            _ => {
                positional.push(argument);
                continue;
            }
        };
        let value = arguments.next();
        *option = Some(value.with_context(|| format!("{argument} wants a value"))?);
    }
    let Ok([username, realm, password]) = <[String; 3]>::try_from(positional) else {
        bail!("it takes USERNAME REALM PASSWORD, see --help");
    };
    let algorithm = match algorithm.unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "MD5" => Algorithm::Md5,
        "SHA-256" => Algorithm::Sha256,
        other => bail!("--algorithm is MD5 or SHA-256, not {other}"),
    };
    let is_count = |nc: &String| nc.len() == 8 && nc.bytes().all(|it| it.is_ascii_hexdigit());
    ensure!(nc.as_ref().is_none_or(is_count), "--nc is 8 hexadecimal digits");
    let auth = match qop.as_deref() {
        Some("auth") => Some(Auth {
            nc: nc.unwrap_or_else(|| "00000001".to_owned()),
            cnonce: cnonce.unwrap_or_else(|| "0a4f113b".to_owned()),
        }),
        Some(other) => bail!("--qop is auth, or left out, not {other}"),
        None => {
            ensure!(nc.is_none() && cnonce.is_none(), "--nc and --cnonce go with --qop auth");
            None
        }
    };
    let authorization = Authorization {
        method: method.unwrap_or_else(|| "REGISTER".to_owned()),
        uri: uri.unwrap_or_else(|| format!("sip:{realm}")),
        nonce: nonce.unwrap_or_else(|| "dcd98b7102dd2f0e8b11d0f600bfb0c093".to_owned()),
        algorithm,
        auth,
        username,
        realm,
    };
    Ok((authorization, password))
}

/// The password: `-` stands for a line from stdin, whose end does not belong to it.
#[expect(clippy::print_stderr, reason = "a prompt is no part of the output")]
fn password(argument: String) -> anyhow::Result<String> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut line = String::new();
    if io::stdin().is_terminal() {
        eprint!("Password (it will be visible): ");
    }
    io::stdin().read_line(&mut line).context("read the password from stdin")?;
    let line = line.trim_end_matches(['\r', '\n']);
    ensure!(!line.is_empty(), "no password came from stdin");
    Ok(line.to_owned())
}

/// One word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[expect(clippy::print_stderr, reason = "the program talks to a person")]
fn main() -> ExitCode {
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the program talks to a person")]
fn run() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() || arguments.iter().any(|it| it == "--help" || it == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    let (authorization, argument) = parse(arguments)?;
    let response = authorization.response(&password(argument)?);
    let request = authorization.request(&response);
    if io::stdout().is_terminal() {
        println!("response: {response}\n");
        println!("To paste after -d, for credvault.v1.UseService/VerifySipDigest:\n");
        println!("{}", quoted(&request));
    } else {
        println!("{request}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn response(command_line: &str) -> String {
        // `_` is a space within a word.
        let words = command_line.split_whitespace();
        let words = words.map(|word| word.replace('_', " "));
        let (authorization, password) = parse(words).expect("a command line that is right");
        authorization.response(&password)
    }

    #[test]
    fn rfc_2617_section_3_5() {
        assert_eq!(
            response(
                "Mufasa testrealm@host.com Circle_Of_Life --method GET --uri /dir/index.html \
                 --nonce dcd98b7102dd2f0e8b11d0f600bfb0c093 \
                 --qop auth --nc 00000001 --cnonce 0a4f113b"
            ),
            "6629fae49393a05397450978507c4ef1"
        );
    }

    #[test]
    fn rfc_7616_section_3_9_1() {
        let asked = "Mufasa http-auth@example.org Circle_of_Life --method GET \
                     --uri /dir/index.html \
                     --nonce 7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v \
                     --qop auth --cnonce f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        assert_eq!(response(asked), "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(
            response(&format!("{asked} --algorithm sha-256")),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    /// draft-smith-sipping-auth-examples-01; its SHA-256 twin was computed.
    #[test]
    fn sip() {
        let asked = "bob biloxi.com zanzibar --method INVITE --uri sip:bob@biloxi.com";
        assert_eq!(response(asked), "bf57e4e0d0bffc0fbaedce64d59add5e");
        assert_eq!(response(&format!("{asked} --qop auth")), "89eb0059246c02b2f6ee02c7961d5ea3");
        assert_eq!(
            response(&format!("{asked} --qop auth --algorithm SHA-256")),
            "b3b5a6c69453abafaab9ae4dccdac90a076b6c80615d5f3498e7433b6e93bf4f"
        );
    }

    #[test]
    fn the_request_is_json_in_one_shell_word() {
        let words = ["o'brien", "a\"b", "-", "--qop", "auth"].map(str::to_owned);
        let (authorization, _) = parse(words).expect("a command line that is right");
        let request = authorization.request("00ff");
        let read: Value = serde_json::from_str(&request).expect("JSON");
        let expected = json!({
            "parent": "accounts/dev",
            "username": "o'brien",
            "realm": "a\"b",
            "method": "REGISTER",
            "uri": "sip:a\"b",
            "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            "nc": "00000001",
            "cnonce": "0a4f113b",
            "qop": "auth",
            "algorithm": "MD5",
            "response": "00ff",
        });
        assert_eq!(read, expected);
        assert_eq!(quoted("o'brien"), r"'o'\''brien'");
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        for wrong in [
            "alice sip.example.com",
            "alice sip.example.com x y",
            "alice sip.example.com x --md5",
            "alice sip.example.com x --nonce",
            "alice sip.example.com x --nc 00000001",
            "alice sip.example.com x --qop auth --nc 1",
            "alice sip.example.com x --qop auth-int",
            "alice sip.example.com x --algorithm SHA-512",
        ] {
            assert!(parse(wrong.split(' ').map(str::to_owned)).is_err(), "{wrong}");
        }
    }
}
