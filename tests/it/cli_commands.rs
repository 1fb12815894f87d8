//! Every RPC has a command, which calls it and nothing else; and every command explains and completes itself.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use credvault::grpc::proto::DESCRIPTORS;
use prost_reflect::DescriptorPool;

use crate::operations::http::metrics;
use crate::operations::{LISTENS, until_ready, whole};
use crate::providers::{SID, TOKEN, TOKEN_2};
use crate::support::cli::{Ran, words as words_of};
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::process::{Process, credvault, run};

/// Each RPC and a command that calls it, in an order in which each finds what it needs. `TOKEN_ID` is that of the
/// token made last, `ROTATION` the newest rotation as listed, `PASSWORD` what was printed last before that, `KEY` the secret of an API key. What stands
/// behind `<` goes to standard input.
const COMMANDS: &[(&str, &str)] = &[
    ("CreateCredential", "credentials create desk-1 --username desk-1 --realm sip.test"),
    ("GetCredential", "credentials get desk-1"),
    ("ListCredentials", "credentials list"),
    ("UpdateCredential", "credentials update desk-1 --description desk"),
    ("RotateCredential", "credentials rotate desk-1 --require-confirmation --overlap 1h"),
    ("ListRotations", "rotations list --state holding"),
    ("GetRotation", "rotations show ROTATION"),
    ("CancelRotation", "rotations cancel ROTATION"),
    ("RotateCredential", "credentials rotate desk-1 --require-confirmation"),
    ("ListRotations", "rotations list desk-1"),
    ("ConfirmRotation", "rotations confirm credentials/ROTATION --password-file - < PASSWORD"),
    ("ListVersions", "credentials versions desk-1"),
    ("CreateProvider", "providers create main --account-sid SID < TOKEN"),
    (
        "CreateCredential",
        "credentials create pbx --username pbx --realm sip.test --provider main --twilio-credential LIST \
         --password-file - < PASSWORD",
    ),
    // The carrier does not answer, and the command says so.
    ("RotateCredential", "credentials rotate pbx"),
    ("ListRotations", "rotations list pbx"),
    ("ResumeRotation", "rotations resume ROTATION"),
    ("DeleteCredential", "credentials delete pbx"),
    ("WatchCredentials", "credentials watch --once"),
    ("CreateRecipientKey", "recipient-keys create ops --generate ops.key"),
    ("ListRecipientKeys", "recipient-keys list"),
    ("RevokeRecipientKey", "recipient-keys revoke ops"),
    ("UpdateDeliveryPolicy", "delivery-policy set --enrolled-keys-only true"),
    ("GetDeliveryPolicy", "delivery-policy get"),
    (
        "ComputeSipDigest",
        "credentials compute-digest desk-1 --method REGISTER --uri sip:sip.test --realm sip.test --nonce n",
    ),
    ("BatchVerifySipDigest", "credentials verify-digests - < BATCH"),
    ("IssueSipChallenge", "credentials issue-challenge --realm sip.test --algorithm SHA-256"),
    (
        "VerifySipDigest",
        "credentials verify-digest --username desk-1 --realm sip.test --method REGISTER --uri sip:sip.test \
         --nonce n --response 00000000000000000000000000000000",
    ),
    ("DeleteCredential", "credentials delete desk-1"),
    ("GetProvider", "providers get main"),
    ("ListProviders", "providers list"),
    ("UpdateProvider", "providers update main --display-name Main"),
    ("UpdateToken", "providers update-token main < TOKEN_2"),
    ("RotateToken", "providers rotate-token main --yes"),
    ("ListRotations", "rotations list providers/main"),
    ("GetRotation", "rotations show ROTATION"),
    ("CancelRotation", "rotations cancel ROTATION"),
    ("VerifyProvider", "providers verify main"),
    (
        "VerifyTwilioWebhook",
        "webhooks verify main --url https://example.com/ --field a=b --signature x",
    ),
    ("ListVerifications", "providers history main"),
    (
        "CreateProvider",
        "providers create keyed --account-sid SID --api-key-sid SK11111111111111111111111111111111 < KEY",
    ),
    ("UpdateAccessTokenPolicy", "access-token-policy set --grant video --max-lifetime 1h"),
    ("GetAccessTokenPolicy", "access-token-policy get"),
    ("MintTwilioAccessToken", "access-tokens mint keyed --identity alice --video"),
    ("DeleteProvider", "providers delete main"),
    ("ListAuditEntries", "audit list"),
    ("CreateAccount", "accounts create acme"),
    ("GetAccount", "accounts get acme"),
    ("ListAccounts", "accounts list"),
    ("CreateApiToken", "tokens create --role reader"),
    ("GetApiToken", "tokens get TOKEN_ID"),
    ("ListApiTokens", "tokens list"),
    ("SetRoleBinding", "roles set token:TOKEN_ID --role auditor"),
    ("ListRoleBindings", "roles list"),
    ("DeleteRoleBinding", "roles delete token:TOKEN_ID"),
    ("RevokeApiToken", "tokens revoke TOKEN_ID"),
    ("EnableAccount", "accounts enable acme"),
    ("DisableAccount", "accounts disable acme"),
    ("DeleteAccount", "accounts delete acme"),
];

/// Methods of the contract that no command calls.
fn without_command(commands: &[(&str, &str)]) -> BTreeSet<String> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let services = pool.services().filter(|service| service.package_name() == "credvault.v1");
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let mut methods: BTreeSet<String> = methods.map(|method| method.name().to_owned()).collect();
    assert!(methods.len() > 20, "{methods:?}");
    methods.retain(|method| commands.iter().all(|(known, _)| known != method));
    methods
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_has_a_command_that_calls_it_once() {
    assert_eq!(without_command(COMMANDS), BTreeSet::new(), "these RPCs have no command");
    let dir = tempfile::tempdir().unwrap();
    let twilio = FakeTwilio::start().await;
    twilio.add_account(SID, TOKEN);
    let (list, credential) = (format!("CL{}", "1".repeat(32)), format!("CR{}", "2".repeat(32)));
    twilio.add_sip_credential(SID, &list, (&credential, "pbx", "First-Passw0rd"));
    twilio
        .set_path_fault(&format!("POST /2010-04-01/Accounts/{SID}/SIP"), Some(Fault::Status(503)));
    let list = format!("{list}/{credential}");
    let url = twilio.url();
    let dev = Process::dev(dir.path(), &[LISTENS, ("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url)]);
    let operations = dev.operations();
    until_ready(operations).await;
    let calls = async |method: &str| {
        // Who has heard enough of a watch cancels it.
        let code = if method == "WatchCredentials" { "Canceled" } else { "OK" };
        let labels = [("grpc_method", method), ("grpc_code", code)];
        let metrics = metrics(operations).await;
        let of = |kind| metrics.value("grpc_server_handled_total", &[("grpc_type", kind)]);
        let all = of("unary") + of("server_stream");
        (whole(metrics.value("grpc_server_handled_total", &labels)), whole(all))
    };
    let (mut token_id, mut rotation, mut password) = <(String, String, String)>::default();
    for (method, words) in COMMANDS {
        let words = words.replace("TOKEN_ID", &token_id).replace("SID", SID).replace("LIST", &list);
        let words = words.replace("ROTATION", &rotation);
        let (words, input) = words.split_once(" < ").unwrap_or((&words, ""));
        let input = match input {
            "TOKEN_2" => {
                twilio.set_token(SID, TOKEN_2);
                TOKEN_2
            }
            "TOKEN" => TOKEN,
            "KEY" => {
                twilio.add_api_key(SID, &format!("SK{}", "1".repeat(32)), TOKEN);
                TOKEN
            }
            "PASSWORD" => &password,
            "BATCH" => "{\"username\": \"desk-1\"}\n\n{\"username\": \"desk-2\"}\n",
            none => none,
        };
        let before = calls(method).await;
        let mut command = credvault(words.split_whitespace());
        command.current_dir(dir.path()).env("CREDVAULT_ADDRESS", dev.address.to_string());
        let ran = Ran::with_input(command, input);
        // What is checked is wrong, and the command says so.
        let wrong = method.ends_with("VerifySipDigest") || *method == "VerifyTwilioWebhook";
        let expected = wrong || words == "credentials rotate pbx";
        ran.says(i32::from(expected), &[]);
        let expected = (before.0 + 1, before.1 + 1);
        let mut after = calls(method).await;
        while *method == "WatchCredentials" && after == before {
            // Its connection is gone, which the server has yet to see.
            after = calls(method).await;
        }
        assert_eq!(after, expected, "{method}: {words}: {ran:?}");
        match *method {
            "CreateApiToken" => ran.out.split('_').nth(1).unwrap().clone_into(&mut token_id),
            "RotateCredential" => password = ran.out,
            "ListRotations" => {
                ran.out
                    .lines()
                    .nth(1)
                    .map_or("", |line| words_of(line)[0])
                    .clone_into(&mut rotation);
            }
            _ => {}
        }
    }
    drop(dev);
}

#[test]
fn planted_rpc_without_a_command_is_found() {
    let (last, others) = COMMANDS.split_last().unwrap();
    assert_eq!(without_command(others).into_iter().collect::<Vec<_>>(), [last.0]);
}

/// The sub-commands that a help text lists.
fn listed(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[test]
fn every_command_explains_itself_and_is_in_the_scripts_for_shells() {
    let bash = run(["completions", "bash"]);
    assert!(bash.status.success() && bash.stderr.is_empty(), "{bash:?}");
    let bash = String::from_utf8(bash.stdout).unwrap();
    let help = |words: &[&str]| {
        let ran = Ran::from(run([words, &["--help"]].concat()));
        ran.says(0, &["Usage: credvault"]);
        ran.out
    };
    let top = help(&[]);
    assert!(top.contains("Exit status:\n  0  it is done"), "{top}");
    let mut leaves = 0;
    for command in listed(&top) {
        let told = help(&[command]);
        let in_bash = format!("credvault__subcmd__{}", command.replace('-', "__subcmd__"));
        assert!(bash.contains(&in_bash), "{command}");
        for leaf in listed(&told) {
            let told = help(&[command, leaf]);
            assert!(told.contains("--token-file") && told.contains("--profile"), "{told}");
            let case = format!("{in_bash},{leaf})");
            assert!(bash.contains(&case), "{case}");
            leaves += 1;
        }
        let has_commands = told.contains("\nCommands:");
        assert!(!has_commands || told.contains("Examples:"), "{command}");
    }
    let methods: BTreeSet<_> = COMMANDS.iter().map(|(method, _)| method).collect();
    assert!(leaves >= methods.len(), "{leaves}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = Ran::from(run(["completions", shell]));
        script.says(0, &["credentials", "verify-digest", "token-file"]);
    }
}

#[test]
fn the_script_for_bash_is_one_that_bash_takes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("script"), run(["completions", "bash"]).stdout).unwrap();
    let asked = "source ./script; COMP_WORDS=(credvault creden); COMP_CWORD=1; \
                 _credvault credvault creden credvault; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", asked]).current_dir(dir.path());
    let ran = Ran::from(bash.output().unwrap());
    assert_eq!((ran.status, ran.out.trim()), (0, "credentials"), "{ran:?}");
}

#[test]
fn colours_are_for_terminals_unless_somebody_asks() {
    let list = || {
        let mut command = credvault(["credentials", "list", "--address", "127.0.0.1:1"]);
        command.env("CREDVAULT_TOKEN", "x").env("CREDVAULT_ACCOUNT", "acme");
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command
    };
    let is_coloured =
        |mut command: Command| Ran::from(command.output().unwrap()).err.contains('\u{1b}');
    assert!(!is_coloured(list()));
    let mut forced = list();
    forced.env("CLICOLOR_FORCE", "1");
    assert!(is_coloured(forced));
    let mut refused = list();
    refused.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert!(!is_coloured(refused));
}
