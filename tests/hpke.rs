//! Sealed secrets as other people's libraries open them: pyhpke and `@hpke/core`, from what grpcurl prints.
//!
//! Not part of `cargo test`: it wants a build and tools. `.ci/run` makes and installs them and names them in
//! `CREDVAULT_BIN`, `GRPCURL`, `HPKE_PYTHON` (a Python that has pyhpke), `NODE` and `NODE_FOLDER` (the folder whose
//! `node_modules` has `@hpke/core`).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that meets the unexpected should stop there"
)]

#[path = "grpcurl/server.rs"]
#[expect(dead_code, reason = "one call is enough here")]
mod server;

use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use credvault::crypto::delivery::PrivateKey;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use server::{OutputOf as _, Server, named, text, variable};

const SEALED: usize = 20;
const CREDENTIALS: &str = "credvault.v1.CredentialService";

/// A sealed secret of a call, with the private key that opens it, as a line of JSON.
fn line(key: &PrivateKey, answer: &Value) -> String {
    let private = hex::encode(key.as_bytes());
    format!("{}\n", json!({ "privateKey": private, "sealed": answer["sealed"] }))
}

/// Whether the vault takes this for the password of `user`.
fn verifies(server: &Server, user: &str, password: &str) -> bool {
    let hex = |text: String| hex::encode(Md5::digest(text.as_bytes()));
    let ha1 = hex(format!("{user}:sip.test:{password}"));
    let response = hex(format!("{ha1}:n:{}", hex("REGISTER:sip:sip.test".to_owned())));
    let request = json!({
        "parent": "accounts/dev", "username": user, "realm": "sip.test", "method": "REGISTER",
        "uri": "sip:sip.test", "nonce": "n", "response": response,
    });
    server.ask("credvault.v1.UseService", "VerifySipDigest", &request).answer()["valid"] == true
}

#[test]
fn pyhpke_and_hpke_core_open_what_the_vault_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (mut lines, mut users, mut last) = (String::new(), Vec::new(), Vec::new());
    for number in 0..SEALED {
        let user = format!("user-{number}");
        let key = PrivateKey::generate().unwrap();
        let public = BASE64_STANDARD.encode(key.public_key().unwrap().as_bytes());
        let recipient = json!({ "hpkePublicKey": public });
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let create = json!({
            "parent": "accounts/dev", "credentialId": user, "recipient": recipient,
            "credential": { "username": user, "realm": "sip.test" },
        });
        let rotate = json!({
            "name": format!("accounts/dev/credentials/{user}"), "recipient": recipient,
            "requestId": id, "overlap": "3600s",
        });
        // Those that are created have no request id, and the field is not there at all.
        let created = server.ask(CREDENTIALS, "CreateCredential", &create).answer();
        let rotated = server.ask(CREDENTIALS, "RotateCredential", &rotate).answer();
        let again = server.ask(CREDENTIALS, "RotateCredential", &rotate).answer();
        assert_eq!(again["sealed"], rotated["sealed"], "byte for byte");
        assert!(created["issued"].is_null() && rotated["issued"].is_null());
        lines.extend([line(&key, &created), line(&key, &rotated)]);
        users.extend([user.clone(), user]);
        last = vec![text(&rotated["sealed"]["ciphertext"])];
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hpke/");
    let mut python = Command::new(named("HPKE_PYTHON"));
    python.arg(format!("{folder}open.py"));
    let mut node = Command::new(named("NODE"));
    node.arg(format!("{folder}open.mjs")).env("NODE_FOLDER", variable("NODE_FOLDER"));
    let mut opened = Vec::new();
    for (peer, mut command) in [("pyhpke", python), ("@hpke/core", node)] {
        let ran = command.output_of(&lines);
        assert!(ran.status.success(), "{peer}: {}", ran.both());
        let passwords: Vec<_> = ran.both().lines().map(str::to_owned).collect();
        assert_eq!(passwords.len(), 2 * SEALED, "{peer}: {}", ran.both());
        for (user, password) in users.iter().zip(&passwords) {
            assert!(verifies(&server, user, password), "{peer}: {user}");
        }
        println!("{peer} opened {} sealed secrets", passwords.len());
        opened.push(passwords);
    }
    assert_eq!(opened[0], opened[1]);

    // What is bound to it cannot be changed: both say so.
    let changed = lines.lines().last().unwrap().replace("user-19", "user-18");
    assert!(changed.contains(&last[0]) && !lines.contains(&changed));
    let mut python = Command::new(named("HPKE_PYTHON"));
    let ran = python.arg(format!("{folder}open.py")).output_of(&format!("{changed}\n"));
    assert!(!ran.status.success(), "{}", ran.both());
    server.stop();
}
