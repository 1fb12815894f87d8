//! `credvault audit`: what it lists, and that a chain that somebody changed is found.

use std::process::Command;

use credvault::access::Role;

use crate::credentials::create;
use crate::support::TestVault;
use crate::support::cli::{Ran, words};
use crate::support::database::tamper;
use crate::support::process::credvault;

const OURS: &str = "WHERE chain <> zeroblob(16) AND sequence";

fn command(vault: &TestVault, token: &str, words: &str) -> Command {
    let mut command = credvault(["audit"]);
    command.args(words.split(' ')).env("CREDVAULT_ADDRESS", vault.address.to_string());
    command.env("CREDVAULT_TOKEN", token).env("CREDVAULT_ACCOUNT", "acme");
    command
}

fn run(vault: &TestVault, token: &str, words: &str) -> Ran {
    Ran::from(command(vault, token, words).output().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_shows_who_did_what() {
    let vault = TestVault::start().await;
    let auditor = vault.token("acme", &[Role::Auditor]).await;
    run(&vault, &auditor, "list").says(0, &["Nothing has happened in accounts/acme yet"]);
    let acme = vault.acme().await;
    for number in 0..3 {
        acme.create(create(&format!("user{number}"))).await.unwrap();
    }
    let list = run(&vault, &auditor, "list");
    list.says(0, &[]);
    let lines: Vec<&str> = list.out.lines().collect();
    assert_eq!(
        words(lines[0])[..6],
        ["SEQUENCE", "TIME", "PRINCIPAL", "METHOD", "RESOURCE", "OUTCOME"]
    );
    let first = words(lines[1]);
    assert_eq!((first[0], first[1], first[3]), ("1", "2026-05-01T12:00:00Z", "CreateCredential"));
    assert!(first[4].starts_with("accounts/acme/credentials/") && first[5] == "OK", "{first:?}");
    let cut = run(&vault, &auditor, "list --limit 2");
    cut.says(0, &["There are more than 2; --limit 0"]);
    assert_eq!(cut.out.lines().count(), 3, "{cut:?}");
    let exact = run(&vault, &auditor, "list --limit 3 --output json");
    assert_eq!((exact.json()["entries"].as_array().unwrap().len(), exact.err.as_str()), (3, ""));
    let one = run(&vault, &auditor, &format!("list --resource {}", first[4]));
    assert_eq!(one.out.lines().count(), 2, "{one:?}");
    run(&vault, &auditor, "list --resource user1")
        .says(0, &["is about user1. The whole name is needed", "accounts/acme/credentials/"]);
    for (last, numbers) in [("0", &[][..]), ("2", &["2", "3"]), ("9", &["1", "2", "3"])] {
        let json = run(&vault, &auditor, &format!("list --last {last} --output json")).json();
        let entries = json["entries"].as_array().unwrap();
        let found: Vec<&str> = entries.iter().map(|it| it["sequence"].as_str().unwrap()).collect();
        assert_eq!(found, numbers, "the newest {last}");
    }

    let reader = vault.token("acme", &[Role::Reader]).await;
    let make = "`credvault tokens create --account acme --role auditor`";
    run(&vault, &reader, "list").says(1, &["ROLE_MISSING", make]);
    let make = "`credvault tokens create --role operator`";
    let mut of_vault = command(&vault, &auditor, "list --vault");
    of_vault.env_remove("CREDVAULT_ACCOUNT");
    Ran::from(of_vault.output().unwrap()).says(1, &["ROLE_MISSING", make]);
    run(&vault, &auditor, "list --account other").says(1, &["NOT_FOUND", "--account"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_whole_until_somebody_changes_it() {
    let vault = TestVault::start().await;
    let admin = vault.token("acme", &[Role::AccountAdmin]).await;
    vault.make_operator(&admin).await;
    run(&vault, &admin, "verify").says(0, &["accounts/acme: the chain is whole, 0 entries"]);
    let acme = vault.acme().await;
    // More than a page.
    for number in 0..203 {
        acme.create(create(&format!("user{number}"))).await.unwrap();
    }
    let whole = run(&vault, &admin, "verify");
    whole.says(0, &["accounts/acme: the chain is whole, 203 entries", "--noted 203:"]);
    let noted = whole.out.split_whitespace().last().unwrap().to_owned();
    run(&vault, &admin, &format!("verify --noted {noted}")).says(0, &[]);
    let later = format!("verify --noted {}", noted.replace("203:", "204:"));
    run(&vault, &admin, &later).says(1, &["entry 204 is not there"]);
    let other = format!("verify --noted {}", noted.replace("203:", "7:"));
    run(&vault, &admin, &other).says(1, &["entry 7 is not the one that you noted"]);
    run(&vault, &admin, "verify --noted 7").says(2, &["NUMBER:HASH"]);
    let json = run(&vault, &admin, "verify --output json").json();
    assert_eq!((json["entries"].as_u64(), json["problem"].is_null()), (Some(203), true), "{json}");
    let mut of_vault = command(&vault, &admin, "verify --vault");
    of_vault.env_remove("CREDVAULT_ACCOUNT");
    Ran::from(of_vault.output().unwrap()).says(0, &["vault: the chain is whole"]);

    // An end that is cut off is whole in itself: only what was noted tells.
    tamper(&vault.database(), &format!("DELETE FROM audit_entry {OURS} = 203"));
    let vault = vault.restart().await;
    run(&vault, &admin, "verify").says(0, &["202 entries"]);
    run(&vault, &admin, &format!("verify --noted {noted}")).says(1, &["entry 203 is not there"]);
    tamper(&vault.database(), &format!("UPDATE audit_entry SET reason = 'x' {OURS} = 201"));
    let vault = vault.restart().await;
    let says =
        ["the chain of accounts/acme is broken: entry 201 is not what was written", "backup"];
    run(&vault, &admin, "verify").says(1, &says);
    let json = run(&vault, &admin, "verify --output json");
    assert_eq!(json.status, 1);
    assert_eq!(json.json()["problem"], "entry 201 is not what was written");
    tamper(&vault.database(), &format!("DELETE FROM audit_entry {OURS} = 1"));
    let vault = vault.restart().await;
    run(&vault, &admin, "verify").says(1, &["entry 1 is not there, and 2 in its place"]);

    // Who could not ask knows nothing.
    let reader = vault.token("acme", &[Role::Reader]).await;
    run(&vault, &reader, "verify").says(2, &["ROLE_MISSING"]);
    let mut nobody = command(&vault, &admin, "verify");
    nobody.env("CREDVAULT_ADDRESS", "127.0.0.1:1");
    Ran::from(nobody.output().unwrap()).says(2, &["no vault answers"]);
}
