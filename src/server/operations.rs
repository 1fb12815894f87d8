//! The operations listener: health, readiness and metrics for those who run a vault, on an address of its own.
//!
//! - HTTP/1.1 and HTTP/2 without encryption and without authentication, for probes and for Prometheus. So it says
//!   nothing that is secret and names no customer; docs/adr/0016 says what may reach it.
//! - It is there before the vault is open, and until it is closed.
//! - It has few places, and every connection ends soon, unless it watches health.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;

use super::connections::BACK_OFF;
use super::places::Places;
use crate::config::{ConnectionLimits, OpsListen, Settings};
use crate::grpc::{Asks, Health, Readiness};
use crate::telemetry::metrics;

/// Probes and Prometheus need a few, and none for long.
const LIMITS: ConnectionLimits = ConnectionLimits { total: 64, per_address: 16 };

/// How long a connection may take to its first request, and to the head of a further one.
const REQUEST: Duration = Duration::from_secs(5);

/// How long a connection lives, unless it watches health: then it takes no further requests, and ends with its watches.
/// Clients that keep theirs make a new one.
const LIFETIME: Duration = Duration::from_mins(1);

/// How long an answer may take to leave when a connection has lived so long.
const GRACE: Duration = Duration::from_secs(2);

/// What the last news of a stop has to reach its watchers. An idle vault closes in less time than a write takes.
const FAREWELL: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// The operations listener, listening or switched off.
#[derive(Debug)]
pub struct Operations {
    health: Health,
    address: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Operations {
    /// Listens where the settings say, and answers from now on that the vault is not ready.
    ///
    /// Where nobody chose an address, and `may_move`, a port that is taken is no error: any other will do.
    pub async fn start(settings: &Settings, may_move: bool) -> anyhow::Result<Self> {
        let health = Health::starting().await;
        let mut tasks = JoinSet::new();
        let Some(listener) = listen(settings.ops_listen, may_move).await? else {
            return Ok(Self { health, address: None, tasks });
        };
        let address = listener.local_addr()?;
        tracing::info!(%address, "operations listener: health, readiness and metrics");
        tasks.spawn(accept(listener, health.clone()));
        Ok(Self { health, address: Some(address), tasks })
    }

    /// Where it listens; None: it is switched off.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What it says of the vault.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Cuts all connections, when those who watch health have heard of the stop.
    pub(super) async fn stop(mut self) {
        if self.address.is_some() {
            tokio::time::sleep(FAREWELL).await;
        }
        self.tasks.shutdown().await;
    }
}

async fn listen(ops_listen: OpsListen, may_move: bool) -> anyhow::Result<Option<TcpListener>> {
    let (address, chosen) = match ops_listen {
        OpsListen::Off => return Ok(None),
        OpsListen::Default(address) => (address, false),
        OpsListen::At(address) => (address, true),
    };
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && may_move && !chosen => {
            Ok(Some(TcpListener::bind((address.ip(), 0)).await?))
        }
        Err(error) => Err(anyhow!(
            "cannot listen on {address} for operations: {error}; choose another address with --ops-listen, or off"
        )),
        Ok(listener) => Ok(Some(listener)),
    }
}

/// Takes connections for as long as it is polled. They end with it.
async fn accept(listener: TcpListener, health: Health) {
    let places = Arc::new(Places::new(LIMITS));
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                if let Some(place) = places.take(Some(peer.ip())) {
                    stream.set_nodelay(true).ok();
                    let health = health.clone();
                    connections.spawn(async move {
                        serve(stream, health).await;
                        drop(place);
                    });
                }
            }
            // The peer went away between its SYN and our accept: nothing to wait for.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Once: it may go on for hours, ten times a second.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "accept a connection for operations");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Serves one connection until it ends, is silent for too long, or has lived long enough.
async fn serve<S>(stream: S, health: Health)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (asked, first_request) = watch::channel(false);
    let watches = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&watches);
    let service = service_fn(move |request: Request<Incoming>| {
        asked.send_if_modified(|asked| !std::mem::replace(asked, true));
        if Health::is_asked_by(request.uri().path()) == Some(Asks::ToWatch) {
            watching.store(true, Ordering::Relaxed);
        }
        let health = health.clone();
        async move { Ok::<_, Infallible>(answer(request, &health).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .max_headers(64)
        .max_buf_size(16 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(8)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .max_header_list_size(8 * 1024)
        .max_frame_size(16 * 1024)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let old = async {
        let mut first_request = first_request;
        let first = first_request.wait_for(|asked| *asked);
        if tokio::time::timeout(REQUEST, first).await.is_err() {
            return;
        }
        tokio::time::sleep(LIFETIME).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = old => {
            connection.as_mut().graceful_shutdown();
            if watches.load(Ordering::Relaxed) {
                // What still streams may go on, as on the port for calls.
                connection.await
            } else {
                tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection for operations ended");
    }
}

async fn answer(request: Request<Incoming>, health: &Health) -> Response<Body> {
    let path = request.uri().path();
    if Health::is_asked_by(path).is_some() {
        return health.answer(request).await;
    }
    let (status, kind, body) = match path {
        "/livez" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => {
            let (status, text) = match health.readiness() {
                Readiness::Ready => (StatusCode::OK, "ok\n"),
                Readiness::Starting => {
                    (StatusCode::SERVICE_UNAVAILABLE, "starting: the vault is not open yet\n")
                }
                Readiness::Stopping => {
                    let text = "stopping: the vault finishes the calls in progress\n";
                    (StatusCode::SERVICE_UNAVAILABLE, text)
                }
            };
            (status, TEXT, text.to_owned())
        }
        "/metrics" => (StatusCode::OK, metrics::CONTENT_TYPE, metrics::render()),
        _ => {
            let text = "not found: there are /livez, /readyz, /metrics and gRPC health\n";
            (StatusCode::NOT_FOUND, TEXT, text.to_owned())
        }
    };
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let mut response = if status != StatusCode::NOT_FOUND && !reads {
        let text = "method not allowed: GET it\n".to_owned();
        let mut response = text_response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    } else if request.method() == Method::HEAD {
        text_response(status, kind, String::new())
    } else {
        text_response(status, kind, body)
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text_response(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let body = if text.is_empty() { Body::empty() } else { Body::new(text) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A connection, and the task that serves it. Time passes only while all wait.
    async fn connect(said: &[u8]) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (mut client, server) = duplex(1024);
        let served = tokio::spawn(serve(server, Health::starting().await));
        client.write_all(said).await.unwrap();
        (client, served)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_ask_is_cut() {
        for said in ["", "GET /livez HTTP/1.1\r\nhost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let began = Instant::now();
            let (client, served) = connect(said.as_bytes()).await;
            served.await.unwrap();
            assert!(began.elapsed() <= REQUEST + GRACE, "{said:?}: {:?}", began.elapsed());
            drop(client);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut() {
        let began = Instant::now();
        // The answer is larger than what fits into the pipe.
        let (client, served) = connect(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        served.await.unwrap();
        let took = began.elapsed();
        assert!(took >= LIFETIME && took <= LIFETIME + REQUEST + GRACE, "{took:?}");
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_again_and_again_ends_after_its_lifetime() {
        let began = Instant::now();
        let (mut client, served) = connect(b"").await;
        let mut answers = 0;
        for _ in 0..1000 {
            if client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.is_err()
                || client.read(&mut [0; 1024]).await.unwrap_or(0) == 0
            {
                break;
            }
            answers += 1;
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        served.await.unwrap();
        assert!(answers > 20, "{answers}");
        assert!(began.elapsed() <= LIFETIME + REQUEST + GRACE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_health_may_stay_for_that_alone() {
        let (client, served) = connect(b"").await;
        let (send, connection) = h2::client::handshake(client).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post("http://x/grpc.health.v1.Health/Watch")
            .header(CONTENT_TYPE, "application/grpc")
            .body(())
            .unwrap();
        let mut send = send.ready().await.unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
        let mut answer = response.await.unwrap().into_body();
        assert!(answer.data().await.unwrap().is_ok());
        let more = tokio::time::timeout(10 * LIFETIME, answer.data()).await;
        assert!(more.is_err() && !served.is_finished(), "it waits for the next change");
        assert!(send.ready().await.is_err(), "no further requests");
        drop((body, answer));
        tokio::time::timeout(GRACE, served).await.expect("it ends with its watch").unwrap();
        connection.await.unwrap().unwrap();
    }
}
