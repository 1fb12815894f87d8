//! Calls that do not end: bodies that come slowly, answers that nobody takes, streams and watches without number.

use std::time::Duration;

use credvault::grpc::proto::watch_credentials_response::Change;
use credvault::grpc::proto::{
    CreateCredentialRequest, Credential, GetCredentialRequest, ListCredentialsRequest,
    WatchCredentialsRequest,
};
use prost::Message as _;

use crate::Row;
use crate::frames::{
    CHECK, Connection, DATA, EMPTY_MESSAGE, END_HEADERS, END_STREAM, HEADERS, WATCH, frame, head,
    head_with, stream,
};
use crate::support::Clients;
use crate::target::{Target, pass};

const CONNECTIONS: usize = 8;

/// Connections with these settings, on each of which so many calls have begun: with this head and this body.
async fn begin(
    target: &Target,
    settings: &[(u16, u32)],
    calls: u32,
    path: &str,
    (flags, body): (u8, &[u8]),
) -> Vec<Connection> {
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let source = source(number);
        let mut connection =
            Connection::begin_with(&source, target.address, settings).await.unwrap();
        call(&mut connection, calls, &head(path), (flags, body)).await;
        connections.push(connection);
    }
    connections
}

fn source(number: usize) -> String {
    format!("127.0.1.{}", number % 4 + 1)
}

/// Begins so many calls.
async fn call(connection: &mut Connection, calls: u32, head: &[u8], (flags, body): (u8, &[u8])) {
    for nth in 0..calls {
        let begin = frame(HEADERS, END_HEADERS, stream(nth), head);
        let body = frame(DATA, flags, stream(nth), body);
        // The server may have had enough.
        if connection.send(&[begin, body].concat()).await.is_err() {
            break;
        }
    }
}

fn answered(connections: &[Connection]) -> usize {
    connections.iter().map(Connection::answered).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    let run = async |target: &Target| {
        let mut found = 0;
        let row = Row::of(target, async {
            // 64 calls a connection, whose message of 100 bytes comes one a second.
            let mut connections = begin(target, &[], 64, CHECK, (0, &[0, 0, 0, 0, 100])).await;
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            for _ in 0..10 {
                tick.tick().await;
                for connection in &mut connections {
                    for nth in 0..64 {
                        connection.send(&frame(DATA, 0, stream(nth), b"x")).await.ok();
                    }
                }
            }
            found = ended(&connections);
        })
        .await;
        (row, found)
    };
    let (ours, stock) = (Target::ours(), Target::stock());
    let ((ours, ended), (stock, of_stock)) = tokio::join!(run(&ours), run(&stock));
    ours.print("slow bodies", "vault", &format!("{ended} of 512 calls given up"));
    stock.print("slow bodies", "stock", &format!("{of_stock} of 512 calls given up"));
    ours.is_unharmed();
    assert_eq!(ended, 512, "a call has a deadline");
    assert_eq!(of_stock, 0, "a stock server waits");
}

/// Calls that were refused or given up.
fn ended(connections: &[Connection]) -> usize {
    connections.iter().map(Connection::refused).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_without_number() {
    let run = async |target: &Target| {
        Row::of(target, async {
            let held = begin(target, &[], 5_000, CHECK, (0, &[0, 0, 0])).await;
            pass(Duration::from_secs(3)).await;
            drop(held);
        })
        .await
    };
    let (ours, stock) = (Target::ours(), Target::stock());
    let (ours, stock) = (run(&ours).await, run(&stock).await);
    ours.print("stream hoarding", "vault", "8 connections, 5,000 calls each");
    stock.print("stream hoarding", "stock", "8 connections, 5,000 calls each");
    ours.is_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_without_number() {
    let run = async |target: &Target| {
        let mut watches = 0;
        let row = Row::of(target, async {
            let held = begin(target, &[], 60, WATCH, (END_STREAM, &EMPTY_MESSAGE)).await;
            pass(Duration::from_secs(3)).await;
            watches = answered(&held);
        })
        .await;
        (row, watches)
    };
    let (ours, stock) = (Target::ours(), Target::stock());
    let ((ours, watches), (stock, of_stock)) = tokio::join!(run(&ours), run(&stock));
    ours.print("Watch hoarding", "vault", &format!("{watches} watches of 480"));
    stock.print("Watch hoarding", "stock", &format!("{of_stock} watches of 480"));
    assert_eq!(watches, 64, "8 of each connection");
    assert_eq!(of_stock, 480, "a stock server takes all");
    ours.is_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes() {
    let run = async |target: &Target, time| {
        let mut open = 0;
        let row = Row::of(target, async {
            // No window for any answer, and pings are answered by nobody for less than it takes.
            let no_window = [(4, 0)];
            let held = begin(target, &no_window, 64, CHECK, (END_STREAM, &EMPTY_MESSAGE)).await;
            pass(time).await;
            open = held.iter().filter(|connection| connection.is_open()).count();
        })
        .await;
        (row, open)
    };
    let (ours, stock) = (Target::ours(), Target::stock());
    let time = Duration::from_secs(50);
    let ((ours, open), (stock, of_stock)) = tokio::join!(run(&ours, time), run(&stock, time));
    ours.print("zero window", "vault", &format!("{open} of 8 open after {} s", time.as_secs()));
    stock.print(
        "zero window",
        "stock",
        &format!("{of_stock} of 8 open after {} s", time.as_secs()),
    );
    assert_eq!(open, 0, "who takes no answers is let go");
    assert_eq!(of_stock, CONNECTIONS, "a stock server waits");
    ours.is_unharmed();
}

/// What large answers that nobody takes may cost: two of each connection, with what it takes to make them.
const LARGE_ANSWERS: u64 = 128 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_nobody_takes() {
    // Of the last a page fits into what hyper would buffer of a call by itself.
    for (attack, window, page_size) in [
        ("lists, zero window", Some(0), 1_000),
        ("lists, window of 1", Some(1), 1_000),
        ("lists, unread", None, 10),
    ] {
        let parent = "accounts/dev".to_owned();
        let request = ListCredentialsRequest { parent, page_size, ..Default::default() };
        let request = request.encode_to_vec();
        let length = u32::try_from(request.len()).unwrap().to_be_bytes();
        let list = [&[0][..], &length, &request].concat();
        let target = Target::ours();
        fill(&target).await;
        let list_credentials = "/credvault.v1.CredentialService/ListCredentials";
        let head = head_with(&target.reach.token, list_credentials);
        let mut open = 0;
        let row = Row::of(&target, async {
            let mut held = Vec::new();
            for number in 0..CONNECTIONS {
                let (source, to) = (source(number), target.address);
                let connection = match window {
                    Some(window) => Connection::begin_with(&source, to, &[(4, window)]).await,
                    None => Connection::begin_deaf(&source, to).await,
                };
                let mut connection = connection.unwrap();
                call(&mut connection, 64, &head, (END_STREAM, &list)).await;
                held.push(connection);
            }
            // Longer than a call may take.
            pass(Duration::from_secs(10)).await;
            open = held.iter().filter(|connection| connection.is_open()).count();
        })
        .await;
        let cost = row.peak.saturating_sub(row.before);
        row.print(attack, "vault", &format!("{} MiB for 512 lists", cost >> 20));
        assert_eq!(open, CONNECTIONS, "none was let go meanwhile");
        assert!(cost < LARGE_ANSWERS, "answers that nobody takes cost {cost} bytes");
        row.is_unharmed();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_nobody_takes() {
    let parent = "accounts/dev".to_owned();
    let request = WatchCredentialsRequest { parent, ..Default::default() };
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let watch = [&[0][..], &length, &message].concat();
    let target = Target::ours();
    fill(&target).await;
    let path = "/credvault.v1.CredentialService/WatchCredentials";
    let head = head_with(&target.reach.token, path);
    let (mut open, mut refused, mut quiet) = (0, 0, None);
    let row = Row::of(&target, async {
        // One that reads, to which nothing is told all that time.
        let honest = target.reach.channel_from("127.0.0.6");
        let mut honest = Clients::new(&honest, &target.reach.token).credentials;
        let mut reads = honest.watch_credentials(request).await.unwrap().into_inner();
        while !matches!(reads.message().await.unwrap().unwrap().change, Some(Change::CaughtUp(_))) {
        }
        let mut held = Vec::new();
        // What these take of the caller's places leaves some.
        for number in 0..3 {
            let (source, to) = (source(number), target.address);
            let mut connection = Connection::begin_with(&source, to, &[(4, 0)]).await.unwrap();
            call(&mut connection, 64, &head, (END_STREAM, &watch)).await;
            held.push(connection);
        }
        pass(Duration::from_secs(50)).await;
        open = held.iter().filter(|connection| connection.is_open()).count();
        refused = ended(&held);
        let name = "accounts/dev/credentials/none".to_owned();
        let alive = honest.get_credential(GetCredentialRequest { name }).await;
        assert_eq!(alive.unwrap_err().code(), tonic::Code::NotFound);
        quiet = Some(reads.message().await.is_ok_and(|answer| answer.is_some()));
    })
    .await;
    let cost = row.peak.saturating_sub(row.before);
    let said = format!("{open} of 3 open, {refused} of 192 watches refused, {} MiB", cost >> 20);
    row.print("watches, zero window", "vault", &said);
    assert_eq!(refused, 168, "8 of each connection are let in");
    assert_eq!(open, 0, "who takes nothing of a watch is let go");
    assert_eq!(quiet, Some(true), "who takes all of it is not");
    assert!(cost < LARGE_ANSWERS, "watches that nobody takes cost {cost} bytes");
    row.is_unharmed();
}

/// Makes credentials whose list has as much as a page may have.
async fn fill(target: &Target) {
    let clients = Clients::new(&target.reach.channel_from("127.0.0.5"), &target.reach.token);
    let value = "\u{1f4de}".repeat(255);
    let labels = (0..32).map(|n| (format!("label-{n}"), value.clone()));
    let labels = labels.collect::<std::collections::BTreeMap<_, _>>();
    for number in 0..25 {
        let credential = Credential {
            username: format!("large-{number}"),
            realm: "sip.test".to_owned(),
            labels: labels.clone(),
            ..Credential::default()
        };
        let request = CreateCredentialRequest {
            parent: "accounts/dev".to_owned(),
            credential: Some(credential),
            ..Default::default()
        };
        clients.create(request).await.unwrap();
    }
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_hoarded_answers_are_caught() {
    let test = "streams::lists_that_nobody_takes";
    let said = crate::support::process::caught(test, "hoarded-answers");
    assert!(said.contains("answers that nobody takes cost"), "{said}");
}
