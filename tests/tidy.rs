//! The rules of this repository that neither the compiler nor clippy checks, held against its
//! files: which module may use which, where each external crate may appear, that migrations only
//! grow, and so on.
//!
//! Each rule looks at one directory. A test holds it against the repository, and a `planted_…` test
//! against a directory with a violation, which the rule must find. Adjust the tables below, not the
//! rules.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/rust.rs"]
mod rust;

/// Dependency direction: a top-level module, and what of this crate it may use. `crypto::Sealed`
/// allows that and what lies below it, not the rest of `crypto`. `lib.rs` only declares modules and
/// is not held to it.
const MAY_USE: &[(&str, &str)] = &[
    ("name", ""),
    ("secret", "name"),
    ("clock", ""),
    ("shares", ""),
    ("defect", ""),
    (
        "config",
        "access::spiffe crypto::kek_source name secret store::Location upstream vault::CallLimits",
    ),
    ("telemetry", ""),
    ("account", "name"),
    ("versions", ""),
    ("credential", "account name provider rotation::policy rotation::sweep secret versions"),
    ("provider", "account name secret versions"),
    ("recipient", "name provider"),
    ("rotation", "credential name provider recipient versions defect"),
    ("digest", "credential name secret"),
    ("webhook", "name secret defect"),
    ("access_token", "name provider secret"),
    ("audit", "account name"),
    ("access", "account credential provider name secret audit defect"),
    ("crypto", "secret account name recipient defect"),
    ("upstream", "secret credential provider name clock telemetry::metrics defect"),
    (
        "store",
        "access access_token account audit credential provider recipient rotation versions name clock shares crypto::Sealed \
         crypto::SealedRoot crypto::delivery::Delivered telemetry::metrics defect",
    ),
    (
        "vault",
        "upstream store crypto access audit digest webhook access_token account credential provider recipient rotation versions name \
         clock secret telemetry::metrics defect",
    ),
    (
        "grpc",
        "vault access audit digest webhook access_token account credential provider recipient rotation versions name clock secret \
         shares telemetry defect",
    ),
    (
        "server",
        "grpc vault upstream store crypto access audit digest account credential provider name \
         clock secret config telemetry defect",
    ),
    (
        "cli",
        "server grpc::client grpc::json grpc::proto vault upstream store crypto access audit account \
         credential provider recipient rotation name clock secret config telemetry defect",
    ),
    ("main", "cli"),
];

/// Fences: a path, and the modules that may name it. `tonic*` is everything that begins so. Where
/// several rows match a path, the modules of all of them may name it.
const FENCES: &[(&str, &str)] = &[
    ("tonic*", "grpc"),
    ("tonic::body", "server::operations"),
    ("tonic::service", "server"),
    ("tonic_health", "server"),
    ("tonic_reflection", "server"),
    ("prost*", "grpc"),
    ("rusqlite", "store::sqlite*"),
    ("aes_gcm", "crypto"),
    ("hkdf", "crypto"),
    ("hmac", "crypto webhook access_token"),
    ("hpke", "crypto::delivery"),
    ("rand", "crypto"),
    (
        "sha2",
        "crypto digest webhook access_token audit access::api_token recipient cli::credentials::import store::sqlite::checksum",
    ),
    ("md5", "digest"),
    ("sha1", "webhook"),
    ("reqwest", "upstream::http*"),
    ("rustls", "upstream::http* server::tls"),
    ("tokio_rustls", "server::tls"),
    ("x509_parser", "server::tls"),
    ("webpki_roots", "upstream::http*"),
    ("prometheus", "telemetry::metrics*"),
    ("procfs", "telemetry::metrics*"),
    ("rustix", "server::process server::listener server::doctor* store::sqlite::place"),
    ("thread_priority", "store::sqlite::checkpoint"),
    ("clap", "cli config main"),
    ("std::env", "config defect"),
];

/// The longest Rust file, by directory.
const MAX_LINES: &[(&str, usize)] = &[("src", 500), ("tests", 600)];

/// What may lie at the top of the repository. The last line is what git ignores.
const TOP_LEVEL: &str = ".ci .git .gitignore CHANGELOG.md CONTRIBUTING.md Cargo.lock Cargo.toml \
     LICENSE README.md SECURITY.md benches build.rs clients clippy.toml deny.toml deploy docs examples \
     fuzz proto rustfmt.toml src tests \
     target credvault-data credvault.key *.token";

/// Directories without any source of ours.
const NOT_SOURCE: &[&str] = &[".git", "target", "credvault-data"];

/// The directory that a rule looks at, and the violations found in it.
struct Tree<'a> {
    root: &'a Path,
    found: Vec<String>,
}

type Rule = fn(&mut Tree<'_>);

impl Tree<'_> {
    fn under(root: &Path, rule: Rule) -> Vec<String> {
        let mut tree = Tree { root, found: Vec::new() };
        rule(&mut tree);
        tree.found
    }

    fn violation(&mut self, file: &Path, line: usize, what: impl Display) {
        let file = file.strip_prefix(self.root).unwrap_or(file).display();
        self.found.push(format!("  {file}:{line}: {what}"));
    }

    /// The Rust files below one directory.
    fn rust(&self, directory: &str) -> Vec<PathBuf> {
        files(&self.root.join(directory), &["rs"])
    }

    /// `src/store/sqlite.rs` → `store::sqlite`.
    fn module(&self, file: &Path) -> String {
        let path = file.strip_prefix(self.root.join("src")).unwrap_or(file).with_extension("");
        path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("::")
    }
}

// The rules.

fn directions(tree: &mut Tree<'_>) {
    for file in tree.rust("src") {
        let module = tree.module(&file);
        let top = first_segment(&module);
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == top) else {
            if top != "lib" {
                let what = "has no row in MAY_USE of tests/tidy.rs: add one with what it may use";
                tree.violation(&file, 1, format!("module `{top}` {what}"));
            }
            continue;
        };
        for (line, path) in rust::paths(&read(&file), depth(&module)) {
            let ours = path.strip_prefix("crate::").or_else(|| path.strip_prefix("credvault::"));
            let Some(ours) = ours.filter(|ours| !ours.starts_with(char::is_uppercase)) else {
                continue;
            };
            let below = may_use.split_whitespace().any(|allowed| covers(allowed, ours));
            if first_segment(ours) != top && !below {
                let what = "move the code, or argue for a new entry in MAY_USE of tests/tidy.rs";
                tree.violation(&file, line, format!("`{top}` may not use `{ours}`: {what}"));
            }
        }
    }
}

fn fences(tree: &mut Tree<'_>) {
    for file in tree.rust("src") {
        let module = tree.module(&file);
        for (line, path) in rust::paths(&read(&file), depth(&module)) {
            let rows = || FENCES.iter().filter(|(fence, _)| covers(fence, &path));
            let mut homes = rows().flat_map(|(_, homes)| homes.split_whitespace());
            if rows().next().is_some() && !homes.any(|home| covers(home, &module)) {
                let what = "use the module that wraps it, see FENCES in tests/tidy.rs";
                tree.violation(&file, line, format!("`{module}` may not name `{path}`: {what}"));
            }
        }
    }
}

fn file_lengths(tree: &mut Tree<'_>) {
    for (directory, most) in MAX_LINES {
        for file in tree.rust(directory) {
            let lines = read(&file).lines().count();
            if lines > *most {
                let what = format!("longer than {most} lines: split it by what its parts own");
                tree.violation(&file, lines, what);
            }
        }
    }
}

fn mod_files(tree: &mut Tree<'_>) {
    for file in tree.rust(".").iter().filter(|file| file.ends_with("mod.rs")) {
        tree.violation(file, 1, "name it after its module: `foo.rs` beside `foo/`");
    }
}

fn markers(tree: &mut Tree<'_>) {
    // In two parts, so that this file does not contain them.
    let banned = [concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let todo = concat!("TO", "DO");
    let has_issue = |rest: &str| {
        let number = rest.strip_prefix("(#").and_then(|rest| rest.split_once("):"));
        number.is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for file in files(tree.root, &["rs", "proto", "sql", "toml", "md", "sh", "yaml", "yml"]) {
        for (number, line) in (1..).zip(read(&file).lines()) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let banned = words.clone().any(|word| banned.contains(&word));
            let marked = words.any(|word| word == todo);
            if banned || marked && !line.split(todo).skip(1).all(has_issue) {
                let what = format!("open work is written `{todo}(#123): what`, with its issue");
                tree.violation(&file, number, what);
            }
        }
    }
}

/// Migrations are `src/store/<back end>/NNNN_<what>.sql`, with a fingerprint of each in
/// `fingerprints.txt` beside them. The fingerprint (FNV-1a, 64 bits) notices a slip. It resists no
/// intent; review does.
fn migrations(tree: &mut Tree<'_>) {
    for folder in entries(&tree.root.join("src/store")).iter().filter(|entry| entry.is_dir()) {
        let list = folder.join("fingerprints.txt");
        let listed = if list.exists() { read(&list) } else { String::new() };
        let names = files(folder, &["sql"]).iter().map(|file| name_of(file)).collect::<Vec<_>>();
        let numbered = |name: &&String| name.starts_with(|c: char| c.is_ascii_digit());
        let names = names.iter().filter(numbered).collect::<Vec<_>>();
        for (number, name) in (1..).zip(&names) {
            let file = folder.join(name);
            if !name.starts_with(&format!("{number:04}_")) {
                let what = "migrations are numbered from 0001 without a gap; this one would be";
                tree.violation(&file, 1, format!("{what} {number:04}"));
            }
            let line = format!("{name} {:016x}", fnv1a(read(&file).as_bytes()));
            if listed.lines().any(|other| other == line) {
                continue;
            }
            if listed.lines().any(|other| other.split(' ').next() == Some(name)) {
                let next = names.len() + 1;
                let what = format!("restore it and add {next:04}_….sql with the change");
                let unless = format!("if no release has it: `{line}` in fingerprints.txt");
                let what = format!("a released migration never changes: {what} ({unless})");
                tree.violation(&file, 1, what);
            } else {
                let what =
                    format!("a new migration: append `{line}` to fingerprints.txt beside it");
                tree.violation(&file, 1, what);
            }
        }
        for (number, line) in (1..).zip(listed.lines()) {
            if !names.iter().any(|name| line.split(' ').next() == Some(name)) {
                tree.violation(
                    &list,
                    number,
                    "this migration is gone, and stores have it: restore it",
                );
            }
        }
    }
}

fn test_habits(tree: &mut Tree<'_>) {
    for file in [tree.rust("src"), tree.rust("tests")].concat() {
        let text = read(&file);
        let tokens = rust::tokens(&text);
        for (i, token) in tokens.iter().enumerate() {
            let attribute = token.text == "#" && rust::text_at(&tokens, i + 1) == "[";
            let first = rust::text_at(&tokens, i + 2);
            let mut inside = tokens.iter().skip(i).take_while(|token| token.text != "]");
            let ignores = inside.any(|token| token.text == "ignore");
            if attribute && ignores && ["ignore", "cfg_attr"].contains(&first) {
                let what = "a test runs or is deleted; one that needs a tool is a target with \
                            `test = false`, called by .ci/run";
                tree.violation(&file, token.line, what);
            }
            if token.text == "sleep" && file.starts_with(tree.root.join("tests")) {
                let what = "no sleeping in tests: await the event, or move the clock";
                tree.violation(&file, token.line, what);
            }
        }
    }
}

fn top_level(tree: &mut Tree<'_>) {
    for entry in entries(tree.root) {
        let name = name_of(&entry);
        let is = |expected: &str| match expected.strip_prefix('*') {
            Some(end) => name.ends_with(end),
            None => name == expected,
        };
        if !TOP_LEVEL.split_whitespace().any(is) {
            let what = "not expected here: move it, or add it to TOP_LEVEL in tests/tidy.rs";
            tree.violation(&entry, 1, what);
        }
    }
}

fn links(tree: &mut Tree<'_>) {
    for file in files(tree.root, &["md"]) {
        let mut in_block = false;
        for (number, line) in (1..).zip(read(&file).lines()) {
            in_block ^= line.trim_start().starts_with("```");
            let prose = line.split('`').step_by(2).collect::<String>();
            let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let definition = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
            for target in inline.chain(definition.map(|(_, target)| target)) {
                let target = target.split([' ', '#']).next().unwrap_or_default();
                let elsewhere = target.contains("://") || target.starts_with("mailto:");
                let exists = match target.strip_prefix('/') {
                    Some(target) => tree.root.join(target).exists(),
                    None => file.with_file_name("").join(target).exists(),
                };
                if !in_block && !elsewhere && !exists {
                    let what = format!("`{target}` does not exist: correct the link or remove it");
                    tree.violation(&file, number, what);
                }
            }
        }
    }
}

/// The threat model names the test that shows each promise, as `suite::test`.
fn proofs(tree: &mut Tree<'_>) {
    let file = tree.root.join("docs/threat-model.md");
    let text = if file.exists() { read(&file) } else { String::new() };
    let tests = tree.rust("tests").iter().map(|file| read(file)).collect::<String>();
    let is_path = |word: &&str| {
        word.contains("::") && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
    };
    for (number, line) in (1..).zip(text.lines()) {
        for path in line.split('`').skip(1).step_by(2).filter(is_path) {
            let name = path.rsplit("::").next().unwrap_or_default();
            if path != "suite::test" && !tests.contains(&format!("fn {name}(")) {
                let what = format!("there is no test `{path}`: name the one that shows it");
                tree.violation(&file, number, what);
            }
        }
    }
}

fn module_docs(tree: &mut Tree<'_>) {
    for file in ["src", "tests", "benches", "examples"].map(|part| tree.rust(part)).concat() {
        if !read(&file).starts_with("//!") {
            let what = "begin with `//!`: what the module owns, and what it leaves to others";
            tree.violation(&file, 1, what);
        }
    }
}

// Files and paths.

/// What lies in `directory`, sorted; nothing if there is no such directory.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = listing.map(|entry| entry.expect("the directory is readable").path());
    let mut entries = paths.collect::<Vec<_>>();
    entries.sort();
    entries
}

/// The files below `directory` with one of these extensions.
fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in entries(directory) {
        let extension = entry.extension().and_then(|extension| extension.to_str());
        if entry.is_symlink() || NOT_SOURCE.contains(&name_of(&entry).as_str()) {
            continue;
        }
        if entry.is_dir() {
            found.extend(files(&entry, extensions));
        } else if extension.is_some_and(|extension| extensions.contains(&extension)) {
            found.push(entry);
        }
    }
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a source file is readable and UTF-8")
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// How far below the crate root a module lies.
fn depth(module: &str) -> usize {
    if ["lib", "main"].contains(&module) { 0 } else { module.split("::").count() }
}

fn first_segment(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

/// Whether `path` is `pattern` or lies below it; with a `*` at the end, whether it begins so.
fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => match path.strip_prefix(pattern) {
            Some(rest) => rest.is_empty() || rest.starts_with("::"),
            None => false,
        },
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

// The repository keeps the rules.

#[track_caller]
fn holds(rule: Rule) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(root.join("src/lib.rs").exists(), "there is no source to check");
    let found = Tree::under(root, rule);
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn modules_use_only_what_lies_below_them() {
    holds(directions);
}

#[test]
fn external_crates_stay_behind_their_fences() {
    holds(fences);
}

#[test]
fn files_are_short() {
    holds(file_lengths);
}

#[test]
fn no_file_is_named_mod() {
    holds(mod_files);
}

#[test]
fn open_work_names_its_issue() {
    holds(markers);
}

#[test]
fn migrations_only_grow() {
    holds(migrations);
}

#[test]
fn tests_neither_sleep_nor_are_skipped() {
    holds(test_habits);
}

#[test]
fn the_top_level_holds_what_is_expected() {
    holds(top_level);
}

#[test]
fn local_links_lead_somewhere() {
    holds(links);
}

#[test]
fn promises_name_tests_that_exist() {
    holds(proofs);
}

#[test]
fn modules_say_what_they_own() {
    holds(module_docs);
}
