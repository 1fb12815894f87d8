//! Lists: fixed order, bounded pages, tokens that fit only the list that they came from.

use std::collections::BTreeMap;

use credvault::access::Role;
use credvault::grpc::proto::{
    AuditFilter, CreateCredentialRequest, Credential, CredentialFilter, ListAuditEntriesRequest,
    ListCredentialsRequest, ListCredentialsResponse, ListProvidersRequest, ListRoleBindingsRequest,
    ProviderFilter, ProviderType, VerificationStatus,
};
use futures_util::future::join_all;
use jiff::SignedDuration;
use prost::Message;
use tonic::Status;

use crate::credentials::{create, rotate};
use crate::providers::{SID, TOKEN, TOKEN_2, create_provider};
use crate::support::database::alter;
use crate::support::{Clients, TestVault, channel, outcome};

const BAD_TOKEN: &str = "InvalidArgument INVALID_FIELD page_token";

fn with_id(id: &str, username: &str) -> CreateCredentialRequest {
    CreateCredentialRequest { credential_id: id.to_owned(), ..create(username) }
}

fn list() -> ListCredentialsRequest {
    ListCredentialsRequest { parent: "accounts/acme".to_owned(), ..Default::default() }
}

fn filtered(filter: CredentialFilter) -> ListCredentialsRequest {
    ListCredentialsRequest { filter: Some(filter), ..list() }
}

async fn page(
    clients: &Clients,
    request: ListCredentialsRequest,
) -> Result<ListCredentialsResponse, Status> {
    let answer = clients.credentials.clone().list_credentials(request).await?;
    Ok(answer.into_inner())
}

/// Ids of a list, page by page.
async fn ids(clients: &Clients, mut request: ListCredentialsRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = page(clients, request.clone()).await.unwrap();
        let names = page.credentials.iter().map(|credential| credential.name.as_str());
        ids.extend(names.map(|name| name.rsplit('/').next().unwrap().to_owned()));
        if page.next_page_token.is_empty() {
            return ids;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn pages_are_ordered_bounded_and_complete() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let numbers: Vec<_> = (0..205).map(|number| format!("id-{number:03}")).collect();
    for some in numbers.chunks(50) {
        // In no order: the answer has one all the same.
        let created = some.iter().rev().map(|id| acme.create(with_id(id, id)));
        assert!(join_all(created).await.iter().all(Result::is_ok));
    }

    for (page_size, expected) in [(0, 50), (1, 1), (7, 7), (200, 200), (201, 200), (i32::MAX, 200)]
    {
        let request = ListCredentialsRequest { page_size, ..list() };
        let first = page(&acme, request.clone()).await.unwrap();
        assert_eq!(first.credentials.len(), expected, "page_size {page_size}");
        assert!(!first.next_page_token.is_empty());
        if page_size != 1 {
            assert_eq!(ids(&acme, request).await, numbers, "page_size {page_size}");
        }
    }
    for page_size in [-1, i32::MIN] {
        let refused = page(&acme, ListCredentialsRequest { page_size, ..list() }).await;
        assert_eq!(outcome(&refused), "InvalidArgument INVALID_FIELD page_size");
    }

    // Exactly full pages end without a token, and other page sizes may follow.
    let request = ListCredentialsRequest { page_size: 200, ..list() };
    let mut rest = ListCredentialsRequest { page_size: 5, ..list() };
    rest.page_token = page(&acme, request).await.unwrap().next_page_token;
    let rest = page(&acme, rest).await.unwrap();
    assert_eq!((rest.credentials.len(), rest.next_page_token.as_str()), (5, ""));
    let got = acme.get("accounts/acme/credentials/id-204").await.unwrap();
    assert_eq!(rest.credentials[4], got, "a list shows what a get shows");
}

#[tokio::test]
async fn a_page_token_fits_only_the_list_that_it_came_from() {
    let vault = TestVault::start().await;
    let roles = [Role::AccountAdmin];
    let token = vault.token("acme", &roles).await;
    let acme = Clients::new(&channel(vault.address), &token);
    let other = vault.clients("other", &roles).await;
    vault.twilio.add_account(SID, TOKEN);
    for id in ["id-1", "id-2", "id-3"] {
        acme.create(with_id(id, id)).await.unwrap();
        acme.create_provider(create_provider(id)).await.unwrap();
    }
    let enabled = |enabled| CredentialFilter { enabled: Some(enabled), ..Default::default() };
    let first = ListCredentialsRequest { page_size: 1, ..filtered(enabled(true)) };
    let token = page(&acme, first.clone()).await.unwrap().next_page_token;
    let next = ListCredentialsRequest { page_token: token.clone(), ..first.clone() };
    let expected = page(&acme, next.clone()).await.unwrap();
    assert_eq!(expected.credentials[0].username, "id-2");

    let with = |filter| ListCredentialsRequest { filter, ..next.clone() };
    let realm = CredentialFilter { realm: "sip.test".to_owned(), ..enabled(true) };
    for filter in [None, Some(enabled(false)), Some(realm), Some(CredentialFilter::default())] {
        assert_eq!(outcome(&page(&acme, with(filter)).await), BAD_TOKEN);
    }
    let elsewhere = ListCredentialsRequest { parent: "accounts/other".to_owned(), ..next.clone() };
    assert_eq!(outcome(&page(&other, elsewhere).await), BAD_TOKEN);
    let providers = ListProvidersRequest {
        parent: next.parent.clone(),
        page_token: token.clone(),
        ..Default::default()
    };
    let refused = acme.providers.clone().list_providers(providers).await;
    assert_eq!(outcome(&refused), BAD_TOKEN);
    let entries = ListAuditEntriesRequest {
        parent: next.parent.clone(),
        page_token: token.clone(),
        ..Default::default()
    };
    let refused = acme.audit.clone().list_audit_entries(entries).await;
    assert_eq!(outcome(&refused), BAD_TOKEN);

    let mut flipped = token.clone().into_bytes();
    flipped[20] = if flipped[20] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let garbage = ["x", "====", "AAAA", "id-1", &token[1..], &format!("{token}A"), &flipped];
    for garbage in garbage.into_iter().chain([&*"A".repeat(5000), "\u{0}", "ünï"]) {
        let page_token = garbage.to_owned();
        let refused = page(&acme, ListCredentialsRequest { page_token, ..next.clone() }).await;
        assert_eq!(outcome(&refused), BAD_TOKEN, "{garbage:?}");
    }

    // It is no session: a restart, another reader and a deleted neighbour do not matter.
    let vault = vault.restart().await;
    let reader = vault.clients("acme", &[Role::Reader]).await;
    assert_eq!(page(&reader, next.clone()).await.unwrap().credentials, expected.credentials);
    let acme = vault.clients("acme", &roles).await;
    acme.delete(crate::credentials::delete("accounts/acme/credentials/id-1")).await.unwrap();
    assert_eq!(page(&reader, next).await.unwrap().credentials, expected.credentials);
}

#[tokio::test]
async fn filters_find_exactly_what_they_say() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let new = |id: &str, username: &str, realm: &str, enabled, labels| CreateCredentialRequest {
        credential_id: id.to_owned(),
        credential: Some(Credential {
            username: username.to_owned(),
            realm: realm.to_owned(),
            enabled: Some(enabled),
            labels,
            ..Default::default()
        }),
        ..create("")
    };
    let site = |value: &str| labels(&[("site", value)]);
    let started = vault.now();
    for request in [
        new("one", "desk-1", "sip.a", true, site("berlin")),
        new("two", "desk_2", "sip.b", false, site("Berlin")),
        new("three", "desk%", "sip.b", true, labels(&[("site", "berlin"), ("team", "a.b")])),
        new("four", "phone", "sip.a", false, labels(&[("team", "a.b"), ("a.b", "team")])),
    ] {
        acme.create(request).await.unwrap();
        vault.clock.advance(SignedDuration::from_secs(60));
    }
    acme.rotate(rotate("accounts/acme/credentials/one")).await.unwrap();

    let filter = CredentialFilter::default;
    let enabled = |enabled| CredentialFilter { enabled: Some(enabled), ..filter() };
    let realm = |realm: &str| CredentialFilter { realm: realm.to_owned(), ..filter() };
    let prefix = |text: &str| CredentialFilter { username_prefix: text.to_owned(), ..filter() };
    let labelled = |pairs| CredentialFilter { labels: labels(pairs), ..filter() };
    let before = |seconds| {
        let time = started.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let time = prost_types::Timestamp { seconds: time.as_second(), nanos: 0 };
        CredentialFilter { rotated_before: Some(time), ..filter() }
    };
    let cases: [(CredentialFilter, &[&str]); 24] = [
        (filter(), &["four", "one", "three", "two"]),
        (enabled(true), &["one", "three"]),
        (enabled(false), &["four", "two"]),
        (realm("sip.a"), &["four", "one"]),
        (realm("sip"), &[]),
        (realm("SIP.A"), &[]),
        (prefix("desk"), &["three", "one", "two"]),
        (prefix("desk_"), &["two"]),
        (prefix("desk%"), &["three"]),
        (prefix("Desk"), &[]),
        (prefix("desk-1"), &["one"]),
        (prefix("desk-11"), &[]),
        (labelled(&[("site", "berlin")]), &["one", "three"]),
        (labelled(&[("site", "berlin"), ("team", "a.b")]), &["three"]),
        (labelled(&[("a.b", "team")]), &["four"]),
        (labelled(&[("site", "")]), &[]),
        (labelled(&[("absent", "x")]), &[]),
        (before(0), &[]),
        (before(61), &["two"]),
        (before(180), &["three", "two"]),
        (before(181), &["four", "three", "two"]),
        (before(241), &["four", "one", "three", "two"]),
        (CredentialFilter { realm: "sip.b".to_owned(), ..enabled(true) }, &["three"]),
        (CredentialFilter { realm: "sip.b".to_owned(), ..prefix("desk") }, &["three", "two"]),
    ];
    for (number, (filter, expected)) in cases.into_iter().enumerate() {
        for page_size in [0, 1] {
            let request = ListCredentialsRequest { page_size, ..filtered(filter.clone()) };
            assert_eq!(ids(&acme, request).await, expected, "case {number}");
        }
    }
}

#[tokio::test]
async fn the_longest_names_are_pages_like_others() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (first, last) = (format!("a{}", "-".repeat(62)), format!("b{}", "-".repeat(62)));
    for (id, last) in [(&first, "1"), (&last, "2")] {
        acme.create(with_id(id, &format!("{}{last}", "u".repeat(127)))).await.unwrap();
    }
    let prefix = CredentialFilter { username_prefix: "uu".to_owned(), ..Default::default() };
    let by_username = ListCredentialsRequest { page_size: 1, ..filtered(prefix) };
    assert_eq!(ids(&acme, by_username).await, [first, last]);

    let domain = "spiffe://example.org/";
    let long = |last| format!("{domain}{}{last}", "p".repeat(512 - domain.len() - 1));
    let request = |page_token| ListRoleBindingsRequest {
        parent: "accounts/acme".to_owned(),
        page_size: 1,
        page_token,
    };
    for last in ["1", "2"] {
        vault.bind("acme", &long(last), &[Role::Reader]).await;
    }
    let (mut principals, mut token) = (Vec::new(), String::new());
    for _ in 0..9 {
        let page = acme.access.clone().list_role_bindings(request(token)).await.unwrap();
        let page = page.into_inner();
        principals.extend(page.role_bindings.into_iter().map(|binding| binding.principal));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    principals.retain(|principal| principal.starts_with(domain));
    assert_eq!(principals, [long("1"), long("2")]);
}

/// Copies of the one credential and of its audit entry, 9,000 of each.
const MANY: &str = "
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 9000)
    INSERT INTO credential SELECT account, format('id-%05d', n), randomblob(16), 'user-' || n, realm, enabled,
        description, labels, version, revision, create_time, update_time, rotate_time, sealed, checksum,
        versions, retire_time, provider, provider_uid, carrier, schedule, next_rotation_time
    FROM n, credential;
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 9000)
    INSERT INTO audit_entry SELECT chain, sequence + n, previous_hash, hash, time, principal, peer, method, 'other',
        outcome, version_before, version_after, detail, request_id, reason
    FROM n, audit_entry WHERE method = 'CreateCredential';
    UPDATE credential SET labels = '{\"site\":\"berlin\"}' WHERE id = 'id-08000';
    UPDATE audit_entry SET resource = 'accounts/acme/credentials/gone' WHERE sequence = 8000;";

#[tokio::test]
async fn a_page_ends_without_a_find_when_it_has_looked_at_enough() {
    let vault = TestVault::start().await;
    vault.acme().await.create(with_id("id-00000", "user-0")).await.unwrap();
    let vault = vault.restart_after(|database| alter(database, MANY)).await;
    let acme = vault.acme().await;

    let labels = BTreeMap::from([("site".to_owned(), "berlin".to_owned())]);
    let request = filtered(CredentialFilter { labels, ..Default::default() });
    let first = page(&acme, request.clone()).await.unwrap();
    assert_eq!(first.credentials.len(), 0);
    assert!(!first.next_page_token.is_empty());
    assert_eq!(ids(&acme, request).await, ["id-08000"]);
    let prefix =
        |text: &str| CredentialFilter { username_prefix: text.to_owned(), ..Default::default() };
    assert_eq!(ids(&acme, filtered(prefix("user-"))).await.len(), 9001);
    let last = page(&acme, filtered(prefix("user-899"))).await.unwrap();
    assert_eq!(last.credentials.len(), 11, "no page is spent on what lies before them");

    let mut request = ListAuditEntriesRequest {
        parent: "accounts/acme".to_owned(),
        filter: Some(AuditFilter { resource: "accounts/acme/credentials/gone".to_owned() }),
        ..Default::default()
    };
    let mut found = Vec::new();
    for turn in 0.. {
        let page =
            acme.audit.clone().list_audit_entries(request.clone()).await.unwrap().into_inner();
        assert!(turn > 0 || page.entries.is_empty(), "too early for a find");
        found.extend(page.entries.iter().map(|entry| entry.sequence));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, [8000]);
}

#[tokio::test]
async fn providers_are_found_by_carrier_and_verdict_and_entries_by_resource() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    vault.twilio.add_account(SID, TOKEN);
    for id in ["two", "one", "three"] {
        acme.create_provider(create_provider(id)).await.unwrap();
    }
    vault.twilio.set_token(SID, TOKEN_2);
    acme.verify_provider("accounts/acme/providers/three").await.unwrap();

    let twilio = ProviderType::Twilio;
    let any = ProviderType::Unspecified;
    let cases: [(ProviderType, VerificationStatus, &[&str]); 5] = [
        (any, VerificationStatus::Unspecified, &["one", "three", "two"]),
        (twilio, VerificationStatus::Unspecified, &["one", "three", "two"]),
        (twilio, VerificationStatus::Verified, &["one", "two"]),
        (any, VerificationStatus::Failed, &["three"]),
        (any, VerificationStatus::Pending, &[]),
    ];
    for (provider_type, status, expected) in cases {
        let mut request = ListProvidersRequest {
            parent: "accounts/acme".to_owned(),
            page_size: 1,
            filter: Some(ProviderFilter {
                provider_type: provider_type.into(),
                status: status.into(),
            }),
            ..Default::default()
        };
        let mut found = Vec::new();
        loop {
            let page = acme.providers.clone().list_providers(request.clone()).await;
            let page = page.unwrap().into_inner();
            found.extend(page.providers.into_iter().map(|provider| provider.name));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let expected: Vec<_> =
            expected.iter().map(|id| format!("accounts/acme/providers/{id}")).collect();
        assert_eq!(found, expected, "{status:?}");
    }

    let of = |resource: &str| ListAuditEntriesRequest {
        parent: "accounts/acme".to_owned(),
        filter: Some(AuditFilter { resource: resource.to_owned() }),
        ..Default::default()
    };
    for (resource, expected) in [
        ("accounts/acme/providers/three", &[3, 4][..]),
        ("accounts/acme/providers/one", &[2]),
        ("accounts/acme/providers", &[]),
        ("accounts/other/providers/one", &[]),
        ("", &[1, 2, 3, 4]),
    ] {
        let page = acme.audit.clone().list_audit_entries(of(resource)).await.unwrap();
        let found: Vec<_> = page.get_ref().entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!(found, expected, "{resource}");
    }
    let mut request = ListAuditEntriesRequest { page_size: 3, ..of("") };
    let first = acme.audit.clone().list_audit_entries(request.clone()).await.unwrap().into_inner();
    request.page_token = first.next_page_token;
    let rest = acme.audit.clone().list_audit_entries(request).await.unwrap().into_inner();
    assert_eq!((first.entries.len(), rest.entries.len()), (3, 1));
    assert_eq!((rest.entries[0].sequence, rest.next_page_token.as_str()), (4, ""));
}

#[tokio::test]
async fn a_page_of_the_largest_credentials_stays_below_a_mebibyte() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let fat = "\u{1F4DE}".repeat(255);
    let labels: BTreeMap<_, _> =
        (0..32).map(|n| (format!("k{n:02}{}", "x".repeat(60)), fat.clone())).collect();
    let numbers: Vec<_> = (0..200).map(|number| format!("id-{number:03}")).collect();
    for some in numbers.chunks(50) {
        let created = some.iter().map(|id| {
            let mut request = with_id(id, id);
            let credential = request.credential.as_mut().unwrap();
            credential.description = Some("\u{1F4DE}".repeat(1024));
            credential.labels.clone_from(&labels);
            acme.create(request)
        });
        assert!(join_all(created).await.iter().all(Result::is_ok));
    }

    let mut request = ListCredentialsRequest { page_size: 200, ..list() };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = page(&acme, request.clone()).await.unwrap();
        assert!(page.encoded_len() < 1024 * 1024, "{}", page.encoded_len());
        if !page.next_page_token.is_empty() {
            assert!(page.encoded_len() > 640 * 1024, "{}", page.encoded_len());
        }
        pages += 1;
        found.extend(page.credentials.into_iter().map(|credential| credential.username));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, numbers);
    assert!((9..14).contains(&pages), "{pages}");
}
