//! Connections: accepting them within limits, serving HTTP/2 on them, draining them.

mod answers;

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::listener::{Accepted, Listener, Socket};
use super::places::Places;
use super::tls::{self, Tls};
use crate::config::ConnectionLimits;
use crate::defect::{Defect, planted};
use crate::grpc::{self, Front, Peer};
use answers::{Answers, Taken};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long the first bytes of HTTP/2 may take (RFC 9113 §3.4).
const PREFACE: Duration = Duration::from_secs(5);

/// How long a new connection may take to its first request. A silent one would hold its place for ever.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// After so long without a request a connection is told to come again.
const IDLE: Duration = Duration::from_mins(5);

/// How long calls in progress may take on a connection that is told to go because it does not take its answers.
const GRACE: Duration = Duration::from_secs(8);

/// How long to wait before accepting again after an error that only time mends (EMFILE, ENFILE).
pub(super) const BACK_OFF: Duration = Duration::from_millis(100);

/// What is read of one connection before others have their turn. Without it a connection is read for as long as there is
/// something, and a hundred thousand small frames, a megabyte or two, would keep a thread from all others.
const TURN: usize = 8 * 1024;

/// What a call may have of its answer in the buffers of HTTP/2 before more is taken from it. Whatever the client's window,
/// a client that does not read holds no more than this, besides what the front door has counted.
const SEND_BUFFER: usize = 16 * 1024;

/// What every client says first.
const CLIENT_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// All connections of a server.
pub(super) struct Connections {
    front: Front,
    tasks: JoinSet<()>,
    places: Arc<Places>,
    draining: watch::Sender<bool>,
}

impl Connections {
    pub(super) fn new(front: Front, limits: ConnectionLimits) -> Self {
        let places = Arc::new(Places::new(limits));
        Self { front, tasks: JoinSet::new(), places, draining: watch::Sender::new(false) }
    }

    /// Takes connections until `stop` is done.
    pub(super) async fn accept_until(
        &mut self,
        listener: &Listener,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        let mut failing = false;
        loop {
            tokio::select! {
                () = &mut stop => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => {
                        failing = false;
                        self.take(accepted, listener);
                    }
                    // The peer went away between its SYN and our accept: nothing to wait for.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        // Once: it may go on for hours, ten times a second.
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(%error, "accept a connection");
                        }
                        if !planted(Defect::SpinningAccept) {
                            tokio::time::sleep(BACK_OFF).await;
                        }
                    }
                },
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    /// Serves a connection, or closes it at once where it is one too many.
    fn take(&mut self, accepted: Accepted, listener: &Listener) {
        let (front, draining) = (self.front.clone(), self.draining.subscribe());
        match accepted {
            Accepted::Tcp(stream, peer) => {
                let Some(place) = self.places.take(Some(peer.ip())) else { return };
                // Answers are small and somebody waits for each.
                stream.set_nodelay(true).ok();
                let peer = Peer::stranger(peer.ip().to_string());
                match listener.tls.clone() {
                    None => drop(self.tasks.spawn(async move {
                        serve(stream, peer, front, draining).await;
                        drop(place);
                    })),
                    Some(tls) => drop(self.tasks.spawn(async move {
                        encrypted(stream, &tls, peer, front, draining).await;
                        drop(place);
                    })),
                }
            }
            Accepted::Unix(stream) => {
                // The file's mode keeps others out already; root may do anything.
                let owner = match &listener.socket {
                    Socket::Unix(_, file) => file.owner().ok(),
                    Socket::Tcp(_) => None,
                };
                let peer = stream.peer_cred().ok().map(|peer| peer.uid());
                if peer.is_none() || (peer != owner && peer != Some(0)) {
                    return;
                }
                let Some(place) = self.places.take(None) else { return };
                let peer = Peer::stranger("unix".to_owned());
                self.tasks.spawn(async move {
                    serve(stream, peer, front, draining).await;
                    drop(place);
                });
            }
        }
    }

    /// Lets calls in progress finish, for at most `limit` or until `hurry`; then cuts what is left.
    pub(super) async fn drain(mut self, limit: Duration, hurry: impl Future<Output = ()>) {
        self.draining.send_replace(true);
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        let cut = tokio::select! {
            () = finished => false,
            () = tokio::time::sleep(limit) => true,
            () = hurry => true,
        };
        if cut {
            tracing::warn!(left = self.tasks.len(), "cutting connections that did not finish");
            self.tasks.shutdown().await;
        }
    }
}

/// Waits for what a new connection has to do, for so long.
async fn within<T>(limit: Duration, step: impl Future<Output = T>) -> Option<T> {
    if planted(Defect::EndlessPatience) {
        return Some(step.await);
    }
    tokio::time::timeout(limit, step).await.ok()
}

/// Shakes hands, and serves with the identity that the client has shown.
async fn encrypted<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    tls: &Tls,
    mut peer: Peer,
    front: Front,
    draining: watch::Receiver<bool>,
) {
    let mut stopped = draining.clone();
    let handshake = within(HANDSHAKE, tls.acceptor().accept(stream));
    let stream = tokio::select! {
        handshake = handshake => match handshake {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return tracing::debug!(%error, peer = peer.address, "a TLS handshake failed"),
            None => return,
        },
        () = async { drop(stopped.wait_for(|draining| *draining).await) } => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    // The handshake has accepted nothing that this does not take.
    peer.workload = certificate.and_then(tls::workload).map(Arc::new);
    serve(stream, peer, front, draining).await;
}

/// Serves one connection, within limits far above what honest callers need.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut stream: S,
    peer: Peer,
    front: Front,
    mut draining: watch::Receiver<bool>,
) {
    let mut said = [0; CLIENT_PREFACE.len()];
    let began = tokio::select! {
        read = within(PREFACE, stream.read_exact(&mut said)) => matches!(read, Some(Ok(_))),
        // Nothing was asked, so there is nothing to finish.
        () = async { drop(draining.wait_for(|draining| *draining).await) } => false,
    };
    if !began || said != *CLIENT_PREFACE {
        return;
    }
    let answers = Arc::new(Answers::default());
    let begun = Arc::clone(&answers);
    let service = service_fn(move |request: Request<Incoming>| {
        let (front, peer) = (front.clone(), peer.clone());
        let answer = begun.begin(grpc::goes_on(request.uri().path()));
        async move {
            let response = front.answer(request, peer).await;
            Ok::<_, Infallible>(response.map(|body| Taken::new(body, answer)))
        }
    });
    let stream = Begun { said: 0, turn: 0, stood_back: false, stream };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .max_header_list_size(16 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let silent = async {
        within(FIRST_REQUEST, std::future::pending::<()>()).await;
        if answers.begun() > 0 {
            std::future::pending::<()>().await;
        }
    };
    let idle = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(IDLE).await;
            match answers.begun() {
                same if same == before => return,
                more => before = more,
            }
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = silent => return,
        () = idle => {
            // What still streams (a watch) may go on.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = answers.stalled() => return,
            }
        }
        () = answers.stalled() => {
            tracing::debug!("a connection does not take its answers");
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
        () = async { drop(draining.wait_for(|draining| *draining).await) } => {
            if answers.begun() == 0 {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A stream whose preface was read already, and is read once more by HTTP/2; and which takes turns with others.
///
/// Before each write it lets the tasks go first that are ready, so that the answers of a connection's calls leave
/// together: a write costs more than a call (docs/adr/0026).
struct Begun<S> {
    said: usize,
    /// What was read in this turn.
    turn: usize,
    stood_back: bool,
    stream: S,
}

impl<S> Begun<S> {
    /// Whether to go behind the others first, which is once before each write.
    fn stands_back(&mut self, context: &Context<'_>) -> bool {
        if !self.stood_back {
            context.waker().wake_by_ref();
        }
        !std::mem::replace(&mut self.stood_back, true)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(rest @ [_, ..]) = CLIENT_PREFACE.get(self.said..) {
            let part = rest.get(..buffer.remaining()).unwrap_or(rest);
            buffer.put_slice(part);
            self.said += part.len();
            return Poll::Ready(Ok(()));
        }
        if self.turn >= TURN {
            self.turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.turn = if read.is_ready() { self.turn + buffer.filled().len() - before } else { 0 };
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.stands_back(context) {
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.stood_back = false;
        Poll::Ready(written)
    }

    /// With it, HTTP/2 would write each answer by itself that has more than 255 bytes, instead of copying it.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
