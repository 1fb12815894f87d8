//! The command line: policies set with it, what is due, and the plan.

use credvault::access::Role;

use super::*;
use crate::cli_rotations::Desk;
use crate::support::cli::{Ran, words};

/// Words that a shell would have taken out of their quotes.
fn typed(desk: &Desk, words: &str, quoted: &[&str]) -> Ran {
    let mut command = desk.command(words);
    command.args(quoted);
    Ran::from(command.output().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_set_planned_and_taken_away() {
    let mut desk = Desk::start().await;
    desk.run("rotations plan")
        .says(0, &["The vault rotates nothing of accounts/acme", "--rotate-every"]);
    for key in ["ops", "old"] {
        desk.run(&format!("recipient-keys create {key} --generate {key}.key")).says(0, &[]);
    }
    let update = "credentials update desk-1 --rotate-every 90d --rotate-overlap 1d";
    desk.run(update).says(1, &["--rotate-for KEY", "--rotate-for-nobody"]);
    desk.run("credentials update desk-1 --rotate-every 90d --rotate-for ops")
        .says(1, &["credential.rotation_policy.overlap", "at least 3600s"]);
    desk.run("credentials update desk-1 --rotate-for ops").says(2, &["--rotate-every"]);
    desk.run("credentials update desk-1 --rotate-every 90d --rotate-for ops --rotate-for-nobody")
        .says(2, &["cannot be used with"]);
    let bad = ["--rotate-window", "02:00-04:00 Europe/Nowhere"];
    typed(&desk, update, &bad).says(2, &["time zone must be a time zone of the IANA database"]);
    typed(&desk, update, &["--rotate-window", "nights"])
        .says(2, &["'02:00-04:00 Europe/Berlin mon-fri'"]);
    let night = ["--rotate-window", "02:00-04:00 Europe/Berlin mon-fri"];
    let set = typed(&desk, &format!("{update} --rotate-for ops"), &night);
    set.says(0, &["rotation_policy.window.time_zone", "Europe/Berlin", "next_rotation_time"]);
    let create = "credentials create desk-2 --username desk-2 --realm sip.test --rotate-every 30d --rotate-for old \
                  --rotate-require-confirmation";
    desk.run(create).says(0, &["version 1"]);
    let create = "credentials create desk-3 --username desk-3 --realm sip.test --rotate-every 36h --rotate-for-nobody";
    desk.run(create).says(0, &["version 1"]);
    desk.run("recipient-keys revoke old").says(0, &[]);

    // By the clock of whoever asks, which is not that of this vault.
    let plan = desk.run("rotations plan --until 36500d");
    let rows: Vec<_> = plan.out.lines().map(words).collect();
    assert_eq!(rows[0], ["WHEN", "ID", "WHAT", "WHY"]);
    let last = "; last 2026-05-01T12:00:00Z";
    assert_eq!(
        rows[1..].iter().map(|row| (row[1], row[2], row[3])).collect::<Vec<_>>(),
        [
            (
                "desk-3",
                "a new password for nobody; the old one dies",
                format!("every 36h{last}").as_str()
            ),
            ("desk-2", "nothing: its recipient key is revoked", &format!("every 30d{last}")),
            (
                "desk-1",
                "a new password for ops; the old one works 1d more",
                &format!("every 90d, 02:00-04:00 Europe/Berlin mon-fri{last}"),
            ),
        ]
    );
    assert!(rows[1..].is_sorted_by_key(|row| row[0].to_owned()), "{plan:?}");
    plan.says(0, &["desk-2: name another key, `credvault credentials update desk-2"]);
    let json = desk.run("rotations plan --until 36500d --output json").json();
    let credentials = json["credentials"].as_array().unwrap();
    assert_eq!(credentials.len(), 3);
    assert_eq!(credentials[1]["rotationBlock"], "ROTATION_BLOCK_KEY_REVOKED");
    assert_eq!(credentials[0]["rotationPolicy"]["deliverToNobody"], true);

    // And the plan is what happens: everything in it, but what was in the way.
    let times: Vec<Timestamp> = rows[1..].iter().map(|row| row[0].parse().unwrap()).collect();
    desk.vault.rotates_at(times[2] + SECOND).await;
    let versions = "SELECT version > 1 FROM credential ORDER BY id";
    assert_eq!(desk.vault.column::<bool>(versions), [true, false, true]);

    // A token lives for a month.
    desk.token = desk.vault.token("acme", &[Role::AccountAdmin]).await;
    let due = desk.run("credentials list --due-before 2026-06-01T00:00:00Z");
    let rows: Vec<_> = due.out.lines().map(words).collect();
    assert_eq!(
        rows[0],
        ["ID", "USERNAME", "REALM", "ROTATE TIME", "NEXT ROTATION TIME", "ROTATION BLOCK"]
    );
    assert_eq!((rows.len(), rows[1][0], rows[1][5]), (2, "desk-2", "key-revoked"));
    desk.run("credentials list --due").says(0, &[]);
    desk.run("credentials update desk-2 --no-rotation-policy").says(0, &[]);
    let left = desk.run("rotations plan --until 36500d --output json").json();
    assert_eq!(left["credentials"].as_array().unwrap().len(), 2);
}
