//! `credvault providers rotate-token`, and `rotations` and `open` of tokens: what is said before, how far it is, and how it
//! ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use jiff::SignedDuration;

use crate::carriers::At;
use crate::cli_rotations::Desk;
use crate::cli_rotations::proxy::{Fate, Proxy};
use crate::providers::{SID, TOKEN, create_provider};
use crate::support::cli::{Ran, words};
use crate::support::fakes::carrier::Fault;

const NOW: &str = "2026-05-01T12:00:00Z";
const SECONDARY: &str = "AuthTokens/Secondary";
const PROMOTE: &str = "AuthTokens/Promote";

/// A desk with the provider `main` at Twilio.
async fn desk() -> Desk {
    let desk = Desk::start().await;
    desk.vault.twilio.add_account(SID, TOKEN);
    desk.vault.acme().await.create_provider(create_provider("main")).await.unwrap();
    desk
}

/// Whether Twilio takes the first token, and whether it has a second one.
fn tokens(desk: &Desk) -> (bool, bool) {
    let twilio = &desk.vault.twilio;
    (twilio.accepts_token(SID, TOKEN), twilio.tokens_of(SID).1.is_some())
}

/// The first token, and no other.
const UNTOUCHED: (bool, bool) = (true, false);

fn version(desk: &Desk) -> String {
    let answer = desk.run("providers get main --output json").json();
    answer["provider"]["tokenVersion"].as_str().unwrap().to_owned()
}

/// The rotation that began last, as it is listed, and its state.
fn newest(desk: &Desk) -> (String, String) {
    let listed = desk.run("rotations list providers/main").out;
    let version = |row: &Vec<&str>| row[2].parse::<u32>().unwrap();
    let newest = listed.lines().skip(1).map(words).max_by_key(version).unwrap();
    (newest[0].to_owned(), newest[1].to_owned())
}

/// Longer than any command here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a command to its end, and does something after each line that it says beside the answer.
fn run_and(desk: &Desk, typed: &str, mut then: impl FnMut(&str)) -> Ran {
    let mut command = desk.command(typed);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What waits for what never comes is ended.
    let (ended, waits) = mpsc::channel::<()>();
    let pid = child.id().to_string();
    let watch = thread::spawn(move || {
        if waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            Command::new("kill").arg(pid).status().unwrap();
        }
    });
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        then(&line);
        said.extend([&line, "\n"]);
    }
    drop(ended);
    watch.join().unwrap();
    Ran { err: said, ..Ran::from(child.wait_with_output().unwrap()) }
}

/// Has a minute pass whenever both tokens are held.
fn run_while_time_passes(desk: &Desk, typed: &str) -> Ran {
    run_and(desk, typed, |line| {
        if line.starts_with("holding: ") {
            desk.vault.clock.advance(SignedDuration::from_mins(1));
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_happens_before_somebody_said_so_and_only_at_twilio() {
    let desk = desk().await;
    let ran = desk.run("providers rotate-token main --hold 2h");
    let warning = "warning: nobody outside the vault gets the new token of main: whoever else uses the old one is refused \
                   once it ends, 2h after the new one works";
    let typed = "type: `credvault providers rotate-token --yes main --hold 2h`";
    ran.says(1, &[warning, "nothing has changed", typed]);
    desk.run("providers rotate-token main --yes --require-confirmation")
        .says(2, &["--recipient-key"]);
    desk.run("providers rotate-token main --yes --hold soon").says(2, &["15m"]);
    desk.run("providers rotate-token main --yes --etag stale").says(1, &["ETAG_MISMATCH"]);
    for typed in ["--yes", ""] {
        let ran = desk.run(format!("providers rotate-token none {typed}").trim());
        ran.says(1, &["NOT_FOUND", "`credvault providers list`"]);
    }
    desk.run("providers rotate-token main --recipient-key none").says(1, &["NOT_FOUND"]);
    assert_eq!((tokens(&desk), version(&desk).as_str()), (UNTOUCHED, "1"));
    desk.run("rotations list providers/main").says(0, &["`credvault providers rotate-token`"]);
    desk.run("rotations list providers/none").says(1, &["NOT_FOUND", "`credvault providers list`"]);

    let acme = desk.vault.acme().await;
    for at in [At::Vobiz, At::Telepath] {
        at.add_account(&desk.vault);
        let id = at.id();
        acme.create_provider(at.create(id)).await.unwrap();
        for typed in ["", " --yes"] {
            let ran = desk.run(&format!("providers rotate-token {id}{typed}"));
            let one = format!("{at:?} has one token at a time");
            ran.says(1, &[&one, &format!("then `credvault providers update-token {id}`")]);
        }
    }
    // A key is told of before.
    let key = format!("SK{}", "1".repeat(32));
    desk.vault.twilio.add_api_key(SID, &key, &"s".repeat(32));
    let update = desk.command(&format!("providers update-token main --api-key-sid {key}"));
    Ran::with_input(update, &"s".repeat(32)).says(0, &["token v2"]);
    desk.run("providers rotate-token main").says(1, &[&key, "must be a Main key"]);
    let ran = desk.run("providers rotate-token main --yes --wait");
    ran.says(1, &["nothing was changed: allow it in the carrier's console (UPSTREAM_NOT_ALLOWED)"]);
    let help = desk.run("providers rotate-token --help");
    help.says(0, &["at Twilio only", "a minute at the least", "1. applying", "5. succeeded"]);
    help.says(0, &["must have the\nnew one before", "update-token"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_begins_and_says_when_the_old_token_ends_and_what_can_be_done() {
    let desk = desk().await;
    let request = "00000000-0000-4000-8000-000000000007";
    let typed = format!("providers rotate-token main --yes --hold 2h --request-id {request}");
    let ran = desk.run(&typed);
    let (name, state) = newest(&desk);
    assert!(name.starts_with("providers/main/x") && state == "holding", "{name} {state}");
    ran.says(0, &["state          holding", "token version  2"]);
    ran.says(0, &["ends 2026-05-01T14:00:00Z, or when it is confirmed before"]);
    let until = "Both tokens work, at the carrier as well, until 2026-05-01T14:00:00Z";
    let [confirm, cancel, show] =
        ["confirm", "cancel", "show"].map(|verb| format!("`credvault rotations {verb} {name}`"));
    ran.says(0, &[until, &confirm, &cancel, &show]);
    assert!(tokens(&desk) == (true, true) && version(&desk) == "1", "{ran:?}");

    // The same request begins nothing again.
    let again = desk.run(&format!("{typed} --output json")).json();
    let whole = format!("accounts/acme/{}", name.replace("/x", "/rotations/x"));
    assert_eq!(again["rotation"]["name"], whole);
    assert_eq!(again["provider"]["tokenVersion"], "1");
    desk.run("providers rotate-token main --yes")
        .says(1, &["ROTATION_IN_PROGRESS", "`credvault rotations list providers/ID`"]);
    let shown = desk.run(&format!("rotations show {name}"));
    let step = |what: &str| format!("{NOW}  {what}");
    let [made, tried] = [
        step("the carrier was asked to make a new token: it did so"),
        step("the new token was tried: it works"),
    ];
    shown.says(0, &[&made, &tried, until, &confirm, "hold            2h"]);
    for name in [&whole, whole.strip_prefix("accounts/acme/").unwrap()] {
        assert_eq!(desk.run(&format!("rotations show {name}")).out, shown.out);
    }
    desk.run("rotations show main/x1a").says(1, &["NOT_FOUND", "credentials/main"]);
    for typed in ["", " providers/main", " accounts/acme/providers/main", " --state holding"] {
        desk.run(&format!("rotations list{typed}")).says(0, &[&name, "holding"]);
    }
    for state in ["verifying", "finishing", "cancelling"] {
        desk.run(&format!("rotations list --state {state}")).says(0, &["No rotation of"]);
    }
    desk.run(&format!("rotations resume {name}")).says(1, &["INVALID_STATE", "is held"]);

    let ended = desk.run(&format!("rotations confirm {name}"));
    let [ended_it, refused] = [
        step("the carrier was asked to end the old token: it did so"),
        step("the old token was tried: it is refused, as it should be"),
    ];
    ended.says(0, &["succeeded", "its recipient has it", &ended_it, &refused]);
    assert!(!ended.out.contains("password") && !ended.err.contains("password"), "{ended:?}");
    assert_eq!((tokens(&desk), version(&desk).as_str()), ((false, false), "2"));
    let done = desk.run(&typed);
    done.says(0, &["succeeded", &format!("ended {NOW}")]);
    desk.run(&format!("rotations cancel {name}")).says(1, &["INVALID_STATE", "rotate again"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_waited_for_until_the_old_token_is_refused() {
    let desk = desk().await;
    let ran = run_while_time_passes(&desk, "providers rotate-token main --yes --wait");
    ran.says(0, &["holding: Both tokens work", "until 2026-05-01T12:01:00Z"]);
    ran.says(0, &["accounts/acme/providers/main: token version 2; the old one is refused"]);
    ran.says(0, &["state          succeeded", "ended 2026-05-01T12:01:00Z"]);
    assert_eq!((ran.err.matches("holding: ").count(), tokens(&desk)), (1, (false, false)));
    let new = desk.vault.twilio.tokens_of(SID).0.unwrap();
    let typed = "providers rotate-token main --yes --wait --hold 1s --output json";
    let ran = run_while_time_passes(&desk, typed);
    assert_eq!(ran.json()["rotation"]["state"], "ROTATION_STATE_SUCCEEDED", "{ran:?}");
    assert!(!desk.vault.twilio.accepts_token(SID, &new) && version(&desk) == "3");

    // A new token that does not work yet, and an old one that still does.
    let before = desk.vault.twilio.tokens_of(SID).0.unwrap();
    let (twilio, clock) = (&desk.vault.twilio, &desk.vault.clock);
    twilio.set_path_fault(SID, Some(Fault::Status(401)));
    let ran = run_and(&desk, "providers rotate-token main --yes --wait", |line| {
        if line.starts_with("verifying: ") {
            twilio.set_path_fault(SID, None);
            clock.advance(SignedDuration::from_secs(5));
        } else if line.starts_with("holding: ") {
            twilio.fail_call(PROMOTE, 0, Fault::CloseAfterEffect);
            clock.advance(SignedDuration::from_mins(1));
        } else if line.starts_with("finishing: ") {
            clock.advance(SignedDuration::from_secs(5));
        }
    });
    let not_yet = "the new token was tried: it does not work yet, as far as is known (UPSTREAM_";
    let unsure =
        "the carrier was asked to end the old token: no answer says whether it was done (UPSTREAM_";
    ran.says(0, &[not_yet, "verifying: the new token is tried", "finishing: ", unsure]);
    assert!(!desk.vault.twilio.accepts_token(SID, &before) && version(&desk) == "4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_recipient_opens_it_and_ends_the_old_one_with_a_proof() {
    let desk = desk().await;
    desk.run("recipient-keys create ops --generate ops.key").says(0, &[]);
    let typed = "providers rotate-token main --recipient-key ops --require-confirmation --wait";
    let mut waits = false;
    let ran = run_and(&desk, typed, |line| {
        if !line.starts_with("holding: ") {
            return;
        }
        waits = true;
        let (name, _) = newest(&desk);
        let confirm = format!("rotations confirm {name}");
        assert!(line.contains(&format!("`credvault {confirm} --password-file FILE`")), "{line}");
        assert!(line.contains("at the carrier as well") && !line.contains("password "), "{line}");
        // However long that takes.
        desk.vault.clock.advance(SignedDuration::from_hours(72));
        let shown = desk.run(&format!("rotations show {name}"));
        shown.says(0, &["Its token is there, sealed: `credvault rotations show"]);
        let json = desk.run(&format!("rotations show {name} --output json"));
        fs::write(desk.path("sealed.json"), &json.out).unwrap();
        let opened = desk.run("open sealed.json --key-file ops.key --out new.token");
        opened.says(0, &["accounts/acme/providers/main: token version 2"]);
        let new = desk.own("new.token");
        assert!(desk.vault.twilio.accepts_token(SID, &new) && tokens(&desk) == (true, true));
        let json = desk.run("open sealed.json --key-file ops.key --output json").json();
        assert_eq!((&json["password"], &json["version"]), (&new.as_str().into(), &"2".into()));
        desk.run(&confirm).says(1, &["Prove that the new token arrived: --password-file FILE"]);
        let wrong = desk.command(&format!("{confirm} --password-file -"));
        Ran::with_input(wrong, TOKEN).says(1, &["That is not the new token"]);
        desk.run(&format!("{confirm} --password-file new.token")).says(0, &["succeeded"]);
    });
    ran.says(0, &["Its token is there, sealed", "the old one is refused"]);
    assert!(waits && tokens(&desk) == (false, false), "{ran:?}");

    // Who is only told has the time that is said, and is told of what he was not given.
    let ran = desk.run("providers rotate-token main --recipient-key ops");
    ran.says(0, &["The old token of main ends a minute after the new one works", "--hold 2h"]);
    let (name, _) = newest(&desk);
    let show = format!("rotations show {name} --output json");
    ran.says(0, &[&format!("`credvault {show} | credvault open - --key-file FILE` opens it")]);
    fs::write(desk.path("next.json"), desk.run(&show).out).unwrap();
    let opened = desk.run("open next.json --key-file ops.key");
    assert!(desk.vault.twilio.accepts_token(SID, opened.says(0, &[]).out.trim()));
    let bare = desk.run("providers rotate-token main --yes --request-id nonsense");
    bare.says(1, &["request_id"]);
    fs::write(desk.path("none.json"), "{}").unwrap();
    desk.run("open none.json --key-file ops.key").says(1, &["it has no sealed secret"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_given_up_and_who_waits_for_it_is_told() {
    let desk = desk().await;
    let mut shown = None;
    let ran = run_and(&desk, "providers rotate-token main --yes --wait --hold 7d", |line| {
        if line.starts_with("holding: ") {
            let (name, _) = newest(&desk);
            shown = Some(desk.run(&format!("rotations cancel {name} --reason mistake")));
        }
    });
    let removed = "the carrier was asked to remove the new token: it did so";
    shown.unwrap().says(0, &["state          cancelled", "it was given up", removed]);
    ran.says(1, &["state          cancelled", "the rotation was cancelled", "tells more"]);
    assert_eq!((tokens(&desk), version(&desk).as_str()), (UNTOUCHED, "1"));

    // While Twilio does not do what it is asked.
    desk.run("providers rotate-token main --yes").says(0, &["holding"]);
    desk.vault.twilio.set_path_fault(SECONDARY, Some(Fault::Status(503)));
    let (name, _) = newest(&desk);
    let ran = desk.run(&format!("rotations cancel {name}"));
    let resume = format!("`credvault rotations resume {name}` asks at once");
    ran.says(0, &["cancelling", "the carrier has not removed the new one yet", &resume]);
    assert!(!ran.err.contains("rotations cancel"), "{ran:?}");
    desk.vault.twilio.set_path_fault(SECONDARY, None);
    desk.run(&format!("rotations resume {name}")).says(0, &["cancelled", removed]);
    assert_eq!(tokens(&desk), UNTOUCHED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_what_a_person_should_see_to() {
    let desk = desk().await;
    let twilio = &desk.vault.twilio;
    twilio.set_path_fault(SECONDARY, Some(Fault::Status(403)));
    for typed in ["", " --wait"] {
        let ran = desk.run(&format!("providers rotate-token main --yes{typed}"));
        ran.says(1, &["nothing was changed", "(UPSTREAM_ACCOUNT_INACTIVE)"]);
    }
    twilio.set_path_fault(SECONDARY, Some(Fault::CloseAfterEffect));
    let ran = desk.run("providers rotate-token main --yes");
    ran.says(0, &["applying", "ends 1m after the new one works", "whose answer was lost"]);
    let (name, _) = newest(&desk);
    ran.says(0, &[&format!("`credvault rotations cancel {name}` gives it up")]);
    twilio.set_path_fault(SECONDARY, None);
    desk.run(&format!("rotations cancel {name}")).says(0, &["cancelled"]);
    assert_eq!((tokens(&desk), version(&desk).as_str()), (UNTOUCHED, "1"));

    twilio.set_path_fault(PROMOTE, Some(Fault::Status(400)));
    let ran = run_while_time_passes(&desk, "providers rotate-token main --yes --wait");
    let (name, state) = newest(&desk);
    let person =
        "It needs a person: the carrier does not let the new token take the place of the old one";
    let resume = format!("`credvault rotations resume {name}` asks at once");
    ran.says(
        1,
        &["the rotation of the token of main has not ended", person, &resume, "--request-id"],
    );
    ran.says(1, &["the carrier was asked to end the old token: it said no", "needs-attention"]);
    assert_eq!(state, "needs-attention");
    desk.run(&format!("rotations show {name}")).says(0, &[person, &resume]);
    twilio.set_path_fault(PROMOTE, None);
    desk.run(&format!("rotations resume {name}")).says(0, &["succeeded"]);
    let again = ran.err.split_once("--request-id ").unwrap().1;
    let again = again.split_whitespace().next().unwrap();
    let typed = format!("providers rotate-token main --yes --wait --request-id {again}");
    desk.run(&typed).says(0, &["the old one is refused"]);

    // Twilio says that it ended the old token, which works on.
    let lie = || {
        let new = twilio.tokens_of(SID).1.unwrap();
        let body = format!(r#"{{"account_sid":"{SID}","auth_token":"{new}"}}"#).into_bytes();
        let headers = vec![("content-type", "application/json".to_owned())];
        twilio.set_path_fault(PROMOTE, Some(Fault::StatusWith { status: 200, headers, body }));
    };
    let works = "the old token was tried: it still works (OLD_TOKEN_WORKS)";
    let ran = run_and(&desk, "providers rotate-token main --yes --wait", |line| {
        if line.starts_with("holding: ") {
            lie();
            desk.vault.clock.advance(SignedDuration::from_mins(1));
        } else if line == works {
            desk.vault.clock.advance(SignedDuration::from_mins(16));
        }
    });
    let person = "It needs a person: the new token is the active one, and the old one still works";
    ran.says(1, &[works, person, "old token      ended "]);
    let (name, _) = newest(&desk);
    assert!(!ran.err.contains(&format!("rotations cancel {name}` gives it up")), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_asked_for_again() {
    let desk = desk().await;
    let proxy = Proxy::start(desk.vault.address, Fate::Cut, &[0, 1, 2]).await;
    let at = |typed: &str| {
        let mut command = desk.command(typed);
        command.env("CREDVAULT_ADDRESS", proxy.address.to_string());
        Ran::from(command.output().unwrap())
    };
    let ran = at("providers rotate-token main --yes --hold 2h --retry-for 0s");
    ran.says(1, &["is lost", "`credvault rotations list providers/ID`", "If it has begun"]);
    let again = ran.err.split_once("--request-id ").unwrap().1;
    let again = again.split_whitespace().next().unwrap();
    let ran = at(&format!("providers rotate-token main --yes --hold 2h --request-id {again}"));
    ran.says(0, &["the same request again in 0.", "holding"]);
    let listed = desk.run("rotations list providers/main");
    assert_eq!((listed.out.lines().count(), tokens(&desk)), (2, (true, true)), "{listed:?}");
}
