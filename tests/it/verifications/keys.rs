//! API keys in place of the Auth Token: another user, another question to the carrier, the same rules.

use credvault::grpc::proto::{
    CreateProviderRequest, Provider, TwilioApiKey, UpdateTokenRequest, VerificationStatus,
};
use jiff::SignedDuration;

use super::{NUMBERS, account, checks, ends, on_trunk, says, status, verification, with_trunk};
use crate::providers::{SID, TOKEN, asked, update_token};
use crate::support::fakes::twilio::{ErrorShape, Fault};
use crate::support::{Clients, TestVault, outcome};

const KEY: &str = "SK0123456789abcdef0123456789abcdef";
const SECRET: &str = "SecretOfTheKeyThatNobodyReads123";
const REJECTED: &str = "FailedPrecondition UPSTREAM_REJECTED_TOKEN";

fn key(sid: &str, secret: &str) -> TwilioApiKey {
    TwilioApiKey { sid: sid.to_owned(), secret: secret.to_owned() }
}

fn update_key(name: &str, sid: &str, secret: &str) -> UpdateTokenRequest {
    UpdateTokenRequest { api_key: Some(key(sid, secret)), ..update_token(name, "") }
}

/// 403 with this code: 70051 says that the key may not do it, 20403 that the account is not active.
fn not_permitted(code: u32) -> Fault {
    Fault::Error { shape: ErrorShape::Classic, status: 403, code }
}

/// The wire form of an answer holds no secret.
fn shows_no_secret(provider: &Provider) {
    let text = format!("{provider:?}");
    assert!(!text.contains(SECRET) && !text.contains(TOKEN), "{text}");
}

/// What the checks say when all is well with the key.
const WELL: [&str; 5] = [
    "credentials PASSED: Twilio accepts the API key for this account",
    "account_active PASSED: Twilio serves this account (an API key cannot read the account's own status)",
    "sip_trunk PASSED: calls go to sip:trial.pstn.twilio.com; call transfer is off",
    "credential_list PASSED: the credential list is attached to the trunk",
    "phone_numbers PASSED: 3 phone numbers are assigned to the trunk",
];

#[tokio::test]
async fn a_key_takes_the_place_of_the_token_and_the_other_way_round() {
    let (vault, acme, main) = with_trunk().await;
    assert_eq!(account(&main).api_key_sid, "");
    vault.twilio.add_api_key(SID, KEY, SECRET);
    let of_account = asked(&vault);

    let keyed = acme.update_token(update_key(&main.name, KEY, SECRET)).await.unwrap();
    assert_eq!((keyed.token_version, account(&keyed).api_key_sid.as_str()), (2, KEY));
    assert_eq!(
        (checks(verification(&keyed)), status(&keyed)),
        (WELL.map(String::from).to_vec(), VerificationStatus::Verified)
    );
    shows_no_secret(&keyed);
    assert_eq!(acme.get_provider(&main.name).await.unwrap(), keyed);

    // The key is what the vault uses from now on, and after a restart: no other token is good any more.
    vault.twilio.set_token(SID, &"9".repeat(32));
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    let verified = acme.verify_provider(&main.name).await.unwrap();
    assert_eq!((ends(&verified), status(&verified)), (ends(&keyed), VerificationStatus::Verified));
    assert_eq!(asked(&vault), of_account, "a key may not read the account, so it is not asked for");
    let first = format!("GET {NUMBERS}.json?PageSize=1");
    assert!(vault.twilio.requests().contains(&first), "{:?}", vault.twilio.requests());

    let created = CreateProviderRequest {
        auth_token: String::new(),
        api_key: Some(key(KEY, SECRET)),
        ..on_trunk("keyed")
    };
    let created = acme.create_provider(created).await.unwrap();
    assert_eq!((account(&created).api_key_sid.as_str(), ends(&created)), (KEY, ends(&keyed)));
    shows_no_secret(&created);
    assert_eq!(asked(&vault), of_account);

    vault.twilio.set_token(SID, TOKEN);
    let back = acme.update_token(update_token(&main.name, TOKEN)).await.unwrap();
    assert_eq!((back.token_version, account(&back).api_key_sid.as_str()), (3, ""));
    assert_eq!(checks(verification(&back)), super::WELL);
    assert_eq!(asked(&vault), of_account + 1);
    let log = format!("{:?}", acme.audit_log("acme").await);
    assert!(!log.contains(SECRET) && !log.contains(TOKEN));
}

#[tokio::test]
async fn a_key_that_is_not_of_the_account_is_refused_and_changes_nothing() {
    let (vault, acme, main) = with_trunk().await;
    let other = "ACffffffffffffffffffffffffffffffff";
    let other_key = format!("SK{}", "f".repeat(32));
    vault.twilio.add_account(other, TOKEN);
    vault.twilio.add_api_key(other, &other_key, SECRET);
    vault.twilio.add_api_key(SID, KEY, SECRET);
    let wrong = SECRET.to_ascii_uppercase();
    let foreign =
        says(200, &format!("{{\"incoming_phone_numbers\": [{{\"account_sid\": \"{other}\"}}]}}"));
    let (state, before) = (vault.state(), asked(&vault));
    for (what, fault, sid, secret, expected) in [
        ("a wrong secret", None, KEY, wrong.as_str(), REJECTED),
        ("a key that there is not", None, &format!("SK{}", "0".repeat(32)), SECRET, REJECTED),
        ("a key of another account", None, &other_key, SECRET, REJECTED),
        (
            "an answer of another account",
            Some(foreign),
            KEY,
            SECRET,
            "FailedPrecondition UPSTREAM_SID_MISMATCH",
        ),
        ("no right to read", Some(not_permitted(70_051)), KEY, SECRET, REJECTED),
        (
            "closed",
            Some(not_permitted(20_403)),
            KEY,
            SECRET,
            "FailedPrecondition UPSTREAM_ACCOUNT_INACTIVE",
        ),
        (
            "no such account",
            Some(Fault::Status(404)),
            KEY,
            SECRET,
            "FailedPrecondition UPSTREAM_ACCOUNT_NOT_FOUND",
        ),
        ("no list", Some(says(200, "{}")), KEY, SECRET, "Unavailable UPSTREAM_PROTOCOL"),
        ("down", Some(Fault::Status(500)), KEY, SECRET, "Unavailable UPSTREAM_ERROR retry 1s"),
    ] {
        vault.twilio.set_path_fault(NUMBERS, fault);
        let calls = vault.twilio.calls();
        let refused = acme.update_token(update_key(&main.name, sid, secret)).await;
        assert_eq!(outcome(&refused), expected, "{what}");
        let create = CreateProviderRequest {
            auth_token: String::new(),
            api_key: Some(key(sid, secret)),
            ..on_trunk("new")
        };
        assert_eq!(outcome(&acme.create_provider(create).await), expected, "{what}");
        assert_eq!(vault.twilio.calls(), calls + 2, "{what}");
        assert_eq!(vault.state(), state, "{what}");
    }
    assert_eq!(asked(&vault), before);
}

/// A vault whose `providers/main` has a key.
async fn with_key() -> (TestVault, Clients, Provider) {
    let (vault, acme, main) = with_trunk().await;
    vault.twilio.add_api_key(SID, KEY, SECRET);
    let keyed = acme.update_token(update_key(&main.name, KEY, SECRET)).await.unwrap();
    (vault, acme, keyed)
}

#[tokio::test]
async fn what_a_key_may_not_do_is_said_by_the_check_that_needs_it() {
    let (vault, acme, main) = with_key().await;
    let skipped =
        |check| format!("{check} SKIPPED: not checked, since the token or the account was refused");
    let refused = |credentials: &str, active: &str| {
        let rest = ["sip_trunk", "credential_list", "phone_numbers"].map(skipped);
        [&[credentials.to_owned(), active.to_owned()][..], &rest].concat()
    };
    let unchecked = "account_active SKIPPED: not checked, since the credentials failed";
    let may_not = "credentials FAILED: the API key may not read phone numbers: allow it that in the Twilio Console, or call UpdateToken with a Standard key";
    let revoked = "credentials FAILED: Twilio refuses this API key in us1: check that it still exists and that the account is open, \
                   or make a key in us1 and call UpdateToken";
    let unknown = "credentials SKIPPED: not checked: Twilio looks at no token of an account that is not active";
    let closed = "account_active FAILED: Twilio says that the account is not active (suspended or closed): look into \
                  the Twilio Console, or ask Twilio's support";
    for (what, fault, expected) in [
        ("no right", not_permitted(70_051), refused(may_not, unchecked)),
        ("no right, and no words", says(403, ""), refused(may_not, unchecked)),
        ("revoked", Fault::Status(401), refused(revoked, unchecked)),
        ("suspended", not_permitted(20_403), refused(unknown, closed)),
    ] {
        vault.clock.advance(SignedDuration::from_hours(1));
        vault.twilio.set_path_fault(NUMBERS, Some(fault));
        let failed = acme.verify_provider(&main.name).await.unwrap();
        assert_eq!(
            (checks(verification(&failed)), status(&failed)),
            (expected, VerificationStatus::Failed),
            "{what}"
        );
    }
    vault.twilio.set_path_fault(NUMBERS, None);

    // A restricted key that reads phone numbers and no trunks.
    vault.clock.advance(SignedDuration::from_hours(1));
    vault.twilio.set_path_fault("/v1/Trunks", Some(Fault::Status(403)));
    let partly = acme.verify_provider(&main.name).await.unwrap();
    let may_not = "Twilio does not let the API key read this: allow it that in the Twilio Console, or store the \
                   account's Auth Token with UpdateToken";
    let expected = [
        WELL[0].to_owned(),
        WELL[1].to_owned(),
        format!("sip_trunk FAILED: {may_not}"),
        format!("credential_list FAILED: {may_not}"),
        WELL[4].to_owned(),
    ];
    assert_eq!(
        (checks(verification(&partly)), status(&partly)),
        (expected.to_vec(), VerificationStatus::Warning)
    );
}
