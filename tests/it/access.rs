//! Who may call what: every RPC with every kind of caller, in its own account, another's and none.

use std::collections::BTreeSet;

use credvault::access::{ACTIONS, Role};
use credvault::grpc::proto::{
    CreateAccountRequest, CreateApiTokenRequest, CreateCredentialRequest, CreateProviderRequest,
    Credential, DESCRIPTORS, DeleteAccountRequest, DeleteRoleBindingRequest, DisableAccountRequest,
    EnableAccountRequest, GetAccountRequest, GetApiTokenRequest, GetCredentialRequest,
    GetProviderRequest, ListAccountsRequest, ListApiTokensRequest, ListAuditEntriesRequest,
    ListCredentialsRequest, ListProvidersRequest, ListRoleBindingsRequest,
    ListVerificationsRequest, RevokeApiTokenRequest, SetRoleBindingRequest, VerifyProviderRequest,
    VerifySipDigestRequest,
};
use jiff::SignedDuration;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Status;

use crate::credentials::{create, delete, rotate, update};
use crate::providers::{
    SID, TOKEN, create_provider, delete as delete_provider, display_name, update_token,
};
use crate::support::calls::{Call, raw};
use crate::support::{Clients, TestVault, channel, outcome};

const ROLE_MISSING: &str = "PermissionDenied ROLE_MISSING";
const NOT_FOUND: &str = "NotFound NOT_FOUND";
const UNAUTHENTICATED: &str = "Unauthenticated UNAUTHENTICATED";

/// A call of each RPC in `account`, and how it ends for a caller who may make it. None of them
/// changes what the next one meets.
fn row(method: &str, account: &str) -> Option<(Call, &'static str)> {
    let parent = format!("accounts/{account}");
    let credential = format!("{parent}/credentials/desk");
    let provider = format!("{parent}/providers/main");
    let stale = || "\"stale\"".to_owned();
    let mismatch = "Aborted ETAG_MISMATCH";
    let row: (Call, &str) = match method {
        "CreateCredential" => (
            CreateCredentialRequest { parent, ..Default::default() }.into(),
            "InvalidArgument INVALID_FIELD credential",
        ),
        "GetCredential" => (GetCredentialRequest { name: credential }.into(), "OK"),
        "ListCredentials" => (ListCredentialsRequest { parent, ..Default::default() }.into(), "OK"),
        "UpdateCredential" => (update(&credential, Credential::default(), &[]).into(), "OK"),
        "RotateCredential" => {
            let mut request = rotate(&credential);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "DeleteCredential" => {
            let mut request = delete(&credential);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "CreateProvider" => (
            CreateProviderRequest { parent, ..create_provider("main") }.into(),
            "AlreadyExists ALREADY_EXISTS",
        ),
        "GetProvider" => (GetProviderRequest { name: provider }.into(), "OK"),
        "ListProviders" => (ListProvidersRequest { parent, ..Default::default() }.into(), "OK"),
        "UpdateProvider" => (display_name(&provider, "").into(), "OK"),
        "UpdateToken" => {
            let mut request = update_token(&provider, TOKEN);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "VerifyProvider" => (VerifyProviderRequest { name: provider }.into(), "OK"),
        "ListVerifications" => {
            (ListVerificationsRequest { parent: provider, ..Default::default() }.into(), "OK")
        }
        "DeleteProvider" => {
            let mut request = delete_provider(&provider);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "VerifySipDigest" => {
            let request = VerifySipDigestRequest {
                parent,
                username: "alice".to_owned(),
                realm: "sip.test".to_owned(),
                method: "REGISTER".to_owned(),
                uri: "sip:sip.test".to_owned(),
                nonce: "n0nce".to_owned(),
                response: "0".repeat(32),
                ..Default::default()
            };
            (request.into(), "OK")
        }
        "ListAuditEntries" => {
            (ListAuditEntriesRequest { parent, ..Default::default() }.into(), "OK")
        }
        _ => return access_row(method, account),
    };
    Some(row)
}

/// The same for `AccessService`.
fn access_row(method: &str, account: &str) -> Option<(Call, &'static str)> {
    let name = format!("accounts/{account}");
    let parent = name.clone();
    let token = format!("{name}/apiTokens/{}", "0".repeat(24));
    // A reason that is too long: whoever is told so is past the door, and nothing has changed.
    let reason = "x".repeat(201);
    let too_long = "InvalidArgument INVALID_FIELD reason";
    let row: (Call, &str) = match method {
        "CreateAccount" => {
            let account_id = account.to_owned();
            let request = CreateAccountRequest { account_id, reason, ..Default::default() };
            (request.into(), too_long)
        }
        "GetAccount" => (GetAccountRequest { name }.into(), "OK"),
        "ListAccounts" => (ListAccountsRequest::default().into(), "OK"),
        "DisableAccount" => (DisableAccountRequest { name, reason }.into(), too_long),
        "EnableAccount" => (EnableAccountRequest { name, reason }.into(), too_long),
        "DeleteAccount" => (DeleteAccountRequest { name, reason }.into(), too_long),
        "CreateApiToken" => (
            CreateApiTokenRequest { parent, ..Default::default() }.into(),
            "InvalidArgument INVALID_FIELD api_token",
        ),
        "GetApiToken" => (GetApiTokenRequest { name: token }.into(), NOT_FOUND),
        "ListApiTokens" => (ListApiTokensRequest { parent, ..Default::default() }.into(), "OK"),
        "RevokeApiToken" => (RevokeApiTokenRequest { name: token, reason }.into(), too_long),
        "SetRoleBinding" => (
            SetRoleBindingRequest { parent, ..Default::default() }.into(),
            "InvalidArgument INVALID_FIELD role_binding",
        ),
        "ListRoleBindings" => {
            (ListRoleBindingsRequest { parent, ..Default::default() }.into(), "OK")
        }
        "DeleteRoleBinding" => {
            let principal = "spiffe://example.org/nobody".to_owned();
            (DeleteRoleBindingRequest { parent, principal, reason }.into(), too_long)
        }
        _ => return None,
    };
    Some(row)
}

/// Whether a call is about the vault alone, so that only operators may make it.
fn is_operators_alone(roles: &[Role]) -> bool {
    roles == [Role::Operator]
}

/// The RPCs of the contract itself, with their paths.
pub(crate) fn rpcs() -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let ours = files.into_iter().filter(|file| file.package() == "credvault.v1");
    let services = ours.flat_map(|file| file.service);
    let rpcs = services.flat_map(|service| {
        let name = service.name().to_owned();
        let path = move |method: &str| format!("/credvault.v1.{name}/{method}");
        service.method.into_iter().map(move |rpc| (rpc.name().to_owned(), path(rpc.name())))
    });
    rpcs.collect()
}

/// A vault with `accounts/acme`, which has a credential and a provider, and `accounts/other`; and
/// the token of an admin of the first.
async fn with_accounts() -> (TestVault, String) {
    let vault = TestVault::start().await;
    vault.twilio.add_account(SID, TOKEN);
    let acme = vault.acme().await;
    let desk = CreateCredentialRequest { credential_id: "desk".to_owned(), ..create("alice") };
    acme.create(desk).await.unwrap();
    acme.create_provider(create_provider("main")).await.unwrap();
    vault.token("other", &[Role::Auditor]).await;
    let admin = vault.token("acme", &[Role::AccountAdmin]).await;
    (vault, admin)
}

#[test]
fn every_rpc_has_an_action_and_a_row() {
    let rpcs: BTreeSet<_> = rpcs().into_iter().map(|(name, _)| name).collect();
    let actions: BTreeSet<_> = ACTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(rpcs, actions);
    for rpc in &rpcs {
        let (call, _) = row(rpc, "acme").unwrap_or_else(|| panic!("{rpc} has no row above"));
        assert_eq!(call.method(), rpc);
    }
}

#[tokio::test]
async fn every_role_may_what_its_row_says_and_nothing_else() {
    let (vault, _) = with_accounts().await;
    let state = vault.state().into_iter().filter(|row| !row.contains("token"));
    let state: Vec<_> = state.filter(|row| !row.starts_with("role_binding")).collect();
    let mut refusals = Vec::new();
    for (role, role_name) in Role::ALL {
        let clients = vault.clients("acme", &[role]).await;
        for (method, roles) in ACTIONS {
            for account in ["acme", "other", "ghost"] {
                let (call, past_the_door) = row(method, account).unwrap();
                let expected = match account {
                    _ if is_operators_alone(roles) => ROLE_MISSING,
                    "acme" if roles.contains(&role) => past_the_door,
                    "acme" => ROLE_MISSING,
                    _ => NOT_FOUND,
                };
                let found = outcome(&call.send(&clients).await);
                assert_eq!(found, expected, "{role_name} calls {method} in {account}");
                if expected == ROLE_MISSING && !is_operators_alone(roles) {
                    refusals.push((*method).to_owned());
                }
            }
        }
    }
    let after = vault.state().into_iter().filter(|row| !row.contains("token"));
    let after: Vec<_> = after.filter(|row| !row.starts_with("role_binding")).collect();
    assert_eq!(after, state, "no call of the table changes anything");

    // A missing role is the account's own affair. Who does not belong there leaves no trace in it.
    let log = vault.clients("acme", &[Role::Auditor]).await.audit_log("acme").await;
    let recorded = log.into_iter().filter(|entry| entry.outcome == "ROLE_MISSING");
    assert_eq!(recorded.map(|entry| entry.method).collect::<Vec<_>>(), refusals);
    let other = vault.clients("other", &[Role::Auditor]).await;
    assert_eq!(other.audit_log("other").await, []);
    let not_found = "SELECT count(*) FROM audit_entry
        WHERE chain = zeroblob(16) AND outcome = 'NOT_FOUND'";
    let of_accounts = ACTIONS.iter().filter(|(_, roles)| !is_operators_alone(roles)).count();
    let expected = i64::try_from(Role::ALL.len() * of_accounts * 2).unwrap();
    assert_eq!(vault.column::<i64>(not_found), [expected]);
}

#[tokio::test]
async fn an_operator_may_what_is_the_vaults_and_is_a_stranger_in_accounts() {
    let (vault, _) = with_accounts().await;
    let operator = vault.operator().await;
    let state = vault.state();
    for (method, roles) in ACTIONS {
        for account in ["acme", "other", "ghost"] {
            let (call, past_the_door) = row(method, account).unwrap();
            let expected = match (*method, account) {
                ("GetAccount", "ghost") => NOT_FOUND,
                ("CreateApiToken", "acme" | "other") => past_the_door,
                _ if is_operators_alone(roles) => past_the_door,
                _ => NOT_FOUND,
            };
            let found = outcome(&call.send(&operator).await);
            assert_eq!(found, expected, "an operator calls {method} in {account}");
        }
    }
    assert_eq!(vault.state(), state, "no call of the table changes anything");
    assert_eq!(vault.clients("other", &[Role::Auditor]).await.audit_log("other").await, []);
    // Nobody else may act on the vault itself, nor read its chain.
    let parent = "vault".to_owned();
    let chain = ListAuditEntriesRequest { parent, ..Default::default() };
    assert_eq!(outcome(&Call::from(chain.clone()).send(&operator).await), "OK");
    for (role, name) in Role::ALL {
        let clients = vault.clients("acme", &[role]).await;
        let found = outcome(&Call::from(chain.clone()).send(&clients).await);
        assert_eq!(found, ROLE_MISSING, "{name}");
    }
}

#[tokio::test]
async fn roles_in_one_account_add_up_and_open_no_other() {
    let (vault, _) = with_accounts().await;
    let both = vault.clients("acme", &[Role::Verifier, Role::Auditor]).await;
    for (method, roles) in ACTIONS {
        let may = roles.contains(&Role::Verifier) || roles.contains(&Role::Auditor);
        let expected = if may { "OK" } else { ROLE_MISSING };
        let (call, _) = row(method, "acme").unwrap();
        assert_eq!(outcome(&call.send(&both).await), expected, "{method}");
    }
    let none = vault.clients("acme", &[]).await;
    for (method, _) in ACTIONS {
        let (call, _) = row(method, "acme").unwrap();
        let operators = ACTIONS.iter().any(|(of, roles)| of == method && is_operators_alone(roles));
        let expected = if operators { ROLE_MISSING } else { NOT_FOUND };
        assert_eq!(outcome(&call.send(&none).await), expected, "{method}");
    }
}

/// All that a caller sees of a refusal, with the account's name taken out.
fn seen(status: &Status, account: &str) -> (tonic::Code, String, Vec<u8>) {
    // Both names have five letters, so that lengths within the details are the same.
    let details = status.details().to_vec();
    let details = String::from_utf8_lossy(&details).replace(account, "*****").into_bytes();
    (status.code(), status.message().replace(account, "*****"), details)
}

#[tokio::test]
async fn an_account_of_others_looks_like_none_at_all() {
    let (vault, admin) = with_accounts().await;
    let acme = Clients::new(&channel(vault.address), &admin);
    for (method, _) in ACTIONS {
        let [other, ghost] = ["other", "ghost"].map(|account| row(method, account).unwrap().0);
        let other = seen(&other.send(&acme).await.unwrap_err(), "other");
        let ghost = seen(&ghost.send(&acme).await.unwrap_err(), "ghost");
        assert_eq!(other, ghost, "{method}");
    }
    // Nor does it tell from what is missing in an account of one's own.
    let told = async |account: &str| {
        let name = format!("accounts/{account}/credentials/absent");
        let status = acme.get(&name).await.unwrap_err();
        assert_eq!(outcome(&Err::<(), _>(status.clone())), NOT_FOUND);
        status.message().replace(account, "*****")
    };
    assert_eq!(told("acme").await, told("other").await);
}

#[tokio::test]
async fn a_disabled_account_answers_members_so_and_nobody_else() {
    let (vault, admin) = with_accounts().await;
    let outsider = vault.clients("other", &[Role::AccountAdmin]).await;
    let disable = DisableAccountRequest { name: "accounts/acme".to_owned(), ..Default::default() };
    vault.operator().await.access.disable_account(disable).await.unwrap();
    let acme = Clients::new(&channel(vault.address), &admin);
    let recorded = "SELECT count(*) FROM audit_entry WHERE outcome = 'ACCOUNT_DISABLED'";
    for (method, roles) in ACTIONS {
        let before = vault.column::<i64>(recorded)[0];
        let may = roles.contains(&Role::AccountAdmin);
        let expected = if may { "FailedPrecondition ACCOUNT_DISABLED" } else { ROLE_MISSING };
        let (call, _) = row(method, "acme").unwrap();
        assert_eq!(outcome(&call.clone().send(&acme).await), expected, "{method}");
        let stranger = if is_operators_alone(roles) { ROLE_MISSING } else { NOT_FOUND };
        assert_eq!(outcome(&call.send(&outsider).await), stranger, "{method}");
        assert_eq!(vault.column::<i64>(recorded)[0], before + i64::from(may), "{method}");
    }
}

#[tokio::test]
async fn a_revoked_token_is_none() {
    let (vault, admin) = with_accounts().await;
    let acme = Clients::new(&channel(vault.address), &admin);
    acme.get("accounts/acme/credentials/desk").await.unwrap();
    let id = admin.split('_').nth(1).unwrap();
    let name = format!("accounts/acme/apiTokens/{id}");
    let revoke = RevokeApiTokenRequest { name, ..Default::default() };
    vault.acme().await.access.revoke_api_token(revoke).await.unwrap();
    let refused = acme.get("accounts/acme/credentials/desk").await;
    assert_eq!(outcome(&refused), UNAUTHENTICATED);
}

#[tokio::test]
async fn without_one_valid_token_every_answer_is_the_same() {
    let (vault, admin) = with_accounts().await;
    let channel = channel(vault.address);
    let cut = &admin[..admin.len() - 1];
    let (head, tail) = admin.split_at(40);
    let flip = if tail.starts_with('0') { "1" } else { "0" };
    let flipped = format!("{head}{flip}{}", &tail[1..]);
    // Well formed, of an id that nobody has: its checksum is right.
    let body = format!("cv1_{}_{}", "0".repeat(24), "0".repeat(64));
    let sum = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(body.as_bytes()));
    let unknown = format!("{body}_{}", &sum[..8]);
    // Right id, wrong secret, right checksum.
    let body = format!("{}_{}", admin.rsplitn(3, '_').nth(2).unwrap(), "0".repeat(64));
    let sum = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(body.as_bytes()));
    let guessed = format!("{body}_{}", &sum[..8]);
    let twice = format!("{admin}\n{admin}");
    let also = format!("{admin}\nx");
    let tokens = [
        "",
        "x",
        "cv1___",
        cut,
        &flipped,
        &unknown,
        &guessed,
        &twice,
        &also,
        &admin.to_uppercase(),
    ];

    let state = vault.state();
    // Callers who do not say who they are have one entry a minute, apart from these.
    let count = "SELECT count(*) FROM audit_entry WHERE method <> 'Authenticate'";
    let entries = vault.column::<i64>(count);
    let mut answers = BTreeSet::new();
    let mut refuse = async |token: &str| {
        let clients = Clients::new(&channel, token);
        for (method, _) in ACTIONS {
            for account in ["acme", "other", "ghost"] {
                let (call, _) = row(method, account).unwrap();
                let refused = call.send(&clients).await;
                assert_eq!(outcome(&refused), UNAUTHENTICATED, "{token:?} {method} {account}");
                let status = refused.unwrap_err();
                answers.insert((status.message().to_owned(), status.details().to_vec()));
            }
        }
    };
    for token in tokens {
        refuse(token).await;
    }
    let valid = Clients::new(&channel, &admin);
    let last_moment = SignedDuration::from_hours(24 * 30) - SignedDuration::from_micros(1);
    vault.clock.advance(last_moment);
    valid.get("accounts/acme/credentials/desk").await.unwrap();
    vault.clock.advance(SignedDuration::from_micros(1));
    refuse(&admin).await;
    vault.clock.advance(SignedDuration::from_hours(24));
    refuse(&admin).await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(vault.state(), state);
    assert_eq!(vault.column::<i64>(count), entries);
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_told_to_callers_only() {
    let (vault, admin) = with_accounts().await;
    for (token, expected) in
        [("", tonic::Code::Unauthenticated), (admin.as_str(), tonic::Code::Unimplemented)]
    {
        for path in ["/credvault.v1.CredentialService/GetPassword", "/x.Y/Z"] {
            let refused = raw(&vault, token, path, b"").await.unwrap_err();
            assert_eq!(refused.code(), expected, "{path}");
        }
    }
}
