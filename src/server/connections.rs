//! Connections: accepting them within limits, serving HTTP/2 on them, draining them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::grpc::Front;

/// Connections at the same time. Further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;

/// How long a new connection may take to its first request. A silent one would hold its place for ever.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How long to wait before accepting again after an error that only time mends (EMFILE, ENFILE).
const BACK_OFF: Duration = Duration::from_millis(100);

/// All connections of a server.
pub(super) struct Connections {
    front: Front,
    tasks: JoinSet<()>,
    draining: watch::Sender<bool>,
}

impl Connections {
    pub(super) fn new(front: Front) -> Self {
        Self { front, tasks: JoinSet::new(), draining: watch::Sender::new(false) }
    }

    /// Takes connections until `stop` is done.
    pub(super) async fn accept_until(
        &mut self,
        listener: &TcpListener,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        loop {
            let room = self.tasks.len() < MAX_CONNECTIONS;
            tokio::select! {
                () = &mut stop => return,
                accepted = listener.accept(), if room => self.take(accepted).await,
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    async fn take(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                let front = self.front.clone();
                self.tasks.spawn(serve(stream, peer, front, self.draining.subscribe()));
            }
            // The peer went away between its SYN and our accept: nothing to wait for.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(BACK_OFF).await;
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

/// Serves one connection, within limits far above what honest callers need.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    front: Front,
    mut draining: watch::Receiver<bool>,
) {
    // Answers are small and somebody waits for each.
    stream.set_nodelay(true).ok();
    let address = peer.ip().to_string();
    let (asked, first_request) = watch::channel(false);
    let service = service_fn(move |request| {
        let (front, address) = (front.clone(), address.clone());
        asked.send_if_modified(|asked| !std::mem::replace(asked, true));
        async move { Ok::<_, Infallible>(front.answer(request, address).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .max_header_list_size(16 * 1024)
        .max_frame_size(16 * 1024)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let asked_yet = first_request.clone();
    let silent = async {
        let mut first_request = first_request;
        let asked = first_request.wait_for(|asked| *asked);
        if tokio::time::timeout(FIRST_REQUEST, asked).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = silent => return,
        () = async { drop(draining.wait_for(|draining| *draining).await) } => {
            // Nothing was asked, so there is nothing to finish; hyper would wait for a preface.
            if !*asked_yet.borrow() {
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
