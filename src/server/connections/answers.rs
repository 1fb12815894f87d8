//! Answers under way on a connection. A client that takes none holds its place, and the memory of each answer.
//!
//! HTTP/2 waits for a client's window for ever, without asking for the body meanwhile: a deadline in the body would never
//! be looked at. So the connection looks, in steps.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};

/// How often a connection looks.
const STEP: Duration = Duration::from_secs(10);

/// Those begun in the same step are counted together; of those that go on, the ones that gave something in it. What is not gone when its place in the ring comes round again, after
/// 30 to 40 s, is stalled.
#[derive(Debug, Default)]
pub(super) struct Answers {
    begun: AtomicU64,
    step: AtomicUsize,
    open: [AtomicUsize; 4],
}

impl Answers {
    /// How many calls there were.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Counts a call. An answer that `goes_on` may be quiet for as long as it likes; what it gives is to be taken.
    pub(super) fn begin(self: &Arc<Self>, goes_on: bool) -> Answer {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut answer = Answer { answers: Arc::clone(self), slot: None, goes_on };
        if !goes_on {
            answer.wait();
        }
        answer
    }

    /// Done when an answer is stalled.
    pub(super) async fn stalled(&self) {
        loop {
            tokio::time::sleep(STEP).await;
            let next = self.step.load(Ordering::Relaxed).wrapping_add(1) % self.open.len();
            if self.open.get(next).is_some_and(|open| open.load(Ordering::Relaxed) > 0) {
                return;
            }
            self.step.store(next, Ordering::Relaxed);
        }
    }
}

/// One call, until its answer is gone.
#[derive(Debug)]
pub(super) struct Answer {
    answers: Arc<Answers>,
    /// Where it counts as one that is to be taken, if it is.
    slot: Option<usize>,
    goes_on: bool,
}

impl Answer {
    /// It is to be taken, from now on.
    fn wait(&mut self) {
        self.rest();
        let slot = self.answers.step.load(Ordering::Relaxed) % self.answers.open.len();
        if let Some(open) = self.answers.open.get(slot) {
            open.fetch_add(1, Ordering::Relaxed);
        }
        self.slot = Some(slot);
    }

    /// There is nothing to be taken.
    fn rest(&mut self) {
        if let Some(open) = self.slot.take().and_then(|slot| self.answers.open.get(slot)) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.rest();
    }
}

/// The body of an answer, of which is known whether it is taken.
///
/// HTTP/2 asks for the next piece when it has sent the one before or has room for it. So an answer that goes on is to be
/// taken from when it has given a piece until it is asked for another, and has nothing to give.
pub(super) struct Taken<B> {
    body: B,
    answer: Answer,
}

impl<B> Taken<B> {
    pub(super) fn new(body: B, answer: Answer) -> Self {
        Self { body, answer }
    }
}

impl<B: Body + Unpin> Body for Taken<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.answer.goes_on {
            match frame {
                Poll::Ready(_) => self.answer.wait(),
                Poll::Pending => self.answer.rest(),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_stalled_after_half_a_minute() {
        let answers = Arc::new(Answers::default());
        let began = tokio::time::Instant::now();
        let held = answers.begin(false);
        let watch = answers.begin(true);
        assert_eq!(answers.begun(), 2);
        answers.stalled().await;
        let took = began.elapsed();
        assert!((Duration::from_secs(30)..=Duration::from_secs(40)).contains(&took), "{took:?}");
        drop((held, watch));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_taken_and_quiet_watches_are_not() {
        let answers = Arc::new(Answers::default());
        let _watch = answers.begin(true);
        let calls = async {
            let mut last = None;
            for _ in 0..60 {
                // Each is gone 10 s after it began.
                drop(last.replace(answers.begin(false)));
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            drop(last);
        };
        tokio::select! {
            () = answers.stalled() => panic!("nothing is stalled"),
            () = calls => {}
        }
    }

    /// A watch that gives something whenever it is asked, or nothing.
    struct Gives(bool);

    impl Body for Gives {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0 { Poll::Ready(Some(Ok(Frame::data(Bytes::new())))) } else { Poll::Pending }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_stalled_once_what_it_gave_is_not_taken() {
        let answers = Arc::new(Answers::default());
        let mut watch = Taken::new(Gives(true), answers.begin(true));
        let (given, seldom) = (async |watch: &mut Taken<Gives>| watch.frame().now_or_never(), 20);
        let reads = async {
            for _ in 0..30 {
                assert!(given(&mut watch).await.is_some());
                tokio::time::sleep(Duration::from_secs(seldom)).await;
            }
            // All is taken, and nothing comes for an hour.
            watch.body.0 = false;
            assert!(given(&mut watch).await.is_none());
            tokio::time::sleep(Duration::from_hours(1)).await;
        };
        tokio::select! {
            () = answers.stalled() => panic!("nothing is stalled"),
            () = reads => {}
        }
        watch.body.0 = true;
        assert!(given(&mut watch).await.is_some());
        let began = tokio::time::Instant::now();
        answers.stalled().await;
        assert!(began.elapsed() <= Duration::from_secs(40), "{:?}", began.elapsed());
    }
}
