//! HTTP as a probe speaks it: one request a connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::exposition::Metrics;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Sends these bytes and reads to the end, for at most ten seconds; None: there was no answer.
pub(crate) async fn send(address: SocketAddr, request: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("within 10 s").ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Reply { status, head: head.to_lowercase(), body: body.to_owned() })
}

pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str) -> Option<Reply> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: vault\r\nconnection: close\r\n\r\n");
    send(address, &head).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, "GET", path).await.expect("an answer")
}

/// What `/metrics` says, held to its format.
pub(crate) async fn metrics(address: SocketAddr) -> Metrics {
    Metrics::parse(&get(address, "/metrics").await.body).unwrap()
}
