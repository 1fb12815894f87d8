//! How far an import is: a bar in a terminal, elsewhere a line for each tenth.

use std::fmt;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cli::note;
use crate::cli::terminal::is_watched;

pub(super) struct Progress {
    /// None: nobody watches.
    bar: Option<ProgressBar>,
    started: Instant,
    total: usize,
    done: usize,
}

impl Progress {
    pub(super) fn start(total: usize) -> Self {
        let bar = is_watched().then(|| {
            let length = u64::try_from(total).unwrap_or(u64::MAX);
            let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
            let template = "{bar:30} {human_pos} of {human_len}, {rate}, {eta} left";
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style.with_key("rate", rate)),
                Err(_) => bar,
            }
        });
        Self { bar, started: Instant::now(), total, done: 0 }
    }

    pub(super) fn step(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        } else if is_tenth(self.done, self.total) {
            let seconds = self.started.elapsed().as_secs();
            note(format_args!("{} of {} after {seconds} s", self.done, self.total));
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whole credentials a second.
fn rate(state: &ProgressState, to: &mut dyn fmt::Write) {
    write!(to, "{:.0}/s", state.per_sec()).ok();
}

/// Whether a further tenth of the whole is done with this step.
fn is_tenth(done: usize, total: usize) -> bool {
    let tenths = |done: usize| done * 10 / total.max(1);
    tenths(done) > tenths(done - 1)
}

#[cfg(test)]
mod tests {
    use super::is_tenth;

    #[test]
    fn there_are_ten_tenths() {
        for total in [10, 11, 99, 1000] {
            let told: Vec<usize> = (1..=total).filter(|done| is_tenth(*done, total)).collect();
            assert_eq!(told.len(), 10, "{total}: {told:?}");
            assert_eq!(told.last(), Some(&total));
        }
        assert!(is_tenth(1, 3) && is_tenth(2, 3) && is_tenth(3, 3));
    }
}
