//! What goes wrong at a carrier.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Answer, Carrier};

/// What goes wrong at the carrier.
///
/// The first group is an answer of its own, whatever the account and the token; nothing is done. The second changes
/// the answer that account and token deserve, or the way in which it is sent: it was done by then. The third loses
/// the answer, before anything is done or after.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This status, with an error body in the carrier's usual shape.
    Status(u16),
    /// An error in one of Twilio's shapes.
    Error {
        /// How the body looks.
        shape: ErrorShape,
        /// The status.
        status: u16,
        /// Twilio's own code, for example 20003.
        code: u32,
    },
    /// 429, to be tried again after this many seconds.
    RateLimit(u32),
    /// Exactly this answer. Only `content-length` and `connection: close` are added.
    #[serde(skip)]
    StatusWith {
        /// The status.
        status: u16,
        /// The headers, `content-type` among them.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// 302 to this place.
    Redirect(String),
    /// 200 with the login page of a captive portal.
    NotJson,

    /// A good answer is about another account or trunk.
    SidMismatch,
    /// A good answer has no `sid`.
    MissingSid,
    /// White space, which JSON allows, makes the body this many bytes long.
    PaddedTo(usize),
    /// White space makes the body 100 MiB long.
    HugeBody,
    /// White space follows the body without end, in chunks.
    EndlessBody,
    /// Everything is sent at one byte a second.
    SlowHead,
    /// The body is sent at one byte a second.
    SlowBody,
    /// The connection closes after the first half of the head.
    HalfHead,
    /// The connection closes after the first half of the body.
    HalfBody,
    /// Nothing is sent until [`Fake::release`](super::Fake::release), then the answer that is right at that time.
    Hold,

    /// The connection closes in place of an answer. Nothing is done.
    CloseBeforeAnswer,
    /// The connection is reset (TCP RST) in place of an answer. Nothing is done.
    ResetBeforeAnswer,
    /// Nothing is sent, for as long as the caller waits. Nothing is done.
    Hang,
    /// What was asked for is done; then the connection closes in place of an answer.
    CloseAfterEffect,
    /// What was asked for is done; then the connection is reset (TCP RST) in place of an answer.
    ResetAfterEffect,
    /// What was asked for is done; then nothing is sent, for as long as the caller waits.
    HangAfterEffect,
}

/// The bodies that Twilio's errors come in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorShape {
    /// `code`, `message`, `more_info`, `status`.
    Classic,
    /// `code`, `message`, `httpStatusCode`, `params`, `userError`, which twilio-go also reads.
    Newer,
    /// `application/problem+json` (RFC 9457) with a `code`, which twilio-python also reads.
    Problem,
}

impl Fault {
    /// Whether the answer is lost before anything is done.
    pub(super) fn comes_before_the_effect(&self) -> bool {
        matches!(self, Self::CloseBeforeAnswer | Self::ResetBeforeAnswer | Self::Hang)
    }

    /// The answer that a fault has of its own.
    pub(super) fn answer_instead(&self, carrier: &impl Carrier) -> Option<Answer> {
        match self.clone() {
            Self::Status(status) => Some(carrier.error(status)),
            Self::Error { shape, status, code } => Some(carrier.shaped_error(shape, status, code)),
            Self::RateLimit(seconds) => {
                let mut answer = carrier.error(429);
                answer.headers.push(("retry-after", seconds.to_string()));
                Some(answer)
            }
            Self::StatusWith { status, headers, body } => Some(Answer { status, headers, body }),
            Self::Redirect(to) => {
                Some(Answer { status: 302, headers: vec![("location", to)], body: Vec::new() })
            }
            Self::NotJson => {
                let headers = vec![("content-type", "text/html".to_owned())];
                let page = b"<!doctype html><title>Welcome to our hotel</title>";
                Some(Answer { status: 200, headers, body: page.to_vec() })
            }
            _ => None,
        }
    }
}

/// Sends the answer, in the way of the fault. `answered` is told before the caller can have all of it.
pub(super) async fn send(
    stream: &mut TcpStream,
    answer: &Answer,
    fault: Option<Fault>,
    answered: impl FnOnce(),
) -> io::Result<()> {
    let body = answer.body.as_slice();
    let length = match fault {
        Some(Fault::PaddedTo(length)) => length.max(body.len()),
        Some(Fault::HugeBody) => 100 * 1024 * 1024,
        _ => body.len(),
    };
    let head = answer.head(&format!("content-length: {length}"));
    let half = |bytes: &[u8]| bytes.split_at(bytes.len() / 2).0.to_vec();
    match fault {
        Some(Fault::CloseBeforeAnswer | Fault::CloseAfterEffect) => Ok(()),
        Some(Fault::ResetBeforeAnswer | Fault::ResetAfterEffect) => stream.set_zero_linger(),
        // Ends when the caller leaves.
        Some(Fault::Hang | Fault::HangAfterEffect) => stream.read(&mut [0]).await.map(drop),
        Some(Fault::HalfHead) => stream.write_all(&half(&head)).await,
        Some(Fault::HalfBody) => stream.write_all(&[head, half(body)].concat()).await,
        Some(Fault::SlowHead) => drip(stream, &[&head, body].concat()).await,
        Some(Fault::SlowBody) => {
            stream.write_all(&head).await?;
            drip(stream, body).await
        }
        Some(Fault::EndlessBody) => {
            let head = answer.head("transfer-encoding: chunked");
            let size = format!("{:x}\r\n", body.len());
            let first = [&head, size.as_bytes(), body, b"\r\n"].concat();
            stream.write_all(&first).await?;
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        _ => {
            answered();
            stream.write_all(&[&head, body].concat()).await?;
            let padding = u64::try_from(length - body.len()).unwrap_or(u64::MAX);
            let mut blanks = tokio::io::repeat(b' ').take(padding);
            tokio::io::copy(&mut blanks, stream).await.map(drop)
        }
    }
}

/// Sends one byte a second.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for byte in bytes {
        second.tick().await;
        stream.write_u8(*byte).await?;
    }
    Ok(())
}
