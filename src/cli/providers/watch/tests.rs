//! The watch with a clock that is moved and a vault that answers as it is told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::clock::MockClock;
use crate::grpc::proto::{Verification, VerificationStatus};

const EVERY: SignedDuration = SignedDuration::from_secs(60);

fn clock() -> MockClock {
    MockClock::at("2026-05-01T12:00:00Z".parse().unwrap())
}

fn provider(status: VerificationStatus, checks: &[(&str, CheckStatus, &str)]) -> Provider {
    let check = |&(name, status, message): &(&str, CheckStatus, &str)| VerificationCheck {
        name: name.to_owned(),
        status: status.into(),
        message: message.to_owned(),
        time: None,
    };
    Provider {
        name: "accounts/dev/providers/main".to_owned(),
        verification: Some(Verification {
            status: status.into(),
            checks: checks.iter().map(check).collect(),
            ..Verification::default()
        }),
        ..Provider::default()
    }
}

fn refused(reason: &str, retry_after: Option<Duration>) -> CallError {
    CallError::Refused {
        reason: reason.to_owned(),
        message: "words".to_owned(),
        resource: None,
        retry_after,
    }
}

/// Answers these, one a call, and ends after the last. What was shown, with the second of each call.
async fn watched(answers: Vec<Result<Provider, CallError>>) -> Vec<(i64, Vec<String>)> {
    let clock = clock();
    let start = clock.now();
    let answers = RefCell::new(VecDeque::from(answers));
    let mut shown = Vec::new();
    let ask = async |_: &str| answers.borrow_mut().pop_front().unwrap();
    let show = |seen: &Seen<'_>| {
        shown.push((seen.now.duration_since(start).as_secs(), seen.changes.to_vec()));
        let left = answers.borrow().len();
        if left == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    };
    let watching = watch(&clock, EVERY, vec!["accounts/dev/providers/main".to_owned()], ask, show);
    let moving = async {
        loop {
            tokio::task::yield_now().await;
            clock.advance(SignedDuration::from_secs(1));
        }
    };
    tokio::select! {
        biased;
        end = watching => assert_eq!(end.unwrap_err().kind(), io::ErrorKind::BrokenPipe),
        () = moving => {}
    }
    shown
}

#[tokio::test]
async fn changes_are_told_once_and_trouble_is_no_end() {
    use CheckStatus::{Failed, Passed, Unavailable};
    let good = || Ok(provider(VerificationStatus::Verified, &[("credentials", Passed, "fine")]));
    let nobody = || Err(CallError::NoAnswer("Connection refused".to_owned()));
    let shown = watched(vec![
        good(),
        good(),
        nobody(),
        nobody(),
        Err(refused("UPSTREAM_TIMEOUT", None)),
        good(),
        Ok(provider(VerificationStatus::Failed, &[("credentials", Failed, "mend it")])),
        Ok(provider(VerificationStatus::Failed, &[("credentials", Unavailable, "later")])),
    ])
    .await;
    let told: Vec<(i64, String)> =
        shown.into_iter().map(|(second, changes)| (second, changes.join("\n"))).collect();
    let expected = [
        (0, "verified"),
        (60, ""),
        (120, "could not be asked: no vault answers: Connection refused"),
        (180, ""),
        (240, "could not be asked: words (UPSTREAM_TIMEOUT)"),
        (300, "verified  can be asked again"),
        (360, "verified → failed  credentials: mend it"),
        (420, "failed  credentials failed → unavailable: later"),
    ];
    assert_eq!(told, expected.map(|(second, text)| (second, text.to_owned())));
}

#[tokio::test]
async fn nobody_is_asked_before_the_time_that_the_vault_said() {
    let limited = |seconds| Err(refused("RATE_LIMITED", Some(Duration::from_secs(seconds))));
    let shown = watched(vec![limited(150), limited(5), limited(0)]).await;
    let seconds: Vec<i64> = shown.into_iter().map(|(second, _)| second).collect();
    assert_eq!(seconds, [0, 150, 210]);
}

#[test]
fn a_change_is_one_line_with_its_time() {
    let line =
        change_line(clock().now(), "accounts/dev/providers/main", "verified → failed  a: \u{1b}b");
    let text = anstream::adapter::strip_str(&line.painted()).to_string();
    assert_eq!(text, "2026-05-01T12:00:00Z  main  verified → failed  a: \u{fffd}b");
}

#[test]
fn a_frame_fits_the_terminal_so_that_the_next_is_drawn_over_it() {
    let now = clock().now();
    let long = "a remark\nof many words ".repeat(20);
    let failed =
        provider(VerificationStatus::Failed, &[("credentials", CheckStatus::Failed, &long)]);
    let watched = |refused| Watched {
        name: "accounts/dev/providers/main".to_owned(),
        provider: Some(failed.clone()),
        refused,
        due: now,
    };
    let all = [watched(None), watched(Some(refused("OVERLOADED", None))), watched(None)];
    let seen = Seen { now, all: &all, asked: &all[0], changes: &[] };
    for (width, height) in [(80, 24), (40, 6), (8, 3), (1, 1)] {
        let lines = frame(&seen, EVERY, width, height);
        assert!(lines.len() < height.max(3), "{height}: {lines:?}");
        let widest = lines.iter().map(|line| line.0.iter().map(Span::width).sum::<usize>()).max();
        assert!(widest.unwrap() <= width, "{width}: {lines:?}");
    }
    let text: Vec<String> = frame(&seen, EVERY, 80, 24).iter().map(Line::painted).collect();
    assert!(text.join("\n").contains("could not be asked: words (OVERLOADED)"), "{text:?}");
}
