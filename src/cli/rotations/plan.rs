//! `credvault rotations plan`: what the vault is going to rotate by itself, and what is in the way.

use anstyle::Style;
use jiff::{SignedDuration, Timestamp};

use super::super::client::{NO_ACCOUNT, Options, Output};
use super::super::rotate::length;
use super::super::terminal::{Span, Table, harmless, size};
use super::super::{note, render, rotation_policy, say};
use crate::clock::Clock;
use crate::grpc::client::{time, timestamp};
use crate::grpc::proto::{
    Credential, CredentialFilter, ListCredentialsRequest, ListCredentialsResponse, RotationBlock,
};

/// Say what the vault is going to rotate by itself: what, when, why, and what is in the way; nothing is done
///
/// A time that has passed is that of something overdue: it is rotated within seconds, unless something is in the way. That
/// is not rotated until somebody mends it; each line below the table says how.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  credvault rotations plan                                    the next 30 days
  credvault rotations plan --until 0s                         what is overdue
  credvault rotations plan --until 90d --output json | jq -r '.credentials[] | [.nextRotationTime, .name] | @tsv'
A policy is set with `credvault credentials update desk-1 --rotate-every 90d …`.")]
pub(super) struct Args {
    /// How far ahead, such as 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = length, default_value = "30d")]
    until: SignedDuration,
    /// How many at the most; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args, clock: &dyn Clock) -> anyhow::Result<()> {
    let output = args.options.output;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let connection = args.options.connect()?;
    let parent = connection.account()?;
    let until = clock.now().saturating_add(args.until).unwrap_or(Timestamp::MAX);
    // The vault's filter is for what is due before a time; what is due at it belongs here as well.
    let until = until.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
    let filter =
        CredentialFilter { due_before: Some(timestamp(until)), ..CredentialFilter::default() };
    let request = |page_token| ListCredentialsRequest {
        parent: parent.clone(),
        page_size: 200,
        page_token,
        filter: Some(filter.clone()),
    };
    let open = |page: ListCredentialsResponse| (page.credentials, page.next_page_token);
    let (mut credentials, is_cut) = connection.list(request, open, limit, NO_ACCOUNT).await?;
    credentials.sort_by(|one, other| {
        let key = |it: &Credential| it.next_rotation_time.map(|time| (time.seconds, time.nanos));
        (key(one), &one.name).cmp(&(key(other), &other.name))
    });
    let answer = ListCredentialsResponse { credentials, ..ListCredentialsResponse::default() };
    if output == Output::Json {
        say(render::json(&answer)?)?;
    } else if answer.credentials.is_empty() {
        note(format_args!(
            "The vault rotates nothing of {} until {}; `credvault credentials update ID --rotate-every 90d …` sets a \
             policy",
            harmless(&parent),
            until.strftime("%FT%TZ")
        ));
    } else {
        print(&answer.credentials)?;
    }
    if is_cut {
        note(format_args!(
            "There are more than {limit}, perhaps earlier ones; --limit 0 plans all."
        ));
    }
    Ok(())
}

fn print(credentials: &[Credential]) -> anyhow::Result<()> {
    let mut table = Table::new(&["WHEN", "ID", "WHAT", "WHY"]);
    for credential in credentials {
        let Some(policy) = &credential.rotation_policy else { continue };
        let what = match in_the_way(credential.rotation_block()) {
            None => format!("a new password {}", rotation_policy::effect(policy)),
            Some(block) => format!("nothing: {block}"),
        };
        let last = told(time(credential.rotate_time));
        let why = format!("{}; last {last}", rotation_policy::rhythm(policy));
        let id = Span::new(&render::short(&credential.name), Style::new().bold());
        let when = Span::plain(&told(time(credential.next_rotation_time)));
        table.row(vec![when, id, Span::plain(&what), Span::plain(&why)], Vec::new());
    }
    for line in table.lines(size().map(|(width, _)| width)) {
        say(line.painted())?;
    }
    for credential in credentials {
        let id = harmless(&render::short(&credential.name));
        match credential.rotation_block() {
            RotationBlock::Unspecified => {}
            RotationBlock::Disabled => note(format_args!(
                "{id}: `credvault credentials update {id} --enabled true`, or --no-rotation-policy"
            )),
            RotationBlock::InProgress => note(format_args!(
                "{id}: `credvault rotations list {id} --state holding`, and confirm or cancel it"
            )),
            RotationBlock::KeyRevoked => note(format_args!(
                "{id}: name another key, `credvault credentials update {id} --rotate-every … --rotate-for KEY`"
            )),
            RotationBlock::TooManyVersions => note(format_args!(
                "{id}: `credvault credentials versions {id}` shows when the next one is gone"
            )),
        }
    }
    Ok(())
}

fn told(time: Option<Timestamp>) -> String {
    time.map_or("-".to_owned(), |it| it.strftime("%FT%TZ").to_string())
}

fn in_the_way(block: RotationBlock) -> Option<&'static str> {
    match block {
        RotationBlock::Unspecified => None,
        RotationBlock::Disabled => Some("it is disabled"),
        RotationBlock::InProgress => Some("a rotation waits for its confirmation"),
        RotationBlock::KeyRevoked => Some("its recipient key is revoked"),
        RotationBlock::TooManyVersions => Some("eight old versions still work"),
    }
}
