//! Connections that ask for nothing: they are let go within their deadlines, and take no place from others.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::Row;
use crate::frames::{HEADERS, PREFACE, SETTINGS, frame};
use crate::target::{Target, connect, pass};

/// How many, from ten addresses.
const MANY: usize = 2_000;

/// How long a connection may take to TLS, or to the preface: 5 s, and to its first request: 10 s; and what a machine with
/// other things to do may add.
const SLACK: Duration = Duration::from_secs(2);

/// Opens connections that say `said`, and then one byte of `slowly` a second; how many are open after `time`.
async fn open_after(
    target: &Target,
    many: usize,
    said: &[u8],
    slowly: &[u8],
    time: Duration,
) -> usize {
    let began = std::time::Instant::now();
    let mut connections = Vec::new();
    for number in 0..many {
        let source = format!("127.0.1.{}", number % 10 + 1);
        // The queue of the kernel may be full for a moment.
        let Ok(Ok(mut stream)) =
            tokio::time::timeout(Duration::from_secs(5), connect(&source, target.address)).await
        else {
            continue;
        };
        stream.write_all(said).await.ok();
        connections.push(stream);
    }
    let mut bytes = slowly.iter();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while began.elapsed() < time {
        tick.tick().await;
        if let Some(byte) = bytes.next() {
            for stream in &mut connections {
                stream.try_write(&[*byte]).ok();
            }
        }
    }
    pass(time.saturating_sub(began.elapsed())).await;
    connections.iter().filter(|stream| is_open(stream)).count()
}

/// Whether the server has not closed it, whatever it has said.
fn is_open(stream: &TcpStream) -> bool {
    let mut heard = [0; 1024];
    loop {
        match stream.try_read(&mut heard) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Both at once: they wait more than they work.
async fn both(
    attack: &str,
    [ours, stock]: [Target; 2],
    many: usize,
    (said, slowly): (&[u8], &[u8]),
    time: Duration,
) {
    let run = async |target: &Target| {
        let mut open = 0;
        let row = Row::of(target, async {
            open = open_after(target, many, said, slowly, time).await;
        })
        .await;
        (row, open)
    };
    let ((ours, open), (stock, stock_open)) = tokio::join!(run(&ours), run(&stock));
    ours.print(attack, "vault", &format!("{open} open after {} s", time.as_secs()));
    stock.print(attack, "stock", &format!("{stock_open} open after {} s", time.as_secs()));
    assert_eq!(open, 0, "they are open still");
    ours.is_unharmed();
    assert_eq!(stock_open, many, "a stock server lets none go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence() {
    let targets = [Target::ours(), Target::stock()];
    both("2,000 silent", targets, MANY, (b"", b""), Duration::from_secs(5) + SLACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03and no more of the ClientHello";
    let targets = [Target::ours_with_tls(), Target::stock_with_tls()];
    both("2,000 half handshakes", targets, MANY, (hello, b""), Duration::from_secs(5) + SLACK)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_headers() {
    // The head of a call of 200 bytes, one a second.
    let [begin, rest] = [&frame(HEADERS, 0, 1, &[0; 200])[..9], &[0x82; 200]];
    let said = [PREFACE, &frame(SETTINGS, 0, 0, &[]), begin].concat();
    let targets = [Target::ours(), Target::stock()];
    both("slow headers", targets, 500, (&said, rest), Duration::from_secs(10) + SLACK).await;
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_endless_patience_is_caught() {
    let said = crate::support::process::caught("connections::silence", "endless-patience");
    assert!(said.contains("they are open still"), "{said}");
}
