//! `credvault doctor`: what is unsafe or broken, and how to mend it.

use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::client::Output;
use super::init::options_again;
use super::terminal::{Line, Span, harmless_json, is_watched};
use super::{note, say};
use crate::clock::SystemClock;
use crate::config::{ServeOptions, Surroundings};
use crate::server::close_off;
use crate::server::doctor::{self, Finding, Verdict};

/// The exit status if something is unsafe or broken, or somebody should see to it.
const FOUND: u8 = 1;

/// How wide the names of checks are.
const WIDTH: usize = 12;

/// Say what is unsafe or broken about a vault, and how to mend it
///
/// Looks at settings, files, key, store, certificates, tokens, disk and clock: ✓ in order, ! somebody should see to it,
/// ✗ unsafe or broken, – not looked at. It changes nothing, and takes the same options as `credvault serve`. A vault
/// that runs is asked how it is, and keeps its store to itself: stop it to have that checked as well. While doctor
/// looks into a store, no vault can open it.
///
/// Exit status: 0 if nothing is wrong, 1 if a line has ! or ✗, 2 if it could not look.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Open every secret and follow every audit chain, too; with many this takes a while
    #[arg(long)]
    deep: bool,
    /// How to print: a table for people, or JSON for scripts
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    options: ServeOptions,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // What did not work is one of the findings.
    close_off().ok();
    let bar = ProgressBar::hidden();
    if args.deep && is_watched() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Ok(style) =
            ProgressStyle::with_template("{pos} of {len} records and entries {wide_bar} {eta}")
        {
            bar.set_style(style);
        }
    }
    let mut tell = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let deep: Option<doctor::Progress<'_>> = if args.deep { Some(&mut tell) } else { None };
    let same = options_again(&args.options.store);
    let findings = match args.options.resolve() {
        Err(refusal) => Ok(vec![Finding::of_refusal("settings", &format!("{refusal:#}"))]),
        Ok(settings) => doctor::examine(&settings, &Surroundings::read(), &SystemClock, deep).await,
    };
    bar.finish_and_clear();
    let mut findings = findings?;
    for finding in &mut findings {
        finding.mend = finding.mend.replace(" --local", &format!(" --local{same}"));
    }
    show(&findings, args.output)
}

fn show(findings: &[Finding], output: Output) -> anyhow::Result<ExitCode> {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (bad, warnings) = (count(Verdict::Bad), count(Verdict::Warning));
    if output == Output::Json {
        let all = json!({ "bad": bad, "warnings": warnings, "findings": findings });
        say(harmless_json(&format!("{all:#}")))?;
    } else {
        for line in findings.iter().flat_map(lines) {
            say(line.painted())?;
        }
        match (bad, warnings) {
            (0, 0) => note("Nothing is wrong."),
            (bad, warnings) => note(format_args!("{bad} unsafe or broken, {warnings} to see to.")),
        }
    }
    Ok(if bad + warnings > 0 { FOUND.into() } else { ExitCode::SUCCESS })
}

/// A finding, and below it what to do.
fn lines(finding: &Finding) -> Vec<Line> {
    let mark = match finding.verdict {
        Verdict::Good => Span::new("✓ ", AnsiColor::Green.on_default()),
        Verdict::Warning => Span::new("! ", AnsiColor::Yellow.on_default().bold()),
        Verdict::Bad => Span::new("✗ ", AnsiColor::Red.on_default().bold()),
        Verdict::NotChecked => Span::new("– ", Style::new().dimmed()),
    };
    let check = Span::plain(finding.check).padded(WIDTH);
    let first = Line(vec![mark, check, Span::plain(&finding.says)]);
    if finding.mend.is_empty() {
        return vec![first];
    }
    let below = format!("  {:WIDTH$}→ ", "");
    let bold = Style::new().bold();
    vec![first, Line(vec![Span::plain(&below), Span::new(&finding.mend, bold)])]
}
