//! Floods: what a few connections can send as fast as they can.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Row;
use crate::frames::{
    ACK, CHECK, CONTINUATION, DATA, EMPTY_MESSAGE, END_HEADERS, END_STREAM, HEADERS, PING,
    RST_STREAM, SETTINGS, flood, frame, head, stream,
};
use crate::target::{Target, connect};

/// How long each lasts.
const LASTS: Duration = Duration::from_secs(3);

/// From how many addresses: each floods on one connection at a time.
const SOURCES: [&str; 3] = ["127.0.1.1", "127.0.1.2", "127.0.1.3"];

/// How many frames go out at once.
const BURST: u32 = 100;

/// Floods the vault, which has to stand it, and a stock server.
async fn both(attack: &str, opening: Vec<u8>, bytes: impl Fn(u32) -> Vec<u8>) {
    for (server, target) in [("vault", Target::ours()), ("stock", Target::stock())] {
        let mut connections = 0;
        let row = Row::of(&target, async {
            let floods =
                SOURCES.map(|source| flood(source, target.address, LASTS, &opening, &bytes));
            connections = futures_util::future::join_all(floods).await.into_iter().sum::<usize>();
        })
        .await;
        row.print(attack, server, &format!("{connections} connections"));
        if server == "vault" {
            row.is_unharmed();
        }
    }
}

/// The frames of the nth burst, each of a number that counts on.
fn burst(round: u32, one: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    // Numbers of streams end at 2^31; a connection is closed long before.
    let first = round.wrapping_mul(BURST) % (1 << 29);
    (first..first + BURST).flat_map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset() {
    let call = head(CHECK);
    both("rapid reset", Vec::new(), |round| {
        burst(round, |nth| {
            let begin = frame(HEADERS, END_HEADERS, stream(nth), &call);
            [begin, frame(RST_STREAM, 0, stream(nth), &[0, 0, 0, 8])].concat()
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuations_without_end() {
    let opening = frame(HEADERS, 0, stream(0), &head(CHECK));
    // A header of one byte, again and again.
    let headers = [0x00, 1, b'x', 1, b'y'].repeat(200);
    both("CONTINUATION flood", opening, |_| frame(CONTINUATION, 0, stream(0), &headers).repeat(10))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_continuations_without_end() {
    let opening = frame(HEADERS, 0, stream(0), &head(CHECK));
    both("empty CONTINUATIONs", opening, |round| {
        burst(round, |_| frame(CONTINUATION, 0, stream(0), &[]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings() {
    let most_streams = [0, 3, 0, 0, 0, 100];
    both("SETTINGS flood", Vec::new(), |round| {
        burst(round, |_| frame(SETTINGS, 0, 0, &most_streams))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings() {
    both("PING flood", Vec::new(), |round| {
        burst(round, |nth| frame(PING, if nth % 2 == 0 { 0 } else { ACK }, 0, &[7; 8]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data() {
    let opening = frame(HEADERS, END_HEADERS, stream(0), &head(CHECK));
    both("empty DATA flood", opening, |round| burst(round, |_| frame(DATA, 0, stream(0), &[])))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_headers_that_grow() {
    // 3,900 bytes into the dynamic table, and then again and again that entry: 1 byte for 3,900 (RFC 7541 §4).
    let large = [&[0x40, 1, b'x', 0x7f][..], &varint(3900 - 127), &[b'y'; 3900]].concat();
    let calls = [head(CHECK), large, vec![0xbe; 10_000]].concat();
    both("HPACK bomb", Vec::new(), |round| {
        (round * 4..round * 4 + 4)
            .flat_map(|nth| frame(HEADERS, END_HEADERS | END_STREAM, stream(nth), &calls))
            .collect()
    })
    .await;
}

/// What does not fit into the prefix of a number (RFC 7541 §5.1).
fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 128 {
        bytes.push(u8::try_from(number % 128 + 128).unwrap());
        number /= 128;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_gibibytes_declared_and_five_bytes_sent() {
    let call = head(CHECK);
    let body = [&[0, 0xff, 0xff, 0xff, 0xff], &b"hello"[..]].concat();
    both("4 GiB declared", Vec::new(), |round| {
        burst(round, |nth| {
            let begin = frame(HEADERS, END_HEADERS, stream(nth), &call);
            [begin, frame(DATA, 0, stream(nth), &body)].concat()
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_calls_without_pause() {
    let call = head(CHECK);
    both("calls without pause", Vec::new(), |round| {
        burst(round, |nth| {
            let begin = frame(HEADERS, END_HEADERS, stream(nth), &call);
            [begin, frame(DATA, END_STREAM, stream(nth), &EMPTY_MESSAGE)].concat()
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_churn() {
    for (server, target) in [("vault", Target::ours()), ("stock", Target::stock())] {
        let mut connections = 0;
        let row = Row::of(&target, async {
            let churns = SOURCES.map(|source| churn(source, target.address));
            connections = futures_util::future::join_all(churns).await.into_iter().sum::<usize>();
        })
        .await;
        row.print("connection churn", server, &format!("{connections} connections"));
        if server == "vault" {
            row.is_unharmed();
        }
    }
}

async fn churn(source: &str, to: SocketAddr) -> usize {
    let began = std::time::Instant::now();
    let mut made = 0;
    while began.elapsed() < LASTS {
        if let Ok(stream) = connect(source, to).await {
            made += 1;
            // With a reset, so that no port stays in use.
            stream.set_zero_linger().ok();
        }
        tokio::task::yield_now().await;
    }
    made
}
