//! A real Kamailio with the files of deploy/kamailio/, a real vault, and sipp for phones.
//!
//! Not part of `cargo test`: it wants Kamailio with `app_python3`, sipp, and a Python with the package of clients/python.
//! `.ci/run` installs them and names them in `KAMAILIO`, `SIPP` and `EDGE_PYTHON` (Debian's own Python's environment: Kamailio
//! embeds that one), and a build in `CREDVAULT_BIN`. Run it with `--test-threads 1`: the vault has 800 ms to answer.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]
#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests stand outside of the fences: they look at statuses, and say what they saw"
)]

#[path = "kamailio/edge.rs"]
mod edge;
#[path = "kamailio/line.rs"]
mod line;
#[path = "kamailio/phone.rs"]
mod phone;
#[path = "kamailio/planted.rs"]
mod planted;
#[path = "kamailio/tls.rs"]
mod tls;

/// What is shared with `tests/it`.
#[path = "it"]
mod it {
    #[expect(dead_code, reason = "the other tests use the rest")]
    pub(crate) mod support;
}

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use credvault::grpc::proto::{Credential, Role, RotateCredentialRequest, UpdateCredentialRequest};
use edge::{Edge, Kamailio, PATIENCE, REALM, TOKEN};
use it::support::process::credvault;
use line::{IDENTITIES, Line, Request, is_clean};
use phone::{Phone, Waiting, answer, exchange, parameter, request};

#[test]
fn passwords_change_in_the_vault_alone() {
    let mut edge = Edge::start();
    let (name, first) = edge.create("alice");
    Phone::registers(&edge, "alice", &first).gets(200);
    Phone::registers(&edge, "alice", &first).over_tcp().gets(200);
    Phone::registers(&edge, "alice", "wrong").gets(401);
    Phone::registers(&edge, "nobody", &first).gets(401);

    let second = rotate(&edge, &name, 0);
    Phone::registers(&edge, "alice", &first).gets(401);
    Phone::registers(&edge, "alice", &second).gets(200);

    let rotated = Instant::now();
    let third = rotate(&edge, &name, 4);
    Phone::registers(&edge, "alice", &second).gets(200);
    assert!(rotated.elapsed() < Duration::from_secs(4), "too slow to see an overlap of 4 s");
    Phone::registers(&edge, "alice", &third).gets(200);
    // A right response of the old password until its time, a refusal after it.
    while Phone::registers(&edge, "alice", &second).expects(200).ok {
        assert!(rotated.elapsed() < PATIENCE, "the old password does not die");
    }
    assert!(rotated.elapsed() >= Duration::from_secs(4), "the old password died too soon");
    Phone::registers(&edge, "alice", &second).gets(401);
    Phone::registers(&edge, "alice", &third).gets(200);

    enable(&edge, &name, false);
    Phone::registers(&edge, "alice", &third).gets(401);
    enable(&edge, &name, true);
    Phone::registers(&edge, "alice", &third).gets(200);
    assert!(edge.kamailio.is_running(), "nobody touched Kamailio");
    let log = edge.kamailio.log();
    for secret in [&first, &second, &third] {
        assert!(!log.contains(secret.as_str()), "a password is in the log");
    }
}

#[test]
fn nobody_gets_in_while_the_vault_is_away() {
    let mut edge = Edge::start();
    let (_, password) = edge.create("alice");
    Phone::registers(&edge, "alice", &password).gets(200);

    // One was challenged before, and answers after.
    let asked = Phone::sends(&edge, "alice", "Supported: path").gets(401);
    let right = answer(asked.last(), "alice", &password);
    edge.stop_vault();
    for header in ["Supported: path", &right] {
        let told = Phone::sends(&edge, "alice", header).gets(503);
        assert!(told.last().contains("Retry-After: 10"), "{}", told.last());
    }
    let log = edge.kamailio.log();
    assert!(log.contains("UNAVAILABLE") && log.contains("is the vault running"), "{log}");

    edge.start_vault();
    // Each worker looks for it once a second.
    let begun = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 20 {
        assert!(begun.elapsed() < PATIENCE, "the vault is back, and a worker does not notice");
        let ok = Phone::registers(&edge, "alice", &password).expects(200).ok;
        in_a_row = if ok { in_a_row + 1 } else { 0 };
    }
    println!("all workers registered again {} ms after", begun.elapsed().as_millis());
    // A right response to a nonce of the vault that was: the phone goes on by itself.
    let told = Phone::sends(&edge, "alice", &right).gets(401);
    assert!(told.last().contains("stale=true"), "{}", told.last());
    let right = answer(told.last(), "alice", &password);
    Phone::sends(&edge, "alice", &right).gets(200);

    // It has the connection, and does not answer.
    edge.vault.as_ref().unwrap().freeze();
    let begun = Instant::now();
    Phone::sends(&edge, "alice", "Supported: path").gets(503);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "800 ms, and what sipp takes: {took:?}");
    assert!(edge.kamailio.log().contains("DEADLINE_EXCEEDED"), "{}", edge.kamailio.log());
}

#[test]
fn an_answer_is_good_once() {
    let edge = Edge::start();
    let (_, password) = edge.create("alice");
    let asked = Phone::sends(&edge, "alice", "Supported: path").gets(401);
    let right = answer(asked.last(), "alice", &password);
    let told = Phone::sends(&edge, "alice", &right).gets(200);
    assert_eq!(parameter(told.last(), "nc"), "00000001", "Authentication-Info: {}", told.last());
    for _ in 0..2 {
        let told = Phone::sends(&edge, "alice", &right).gets(401);
        assert_ne!(parameter(told.last(), "nonce"), parameter(asked.last(), "nonce"));
    }
    assert!(edge.kamailio.log().contains("NONCE_REPLAYED"));

    // The nonce is for the address that it was made for.
    let asked = Phone::sends(&edge, "alice", "Supported: path").gets(401);
    let right = answer(asked.last(), "alice", &password);
    Phone::sends(&edge, "alice", &right).from("127.0.0.2").gets(401);
    assert!(edge.kamailio.log().contains("'alice' from 127.0.0.2: INVALID_REASON_NONCE_FOREIGN"));
    Phone::sends(&edge, "alice", &right).gets(200);

    // A nonce of somebody else's making.
    let foreign = asked.last().replace(parameter(asked.last(), "nonce"), "AUAAAA");
    Phone::sends(&edge, "alice", &answer(&foreign, "alice", &password)).gets(401);
    assert!(edge.kamailio.log().contains("'alice' from 127.0.0.1: INVALID_REASON_NONCE_FOREIGN"));
}

#[test]
fn copies_of_a_request_are_not_replays() {
    let edge = Edge::start();
    let (_, password) = edge.create("alice");
    let asked = Phone::sends(&edge, "alice", "Supported: path").gets(401);
    let right = answer(asked.last(), "alice", &password);
    let statuses =
        exchange(edge.kamailio.address, 20, |port| request("REGISTER", "", right.as_bytes(), port));
    assert_eq!(statuses, BTreeSet::from(["200".to_owned()]), "{}", edge.kamailio.log());
}

#[test]
fn nobody_registers_as_somebody_else() {
    let edge = Edge::start();
    let (_, password) = edge.create("alice");
    edge.create("bob");
    for other in ["bob", "Alice", "%62ob", "alice%00"] {
        Phone::registers_as(&edge, "alice", &password, other).gets(403);
    }
    // Another way to write one's own name.
    Phone::registers_as(&edge, "alice", &password, "%61lice").gets(200);
}

#[test]
fn what_no_phone_sends_is_refused_and_harms_nobody() {
    let mut edge = Edge::start();
    let (_, password) = edge.create("alice");
    let long = format!("Authorization: Digest realm=\"{REALM}\", nonce=\"{}\"", "n".repeat(3000));
    for header in [
        "Authorization: Digest username",
        "Authorization: Digest ,,,",
        "Authorization: Digest username=\"a\"b\"",
        "Authorization: Digest realm=\"sip.test\", realm=\"sip.test\"",
        "Authorization: Digest realm=\"sip.test\", username=\"\u{1}\"",
        "Authorization: Digest username=\"alice\", realm=\"sip.test\", nonce=\"n\", uri=\"sip:sip.test\", response=\"zz\"",
        &long,
    ] {
        Phone::sends(&edge, "alice", header).gets(400);
    }
    for header in [
        "Authorization: Basic YWxpY2U6eA==",
        "Authorization: Digest username=\"alice\", realm=\"elsewhere\"",
    ] {
        Phone::sends(&edge, "alice", header).gets(401);
    }
    // Bytes that are no text.
    let header = b"Authorization: Digest username=\"\xff\", realm=\"sip.test\"";
    let statuses = exchange(edge.kamailio.address, 1, |port| request("REGISTER", "", header, port));
    assert_eq!(statuses, BTreeSet::from(["400".to_owned()]));
    Phone::registers(&edge, "alice", &password).gets(200);
    let log = edge.kamailio.log();
    assert!(!log.contains("Traceback"), "{log}");
    assert!(edge.kamailio.is_running());
}

#[test]
fn a_thousand_phones_register() {
    const PHONES: usize = 1000;
    let edge = Edge::start();
    let file = edge.dir.path().join("phones.csv");
    let lines = (0..PHONES).map(|number| format!("phone-{number},{REALM}\n"));
    fs::write(&file, format!("username,realm\n{}", lines.collect::<String>())).unwrap();
    let out = edge.dir.path().join("passwords.csv");
    let vault = edge.vault.as_ref().unwrap();
    let mut import = credvault(["credentials", "import", "--account", "dev", "--address"]);
    import.arg(vault.address.to_string()).arg("--out").arg(&out).arg(&file);
    let imported = import.env("CREDVAULT_TOKEN", vault.token()).output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let made = fs::read_to_string(out).unwrap();
    let users = made.lines().skip(1).map(|line| {
        let columns: Vec<_> = line.split(',').collect();
        (columns[1].to_owned(), columns[3].to_owned())
    });
    let users: Vec<_> = users.collect();
    assert_eq!(users.len(), PHONES);

    let begun = Instant::now();
    let told = Phone::all_register(&edge, &users).gets(200);
    let took = begun.elapsed();
    let of = |status: &str| {
        let told = told.messages.iter().filter(|it| it.get(8..11) == Some(status));
        told.map(|it| it.lines().find(|it| it.starts_with("Call-ID:")).unwrap())
            .collect::<HashSet<_>>()
            .len()
    };
    assert_eq!((of("401"), of("200")), (PHONES, PHONES));
    let others: Vec<_> =
        told.statuses().into_iter().filter(|it| !["401", "200"].contains(it)).collect();
    assert!(others.is_empty(), "{others:?}");
    println!("{PHONES} registrations, each with its challenge, in {} ms", took.as_millis());
}

#[test]
fn sha_256() {
    let edge = Edge::with(&["#!define CREDVAULT_ALGORITHM \"SHA-256\""]);
    let (_, password) = edge.create("alice");
    let asked = Phone::sends(&edge, "alice", "Supported: path").gets(401);
    assert_eq!(parameter(asked.last(), "algorithm"), "SHA-256");
    Phone::sends(&edge, "alice", &answer(asked.last(), "alice", &password)).gets(200);
    let asked = Phone::sends(&edge, "alice", "Supported: path").gets(401);
    Phone::sends(&edge, "alice", &answer(asked.last(), "alice", "wrong")).gets(401);
    // The nonce is for SHA-256 alone: nobody on the way makes a phone answer with MD5.
    let weaker = asked.last().replace("SHA-256", "MD5");
    Phone::sends(&edge, "alice", &answer(&weaker, "alice", &password)).gets(401);
}

#[test]
fn an_api_token_is_replaced_without_a_restart() {
    let mut edge = Edge::start();
    let (_, password) = edge.create("alice");
    let good = edge.token(Role::Verifier);
    for (token, code, advice) in [
        ("cv1_wrong_wrong".to_owned(), "UNAUTHENTICATED", "put a new API token into"),
        (edge.token(Role::Reader), "PERMISSION_DENIED", "needs the role verifier"),
    ] {
        edge.write_token(&token);
        Phone::sends(&edge, "alice", "Supported: path").gets(503);
        let log = edge.kamailio.log();
        assert!(log.contains(code) && log.contains(advice), "{log}");
        assert!(
            !log.contains(token.as_str()) && !log.contains(good.as_str()),
            "a token is in the log"
        );
    }
    fs::remove_file(edge.dir.path().join(TOKEN)).unwrap();
    Phone::sends(&edge, "alice", "Supported: path").gets(503);
    assert!(edge.kamailio.log().contains("put one into"), "{}", edge.kamailio.log());
    // What is no token, though one is in it.
    for text in [format!("\u{feff}{good}"), format!("{good}\nmore"), String::new()] {
        edge.write_token(&text);
        Phone::sends(&edge, "alice", "Supported: path").gets(503);
    }
    // The same problem is told once in 5 s.
    let begun = Instant::now();
    while !edge.kamailio.log().contains("is not one line with a token; put one into") {
        assert!(begun.elapsed() < PATIENCE, "{}", edge.kamailio.log());
        Phone::sends(&edge, "alice", "Supported: path").gets(503);
    }
    assert!(!edge.kamailio.log().contains(good.as_str()), "a token is in the log");
    edge.write_token(&good);
    Phone::registers(&edge, "alice", &password).gets(200);
    assert!(edge.kamailio.is_running());
}

#[test]
fn a_vault_elsewhere_is_reached_by_tls() {
    let (edge, password) = tls::start();
    Phone::registers(&edge, "alice", &password).gets(200);
    Phone::registers(&edge, "alice", "wrong").gets(401);
}

#[test]
fn what_is_unsafe_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let refuses = |vault: &str, line: &str, reason: &str| {
        let mut kamailio = Kamailio::begin(dir.path(), vault, TOKEN, &[line]);
        assert!(!kamailio.end().success());
        assert!(kamailio.log().contains(reason), "{reason}: {}", kamailio.log());
    };
    let here = "127.0.0.1:9";
    refuses(here, "", "credvault: no API token: [Errno 2] No such file");
    let token = dir.path().join(TOKEN);
    fs::write(&token, "a token").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o640)).unwrap();
    refuses(here, "", "is open to others: chmod 600");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    for vault in ["192.0.2.1:9", "localhost.example.org:9", "localhost:9"] {
        refuses(vault, "", "is not an address of this machine: set CREDVAULT_CA_FILE");
    }
    refuses(here, "#!redefine SIP_DOMAIN \"SIP.test\"", "SIP.test has capitals");
}

#[test]
fn a_request_waits_for_its_questions_together() {
    let (mut vault, address) = edge::slow_vault();
    let dir = tempfile::tempdir().unwrap();
    let kamailio = Kamailio::start(dir.path(), address, "", &[]);
    let header = "Authorization: Digest realm=\"sip.test\", username=\"a\", uri=\"sip:sip.test\"";
    let statuses =
        exchange(kamailio.address, 1, |port| request("REGISTER", "", header.as_bytes(), port));
    vault.kill().unwrap();
    vault.wait().unwrap();
    assert_eq!(statuses, BTreeSet::from(["503".to_owned()]), "600 ms twice, and it has 800");
    assert!(kamailio.log().contains("DEADLINE_EXCEEDED"), "{}", kamailio.log());
}

#[test]
fn who_guesses_waits_and_nobody_else_does() {
    let edge = Edge::start();
    let (_, password) = edge.create("alice");
    let (_, others) = edge.create("bob");
    // One more every 6 s is forgiven.
    let guesses = (0..30).find(|number| {
        let wrong = format!("guess-{number}");
        !Phone::registers(&edge, "alice", &wrong).from("127.0.0.2").expects(401).ok
    });
    let guesses = guesses.expect("who guesses is held off");
    println!("held off after {guesses} wrong passwords");
    let told = Phone::registers(&edge, "alice", "another").from("127.0.0.2").gets(500);
    assert!(told.last().contains("Retry-After: "), "{}", told.last());
    Phone::registers(&edge, "alice", &password).from("127.0.0.3").gets(200);
    Phone::registers(&edge, "bob", &others).from("127.0.0.2").gets(200);
}

#[test]
fn calls_are_challenged_too() {
    let edge = Edge::start();
    let (_, password) = edge.create("alice");
    let (_, others) = edge.create("bob");
    let bob = Waiting::start(&edge, "bob", &others);
    Phone::calls_in_vain(&edge, ("alice", "wrong"), "alice").gets(407);
    Phone::calls_in_vain(&edge, ("alice", &password), "bob").gets(403);
    // With a tag in To it looks like part of a call, and there is none.
    let route = format!("Route: <sip:{};lr>, <sip:192.0.2.1;lr>", edge.kamailio.address);
    let forged = exchange(edge.kamailio.address, 1, |port| {
        request("INVITE", ";tag=forged", route.as_bytes(), port)
    });
    assert_eq!(forged, BTreeSet::from(["481".to_owned()]));
    Phone::calls(&edge, "alice", &password, "bob").gets(200);
    assert!(bob.was_called(), "{}", edge.kamailio.log());

    // What asks for nothing but a challenge is told once: its address may be forged.
    let line = Line::new(&edge, "127.0.0.1");
    let invite = Request {
        method: "INVITE",
        uri: "sip:bob@sip.test",
        from: "<sip:alice@sip.test>;tag=a",
        to: "<sip:bob@sip.test>",
        call: "a-call",
        more: "",
    };
    assert_eq!(line.asks(&invite), "407");
    assert_eq!(line.next(), "");
}

#[test]
fn a_phone_is_in_ten_places_at_most() {
    let edge = Edge::start();
    let (_, password) = edge.create("alice");
    let phones: Vec<_> = (0..11).map(|_| Line::new(&edge, "127.0.0.1")).collect();
    let told = phones.iter().map(|it| it.registers("alice", &password, ""));
    let told: Vec<_> = told.map(|it| it.get(8..11).unwrap().to_owned()).collect();
    assert!(told.iter().take(10).all(|it| it == "200"), "{told:?}");
    assert_eq!(told.last().unwrap(), "503");
}

#[test]
fn a_call_goes_between_its_two_phones_only() {
    let edge = Edge::start();
    let ((_, password), (_, others)) = (edge.create("alice"), edge.create("bob"));
    let (_, third) = edge.create("carol");
    let (alice, bob) = (Line::new(&edge, "127.0.0.1"), Line::new(&edge, "127.0.0.1"));
    let (stranger, victim) = (Line::new(&edge, "127.0.0.7"), Line::new(&edge, "127.0.0.9"));
    // bob says that he is elsewhere, for longer than he may.
    let there = victim.address();
    for header in ["Contact", "m"] {
        let contact = format!("{header}: <sip:bob@{there}>;Received=\"sip:{there}\"\r\n");
        assert!(bob.registers("bob", &others, &contact).starts_with("SIP/2.0 403"));
    }
    let contact =
        format!("Contact: <sip:+1900@{there}>\r\nPath: <sip:{there};lr>\r\nExpires: 2147483\r\n");
    let told = bob.registers("bob", &others, &contact);
    assert!(told.starts_with("SIP/2.0 200") && told.contains("expires=3600"), "{told}");

    let invite = Request {
        method: "INVITE",
        uri: "sip:bob@sip.test",
        from: "<sip:alice@sip.test>;tag=a",
        to: "<sip:bob@sip.test>",
        call: "a-call",
        more: IDENTITIES,
    };
    alice.does(&invite, "alice", &password);
    let came = bob.next();
    assert!(came.starts_with("INVITE "), "no INVITE, but {came}\n{}", edge.kamailio.log());
    is_clean(&came);

    let elsewhere = format!("sip:+1900@{}", victim.address());
    // Before anybody answers, an ACK without a tag.
    stranger.sends(&Request { method: "ACK", uri: &elsewhere, ..invite.clone() }, "");
    // It rings. Nobody knows the tag yet but those two.
    bob.replies(&came, "180 Ringing", "b", "");
    assert_eq!(alice.status(), "180");
    let route = format!("{IDENTITIES}Route: <sip:{};lr>\r\n", edge.kamailio.address);
    let within = Request {
        method: "MESSAGE",
        uri: &elsewhere,
        to: "<sip:bob@sip.test>;tag=b",
        more: &route,
        ..invite.clone()
    };
    let again = Request { from: "<sip:carol@sip.test>;tag=a", ..invite.clone() };
    let carol = Line::new(&edge, "127.0.0.1");
    carol.does(&again, "carol", &third);
    assert_eq!(carol.status(), "482");
    let other = Request { to: "<sip:bob@sip.test>;tag=other", ..within.clone() };
    assert_eq!(stranger.asks(&other), "481");
    assert_eq!(stranger.asks(&within), "407");
    bob.replies(&came, "200 OK", "b", "");
    assert_eq!(alice.status(), "200");
    alice.sends(&Request { method: "ACK", ..within.clone() }, "");
    let came = bob.next();
    assert!(came.starts_with("ACK "), "no ACK, but {came}");
    is_clean(&came);

    // Whatever is within the call: with a password, in one's own name, and to the other phone.
    for method in ["INVITE", "UPDATE", "PRACK", "MESSAGE", "BYE"] {
        assert_eq!(stranger.asks(&Request { method, ..within.clone() }), "407", "{method}");
    }
    let amy = Request { from: "<sip:amy@sip.test>;tag=a", ..within.clone() };
    alice.does(&amy, "alice", &password);
    assert_eq!(alice.status(), "403");
    alice.does(&within, "alice", &password);
    let came = bob.next();
    assert!(came.starts_with("MESSAGE "), "no MESSAGE, but {came}");
    is_clean(&came);
    bob.replies(&came, "200 OK", "b", "");
    assert_eq!(alice.status(), "200");
    // Another call with the same tag changes nothing about this one.
    let carol = Line::new(&edge, "127.0.0.1");
    carol.does(&again, "carol", &third);
    let came = bob.next();
    assert!(came.starts_with("INVITE "), "no INVITE, but {came}");
    bob.replies(&came, "486 Busy Here", "c", "");
    assert_eq!(carol.status(), "486");
    assert!(bob.next().starts_with("ACK "));

    // The callee hangs up.
    let bye = Request {
        method: "BYE",
        uri: &elsewhere,
        from: "<sip:bob@sip.test>;tag=b",
        to: "<sip:alice@sip.test>;tag=a",
        ..within.clone()
    };
    assert_eq!(stranger.asks(&bye), "407");
    bob.does(&bye, "bob", &others);
    let came = alice.next();
    assert!(came.starts_with("BYE "), "no BYE, but {came}");
    is_clean(&came);
    alice.replies(&came, "200 OK", "", "");
    assert_eq!(bob.status(), "200");
    assert_eq!(victim.next(), "", "nothing went elsewhere");
}

#[test]
fn what_is_between_a_phone_and_kamailio_stays_there() {
    let edge = Edge::start();
    let ((_, password), (_, others)) = (edge.create("alice"), edge.create("bob"));
    let (alice, bob) = (Line::new(&edge, "127.0.0.1"), Line::new(&edge, "127.0.0.1"));
    assert!(bob.registers("bob", &others, "").starts_with("SIP/2.0 200"));
    let message = Request {
        method: "MESSAGE",
        uri: "sip:bob@sip.test;x=y",
        from: "\"AMY\" <sip:alice@sip.test>;tag=a",
        to: "<sip:bob@sip.test>",
        call: "a-message",
        more: "",
    };
    // Credentials are for one request.
    for uri in
        ["sip:carol@sip.test", "sip:bob@elsewhere", "sip:sip.test", "bob", "sip:BOB@sip.test"]
    {
        alice.answers(&message, "alice", &password, uri);
        assert_eq!(alice.status(), "400", "{uri}");
    }
    // Some phones leave out what says how to get there.
    for uri in [message.uri, "sip:bob@sip.test", "sip:bob@SIP.test:5060"] {
        alice.answers(&message, "alice", &password, uri);
        let came = bob.next();
        assert!(came.starts_with("MESSAGE "), "{uri}: {came}");
        is_clean(&came);
        // A callee who wants to know a password.
        let asks = "Proxy-Authenticate: Digest realm=\"sip.test\", nonce=\"n\"\r\n\
                    WWW-Authenticate: Digest realm=\"sip.test\", nonce=\"n\"\r\n";
        bob.replies(&came, "407 Proxy Authentication Required", "b", asks);
        let told = alice.next();
        assert!(told.starts_with("SIP/2.0 407") && !told.contains("nonce"), "{told}");
    }
    // To says whose password is asked for within the call.
    for (uri, to) in
        [("sip:bob@sip.test", "<sip:amy@sip.test>"), ("sip:bob@192.0.2.1", "<sip:bob@sip.test>")]
    {
        alice.does(&Request { uri, to, ..message.clone() }, "alice", &password);
        assert_eq!(alice.status(), "403", "{uri} {to}");
    }
}

#[test]
fn a_call_that_failed_is_tried_again() {
    let edge = Edge::start();
    let ((_, password), (_, others)) = (edge.create("alice"), edge.create("bob"));
    let (alice, bob) = (Line::new(&edge, "127.0.0.1"), Line::new(&edge, "127.0.0.1"));
    assert!(bob.registers("bob", &others, "").starts_with("SIP/2.0 200"));
    let invite = Request {
        method: "INVITE",
        uri: "sip:bob@sip.test",
        from: "<sip:alice@sip.test>;tag=a",
        to: "<sip:bob@sip.test>",
        call: "a-call",
        more: "",
    };
    // By the same Call-ID and tag: with the interval that a 422 asks for, say (RFC 4028 section 7.3).
    for (status, tag) in [("422 Session Interval Too Small", "b"), ("200 OK", "c")] {
        alice.does(&invite, "alice", &password);
        let came = bob.next();
        assert!(came.starts_with("INVITE "), "no INVITE, but {came}");
        bob.replies(&came, status, tag, "");
        let told = alice.next();
        assert!(told.contains(status), "{told}");
        let to = format!("<sip:bob@sip.test>;tag={tag}");
        let ack = Request { method: "ACK", to: &to, ..invite.clone() };
        if tag == "b" {
            alice.sends_again(&ack, "");
        } else {
            alice.sends(&ack, "");
        }
        let came = bob.next();
        assert!(came.starts_with("ACK ") && came.contains(&to), "{came}");
    }
}

fn rotate(edge: &Edge, name: &str, overlap: i64) -> String {
    let request = RotateCredentialRequest {
        name: name.to_owned(),
        overlap: Some(prost_types::Duration { seconds: overlap, nanos: 0 }),
        ..RotateCredentialRequest::default()
    };
    edge.runtime.block_on(edge.clients().rotate(request)).unwrap().1.password
}

fn enable(edge: &Edge, name: &str, enabled: bool) {
    let credential =
        Credential { name: name.to_owned(), enabled: Some(enabled), ..Credential::default() };
    let request = UpdateCredentialRequest {
        credential: Some(credential),
        update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".to_owned()] }),
        ..UpdateCredentialRequest::default()
    };
    edge.runtime.block_on(edge.clients().update(request)).unwrap();
}
