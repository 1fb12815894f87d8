//! Who may do what: callers, roles, and the scope that only [`authorize`] can make.
//!
//! Default deny. Every operation of the vault asks for a [`Scope`] of its own action, and every store call
//! for the [`AccountScope`] inside it, so an operation that nobody authorized does not compile.

pub mod api_token;
pub(crate) mod network;
pub mod principal;
mod scope;
pub mod spiffe;

use std::sync::Arc;

use jiff::Timestamp;

use crate::account::Account;
use crate::audit::Actor;
use crate::defect::{Defect, planted};
use crate::name::{OwnerName, ResourceId};

pub use scope::{
    AccountScope, Authorized, LocalOperator, OperatorScope, Owner, OwnerScope, Scope, Worker,
};

/// What a principal may do in one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Get, list and watch.
    Reader,
    /// Reader, and rotate credentials.
    Rotator,
    /// Reader, and replace, rotate and verify provider tokens.
    TokenWriter,
    /// Use secrets without seeing them, but for answering in their name; nothing else.
    Verifier,
    /// Answer SIP challenges in the name of each credential: to place calls as it. Nothing else.
    SipClient,
    /// Read the audit log; nothing else.
    Auditor,
    /// Everything in the account except using secrets.
    AccountAdmin,
    /// Accounts and their first admins; neither issues nor uses secrets. Of the vault itself, in no account.
    Operator,
}

/// The name of the one role that is no account's.
const OPERATOR: &str = "operator";

impl Role {
    /// All that an account has, with their names as stored and typed.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Reader, "reader"),
        (Self::Rotator, "rotator"),
        (Self::TokenWriter, "token-writer"),
        (Self::Verifier, "verifier"),
        (Self::SipClient, "sip-client"),
        (Self::Auditor, "auditor"),
        (Self::AccountAdmin, "account-admin"),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or(OPERATOR, |(_, name)| name)
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == OPERATOR {
            return Some(Self::Operator);
        }
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
    }
}

/// Something a caller may be allowed to do.
pub trait Action {
    /// The RPC's name: what stands in audit entries and scopes request ids.
    const METHOD: &'static str;
    /// Roles that allow it.
    const ROLES: &'static [Role];
}

macro_rules! actions {
    ($($name:ident: $($role:ident)|+;)*) => {
        $(
            #[doc = concat!("The right to call `", stringify!($name), "`.")]
            #[derive(Debug, Clone, Copy)]
            pub enum $name {}

            impl Action for $name {
                const METHOD: &'static str = stringify!($name);
                const ROLES: &'static [Role] = &[$(Role::$role),+];
            }
        )*

        /// Every action with the roles that allow it, for the tests of the matrix.
        pub const ACTIONS: &[(&str, &[Role])] = &[$(($name::METHOD, $name::ROLES)),*];
    };
}

actions! {
    CreateCredential: AccountAdmin;
    GetCredential: Reader | Rotator | TokenWriter | AccountAdmin;
    ListCredentials: Reader | Rotator | TokenWriter | AccountAdmin;
    UpdateCredential: AccountAdmin;
    RotateCredential: Rotator | AccountAdmin;
    DeleteCredential: AccountAdmin;
    WatchCredentials: Reader | Rotator | TokenWriter | AccountAdmin;
    ListVersions: Reader | Rotator | TokenWriter | AccountAdmin;
    GetRotation: Reader | Rotator | TokenWriter | AccountAdmin;
    ListRotations: Reader | Rotator | TokenWriter | AccountAdmin;
    ConfirmRotation: Rotator | AccountAdmin;
    CancelRotation: Rotator | AccountAdmin;
    ResumeRotation: Rotator | AccountAdmin;
    CreateProvider: AccountAdmin;
    GetProvider: Reader | Rotator | TokenWriter | AccountAdmin;
    ListProviders: Reader | Rotator | TokenWriter | AccountAdmin;
    UpdateProvider: AccountAdmin;
    UpdateToken: TokenWriter | AccountAdmin;
    RotateToken: TokenWriter | AccountAdmin;
    VerifyProvider: TokenWriter | AccountAdmin;
    ListVerifications: Reader | Rotator | TokenWriter | AccountAdmin;
    DeleteProvider: AccountAdmin;
    VerifySipDigest: Verifier;
    IssueSipChallenge: Verifier;
    VerifyTwilioWebhook: Verifier;
    MintTwilioAccessToken: Verifier;
    BatchVerifySipDigest: Verifier;
    ComputeSipDigest: SipClient;
    ListAuditEntries: Auditor | AccountAdmin | Operator;
    CreateAccount: Operator;
    GetAccount: Operator;
    ListAccounts: Operator;
    DisableAccount: Operator;
    EnableAccount: Operator;
    DeleteAccount: Operator;
    CreateApiToken: AccountAdmin | Operator;
    GetApiToken: AccountAdmin | Operator;
    ListApiTokens: AccountAdmin | Operator;
    RevokeApiToken: AccountAdmin | Operator;
    CreateRecipientKey: AccountAdmin;
    ListRecipientKeys: Reader | Rotator | TokenWriter | AccountAdmin;
    RevokeRecipientKey: AccountAdmin;
    GetDeliveryPolicy: Reader | Rotator | TokenWriter | AccountAdmin;
    UpdateDeliveryPolicy: AccountAdmin;
    GetAccessTokenPolicy: Reader | Rotator | TokenWriter | AccountAdmin;
    UpdateAccessTokenPolicy: AccountAdmin;
    SetRoleBinding: AccountAdmin | Operator;
    ListRoleBindings: AccountAdmin | Operator;
    DeleteRoleBinding: AccountAdmin | Operator;
}

/// A principal's roles in one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The account.
    pub account: Account,
    /// The roles there.
    pub roles: Vec<Role>,
}

/// All that is bound to a principal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// An operator of the vault.
    pub operator: bool,
    /// Where it belongs.
    pub memberships: Vec<Membership>,
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who, and from where.
    pub actor: Actor,
    /// What the caller may do, and where.
    pub standing: Arc<Standing>,
    /// When the token or the certificate ends that was presented.
    pub expire_time: Timestamp,
}

/// Why a caller may not act. The order is that of the decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The caller does not belong to the account, or there is none of that name: one answer for both.
    NotMember,
    /// The caller belongs to the account but no role allows the action.
    RoleMissing(Box<Account>),
    /// The account is disabled.
    AccountDisabled(Box<Account>),
    /// The caller is no operator.
    NotOperator,
}

/// Decides whether `caller` may perform `A` in `account`.
pub fn authorize<A: Action>(caller: &Caller, account: &ResourceId) -> Result<Scope<A>, Denied> {
    let account = member::<A>(caller, account)?;
    Ok(Scope::of(AccountScope::new(account, caller.actor.clone(), A::METHOD)))
}

/// Decides whether `caller` may perform `A` in `account` on something that is for those who may perform `B`.
pub fn authorize_as<A: Action, B: Action>(
    caller: &Caller,
    account: &ResourceId,
) -> Result<Scope<A>, Denied> {
    let account = member::<B>(caller, account)?;
    Ok(Scope::of(AccountScope::new(account, caller.actor.clone(), A::METHOD)))
}

/// Decides whether `caller` may perform `A` on the vault itself.
pub fn authorize_operator<A: Action>(caller: &Caller) -> Result<Scope<A, OperatorScope>, Denied> {
    if caller.standing.operator && A::ROLES.contains(&Role::Operator) {
        Ok(Scope::of(OperatorScope::new(caller.actor.clone(), A::METHOD)))
    } else {
        Err(Denied::NotOperator)
    }
}

/// Decides whether `caller` may perform `A` on what belongs to `owner`: an account's admin there, an operator on
/// what is the vault's own.
pub fn authorize_owner<A: Action>(
    caller: &Caller,
    owner: &OwnerName,
) -> Result<Scope<A, OwnerScope>, Denied> {
    match owner {
        OwnerName::Vault => authorize_operator::<A>(caller).map(Scope::on_vault),
        OwnerName::Account(id) => {
            let account = member::<A>(caller, id)?;
            Ok(Scope::of(OwnerScope::of_member(account, caller.actor.clone(), A::METHOD)))
        }
    }
}

/// The account, if `caller` may perform `A` there.
fn member<A: Action>(caller: &Caller, account: &ResourceId) -> Result<Account, Denied> {
    let membership = caller
        .standing
        .memberships
        .iter()
        .find(|membership| membership.account.id == *account || planted_any::<A>())
        .ok_or(Denied::NotMember)?;
    let account = &membership.account;
    let may = |role: &Role| {
        *role != Role::Operator && (A::ROLES.contains(role) || planted_may::<A>(*role))
    };
    if !membership.roles.iter().any(may) {
        return Err(Denied::RoleMissing(Box::new(account.clone())));
    }
    if account.disabled {
        return Err(Denied::AccountDisabled(Box::new(account.clone())));
    }
    Ok(account.clone())
}

/// The planted defects that the authorization matrix must find.
fn planted_any<A: Action>() -> bool {
    planted(Defect::SkipScope) && A::METHOD == GetProvider::METHOD
}

fn planted_may<A: Action>(role: Role) -> bool {
    planted(Defect::WrongRole) && A::METHOD == RotateCredential::METHOD && role == Role::Reader
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Uid;

    fn caller(disabled: bool, roles: &[Role]) -> Caller {
        let account = Account {
            uid: Uid::from_bytes([1; 16]),
            id: ResourceId::parse("acme").unwrap(),
            disabled,
            enrolled_keys_only: false,
            create_time: Timestamp::UNIX_EPOCH,
        };
        Caller {
            actor: Actor { principal: "token:1".to_owned(), peer: String::new() },
            standing: Arc::new(Standing {
                operator: false,
                memberships: vec![Membership { account, roles: roles.to_vec() }],
            }),
            expire_time: Timestamp::MAX,
        }
    }

    #[test]
    fn an_operator_is_a_stranger_to_accounts_and_a_member_to_the_vault() {
        let acme = ResourceId::parse("acme").unwrap();
        let mut operator = caller(false, &[]);
        operator.standing = Arc::new(Standing { operator: true, memberships: Vec::new() });
        assert!(authorize_operator::<CreateAccount>(&operator).is_ok());
        assert!(authorize_owner::<CreateApiToken>(&operator, &OwnerName::Vault).is_ok());
        for denied in [
            authorize::<GetCredential>(&operator, &acme).err(),
            authorize_owner::<CreateApiToken>(&operator, &OwnerName::Account(acme.clone())).err(),
            authorize_owner::<ListAuditEntries>(&operator, &OwnerName::Account(acme.clone())).err(),
        ] {
            assert_eq!(denied, Some(Denied::NotMember));
        }
        // A role of that name in an account is none.
        for roles in [&[Role::AccountAdmin][..], &[Role::Operator]] {
            let member = caller(false, roles);
            assert!(authorize_operator::<CreateAccount>(&member).is_err());
            assert!(authorize_owner::<CreateApiToken>(&member, &OwnerName::Vault).is_err());
            assert!(authorize_operator::<GetCredential>(&operator).is_err());
        }
    }

    #[test]
    fn membership_comes_before_role_and_role_before_state() {
        let acme = ResourceId::parse("acme").unwrap();
        let other = ResourceId::parse("other").unwrap();
        let rotator = caller(false, &[Role::Rotator]);
        assert!(authorize::<RotateCredential>(&rotator, &acme).is_ok());
        assert!(authorize::<GetCredential>(&rotator, &acme).is_ok());
        assert!(matches!(
            authorize::<DeleteCredential>(&rotator, &acme),
            Err(Denied::RoleMissing(_))
        ));
        assert!(matches!(
            authorize::<VerifySipDigest>(&rotator, &acme),
            Err(Denied::RoleMissing(_))
        ));
        assert!(matches!(authorize::<RotateCredential>(&rotator, &other), Err(Denied::NotMember)));
        let disabled = caller(true, &[Role::Reader]);
        assert!(matches!(
            authorize::<GetCredential>(&disabled, &acme),
            Err(Denied::AccountDisabled(_))
        ));
        assert!(matches!(authorize::<UpdateToken>(&disabled, &acme), Err(Denied::RoleMissing(_))));
    }

    /// All of `UseService`.
    const USES: [&str; 6] = [
        "VerifySipDigest",
        "IssueSipChallenge",
        "VerifyTwilioWebhook",
        "MintTwilioAccessToken",
        "BatchVerifySipDigest",
        "ComputeSipDigest",
    ];

    #[test]
    fn an_admin_may_everything_but_use() {
        for (method, roles) in ACTIONS {
            if *roles == [Role::Operator] {
                continue;
            }
            let uses = USES.contains(method);
            assert_eq!(roles.contains(&Role::AccountAdmin), !uses, "{method}");
            let answers = *method == "ComputeSipDigest";
            assert_eq!(roles.contains(&Role::Verifier), uses && !answers, "{method}");
            assert_eq!(roles.contains(&Role::SipClient), answers, "{method}");
            assert_eq!(roles.contains(&Role::Auditor), *method == "ListAuditEntries", "{method}");
        }
    }

    #[test]
    fn role_names_parse_what_they_print() {
        for (role, name) in Role::ALL {
            assert_eq!((role.as_str(), Role::parse(name)), (name, Some(role)));
        }
        assert_eq!(Role::parse(Role::Operator.as_str()), Some(Role::Operator));
        assert_eq!(Role::parse("root"), None);
    }
}
