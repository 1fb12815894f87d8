//! Defects that are planted into the files of deploy/kamailio/, and the tests that have to see them.

use std::process::Command;

use super::edge::Defect;

/// Each is built in once, and the test that it is named with has to see it.
pub(crate) const DEFECTS: &[Defect] = &[
    Defect {
        name: "an_error_lets_in",
        file: "credvault_auth.py",
        right: "            code = error.code()\n",
        wrong: "            KSR.pv.sets('$var(user)', 'alice')\n            return PASS\n",
    },
    Defect {
        name: "counts_are_not_looked_at",
        file: "credvault_auth.py",
        right: "check_nonce=True",
        wrong: "check_nonce=False",
    },
    Defect {
        name: "copies_are_asked_about",
        file: "kamailio.cfg",
        right: "!t_newtran()",
        wrong: "is_method(\"ACK\")",
    },
    Defect {
        name: "anybody_is_anybody",
        file: "kamailio.cfg",
        right: "$var(claimed) != $var(user) + \"@\" + SIP_DOMAIN",
        wrong: "$var(user) == \"\"",
    },
    Defect {
        name: "all_have_one_source",
        file: "credvault_auth.py",
        right: "KSR.pv.get(\"$si\")",
        wrong: "\"127.0.0.1\"",
    },
    Defect {
        name: "within_a_call_nobody_is_challenged",
        file: "kamailio.cfg",
        right: "\t\troute(AUTH);   # [vault]\n\t\t# A phone may move.\n",
        wrong: "",
    },
    Defect {
        name: "within_a_call_the_request_says_where",
        file: "kamailio.cfg",
        right: "$du = $dlg_var(callee);",
        wrong: "$du = $ru;",
    },
    Defect {
        name: "tags_are_not_looked_at",
        file: "kamailio.cfg",
        right: "if ($ft == $dlg_var(caller_tag) && $tt == $dlg_var(callee_tag)) $var(known) = 1;",
        wrong: "$var(known) = 1;",
    },
    Defect {
        name: "a_contact_says_where",
        file: "kamailio.cfg",
        right: "\tfix_nated_register();\n",
        wrong: "",
    },
    Defect {
        name: "credentials_are_relayed",
        file: "kamailio.cfg",
        right: "^(Route|Authorization|Proxy-Authorization)$",
        wrong: "^(x)$",
    },
    Defect {
        name: "identities_are_relayed",
        file: "kamailio.cfg",
        right: "^(P-Asserted-Identity|P-Preferred-Identity|Remote-Party-ID|Diversion|History-Info)$",
        wrong: "^(x)$",
    },
    Defect {
        name: "a_callee_may_challenge",
        file: "kamailio.cfg",
        right: "^(WWW-Authenticate|Proxy-Authenticate|",
        wrong: "^(x|",
    },
    Defect {
        name: "credentials_are_for_anything",
        file: "credvault_auth.py",
        right: "meant is None or meant != address(received(KSR.pv.get, \"$ru\"))",
        wrong: "meant == 0",
    },
    Defect {
        name: "challenges_are_remembered",
        file: "kamailio.cfg",
        right: "\tif (is_present_hf(\"Authorization\") || is_present_hf(\"Proxy-Authorization\")) {\n",
        wrong: "\tif (!is_method(\"ACK\")) {\n",
    },
    Defect {
        name: "each_question_has_its_time",
        file: "credvault_auth.py",
        right: "max(self.ends - time.monotonic(), 0)",
        wrong: "TIMEOUT",
    },
    Defect {
        name: "a_tag_makes_another_call",
        file: "kamailio.cfg",
        right: "if (is_known_dlg() && $dlg(state) != 5) {",
        wrong: "if (is_method(\"ACK\")) {",
    },
];

/// Runs a test once more with a defect, which it has to see.
fn planted(name: &str, test: &str, sees: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("KAMAILIO_DEFECT", name);
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success(), "{test} does not notice {name}");
    assert!(said.contains(sees), "{test} fails for another reason than {name}: {said}");
}

#[test]
fn errors_that_let_in_are_caught() {
    planted("an_error_lets_in", "nobody_gets_in_while_the_vault_is_away", "not 503, but [\"200\"]");
}

#[test]
fn replays_are_caught() {
    planted("counts_are_not_looked_at", "an_answer_is_good_once", "not 401, but [\"200\"]");
}

#[test]
fn copies_are_caught() {
    planted("copies_are_asked_about", "copies_of_a_request_are_not_replays", "\"401\"");
}

#[test]
fn impostors_are_caught() {
    planted(
        "anybody_is_anybody",
        "nobody_registers_as_somebody_else",
        "not 403, but [\"401\", \"200\"]",
    );
}

#[test]
fn lockouts_are_caught() {
    planted(
        "all_have_one_source",
        "who_guesses_waits_and_nobody_else_does",
        "not 200, but [\"401\", \"500\"]",
    );
}

#[test]
fn ways_through_a_call_are_caught() {
    let test = "a_call_goes_between_its_two_phones_only";
    for (name, sees) in [
        ("within_a_call_nobody_is_challenged", "right: \"407\""),
        ("within_a_call_the_request_says_where", "no ACK, but "),
        ("tags_are_not_looked_at", "right: \"481\""),
        ("a_contact_says_where", "no INVITE, but "),
        ("credentials_are_relayed", "authorization: INVITE sip:"),
        ("identities_are_relayed", "identity: INVITE sip:"),
        ("a_tag_makes_another_call", "right: \"482\""),
    ] {
        planted(name, test, sees);
    }
}

#[test]
fn leaks_are_caught() {
    let test = "what_is_between_a_phone_and_kamailio_stays_there";
    planted("credentials_are_for_anything", test, "right: \"400\"");
    planted("a_callee_may_challenge", test, "SIP/2.0 407");
    planted("credentials_are_relayed", test, "authorization: MESSAGE sip:");
}

#[test]
fn waste_is_caught() {
    planted("challenges_are_remembered", "calls_are_challenged_too", "right: \"\"");
    let test = "a_request_waits_for_its_questions_together";
    planted("each_question_has_its_time", test, "600 ms twice");
}
