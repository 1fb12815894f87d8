//! HTTP/2 by hand (RFC 9113), so that it can be anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use crate::target::connect;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a call of `path`, without the dynamic table (RFC 7541 §6.2.2).
pub(crate) fn head(path: &str) -> Vec<u8> {
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [
        vec![0x83, 0x86], // :method POST, :scheme http
        [vec![0x04], literal(path)].concat(),
        [vec![0x01], literal("vault.test")].concat(),
        [vec![0x0f, 0x10], literal("application/grpc")].concat(),
        [vec![0x00], literal("te"), literal("trailers")].concat(),
    ]
    .concat()
}

/// The same with a token.
pub(crate) fn head_with(token: &str, path: &str) -> Vec<u8> {
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [head(path), vec![0x00], literal("authorization"), literal(&format!("Bearer {token}"))].concat()
}

pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";
pub(crate) const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A gRPC message without fields.
pub(crate) const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// The number of the nth stream of a client.
pub(crate) fn stream(nth: u32) -> u32 {
    nth * 2 + 1
}

/// One connection that has begun HTTP/2, and hears all that is said.
pub(crate) struct Connection {
    write: OwnedWriteHalf,
    /// Heads of answers that go on, which came so far.
    answers: Arc<AtomicUsize>,
    /// Heads that are all there is: of calls that were refused or given up.
    refusals: Arc<AtomicUsize>,
    reader: JoinHandle<()>,
}

impl Connection {
    pub(crate) async fn begin(source: &str, to: SocketAddr) -> std::io::Result<Self> {
        Self::begin_with(source, to, &[]).await
    }

    /// With these settings.
    pub(crate) async fn begin_with(
        source: &str,
        to: SocketAddr,
        settings: &[(u16, u32)],
    ) -> std::io::Result<Self> {
        let (read, write) = open(source, to, settings).await?;
        let [answers, refusals] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
        let reader = tokio::spawn(listen(read, Arc::clone(&answers), Arc::clone(&refusals)));
        Ok(Self { write, answers, refusals, reader })
    }

    /// One that reads nothing of what comes, however much its settings let the server send.
    pub(crate) async fn begin_deaf(source: &str, to: SocketAddr) -> std::io::Result<Self> {
        const MOST: u32 = (1 << 31) - 1;
        let (read, mut write) = open(source, to, &[(4, MOST)]).await?;
        // Of the connection as a whole 65,535 bytes are there from the start.
        write.write_all(&frame(WINDOW_UPDATE, 0, 0, &(MOST - 65_535).to_be_bytes())).await?;
        let [answers, refusals] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
        let reader = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(read);
        });
        Ok(Self { write, answers, refusals, reader })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write.write_all(bytes).await
    }

    pub(crate) fn answered(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> usize {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Whether the server has not closed it.
    pub(crate) fn is_open(&self) -> bool {
        !self.reader.is_finished()
    }
}

async fn open(
    source: &str,
    to: SocketAddr,
    settings: &[(u16, u32)],
) -> std::io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let (read, mut write) = connect(source, to).await?.into_split();
    let pair =
        |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let settings = settings.iter().flat_map(pair).collect::<Vec<_>>();
    write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).await?;
    Ok((read, write))
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Reads all there is until the end, and counts heads of answers. A head with the end of its stream is a refusal, or
/// the trailers of a good answer, which then has begun.
async fn listen(mut read: OwnedReadHalf, answers: Arc<AtomicUsize>, refusals: Arc<AtomicUsize>) {
    let mut head = [0; 9];
    let mut rest = Vec::new();
    while read.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        rest.resize(usize::try_from(length).unwrap(), 0);
        if read.read_exact(&mut rest).await.is_err() {
            return;
        }
        if head[3] == HEADERS {
            let all = head[4] & END_STREAM > 0;
            (if all { &refusals } else { &answers }).fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends `bytes(n)` again and again on a connection, and on another when that is closed, until then. How many
/// connections it took.
pub(crate) async fn flood(
    source: &str,
    to: SocketAddr,
    time: Duration,
    opening: &[u8],
    bytes: impl Fn(u32) -> Vec<u8>,
) -> usize {
    let began = Instant::now();
    let mut used = 0;
    while began.elapsed() < time {
        let Ok(mut connection) = Connection::begin(source, to).await else { continue };
        used += 1;
        if connection.send(opening).await.is_err() {
            continue;
        }
        for round in 0..u32::MAX {
            let left = time.saturating_sub(began.elapsed());
            let sent = tokio::time::timeout(left, connection.send(&bytes(round))).await;
            if left.is_zero() || !matches!(sent, Ok(Ok(()))) {
                break;
            }
            // On two cores the honest callers of this process need some of them.
            tokio::task::yield_now().await;
        }
    }
    used
}
