//! A deleted account is gone: from every table and every file, whatever was under way in it, and nothing else is.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use credvault::access::principal::Principal;
use credvault::access::{CreateApiToken, Role, SetRoleBinding, VerifySipDigest};
use credvault::grpc::proto::{
    CreateApiTokenRequest, CreateCredentialRequest, CreateProviderRequest, DeleteAccountRequest,
    DisableAccountRequest, ListAuditEntriesRequest, Role as WireRole, RotateCredentialRequest,
};
use credvault::name::{OwnerName, ResourceId};
use credvault::provider::DisplayName;
use credvault::vault::{Error, Intent, NewApiToken};
use tonic::Status;

use crate::accounts::token;
use crate::credentials::{create, delete, rotate, set_password};
use crate::providers::{create_provider, twilio, update_token};
use crate::remnants::{HEADER, WINDOW};
use crate::support::database::alter;
use crate::support::random::Rng;
use crate::support::{Clients, TestVault, channel, outcome, uuid};

impl Clients {
    async fn disable(&self, account: &str) -> Result<(), Status> {
        let request = DisableAccountRequest { name: name(account), ..Default::default() };
        self.access.clone().disable_account(request).await.map(drop)
    }

    async fn delete_account(&self, account: &str) -> Result<(), Status> {
        let request = DeleteAccountRequest { name: name(account), ..Default::default() };
        self.access.clone().delete_account(request).await.map(drop)
    }
}

fn name(account: &str) -> String {
    format!("accounts/{account}")
}

/// A new account, with its first admin.
async fn opened(vault: &TestVault, operator: &Clients, account: &str) -> Clients {
    operator.create_account(account).await.unwrap();
    let made = token(&name(account), &[WireRole::AccountAdmin]);
    let made = operator.create_token(made).await.unwrap();
    Clients::new(&channel(vault.address), &made.token)
}

/// What stands in every text of an account.
fn mark(account: &str) -> String {
    format!("kanari-{account}")
}

/// The carrier's account of an account's provider.
fn sid(account: &str) -> String {
    format!("AC{}", &hex::encode(format!("{account:-<16}"))[..32])
}

/// Something of everything that an account can have.
async fn fill(vault: &TestVault, admin: &Clients, account: &str, rng: &mut Rng) {
    let mark = mark(account);
    let mut request_ids = 1..;
    let mut request_id = || uuid(request_ids.next().unwrap());
    for number in 0..30 {
        let mut request = CreateCredentialRequest {
            parent: name(account),
            credential_id: format!("desk-{number}"),
            request_id: request_id(),
            reason: format!("{mark} reason"),
            ..create(&format!("{mark}-user-{number}"))
        };
        let credential = request.credential.as_mut().unwrap();
        credential.description = Some(format!("{mark} description"));
        credential.labels.insert("site".to_owned(), format!("{mark}-label"));
        admin.create(request).await.unwrap();
        let credential = format!("{}/credentials/desk-{number}", name(account));
        let again = RotateCredentialRequest { request_id: request_id(), ..rotate(&credential) };
        admin.rotate(again).await.unwrap();
        if number % 3 == 0 {
            admin.update(set_password(&credential, &rng.password(40))).await.unwrap();
        }
        if number % 10 == 0 {
            admin.delete(delete(&credential)).await.unwrap();
        }
    }
    for number in 0..3 {
        let mut request = CreateProviderRequest {
            parent: name(account),
            auth_token: rng.hex(32),
            request_id: request_id(),
            ..create_provider(&format!("carrier-{number}"))
        };
        vault.twilio.add_account(&sid(account), &request.auth_token);
        let provider = request.provider.as_mut().unwrap();
        provider.kind = Some(twilio(&sid(account)));
        provider.display_name = Some(format!("{mark} carrier"));
        admin.create_provider(request).await.unwrap();
        let provider = format!("{}/providers/carrier-{number}", name(account));
        let next = rng.hex(32);
        vault.twilio.set_token(&sid(account), &next);
        admin.update_token(update_token(&provider, &next)).await.unwrap();
        vault.clock.advance(jiff::SignedDuration::from_secs(1));
        admin.verify_provider(&provider).await.unwrap();
    }
    let parent = name(account);
    for roles in [&[WireRole::Reader][..], &[WireRole::Verifier, WireRole::Auditor]] {
        let mut request =
            CreateApiTokenRequest { request_id: request_id(), ..token(&parent, roles) };
        request.api_token.as_mut().unwrap().display_name = format!("{mark} token");
        let made = admin.create_token(request).await.unwrap();
        // Refusals stand in the log, too, and the holder may be somebody elsewhere.
        let holder = Clients::new(&channel(vault.address), &made.token);
        let refused = holder.rotate(rotate(&format!("{parent}/credentials/desk-1"))).await;
        assert_eq!(outcome(&refused), "PermissionDenied ROLE_MISSING");
    }
    let workload = format!("spiffe://example.org/{mark}/edge/*");
    admin.bind(&parent, &workload, &[WireRole::Reader]).await.unwrap();
}

/// What must be nowhere afterwards: bytes of these, 16 in a row.
fn traces(vault: &TestVault, account: &str) -> HashSet<[u8; WINDOW]> {
    let of = format!("account = (SELECT uid FROM account WHERE id = '{account}')");
    let sealed = ["credential", "provider"]
        .map(|table| vault.column::<Vec<u8>>(&format!("SELECT sealed FROM {table} WHERE {of}")));
    let hashes = ["hash FROM api_token", "fingerprint FROM idempotency"]
        .map(|what| vault.column::<Vec<u8>>(&format!("SELECT {what} WHERE {of}")));
    let chain = vault.column::<Vec<u8>>(&format!(
        "SELECT hash FROM audit_entry WHERE chain = (SELECT uid FROM account WHERE id = '{account}')"
    ));
    let records = sealed.iter().flatten().map(|record| &record[HEADER..]);
    let hashes = hashes.iter().chain([&chain]).flatten().map(Vec::as_slice);
    let windows = records.chain(hashes).flat_map(|bytes| bytes.windows(WINDOW));
    windows.map(|window| window.try_into().unwrap()).collect()
}

/// What is found of an account in the files of a vault.
fn found(dir: &Path, account: &str, traces: &HashSet<[u8; WINDOW]>) -> Vec<String> {
    let texts = [mark(account), sid(account)];
    let mut hits = Vec::new();
    for file in files(dir) {
        // The log goes when it is empty.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        for text in &texts {
            let count = bytes.windows(text.len()).filter(|at| *at == text.as_bytes()).count();
            if count > 0 {
                hits.push(format!("{count} times {text} in {}", file.display()));
            }
        }
        let count = bytes.windows(WINDOW).filter(|window| traces.contains(*window)).count();
        if count > 0 {
            hits.push(format!("{count} windows of records in {}", file.display()));
        }
    }
    hits
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Entries of chains whose account is gone.
const ORPHANS: &str = "SELECT count(*) FROM audit_entry
    WHERE chain <> zeroblob(16) AND chain NOT IN (SELECT uid FROM account)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_account_leaves_nothing_in_the_files_and_takes_nothing_else_along() {
    let vault = TestVault::start().await;
    let operator = vault.operator().await;
    let mut rng = Rng::new(31);
    let other = opened(&vault, &operator, "other").await;
    fill(&vault, &other, "other", &mut rng).await;
    let (kept, kept_traces) = (vault.state(), traces(&vault, "other"));
    let kept_log = other.audit_log("other").await;

    let admin = opened(&vault, &operator, "acme").await;
    fill(&vault, &admin, "acme", &mut rng).await;
    let gone_traces = traces(&vault, "acme");
    let last = admin.audit_log("acme").await.last().unwrap().clone();
    let dir = vault.dir.path().to_owned();
    assert!(found(&dir, "acme", &gone_traces).len() >= 3, "the scan is blind");

    operator.disable("acme").await.unwrap();
    operator.delete_account("acme").await.unwrap();
    let (began, mut polls) = (Instant::now(), tokio::time::interval(Duration::from_millis(500)));
    assert_eq!(vault.state(), kept);
    assert_eq!(vault.column::<i64>(ORPHANS), [0]);
    loop {
        let hits = found(&dir, "acme", &gone_traces);
        if hits.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{hits:?}");
        polls.tick().await;
    }
    println!("{} windows and 2 texts gone after {:?}", gone_traces.len(), began.elapsed());

    assert_eq!(other.audit_log("other").await, kept_log);
    other.get("accounts/other/credentials/desk-1").await.unwrap();
    let chain = ListAuditEntriesRequest { parent: "vault".to_owned(), ..Default::default() };
    let chain = operator.audit.clone().list_audit_entries(chain).await.unwrap().into_inner();
    let deletion = chain.entries.iter().find(|entry| entry.method == "DeleteAccount").unwrap();
    assert!(deletion.detail.ends_with(&hex::encode(&last.hash)), "{}", deletion.detail);
    let (dir, ..) = vault.stop().await;
    assert_eq!(found(dir.path(), "acme", &gone_traces), [""; 0]);
    assert!(!found(dir.path(), "other", &kept_traces).is_empty(), "the scan is blind");
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_remnants_of_an_account_are_found() {
    let test =
        "deletion::a_deleted_account_leaves_nothing_in_the_files_and_takes_nothing_else_along";
    let said = crate::support::process::caught(test, "keep-remnants");
    assert!(said.contains("kanari-acme in "), "{said}");
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_late_writes_are_found() {
    let test = "deletion::a_call_that_was_let_in_before_does_nothing_afterwards";
    let said = crate::support::process::caught(test, "take-late-writes");
    println!("{}", said.lines().find(|line| line.contains("deletion.rs")).unwrap());
}

/// Whoever was let in before an account was closed comes too late with what he wanted, and leaves nothing.
#[tokio::test]
async fn a_call_that_was_let_in_before_does_nothing_afterwards() {
    let vault = TestVault::start().await;
    let operator = vault.operator().await;
    let kept = vault.state();
    operator.create_account("acme").await.unwrap();
    let made = operator.create_token(token("accounts/acme", &[WireRole::AccountAdmin])).await;
    let made = made.unwrap().token;
    let caller = vault.vault.authenticate(&made, String::new()).await.unwrap();
    let acme = ResourceId::parse("acme").unwrap();
    let owner = OwnerName::Account(acme.clone());
    let may_make =
        vault.vault.authorize_owner::<CreateApiToken>(&caller, &owner, "").await.unwrap();
    let may_bind =
        vault.vault.authorize_owner::<SetRoleBinding>(&caller, &owner, "").await.unwrap();
    let attempt = async || {
        let new = NewApiToken {
            display_name: DisplayName::parse("").unwrap(),
            roles: vec![Role::Reader],
            lifetime: NewApiToken::LIFETIME,
        };
        let made = vault.vault.create_api_token(&may_make, new, &Intent::default()).await;
        let principal = Principal::parse("spiffe://example.org/late").unwrap();
        let roles = vec![Role::AccountAdmin];
        let intent = Intent::default();
        let bound = vault.vault.set_role_binding(&may_bind, principal, roles, &intent).await;
        (made.map(drop), bound.map(drop))
    };

    operator.disable("acme").await.unwrap();
    let closed = vault.state();
    let refused = attempt().await;
    assert!(
        matches!(refused, (Err(Error::AccountDisabled), Err(Error::AccountDisabled))),
        "{refused:?}"
    );
    assert_eq!(vault.state(), closed);

    operator.delete_account("acme").await.unwrap();
    let refused = attempt().await;
    assert!(
        matches!(refused, (Err(Error::VersionConflict), Err(Error::VersionConflict))),
        "{refused:?}"
    );
    // A refusal has its record all the same: in the vault's chain.
    let auditor = vault.vault.authorize::<VerifySipDigest>(&caller, &acme, "accounts/acme");
    assert!(matches!(auditor.await, Err(Error::RoleMissing { .. })));
    let recorded = "SELECT count(*) FROM audit_entry WHERE chain = zeroblob(16) AND method = 'VerifySipDigest'";
    assert_eq!(vault.column::<i64>(recorded), [1]);
    assert_eq!(vault.state(), kept);
    assert_eq!(vault.column::<i64>(ORPHANS), [0]);
}

/// Every kind of call that leaves something behind, again and again until the caller is nobody.
async fn keep_calling(
    admin: Clients,
    reader: Clients,
    account: String,
    first: u64,
) -> HashSet<String> {
    let mut outcomes = HashSet::new();
    for number in (first..).take(10_000) {
        let request = CreateCredentialRequest {
            parent: name(&account),
            credential_id: format!("c-{number}"),
            request_id: uuid(number),
            ..create(&format!("user-{number}"))
        };
        let credential = format!("{}/credentials/c-{number}", name(&account));
        let principal = format!("spiffe://example.org/w{number}");
        let results = [
            outcome(&admin.create(request).await),
            outcome(&admin.rotate(rotate(&credential)).await),
            outcome(&admin.create_token(token(&name(&account), &[WireRole::Reader])).await),
            outcome(&admin.bind(&name(&account), &principal, &[WireRole::Verifier]).await),
            outcome(&reader.rotate(rotate(&credential)).await),
        ];
        let over = results.iter().all(|result| result.starts_with("Unauthenticated"));
        outcomes.extend(results);
        if over {
            return outcomes;
        }
    }
    panic!("the account is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_during_a_deletion_leave_nothing_behind() {
    let vault = TestVault::start().await;
    let operator = vault.operator().await;
    let kept = vault.state();
    let mut met = HashSet::new();
    for round in 0..20 {
        let account = format!("acme-{round}");
        let admin = opened(&vault, &operator, &account).await;
        let reader = admin.create_token(token(&name(&account), &[WireRole::Reader])).await.unwrap();
        let reader = Clients::new(&channel(vault.address), &reader.token);
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let (admin, reader, account) = (admin.clone(), reader.clone(), account.clone());
                tokio::spawn(keep_calling(admin, reader, account, 1 + caller * 100_000))
            })
            .collect();
        // Each round ends at another moment of theirs.
        for _ in 0..round {
            tokio::task::yield_now().await;
            admin.audit_log(&account).await;
        }
        operator.disable(&account).await.unwrap();
        operator.delete_account(&account).await.unwrap();
        for caller in callers {
            met.extend(caller.await.unwrap());
        }
        assert_eq!(vault.state(), kept, "round {round}");
        assert_eq!(vault.column::<i64>(ORPHANS), [0], "round {round}");
    }
    let harmless = [
        "OK",
        "PermissionDenied ROLE_MISSING",
        "NotFound NOT_FOUND",
        "FailedPrecondition ACCOUNT_DISABLED",
        "Aborted VERSION_CONFLICT",
        "Unauthenticated UNAUTHENTICATED",
    ];
    println!("{met:?}");
    assert!(met.iter().all(|outcome| harmless.contains(&outcome.as_str())), "{met:?}");
}

const LARGE: usize = 20_000;

/// Makes an account of one credential a large one: copies of its rows, with their histories and audit entries.
fn enlarge(vault: &TestVault, account: &str) {
    let uid = format!("(SELECT uid FROM account WHERE id = '{account}')");
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {LARGE})"
    );
    alter(
        &vault.database(),
        &format!(
            "BEGIN IMMEDIATE;
            {numbers} INSERT INTO credential SELECT account, id || '-' || i, randomblob(16), username || i, realm,
                enabled, description, labels, version, revision, create_time, update_time, rotate_time,
                randomblob(length(sealed)), checksum, versions, retire_time, provider, provider_uid, carrier, schedule,
                next_rotation_time FROM credential, n WHERE account = {uid};
            INSERT INTO secret_version SELECT account, uid, 2, sealed, NULL
                FROM credential WHERE account = {uid} AND username <> 'alice';
            {numbers} INSERT INTO audit_entry SELECT chain, sequence + i, previous_hash, randomblob(32), time,
                principal, peer, method, resource, outcome, version_before, version_after, detail, request_id, reason
                FROM audit_entry, n WHERE chain = {uid} AND sequence = (SELECT max(sequence) FROM audit_entry
                    WHERE chain = {uid});
            {numbers} INSERT INTO idempotency SELECT {uid}, 'token:1', 'CreateCredential', randomblob(16),
                randomblob(32), 'desk', randomblob(16), 1, 0, {} FROM n;
            COMMIT;",
            i64::MAX
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deletion_of_a_large_account_holds_up_nobody_for_long() {
    let vault = TestVault::start().await;
    let operator = vault.operator().await;
    let other = opened(&vault, &operator, "other").await;
    let kept = vault.state().len();
    let admin = opened(&vault, &operator, "acme").await;
    admin.create(create("alice")).await.unwrap();
    enlarge(&vault, "acme");
    operator.disable("acme").await.unwrap();

    let began = Instant::now();
    let deletion = tokio::spawn(async move { operator.delete_account("acme").await });
    let mut longest = Duration::ZERO;
    for number in 0.. {
        let asked = Instant::now();
        let request =
            CreateCredentialRequest { parent: name("other"), ..create(&format!("user-{number}")) };
        other.create(request).await.unwrap();
        longest = longest.max(asked.elapsed());
        if deletion.is_finished() {
            println!(
                "deleted after {:?}, {number} calls meanwhile, the longest {longest:?}",
                began.elapsed()
            );
            break;
        }
    }
    deletion.await.unwrap().unwrap();
    let created = vault.column::<i64>("SELECT count(*) FROM credential")[0];
    assert_eq!(vault.state().len(), kept + usize::try_from(created).unwrap());
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}
