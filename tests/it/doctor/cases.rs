//! What is wrong, brought about for real, and what doctor has to say of it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use credvault::clock::{Clock as _, SystemClock};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use crate::refusals::vaults::entry_of_year;
use crate::refusals::world::{World, set_mode, text};
use crate::sqlite;

pub(super) struct Case {
    pub(super) name: &'static str,
    /// Brings it about, and may give doctor further options.
    pub(super) spoil: fn(&World, &mut Command),
    pub(super) check: &'static str,
    pub(super) verdict: &'static str,
    pub(super) says: &'static str,
    pub(super) mend: &'static str,
}

/// `name`: `check` is found to be…
const fn bad(
    name: &'static str,
    spoil: fn(&World, &mut Command),
    check: &'static str,
    says: &'static str,
    mend: &'static str,
) -> Case {
    Case { name, spoil, check, verdict: "bad", says, mend }
}

const fn warning(
    name: &'static str,
    spoil: fn(&World, &mut Command),
    check: &'static str,
    says: &'static str,
    mend: &'static str,
) -> Case {
    Case { name, spoil, check, verdict: "warning", says, mend }
}

pub(super) const CASES: &[Case] = &[
    bad(
        "a setting that does not exist",
        |world, command| config(world, command, "data_dri = 'x'\n"),
        "settings",
        "is not valid",
        "mend line 1",
    ),
    warning(
        "a token in the environment",
        |_, command| {
            command.env("CREDVAULT_TOKEN", "cv1_x");
        },
        "environment",
        "CREDVAULT_TOKEN holds an API token",
        "CREDVAULT_TOKEN_FILE",
    ),
    bad(
        "a token file that others may read",
        |world, command| {
            let file = world.write("my.token", "cv1_x");
            set_mode(&world.file("my.token"), 0o644);
            command.env("CREDVAULT_TOKEN_FILE", file);
        },
        "files",
        "my.token (mode 0644)",
        "chmod 600",
    ),
    bad(
        "an open folder",
        |world, _| set_mode(&world.data(), 0o755),
        "files",
        "others may use the folder",
        "chmod 700",
    ),
    bad(
        "an open database",
        |world, _| set_mode(&world.database(), 0o640),
        "files",
        "credvault.db (mode 0640)",
        "chmod 600",
    ),
    bad(
        "an open lock file",
        |world, _| set_mode(&world.file("vault/credvault.db.lock"), 0o666),
        "files",
        "credvault.db.lock (mode 0666)",
        "chmod 600",
    ),
    bad(
        "a backup that others may read",
        |world, _| {
            fs::copy(world.database(), world.file("vault/backup.db")).unwrap();
            set_mode(&world.file("vault/backup.db"), 0o644);
        },
        "files",
        "backup.db (mode 0644)",
        "chmod 600",
    ),
    bad(
        "a second name",
        |world, _| fs::hard_link(world.database(), world.file("also.db")).unwrap(),
        "files",
        "has a second name",
        "remove that name",
    ),
    bad(
        "a folder of another user",
        |world, _| std::os::unix::fs::chown(world.data(), Some(4_242), None).unwrap(),
        "files",
        "belongs to user 4242",
        "run as that user",
    ),
    bad(
        "a configuration that others may write",
        |world, command| {
            config(world, command, "");
            set_mode(&world.file("credvault.toml"), 0o666);
        },
        "settings",
        "can be written by others",
        "chmod go-w",
    ),
    bad(
        "a bundle that others may write",
        |world, command| {
            encrypted(world, command, 90, 90);
            set_mode(&world.file("bundle.pem"), 0o664);
        },
        "files",
        "bundle.pem (mode 0664)",
        "chmod go-w",
    ),
    bad(
        "no key",
        |world, _| fs::remove_file(world.key()).unwrap(),
        "key",
        "cannot open it",
        "--key-file",
    ),
    bad(
        "an open key",
        |world, _| set_mode(&world.key(), 0o640),
        "key",
        "others may read it",
        "chmod 600",
    ),
    bad(
        "another vault's key",
        |world, command| {
            let init = ["init", "--data-dir", &text(&world.file("other"))];
            assert!(crate::support::process::run(init).status.success());
            command.arg("--key-file").arg(world.file("other.key"));
        },
        "key",
        "does not open this vault",
        "--key-file",
    ),
    bad(
        "the key among the data",
        |world, command| {
            fs::rename(world.key(), world.file("vault/own.key")).unwrap();
            command.arg("--key-file").arg(world.file("vault/own.key"));
        },
        "key",
        "lies in the data folder",
        "choose a place outside",
    ),
    bad(
        "a damaged page",
        |world, _| zero_page_of(world, "rotation_by_due_time"),
        "store",
        "SQLite finds it damaged",
        "restore a backup",
    ),
    bad(
        "a damaged index",
        |world, command| {
            sql(world, "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '(uid)', '(account)')
                WHERE name = 'provider_by_uid'");
            command.arg("--deep");
        },
        "store",
        "integrity_check",
        "restore a backup",
    ),
    bad(
        "a store from the future",
        |world, _| sqlite::set_schema_version(&world.database(), 99),
        "store",
        "newer Credvault",
        "start that version",
    ),
    warning(
        "a store of before",
        |world, _| sqlite::set_schema_version(&world.database(), 2),
        "schema",
        "schema 2; the next start brings it to",
        "back the vault up before",
    ),
    warning(
        "a store that was not closed",
        |world, _| drop(world.write("vault/credvault.db.lock", "in use\n")),
        "store",
        "not closed in order",
        "find out",
    ),
    warning(
        "a vault of dev",
        |world, _| sql(world, "UPDATE vault SET dev = 1"),
        "kind",
        "was made by `credvault dev`",
        "credvault init",
    ),
    bad(
        "a clock that was set back",
        |world, _| {
            sql(world, &entry_of_year(2100).replace("(zeroblob(16), 1,", "(zeroblob(16), 100,"));
        },
        "clock",
        "and the newest audit entry is of",
        "--accept-clock",
    ),
    bad(
        "a certificate that has expired",
        |world, command| encrypted(world, command, -1, 90),
        "tls",
        "expired at",
        "renew it",
    ),
    bad(
        "a TLS key that others may read",
        |world, command| {
            encrypted(world, command, 90, 90);
            set_mode(&world.file("tls.key"), 0o644);
        },
        "tls",
        "can be read by others",
        "chmod 600",
    ),
    warning(
        "a certificate that expires soon",
        |world, command| encrypted(world, command, 5, 90),
        "tls",
        "tls.cert_file",
        "renew it",
    ),
    warning(
        "a certificate that is an authority's",
        |world, command| {
            encrypted(world, command, 90, 90);
            let mut params = CertificateParams::new(["vault.test".to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = fs::read_to_string(world.file("tls.key")).unwrap();
            let own = params.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap();
            world.write("tls.crt", own.pem());
        },
        "tls",
        "that of an authority itself",
        "sign a certificate for this server",
    ),
    bad(
        "an authority that has expired",
        |world, command| encrypted(world, command, 90, -5),
        "tls",
        "an authority in the bundle",
        "take it out of the file",
    ),
    warning(
        "no operator",
        |world, _| sql(world, "DELETE FROM role_binding WHERE role = 'operator'"),
        "operators",
        "nobody may operate",
        "tokens create --local --data-dir /",
    ),
    warning(
        "an account without an admin",
        |world, _| sql(world, "DELETE FROM role_binding WHERE role = 'account-admin'"),
        "admins",
        "accounts/acme",
        "--role account-admin",
    ),
    warning(
        "a token that expires soon",
        |world, _| expires_in_days(world, 3),
        "tokens",
        "expires soon: ",
        "successor",
    ),
    warning(
        "a token that has expired",
        |world, _| expires_in_days(world, -3),
        "tokens",
        "expired: ",
        "tokens revoke",
    ),
    warning(
        "more connections than descriptors",
        |world, command| {
            let mut limited = Command::new("sh");
            limited.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]);
            limited.arg(command.get_program()).args(command.get_args());
            limited.env("CREDVAULT_OPS_LISTEN", world.operations().to_string());
            *command = limited;
        },
        "descriptors",
        "256 file descriptors here",
        "ulimit -n",
    ),
    bad(
        "a password that was changed",
        |world, command| {
            sql(world, "UPDATE credential SET sealed = (SELECT sealed FROM credential WHERE username = 'bob')
                WHERE username = 'alice'");
            command.arg("--deep");
        },
        "secrets",
        "1 of 4 do not open: accounts/acme/credentials/",
        "restore a backup, or rotate",
    ),
    bad(
        "a token that is cut off",
        |world, command| {
            sql(world, "UPDATE provider SET sealed = x'00'");
            command.arg("--deep");
        },
        "secrets",
        "1 of 4 do not open: accounts/acme/providers/main",
        "restore a backup, or rotate",
    ),
    bad(
        "an audit entry that was changed",
        |world, command| {
            sql(
                world,
                "UPDATE audit_entry SET reason = 'none' WHERE chain <> zeroblob(16) AND sequence = 2",
            );
            command.arg("--deep");
        },
        "audit",
        "accounts/acme at entry 2",
        "compare with",
    ),
    bad(
        "an audit entry that is gone",
        |world, command| {
            sql(world, "DELETE FROM audit_entry WHERE chain = zeroblob(16) AND sequence = 1");
            command.arg("--deep");
        },
        "audit",
        "vault at entry 2",
        "compare with",
    ),
    bad(
        "an audit chain of nobody",
        |world, command| {
            sql(world, &entry_of_year(2000).replace("zeroblob(16), 1", "randomblob(16), 1"));
            command.arg("--deep");
        },
        "audit",
        "1 chains of no account",
        "compare with",
    ),
];

fn sql(world: &World, sql: &str) {
    sqlite::open(&world.database()).execute_batch(sql).unwrap();
}

fn config(world: &World, command: &mut Command, content: &str) {
    command.arg("--config").arg(world.write("credvault.toml", content));
}

fn in_days(days: i64) -> Timestamp {
    SystemClock.now() + SignedDuration::from_hours(24 * days)
}

fn expires_in_days(world: &World, days: i64) {
    let then = in_days(days).as_second();
    sql(world, &format!("UPDATE api_token SET expire_time = {then} * 1000000"));
}

/// A page of a table, and not of what says whose vault it is.
fn zero_page_of(world: &World, index: &str) {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let database = rusqlite::Connection::open(world.database()).unwrap();
    let page: i64 = database.query_row(sql, [index], |row| row.get(0)).unwrap();
    drop(database);
    let file = fs::OpenOptions::new().write(true).open(world.database()).unwrap();
    file.write_all_at(&[0; 4096], u64::try_from(page - 1).unwrap() * 4096).unwrap();
}

/// TLS with a certificate, and a trust domain with an authority, that end in so many days.
fn encrypted(world: &World, command: &mut Command, own: i64, authority: i64) {
    let made = |days: i64| {
        let end = in_days(days).to_zoned(TimeZone::UTC).date();
        let (month, day) = (end.month().unsigned_abs(), end.day().unsigned_abs());
        let mut params = CertificateParams::new(["vault.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(end.year().into(), month, day);
        params
    };
    let pair = KeyPair::generate().unwrap();
    let certificate = world.write("tls.crt", made(own).self_signed(&pair).unwrap().pem());
    let key = world.write("tls.key", pair.serialize_pem());
    let mut root = made(authority);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = root.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let bundle = format!("example.org={}", world.write("bundle.pem", root));
    command.args(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
    command.args(["--tls-trust-domain", &bundle]);
}
