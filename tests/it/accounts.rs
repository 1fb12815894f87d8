//! `AccessService` at work: accounts come and go, tokens are made once, and nobody locks everybody out.

use credvault::access::api_token::TokenId;
use credvault::access::spiffe::{SpiffeId, Workload};
use credvault::access::{self, Caller, GetCredential, RevokeApiToken, Role};
use credvault::grpc::proto::{
    Account, ApiToken, CreateAccountRequest, CreateApiTokenRequest, CreateApiTokenResponse,
    DeleteAccountRequest, DeleteRoleBindingRequest, DisableAccountRequest, EnableAccountRequest,
    GetAccountRequest, GetApiTokenRequest, ListAccountsRequest, ListApiTokensRequest,
    ListAuditEntriesRequest, ListCredentialsRequest, ListRoleBindingsRequest,
    RevokeApiTokenRequest, Role as WireRole, RoleBinding, SetRoleBindingRequest,
};
use credvault::name::{OwnerName, ResourceId};
use credvault::vault::Intent;
use jiff::SignedDuration;
use tonic::Status;

use crate::credentials::{create, create_with};
use crate::providers::{SID, TOKEN, create_provider};
use crate::support::{Clients, TestVault, channel, outcome, uuid};

const LAST_ADMIN: &str = "FailedPrecondition LAST_ADMIN";
const LAST_OPERATOR: &str = "FailedPrecondition LAST_OPERATOR";
const INVALID_STATE: &str = "FailedPrecondition INVALID_STATE";
const UNAUTHENTICATED: &str = "Unauthenticated UNAUTHENTICATED";

pub(crate) fn token(parent: &str, roles: &[WireRole]) -> CreateApiTokenRequest {
    let roles = roles.iter().map(|role| i32::from(*role)).collect();
    let display_name = "for the edge".to_owned();
    let api_token = Some(ApiToken { roles, display_name, ..Default::default() });
    CreateApiTokenRequest { parent: parent.to_owned(), api_token, ..Default::default() }
}

impl Clients {
    pub(crate) async fn create_account(&self, id: &str) -> Result<Account, Status> {
        let request = CreateAccountRequest { account_id: id.to_owned(), ..Default::default() };
        let answer = self.access.clone().create_account(request).await?.into_inner();
        Ok(answer.account.unwrap())
    }

    pub(crate) async fn create_token(
        &self,
        request: CreateApiTokenRequest,
    ) -> Result<CreateApiTokenResponse, Status> {
        Ok(self.access.clone().create_api_token(request).await?.into_inner())
    }

    pub(crate) async fn revoke(&self, name: &str) -> Result<ApiToken, Status> {
        let request = RevokeApiTokenRequest { name: name.to_owned(), ..Default::default() };
        let answer = self.access.clone().revoke_api_token(request).await?.into_inner();
        Ok(answer.api_token.unwrap())
    }

    pub(crate) async fn bind(
        &self,
        parent: &str,
        principal: &str,
        roles: &[WireRole],
    ) -> Result<RoleBinding, Status> {
        let roles = roles.iter().map(|role| i32::from(*role)).collect();
        let principal = principal.to_owned();
        let role_binding = Some(RoleBinding { principal, roles, update_time: None });
        let parent = parent.to_owned();
        let request = SetRoleBindingRequest { parent, role_binding, ..Default::default() };
        let answer = self.access.clone().set_role_binding(request).await?.into_inner();
        Ok(answer.role_binding.unwrap())
    }

    pub(crate) async fn unbind(&self, parent: &str, principal: &str) -> Result<(), Status> {
        let (parent, principal) = (parent.to_owned(), principal.to_owned());
        let request = DeleteRoleBindingRequest { parent, principal, ..Default::default() };
        self.access.clone().delete_role_binding(request).await.map(drop)
    }

    async fn bindings(&self, parent: &str) -> Vec<(String, Vec<i32>)> {
        let request = ListRoleBindingsRequest { parent: parent.to_owned(), ..Default::default() };
        let answer = self.access.clone().list_role_bindings(request).await.unwrap().into_inner();
        answer.role_bindings.into_iter().map(|each| (each.principal, each.roles)).collect()
    }

    async fn tokens(&self, parent: &str) -> Vec<ApiToken> {
        let request = ListApiTokensRequest { parent: parent.to_owned(), ..Default::default() };
        let answer = self.access.clone().list_api_tokens(request).await.unwrap().into_inner();
        answer.api_tokens
    }
}

/// A vault, its operator, and the first admin of `accounts/acme`, all made over the wire but the operator.
async fn with_admin() -> (TestVault, Clients, Clients, CreateApiTokenResponse) {
    let vault = TestVault::start().await;
    let operator = vault.operator().await;
    operator.create_account("acme").await.unwrap();
    let made =
        operator.create_token(token("accounts/acme", &[WireRole::AccountAdmin])).await.unwrap();
    let admin = Clients::new(&channel(vault.address), &made.token);
    (vault, operator, admin, made)
}

fn name(made: &CreateApiTokenResponse) -> String {
    made.api_token.as_ref().unwrap().name.clone()
}

#[tokio::test]
async fn an_operator_makes_an_account_and_its_first_admin_and_no_second() {
    let (vault, operator, admin, made) = with_admin().await;
    let known = made.api_token.clone().unwrap();
    assert_eq!(known.display_name, "for the edge");
    assert_eq!(known.roles, [i32::from(WireRole::AccountAdmin)]);
    assert!(
        made.token.starts_with("cv1_")
            && made.token.contains(known.name.rsplit('/').next().unwrap())
    );
    admin.create(create("alice")).await.unwrap();

    let second = token("accounts/acme", &[WireRole::AccountAdmin]);
    assert_eq!(outcome(&operator.create_token(second.clone()).await), INVALID_STATE);
    for roles in [&[WireRole::Reader][..], &[WireRole::AccountAdmin, WireRole::Verifier]] {
        let refused = operator.create_token(token("accounts/acme", roles)).await;
        assert_eq!(outcome(&refused), "InvalidArgument INVALID_FIELD api_token.roles");
    }
    // Once the account has no admin who could do it, an operator lets the next one in.
    vault.clock.advance(SignedDuration::from_hours(24 * 30));
    assert_eq!(outcome(&admin.get("accounts/acme/credentials/x00").await), UNAUTHENTICATED);
    let operator = vault.operator().await;
    operator.create_token(second).await.unwrap();

    let request = ListAccountsRequest::default();
    let listed = operator.access.clone().list_accounts(request).await.unwrap().into_inner();
    let names: Vec<_> = listed.accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["accounts/acme"]);
    let request = GetAccountRequest { name: "accounts/acme".to_owned() };
    let found = operator.access.clone().get_account(request).await.unwrap().into_inner();
    assert_eq!(found.account.as_ref(), listed.accounts.first());
}

#[tokio::test]
async fn an_account_made_twice_under_one_request_id_is_made_once() {
    let vault = TestVault::start().await;
    let operator = vault.operator().await;
    let request = CreateAccountRequest {
        account_id: "acme".to_owned(),
        request_id: uuid(1),
        ..Default::default()
    };
    let first = operator.access.clone().create_account(request.clone()).await.unwrap().into_inner();
    let again = operator.access.clone().create_account(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    let other = CreateAccountRequest { account_id: "other".to_owned(), ..request };
    let refused = operator.access.clone().create_account(other).await;
    assert_eq!(outcome(&refused), "AlreadyExists REQUEST_ID_REUSED");
}

#[tokio::test]
async fn a_token_is_shown_once_lives_as_long_as_asked_and_ends_at_once() {
    let (vault, _, admin, _) = with_admin().await;
    let mut request = token("accounts/acme", &[WireRole::Reader]);
    request.lifetime = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    request.request_id = uuid(7);
    let made = admin.create_token(request.clone()).await.unwrap();
    let again = admin.create_token(request).await;
    assert_eq!(outcome(&again), "FailedPrecondition SECRET_ALREADY_ISSUED");
    assert!(again.unwrap_err().message().contains(&name(&made)));
    let listed = admin.tokens("accounts/acme").await;
    assert_eq!(listed.len(), 2, "the retry made none");
    assert!(listed.contains(made.api_token.as_ref().unwrap()));
    let get = GetApiTokenRequest { name: name(&made) };
    let read = admin.access.clone().get_api_token(get).await.unwrap().into_inner().api_token;
    assert_eq!(read, made.api_token);

    let reader = Clients::new(&channel(vault.address), &made.token);
    let absent = "accounts/acme/credentials/absent";
    let try_it = async || outcome(&reader.get(absent).await);
    assert_eq!(try_it().await, "NotFound NOT_FOUND");
    vault.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(try_it().await, UNAUTHENTICATED);

    let made = admin.create_token(token("accounts/acme", &[WireRole::Reader])).await.unwrap();
    let reader = Clients::new(&channel(vault.address), &made.token);
    assert_eq!(outcome(&reader.get(absent).await), "NotFound NOT_FOUND");
    let revoked = admin.revoke(&name(&made)).await.unwrap();
    assert!(revoked.revoke_time.is_some());
    assert_eq!(outcome(&reader.get(absent).await), UNAUTHENTICATED);
    vault.clock.advance(SignedDuration::from_secs(1));
    assert_eq!(admin.revoke(&name(&made)).await.unwrap(), revoked, "the first time stays");

    // The token is nowhere but in the answer.
    let secret = made.token.split('_').nth(2).unwrap().as_bytes().to_vec();
    let (dir, ..) = vault.stop().await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let Ok(bytes) = std::fs::read(file.unwrap().path()) else { continue };
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[tokio::test]
async fn the_last_admin_and_the_last_operator_stay() {
    let (vault, operator, admin, first) = with_admin().await;
    let own = format!("token:{}", name(&first).rsplit('/').next().unwrap());
    assert_eq!(outcome(&admin.revoke(&name(&first)).await), LAST_ADMIN);
    assert_eq!(outcome(&admin.unbind("accounts/acme", &own).await), LAST_ADMIN);
    let demoted = admin.bind("accounts/acme", &own, &[WireRole::Reader]).await;
    assert_eq!(outcome(&demoted), LAST_ADMIN);
    assert_eq!(admin.tokens("accounts/acme").await, [first.api_token.clone().unwrap()]);

    // A token of nobody and a reader are no successors; nor is a workload, whose certificate perhaps nobody has.
    let nobody = format!("token:{}", "0".repeat(24));
    admin.bind("accounts/acme", &nobody, &[WireRole::AccountAdmin]).await.unwrap();
    admin.create_token(token("accounts/acme", &[WireRole::Reader])).await.unwrap();
    assert_eq!(outcome(&admin.revoke(&name(&first)).await), LAST_ADMIN);
    let workload = "spiffe://example.org/admin";
    admin.bind("accounts/acme", workload, &[WireRole::AccountAdmin]).await.unwrap();
    assert_eq!(outcome(&admin.revoke(&name(&first)).await), LAST_ADMIN);
    // It is one when it calls.
    let caller = caller(&vault, workload).await;
    let acme = OwnerName::Account(ResourceId::parse("acme").unwrap());
    let scope = vault.vault.authorize_owner::<RevokeApiToken>(&caller, &acme, "acme").await;
    let id = TokenId::parse(name(&first).rsplit('/').next().unwrap()).unwrap();
    vault.vault.revoke_api_token(&scope.unwrap(), &id, &Intent::default()).await.unwrap();

    let [own] = operator.tokens("vault").await.try_into().unwrap();
    assert_eq!(outcome(&operator.revoke(&own.name).await), LAST_OPERATOR);
    let [(principal, _)] = operator.bindings("vault").await.try_into().unwrap();
    assert_eq!(outcome(&operator.unbind("vault", &principal).await), LAST_OPERATOR);
    operator.create_token(token("vault", &[WireRole::Operator])).await.unwrap();
    operator.revoke(&own.name).await.unwrap();
    assert_eq!(outcome(&operator.create_account("more").await), UNAUTHENTICATED);
}

#[tokio::test]
async fn the_last_operator_stays_even_with_a_token_of_an_account() {
    let (vault, operator, admin, first) = with_admin().await;
    // The first admin of an account becomes the only operator.
    let own = format!("token:{}", name(&first).rsplit('/').next().unwrap());
    operator.bind("vault", &own, &[WireRole::Operator]).await.unwrap();
    let [earlier] = operator.tokens("vault").await.try_into().unwrap();
    admin.revoke(&earlier.name).await.unwrap();
    admin.create_token(token("accounts/acme", &[WireRole::AccountAdmin])).await.unwrap();

    assert_eq!(outcome(&admin.revoke(&name(&first)).await), LAST_OPERATOR);
    assert_eq!(outcome(&admin.unbind("vault", &own).await), LAST_OPERATOR);
    // As an account's own it may go: the account has another admin.
    admin.bind("accounts/acme", &own, &[WireRole::Reader]).await.unwrap();
    let request = DisableAccountRequest { name: "accounts/acme".to_owned(), ..Default::default() };
    admin.access.clone().disable_account(request).await.unwrap();
    let request = DeleteAccountRequest { name: "accounts/acme".to_owned(), ..Default::default() };
    let state = vault.state();
    let refused = admin.access.clone().delete_account(request.clone()).await;
    assert_eq!(outcome(&refused), LAST_OPERATOR);
    assert_eq!(vault.state(), state, "nothing of the account is gone");
    admin.create_token(token("vault", &[WireRole::Operator])).await.unwrap();
    admin.access.clone().delete_account(request).await.unwrap();
    assert_eq!(outcome(&admin.create_account("more").await), UNAUTHENTICATED);
}

/// Two who can let others in, in `parent`, try to take that from each other at once. Returns who stayed.
async fn duel(parent: &str, round: usize, duellists: [(&Clients, &str); 2]) -> usize {
    let attempt = async |of: usize| {
        let ((clients, _), (_, other)) = (duellists[of], duellists[1 - of]);
        let principal = format!("token:{}", other.rsplit('/').next().unwrap());
        // Each way to take it, against each.
        let way = if of == 0 { round % 3 } else { round / 3 % 3 };
        match way {
            0 => outcome(&clients.revoke(other).await),
            1 => outcome(&clients.unbind(parent, &principal).await),
            // Operators have one role only.
            _ if parent == "vault" => outcome(&clients.unbind(parent, &principal).await),
            _ => outcome(&clients.bind(parent, &principal, &[WireRole::Reader]).await),
        }
    };
    let (one, two) = tokio::join!(attempt(0), attempt(1));
    let done = [&one, &two].map(|each| each == "OK");
    assert_eq!(done.iter().filter(|done| **done).count(), 1, "round {round}: {one}, {two}");
    let last = if parent == "vault" { LAST_OPERATOR } else { LAST_ADMIN };
    let lost = if done[0] { &two } else { &one };
    let refusals = [last, UNAUTHENTICATED, "PermissionDenied ROLE_MISSING", "NotFound NOT_FOUND"];
    assert!(refusals.contains(&lost.as_str()), "round {round}: {lost}");
    usize::from(done[1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_admins_or_operators_who_end_each_other_one_stays() {
    let vault = TestVault::start().await;
    let mut operator = vault.operator().await;
    let [mut own] = operator.tokens("vault").await.try_into().unwrap();
    for round in 0..90 {
        let parent = format!("accounts/acme-{round}");
        operator.create_account(&format!("acme-{round}")).await.unwrap();
        let admins = token(&parent, &[WireRole::AccountAdmin]);
        let first = operator.create_token(admins.clone()).await.unwrap();
        let one = Clients::new(&channel(vault.address), &first.token);
        let second = one.create_token(admins).await.unwrap();
        let two = Clients::new(&channel(vault.address), &second.token);
        let (first, second) = (name(&first), name(&second));
        let stays = duel(&parent, round, [(&one, &first), (&two, &second)]).await;
        [&one, &two][stays].tokens(&parent).await;

        let second = operator.create_token(token("vault", &[WireRole::Operator])).await.unwrap();
        let two = Clients::new(&channel(vault.address), &second.token);
        let second = second.api_token.unwrap();
        let duellists = [(&operator, own.name.as_str()), (&two, second.name.as_str())];
        if duel("vault", round, duellists).await == 1 {
            (operator, own) = (two, second);
        }
    }
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_forgotten_admin_is_noticed() {
    let test = "accounts::of_two_admins_or_operators_who_end_each_other_one_stays";
    let said = crate::support::process::caught(test, "forget-last-admin");
    assert!(said.contains("OK, OK"), "{said}");
}

#[tokio::test]
async fn role_bindings_are_set_listed_and_deleted() {
    let (_vault, _, admin, first) = with_admin().await;
    let own = format!("token:{}", name(&first).rsplit('/').next().unwrap());
    let admins = vec![i32::from(WireRole::AccountAdmin)];
    let edge = "spiffe://example.org/edge/*";
    let roles = [WireRole::Verifier, WireRole::Reader, WireRole::Reader];
    let bound = admin.bind("accounts/acme", edge, &roles).await.unwrap();
    let sorted = vec![i32::from(WireRole::Reader), i32::from(WireRole::Verifier)];
    assert_eq!((bound.principal.as_str(), &bound.roles), (edge, &sorted));
    let mut expected = vec![(own.clone(), admins.clone()), (edge.to_owned(), sorted)];
    expected.sort();
    assert_eq!(admin.bindings("accounts/acme").await, expected);
    admin.bind("accounts/acme", edge, &[WireRole::Auditor]).await.unwrap();
    assert!(admin.bindings("accounts/acme").await.contains(&(edge.to_owned(), vec![5])));
    admin.unbind("accounts/acme", edge).await.unwrap();
    assert_eq!(outcome(&admin.unbind("accounts/acme", edge).await), "NotFound NOT_FOUND");
    assert_eq!(admin.bindings("accounts/acme").await, [(own, admins)]);

    let log = admin.audit_log("acme").await;
    let acts: Vec<_> =
        log.iter().map(|entry| (entry.method.as_str(), entry.detail.as_str())).collect();
    assert_eq!(
        acts,
        [
            ("SetRoleBinding", "reader, verifier"),
            ("SetRoleBinding", "auditor"),
            ("DeleteRoleBinding", ""),
        ]
    );
}

/// The caller that a workload is.
async fn caller(vault: &TestVault, id: &str) -> Caller {
    let expire_time = vault.now() + SignedDuration::from_secs(1);
    let workload = Workload { id: SpiffeId::parse(id).unwrap(), expire_time };
    vault.vault.authenticate_workload(&workload, String::new()).await.unwrap()
}

#[tokio::test]
async fn a_workload_has_the_roles_of_its_id_and_of_the_paths_above_it() {
    let (vault, operator, admin, _) = with_admin().await;
    let other = operator.create_account("other").await.unwrap();
    operator.create_token(token(&other.name, &[WireRole::AccountAdmin])).await.unwrap();
    admin.bind("accounts/acme", "spiffe://example.org/edge/*", &[WireRole::Reader]).await.unwrap();
    admin
        .bind("accounts/acme", "spiffe://example.org/edge/a", &[WireRole::Verifier])
        .await
        .unwrap();
    let acme = ResourceId::parse("acme").unwrap();
    for (id, roles) in [
        ("spiffe://example.org/edge/a", &[Role::Reader, Role::Verifier][..]),
        ("spiffe://example.org/edge/b", &[Role::Reader]),
        ("spiffe://example.org/edge/b/c", &[Role::Reader]),
        ("spiffe://example.org/edge", &[]),
        ("spiffe://example.org/edges/a", &[]),
        ("spiffe://example.com/edge/a", &[]),
    ] {
        let caller = caller(&vault, id).await;
        assert_eq!(caller.actor.principal, id);
        let found: Vec<_> =
            caller.standing.memberships.iter().flat_map(|m| m.roles.clone()).collect();
        assert_eq!(found.len(), roles.len(), "{id}");
        assert!(roles.iter().all(|role| found.contains(role)), "{id}: {found:?}");
        let may_read = access::authorize::<GetCredential>(&caller, &acme).is_ok();
        assert_eq!(may_read, roles.contains(&Role::Reader), "{id}");
        assert!(!caller.standing.operator);
    }
    operator.bind("vault", "spiffe://example.org/ops", &[WireRole::Operator]).await.unwrap();
    let caller = caller(&vault, "spiffe://example.org/ops").await;
    assert!(caller.standing.operator && caller.standing.memberships.is_empty());
}

#[tokio::test]
async fn an_account_does_not_go_with_the_last_admin_of_another() {
    let (vault, operator, _, first) = with_admin().await;
    operator.create_account("other").await.unwrap();
    let made = operator.create_token(token("accounts/other", &[WireRole::AccountAdmin])).await;
    let made = made.unwrap();
    let other = Clients::new(&channel(vault.address), &made.token);
    let guest = format!("token:{}", name(&first).rsplit('/').next().unwrap());
    other.bind("accounts/other", &guest, &[WireRole::AccountAdmin]).await.unwrap();
    other.revoke(&name(&made)).await.unwrap();

    let acme = || "accounts/acme".to_owned();
    let disable = DisableAccountRequest { name: acme(), ..Default::default() };
    operator.access.clone().disable_account(disable).await.unwrap();
    let delete = DeleteAccountRequest { name: acme(), ..Default::default() };
    let refused = operator.access.clone().delete_account(delete).await;
    assert_eq!(outcome(&refused), LAST_ADMIN);
}

#[tokio::test]
async fn a_disabled_account_opens_again_and_a_deleted_one_makes_room() {
    let (vault, operator, admin, _) = with_admin().await;
    vault.twilio.add_account(SID, TOKEN);
    admin.create(create_with("alice-of-acme", "a-chosen-passw0rd")).await.unwrap();
    let provider = create_provider("main");
    admin.create_provider(provider).await.unwrap();
    admin
        .bind("accounts/acme", "spiffe://example.org/acme-edge", &[WireRole::Verifier])
        .await
        .unwrap();
    let name = "accounts/acme".to_owned();

    let delete = DeleteAccountRequest { name: name.clone(), reason: "left us".to_owned() };
    let early = operator.access.clone().delete_account(delete.clone()).await;
    assert_eq!(outcome(&early), INVALID_STATE);
    let disable = DisableAccountRequest { name: name.clone(), ..Default::default() };
    let answer =
        operator.access.clone().disable_account(disable.clone()).await.unwrap().into_inner();
    assert!(answer.account.unwrap().disabled);
    let list = async || outcome(&admin.get("accounts/acme/credentials/absent").await);
    assert_eq!(list().await, "FailedPrecondition ACCOUNT_DISABLED");
    let enable = EnableAccountRequest { name, ..Default::default() };
    operator.access.clone().enable_account(enable).await.unwrap();
    assert_eq!(list().await, "NotFound NOT_FOUND");
    let log = admin.audit_log("acme").await;
    let last = log.last().unwrap().clone();

    operator.access.clone().disable_account(disable).await.unwrap();
    operator.access.clone().delete_account(delete.clone()).await.unwrap();
    assert_eq!(list().await, UNAUTHENTICATED);
    assert_eq!(
        outcome(&operator.access.clone().delete_account(delete).await),
        "NotFound NOT_FOUND"
    );
    let chain = ListAuditEntriesRequest { parent: "vault".to_owned(), ..Default::default() };
    let chain = operator.audit.clone().list_audit_entries(chain).await.unwrap().into_inner();
    let deletion = chain.entries.iter().find(|entry| entry.method == "DeleteAccount").unwrap();
    assert_eq!(
        (deletion.resource.as_str(), deletion.reason.as_str()),
        ("accounts/acme", "left us")
    );
    assert!(deletion.detail.starts_with("its chain ended at entry "), "{}", deletion.detail);
    // The refusal of a call while it was disabled, and what else came after, stand between.
    let ended = deletion.detail.split(' ').nth(5).unwrap().trim_end_matches(',');
    assert_eq!(ended, (last.sequence).to_string());
    assert!(deletion.detail.ends_with(&hex::encode(&last.hash)), "{}", deletion.detail);

    // The id is free, and what comes under it is another account.
    operator.create_account("acme").await.unwrap();
    let again =
        operator.create_token(token("accounts/acme", &[WireRole::AccountAdmin])).await.unwrap();
    let again = Clients::new(&channel(vault.address), &again.token);
    assert!(again.audit_log("acme").await.is_empty());
    let everything =
        ListCredentialsRequest { parent: "accounts/acme".to_owned(), ..Default::default() };
    let listed = again.credentials.clone().list_credentials(everything).await.unwrap();
    assert!(listed.into_inner().credentials.is_empty());
}
