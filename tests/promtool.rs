//! Holds what the release binary tells Prometheus, and the examples of the manual, to Prometheus' own tool.
//!
//! Not part of `cargo test`: it wants a build and tools. `.ci/run` makes and installs them and names
//! them in `CREDVAULT_BIN`, `GRPCURL` and `PROMTOOL`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should stop there"
)]

#[path = "grpcurl/server.rs"]
#[expect(dead_code, reason = "a few calls are enough here")]
mod server;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use server::{Outcome, OutputOf as _, Server, named, read, text};

fn promtool(arguments: &[&str], input: &str) -> Outcome {
    Command::new(named("PROMTOOL")).args(arguments).output_of(input)
}

/// What `/metrics` answers, at the address that the log names.
fn metrics(log: &Path) -> String {
    let log = read(log);
    let line = log.lines().find(|line| line.contains("operations listener")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let mut stream = TcpStream::connect(text(&line["address"])).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: vault\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

#[test]
fn the_metrics_are_clean() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[("CREDVAULT_OPS_LISTEN", "127.0.0.1:0")]);
    let credential = json!({"username": "alice", "realm": "sip.example.com"});
    let request = json!({"parent": "accounts/dev", "credential": credential});
    server.ask("credvault.v1.CredentialService", "CreateCredential", &request).answer();
    server.ask("credvault.v1.CredentialService", "CreateCredential", &request).refusal();
    let metrics = metrics(&dir.path().join("credvault.log"));
    for line in [
        r#"grpc_code="AlreadyExists",grpc_method="CreateCredential",grpc_service="credvault.v1.CredentialService",grpc_type="unary"} 1"#,
        "credvault_build_info{version=",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let checked = promtool(&["check", "metrics"], &metrics);
    assert!(checked.status.success() && checked.both().is_empty(), "{}", checked.both());
    server.stop();
}

// Series that come twice it does not notice; `operations::exposition` in tests/it does.
#[test]
fn planted_mistakes_are_found() {
    for bad in [
        "# HELP a One.\n# TYPE a counter\na 1\n",
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a_total One.\n# TYPE a_total counter\na_total one\n",
    ] {
        assert!(!promtool(&["check", "metrics"], bad).status.success(), "{bad}");
    }
}

#[test]
fn the_examples_of_the_manual_are_valid() {
    let manual = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md"));
    let dir = tempfile::tempdir().unwrap();
    for (begins, check) in [("groups:", "rules"), ("scrape_configs:", "config")] {
        let mut blocks = manual.split("```yaml\n").skip(1);
        let block = blocks.find(|block| block.starts_with(begins)).unwrap();
        let example = block.split_once("```").unwrap().0;
        let file = dir.path().join(format!("{check}.yaml"));
        fs::write(&file, example).unwrap();
        let checked = promtool(&["check", check, file.to_str().unwrap()], "");
        assert!(checked.status.success(), "{}", checked.both());
    }
}
