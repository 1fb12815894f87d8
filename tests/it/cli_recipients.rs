//! `credvault recipient-keys`, `delivery-policy`, `open` and `rotations`: passwords that only their recipient opens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use credvault::access::Role;
use serde_json::Value;

use crate::cli_rotations::Desk;
use crate::support::cli::{Ran, words};

/// The words of a table's lines.
fn table(ran: &Ran) -> Vec<Vec<&str>> {
    ran.out.lines().map(words).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_enrolled_listed_and_revoked_and_its_private_half_stays_with_its_owner() {
    let mut desk = Desk::start().await;
    let nothing = desk.run("recipient-keys list");
    nothing.says(0, &["no recipient key in accounts/acme yet", "create ops --generate ops.key"]);
    let made = desk.run("recipient-keys create ops --generate ops.key --display-name Ops");
    made.says(
        0,
        &["accounts/acme/recipientKeys/ops", "Its private key is in ops.key, for you alone"],
    );
    let private = desk.own("ops.key");
    assert_eq!(private.len(), 44);
    assert!(!made.out.contains(&private) && !made.err.contains(&private), "{made:?}");
    // What is there is not overwritten, whatever becomes of the call.
    for typed in ["create ops", "create two"] {
        let again = desk.run(&format!("recipient-keys {typed} --generate ops.key"));
        again.says(1, &["cannot make ops.key; name another file with --generate"]);
    }
    assert_eq!(desk.own("ops.key"), private);
    desk.run("recipient-keys create ops --generate x.key").says(1, &["ALREADY_EXISTS"]);
    assert!(!desk.path("x.key").exists(), "no key is left that is not enrolled");

    // The public key in its file's form is what is shown.
    let shown = made.out.lines().find_map(|line| line.strip_prefix("public_key "));
    fs::write(desk.path("ops.pub"), shown.unwrap().trim()).unwrap();
    desk.run("recipient-keys create again --public-key-file ops.pub")
        .says(0, &["recipientKeys/again"]);
    let piped = desk.command("recipient-keys create --public-key-file - --output json");
    let piped = Ran::with_input(piped, &format!("{}\n", shown.unwrap().trim()));
    assert_eq!(piped.json()["recipientKey"]["publicKey"], shown.unwrap().trim());
    for bad in ["", "AAAA", &private[1..], "not base64, which a key is, of 44 characters"] {
        fs::write(desk.path("bad"), bad).unwrap();
        let ran = desk.run("recipient-keys create --public-key-file bad");
        ran.says(1, &["bad holds no public key", "44 characters"]);
    }
    desk.run("recipient-keys create").says(2, &["--public-key-file"]);
    desk.run("recipient-keys create --generate a --public-key-file ops.pub")
        .says(2, &["cannot be used with"]);

    let revoked = desk.run("recipient-keys revoke again --reason lost");
    revoked
        .says(0, &["accounts/acme/recipientKeys/again is revoked", "Rotate what its holder has"]);
    assert_eq!(revoked.out, "");
    let listed = desk.run("recipient-keys list");
    let rows = table(&listed);
    let header = ["ID", "DISPLAY NAME", "CREATE TIME", "REVOKE TIME", "PUBLIC KEY SHA256"];
    let now = "2026-05-01T12:00:00Z";
    assert_eq!((rows.len(), &rows[0][..]), (4, &header[..]));
    assert_eq!(
        (&rows[1][..4], &rows[2][..4]),
        (&["again", "-", now, now][..], &["ops", "Ops", now, "-"][..])
    );
    assert_eq!(rows[1][4], rows[2][4], "one key");
    desk.run("recipient-keys revoke none")
        .says(1, &["NOT_FOUND", "`credvault recipient-keys list`"]);
    desk.run("recipient-keys revoke Ops").says(1, &["3 to 63", "`credvault recipient-keys list`"]);
    desk.token = desk.vault.token("acme", &[Role::Rotator]).await;
    desk.run("recipient-keys create --generate y.key")
        .says(1, &["ROLE_MISSING", "--role account-admin`"]);
    assert!(!desk.path("y.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_opens_offline_for_its_recipient_alone() {
    let desk = Desk::start().await;
    for key in ["ops", "bob"] {
        desk.run(&format!("recipient-keys create {key} --generate {key}.key")).says(0, &[]);
    }
    let create = "credentials create desk-2 --username desk-2 --realm sip.test --recipient-key ops --out created.json";
    desk.run(create)
        .says(0, &["desk-2: version 1, sealed", "It is in created.json, for you alone"]);
    let created = desk.own("created.json");
    let ran = desk.run("credentials rotate desk-1 --recipient-key ops --request-id 3f2b0c9e-8a1d-4c55-9d0e-2f6a7b8c9d10");
    let (rotation, _) = desk.newest();
    ran.says(
        0,
        &["desk-1: version 2, sealed; `credvault open`", &format!("rotations show {rotation}`")],
    );
    let again = desk.run("credentials rotate desk-1 --recipient-key ops --request-id 3f2b0c9e-8a1d-4c55-9d0e-2f6a7b8c9d10");
    assert_eq!(ran.out, again.out, "the same bytes");
    fs::write(desk.path("sealed.json"), &ran.out).unwrap();

    // Without a vault, a token or an account.
    let open = |typed: &str| {
        let mut command = desk.command(typed);
        command.env_clear();
        Ran::from(command.output().unwrap())
    };
    let opened = open("open sealed.json --key-file ops.key");
    opened.says(0, &["accounts/acme/credentials/desk-1: version 2"]);
    let password = opened.out.trim_end().to_owned();
    assert_eq!(desk.takes([&desk.first, &password]), [false, true]);
    open("open created.json --key-file ops.key --out opened")
        .says(0, &["It is in opened, for you alone"]);
    let other = desk.own("opened");
    assert!(other.len() == 24 && other != password && !created.contains(&other));
    let json = open("open sealed.json --key-file ops.key --output json").json();
    assert_eq!(json, serde_json::json!({ "password": password, "version": "2" }));
    // Whole answers open as well, from a file or piped in.
    let whole = desk.run(&format!("rotations show {rotation} --output json"));
    let piped = Ran::with_input(desk.command("open - --key-file ops.key"), &whole.out);
    assert_eq!(piped.out.trim_end(), password);
    let answer = desk.run(
        "credentials rotate desk-1 --recipient-key accounts/acme/recipientKeys/bob --output json",
    );
    assert!(answer.json().get("issued").is_none(), "{answer:?}");
    let piped = Ran::with_input(desk.command("open - --key-file bob.key"), &answer.out);
    let newest = piped.says(0, &["version 3"]).out.trim_end().to_owned();
    assert_eq!(desk.takes([&password, &newest]), [false, true]);

    // Another's key, another's file, and what was changed.
    open("open sealed.json --key-file bob.key")
        .says(1, &["sealed.json: it is sealed for another key"]);
    open("open missing --key-file ops.key").says(1, &["cannot read missing"]);
    open("open ops.key --key-file ops.key").says(1, &["ops.key: it is no JSON"]);
    open("open sealed.json --key-file sealed.json").says(1, &["others may read it", "chmod 600"]);
    open("open sealed.json --key-file created.json")
        .says(1, &["created.json holds no private key", "44 characters"]);
    let sealed: Value = serde_json::from_str(&ran.out).unwrap();
    for (field, other) in [
        ("version", Value::from("3")),
        ("credential", Value::from("accounts/acme/credentials/desk-2")),
        ("requestId", Value::from("")),
        ("expireTime", Value::from("2026-05-01T12:15:01Z")),
        ("ciphertext", Value::from("AAAA")),
    ] {
        let mut changed = sealed.clone();
        changed[field] = other;
        let ran = Ran::with_input(desk.command("open - --key-file ops.key"), &changed.to_string());
        ran.says(1, &["standard input: it does not open"]);
        assert_eq!(ran.out, "");
    }
    let plain = desk.run("credentials rotate desk-1 --output json");
    let none = Ran::with_input(desk.command("open - --key-file ops.key"), &plain.out);
    none.says(1, &["it has no sealed secret", "no recipient was named"]);
    let issued = plain.json()["issued"]["password"].as_str().unwrap().to_owned();
    assert!(!none.err.contains(&issued), "{none:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolled_key_is_found_by_its_private_half_and_a_policy_wants_one() {
    let desk = Desk::start().await;
    desk.run("delivery-policy get").says(0, &["enrolled_keys_only  false"]);
    desk.run("delivery-policy set").says(2, &["--enrolled-keys-only"]);
    let set =
        desk.run("delivery-policy set --enrolled-keys-only true --reason quiet --output json");
    assert_eq!(set.json()["deliveryPolicy"]["enrolledKeysOnly"], true);
    desk.run("delivery-policy get").says(0, &["accounts/acme/deliveryPolicy", "true"]);
    let create = "credentials create desk-2 --username desk-2 --realm sip.test";
    for typed in ["rotate desk-1 --out x", "credentials rotate desk-1", create] {
        let ran = desk.run(typed);
        ran.says(1, &["RECIPIENT_KEY_REQUIRED", "`credvault recipient-keys list`", "--key-file"]);
        assert!(ran.out.is_empty() && !desk.path("x").exists(), "{ran:?}");
    }
    for key in ["ops", "bob", "old"] {
        desk.run(&format!("recipient-keys create {key} --generate {key}.key")).says(0, &[]);
    }
    desk.run("recipient-keys revoke old").says(0, &[]);
    let ran = desk.run("rotate desk-1 --key-file ops.key --out new.password");
    ran.says(0, &["version 2, confirmed"]);
    let password = desk.own("new.password");
    assert_eq!(desk.takes([&desk.first, &password]), [false, true]);
    let ran = desk.run("rotate desk-1 --key-file bob.key --recipient-key bob -- cat > got; exit 1");
    ran.says(1, &["the old one is dead", "`credvault rotate --resume desk-1.rotation -- COMMAND`"]);
    let state = desk.own("desk-1.rotation");
    assert!(state.contains("bob.key") && !state.contains(&desk.own("bob.key")), "{state}");
    fs::rename(desk.path("bob.key"), desk.path("moved.key")).unwrap();
    desk.run("rotate --resume desk-1.rotation")
        .says(1, &["bob.key", "--key-file names another place"]);
    let ran = desk.run("rotate --resume desk-1.rotation --key-file moved.key");
    assert_eq!(
        ran.says(0, &["version 3"]).out.trim_end(),
        fs::read_to_string(desk.path("got")).unwrap()
    );

    // What does not fit is noticed before anything is sealed.
    desk.run("recipient-keys create --generate x.key").says(0, &[]);
    for (typed, says) in [
        ("--key-file ops.key --recipient-key bob", "not that of accounts/acme/recipientKeys/bob"),
        ("--key-file ops.key --recipient-key none", "there is no accounts/acme/recipientKeys/none"),
        ("--key-file old.key", "recipientKeys/old is revoked"),
        ("--key-file old.key --recipient-key old", "recipientKeys/old is revoked"),
        ("--key-file new.password", "holds no private key"),
    ] {
        desk.run(&format!("rotate desk-1 {typed}")).says(1, &[says]);
    }
    fs::write(desk.path("x.key"), format!("{}=", "A".repeat(43))).unwrap();
    desk.run("rotate desk-1 --key-file x.key")
        .says(1, &["is not enrolled", "--public-key-file FILE` enrolls"]);
    desk.run("rotate desk-1 --recipient-key bob").says(2, &["--key-file"]);
    desk.run("credentials rotate desk-1 --recipient-key old")
        .says(1, &["INVALID_STATE", "revoked"]);
    desk.run("credentials get desk-1").says(0, &["version      3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_are_listed_shown_confirmed_and_cancelled() {
    let desk = Desk::start().await;
    desk.run("rotations list")
        .says(0, &["There is none of accounts/acme", "credentials versions ID"]);
    let rotated = desk
        .run("credentials rotate desk-1 --require-confirmation --overlap 1d --out new.password");
    let (rotation, state) = desk.newest();
    let confirm = format!("`credvault rotations confirm {rotation} --password-file FILE`");
    rotated.says(0, &["version 2", "Both passwords work until", &confirm]);
    let new = desk.own("new.password");
    assert_eq!((state.as_str(), desk.takes([&desk.first, &new])), ("holding", [true, true]));

    let listed = desk.run("rotations list --state holding");
    let rows = table(&listed);
    let header = ["ID", "STATE", "VERSION", "CREATE TIME", "EXPIRE TIME", "END TIME"];
    let now = "2026-05-01T12:00:00Z";
    assert_eq!(rows, [&header[..], &[rotation.as_str(), "holding", "2", now, "-", "-"][..]]);
    desk.run("rotations list desk-1 --state cancelled")
        .says(0, &["No rotation of", "is cancelled"]);
    desk.run("rotations list desk-2").says(1, &["NOT_FOUND", "`credvault credentials list`"]);
    desk.run("rotations list --state done").says(2, &["needs-attention"]);
    let shown = desk.run(&format!("rotations show {rotation}"));
    let step =
        format!("step                  {now}  the new password is stored beside the active one");
    shown.says(
        0,
        &["overlap               24h", "sealed secret         not there", &step, &confirm],
    );
    let id = rotation.split_once('/').unwrap().1;
    for name in [
        format!("credentials/desk-1/rotations/{id}"),
        format!("accounts/acme/credentials/desk-1/rotations/{id}"),
    ] {
        assert_eq!(desk.run(&format!("rotations show {name}")).out, shown.out);
    }
    for odd in [id, "desk-1", "desk-1/1", "credentials/desk-1"] {
        desk.run(&format!("rotations show {odd}"))
            .says(1, &[&format!("which rotation is {odd}?"), "desk-1/x0198"]);
    }
    desk.run("rotations show desk-1/x1a").says(1, &["NOT_FOUND", "`credvault rotations list`"]);

    // It wants a proof that the new password arrived.
    desk.run(&format!("rotations confirm {rotation}"))
        .says(1, &["proof is required", "--password-file FILE"]);
    let wrong = desk.command(&format!("rotations confirm {rotation} --password-file -"));
    Ran::with_input(wrong, &desk.first).says(1, &["proof must be", "That is not the new password"]);
    assert_eq!(desk.newest().1, "holding");
    let done = desk.run(&format!("rotations confirm {rotation} --password-file new.password"));
    done.says(0, &["succeeded", "its recipient has it"]);
    assert!(!done.out.contains(&new) && !done.err.contains(&new), "{done:?}");
    desk.run(&format!("rotations cancel {rotation}")).says(1, &["INVALID_STATE", "rotate again"]);

    let lost = desk.run("credentials rotate desk-1 --require-confirmation");
    let lost = lost.says(0, &[]).out.trim_end();
    let cancel = desk.run(&format!("rotations cancel {} --output json", desk.newest().0));
    assert_eq!(cancel.json()["rotation"]["state"], "ROTATION_STATE_CANCELLED");
    assert_eq!(desk.takes([&desk.first, &new, lost]), [true, true, false]);
    let versions = desk.run("credentials versions desk-1");
    let rows = table(&versions);
    let header = "VERSION, STATE, CREATE TIME, RETIRE TIME, DESTROY TIME, LAST SUCCESS TIME, SUCCESS COUNT, FAILURE COUNT";
    assert_eq!((rows[0].join(", ").as_str(), rows.len()), (header, 4));
    let tomorrow = "2026-05-02T12:00:00Z";
    let state = |row: usize| rows[row][..5].to_vec();
    assert_eq!(state(1), ["3", "destroyed", now, "-", now]);
    assert_eq!(state(2), ["2", "active", now, "-", "-"]);
    assert_eq!(state(3), ["1", "retiring", now, tomorrow, "-"]);
    assert_eq!((rows[2][6], rows[3][6]), ("2", "2"), "{versions:?}");
    assert_eq!(
        desk.run("credentials versions desk-1 --output json").json()["versions"][1]["version"],
        "2"
    );
    let mode = fs::metadata(desk.path("new.password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
