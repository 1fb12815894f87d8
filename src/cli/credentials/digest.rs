//! SIP digests: what phones answered is checked, and no password is seen.

use std::fs;
use std::io::{Read as _, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::client::{NO_ACCOUNT, Options, Output};
use crate::cli::terminal::harmless;
use crate::cli::{render, say};
use crate::grpc::client::size;
use crate::grpc::json;
use crate::grpc::proto::sip_digest_outcome::Outcome;
use crate::grpc::proto::{
    BatchVerifySipDigestRequest, ComputeSipDigestRequest, InvalidReason, IssueSipChallengeRequest,
    VerifySipDigestRequest, VerifySipDigestResponse,
};

/// Check the digest response of a SIP phone against the stored password, which stays inside
///
/// The values are those of the phone's Authorization header (RFC 3261 §22, RFC 7616). Exit status: 0 if the response is
/// valid; 1 if it is not; 2 if the vault could not be asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  credvault credentials verify-digest --username desk-1 --realm sip.example.com --method REGISTER \\
    --uri sip:sip.example.com --nonce 84f1c1ae6cbe5aa9c8e88dfa3ecb3459 \\
    --response 799035e299fe2842b120e26aa4d4ee12 --source 192.0.2.7")]
pub(super) struct VerifyArgs {
    /// Who the phone says it is
    #[arg(long)]
    username: String,
    /// The realm of the challenge
    #[arg(long)]
    realm: String,
    /// The SIP method, such as REGISTER
    #[arg(long)]
    method: String,
    /// The digest URI, as the header has it, such as sip:sip.example.com
    #[arg(long)]
    uri: String,
    /// The nonce of the challenge; whether it is a good one is for you to know, without --check-nonce
    #[arg(long)]
    nonce: String,
    /// Whether the nonce must be one of issue-challenge, not too old, and with a count that was not used before
    #[arg(long)]
    check_nonce: bool,
    /// What the phone computed: 32 hexadecimal digits, or 64 with SHA-256 and SHA-512-256
    #[arg(long)]
    response: String,
    /// MD5, SHA-256 or SHA-512-256; with --check-nonce also one of them with -sess [default: MD5]
    #[arg(long, default_value = "", hide_default_value = true)]
    algorithm: String,
    /// The quality of protection: auth, auth-int, or nothing where the header has none
    #[arg(long, default_value = "", hide_default_value = true)]
    qop: String,
    /// The count of the nonce, such as 00000001; with --qop
    #[arg(long, default_value = "", hide_default_value = true)]
    nc: String,
    /// The nonce of the phone; with --qop
    #[arg(long, default_value = "", hide_default_value = true)]
    cnonce: String,
    /// The phone's address, so that wrong responses from it are limited and from elsewhere are not
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    source: String,
    /// The body of the SIP request, with --qop auth-int; - reads standard input
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn verify(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = VerifySipDigestRequest {
        parent: connection.account()?,
        username: args.username,
        realm: args.realm,
        method: args.method,
        uri: args.uri,
        nonce: args.nonce,
        nc: args.nc,
        cnonce: args.cnonce,
        qop: args.qop,
        algorithm: args.algorithm,
        response: args.response,
        source: args.source,
        body: body(args.body_file.as_deref())?,
        check_nonce: args.check_nonce,
    };
    let answer = connection.ask(request, NO_ACCOUNT).await?;
    if output == Output::Json {
        render::one(output, &answer, Some(&answer))?;
    } else {
        say(told(&answer))?;
    }
    Ok(if answer.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Make a challenge for a SIP phone, whose nonce verify-digest knows again with --check-nonce
///
/// Prints the value of a WWW-Authenticate header. Nothing is stored; the nonce is good for five minutes, or until the vault
/// is started again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  credvault credentials issue-challenge --realm sip.example.com --algorithm SHA-256")]
pub(super) struct ChallengeArgs {
    /// The realm
    #[arg(long)]
    realm: String,
    /// MD5, SHA-256 or SHA-512-256, or one of them with -sess [default: MD5]
    #[arg(long, default_value = "", hide_default_value = true)]
    algorithm: String,
    /// A quality of protection to offer, auth or auth-int; repeat it for both [default: auth]
    #[arg(long)]
    qop: Vec<String>,
    /// Say that the nonce was too old that the phone used, or its count used before
    #[arg(long)]
    stale: bool,
    /// The phone's address: the challenge can then be answered from there only
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    source: String,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn challenge(args: ChallengeArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = IssueSipChallengeRequest {
        parent: connection.account()?,
        realm: args.realm,
        algorithm: args.algorithm,
        qop: args.qop,
        stale: args.stale,
        source: args.source,
    };
    let answer = connection.ask(request, NO_ACCOUNT).await?;
    if output == Output::Json {
        return render::one(output, &answer, Some(&answer));
    }
    say(harmless(&answer.challenge))
}

/// The verdict in words.
fn told(answer: &VerifySipDigestResponse) -> String {
    if answer.valid {
        return format!("valid: {}, version {}", harmless(&answer.credential), answer.version);
    }
    let reason = match answer.invalid_reason() {
        InvalidReason::Unspecified => "not valid",
        InvalidReason::NonceForeign => {
            "not checked: the vault did not make this nonce, or not for this: challenge again"
        }
        InvalidReason::NonceStale => {
            "not valid, since the nonce is stale, though the response is right: challenge again"
        }
        InvalidReason::NonceReplayed => {
            "not valid, since this nonce count was used before: challenge again"
        }
    };
    reason.to_owned()
}

/// Check many digest responses, as verify-digest does with one
///
/// Each line of the file is one request as JSON, with the names of the contract and without its parent. Prints a line for
/// each, in their order. Exit status: 0 if all are valid; 1 if one is not; 2 if the vault could not be asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  credvault credentials verify-digests seen.jsonl")]
pub(super) struct BatchArgs {
    /// The file; - reads standard input
    file: PathBuf,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn verify_all(args: BatchArgs) -> anyhow::Result<ExitCode> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let parent = connection.account()?;
    let text = String::from_utf8(body(Some(&args.file))?).context("the file is not text")?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let requests = lines
        .map(|(number, line)| json::parse(line).with_context(|| format!("line {}", number + 1)))
        .collect::<anyhow::Result<Vec<VerifySipDigestRequest>>>()?;
    // That nothing was wrong would be said of a file that was never written, too.
    anyhow::ensure!(!requests.is_empty(), "there is no request in the file: write one to a line");
    let mut all_right = true;
    for requests in batches(requests) {
        let asked = requests.len();
        let request = BatchVerifySipDigestRequest { parent: parent.clone(), requests };
        let outcomes = connection.ask(request, NO_ACCOUNT).await?.outcomes;
        anyhow::ensure!(
            outcomes.len() == asked,
            "the vault answered {} of {asked} checks: is it another version than this client?",
            outcomes.len()
        );
        for outcome in outcomes {
            let (right, words) = match &outcome.outcome {
                Some(Outcome::Response(answer)) => (answer.valid, told(answer)),
                Some(Outcome::Error(error)) => {
                    (false, format!("{}: {}", harmless(&error.reason), harmless(&error.message)))
                }
                None => (false, "no answer".to_owned()),
            };
            all_right &= right;
            if output == Output::Json {
                say(render::compact(&outcome)?)?;
            } else {
                say(words)?;
            }
        }
    }
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As many to a batch as a call takes, by number and by size.
fn batches(requests: Vec<VerifySipDigestRequest>) -> Vec<Vec<VerifySipDigestRequest>> {
    const MOST: usize = 256;
    // Of 512 KiB, with room for the frames of each and the parent.
    const BYTES: usize = 500 * 1024;
    let (mut batches, mut room) = (Vec::<Vec<_>>::new(), 0);
    for request in requests {
        let size = size(&request) + 8;
        if let Some(batch) = batches.last_mut().filter(|it| it.len() < MOST && size <= room) {
            batch.push(request);
        } else {
            batches.push(vec![request]);
            room = BYTES;
        }
        room = room.saturating_sub(size);
    }
    batches
}

/// Answer the challenge of a SIP server in the name of a credential, whose password stays inside
///
/// The values are those of the server's WWW-Authenticate header. Prints the value of an Authorization header, which is good
/// for this request alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  credvault credentials compute-digest desk-1 --method REGISTER --uri sip:sip.example.com \\
    --realm sip.example.com --nonce 84f1c1ae6cbe5aa9c8e88dfa3ecb3459 --qop auth,auth-int")]
pub(super) struct ComputeArgs {
    /// The credential's id, or whole name
    credential: String,
    /// The SIP method, such as REGISTER
    #[arg(long)]
    method: String,
    /// What the request is made to, such as sip:sip.example.com
    #[arg(long)]
    uri: String,
    /// The realm of the challenge, which must be the credential's
    #[arg(long)]
    realm: String,
    /// The nonce of the challenge
    #[arg(long)]
    nonce: String,
    /// MD5, SHA-256 or SHA-512-256, or one of them with -sess [default: MD5]
    #[arg(long, default_value = "", hide_default_value = true)]
    algorithm: String,
    /// What the challenge offers, such as auth,auth-int
    #[arg(long, default_value = "", hide_default_value = true)]
    qop: String,
    /// The opaque value of the challenge
    #[arg(long, default_value = "", hide_default_value = true)]
    opaque: String,
    /// How often this nonce is answered, this time included
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    nonce_count: u32,
    /// The body of the SIP request, for auth-int; - reads standard input
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn compute(args: ComputeArgs) -> anyhow::Result<()> {
    let output = args.options.output;
    let connection = args.options.connect()?;
    let request = ComputeSipDigestRequest {
        name: connection.name("credentials", &args.credential)?,
        method: args.method,
        uri: args.uri,
        realm: args.realm,
        nonce: args.nonce,
        algorithm: args.algorithm,
        qop: args.qop,
        opaque: args.opaque,
        nonce_count: args.nonce_count,
        body: body(args.body_file.as_deref())?,
    };
    let answer = connection.ask(request, super::NOT_FOUND).await?;
    if output == Output::Json {
        return render::one(output, &answer, Some(&answer));
    }
    say(harmless(&answer.authorization))
}

/// The body of a request: what is in a file, or comes in.
fn body(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let Some(file) = file else { return Ok(Vec::new()) };
    if file == Path::new("-") {
        let mut body = Vec::new();
        stdin().read_to_end(&mut body).context("read the body from standard input")?;
        return Ok(body);
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_no_more_than_a_call_takes() {
        let of =
            |bytes: usize| VerifySipDigestRequest { body: vec![0; bytes], ..Default::default() };
        let sizes = |requests: Vec<_>| batches(requests).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), Vec::<usize>::new());
        assert_eq!(sizes(vec![of(0); 600]), [256, 256, 88]);
        assert_eq!(sizes(vec![of(200 * 1024); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec![of(600 * 1024), of(1), of(600 * 1024)]), [1, 1, 1]);
    }
}
