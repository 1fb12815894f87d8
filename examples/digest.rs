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
use sha2::{Digest as _, Sha256, Sha512_256};

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
  --nonce NONCE        that of the challenge. Where the caller of the vault
                       makes nonces, any text will do for a trial         [that of RFC 2617]
  --algorithm NAME     MD5, SHA-256 or SHA-512-256, each also with -sess,
                       which the vault takes with --own-nonce alone       [MD5]
  --qop auth           the newer form, which adds the next two            [the older form]
  --nc COUNT           how often the nonce was used, 8 hexadecimal digits [00000001]
  --cnonce TEXT        the phone's own nonce                              [0a4f113b]

And of the request to the vault:
  --own-nonce NONCE    instead of --nonce, and with --qop auth: a nonce out of IssueSipChallenge,
                       and the vault is to look whether it is one and whether its count is new

  --help               this text

Example, with a password out of RotateCredential:
  cargo run --example digest -- alice sip.example.com - --qop auth --algorithm SHA-256";

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hash {
    Md5,
    Sha256,
    Sha512256,
}

/// What stands in `algorithm`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Algorithm {
    name: &'static str,
    hash: Hash,
    /// Whether the nonces are part of HA1.
    session: bool,
}

impl Algorithm {
    const ALL: [Self; 6] = [
        Self { name: "MD5", hash: Hash::Md5, session: false },
        Self { name: "MD5-sess", hash: Hash::Md5, session: true },
        Self { name: "SHA-256", hash: Hash::Sha256, session: false },
        Self { name: "SHA-256-sess", hash: Hash::Sha256, session: true },
        Self { name: "SHA-512-256", hash: Hash::Sha512256, session: false },
        Self { name: "SHA-512-256-sess", hash: Hash::Sha512256, session: true },
    ];

    /// Its hash of a text, as lower-case hexadecimal digits: `H` in the RFCs.
    fn hash(self, text: &str) -> String {
        match self.hash {
            Hash::Md5 => hex::encode(Md5::digest(text)),
            Hash::Sha256 => hex::encode(Sha256::digest(text)),
            Hash::Sha512256 => hex::encode(Sha512_256::digest(text)),
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
    /// Whether the vault is to look at the nonce.
    check_nonce: bool,
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
        let mut ha1 = h(format!("{}:{}:{password}", self.username, self.realm));
        let ha2 = h(format!("{}:{}", self.method, self.uri));
        let nonce = &self.nonce;
        match &self.auth {
            None => h(format!("{ha1}:{nonce}:{ha2}")),
            Some(Auth { nc, cnonce }) => {
                if self.algorithm.session {
                    ha1 = h(format!("{ha1}:{nonce}:{cnonce}"));
                }
                h(format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"))
            }
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
        fields.extend([("algorithm", self.algorithm.name), ("response", response)]);
        let fields = fields.into_iter().map(|(name, value)| (name, Value::from(value)));
        let check_nonce = self.check_nonce.then_some(("check_nonce", Value::from(true)));
        let pairs = fields.chain(check_nonce).map(|(name, value)| format!(r#""{name}":{value}"#));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
    }
}

/// Reads the command line: the header, and PASSWORD as it stands there.
fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<(Authorization, String)> {
    let mut positional = Vec::new();
    let (mut method, mut uri, mut nonce, mut algorithm) = (None, None, None, None);
    let (mut qop, mut nc, mut cnonce, mut own_nonce) = (None, None, None, None);
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
            "--own-nonce" => &mut own_nonce,
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
    let algorithm = algorithm.as_deref().unwrap_or("MD5");
    let known = Algorithm::ALL.into_iter().find(|it| it.name.eq_ignore_ascii_case(algorithm));
    let algorithm = known.with_context(|| format!("there is no --algorithm {algorithm}"))?;
    let is_count = |nc: &String| nc.len() == 8 && nc.bytes().all(|it| it.is_ascii_hexdigit());
    ensure!(nc.as_ref().is_none_or(is_count), "--nc is 8 hexadecimal digits");
    let auth = match qop.as_deref() {
        Some("auth") => Some(Auth {
            nc: nc.unwrap_or_else(|| "00000001".to_owned()),
            cnonce: cnonce.unwrap_or_else(|| "0a4f113b".to_owned()),
        }),
        Some(other) => bail!("--qop is auth, or left out, not {other}"),
        None => {
            ensure!(
                nc.is_none() && cnonce.is_none() && own_nonce.is_none() && !algorithm.session,
                "--nc, --cnonce, --own-nonce and -sess go with --qop auth"
            );
            None
        }
    };
    ensure!(nonce.is_none() || own_nonce.is_none(), "--nonce or --own-nonce, not both");
    let authorization = Authorization {
        method: method.unwrap_or_else(|| "REGISTER".to_owned()),
        uri: uri.unwrap_or_else(|| format!("sip:{realm}")),
        check_nonce: own_nonce.is_some(),
        nonce: own_nonce
            .or(nonce)
            .unwrap_or_else(|| "dcd98b7102dd2f0e8b11d0f600bfb0c093".to_owned()),
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

    /// draft-smith-sipping-auth-examples-01; the others were computed elsewhere.
    #[test]
    fn sip() {
        let asked = "bob biloxi.com zanzibar --method INVITE --uri sip:bob@biloxi.com";
        assert_eq!(response(asked), "bf57e4e0d0bffc0fbaedce64d59add5e");
        for (algorithm, expected) in [
            ("MD5", "89eb0059246c02b2f6ee02c7961d5ea3"),
            ("MD5-sess", "e4e4ea61d186d07a92c9e1f6919902e9"),
            ("SHA-256", "b3b5a6c69453abafaab9ae4dccdac90a076b6c80615d5f3498e7433b6e93bf4f"),
            ("SHA-256-sess", "5da59c9ca40954be9d5063a15a174066c8251be2c10cf47c144c366dc7daf792"),
            ("SHA-512-256", "7f1a09de0f19af0a1eac2b28d33e3f2fb89cca1ad8fb01bba5e1883b288bac14"),
            (
                "sha-512-256-SESS",
                "077d9677be83f41f162d1a4453dc163389919f81e5927391d972f477da767633",
            ),
        ] {
            let asked = format!("{asked} --qop auth --algorithm {algorithm}");
            assert_eq!(response(&asked), expected, "{algorithm}");
        }
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
        let words = ["bob", "realm", "-", "--qop", "auth", "--own-nonce", "n"].map(str::to_owned);
        let (authorization, _) = parse(words).expect("a command line that is right");
        let read: Value = serde_json::from_str(&authorization.request("00ff")).expect("JSON");
        assert_eq!((&read["nonce"], &read["check_nonce"]), (&json!("n"), &json!(true)));
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
            "alice sip.example.com x --algorithm MD5-sess",
            "alice sip.example.com x --own-nonce n",
            "alice sip.example.com x --qop auth --own-nonce n --nonce n",
        ] {
            assert!(parse(wrong.split(' ').map(str::to_owned)).is_err(), "{wrong}");
        }
    }
}
