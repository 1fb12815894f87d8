//! Each rule finds the violation planted for it, and finds nothing in what only looks like one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use super::{Rule, Tree, fnv1a};

/// A directory with the given files, removed at the end.
struct Planted(PathBuf);

impl Planted {
    fn with(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = env::temp_dir().join(format!("credvault-tidy-{}-{number}", process::id()));
        for (name, text) in files {
            let file = root.join(name);
            fs::create_dir_all(file.with_file_name(""))
                .expect("the temporary directory is writable");
            fs::write(file, text).expect("the temporary directory is writable");
        }
        Self(root)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The rule finds exactly these violations, each given by a part of its text.
#[track_caller]
fn finds(rule: Rule, files: &[(&str, &str)], expected: &[&str]) {
    let planted = Planted::with(files);
    let found = Tree::under(&planted.0, rule);
    let all = expected.iter().all(|part| found.iter().any(|violation| violation.contains(part)));
    assert!(all && found.len() == expected.len(), "expected {expected:?}, found {found:#?}");
}

#[test]
fn planted_use_against_the_direction() {
    let rule = super::directions;
    let one =
        |text: &str, expected: &[&str]| finds(rule, &[("src/store/sqlite.rs", text)], expected);
    one("//! x\nuse crate::vault;", &["src/store/sqlite.rs:2: `store` may not use `vault`"]);
    one(
        "use crate::{\n account,\n upstream::{self, http as h, twilio::*},\n};",
        &[
            ":3: `store` may not use `upstream`",
            "use `upstream::http`",
            "use `upstream::twilio::*`",
        ],
    );
    one("fn f() { let x = crate::grpc::status::of(); }", &["use `grpc::status::of`"]);
    one("use super::super::vault::Error;", &["use `vault::Error`"]);
    one("mod tests { use super::super::super::vault::Error; }", &["use `vault::Error`"]);
    one("use crate::crypto::{Sealed, seal};", &["use `crypto::seal`"]);
    one("use crate::crypto;", &["use `crypto`"]);
    one("macro_rules! m { () => { $crate::cli::run() } }", &["use `cli::run`"]);
    one("use crate::*;", &["use `*`"]);
    finds(rule, &[("src/main.rs", "use credvault::vault;")], &["`main` may not use `vault`"]);
    finds(rule, &[("src/extra.rs", "")], &["module `extra` has no row in MAY_USE"]);
}

#[test]
fn planted_look_alikes_of_a_use() {
    let innocent = r##"
        //! [`crate::vault`] /* crate::vault */
        /* crate::vault */
        use crate::{account::Id, crypto::Sealed, store::Batch, Error};
        use super::{vault, super::x};
        const A: &str = "crate::vault \" crate::vault";
        const B: &str = r#"crate::vault " crate::vault"#;
        const C: (char, u8) = ('"', b'\'');
        fn f<'a>(_: &'a str) -> impl Sized + use<'a> { super::vault::open() }
        mod tests { use super::super::vault; }
        pub(in crate::store) fn g() {}
    "##;
    finds(super::directions, &[("src/store/sqlite.rs", innocent)], &[]);
    finds(super::directions, &[("src/lib.rs", "pub use crate::vault::Vault;")], &[]);
    finds(super::fences, &[("src/store/sqlite.rs", innocent)], &[]);
}

#[test]
fn planted_crate_outside_its_fence() {
    let one =
        |file: &str, text: &str, expected: &[&str]| finds(super::fences, &[(file, text)], expected);
    one(
        "src/vault.rs",
        "//! x\n\nuse tonic::Status;",
        &["src/vault.rs:3: `vault` may not name `tonic::Status`"],
    );
    one("src/vault/rotate.rs", "fn f() { ::rusqlite::version(); }", &["name `rusqlite::version`"]);
    one("src/store.rs", "use rusqlite;", &["name `rusqlite`"]);
    one("src/store/sqlite/read.rs", "use rusqlite::Connection;", &[]);
    one("src/store/sqlite_read.rs", "use rusqlite::Connection;", &[]);
    one("src/server.rs", "use tonic::{service::Routes, Status};", &["name `tonic::Status`"]);
    one("src/server/health.rs", "use tonic_health::pb;", &[]);
    one("src/vault.rs", "#[derive(prost::Message)] struct M;", &["name `prost::Message`"]);
    one("src/upstream/twilio.rs", "use reqwest::Client as C;", &["name `reqwest::Client`"]);
    one("src/upstream/http.rs", "use reqwest::Client; use rustls::ClientConfig;", &[]);
    one("src/upstream/http/address.rs", "use reqwest::dns::Resolve;", &[]);
    one("src/cli/dev.rs", "use std::{env, fs};", &["name `std::env`"]);
    one("src/config.rs", "use std::{env, fs};", &[]);
    one("src/audit.rs", "use sha2::Sha256; use crate::rand::x; fn f() { a::hmac::g(); }", &[]);
}

#[test]
fn planted_long_file() {
    let lines = |count: usize| "//\n".repeat(count);
    finds(super::file_lengths, &[("src/a.rs", &lines(500)), ("tests/it/a.rs", &lines(600))], &[]);
    finds(
        super::file_lengths,
        &[("src/a/b.rs", &lines(501))],
        &["src/a/b.rs:501: longer than 500"],
    );
    finds(super::file_lengths, &[("tests/a.rs", &lines(601))], &["longer than 600"]);
}

#[test]
fn planted_mod_file() {
    finds(super::mod_files, &[("src/a/mod.rs", ""), ("src/a.rs", "")], &["a/mod.rs:1"]);
}

#[test]
fn planted_marker() {
    let todo = concat!("TO", "DO");
    let good = format!("// {todo}(#12): x\n// {todo}S, AC{}", "X".repeat(32));
    let bad = format!("--\n-- {todo}: x\n-- {todo}(me): x\n-- {}: x", concat!("FIX", "ME"));
    finds(super::markers, &[("src/a.rs", &good)], &[]);
    finds(super::markers, &[("src/a.sql", &bad)], &["a.sql:2", "a.sql:3", "a.sql:4"]);
}

#[test]
fn planted_migration_edited_removed_or_misnumbered() {
    let rule = super::migrations;
    let file = |name: &str| format!("src/store/sqlite/{name}");
    let (first, second) = (file("0001_start.sql"), file("0002_more.sql"));
    let (third, list) = (file("0003_late.sql"), file("fingerprints.txt"));
    let listed = format!("0001_start.sql {:016x}\n", fnv1a(b"CREATE"));
    let start = (first.as_str(), "CREATE");
    let listed = (list.as_str(), listed.as_str());
    finds(rule, &[start, listed, ("src/store/sqlite/queries.sql", "SELECT")], &[]);
    finds(rule, &[(&first, "CREATE TABLE"), listed], &["add 0002_….sql with the change"]);
    finds(rule, &[start, listed, (&second, "ALTER")], &["append `0002_more.sql "]);
    finds(rule, &[start, listed, (&third, "ALTER")], &["this one would be 0002", "append `0003"]);
    finds(rule, &[listed], &["fingerprints.txt:1: this migration is gone"]);
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "the published value for this input");
}

#[test]
fn planted_test_that_sleeps_or_is_skipped() {
    let rule = super::test_habits;
    let one = |text: &str, expected: &[&str]| finds(rule, &[("tests/it/a.rs", text)], expected);
    one("//! x\n#[ignore = \"slow\"]\n#[test] fn f() {}", &["a.rs:2: a test runs or is deleted"]);
    one("#[cfg_attr(not(x), ignore)] fn f() {}", &["a test runs or is deleted"]);
    one("use std::thread;\nfn f() { thread::sleep(d); }", &["a.rs:2: no sleeping"]);
    one("async fn f() { tokio::time::sleep(d).await }", &["no sleeping"]);
    one("// sleep, #[ignore]\nfn f() { ignore(\"sleep\", \"#[ignore]\") }", &[]);
    finds(rule, &[("src/a.rs", "#[ignore] fn f() { sleep() }")], &["a test runs or is deleted"]);
}

#[test]
fn planted_stray_entry() {
    let files = [("README.md", ""), ("src/lib.rs", ""), ("admin.token", ""), ("notes.txt", "")];
    finds(super::top_level, &files, &["notes.txt:1"]);
}

#[test]
fn planted_dead_link() {
    let text = "[a](docs/b.md#c) [d](/docs/b.md 'e') [f](https://g.h/i) [j](#k) `[l](m)`\n\
                ```\n[n](o)\n```\n\
                [p](docs/q.md)\n[r]: s.md\n";
    let files = [("README.md", text), ("docs/b.md", "[t](../README.md) [u](v.md)")];
    finds(
        super::links,
        &files,
        &["README.md:5: `docs/q.md`", "README.md:6: `s.md`", "b.md:1: `v.md`"],
    );
}

#[test]
fn planted_promise_without_a_test() {
    let model = "`suite::test` `a::holds`, `a::b::is_gone` and `AES-256-GCM`";
    let files = [("docs/threat-model.md", model), ("tests/it/a.rs", "//! A.\nfn holds() {}")];
    finds(super::proofs, &files, &["threat-model.md:1: there is no test `a::b::is_gone`"]);
}

#[test]
fn planted_module_without_docs() {
    let files = [("src/a.rs", "//! A."), ("src/b.rs", "use a;"), ("tests/c.rs", "/// C.")];
    finds(super::module_docs, &files, &["src/b.rs:1", "tests/c.rs:1"]);
}

#[test]
fn planted_directory_is_gone_afterwards() {
    let planted = Planted::with(&[("a", "")]);
    let root: PathBuf = Path::new(&planted.0).to_owned();
    assert!(root.exists(), "it was planted");
    drop(planted);
    assert!(!root.exists(), "and it is removed");
}
