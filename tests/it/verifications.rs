//! What a verification looks at beside the token: each check, how it ends, what it says, and that none of them
//! keeps a good token out.

mod hanging;
mod history;
mod keys;
mod limits;
mod numbers;
mod regions;
mod trunks;
mod upgrade;

use std::time::Duration;

use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{
    CheckStatus, CreateProviderRequest, ListVerificationsRequest, Provider, TwilioProvider,
    Verification, VerificationStatus,
};
use jiff::SignedDuration;

use crate::providers::{SID, TOKEN, TOKEN_2, create_provider, delete, update_token};
use crate::support::fakes::twilio::{FakeTwilio, Fault, Trunk};
use crate::support::{Clients, TestVault, outcome};

pub(crate) const TRUNK: &str = "TK0123456789abcdef0123456789abcdef";
pub(crate) const LIST: &str = "CL0123456789abcdef0123456789abcdef";

/// The path of the phone numbers of [`SID`].
const NUMBERS: &str =
    "/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/IncomingPhoneNumbers";

/// A request for a provider of [`SID`] with all that a verification can look at.
pub(crate) fn on_trunk(id: &str) -> CreateProviderRequest {
    let kind = TwilioProvider {
        account_sid: SID.to_owned(),
        sip_trunk_sid: Some(TRUNK.to_owned()),
        credential_list_sid: Some(LIST.to_owned()),
        ..Default::default()
    };
    let provider = Provider { kind: Some(Kind::Twilio(kind)), ..Default::default() };
    CreateProviderRequest { provider: Some(provider), ..create_provider(id) }
}

fn trunk() -> Trunk {
    Trunk { sid: TRUNK.to_owned(), credential_lists: vec![LIST.to_owned()], ..Trunk::default() }
}

/// An account in which all is well, whatever was there before.
fn all_is_well(twilio: &FakeTwilio) {
    twilio.add_account(SID, TOKEN);
    twilio.set_trunk(SID, trunk());
    twilio.add_numbers(SID, 3, Some(TRUNK));
    twilio.add_numbers(SID, 2, None);
    for path in [NUMBERS, "/v1/Trunks", "/CredentialLists", ""] {
        twilio.set_path_fault(path, None);
    }
}

/// A vault with `providers/main` on a trunk, all of it well.
pub(crate) async fn with_trunk() -> (TestVault, Clients, Provider) {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    all_is_well(&vault.twilio);
    let main = acme.create_provider(on_trunk("main")).await.unwrap();
    (vault, acme, main)
}

fn verification(provider: &Provider) -> &Verification {
    provider.verification.as_ref().unwrap()
}

fn status(provider: &Provider) -> VerificationStatus {
    verification(provider).status()
}

/// Each check as `name STATUS: message`.
fn checks(verification: &Verification) -> Vec<String> {
    let line = |name: &str, status: CheckStatus, message: &str| {
        let status = status.as_str_name().strip_prefix("CHECK_STATUS_").unwrap();
        format!("{name} {status}: {message}")
    };
    let checks = &verification.checks;
    checks.iter().map(|check| line(&check.name, check.status(), &check.message)).collect()
}

/// Each check as `name STATUS`.
fn ends(provider: &Provider) -> Vec<String> {
    let lines = checks(verification(provider));
    lines.iter().map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

fn account(provider: &Provider) -> &TwilioProvider {
    let Some(Kind::Twilio(account)) = &provider.kind else { panic!("{provider:?}") };
    account
}

/// Termination URI, call transfer, number of phone numbers.
fn facts(provider: &Provider) -> (&str, Option<bool>, Option<i64>) {
    let termination_uri = account(provider).termination_uri.as_str();
    (termination_uri, provider.supports_call_transfer, provider.phone_number_count)
}

/// The whole history of `providers/main`, newest first.
async fn history(acme: &Clients) -> Vec<Verification> {
    let parent = "accounts/acme/providers/main".to_owned();
    let request = ListVerificationsRequest { parent, page_size: 200, ..Default::default() };
    let answer = acme.providers.clone().list_verifications(request).await.unwrap().into_inner();
    assert_eq!(answer.next_page_token, "");
    answer.verifications
}

/// Waits until requests for such a path have come this often.
pub(crate) async fn asked_for(twilio: &FakeTwilio, path: &str, times: u64) {
    loop {
        // In this order: a request that comes in between is not missed.
        let calls = twilio.calls();
        if twilio.calls_to(path) >= times {
            return;
        }
        let next = twilio.called(calls + 1);
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("it is never asked for");
    }
}

/// An answer of this status with this body.
fn says(status: u16, body: &str) -> Fault {
    let headers = vec![("content-type", "application/json".to_owned())];
    Fault::StatusWith { status, headers, body: body.as_bytes().to_vec() }
}

const URI: &str = "sip:trial.pstn.twilio.com";

/// What the checks say when all is well.
const WELL: [&str; 5] = [
    "credentials PASSED: Twilio accepts the Auth Token for this account",
    "account_active PASSED: the account is active",
    "sip_trunk PASSED: calls go to sip:trial.pstn.twilio.com; call transfer is off",
    "credential_list PASSED: the credential list is attached to the trunk",
    "phone_numbers PASSED: 3 phone numbers are assigned to the trunk",
];

/// The lines of [`WELL`] with those of the same check in their place.
fn well_but(lines: &[&str]) -> Vec<String> {
    let check = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let other = |well: &&str| lines.iter().copied().find(|line| check(line) == check(well));
    WELL.iter().map(|well| other(well).unwrap_or(well).to_owned()).collect()
}

/// Something about the carrier, and what the checks beside the token make of it.
struct Row {
    what: &'static str,
    make: Box<dyn Fn(&FakeTwilio)>,
    lines: Vec<&'static str>,
    facts: (&'static str, Option<bool>, Option<i64>),
}

impl Row {
    fn new(
        what: &'static str,
        make: impl Fn(&FakeTwilio) + 'static,
        lines: &[&'static str],
    ) -> Self {
        let facts = (URI, Some(false), Some(3));
        Self { what, make: Box::new(make), lines: lines.to_vec(), facts }
    }

    fn of_trunk(what: &'static str, change: fn(&mut Trunk), lines: &[&'static str]) -> Self {
        let make = move |twilio: &FakeTwilio| {
            let mut trunk = trunk();
            change(&mut trunk);
            twilio.set_trunk(SID, trunk);
        };
        Self::new(what, make, lines)
    }

    fn fault(path: &'static str, fault: Fault, lines: &[&'static str]) -> Self {
        let make = move |twilio: &FakeTwilio| twilio.set_path_fault(path, Some(fault.clone()));
        Self::new(path, make, lines)
    }

    fn facts(self, uri: &'static str, transfer: bool, numbers: i64) -> Self {
        self.found(uri, Some(transfer), Some(numbers))
    }

    fn found(mut self, uri: &'static str, transfer: Option<bool>, numbers: Option<i64>) -> Self {
        self.facts = (uri, transfer, numbers);
        self
    }
}

macro_rules! unavailable {
    ($check:literal, $why:literal) => {
        unavailable!($check, $why, "verify again later")
    };
    ($check:literal, $why:literal, $then:literal) => {
        concat!($check, " UNAVAILABLE: Twilio could not be asked (", $why, "): ", $then)
    };
}

macro_rules! nonsense {
    ($check:literal) => {
        unavailable!(
            $check,
            "its answer makes no sense",
            "whoever runs the vault has to look at its log and its network"
        )
    };
}

fn trunk_rows() -> Vec<Row> {
    let transferable =
        "sip_trunk PASSED: calls go to sip:trial.pstn.twilio.com; call transfer is on";
    let no_uri = "sip_trunk FAILED: the trunk has no termination URI: set one in the Twilio Console under \
                  Termination";
    let no_calls = "sip_trunk FAILED: the trunk accepts no calls from you: attach a credential list or an IP access \
                    control list to it in the Twilio Console under Termination";
    let detached = "credential_list FAILED: the trunk has no such credential list: attach it in the Twilio Console \
                    under Termination, or correct twilio.credential_list_sid";
    let no_trunk = [
        "sip_trunk FAILED: the account has no such trunk in us1: set twilio.sip_trunk_sid to one that it has, or to \
         none",
        "credential_list SKIPPED: not checked, since there is no such trunk",
        "phone_numbers SKIPPED: not checked, since there is no such trunk",
    ];
    let foreign = "sip_trunk FAILED: the trunk belongs to another account: set twilio.sip_trunk_sid to one of \
                   this account";
    let nonsense = nonsense!("sip_trunk");
    let of_another_account = format!(
        "{{\"sid\": \"{TRUNK}\", \"account_sid\": \"AC{}\", \"domain_name\": \"x\"}}",
        "f".repeat(32)
    );
    vec![
        Row::new("nothing", |_| (), &[]),
        Row::of_trunk("enable-all", |it| it.transfer_mode = "enable-all".into(), &[transferable])
            .facts(URI, true, 3),
        Row::of_trunk("sip-only", |it| it.transfer_mode = "sip-only".into(), &[transferable])
            .facts(URI, true, 3),
        Row::of_trunk("a new mode", |it| it.transfer_mode = "half".into(), &[nonsense]),
        Row::of_trunk("IP_ACL", |it| it.auth_type = "IP_ACL,CREDENTIAL_LIST".into(), &[]),
        Row::of_trunk("no traffic", |it| it.auth_type.clear(), &[no_calls]),
        Row::of_trunk("no domain", |it| it.domain_name = None, &[no_uri]).facts("", false, 3),
        Row::of_trunk("no domain", |it| it.domain_name = Some(String::new()), &[no_uri])
            .facts("", false, 3),
        Row::of_trunk("no host name", |it| it.domain_name = Some("a b\n".into()), &[nonsense]),
        Row::of_trunk("detached", |it| it.credential_lists.clear(), &[detached]),
        Row::new(
            "no trunk",
            |it| it.set_path_fault("/v1/Trunks", Some(Fault::Status(404))),
            &no_trunk,
        )
        .found("", None, None),
        Row::new(
            "of another account",
            move |it| {
                let good = Some(says(200, &format!("{{\"sid\": \"{LIST}\"}}")));
                it.set_path_fault("/CredentialLists", good);
                it.set_path_fault("/v1/Trunks", Some(says(200, &of_another_account)));
            },
            &[foreign],
        )
        .found("", None, Some(3)),
    ]
}

fn number_rows() -> Vec<Row> {
    let none = "phone_numbers FAILED: no phone number is assigned to the trunk, so no incoming call reaches it: \
                assign one in the Twilio Console";
    let with = |numbers: usize| {
        move |twilio: &FakeTwilio| {
            twilio.add_account(SID, TOKEN);
            twilio.set_trunk(SID, trunk());
            twilio.add_numbers(SID, numbers, Some(TRUNK));
            twilio.add_numbers(SID, 7, None);
        }
    };
    let one = "phone_numbers PASSED: 1 phone number is assigned to the trunk";
    vec![
        Row::new("no number", with(0), &[none]).facts(URI, false, 0),
        Row::new("one number", with(1), &[one]).facts(URI, false, 1),
    ]
}

/// What can go wrong on the way, for each of the three checks.
fn fault_rows() -> Vec<Row> {
    macro_rules! each {
        ($fault:expr, $($why:literal),*) => {
            [
                Row::fault(
                    "/v1/Trunks",
                    $fault,
                    &[unavailable!("sip_trunk", $($why),*), unavailable!("credential_list", $($why),*)],
                ),
                Row::fault("/CredentialLists", $fault, &[unavailable!("credential_list", $($why),*)]),
                Row::fault(NUMBERS, $fault, &[unavailable!("phone_numbers", $($why),*)]),
            ]
        };
    }
    macro_rules! broken {
        ($fault:expr, $why:literal) => {
            each!($fault, $why, "whoever runs the vault has to look at its log and its network")
        };
    }
    macro_rules! refused {
        ($status:literal, $what:literal) => {
            [
                Row::fault(
                    "/v1/Trunks",
                    Fault::Status($status),
                    &[concat!("sip_trunk ", $what), concat!("credential_list ", $what)],
                ),
                Row::fault(NUMBERS, Fault::Status($status), &[concat!("phone_numbers ", $what)]),
            ]
        };
    }
    let not_yet = refused!(
        401,
        "UNAVAILABLE: Twilio accepts the token, but not here yet: verify again in a minute"
    );
    let [trunks, numbers] = refused!(
        403,
        "FAILED: Twilio refused this read although it accepts the Auth Token: see in the Twilio Console what the \
         account may do"
    );
    let not_allowed = [trunks.found("", None, Some(3)), numbers.found(URI, Some(false), None)];
    let nowhere = || Fault::Redirect("http://127.0.0.1:9/".to_owned());
    let rows = [
        each!(Fault::Status(500), "it failed"),
        each!(Fault::RateLimit(7), "it asks us to slow down"),
        each!(Fault::CloseBeforeAnswer, "it cannot be reached"),
        broken!(nowhere(), "it redirects elsewhere"),
        broken!(Fault::NotJson, "its answer makes no sense"),
        broken!(Fault::Status(418), "its answer makes no sense"),
        broken!(says(200, "{}"), "its answer makes no sense"),
    ];
    let mismatch = [nonsense!("sip_trunk"), nonsense!("credential_list")];
    let mismatch = Row::fault("/v1/Trunks", Fault::SidMismatch, &mismatch);
    let refusals = [not_yet, not_allowed].into_iter().flatten();
    rows.into_iter().flatten().chain(refusals).chain([mismatch]).collect()
}

#[tokio::test]
async fn each_check_says_what_it_found_and_none_keeps_a_good_token_out() {
    let (vault, acme, main) = with_trunk().await;
    let mut version = 1;
    for row in trunk_rows().into_iter().chain(number_rows()).chain(fault_rows()) {
        let what = format!("{}: {:?}", row.what, row.lines);
        all_is_well(&vault.twilio);
        vault.clock.advance(SignedDuration::from_mins(1));
        let well = acme.verify_provider(&main.name).await.unwrap();
        assert_eq!(checks(verification(&well)), WELL, "before {what}");
        assert_eq!(status(&well), VerificationStatus::Verified);
        let since = verification(&well).status_change_time;

        (row.make)(&vault.twilio);
        vault.clock.advance(SignedDuration::from_mins(1));
        let verified = acme.verify_provider(&main.name).await.unwrap();
        let updated = acme.update_token(update_token(&main.name, TOKEN)).await.unwrap();
        let created = acme.create_provider(on_trunk("new")).await.unwrap();
        version += 1;
        assert_eq!((updated.token_version, created.token_version), (version, 1), "{what}");

        let lines = well_but(&row.lines);
        let failed = lines.iter().any(|line| line.contains(" FAILED: "));
        let unknown = lines.iter().any(|line| line.contains(" UNAVAILABLE: "));
        for provider in [&verified, &updated] {
            let expected =
                if failed { VerificationStatus::Warning } else { VerificationStatus::Verified };
            assert_eq!(checks(verification(provider)), lines, "{what}");
            assert_eq!((status(provider), facts(provider)), (expected, row.facts), "{what}");
            let moved = verification(provider).status_change_time != since;
            assert_eq!(moved, failed, "{what}");
        }
        let good = !failed && !unknown;
        let expected =
            if good { VerificationStatus::Verified } else { VerificationStatus::Warning };
        assert_eq!((checks(verification(&created)), status(&created)), (lines, expected), "{what}");
        for answered in [&updated, &created] {
            let stored = acme.get_provider(&answered.name).await.unwrap();
            assert_eq!(stored, *answered, "what was answered is what is stored: {what}");
        }
        acme.providers.clone().delete_provider(delete(&created.name)).await.unwrap();
    }
    assert!(version > 35, "{version} rows");
}

/// Does something to the carrier.
type Make = fn(&FakeTwilio);

#[tokio::test]
async fn a_refusal_says_what_to_do_and_leaves_the_rest_unchecked() {
    let (vault, acme, main) = with_trunk().await;
    let passed = "credentials PASSED: Twilio accepts the Auth Token for this account";
    let unknown = "credentials SKIPPED: not checked: Twilio looks at no token of an account that is not active";
    let rejected = "credentials FAILED: Twilio refuses this token for this account in us1: check that the account is \
                    open, copy the current Auth Token of us1 from the Twilio Console, and call UpdateToken";
    let no_account = "credentials FAILED: Twilio knows no account with this SID: if the SID is wrong, create another \
                      provider";
    let another = "credentials FAILED: Twilio answered for another account: check which account the token belongs to";
    let closed = "account_active FAILED: Twilio says that the account is not active (suspended or closed): look into \
                  the Twilio Console, or ask Twilio's support";
    let unchecked = "account_active SKIPPED: not checked, since the credentials failed";
    let state = |it: &Provider| (it.etag.clone(), it.token_version, it.update_time);
    let rows: [(&str, Make, [&str; 2]); 8] = [
        ("another token", |it| it.set_token(SID, TOKEN_2), [rejected, unchecked]),
        ("suspended", |it| it.set_status(SID, "suspended"), [passed, closed]),
        ("closed", |it| it.set_status(SID, "closed"), [passed, closed]),
        ("401", |it| it.fail_next(Fault::Status(401)), [rejected, unchecked]),
        ("403", |it| it.fail_next(Fault::Status(403)), [unknown, closed]),
        ("404", |it| it.fail_next(Fault::Status(404)), [no_account, unchecked]),
        ("another SID", |it| it.fail_next(Fault::SidMismatch), [another, unchecked]),
        ("no SID", |it| it.fail_next(Fault::MissingSid), [another, unchecked]),
    ];
    for (what, make, [credentials, active]) in rows {
        all_is_well(&vault.twilio);
        acme.verify_provider(&main.name).await.unwrap();
        vault.clock.advance(SignedDuration::from_mins(1));
        make(&vault.twilio);
        let calls = vault.twilio.calls();
        let failed = acme.verify_provider(&main.name).await.unwrap();
        assert_eq!(vault.twilio.calls(), calls + 1, "nothing else is asked with a refused token");
        let skipped = |check| {
            format!("{check} SKIPPED: not checked, since the token or the account was refused")
        };
        let lines = ["sip_trunk", "credential_list", "phone_numbers"].map(skipped);
        let lines = [&[credentials.to_owned(), active.to_owned()][..], &lines].concat();
        assert_eq!(checks(verification(&failed)), lines, "{what}");
        assert_eq!(status(&failed), VerificationStatus::Failed, "{what}");
        let now = vault.now().as_second();
        assert!(verification(&failed).checks.iter().all(|it| it.time.unwrap().seconds == now));
        assert_eq!(facts(&failed), (URI, Some(false), Some(3)), "what was found is still known");
        assert_eq!(state(&failed), state(&main), "{what}");
    }
}

#[tokio::test]
async fn not_to_know_leaves_what_was_known() {
    use VerificationStatus::{Failed, Verified, Warning};
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    all_is_well(&vault.twilio);
    let outage = |is: bool| {
        for path in ["/v1/Trunks", NUMBERS] {
            vault.twilio.set_path_fault(path, is.then_some(Fault::Status(503)));
        }
    };
    let start = vault.now().as_second();
    let hour = || vault.clock.advance(SignedDuration::from_hours(1));
    // Status, hour of its change, hour of the verification, token version.
    let told = |it: &Provider| {
        let hours = |time: Option<prost_types::Timestamp>| (time.unwrap().seconds - start) / 3600;
        let it = verification(it);
        (it.status(), hours(it.status_change_time), hours(it.last_verify_time), it.token_version)
    };
    let known = (URI, Some(false), Some(3));

    outage(true);
    let main = acme.create_provider(on_trunk("main")).await.unwrap();
    assert_eq!((told(&main), facts(&main)), ((Warning, 0, 0, 1), ("", None, None)));
    hour();
    let verify = async || acme.verify_provider(&main.name).await.unwrap();
    let update = async || acme.update_token(update_token(&main.name, TOKEN)).await.unwrap();
    assert_eq!(told(&verify().await), (Warning, 0, 1, 1), "never known to be good");

    hour();
    outage(false);
    let good = verify().await;
    assert_eq!((told(&good), facts(&good)), ((Verified, 2, 2, 1), known));
    hour();
    outage(true);
    let dark = verify().await;
    assert_eq!((told(&dark), facts(&dark)), ((Verified, 2, 3, 1), known));
    hour();
    let updated = update().await;
    assert_eq!((told(&updated), facts(&updated)), ((Verified, 2, 4, 2), known));

    hour();
    outage(false);
    vault.twilio.set_trunk(SID, Trunk { auth_type: String::new(), ..trunk() });
    assert_eq!(told(&verify().await), (Warning, 5, 5, 2));
    hour();
    outage(true);
    assert_eq!(told(&verify().await), (Warning, 5, 6, 2), "nor is it good for being out of sight");
    hour();
    assert_eq!(told(&update().await), (Warning, 5, 7, 3));

    hour();
    vault.twilio.fail_next(Fault::Status(401));
    let failed = verify().await;
    assert_eq!((told(&failed), facts(&failed)), ((Failed, 8, 8, 3), known));
    hour();
    assert_eq!(told(&update().await), (Warning, 9, 9, 4), "the token is good, the rest unknown");
    hour();
    all_is_well(&vault.twilio);
    assert_eq!(told(&update().await), (Verified, 10, 10, 5));

    let told_before: Vec<_> = history(&acme).await.iter().map(Verification::status).collect();
    let expected = [
        Verified, Warning, Failed, Warning, Warning, Warning, Verified, Verified, Verified,
        Warning, Warning,
    ];
    assert_eq!(told_before, expected);
    let stored = acme.get_provider(&main.name).await;
    assert_eq!(outcome(&stored), "OK");
    assert_eq!(history(&acme).await.first(), stored.unwrap().verification.as_ref());
}
