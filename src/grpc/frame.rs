//! Checks the frames of a request body before tonic sees them.
//!
//! A gRPC message is `compressed flag u8 | length u32 BE | message`. Stock tonic reserves memory for the
//! declared length and answers faults with INTERNAL or `OUT_OF_RANGE`. Here:
//!
//! - a length above the limit is refused from its header alone (`MESSAGE_TOO_LARGE`);
//! - a set flag, an early end, no message or a second one is `MALFORMED_MESSAGE`;
//! - the length is known, and a place can be waited for, before tonic sees it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::Status;

use super::places::Bounds;
use super::status;

/// The largest request message of most calls.
const MAX_MESSAGE: u32 = 64 * 1024;

/// The largest request message of those that bring what others made, or many things at once.
const MAX_LARGE_MESSAGE: u32 = 512 * 1024;

/// How many messages above `MAX_MESSAGE` may be under way at once, from their header to the end of their call: 64 MiB in
/// all. Who does not send the rest holds a quarter of that at most, and for no longer than a call may take.
///
/// What has come of one that waits is unread, up to its window of 64 KiB. Four would fill the window of their connection, and
/// those that have a place could not go on.
pub(super) const LARGE_AT_ONCE: Bounds = Bounds { connection: 8, caller: 32, all: 128, waiting: 3 };

/// The paths of those.
const LARGE: [&str; 2] = [
    "/credvault.v1.UseService/VerifyTwilioWebhook",
    "/credvault.v1.UseService/BatchVerifySipDigest",
];

/// The largest request message of a call.
pub(super) fn limit(path: &str) -> u32 {
    if LARGE.contains(&path) { MAX_LARGE_MESSAGE } else { MAX_MESSAGE }
}

/// How many messages a call may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Messages {
    /// Exactly one.
    One,
    /// Any number.
    Many,
}

/// A request body whose frames are checked as they pass.
pub(super) struct Checked<B> {
    inner: B,
    scanner: Scanner,
    /// What was read to know the length, and has not passed yet.
    held: VecDeque<Frame<Bytes>>,
    failed: bool,
}

impl<B> Checked<B> {
    /// `limit` is that of one message.
    pub(super) fn new(inner: B, messages: Messages, limit: u32) -> Self {
        let scanner = Scanner::new(messages, limit);
        Self { inner, scanner, held: VecDeque::new(), failed: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Checked<B> {
    /// Whether the message is larger than those of most calls may be. Waits for its header, which passes later: tonic
    /// reserves memory for all of it as soon as it sees that.
    pub(super) async fn is_large(&mut self) -> Result<bool, Status> {
        if self.scanner.limit <= MAX_MESSAGE {
            return Ok(false);
        }
        while self.scanner.seen == 0 {
            match poll_fn(|context| self.poll_checked(context)).await? {
                // Frames without data are nothing to anybody, and there is no end to how many a caller may send.
                Some(frame) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(frame) => self.held.push_back(frame),
                None => break,
            }
        }
        Ok(self.scanner.length > MAX_MESSAGE)
    }

    fn poll_checked(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, Status>> {
        let checked = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => self.scanner.scan(data).map(|()| Some(frame)),
                None => Ok(Some(frame)),
            },
            // The caller reset the stream or went away; nobody reads the answer.
            Some(Err(_)) => Err(Status::cancelled("the request was cancelled")),
            None => self.scanner.finish().map(|()| None),
        };
        self.failed = checked.is_err();
        Poll::Ready(checked)
    }
}

impl<B> Body for Checked<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        if let Some(frame) = self.held.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        self.poll_checked(cx).map(Result::transpose)
    }

    fn is_end_stream(&self) -> bool {
        // Never answered early: the end itself must be checked.
        false
    }
}

/// Follows the frames through chunks that are cut anywhere.
struct Scanner {
    messages: Messages,
    limit: u32,
    seen: u32,
    header: [u8; 5],
    header_filled: usize,
    /// Of the message that began last.
    length: u32,
    missing: usize,
}

impl Scanner {
    fn new(messages: Messages, limit: u32) -> Self {
        Self { messages, limit, seen: 0, header: [0; 5], header_filled: 0, length: 0, missing: 0 }
    }

    fn scan(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.missing > 0 {
                let here = self.missing.min(data.len());
                self.missing -= here;
                data = data.get(here..).unwrap_or_default();
                continue;
            }
            if self.header_filled == 0 && self.seen > 0 && self.messages == Messages::One {
                return Err(status::malformed_message("the call takes one message, not more"));
            }
            if let (Some(slot), Some((byte, rest))) =
                (self.header.get_mut(self.header_filled), data.split_first())
            {
                *slot = *byte;
                self.header_filled += 1;
                data = rest;
            }
            if self.header_filled == self.header.len() {
                self.start_message()?;
            }
        }
        Ok(())
    }

    fn start_message(&mut self) -> Result<(), Status> {
        let [flag, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        if flag != 0 {
            return Err(status::malformed_message("compressed messages are not accepted"));
        }
        if length > self.limit {
            return Err(status::message_too_large(self.limit));
        }
        self.header_filled = 0;
        self.seen = self.seen.saturating_add(1);
        self.length = length;
        self.missing = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(())
    }

    fn finish(&self) -> Result<(), Status> {
        if self.missing > 0 || self.header_filled > 0 {
            return Err(status::malformed_message("the message ends before its declared length"));
        }
        if self.seen == 0 && self.messages == Messages::One {
            return Err(status::malformed_message("the call carries no message"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use proptest::prelude::*;

    use super::*;

    fn framed(length: u32, body: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.resize(5 + body, b'x');
        bytes
    }

    fn verdict(bytes: &[u8], cut: usize, messages: Messages) -> Option<tonic::Code> {
        let mut scanner = Scanner::new(messages, MAX_MESSAGE);
        for chunk in bytes.chunks(cut) {
            if let Err(status) = scanner.scan(chunk) {
                return Some(status.code());
            }
        }
        scanner.finish().err().map(|status| status.code())
    }

    #[test]
    fn faults_have_their_codes_however_the_body_is_cut() {
        let two = [framed(3, 3), framed(0, 0)].concat();
        let compressed = [&[1], &framed(3, 3)[1..]].concat();
        let cases = [
            (framed(3, 3), None),
            (framed(0, 0), None),
            (framed(MAX_MESSAGE, 65_536), None),
            (framed(MAX_MESSAGE + 1, 0), Some(tonic::Code::ResourceExhausted)),
            (framed(u32::MAX, 5), Some(tonic::Code::ResourceExhausted)),
            (framed(4, 3), Some(tonic::Code::InvalidArgument)),
            (vec![0, 0], Some(tonic::Code::InvalidArgument)),
            (vec![], Some(tonic::Code::InvalidArgument)),
            (compressed, Some(tonic::Code::InvalidArgument)),
            (two.clone(), Some(tonic::Code::InvalidArgument)),
        ];
        for (number, (bytes, expected)) in cases.iter().enumerate() {
            for cut in [1, 2, 5, 7, 100_000] {
                assert_eq!(
                    verdict(bytes, cut, Messages::One),
                    *expected,
                    "case {number} cut {cut}"
                );
            }
        }
        assert_eq!(verdict(&two, 3, Messages::Many), None);
        assert_eq!(verdict(&[], 1, Messages::Many), None);
    }

    /// What a body of these pieces is said to be, and what passes of it.
    fn passes(pieces: &[&[u8]], limit: u32) -> (Result<bool, tonic::Code>, Vec<u8>) {
        let frames = pieces.iter().map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
        // After these it waits for more.
        let frames = stream::iter(frames.map(Ok::<_, Infallible>)).chain(stream::pending());
        let mut body = Checked::new(StreamBody::new(frames), Messages::One, limit);
        let said = body.is_large().now_or_never().expect("the header is there");
        let rest = std::iter::from_fn(|| body.frame().now_or_never().flatten());
        let rest = rest.filter_map(Result::ok).filter_map(|frame| frame.into_data().ok());
        (said.map_err(|status| status.code()), rest.flatten().collect())
    }

    #[test]
    fn a_large_message_is_told_from_its_header_and_passes_as_it_came() {
        let small = framed(MAX_MESSAGE, 3);
        let large = framed(MAX_MESSAGE + 1, 3);
        for (bytes, expected) in [(&small, false), (&large, true)] {
            for cut in 1..bytes.len() {
                let pieces: Vec<_> = bytes.chunks(cut).collect();
                let came = (Ok(expected), bytes.clone());
                assert_eq!(passes(&pieces, MAX_LARGE_MESSAGE), came, "cut {cut}");
            }
        }
        let empty: Vec<_> = large.chunks(1).flat_map(|piece| [&[][..], piece]).collect();
        assert_eq!(passes(&empty, MAX_LARGE_MESSAGE), (Ok(true), large.clone()));
        // Nothing is read of calls that may have no such message.
        assert_eq!(passes(&[&small], MAX_MESSAGE), (Ok(false), small.clone()));
        let refused = framed(MAX_LARGE_MESSAGE + 1, 3);
        let (said, passed) = passes(&[&refused], MAX_LARGE_MESSAGE);
        assert_eq!((said, passed.len()), (Err(tonic::Code::ResourceExhausted), 0));
    }

    #[test]
    fn calls_that_may_be_large_are_those_of_the_contract() {
        assert_eq!(limit("/credvault.v1.UseService/VerifySipDigest"), 65_536);
        for path in LARGE {
            assert_eq!(limit(path), 524_288);
            let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
            assert!(
                service == super::super::USE
                    && crate::access::ACTIONS.iter().any(|(known, _)| *known == method)
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 1_usize..8) {
            verdict(&bytes, cut, Messages::Many);
        }
    }
}
