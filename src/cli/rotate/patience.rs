//! Asks again and again with the same request, until there is an answer, a refusal, or no time left.

use std::io::{Write as _, stderr, stdin};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::cli::client::{Connection, is_undone, told};
use crate::cli::terminal::Progress;
use crate::cli::{Signals, note};
use crate::crypto::random;
use crate::grpc::client::{CallError, Rpc};
use crate::server::StopSignal as _;

/// How often a call is made at the most.
const TRIES: u32 = 20;

/// How long to wait after the first try, before chance takes up to half of it; after each the double.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// How long to wait before it is asked again how far something is.
const REST: Duration = Duration::from_secs(1);

/// How long to go on asking, and what ends it before.
pub(in crate::cli) struct Patience {
    most: Duration,
    signals: Signals,
}

/// Why there is no answer.
pub(in crate::cli) enum Trouble {
    /// Somebody does not want to wait any longer.
    Interrupted,
    /// This, at last.
    Call {
        error: CallError,
        /// No try can have had an effect.
        is_undone: bool,
    },
}

impl Patience {
    pub(in crate::cli) fn new(most: Duration) -> anyhow::Result<Self> {
        Ok(Self { most, signals: Signals::listen()? })
    }

    /// When what begins now has taken too long.
    pub(super) fn end(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.most).unwrap_or(now)
    }

    /// Waits a moment, and says beside the answer for what. Whether there is time left.
    pub(super) async fn rest(&mut self, end: Instant, doing: &str) -> Result<bool, Trouble> {
        if Instant::now() + REST > end {
            return Ok(false);
        }
        self.pause(REST, doing).await.map(|()| true)
    }

    /// Waits for so long, and says beside the answer for what.
    pub(in crate::cli) async fn pause(
        &mut self,
        length: Duration,
        doing: &str,
    ) -> Result<(), Trouble> {
        let _progress = Progress::show(doing);
        tokio::select! {
            () = sleep(length) => Ok(()),
            () = self.signals.next() => Err(Trouble::Interrupted),
        }
    }

    /// Asks whoever sits at the terminal, and returns the line that he types.
    pub(super) async fn answer(&mut self, question: &str) -> Result<String, Trouble> {
        write!(stderr(), "{question}").and_then(|()| stderr().flush()).ok();
        let typed = spawn_blocking(|| {
            let mut line = String::new();
            stdin().read_line(&mut line).map(|_| line)
        });
        tokio::select! {
            // What cannot be read is no yes.
            typed = typed => Ok(typed.ok().and_then(Result::ok).unwrap_or_default()),
            () = self.signals.next() => Err(Trouble::Interrupted),
        }
    }

    /// Calls, and says beside the answer what it waits for.
    pub(in crate::cli) async fn ask<R: Rpc + Clone>(
        &mut self,
        connection: &Connection,
        request: &R,
        doing: &str,
    ) -> Result<R::Response, Trouble> {
        let began = Instant::now();
        let (mut tries, mut undone) = (0, true);
        loop {
            let progress = Progress::show(doing);
            let answer = tokio::select! {
                answer = connection.call(request.clone()) => answer,
                () = self.signals.next() => return Err(Trouble::Interrupted),
            };
            drop(progress);
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tries += 1;
            undone &= is_undone(&error);
            let chance = random::bytes().map_or(u8::MAX, |[byte]| byte);
            let Some(wait) =
                pause(&error, tries, chance, self.most.saturating_sub(began.elapsed()))
            else {
                return Err(Trouble::Call { error, is_undone: undone });
            };
            note(format_args!(
                "{}; the same request again in {:.1} s",
                told(&error),
                wait.as_secs_f64()
            ));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.signals.next() => return Err(Trouble::Interrupted),
            }
        }
    }
}

/// How long to wait after `tries` before another; None: that helps nothing, or there is no time `left`.
///
/// - An answer that may be lost, a vault that is not there or says when to come again: ask again.
/// - A TLS connection that fails is a mistake of the options, unless there was one before.
/// - Chance keeps those who were cut off together from coming back together.
pub(in crate::cli) fn pause(
    error: &CallError,
    tries: u32,
    chance: u8,
    left: Duration,
) -> Option<Duration> {
    let least = match error {
        CallError::NoAnswer(_) | CallError::Lost(_) => Duration::ZERO,
        CallError::NoHandshake(_) if tries > 1 => Duration::ZERO,
        CallError::Refused { reason, .. } if reason == "DEADLINE_EXCEEDED" => Duration::ZERO,
        CallError::Refused { retry_after: Some(wait), .. } => *wait,
        CallError::NoHandshake(_) | CallError::Refused { .. } => return None,
    };
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    let longest = doubled.min(LONGEST);
    let wait = longest.saturating_sub(longest / 2 * u32::from(chance) / 255).max(least);
    (tries < TRIES && wait <= left).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str, retry_after: Option<Duration>) -> CallError {
        let (reason, message) = (reason.to_owned(), String::new());
        CallError::Refused { reason, message, resource: None, retry_after }
    }

    #[test]
    fn waits_grow_are_bounded_and_left_to_chance_by_half() {
        let lost = CallError::Lost(String::new());
        let minute = Duration::from_mins(1);
        let ms = |tries, chance| pause(&lost, tries, chance, minute).map(|wait| wait.as_millis());
        assert_eq!((ms(1, 0), ms(1, 255)), (Some(250), Some(125)));
        assert_eq!((ms(2, 0), ms(4, 0), ms(19, 0)), (Some(500), Some(2000), Some(10_000)));
        assert_eq!(ms(20, 0), None, "twenty tries");
        assert_eq!(pause(&lost, 1, 0, Duration::from_millis(249)), None, "no time left");
    }

    #[test]
    fn only_what_may_end_otherwise_is_asked_again() {
        let asked_again = |error: &CallError, tries| {
            pause(error, tries, 0, Duration::from_mins(1)).map(|wait| wait.as_millis())
        };
        assert_eq!(asked_again(&CallError::NoAnswer(String::new()), 1), Some(250));
        assert_eq!(asked_again(&refused("DEADLINE_EXCEEDED", None), 1), Some(250));
        let wait = Some(Duration::from_secs(3));
        assert_eq!(asked_again(&refused("STORAGE_UNAVAILABLE", wait), 1), Some(3000));
        assert_eq!(asked_again(&refused("ROLE_MISSING", None), 1), None);
        assert_eq!(asked_again(&refused("INTERNAL", None), 2), None);
        let tls = CallError::NoHandshake(String::new());
        assert_eq!((asked_again(&tls, 1), asked_again(&tls, 2)), (None, Some(500)));
    }
}
