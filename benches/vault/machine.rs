//! Where and when something was measured.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// The machine, the day, and the versions of what takes part.
#[expect(clippy::disallowed_methods, reason = "a figure has a date")]
pub(crate) fn facts(h2load: Option<&str>) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let after = |text: &str, what: &str| {
        let line = text.lines().find(|line| line.starts_with(what)).unwrap_or_default();
        line.split_once(':').unwrap_or_default().1.trim().to_owned()
    };
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    json!({
        "date": jiff::Timestamp::now().to_string(),
        "cpu": after(&read("/proc/cpuinfo"), "model name"),
        "cores": read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
        "memory": after(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load_average": read("/proc/loadavg"),
        "debug_build": cfg!(debug_assertions),
        "versions": {
            "credvault": env!("CARGO_PKG_VERSION"),
            "rustc": rustc.unwrap_or_default(),
            "tonic": locked("tonic"),
            "rusqlite": locked("rusqlite"),
            "sqlite": rusqlite::version(),
            "h2load": h2load,
        },
    })
}

/// The version of a crate in the lock file.
fn locked(name: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let entry = format!("name = \"{name}\"\nversion = \"");
    let version = lock.split(&entry).nth(1).and_then(|rest| rest.split('"').next());
    version.unwrap_or_default().to_owned()
}
