//! A caller who frames his own bytes: gRPC over HTTP/2 without a gRPC library, so that it can be wrong.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::outcome;

/// Names and values, in their order.
type Headers = Vec<(String, Vec<u8>)>;

/// One HTTP/2 connection.
pub(crate) struct Raw {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    /// Values of the header `authorization`.
    authorization: Vec<String>,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) http: StatusCode,
    pub(crate) code: Code,
    /// The reason of `ErrorInfo`, or empty.
    pub(crate) reason: String,
    /// As [`outcome`] puts it.
    pub(crate) outcome: String,
    /// Headers without the date, data, and trailers: all that a caller can tell answers apart by.
    pub(crate) bytes: (Headers, Vec<u8>, Headers),
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let token = (!token.is_empty()).then(|| format!("Bearer {token}"));
        Self::over(stream, token.into_iter().collect()).await.unwrap()
    }

    /// The same with a client that takes one byte of each answer, and no more until it has been read.
    pub(crate) async fn connect_slow(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (send, connection) = builder.initial_window_size(1).handshake(stream).await.unwrap();
        let authorization = vec![format!("Bearer {token}")];
        Self { send, connection: tokio::spawn(connection), authorization }
    }

    /// The same over a stream of any kind, with any values of `authorization`.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        authorization: Vec<String>,
    ) -> Result<Self, h2::Error> {
        let (send, connection) = h2::client::handshake(stream).await?;
        Ok(Self { send, connection: tokio::spawn(connection), authorization })
    }

    /// The head of a good call.
    pub(crate) fn head(&self, path: &str) -> Request<()> {
        let mut head = Request::builder()
            .method(Method::POST)
            .uri(format!("http://vault.test{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        for value in &self.authorization {
            head = head.header("authorization", value);
        }
        head.body(()).unwrap()
    }

    /// Starts a call and leaves its body open.
    pub(crate) async fn start(&self, head: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_start(head).await.unwrap()
    }

    async fn try_start(
        &self,
        head: Request<()>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.send.clone().ready().await?.send_request(head, false)
    }

    /// Sends these bytes as a whole body, framed or not.
    pub(crate) async fn try_call(
        &self,
        head: Request<()>,
        body: Vec<u8>,
    ) -> Result<Answer, h2::Error> {
        let (response, mut stream) = self.try_start(head).await?;
        // The server may have answered already and not care for the rest.
        stream.send_data(body.into(), true).ok();
        answer(response).await
    }

    /// A call of `path` with these bytes as its body.
    pub(crate) async fn call(&self, path: &str, body: Vec<u8>) -> Answer {
        self.try_call(self.head(path), body).await.unwrap()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Waits for the end of an answer.
pub(crate) async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let data = read(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    let status = Status::from_header_map(&head.headers)
        .or_else(|| Status::from_header_map(&trailers))
        .unwrap_or_else(|| Status::unknown("there is no grpc-status"));
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let bytes = (plain(&head.headers), data, plain(&trailers));
    let code = status.code();
    let outcome = if code == Code::Ok { "OK".to_owned() } else { outcome(&Err::<(), _>(status)) };
    Ok(Answer { http: head.status, code, reason, outcome, bytes })
}

/// Waits for the end of its data.
pub(crate) async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        data.extend_from_slice(&chunk);
    }
    Ok(data)
}

fn plain(headers: &HeaderMap<HeaderValue>) -> Vec<(String, Vec<u8>)> {
    let told = headers.iter().filter(|(name, _)| *name != "date");
    told.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// A message with the five bytes before it: not compressed, and its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    declared(0, u32::try_from(message.len()).unwrap(), message)
}

/// A frame that says what it likes of itself.
pub(crate) fn declared(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[flag], &length.to_be_bytes()[..], message].concat()
}
