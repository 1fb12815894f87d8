//! Bad input to `AccessService`, from a caller who may do everything there.

use credvault::grpc::proto::{
    ApiToken, CreateAccountRequest, CreateApiTokenRequest, DeleteAccountRequest,
    DeleteRoleBindingRequest, DisableAccountRequest, EnableAccountRequest, GetAccountRequest,
    GetApiTokenRequest, ListAccountsRequest, ListApiTokensRequest, ListRoleBindingsRequest,
    RevokeApiTokenRequest, Role, RoleBinding, SetRoleBindingRequest,
};

use super::{Case, NOT_FOUND, TAKEN, each};

const ACME: &str = "accounts/acme";
const NOBODY: &str = "spiffe://example.org/nobody";

fn token(roles: &[Role]) -> CreateApiTokenRequest {
    let roles = roles.iter().map(|role| i32::from(*role)).collect();
    let api_token = Some(ApiToken { roles, ..Default::default() });
    CreateApiTokenRequest { parent: ACME.to_owned(), api_token, ..Default::default() }
}

fn lasting(seconds: i64, nanos: i32) -> CreateApiTokenRequest {
    let lifetime = Some(prost_types::Duration { seconds, nanos });
    CreateApiTokenRequest { lifetime, ..token(&[Role::Reader]) }
}

fn binding(principal: &str, roles: &[i32]) -> SetRoleBindingRequest {
    let (principal, roles) = (principal.to_owned(), roles.to_vec());
    let role_binding = Some(RoleBinding { principal, roles, ..Default::default() });
    SetRoleBindingRequest { parent: ACME.to_owned(), role_binding, ..Default::default() }
}

pub(super) fn cases() -> Vec<Case> {
    let accounts =
        ["", "acme", "vault", "accounts/", "accounts/A", "accounts/acme/", "accounts/ab"];
    let owners = ["", "acme", "Vault", "vault/", "accounts", "accounts/A", "accounts/acme/x"];
    let tokens = [
        "",
        "vault/apiTokens/",
        "accounts/acme/apiTokens/0123",
        "accounts/acme/apiTokens/0123456789ABCDEF01234567",
        "accounts/acme/tokens/0123456789abcdef01234567",
        "apiTokens/0123456789abcdef01234567",
    ];
    let principals = ["", "alice", "token:0", "spiffe://", "spiffe://example.org", "spiffe://*"];
    let nobody = NOBODY;
    let ids = ["", "ab", "Acme", "a/b", "accounts/acme"];
    let good = [i32::from(Role::Reader)];
    let mut cases = [
        each("id", &ids, "account_id", |account_id| CreateAccountRequest {
            account_id,
            ..Default::default()
        }),
        each("name", &accounts, "name", |name| GetAccountRequest { name }),
        each("name", &accounts, "name", |name| DisableAccountRequest {
            name,
            ..Default::default()
        }),
        each("name", &accounts, "name", |name| EnableAccountRequest { name, ..Default::default() }),
        each("name", &accounts, "name", |name| DeleteAccountRequest { name, ..Default::default() }),
        each("parent", &owners, "parent", |parent| CreateApiTokenRequest {
            parent,
            ..token(&[Role::Reader])
        }),
        each("parent", &owners, "parent", |parent| ListApiTokensRequest {
            parent,
            ..Default::default()
        }),
        each("parent", &owners, "parent", |parent| ListRoleBindingsRequest {
            parent,
            ..Default::default()
        }),
        each("parent", &owners, "parent", |parent| SetRoleBindingRequest {
            parent,
            ..binding(nobody, &good)
        }),
        each("parent", &owners, "parent", |parent| DeleteRoleBindingRequest {
            parent,
            principal: nobody.to_owned(),
            ..Default::default()
        }),
        each("name", &tokens, "name", |name| GetApiTokenRequest { name }),
        each("name", &tokens, "name", |name| RevokeApiTokenRequest { name, ..Default::default() }),
        each("principal", &principals, "role_binding.principal", |principal| {
            binding(&principal, &good)
        }),
        each("principal", &principals, "principal", |principal| DeleteRoleBindingRequest {
            parent: ACME.to_owned(),
            principal,
            ..Default::default()
        }),
        each("page token", &["x", "AAAA"], "page_token", |page_token| ListAccountsRequest {
            page_token,
            ..Default::default()
        }),
    ]
    .concat();
    cases.extend(values());
    cases
}

/// Roles and lifetimes that nobody has, and what is not there.
fn values() -> Vec<Case> {
    let absent = format!("{ACME}/apiTokens/{}", "0".repeat(24));
    let nobody = NOBODY;
    let mut cases: Vec<Case> = Vec::new();
    for (seconds, nanos) in [(0, 0), (59, 999_999_999), (-60, 0), (7_776_000, 1), (i64::MAX, 0)] {
        cases.push(("lifetime", lasting(seconds, nanos).into(), "lifetime"));
    }
    for roles in [&[][..], &[Role::Unspecified], &[Role::Operator], &[Role::Reader, Role::Operator]]
    {
        cases.push(("roles", token(roles).into(), "api_token.roles"));
        let numbers: Vec<_> = roles.iter().map(|role| i32::from(*role)).collect();
        cases.push(("roles", binding(nobody, &numbers).into(), "role_binding.roles"));
    }
    cases.push(("roles", binding(nobody, &[99]).into(), "role_binding.roles"));
    let in_vault =
        |roles: &[Role]| CreateApiTokenRequest { parent: "vault".to_owned(), ..token(roles) };
    cases.push(("roles", in_vault(&[Role::Reader]).into(), "api_token.roles"));
    let mut named = token(&[Role::Reader]);
    named.api_token.as_mut().unwrap().display_name = "x".repeat(101);
    let no_token = CreateApiTokenRequest { parent: ACME.to_owned(), ..Default::default() };
    let no_binding = SetRoleBindingRequest { parent: ACME.to_owned(), ..Default::default() };
    let account_id = "acme".to_owned();
    cases.extend([
        ("too long", named.into(), "api_token.display_name"),
        ("missing", no_token.into(), "api_token"),
        ("missing", no_binding.into(), "role_binding"),
        ("taken", CreateAccountRequest { account_id, ..Default::default() }.into(), TAKEN),
        (
            "request id",
            CreateApiTokenRequest { request_id: "1".to_owned(), ..token(&[Role::Reader]) }.into(),
            "request_id",
        ),
        ("absent", GetAccountRequest { name: "accounts/ghost".to_owned() }.into(), NOT_FOUND),
        ("absent", GetApiTokenRequest { name: absent.clone() }.into(), NOT_FOUND),
        ("absent", RevokeApiTokenRequest { name: absent, ..Default::default() }.into(), NOT_FOUND),
        (
            "absent",
            DeleteRoleBindingRequest {
                parent: ACME.to_owned(),
                principal: nobody.to_owned(),
                ..Default::default()
            }
            .into(),
            NOT_FOUND,
        ),
        (
            "in use",
            DeleteAccountRequest { name: ACME.to_owned(), ..Default::default() }.into(),
            "FailedPrecondition INVALID_STATE",
        ),
    ]);
    cases
}
