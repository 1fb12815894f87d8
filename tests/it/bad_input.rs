//! Bad input: each kind has its code, its reason and its field, and changes nothing.

mod access;
mod access_tokens;
mod digests;
mod providers;
mod rotations;
mod watches;
mod webhooks;

use std::collections::BTreeMap;

use credvault::access::Role;
use credvault::grpc::proto::{
    AuditFilter, CreateCredentialRequest, CreateProviderRequest, Credential, CredentialFilter,
    GetCredentialRequest, GetProviderRequest, ListAuditEntriesRequest, ListCredentialsRequest,
    ListProvidersRequest, ListVerificationsRequest, Provider, ProviderFilter,
    RotateCredentialRequest, UpdateTokenRequest, VerifyProviderRequest, VerifySipDigestRequest,
};

use crate::authorization::{Rpc, rpcs};
use crate::credentials::{create, create_with, delete, rotate, set_password, update};
use crate::providers::{
    SID, TOKEN, create_provider, delete as delete_provider, display_name, update_token,
};
use crate::support::calls::{Call, raw};
use crate::support::{TestVault, outcome};
use crate::tokens::rotation_of;

const DESK: &str = "accounts/acme/credentials/desk";
const MAIN: &str = "accounts/acme/providers/main";

const NOT_FOUND: &str = "NotFound NOT_FOUND";
const TOO_LARGE: &str = "ResourceExhausted MESSAGE_TOO_LARGE";
const TAKEN: &str = "AlreadyExists ALREADY_EXISTS";
const STALE: &str = "Aborted ETAG_MISMATCH";

/// What is wrong, the call, and its outcome. A bare word is the field of an `INVALID_FIELD`.
type Case = (&'static str, Call, &'static str);

/// A case for each bad value, made by `call`.
fn each<T: Into<Call>>(
    what: &'static str,
    bad: &[&str],
    field: &'static str,
    call: impl Fn(String) -> T,
) -> Vec<Case> {
    bad.iter().map(|text| (what, call((*text).to_owned()).into(), field)).collect()
}

fn with(change: impl FnOnce(&mut Credential)) -> CreateCredentialRequest {
    let mut request = create("new");
    change(request.credential.as_mut().unwrap());
    request
}

fn labelled(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn digest() -> VerifySipDigestRequest {
    VerifySipDigestRequest {
        parent: "accounts/acme".to_owned(),
        username: "alice".to_owned(),
        realm: "sip.test".to_owned(),
        method: "REGISTER".to_owned(),
        uri: "sip:sip.test".to_owned(),
        nonce: "n0nce".to_owned(),
        response: "0".repeat(32),
        ..Default::default()
    }
}

fn list() -> ListCredentialsRequest {
    ListCredentialsRequest { parent: "accounts/acme".to_owned(), ..Default::default() }
}

fn list_providers() -> ListProvidersRequest {
    ListProvidersRequest { parent: "accounts/acme".to_owned(), ..Default::default() }
}

fn list_verifications(parent: String) -> ListVerificationsRequest {
    ListVerificationsRequest { parent, ..Default::default() }
}

fn list_entries() -> ListAuditEntriesRequest {
    ListAuditEntriesRequest { parent: "accounts/acme".to_owned(), ..Default::default() }
}

/// Names that are none, of accounts, credentials and providers, and names of what is not there.
fn names() -> Vec<Case> {
    let long = format!("accounts/{}", "a".repeat(64));
    let accounts = [
        "",
        "acme",
        "accounts",
        "accounts/",
        "accounts/A",
        "accounts/ab",
        "accounts/acme/",
        "/accounts/acme",
        "accounts/acme/credentials/desk",
        "accounts/ac me",
        "accounts/acme\n",
        "accounts/acm\u{e9}",
        "accounts/../acme",
        "projects/acme",
        &long,
        "accounts/-",
    ];
    let children = [
        "",
        "desk",
        "accounts/acme",
        "accounts/acme/",
        "accounts/acme/desk",
        "accounts//x/desk",
        "accounts/acme/secrets/desk",
        "accounts/acme/credentials",
        "accounts/acme/credentials/",
        "accounts/acme/credentials/d",
        "accounts/acme/credentials/Desk",
        "accounts/acme/credentials/desk/",
        "accounts/acme/credentials/desk/versions/1",
        "accounts/acme/credentials/de%73k",
        "accounts/acme/credentials/desk\u{0}",
        "accounts/acme/providers/m",
        "accounts/acme/providers/main/",
        "accounts/acme/providers/-",
    ];
    let credentials = [&children[..], &[MAIN]].concat();
    let providers = [&children[..], &[DESK]].concat();
    let absent = "accounts/acme/credentials/absent".to_owned();
    let absent_provider = "accounts/acme/providers/absent".to_owned();
    let get = |name| GetCredentialRequest { name };
    let get_provider = |name| GetProviderRequest { name };
    let verify = |name| VerifyProviderRequest { name };
    [
        each("parent", &accounts, "parent", |parent| CreateCredentialRequest {
            parent,
            ..create("new")
        }),
        each("parent", &accounts, "parent", |parent| CreateProviderRequest {
            parent,
            ..create_provider("new")
        }),
        each("parent", &accounts, "parent", |parent| ListCredentialsRequest { parent, ..list() }),
        each("parent", &accounts, "parent", |parent| ListProvidersRequest {
            parent,
            ..list_providers()
        }),
        each("parent", &accounts, "parent", |parent| ListAuditEntriesRequest {
            parent,
            ..list_entries()
        }),
        each("parent", &accounts, "parent", |parent| VerifySipDigestRequest { parent, ..digest() }),
        each("name", &credentials, "name", get),
        each("name", &credentials, "name", |name| rotate(&name)),
        each("name", &credentials, "name", |name| delete(&name)),
        each("name", &credentials, "credential.name", |name| set_password(&name, "password-1")),
        each("name", &providers, "name", get_provider),
        each("name", &providers, "name", verify),
        each("name", &providers, "parent", list_verifications),
        each("name", &providers, "name", |name| update_token(&name, TOKEN)),
        each("name", &providers, "name", |name| rotation_of(&name)),
        each("name", &providers, "name", |name| delete_provider(&name)),
        each("name", &providers, "provider.name", |name| display_name(&name, "x")),
        vec![
            ("absent", get(absent.clone()).into(), NOT_FOUND),
            ("absent", rotate(&absent).into(), NOT_FOUND),
            ("absent", delete(&absent).into(), NOT_FOUND),
            ("absent", set_password(&absent, "password-1").into(), NOT_FOUND),
            ("absent", get_provider(absent_provider.clone()).into(), NOT_FOUND),
            ("absent", verify(absent_provider.clone()).into(), NOT_FOUND),
            ("absent", list_verifications(absent_provider.clone()).into(), NOT_FOUND),
            ("absent", update_token(&absent_provider, TOKEN).into(), NOT_FOUND),
            ("absent", rotation_of(&absent_provider).into(), NOT_FOUND),
            ("absent", delete_provider(&absent_provider).into(), NOT_FOUND),
            ("absent", display_name(&absent_provider, "x").into(), NOT_FOUND),
        ],
        each("foreign", &["accounts/other/credentials/desk"], NOT_FOUND, get),
        each("foreign", &["accounts/other/providers/main"], NOT_FOUND, get_provider),
        each("foreign", &["accounts/other/providers/main"], NOT_FOUND, list_verifications),
        each("foreign", &["accounts/other"], NOT_FOUND, |parent| CreateCredentialRequest {
            parent,
            ..create("new")
        }),
    ]
    .concat()
}

/// What a credential cannot be made of.
fn credentials() -> Vec<Case> {
    let long = "x".repeat(129);
    let sip = ["", "a:b", "a\"b", "a\\b", "a b", "a\tb", "a\nb", "a\u{0}", "\u{7f}", "é", &long];
    let ids = ["a", "ab", "1abc", "Abc", "a_b", "a b", "a/b", "desk\n", &"a".repeat(64)];
    let passwords = [
        "",
        "short-7",
        "tab\tin it",
        "quote\"in it",
        "back\\slash",
        "pässwörd",
        "line\nfeed",
        "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
        &"x".repeat(129),
    ];
    let texts = ["bell\u{7}", "null\u{0}", "return\r", "escape\u{1b}[2J", &"x".repeat(1025)];
    let keys = ["", "A", "1a", "a b", "é", "a\n", &"a".repeat(64)];
    let many = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
    let lengths = [1, 15, 65, u32::MAX];
    [
        each("username", &sip, "credential.username", |text| with(|c| c.username = text)),
        each("realm", &sip, "credential.realm", |text| with(|c| c.realm = text)),
        each("id", &ids, "credential_id", |credential_id| CreateCredentialRequest {
            credential_id,
            ..create("new")
        }),
        each("password", &passwords, "password", |text| create_with("new", &text)),
        each("password", &passwords, "password", |text| set_password(DESK, &text)),
        each("text", &texts, "credential.description", |text| with(|c| c.description = Some(text))),
        each("text", &texts, "credential.description", |text| {
            update(DESK, Credential { description: Some(text), ..Default::default() }, &[])
        }),
        each("key", &keys, "credential.labels", |key| with(|c| c.labels = labelled(&key, "x"))),
        each("value", &["\n", &"x".repeat(256)], "credential.labels", |value| {
            let labels = labelled("a", &value);
            update(DESK, Credential { labels, ..Default::default() }, &[])
        }),
        lengths
            .iter()
            .flat_map(|&password_length| -> [Case; 2] {
                let created = CreateCredentialRequest { password_length, ..create("new") };
                let rotated = RotateCredentialRequest { password_length, ..rotate(DESK) };
                [
                    ("length", created.into(), "password_length"),
                    ("length", rotated.into(), "password_length"),
                ]
            })
            .collect(),
        vec![
            (
                "nothing",
                CreateCredentialRequest { credential: None, ..create("") }.into(),
                "credential",
            ),
            ("too many labels", with(|c| c.labels = many).into(), "credential.labels"),
            (
                "a length for a password of one's own",
                CreateCredentialRequest { password_length: 16, ..create_with("new", "password-1") }
                    .into(),
                "password_length",
            ),
            ("taken", create("alice").into(), TAKEN),
            (
                "taken",
                CreateCredentialRequest { credential_id: "desk".to_owned(), ..create("new") }
                    .into(),
                TAKEN,
            ),
            (
                "another username",
                update(DESK, Credential { username: "bob".to_owned(), ..Default::default() }, &[])
                    .into(),
                "credential.username",
            ),
            (
                "a malformed realm",
                update(DESK, Credential { realm: "a b".to_owned(), ..Default::default() }, &[])
                    .into(),
                "credential.realm",
            ),
            (
                "no value",
                update(DESK, Credential::default(), &["enabled"]).into(),
                "credential.enabled",
            ),
        ],
    ]
    .concat()
}

/// What stands beside a mutation: masks, etags, request ids, reasons.
fn besides() -> Vec<Case> {
    let masks = [
        "nonsense",
        "password",
        "name",
        "username",
        "realm",
        "version",
        "create_time",
        "etag",
        "rotate_time",
        "last_success_time",
        "Enabled",
        "labels.site",
        "",
        " enabled",
        "credential.enabled",
        "a\u{0}b",
    ];
    let provider_masks = [
        "twilio",
        "twilio.account_sid",
        "twilio.region",
        "twilio.api_key_sid",
        "auth_token",
        "token_version",
        "kind",
    ];
    let ids = ["x", "00000000-0000-1000-8000-000000000001", "00000000000040008000000000000001"];
    let reasons = ["a\nb", "\u{0}", &"x".repeat(201)];
    let etags = ["\"x\"", "x", "*", "\u{0}\u{1}", "W/\"x\"", &"x".repeat(10_000)];
    [
        each("mask", &masks, "update_mask", |path| update(DESK, Credential::default(), &[&path])),
        each("mask", &["*"], "update_mask", |path| {
            update(DESK, Credential::default(), &[&path, "enabled"])
        }),
        each("mask", &provider_masks, "update_mask", |path| {
            crate::providers::update(MAIN, Provider::default(), &[&path])
        }),
        each("request id", &ids, "request_id", |request_id| CreateCredentialRequest {
            request_id,
            ..create("new")
        }),
        each("request id", &ids, "request_id", |request_id| UpdateTokenRequest {
            request_id,
            ..update_token(MAIN, TOKEN)
        }),
        each("reason", &reasons, "reason", |reason| RotateCredentialRequest {
            reason,
            ..rotate(DESK)
        }),
        each("reason", &reasons, "reason", |reason| CreateProviderRequest {
            reason,
            ..create_provider("new")
        }),
        each("etag", &etags, STALE, |etag| RotateCredentialRequest { etag, ..rotate(DESK) }),
        each("etag", &etags, STALE, |etag| UpdateTokenRequest {
            etag,
            ..update_token(MAIN, TOKEN)
        }),
        each("etag", &etags, STALE, |etag| {
            update(DESK, Credential { etag, ..Default::default() }, &[])
        }),
    ]
    .concat()
}

/// Pages and filters.
fn lists() -> Vec<Case> {
    let tokens = ["x", "AAAA", "=", "\u{0}", &"A".repeat(500), "🔑"];
    let filtered = |filter| ListCredentialsRequest { filter: Some(filter), ..list() };
    let before = |seconds, nanos| {
        let rotated_before = Some(prost_types::Timestamp { seconds, nanos });
        filtered(CredentialFilter { rotated_before, ..Default::default() })
    };
    let of = |provider_type, status| ListProvidersRequest {
        filter: Some(ProviderFilter { provider_type, status }),
        ..list_providers()
    };
    [
        each("page token", &tokens, "page_token", |page_token| ListCredentialsRequest {
            page_token,
            ..list()
        }),
        each("page token", &tokens, "page_token", |page_token| ListProvidersRequest {
            page_token,
            ..list_providers()
        }),
        each("page token", &tokens, "page_token", |page_token| ListVerificationsRequest {
            page_token,
            ..list_verifications(MAIN.to_owned())
        }),
        each("page token", &tokens, "page_token", |page_token| ListAuditEntriesRequest {
            page_token,
            ..list_entries()
        }),
        each("realm", &["a b", "a:b", &"x".repeat(129)], "filter.realm", |realm| {
            filtered(CredentialFilter { realm, ..Default::default() })
        }),
        each("prefix", &["a b", "\"", "é"], "filter.username_prefix", |username_prefix| {
            filtered(CredentialFilter { username_prefix, ..Default::default() })
        }),
        each("label", &["", "A"], "filter.labels", |key| {
            filtered(CredentialFilter { labels: labelled(&key, ""), ..Default::default() })
        }),
        vec![
            ("size", ListCredentialsRequest { page_size: -1, ..list() }.into(), "page_size"),
            (
                "size",
                ListVerificationsRequest { page_size: -1, ..list_verifications(MAIN.to_owned()) }
                    .into(),
                "page_size",
            ),
            (
                "size",
                ListProvidersRequest { page_size: i32::MIN, ..list_providers() }.into(),
                "page_size",
            ),
            (
                "size",
                ListAuditEntriesRequest { page_size: -1, ..list_entries() }.into(),
                "page_size",
            ),
            ("time", before(i64::MAX, 0).into(), "filter.rotated_before"),
            ("time", before(i64::MIN, 0).into(), "filter.rotated_before"),
            ("time", before(0, -1).into(), "filter.rotated_before"),
            ("time", before(0, 1_000_000_000).into(), "filter.rotated_before"),
            ("type", of(99, 0).into(), "filter.provider_type"),
            ("type", of(-1, 0).into(), "filter.provider_type"),
            ("status", of(0, 99).into(), "filter.status"),
        ],
    ]
    .concat()
}

/// One byte more than a message may have, in some text of each kind of call.
fn oversized() -> Vec<Case> {
    let huge = || "x".repeat(64 * 1024);
    vec![
        ("too large", with(|c| c.description = Some(huge())).into(), TOO_LARGE),
        ("too large", create_with("new", &huge()).into(), TOO_LARGE),
        ("too large", GetCredentialRequest { name: huge() }.into(), TOO_LARGE),
        ("too large", ListCredentialsRequest { page_token: huge(), ..list() }.into(), TOO_LARGE),
        ("too large", update(DESK, Credential::default(), &[&huge()]).into(), TOO_LARGE),
        ("too large", rotate(&huge()).into(), TOO_LARGE),
        ("too large", delete(&huge()).into(), TOO_LARGE),
        ("too large", create_provider(&huge()).into(), TOO_LARGE),
        ("too large", GetProviderRequest { name: huge() }.into(), TOO_LARGE),
        (
            "too large",
            ListProvidersRequest { page_token: huge(), ..list_providers() }.into(),
            TOO_LARGE,
        ),
        ("too large", display_name(MAIN, &huge()).into(), TOO_LARGE),
        ("too large", update_token(MAIN, &huge()).into(), TOO_LARGE),
        ("too large", VerifyProviderRequest { name: huge() }.into(), TOO_LARGE),
        ("too large", list_verifications(huge()).into(), TOO_LARGE),
        ("too large", delete_provider(&huge()).into(), TOO_LARGE),
        ("too large", VerifySipDigestRequest { uri: huge(), ..digest() }.into(), TOO_LARGE),
        (
            "too large",
            ListAuditEntriesRequest {
                filter: Some(AuditFilter { resource: huge() }),
                ..list_entries()
            }
            .into(),
            TOO_LARGE,
        ),
    ]
}

#[tokio::test]
async fn every_bad_input_has_its_answer_and_changes_nothing() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier, Role::SipClient]).await;
    let acme = crate::support::Clients::new(&crate::support::channel(vault.address), &token);
    vault.make_operator(&token).await;
    vault.token("other", &[Role::AccountAdmin]).await;
    vault.twilio.add_account(SID, TOKEN);
    let desk = CreateCredentialRequest { credential_id: "desk".to_owned(), ..create("alice") };
    acme.create(desk).await.unwrap();
    acme.create_provider(create_provider("main")).await.unwrap();
    let (state, connections) = (vault.state(), vault.twilio.connections());
    let log = acme.audit_log("acme").await;

    let cases = [
        names(),
        credentials(),
        access::cases(),
        access_tokens::cases(),
        providers::cases(),
        rotations::cases(),
        watches::cases(),
        webhooks::cases(),
        besides(),
        lists(),
        digests::cases(),
        oversized(),
    ]
    .concat();
    let mut met = std::collections::BTreeSet::new();
    for (number, (what, call, expected)) in cases.into_iter().enumerate() {
        let method = call.method();
        met.insert(method);
        let expected = if expected.contains(' ') {
            expected.to_owned()
        } else {
            format!("InvalidArgument INVALID_FIELD {expected}")
        };
        let found = outcome(&call.send(&acme).await);
        assert_eq!(found, expected, "case {number}: {method}: {what}");
    }
    for Rpc { method, path, .. } in rpcs() {
        assert!(met.contains(method.as_str()), "{method} has no case");
        let refused = raw(&vault, &token, &path, &[0xff, 0xfe]).await;
        assert_eq!(outcome(&refused), "InvalidArgument MALFORMED_MESSAGE", "{method}");
    }
    assert_eq!(vault.state(), state);
    assert_eq!(vault.twilio.connections(), connections, "nothing of it reaches the carrier");
    assert_eq!(acme.audit_log("acme").await, log, "invalid arguments are not audited");
}
