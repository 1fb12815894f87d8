//! Credentials that live at a carrier, as people and scripts take them over and rotate them: what is said before anything
//! happens, what is delivered and when, and how it goes on after a carrier did not answer.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use jiff::SignedDuration;

use crate::carriers::{AUTH_ID, At};
use crate::cli_rotations::Desk;
use crate::providers::SID;
use crate::support::cli::{Ran, words};
use crate::support::fakes::carrier::Fault;

const FIRST: &str = "First-Passw0rd";

/// A vault with a provider and a credential at each carrier. `desk-1` lives at none.
struct Site {
    desk: Desk,
    /// What each credential is at its carrier, as it is typed.
    typed: Vec<String>,
}

/// The credential at a carrier: its id here, which is its username there.
fn id(at: At) -> &'static str {
    match at {
        At::Twilio => "pbx",
        At::Vobiz => "phone",
        At::Telepath => "agent-prod-01",
    }
}

/// What the call that changes a password has in it.
fn change(at: At) -> &'static str {
    match at {
        At::Twilio => "POST /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/SIP",
        At::Vobiz => "PUT /api/v1/Account",
        At::Telepath => "rotate-password",
    }
}

impl Site {
    /// Nothing is taken over yet.
    async fn bare() -> Self {
        let desk = Desk::start().await;
        let acme = desk.vault.acme().await;
        for at in At::ALL {
            at.add_account(&desk.vault);
            acme.providers.clone().create_provider(at.create(&provider(at))).await.unwrap();
        }
        let (list, credential) = (format!("CL{}", "1".repeat(32)), format!("CR{}", "2".repeat(32)));
        let vault = &desk.vault;
        let sip = (credential.as_str(), id(At::Twilio), FIRST);
        vault.twilio.add_sip_credential(SID, &list, sip);
        let vobiz = vault.vobiz.add_credential(AUTH_ID, id(At::Vobiz), FIRST);
        let token = At::Telepath.tokens()[0];
        let trunk = vault.telepath.add_trunk(token, id(At::Telepath), FIRST);
        fs::write(desk.path("first"), FIRST).unwrap();
        Command::new("chmod").arg("600").arg(desk.path("first")).status().unwrap();
        let typed = vec![
            format!("--twilio-credential {list}/{credential}"),
            format!("--vobiz-credential {vobiz}"),
            format!("--telepath-trunk {trunk}"),
        ];
        Self { desk, typed }
    }

    async fn start() -> Self {
        let site = Self::bare().await;
        for at in At::ALL {
            let create = site.create(at);
            site.desk.run(&create).says(0, &["with the password that you brought"]);
        }
        site
    }

    /// The command that takes a credential over.
    fn create(&self, at: At) -> String {
        let index = At::ALL.iter().position(|it| *it == at).unwrap();
        let (id, provider, typed) = (id(at), provider(at), &self.typed[index]);
        format!(
            "credentials create {id} --username {id} --realm sip.test --password-file first --provider {provider} {typed}"
        )
    }

    /// Whether the carrier lets a password in.
    fn accepts(&self, at: At, password: &str) -> bool {
        let vault = &self.desk.vault;
        match at {
            At::Twilio => vault.twilio.accepts(id(at), password),
            At::Vobiz => vault.vobiz.accepts(id(at), password),
            At::Telepath => vault.telepath.accepts(id(at), password),
        }
    }

    fn set_fault(&self, at: At, fault: Option<Fault>) {
        let (vault, part) = (&self.desk.vault, change(at));
        match at {
            At::Twilio => vault.twilio.set_path_fault(part, fault),
            At::Vobiz => vault.vobiz.set_path_fault(part, fault),
            At::Telepath => vault.telepath.set_path_fault(part, fault),
        }
    }

    /// Has the next call end so.
    fn fail_next(&self, at: At, fault: Fault) {
        let vault = &self.desk.vault;
        match at {
            At::Twilio => vault.twilio.fail_next(fault),
            At::Vobiz => vault.vobiz.fail_next(fault),
            At::Telepath => vault.telepath.fail_next(fault),
        }
    }

    /// Closes its port, or opens it again.
    async fn set_listening(&mut self, at: At, is_open: bool) {
        let vault = &mut self.desk.vault;
        match (at, is_open) {
            (At::Twilio, false) => vault.twilio.close().await,
            (At::Twilio, true) => vault.twilio.open().await,
            (At::Vobiz, false) => vault.vobiz.close().await,
            (At::Vobiz, true) => vault.vobiz.open().await,
            (At::Telepath, false) => vault.telepath.close().await,
            (At::Telepath, true) => vault.telepath.open().await,
        }
    }

    /// How often it was asked to change something.
    fn changes(&self, at: At) -> u64 {
        let (vault, part) = (&self.desk.vault, change(at));
        match at {
            At::Twilio => vault.twilio.calls_to(part),
            At::Vobiz => vault.vobiz.calls_to(part),
            At::Telepath => vault.telepath.calls_to(part),
        }
    }

    /// Runs a command to its end. Whenever it says that the vault asks again, the time for that comes.
    fn run_while_time_passes(&self, typed: &str) -> Ran {
        let mut command = self.desk.command(typed);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.contains("it is asked again") {
                self.desk.vault.clock.advance(SignedDuration::from_secs(10));
            }
            said.extend([&line, "\n"]);
        }
        Ran { err: said, ..Ran::from(child.wait_with_output().unwrap()) }
    }

    fn version(&self, at: At) -> String {
        let answer = self.desk.run(&format!("credentials get {} --output json", id(at))).json();
        answer["credential"]["version"].as_str().unwrap().to_owned()
    }

    /// The newest rotation of a credential, as it is listed, and its state.
    fn newest(&self, at: At) -> (String, String) {
        let listed = self.desk.run(&format!("rotations list {}", id(at))).out;
        let row = words(listed.lines().nth(1).unwrap());
        (row[0].to_owned(), row[1].to_owned())
    }

    /// Nothing has changed, and nothing is left lying about.
    #[track_caller]
    fn is_untouched(&self, at: At) {
        assert!(self.accepts(at, FIRST), "{at:?}");
        assert_eq!((self.version(at).as_str(), self.desk.files()), ("1", vec!["first".to_owned()]));
    }
}

fn provider(at: At) -> String {
    format!("{at:?}").to_lowercase()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_at_a_carrier_is_taken_over_and_listed() {
    let site = Site::bare().await;
    let desk = &site.desk;
    let list = desk.run("credentials list");
    assert!(!list.out.contains("PROVIDER"), "nobody needs the column: {list:?}");
    for at in At::ALL {
        let create = site.create(at);
        let without = |words: &str| create.replace(words, "");
        let provider = provider(at);
        desk.run(&without(" --password-file first")).says(2, &["--password-file"]);
        desk.run(&without(&format!(" --provider {provider}"))).says(2, &["--provider"]);
        desk.run(create.split_once(" --provider").unwrap().0).says(0, &[]);
        desk.run(&format!("credentials delete {}", id(at))).says(0, &[]);
        let alone = create.split_once(&format!(" {provider} --")).unwrap().0;
        desk.run(&format!("{alone} {provider}")).says(2, &["--vobiz-credential"]);
        desk.run(&create.replace(&format!("--provider {provider}"), "--provider none"))
            .says(1, &["NOT_FOUND", "`credvault providers list`"]);
        desk.run(&create.replace("--username ", "--username un"))
            .says(1, &["is not the username that it has at the carrier"]);
        desk.run(&create).says(0, &["with the password that you brought"]);
        let got = desk.run(&format!("credentials get {}", id(at)));
        got.says(0, &[&format!("accounts/acme/providers/{provider}")]);
    }
    let two = format!("{} --vobiz-credential x", site.create(At::Twilio));
    desk.run(&two).says(2, &["cannot be used with"]);
    desk.run(&site.create(At::Twilio).replace('/', "-")).says(2, &["write CL…/CR…"]);

    let listed = desk.run("credentials list");
    let rows: Vec<_> = listed.out.lines().map(words).collect();
    assert_eq!((rows.len(), rows[0][6]), (5, "PROVIDER"), "{listed:?}");
    let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap()[6];
    assert_eq!((row("desk-1"), row("phone")), ("-", "vobiz"));
    for filter in ["--carrier telepath", "--provider telepath"] {
        let ran = desk.run(&format!("credentials list {filter}"));
        assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
        ran.says(0, &["agent-prod-01"]);
    }
    desk.run("credentials list --carrier bt").says(2, &["telepath"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_happens_before_somebody_said_so() {
    let site = Site::start().await;
    for at in At::ALL {
        let id = id(at);
        let ran = site.desk.run(&format!("rotate {id} --out new"));
        let type_this = format!("type: `credvault rotate --yes {id} --out new`");
        let lives = format!("warning: {id} lives at {at:?} (providers/{})", provider(at));
        ran.says(1, &[&lives, "nothing has changed", &type_this]);
        let told =
            if at == At::Telepath { "makes the new password itself" } else { "keeps one password" };
        ran.says(1, &[told]);
        for typed in ["--overlap 1h", "--overlap 1h --require-confirmation"] {
            let ran = site.desk.run(&format!("rotate {id} --yes {typed}"));
            ran.says(1, &["there is no overlap: leave out --overlap"]);
        }
        assert_eq!(site.changes(at), 0);
        site.is_untouched(at);
    }
    for typed in ["--require-confirmation", "--password-length 32"] {
        let ran = site.desk.run(&format!("rotate agent-prod-01 --yes {typed}"));
        ran.says(1, &["Telepath", &format!("leave out {}", typed.split(' ').next().unwrap())]);
    }
    // The vault says the same to those who do not look before.
    site.desk.run("credentials rotate phone --overlap 1h").says(1, &["there is no overlap"]);
    site.is_untouched(At::Telepath);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_rotated_there_and_delivered_when_it_is_in_force() {
    let site = Site::start().await;
    for at in At::ALL {
        let id = id(at);
        let ran = site.desk.run(&format!("rotate {id} --yes"));
        ran.says(0, &["warning: ", "version 2, confirmed; the old one is dead"]);
        let new = ran.out.trim_end();
        assert_eq!((site.accepts(at, FIRST), site.accepts(at, new)), (false, true), "{at:?}");
        let ran = site.desk.run(&format!("rotate {id} --yes --out new.{id} --reason weekly"));
        ran.says(0, &["version 3, confirmed"]);
        assert!(site.accepts(at, &site.desk.own(&format!("new.{id}"))), "{at:?}");
        let ran = site.desk.run(&format!("credentials rotate {id}"));
        assert!(site.accepts(at, ran.says(0, &["version 4"]).out.trim()), "{at:?}");
    }
    let files = ["first", "new.agent-prod-01", "new.pbx", "new.phone"];
    assert_eq!(site.desk.files(), files, "no state is left");
}

/// A command that waits in the middle of its delivery until it is let go on.
fn delivering(site: &Site, typed: &str) -> (Child, String) {
    for fifo in ["begun", "block"] {
        assert!(Command::new("mkfifo").arg(site.desk.path(fifo)).status().unwrap().success());
    }
    let typed = format!("{typed} -- cat > got; echo > begun; exec cat block");
    let mut command = site.desk.command(&typed);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opens when the command has got this far.
    fs::read(site.desk.path("begun")).unwrap();
    (child, fs::read_to_string(site.desk.path("got")).unwrap())
}

fn let_go_on(site: &Site, child: Child) -> Ran {
    drop(fs::File::options().write(true).open(site.desk.path("block")).unwrap());
    let ran = Ran::from(child.wait_with_output().unwrap());
    for file in ["begun", "block", "got"] {
        fs::remove_file(site.desk.path(file)).unwrap();
    }
    ran
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_confirmation_it_is_delivered_first_and_set_there_then() {
    let site = Site::start().await;
    for at in [At::Twilio, At::Vobiz] {
        let typed = format!("rotate {} --yes --require-confirmation", id(at));
        let (child, new) = delivering(&site, &typed);
        assert_eq!((site.accepts(at, FIRST), site.accepts(at, &new)), (true, false), "{at:?}");
        let name = site.newest(at).0;
        site.desk
            .run(&format!("rotations show {name}"))
            .says(0, &["holding", "At a carrier only the old one works until then"]);
        site.desk.run(&format!("rotations resume {name}")).says(1, &["waits for no carrier"]);
        let_go_on(&site, child).says(0, &["version 2, confirmed; the old one is dead"]);
        assert_eq!((site.accepts(at, FIRST), site.accepts(at, &new)), (false, true), "{at:?}");

        // What cannot be delivered is not set there.
        site.desk.run(&format!("{typed} -- exit 3")).says(1, &["the old one is the active one"]);
        assert!(site.accepts(at, &new));
        let (name, state) = site.newest(at);
        assert_eq!(state, "holding");
        site.desk.run(&format!("rotations cancel {name}")).says(0, &["cancelled"]);
        fs::remove_file(site.desk.path(&format!("{}.rotation", id(at)))).unwrap();

        // It is refused after it was delivered.
        let (child, refused) = delivering(&site, &typed);
        site.set_fault(at, Some(Fault::Status(403)));
        let ran = let_go_on(&site, child);
        ran.says(1, &["the carrier refused the new password", "put the old one back"]);
        site.set_fault(at, None);
        assert_eq!((site.accepts(at, &new), site.accepts(at, &refused)), (true, false), "{at:?}");
        assert_eq!(site.desk.files(), ["first"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_a_carrier_is_waited_for() {
    let site = Site::start().await;
    for at in At::ALL {
        site.fail_next(at, Fault::CloseAfterEffect);
        let ran = site.run_while_time_passes(&format!("rotate {} --yes", id(at)));
        ran.says(0, &["no answer says whether it was done (UPSTREAM_", "version 2, confirmed"]);
        assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
        assert_eq!((site.accepts(at, ran.out.trim()), site.changes(at)), (true, 2), "{at:?}");
    }
    assert_eq!(site.desk.files(), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_want_to_wait_is_told_how_to_go_on() {
    let site = Site::start().await;
    for at in At::ALL {
        let id = id(at);
        site.set_fault(at, Some(Fault::CloseAfterEffect));
        let ran = site.desk.run(&format!("rotate {id} --yes --retry-for 0s"));
        let go_on = format!("`credvault rotate --resume {id}.rotation` goes on from here");
        ran.says(1, &["has not answered in time", "is not delivered", "no answer says so", &go_on]);
        assert_eq!(ran.out, "");
        let (name, state) = site.newest(at);
        assert_eq!(state, "applying");
        site.desk.run("rotations list --state applying").says(0, &[&name]);
        site.desk.run("rotations list --state pending").says(0, &["No rotation"]);
        let shown = site.desk.run(&format!("rotations show {name}"));
        let step = "the carrier was asked: no answer says whether it was done (UPSTREAM_";
        let resume = format!("`credvault rotations resume {name}` asks at once");
        shown.says(0, &[step, "next_call_time", "uncertain", &resume]);
        site.desk
            .run(&format!("rotate {id} --yes --out x"))
            .says(1, &["ROTATION_IN_PROGRESS", "`credvault rotations resume`"]);
        site.desk.run(&format!("rotations cancel {name}")).says(1, &["INVALID_STATE"]);
        let before = site.changes(at);
        site.desk.run(&format!("rotations resume {name}")).says(0, &["applying", &resume]);
        assert_eq!(site.changes(at), before + 1);
        site.set_fault(at, None);
        let ran = site.desk.run(&format!("rotate --resume {id}.rotation"));
        ran.says(0, &["version 2, confirmed"]);
        assert!(site.accepts(at, ran.out.trim()), "{at:?}");
    }
    assert_eq!(site.desk.files(), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_carrier_refuses_changes_nothing() {
    let mut site = Site::start().await;
    for at in At::ALL {
        let id = id(at);
        site.set_fault(at, Some(Fault::Status(403)));
        for typed in ["rotate ID --yes --out new", "credentials rotate ID"] {
            let ran = site.desk.run(&typed.replace("ID", id));
            ran.says(1, &["nothing was changed"]);
            site.is_untouched(at);
        }
        let (name, state) = site.newest(at);
        assert_eq!(state, "cancelled");
        site.desk
            .run(&format!("rotations show {name}"))
            .says(0, &["the carrier was asked: it said no, and did nothing (UPSTREAM_"]);
        site.desk.run(&format!("rotations resume {name}")).says(1, &["INVALID_STATE"]);

        // After it could not be asked at first.
        site.set_listening(at, false).await;
        let ran = site.desk.run(&format!("rotate {id} --yes --retry-for 0s --out new"));
        ran.says(1, &["nothing was done (UPSTREAM_UNREACHABLE)", "`credvault rotations cancel"]);
        ran.says(1, &["Nothing has changed at the carrier yet", "--resume new.rotation"]);
        site.set_listening(at, true).await;
        let ran = site.desk.run("rotate --resume new.rotation");
        ran.says(1, &["the carrier refused the new password", "Nothing has changed: the old"]);
        site.is_untouched(at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_needs_a_person_says_what_for() {
    let site = Site::start().await;
    for at in At::ALL {
        let id = id(at);
        site.fail_next(at, Fault::CloseAfterEffect);
        let ran = site.desk.run(&format!("rotate {id} --yes --retry-for 0s"));
        ran.says(1, &["--resume"]);
        site.set_fault(at, Some(Fault::Status(403)));
        let needs = "It needs a person: the carrier refuses, though an earlier call may have";
        let ran = site.desk.run(&format!("rotate --resume {id}.rotation"));
        ran.says(1, &[needs, "`credvault rotations resume", "--resume"]);
        let (name, state) = site.newest(at);
        assert_eq!(state, "needs-attention");
        site.desk.run(&format!("rotations show {name}")).says(0, &[needs]);
        site.set_fault(at, None);
        site.desk.run(&format!("rotations resume {name}")).says(0, &["succeeded", "it did so"]);
        let ran = site.desk.run(&format!("rotate --resume {id}.rotation"));
        ran.says(0, &["version 2, confirmed"]);
        assert!(site.accepts(at, ran.out.trim()), "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_call_is_repeated_under_its_id() {
    let site = Site::start().await;
    for at in At::ALL {
        let id = id(at);
        site.fail_next(at, Fault::CloseAfterEffect);
        let ran = site.desk.run(&format!("credentials rotate {id} --out new"));
        ran.says(1, &["has not answered yet, so there is no password to print"]);
        assert_eq!(site.desk.files(), ["first"], "no empty file is left");
        let again = ran.err.split_once("--request-id ").unwrap().1;
        let again = again.split_whitespace().next().unwrap();
        let again = format!("credentials rotate {id} --request-id {again}");
        let ran = site.desk.run(&format!("{again} --output json"));
        ran.says(1, &["has not answered yet"]);
        assert_eq!(ran.json()["rotation"]["state"], "ROTATION_STATE_APPLYING");
        let (name, _) = site.newest(at);
        site.desk.run(&format!("rotations resume {name}")).says(0, &["succeeded"]);
        let ran = site.desk.run(&again);
        assert!(site.accepts(at, ran.says(0, &["version 2"]).out.trim()), "{at:?}");
        site.desk.run(&again).says(1, &["SECRET_ALREADY_ISSUED"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_of_ones_own_waits_for_the_carrier_as_well() {
    let site = Site::start().await;
    fs::rename(site.desk.path("first"), site.desk.path("own")).unwrap();
    fs::write(site.desk.path("own"), "Second-Passw0rd").unwrap();
    for at in [At::Twilio, At::Vobiz] {
        site.fail_next(at, Fault::CloseAfterEffect);
        let ran = site.desk.run(&format!("credentials update {} --password-file own", id(at)));
        ran.says(1, &["UPSTREAM_PENDING", "`credvault rotations resume` has the carrier asked"]);
        let (name, state) = site.newest(at);
        assert_eq!((state.as_str(), site.accepts(at, "Second-Passw0rd")), ("applying", true));
        site.desk.run(&format!("rotations resume {name}")).says(0, &["succeeded"]);
        assert_eq!(site.version(at), "2");
    }
    site.desk
        .run("providers delete twilio")
        .says(1, &["PROVIDER_IN_USE", "`credvault credentials list --provider ID`"]);
}
