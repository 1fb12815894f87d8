//! Files and folders: whose they are, who else may reach them, and how much room there is.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::{Settings, Surroundings};
use crate::crypto::kek_source::KekSource as _;
use crate::server::check_key_place;
use crate::store::inspection;

const MIB: u64 = 1024 * 1024;

/// The log alone may need as much between two truncations.
const TIGHT: u64 = 256 * MIB;

/// Less than the log needs.
const FULL: u64 = 64 * MIB;

/// Looks at the place of the store, at everything beside it, and at files with secrets or trust that settings name.
pub(super) fn examine(settings: &Settings, surroundings: &Surroundings) -> Vec<Finding> {
    let mut findings: Vec<_> = inspection::place_problems(&settings.store)
        .into_iter()
        .map(|refusal| Finding::bad("files", refusal.problem, refusal.mend))
        .collect();
    // What is in the data folder is ours, whatever it is: a backup, a token, a log.
    let mut inside = entries(&settings.data_dir);
    inside.extend(entries(settings.store.folder()));
    inside.sort();
    inside.dedup();
    let database = settings.store.to_string();
    let beside = inside.iter().filter(|file| **file != Path::new(&database));
    let named = surroundings.token_file.iter();
    findings.extend(beside.chain(named).filter_map(|file| secret(file)));
    let trusted = settings
        .tls
        .iter()
        .flat_map(|tls| std::iter::once(&tls.cert_file).chain(tls.trust_domains.values()));
    findings.extend(trusted.filter_map(|file| trust(file)));
    if findings.is_empty() {
        let says = format!(
            "{}: {} files, for their owner alone",
            settings.data_dir.display(),
            inside.len()
        );
        findings.push(Finding::good("files", says));
    }
    findings
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// What nobody else may read.
fn secret(file: &Path) -> Option<Finding> {
    let metadata = fs::metadata(file).ok()?;
    let mode = metadata.permissions().mode() & 0o7777;
    let owner_alone = if metadata.is_dir() { "700" } else { "600" };
    (mode & 0o077 != 0).then(|| {
        Finding::bad(
            "files",
            format!("others may read {} (mode {mode:04o})", file.display()),
            format!("run `chmod {owner_alone} {}`", file.display()),
        )
    })
}

/// What nobody else may write: whoever does says whom the vault trusts.
fn trust(file: &Path) -> Option<Finding> {
    let mode = fs::metadata(file).ok()?.mode() & 0o7777;
    (mode & 0o022 != 0).then(|| {
        Finding::bad(
            "files",
            format!("others may write {} (mode {mode:04o})", file.display()),
            format!("run `chmod go-w {}`", file.display()),
        )
    })
}

/// Whether the key file is in order, without the store that says whether it is the right one.
pub(super) fn key_alone(settings: &Settings) -> Finding {
    // `dev` keeps its key inside.
    let dev = settings.data_dir.join("dev.key").exists();
    let checked = settings.key_file(dev).and_then(|key_file| {
        check_key_place(settings, &key_file, dev)?;
        key_file.load()?;
        Ok(key_file)
    });
    match checked {
        Ok(key_file) => {
            let path = key_file.path().display();
            Finding::good("key", format!("{path} holds keys, for its owner alone"))
        }
        Err(refusal) => Finding::of_refusal("key", &format!("{refusal:#}")),
    }
}

/// How much room there is for the store to grow.
pub(super) fn room(settings: &Settings) -> Finding {
    match rustix::fs::statvfs(settings.store.folder()) {
        Ok(disk) => enough_room(disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => {
            Finding::not_checked("disk", format!("the room on it is not known: {error}"), "")
        }
    }
}

fn enough_room(free: u64) -> Finding {
    let says = format!("{} MiB free", free / MIB);
    match free {
        ..FULL => Finding::bad("disk", says, "make room: without any, changes are refused"),
        FULL..TIGHT => {
            Finding::warning("disk", says, "make room soon: without any, changes are refused")
        }
        TIGHT.. => Finding::good("disk", says),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_disk_needs_room_for_the_log() {
        for (free, verdict) in [
            (0, Verdict::Bad),
            (63 * MIB, Verdict::Bad),
            (64 * MIB, Verdict::Warning),
            (255 * MIB, Verdict::Warning),
            (256 * MIB, Verdict::Good),
            (u64::MAX, Verdict::Good),
        ] {
            assert_eq!(enough_room(free).verdict, verdict, "{free}");
        }
    }
}
