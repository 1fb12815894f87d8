//! Answers under way on a connection. A client that takes none holds its place, and the memory of each answer.
//!
//! HTTP/2 waits for a client's window for ever, without asking for the body meanwhile: a deadline in the body would never
//! be looked at. So the connection looks, in steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a connection looks.
const STEP: Duration = Duration::from_secs(10);

/// Those begun in the same step are counted together. What is not gone when its place in the ring comes round again, after
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

    /// Counts a call, whose answer may take its time if it `goes_on` by its nature.
    pub(super) fn begin(self: &Arc<Self>, goes_on: bool) -> Option<Answer> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if goes_on {
            return None;
        }
        let slot = self.step.load(Ordering::Relaxed) % self.open.len();
        self.open.get(slot)?.fetch_add(1, Ordering::Relaxed);
        Some(Answer { answers: Arc::clone(self), slot })
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
    slot: usize,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(open) = self.answers.open.get(self.slot) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
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
    async fn answers_that_are_taken_and_watches_are_not() {
        let answers = Arc::new(Answers::default());
        let _watch = answers.begin(true);
        let calls = async {
            let mut last = None;
            for _ in 0..60 {
                // Each is gone 10 s after it began.
                last = answers.begin(false).or(last);
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            drop(last);
        };
        tokio::select! {
            () = answers.stalled() => panic!("nothing is stalled"),
            () = calls => {}
        }
    }
}
