//! The load: many callers over few connections, each waiting for its answer before the next call. Every call has
//! another key, and every answer is checked.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::calls::Work;
use crate::flush::Flushes;
use crate::http2::{Connection, Event};

const CONNECTIONS: usize = 4;

/// Where to send calls.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) tls: Option<TlsConnector>,
}

/// When to stop.
#[derive(Clone, Copy)]
pub(crate) enum End {
    After(Duration),
    Calls(u64),
}

/// What came of a round.
#[derive(Clone)]
pub(crate) struct Outcome {
    pub(crate) calls: u64,
    /// Answers that were refusals, or not what they should be.
    pub(crate) wrong: u64,
    /// Answers before any flush of the log that began after their question had ended.
    pub(crate) early: u64,
    pub(crate) rate: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    /// Bytes of the first answer, with its frame.
    pub(crate) size: u64,
}

trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

struct Call {
    number: u64,
    begun: Instant,
    flushes: u64,
    answer: BytesMut,
}

#[derive(Default)]
struct Share {
    times: Vec<Duration>,
    wrong: u64,
    early: u64,
    first_size: usize,
}

/// Calls until the end and says what came of it. With `flushes` it watches that no answer comes before its flush.
pub(crate) async fn run(
    target: &Target,
    work: &Work,
    callers: usize,
    end: End,
    flushes: Option<&Flushes>,
) -> Outcome {
    let connections = CONNECTIONS.min(callers);
    let numbers = Cell::new(0);
    let started = Instant::now();
    let shares = (0..connections)
        .map(|_| connection(target, work, callers / connections, end, &numbers, flushes));
    let shares = join_all(shares).await;
    let elapsed = started.elapsed();
    let wrong = shares.iter().map(|share| share.wrong).sum();
    let early = shares.iter().map(|share| share.early).sum();
    let size = shares.iter().map(|share| share.first_size).max().unwrap_or(0);
    let mut times: Vec<_> = shares.into_iter().flat_map(|share| share.times).collect();
    assert!(!times.is_empty(), "{} was never answered", work.path);
    times.sort_unstable();
    let micros = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
    Outcome {
        calls: u64::try_from(times.len()).unwrap(),
        wrong,
        early,
        rate: f64::from(u32::try_from(times.len()).unwrap()) / elapsed.as_secs_f64(),
        p50_micros: micros(50),
        p99_micros: micros(99),
        size: u64::try_from(size).unwrap(),
    }
}

async fn connection(
    target: &Target,
    work: &Work,
    callers: usize,
    end: End,
    numbers: &Cell<u64>,
    flushes: Option<&Flushes>,
) -> Share {
    let mut socket = connect(target).await;
    let mut http = Connection::new(work.path, &target.token, target.tls.is_some());
    let (mut share, mut calls) = (Share::default(), HashMap::<u32, Call>::new());
    let (mut input, started) = (BytesMut::new(), Instant::now());
    loop {
        let log_started = flushes.map_or(0, Flushes::log_started);
        while calls.len() < callers {
            let number = numbers.get();
            let more = match end {
                End::After(time) => started.elapsed() < time,
                End::Calls(most) => number < most,
            };
            let message = if more { (work.message)(number) } else { break };
            if !http.has_room(message.len()) {
                break;
            }
            numbers.set(number + 1);
            let call = Call {
                number,
                begun: Instant::now(),
                flushes: log_started,
                answer: BytesMut::new(),
            };
            calls.insert(http.call(&message), call);
        }
        if calls.is_empty() {
            return share;
        }
        socket.write_all(&http.output).await.unwrap();
        socket.flush().await.unwrap();
        http.output.clear();
        let read = socket.read_buf(&mut input).await.unwrap();
        assert!(read > 0, "the server closed the connection");
        let log_finished = flushes.map_or(u64::MAX, Flushes::log_finished);
        while let Some(event) = http.take(&mut input) {
            let (stream, whole) = match event {
                Event::Data(stream, bytes) => {
                    calls.get_mut(&stream).unwrap().answer.unsplit(bytes);
                    continue;
                }
                Event::End(stream) => (stream, true),
                Event::Reset(stream) => (stream, false),
            };
            let call = calls.remove(&stream).unwrap();
            if call.number == 0 {
                share.first_size = call.answer.len();
            }
            share.times.push(call.begun.elapsed());
            let right =
                call.answer.get(5..).is_some_and(|answer| (work.is_right)(call.number, answer));
            share.wrong += u64::from(!(whole && right));
            share.early += u64::from(log_finished <= call.flushes);
        }
    }
}

async fn connect(target: &Target) -> Box<dyn Socket> {
    let stream = TcpStream::connect(target.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    match &target.tls {
        None => Box::new(stream),
        Some(tls) => {
            let name = ServerName::from(target.address.ip());
            Box::new(tls.connect(name, stream).await.unwrap())
        }
    }
}
