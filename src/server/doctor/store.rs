//! The store of a vault that does not run: what it is, whether it is sound, and whether its key opens it.

use jiff::Timestamp;

use super::{Finding, Progress, access, records};
use crate::config::Settings;
use crate::server::{is_set_back, unlock};
use crate::store::inspection::Inspection;
use crate::store::{Error, Identity};

/// Looks into a store.
pub(super) fn examine(
    settings: &Settings,
    store: &dyn Inspection,
    now: Timestamp,
    deep: Option<Progress<'_>>,
) -> Vec<Finding> {
    let thorough = deep.is_some();
    let mut findings = vec![sound(store, thorough)];
    let (identity, (found, newest)) = match (store.identity(), store.schema()) {
        (Ok(identity), Ok(schema)) => (identity, schema),
        (Err(error), _) | (_, Err(error)) => {
            findings.push(broken("store", &error));
            return findings;
        }
    };
    findings.push(kind(settings, &identity));
    findings.push(clock(store, now));
    let sealer = match unlock(settings, &identity) {
        Ok(sealer) => {
            findings.push(Finding::good("key", "the key file opens this vault"));
            Some(sealer)
        }
        Err(refusal) => {
            findings.push(Finding::of_refusal("key", &format!("{refusal:#}")));
            None
        }
    };
    if found < newest {
        let says = format!("schema {found}; the next start brings it to {newest}");
        let mend = "back the vault up before: an older Credvault does not open it after that";
        findings.push(Finding::warning("schema", says, mend));
        return findings;
    }
    findings.push(Finding::good("schema", format!("{found}, the newest")));
    findings.extend(access::examine(store, now));
    if let Some(progress) = deep {
        findings.extend(records::examine(store, &identity, sealer.as_ref(), progress));
    }
    findings
}

fn sound(store: &dyn Inspection, thorough: bool) -> Finding {
    let how = if thorough { "integrity_check" } else { "quick_check" };
    match store.check(thorough) {
        Err(error) => broken("store", &error),
        Ok(problems) if !problems.is_empty() => Finding::bad(
            "store",
            format!("SQLite finds it damaged ({how}): {}", problems.join(", ").replace('\n', " ")),
            "restore a backup; look at the disk",
        ),
        Ok(_) if !store.was_closed() => Finding::warning(
            "store",
            format!("sound ({how}), and not closed in order: the next start recovers from its log"),
            "find out what ended the process before",
        ),
        Ok(_) => Finding::good("store", format!("sound ({how}), and closed in order")),
    }
}

fn kind(settings: &Settings, identity: &Identity) -> Finding {
    if identity.dev {
        return Finding::warning(
            "kind",
            format!(
                "the vault at {} was made by `credvault dev`, with its key beside it",
                settings.store
            ),
            "keep no real secrets in it; `credvault init` makes a vault for them",
        );
    }
    let made = identity.create_time.strftime("%Y-%m-%d");
    Finding::good("kind", format!("made for real use, on {made}"))
}

fn clock(store: &dyn Inspection, now: Timestamp) -> Finding {
    match store.newest_entry(now) {
        Err(error) => broken("clock", &error),
        Ok(Some(newest)) if is_set_back(now, newest) => Finding::bad(
            "clock",
            format!("it says {now:.0}, and the newest audit entry is of {newest:.0}"),
            "set the clock, or, if it was wrong then, start once with --accept-clock",
        ),
        Ok(_) => Finding::good("clock", format!("{now:.0}, not before the newest audit entry")),
    }
}

/// What could not be read.
pub(super) fn broken(check: &'static str, error: &Error) -> Finding {
    let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})"));
    let says = format!("cannot be read: {error}{}", cause.unwrap_or_default());
    Finding::bad(check, says, "restore a backup; look at the disk")
}
