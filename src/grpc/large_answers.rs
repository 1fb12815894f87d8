//! Large answers: lists, and what reflection says. A client that does not take them holds their memory, so that there are
//! few at once.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;

use super::places::Bounds;
use bytes::Bytes;
use http_body::{Body, Frame};

/// How many there may be at once. An answer has at most 1 MiB. Any number may wait: of these nothing has been made yet.
pub(super) const BOUNDS: Bounds =
    Bounds { connection: 2, caller: 64, all: 256, waiting: Semaphore::MAX_PERMITS };

/// What HTTP/2 gets of an answer at once: what it has got is its own, and not seen here any more.
const PIECE: usize = 16 * 1024;

/// Whether the answer to a call of `path` may be one. Others have at most what a resource has.
pub(super) fn come_from(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|method| method.starts_with("List"))
}

/// A body in small pieces, of which the last is a single byte.
///
/// HTTP/2 takes a piece when the client's window has room for one byte, keeps what does not fit, and asks for the next when
/// there is room again. So who holds a place until this body is gone holds it until the client can take all but a byte.
pub(super) struct Pieces<B> {
    body: B,
    rest: Bytes,
}

impl<B> Pieces<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let size = self.rest.len().saturating_sub(1).clamp(1, PIECE).min(self.rest.len());
        // A copy, or each piece would keep the whole in memory.
        let piece = Bytes::copy_from_slice(&self.rest.split_to(size));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, stream};
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[test]
    fn a_body_in_pieces_is_the_same_and_its_last_piece_one_byte() {
        for size in [0, 1, 2, PIECE, PIECE + 1, PIECE + 2, 3 * PIECE + 7] {
            let data: Bytes = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let frames = [Frame::data(data.clone()), Frame::trailers(HeaderMap::new())];
            let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
            let mut body = Pieces::new(body);
            let frames = std::iter::from_fn(|| body.frame().now_or_never().unwrap());
            let frames: Vec<_> = frames.map(Result::unwrap).collect();
            let (trailers, pieces) = frames.split_last().unwrap();
            assert!(trailers.is_trailers());
            let pieces: Vec<_> = pieces.iter().map(|piece| piece.data_ref().unwrap()).collect();
            assert_eq!(pieces.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<_>>(), data);
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
            assert_eq!(pieces.last().map(|piece| piece.len()), Some(size.min(1)));
        }
    }

    #[test]
    fn only_lists_have_large_answers() {
        for (path, large) in [
            ("/credvault.v1.CredentialService/ListCredentials", true),
            ("/credvault.v1.AuditService/ListAuditEntries", true),
            ("/credvault.v1.CredentialService/GetCredential", false),
            ("/ListService/Get", false),
            ("", false),
        ] {
            assert_eq!(come_from(path), large, "{path}");
        }
    }
}
