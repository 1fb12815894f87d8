//! The body of an answer that goes on: it ends when its caller's deadline passes or the vault stops, and counts as a call
//! that has ended only then.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::{Code, Status};

use super::status;
use crate::telemetry::metrics::Running;
use crate::vault::Error;

pub(super) struct GoingOn<B> {
    body: B,
    /// Why it ends, when it does before the body. None: it has ended.
    end: Option<BoxFuture<'static, Status>>,
    running: Option<Running>,
}

impl<B> GoingOn<B> {
    pub(super) fn new(
        body: B,
        deadline: Option<Instant>,
        stopping: impl Future<Output = ()> + Send + 'static,
        running: Running,
    ) -> Self {
        let late = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let end = async move {
            tokio::select! {
                () = stopping => status::stopping(),
                () = late => Error::DeadlineExceeded.into(),
            }
        };
        Self { body, end: Some(end.boxed()), running: Some(running) }
    }

    fn ended(&mut self, code: Code) {
        self.end = None;
        if let Some(running) = self.running.take() {
            running.end(code.into());
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for GoingOn<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        // First, or a body that always has something would never be ended.
        if let Poll::Ready(status) = end.poll_unpin(context) {
            self.ended(status.code());
            let mut trailers = HeaderMap::new();
            // A status that cannot be said is one that is missing, which every client takes for an error.
            status.add_header(&mut trailers).ok();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status = Status::from_header_map(trailers);
                    self.ended(status.map_or(Code::Ok, |status| status.code()));
                }
            }
            Some(Err(_)) => self.ended(Code::Internal),
            None => self.ended(Code::Ok),
        }
        Poll::Ready(frame)
    }
}
