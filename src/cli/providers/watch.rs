//! `credvault providers verify --watch`: asks again and again, and shows what changes.
//!
//! A vault or carrier that cannot be asked is something to show, not an end. The end is Ctrl-C, or that nobody reads
//! any more.

use std::io::{self, Write as _};

use anstyle::Style;
use jiff::{SignedDuration, Timestamp};

use super::verify::{to_json, verify};
use super::{
    CallError, CheckStatus, Connection, Line, Provider, Span, VerificationCheck, cells, check_word,
    checks, id, remarks, status, status_word, table,
};
use crate::cli::Signals;
use crate::cli::client::{Output, told};
use crate::cli::terminal::{Progress, size};
use crate::clock::Clock;
use crate::server::StopSignal as _;

pub(super) async fn run(
    connection: &Connection,
    clock: &dyn Clock,
    every: SignedDuration,
    names: Vec<String>,
    output: Output,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let mut view = View::for_output(output, every);
    let ask = async |name: &str| {
        let _progress = Progress::show(&format!("asking about {}", id(name)));
        verify(connection, name).await
    };
    tokio::select! {
        // Nobody reads any more: that is an end like Ctrl-C.
        shown = watch(clock, every, names, ask, |seen| view.show(seen)) => match shown {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            shown => Ok(shown?),
        },
        () = signals.next() => Ok(()),
    }
}

/// What is known of one provider.
#[derive(Debug)]
struct Watched {
    name: String,
    /// The last verdict.
    provider: Option<Provider>,
    /// Why there is none now, or an old one.
    refused: Option<CallError>,
    /// Not to be asked before.
    due: Timestamp,
}

/// What there is to show when one provider was asked.
struct Seen<'a> {
    now: Timestamp,
    all: &'a [Watched],
    /// Which was asked.
    asked: &'a Watched,
    /// What is different, in words.
    changes: &'a [String],
}

/// Asks about each provider when it is due, until `show` fails.
///
/// - The next time is `every` after the last began, or as late as the vault said, whichever is later.
/// - Providers are asked one after the other, so that a watch is no burden.
async fn watch(
    clock: &dyn Clock,
    every: SignedDuration,
    names: Vec<String>,
    ask: impl AsyncFn(&str) -> Result<Provider, CallError>,
    mut show: impl FnMut(&Seen<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let due = clock.now();
    let new = |name| Watched { name, provider: None, refused: None, due };
    let mut all: Vec<Watched> = names.into_iter().map(new).collect();
    loop {
        let round = clock.now();
        for index in 0..all.len() {
            let Some(asked) = all.get_mut(index).filter(|watched| watched.due <= round) else {
                continue;
            };
            let began = clock.now();
            let answer = ask(&asked.name).await;
            let now = clock.now();
            asked.due = later(began, every).max(later(now, wait(&answer)));
            let changes = asked.take(answer);
            if let Some(asked) = all.get(index) {
                show(&Seen { now, all: &all, asked, changes: &changes })?;
            }
        }
        let next = all.iter().map(|watched| watched.due).min();
        clock.wait_until(next.unwrap_or_else(|| later(round, every))).await;
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// How long the vault said not to ask again.
fn wait(answer: &Result<Provider, CallError>) -> SignedDuration {
    match answer {
        Err(CallError::Refused { retry_after: Some(wait), .. }) => {
            SignedDuration::try_from(*wait).unwrap_or(SignedDuration::MAX)
        }
        _ => SignedDuration::ZERO,
    }
}

impl Watched {
    /// Takes an answer in, and says what it changes.
    fn take(&mut self, answer: Result<Provider, CallError>) -> Vec<String> {
        match answer {
            Ok(provider) => {
                let back = self.refused.take().is_some();
                let changes = changes(self.provider.as_ref(), &provider, back);
                self.provider = Some(provider);
                changes
            }
            Err(error) => {
                let text = told(&error);
                let before = self.refused.replace(error);
                // Its words may hold a delay; the same trouble is told once.
                let same =
                    before.as_ref().zip(self.refused.as_ref()).is_some_and(|(a, b)| same(a, b));
                if same { Vec::new() } else { vec![format!("could not be asked: {text}")] }
            }
        }
    }
}

fn same(one: &CallError, other: &CallError) -> bool {
    match (one, other) {
        (CallError::Refused { reason, .. }, CallError::Refused { reason: other, .. }) => {
            reason == other
        }
        (one, other) => one == other,
    }
}

/// What is different: the status with all that did not pass, or each check that ended otherwise.
fn changes(before: Option<&Provider>, after: &Provider, back: bool) -> Vec<String> {
    let word = status_word(status(after));
    let passed = |check: &&VerificationCheck| check.status() == CheckStatus::Passed;
    let open = || {
        let open = checks(after).iter().filter(|check| !passed(check));
        let remark = |check: &VerificationCheck| format!("{}: {}", check.name, check.message);
        let remarks: Vec<String> = open.map(remark).collect();
        if remarks.is_empty() { String::new() } else { format!("  {}", remarks.join("; ")) }
    };
    let Some(before) = before else { return vec![format!("{word}{}", open())] };
    if status(before) != status(after) {
        return vec![format!("{} → {word}{}", status_word(status(before)), open())];
    }
    let mut changes = Vec::new();
    for check in checks(after) {
        let old = checks(before).iter().find(|old| old.name == check.name);
        let old = old.map_or(CheckStatus::Unspecified, VerificationCheck::status);
        if old != check.status() {
            let (old, new) = (check_word(old), check_word(check.status()));
            changes.push(format!("{word}  {} {old} → {new}: {}", check.name, check.message));
        }
    }
    if back && changes.is_empty() {
        changes.push(format!("{word}  can be asked again"));
    }
    changes
}

/// How a watch is shown.
enum View {
    /// A line for each change.
    Lines,
    /// A JSON object for each change.
    Json,
    /// A table in the terminal, drawn over the one before.
    Table { every: SignedDuration, drawn: usize },
}

impl View {
    fn for_output(output: Output, every: SignedDuration) -> Self {
        match (output, size()) {
            (Output::Json, _) => Self::Json,
            (Output::Table, None) => Self::Lines,
            (Output::Table, Some(_)) => Self::Table { every, drawn: 0 },
        }
    }

    fn show(&mut self, seen: &Seen<'_>) -> io::Result<()> {
        let mut out = anstream::stdout();
        match self {
            Self::Lines => {
                for change in seen.changes {
                    let line = change_line(seen.now, &seen.asked.name, change);
                    writeln!(out, "{}", line.painted())?;
                }
            }
            Self::Json if seen.changes.is_empty() => {}
            Self::Json => {
                let Watched { name, provider, refused, .. } = seen.asked;
                let answer = match (refused, provider) {
                    (None, Some(provider)) => Ok(provider),
                    (Some(error), _) => Err(error),
                    (None, None) => return Ok(()),
                };
                writeln!(out, "{}", to_json(name, answer).map_err(io::Error::other)?)?;
            }
            Self::Table { every, drawn } => {
                let (width, height) = size().unwrap_or((80, 24));
                let lines = frame(seen, *every, width, height);
                let mut terminal = io::stdout();
                if *drawn > 0 {
                    // Up to the first line of what was drawn, and erase from there. Not through `out`: without
                    // colours it lets no code through.
                    write!(terminal, "\u{1b}[{drawn}A\r\u{1b}[J")?;
                }
                for line in &lines {
                    writeln!(out, "{}", line.painted())?;
                }
                *drawn = lines.len();
            }
        }
        out.flush()
    }
}

fn change_line(now: Timestamp, name: &str, change: &str) -> Line {
    let time = Span::new(&now.strftime("%FT%TZ  ").to_string(), Style::new().dimmed());
    Line(vec![time, Span::plain(id(name)), Span::plain("  "), Span::plain(change)])
}

/// The table, no wider and no higher than the terminal, so that it can be drawn over.
fn frame(seen: &Seen<'_>, every: SignedDuration, width: usize, height: usize) -> Vec<Line> {
    let mut table = table();
    for watched in seen.all {
        let (cells, mut below) = match &watched.provider {
            Some(provider) => (cells(provider, seen.now), remarks(provider)),
            None => (vec![Span::new(id(&watched.name), Style::new().bold())], Vec::new()),
        };
        if let Some(error) = &watched.refused {
            below
                .push(Line(vec![Span::plain(&format!("  ? could not be asked: {}", told(error)))]));
        }
        table.row(cells, below);
    }
    let mut lines = table.lines(Some(width));
    let room = height.saturating_sub(2).max(1);
    if lines.len() > room {
        lines.truncate(room.saturating_sub(1));
        lines.push(Line(vec![Span::plain("…")]));
    }
    let now = seen.now.strftime("%TZ");
    let foot = format!("{now}, again {every:#} after each; Ctrl-C ends");
    lines.push(Line(vec![Span::new(&foot, Style::new().dimmed())]));
    lines.into_iter().map(|line| line.cut(width)).collect()
}

#[cfg(test)]
mod tests;
