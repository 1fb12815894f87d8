//! Watches of health: answers that go on for as long as their callers like, and that nobody needs a token for. So there
//! are few.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

use super::status;

/// Of one connection.
const OF_CONNECTION: usize = 8;

/// Of all connections that show no certificate.
const OF_STRANGERS: usize = 64;

/// The watches that there may still be: on one connection, or of all strangers. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Watches(Arc<Semaphore>);

impl Watches {
    /// Those of a new connection.
    pub(super) fn of_connection() -> Self {
        Self(Arc::new(Semaphore::new(OF_CONNECTION)))
    }

    pub(super) fn of_strangers() -> Self {
        Self(Arc::new(Semaphore::new(OF_STRANGERS)))
    }

    /// One less, for as long as what is returned lives.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| status::too_many_watches())
    }
}

/// Keeps `held` for as long as the answer goes on.
pub(super) fn holding<T: Send + Unpin + 'static>(
    response: Response<Body>,
    held: T,
) -> Response<Body> {
    response.map(|body| Body::new(Holding { body, _held: held }))
}

struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
