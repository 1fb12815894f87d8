//! A panic in a call is that call's own: its caller gets a fixed text, everybody else goes on, and no secret is logged.

use std::collections::BTreeSet;

use credvault::grpc::proto::{
    CreateCredentialRequest, CreateProviderRequest, GetCredentialRequest,
};
use http::HeaderValue;
use prost::Message as _;

use crate::authorization::{rows, rpcs};
use crate::credentials::{create_with, set_password};
use crate::providers::{create_provider, update_token};
use crate::support::calls::Call;
use crate::support::process::Process;
use crate::support::raw::{Raw, answer, framed};

/// In every request that may carry a secret.
const SECRET: &str = "kanari-0123456789abcdef012345678";
const DESK: &str = "accounts/dev/credentials/desk";
const GET: &str = "/credvault.v1.CredentialService/GetCredential";

/// A call of an RPC, with a secret where there can be one.
fn call(method: &str) -> Call {
    let parent = "accounts/dev".to_owned();
    match method {
        "CreateCredential" => {
            CreateCredentialRequest { parent, ..create_with("alice", SECRET) }.into()
        }
        "UpdateCredential" => set_password(DESK, SECRET).into(),
        "CreateProvider" => {
            let auth_token = SECRET.to_owned();
            CreateProviderRequest { parent, auth_token, ..create_provider("main") }.into()
        }
        "UpdateToken" => update_token("accounts/dev/providers/main", SECRET).into(),
        _ => rows::row(method, "accounts/dev").unwrap().0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_panics_in_every_handler_harm_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::dev(dir.path(), &[("CREDVAULT_DEFECT", "panic-in-call")]);
    let desk = CreateCredentialRequest {
        parent: "accounts/dev".to_owned(),
        credential_id: "desk".to_owned(),
        ..create_with("bob", "a password of bob")
    };
    process.clients().create(desk).await.unwrap();
    let token = process.token();
    let connections =
        [Raw::connect(process.address, &token).await, Raw::connect(process.address, &token).await];
    // A hundred calls have begun, and wait for their own callers.
    let mut waiting = Vec::new();
    for number in 0..100 {
        let connection = &connections[number % 2];
        waiting.push(connection.start(connection.head(GET)).await);
    }

    let mut told = BTreeSet::new();
    for (number, rpc) in rpcs().into_iter().enumerate() {
        let connection = &connections[number % 2];
        let mut head = connection.head(&rpc.path);
        head.headers_mut().insert("x-panic", HeaderValue::from_static("yes"));
        let message = framed(&call(&rpc.method).encode());
        let answer = connection.try_call(head, message).await.unwrap();
        assert_eq!(answer.outcome, "Internal INTERNAL", "{}", rpc.method);
        told.insert(format!("{:?}", answer.bytes));
    }
    assert_eq!(told.len(), 1, "one fixed text: {told:?}");
    assert!(told.iter().all(|told| !told.contains("planted") && !told.contains(SECRET)));

    let message = framed(&GetCredentialRequest { name: DESK.to_owned() }.encode_to_vec());
    let finished = waiting.len();
    for (response, mut body) in waiting {
        body.send_data(message.clone().into(), true).unwrap();
        assert_eq!(answer(response).await.unwrap().outcome, "OK");
    }
    process.clients().get(DESK).await.unwrap();
    drop(connections);
    let log = process.log.clone();
    assert!(process.terminate().success());
    let log = std::fs::read_to_string(log).unwrap();
    let panics = log.lines().filter(|line| line.contains("panic") && line.contains("src/grpc.rs"));
    assert_eq!(panics.count(), rpcs().len(), "each says where it was: {log}");
    let holder = token.split('_').nth(2).unwrap();
    for secret in [SECRET, holder, "planted: "] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
    println!("{} panics, {finished} other calls finished", rpcs().len());
}
