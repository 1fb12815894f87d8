//! What is unsafe or broken about a vault, and how to mend it. Looks at everything, changes nothing.
//!
//! Beside a stopped vault it looks into the store; beside a running one, which has its files to itself, it looks at the
//! files from outside and asks the vault's operations listener.

mod access;
mod files;
mod records;
mod running;
mod store;

use std::fmt::Display;

use anyhow::anyhow;
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::{listener, process, tls};
use crate::clock::Clock;
use crate::config::{ConnectionLimits, Settings, Surroundings};
use crate::store::inspection;

/// A certificate that ends so soon should have been renewed.
const CERTIFICATE_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In order.
    Good,
    /// Not unsafe, but somebody should see to it.
    Warning,
    /// Unsafe or broken.
    Bad,
    /// Nobody could look.
    NotChecked,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub says: String,
    /// What to do about it; empty: nothing.
    pub mend: String,
}

impl Finding {
    fn good(check: &'static str, says: impl Display) -> Self {
        Self::new(check, Verdict::Good, says, "")
    }

    fn warning(check: &'static str, says: impl Display, mend: impl Display) -> Self {
        Self::new(check, Verdict::Warning, says, mend)
    }

    /// Something unsafe or broken.
    pub fn bad(check: &'static str, says: impl Display, mend: impl Display) -> Self {
        Self::new(check, Verdict::Bad, says, mend)
    }

    fn not_checked(check: &'static str, says: impl Display, mend: impl Display) -> Self {
        Self::new(check, Verdict::NotChecked, says, mend)
    }

    fn new(check: &'static str, verdict: Verdict, says: impl Display, mend: impl Display) -> Self {
        Self { check, verdict, says: says.to_string(), mend: mend.to_string() }
    }

    /// From a refusal of a start, `problem; mend`.
    pub fn of_refusal(check: &'static str, refusal: &str) -> Self {
        let (says, mend) = refusal.split_once("; ").unwrap_or((refusal, "correct it"));
        Self::bad(check, says, mend)
    }
}

/// How far a thorough look has come: so many of so many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Looks at a vault: at every sealed record and every audit entry, too, if `deep` is where to tell how far that is.
/// Fails where there is nothing to look at, or nobody may.
pub async fn examine(
    settings: &Settings,
    surroundings: &Surroundings,
    clock: &dyn Clock,
    deep: Option<Progress<'_>>,
) -> anyhow::Result<Vec<Finding>> {
    inspection::find(&settings.store).map_err(|refusal| anyhow!("{refusal}"))?;
    let now = clock.now();
    let mut findings = vec![environment(surroundings), core_dumps()];
    findings.extend(files::examine(settings, surroundings));
    findings.push(files::room(settings));
    findings.extend(certificates(settings, now));
    match inspection::inspect(&settings.store) {
        Ok(Some(inspection)) => {
            findings.push(descriptors(settings));
            findings.extend(store::examine(settings, &*inspection, now, deep));
        }
        Ok(None) => {
            findings.push(files::key_alone(settings));
            findings.extend(running::examine(settings).await);
            let says = "a process uses the vault, so its store was not looked into";
            findings.push(Finding::not_checked("store", says, "stop it to have the store checked"));
        }
        Err(refusal) => findings.push(Finding::bad("store", refusal.problem, refusal.mend)),
    }
    Ok(findings)
}

fn environment(surroundings: &Surroundings) -> Finding {
    if surroundings.has_token {
        let says = "CREDVAULT_TOKEN holds an API token, which every program started from here gets as well";
        return Finding::warning(
            "environment",
            says,
            "name a file in CREDVAULT_TOKEN_FILE instead",
        );
    }
    Finding::good("environment", "no API token in it")
}

fn core_dumps() -> Finding {
    if process::is_closed_off() {
        return Finding::good(
            "core dumps",
            "the vault switches them off for itself, whatever is set here",
        );
    }
    Finding::bad(
        "core dumps",
        "the system does not let a process switch them off, and a core would hold keys",
        "allow prctl and prlimit64 (a seccomp filter?), and set LimitCORE=0",
    )
}

fn descriptors(settings: &Settings) -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    enough_descriptors(limit, settings.connections, "here")
}

/// Whether so many file descriptors are enough for the connections, with what the rest needs.
fn enough_descriptors(limit: Option<u64>, wanted: ConnectionLimits, whose: &str) -> Finding {
    let possible = listener::within_open_files(wanted, limit).total;
    match limit {
        Some(limit) if possible < wanted.total => Finding::warning(
            "descriptors",
            format!(
                "{limit} file descriptors {whose}, enough for {possible} of {} connections",
                wanted.total
            ),
            "raise `ulimit -n` (LimitNOFILE=), or lower limits.connections",
        ),
        Some(limit) => Finding::good(
            "descriptors",
            format!("{limit} {whose}, enough for {} connections", wanted.total),
        ),
        None => Finding::good("descriptors", format!("no limit {whose}")),
    }
}

fn certificates(settings: &Settings, now: Timestamp) -> Vec<Finding> {
    let Some(files) = &settings.tls else {
        return vec![Finding::good("tls", "off: calls are taken on this machine only")];
    };
    // What refuses a start.
    if let Err(refusal) = tls::Tls::load(files, now) {
        return vec![Finding::of_refusal("tls", &format!("{refusal:#}"))];
    }
    let mut findings = Vec::new();
    if tls::is_authority(&files.cert_file) {
        findings.push(Finding::warning(
            "tls",
            format!(
                "tls.cert_file {} is that of an authority itself, which clients refuse",
                files.cert_file.display()
            ),
            "have it sign a certificate for this server, and name that",
        ));
    }
    for (what, end) in tls::ends(files) {
        let (left, day) = (end.duration_since(now), end.strftime("%Y-%m-%d"));
        if left.is_negative() {
            let mend = "take it out of the file, or renew it";
            findings.push(Finding::bad("tls", format!("{what} expired on {day}"), mend));
        } else if left < CERTIFICATE_SOON {
            let says = format!("{what} expires on {day}, in {} days", left.as_hours() / 24);
            findings.push(Finding::warning("tls", says, "renew it; a running vault takes it over"));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good("tls", "certificates and key fit, and none ends soon"));
    }
    findings
}

/// The first few of many.
fn some(names: &[String]) -> String {
    const MOST: usize = 3;
    let first = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_cause_and_a_mend() {
        let finding = Finding::of_refusal("tls", "it expired; renew it; soon");
        assert_eq!(
            (finding.says.as_str(), finding.mend.as_str()),
            ("it expired", "renew it; soon")
        );
    }

    #[test]
    fn descriptors_must_be_enough_for_all_connections() {
        for (limit, verdict) in
            [(Some(703), Verdict::Warning), (Some(704), Verdict::Good), (None, Verdict::Good)]
        {
            let wanted = ConnectionLimits { total: 512, per_address: 64 };
            assert_eq!(enough_descriptors(limit, wanted, "here").verdict, verdict, "{limit:?}");
        }
    }

    #[test]
    fn of_many_names_a_few_are_told() {
        let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(some(&names(3)), "0, 1, 2");
        assert_eq!(some(&names(5)), "0, 1, 2 and 2 more");
    }
}
