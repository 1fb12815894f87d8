//! The table of starts that are refused. Each row spoils a copy of a good vault in one way; then a start has to end
//! with 1 within a second, in one line that names the cause and the mend, with no port opened and no file touched.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::world::{Ending, World, is_possible, text};
use crate::support::process::run;

/// What is wrong, and what a start must say of it.
pub(super) struct Row {
    pub(super) case: &'static str,
    pub(super) command: &'static str,
    /// Brings it about; returns the options of the start.
    pub(super) spoil: fn(&World) -> Spoilt,
    /// As it stands in docs/operations.md, too.
    pub(super) cause: &'static str,
    pub(super) mend: &'static str,
}

/// Options, and what has to stay as it is until the start has ended.
#[derive(Default)]
pub(super) struct Spoilt {
    pub(super) options: Vec<String>,
    _kept: Vec<Kept>,
}

/// What is held by somebody else.
#[expect(dead_code, reason = "it is held, and let go of by its drop")]
enum Kept {
    File(File),
    Port(TcpListener),
    Socket(UnixListener),
}

impl Spoilt {
    pub(super) fn with(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { options, _kept: Vec::new() }
    }

    pub(super) fn while_locked(file: File) -> Self {
        Self { _kept: vec![Kept::File(file)], ..Self::default() }
    }

    pub(super) fn while_taken(options: &[&str], port: TcpListener) -> Self {
        Self { _kept: vec![Kept::Port(port)], ..Self::with(options) }
    }

    pub(super) fn while_served(options: &[&str], socket: UnixListener) -> Self {
        Self { _kept: vec![Kept::Socket(socket)], ..Self::with(options) }
    }
}

/// A start with this configuration file.
pub(super) fn configured(world: &World, content: &str) -> Spoilt {
    Spoilt::with(&["--config", &world.write("credvault.toml", content)])
}

fn rows() -> Vec<&'static Row> {
    super::vaults::ROWS.iter().chain(super::settings::ROWS).collect()
}

/// A folder with a vault and its key, to copy.
fn template() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = run(["init", "--data-dir", &text(&dir.path().join("vault"))]);
    assert!(made.status.success(), "{made:?}");
    dir
}

/// Why an ending is not the refusal that a row wants.
fn fault(row: &Row, ending: &Ending) -> Option<&'static str> {
    let Ending { code, said, answered, took: _, opened, touched } = ending;
    let wrong = [
        (*code != Some(1), "the exit code is not 1"),
        (!answered.is_empty(), "standard output is for answers"),
        (!said.starts_with("error: ") || said.lines().count() != 1, "not one line"),
        (!said.contains(row.cause), "the cause is not named"),
        (!said.contains(row.mend), "the mend is not named"),
        (!opened.is_empty(), "somebody could connect"),
        (!touched.is_empty(), "a file was touched"),
    ];
    wrong.iter().find(|(is_wrong, _)| *is_wrong).map(|(_, what)| *what)
}

/// What is not as it should be, over all rows.
fn faults(environment: &[(&str, &str)]) -> Vec<String> {
    let template = template();
    let mut rows = rows();
    rows.retain(|row| is_possible(row.case));
    assert!(rows.len() >= 24, "{} rows", rows.len());
    let mut faults = Vec::new();
    for (number, row) in (1..).zip(&rows) {
        // A machine that is busy elsewhere gets three tries to be quick.
        let mut took = Vec::new();
        for _ in 0..3 {
            let world = World::of(template.path(), number);
            let spoilt = (row.spoil)(&world);
            let ending = world.watch(row.command, &spoilt.options, environment);
            drop(spoilt);
            if let Some(fault) = fault(row, &ending) {
                faults.push(format!("{}: {fault}: {ending:?}", row.case));
                break;
            }
            took.push(ending.took);
            if ending.took < Duration::from_secs(1) {
                break;
            }
        }
        if took.len() == 3 && took.iter().all(|took| *took >= Duration::from_secs(1)) {
            faults.push(format!("{}: it took {took:?}", row.case));
        }
    }
    println!("{} starts refused, {} not as they should be", rows.len(), faults.len());
    faults
}

#[test]
fn every_bad_start_is_refused_at_once_and_touches_nothing() {
    let faults = faults(&[]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Else the table could not fail.
#[test]
fn a_good_start_opens_both_ports_and_the_watch_sees_it() {
    let template = template();
    let world = World::of(template.path(), 254);
    let child = world.command("serve", &[]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let (mut child, opened) = world.wait(child, |_, opened| opened.len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(opened.len(), 2, "{opened:?}");
}

#[test]
fn the_manual_has_every_refusal_of_the_table() {
    let manual = include_str!("../../../docs/operations.md");
    let (_, manual) = manual.split_once("## When it does not start").unwrap();
    let (manual, _) = manual.split_once("\n## ").unwrap();
    let missing = |row: &&Row| !manual.contains(row.cause) || row.mend.is_empty();
    let missing: Vec<_> = rows().into_iter().filter(missing).map(|row| row.cause).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:#?}");
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_early_migration_is_caught() {
    let faults = faults(&[("CREDVAULT_DEFECT", "early-migration")]);
    let caught = |case: &str| {
        faults.iter().any(|fault| fault.starts_with(case) && fault.contains("touched"))
    };
    assert!(caught("another vault's key, and a schema that is not up to date"), "{faults:#?}");
}
