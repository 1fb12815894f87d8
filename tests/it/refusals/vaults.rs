//! Rows about the vault itself: its folder, its files, its key, its clock.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::chown;
use std::path::Path;

use super::table::{Row, Spoilt};
use super::world::{World, set_mode, text};
use crate::sqlite;

/// A start of `serve`.
const fn row(
    case: &'static str,
    spoil: fn(&World) -> Spoilt,
    cause: &'static str,
    mend: &'static str,
) -> Row {
    Row { case, command: "serve", spoil, cause, mend }
}

pub(super) const ROWS: &[Row] = &[
    row(
        "no vault",
        |world| change(|| fs::remove_file(world.database())),
        "there is no vault at",
        "credvault init",
    ),
    row(
        "another program's file",
        |world| change(|| fs::write(world.database(), "a letter to my aunt ".repeat(400))),
        "is not a Credvault store",
        "check --data-dir and --store",
    ),
    row(
        "a damaged store",
        |world| change(|| OpenOptions::new().write(true).open(world.database())?.set_len(4096)),
        "cannot use",
        "restore the vault from a backup",
    ),
    row(
        "a store from the future",
        |world| with_schema(world, 99),
        "was written by a newer Credvault",
        "start that version or a newer one",
    ),
    row(
        "a store that others may read",
        |world| with_mode(&world.database(), 0o640),
        "others may read",
        "chmod 600",
    ),
    row(
        "a store with two names",
        |world| change(|| fs::hard_link(world.database(), world.file("vault/also.db"))),
        "has a second name (a hard link)",
        "remove that name",
    ),
    row(
        "a store that belongs to another user",
        |world| change(|| give_away(&world.database())),
        "and this process runs as user",
        "run as that user",
    ),
    row(
        "a folder that belongs to another user",
        |world| change(|| give_away(&world.data())),
        "and this process runs as user",
        "`chown ",
    ),
    row(
        "a folder that others may list",
        |world| with_mode(&world.data(), 0o755),
        "others may use the folder",
        "chmod 700",
    ),
    row(
        "a folder that others may write to",
        |world| with_mode(&world.data(), 0o770),
        "others may use the folder",
        "chmod 700",
    ),
    row(
        "a vault in use",
        |world| {
            let lock = File::open(world.file("vault/credvault.db.lock")).unwrap();
            lock.try_lock().unwrap();
            Spoilt::while_locked(lock)
        },
        "another process uses the vault",
        "stop it first",
    ),
    row(
        "a lock that cannot be taken",
        |world| {
            let lock = world.file("vault/credvault.db.lock");
            change(|| fs::remove_file(&lock).and_then(|()| fs::create_dir(&lock)))
        },
        "cannot use the lock file",
        "keep the vault on a local disk",
    ),
    row(
        "a vault of dev",
        |world| sql(world, "UPDATE vault SET dev = 1"),
        "was made by `credvault dev`",
        "credvault init --data-dir DIR",
    ),
    Row {
        case: "a real vault in dev",
        command: "dev",
        spoil: |world| Spoilt::with(&["--key-file", &text(&world.key())]),
        cause: "was made for real use",
        mend: "start it with `credvault serve`",
    },
    Row {
        case: "dev for others",
        command: "dev",
        spoil: |_| {
            Spoilt::with(&["--listen", "0.0.0.0:0", "--tls-cert-file", "x", "--tls-key-file", "y"])
        },
        cause: "dev keeps its key beside its data",
        mend: "`credvault serve` are for others",
    },
    row(
        "a key beside a store that lies elsewhere",
        |world| {
            let folder = world.file("elsewhere");
            fs::create_dir(&folder).unwrap();
            set_mode(&folder, 0o700);
            fs::copy(world.database(), folder.join("credvault.db")).unwrap();
            fs::copy(world.key(), folder.join("beside.key")).unwrap();
            fs::copy(world.file("vault/credvault.db.lock"), folder.join("credvault.db.lock"))
                .unwrap();
            let store = format!("sqlite:{}", text(&folder.join("credvault.db")));
            Spoilt::with(&["--store", &store, "--key-file", &text(&folder.join("beside.key"))])
        },
        "lies in the data folder",
        "choose a place outside with --key-file",
    ),
    row(
        "a clock that was set back",
        |world| sql(world, &entry_of_year(2100)),
        "and the newest audit entry is of",
        "start once with --accept-clock",
    ),
    row(
        "no key",
        |world| change(|| fs::remove_file(world.key())),
        "cannot open it",
        "restore it from its backup, or name it with --key-file",
    ),
    row(
        "a folder as key",
        |world| Spoilt::with(&["--key-file", &text(world.dir.path())]),
        "is not a regular file",
        "name the file itself",
    ),
    row(
        "a key that others may read",
        |world| with_mode(&world.key(), 0o640),
        "others may read it",
        "chmod 600",
    ),
    row(
        "a key that is too short",
        |world| {
            change(|| {
                fs::write(world.key(), fs::read_to_string(world.key())?.replace("_1_", "_1_0"))
            })
        },
        "holds no valid keys",
        "restore it from its backup",
    ),
    row(
        "a key file that is something else",
        |world| change(|| fs::write(world.key(), "x".repeat(20_000))),
        "is too large to be a key file",
        "check --key-file",
    ),
    row(
        "the key among the data",
        |world| {
            fs::rename(world.key(), world.file("vault/own.key")).unwrap();
            Spoilt::with(&["--key-file", &text(&world.file("vault/own.key"))])
        },
        "lies in the data folder",
        "choose a place outside with --key-file",
    ),
    row("another vault's key", other_key, "does not open this vault", "--key-file"),
    // A migration would come to grief on this file, or change it.
    row(
        "another vault's key, and a schema that is not up to date",
        |world| {
            with_schema(world, 2);
            other_key(world)
        },
        "does not open this vault",
        "--key-file",
    ),
    row(
        "a vault of dev with a schema that is not up to date",
        |world| {
            with_schema(world, 2);
            sql(world, "UPDATE vault SET dev = 1")
        },
        "was made by `credvault dev`",
        "credvault init --data-dir DIR",
    ),
];

fn change(change: impl FnOnce() -> std::io::Result<()>) -> Spoilt {
    change().unwrap();
    Spoilt::default()
}

fn with_mode(path: &Path, mode: u32) -> Spoilt {
    set_mode(path, mode);
    Spoilt::default()
}

/// To a user that nobody is.
fn give_away(path: &Path) -> std::io::Result<()> {
    chown(path, Some(4_242), None)
}

fn with_schema(world: &World, version: i64) -> Spoilt {
    sqlite::set_schema_version(&world.database(), version);
    Spoilt::default()
}

fn sql(world: &World, sql: &str) -> Spoilt {
    sqlite::open(&world.database()).execute_batch(sql).unwrap();
    Spoilt::default()
}

/// An entry of the vault's own chain.
pub(crate) fn entry_of_year(year: i64) -> String {
    let time = (year - 1970) * 31_556_952 * 1_000_000;
    format!(
        "INSERT INTO audit_entry VALUES (zeroblob(16), 1, zeroblob(32), zeroblob(32), {time}, 'operator:local', '',
        'CreateApiToken', 'vault/apiTokens/x', 'OK', 0, 0, '', '', '')"
    )
}

fn other_key(world: &World) -> Spoilt {
    let made = crate::support::process::run(["init", "--data-dir", &text(&world.file("other"))]);
    assert!(made.status.success(), "{made:?}");
    Spoilt::with(&["--key-file", &text(&world.file("other.key"))])
}
