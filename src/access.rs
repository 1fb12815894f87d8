//! Who may do what: callers, roles, and the scope that only [`authorize`] can make.
//!
//! Default deny. Every operation of the vault asks for a [`Scope`] of its own action, and every store call
//! for the [`AccountScope`] inside it, so an operation that nobody authorized does not compile.

pub mod api_token;
pub mod spiffe;

use std::marker::PhantomData;
use std::ops::Deref;

use crate::account::Account;
use crate::audit::Actor;
use crate::name::ResourceId;

/// What a principal may do in one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Get and list.
    Reader,
    /// Reader, and rotate credentials.
    Rotator,
    /// Reader, and replace and verify provider tokens.
    TokenWriter,
    /// Use secrets without seeing them; nothing else.
    Verifier,
    /// Read the audit log; nothing else.
    Auditor,
    /// Everything in the account except using secrets.
    AccountAdmin,
}

impl Role {
    /// All of them, with their names as stored and typed.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Reader, "reader"),
        (Self::Rotator, "rotator"),
        (Self::TokenWriter, "token-writer"),
        (Self::Verifier, "verifier"),
        (Self::Auditor, "auditor"),
        (Self::AccountAdmin, "account-admin"),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
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
    CreateProvider: AccountAdmin;
    GetProvider: Reader | Rotator | TokenWriter | AccountAdmin;
    ListProviders: Reader | Rotator | TokenWriter | AccountAdmin;
    UpdateProvider: AccountAdmin;
    UpdateToken: TokenWriter | AccountAdmin;
    VerifyProvider: TokenWriter | AccountAdmin;
    ListVerifications: Reader | Rotator | TokenWriter | AccountAdmin;
    DeleteProvider: AccountAdmin;
    VerifySipDigest: Verifier;
    ListAuditEntries: Auditor | AccountAdmin;
}

/// A principal's roles in one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The account.
    pub account: Account,
    /// The roles there.
    pub roles: Vec<Role>,
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who, and from where.
    pub actor: Actor,
    /// Where the caller belongs.
    pub memberships: Vec<Membership>,
}

/// Proof that a caller may act in an account. Only [`authorize`] makes one, and [`Worker`] for the vault itself.
#[derive(Debug, Clone)]
pub struct AccountScope {
    account: Account,
    actor: Actor,
    method: &'static str,
}

impl AccountScope {
    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Who acts.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Which action was authorized.
    pub fn method(&self) -> &'static str {
        self.method
    }
}

/// Proof that a caller may perform action `A` in an account.
#[derive(Debug, Clone)]
pub struct Scope<A> {
    inner: AccountScope,
    action: PhantomData<fn() -> A>,
}

impl<A> Deref for Scope<A> {
    type Target = AccountScope;

    fn deref(&self) -> &AccountScope {
        &self.inner
    }
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
}

/// Decides whether `caller` may perform `A` in `account`.
pub fn authorize<A: Action>(caller: &Caller, account: &ResourceId) -> Result<Scope<A>, Denied> {
    let membership = caller
        .memberships
        .iter()
        .find(|membership| membership.account.id == *account)
        .ok_or(Denied::NotMember)?;
    let account = &membership.account;
    if !membership.roles.iter().any(|role| A::ROLES.contains(role)) {
        return Err(Denied::RoleMissing(Box::new(account.clone())));
    }
    if account.disabled {
        return Err(Denied::AccountDisabled(Box::new(account.clone())));
    }
    let inner =
        AccountScope { account: account.clone(), actor: caller.actor.clone(), method: A::METHOD };
    Ok(Scope { inner, action: PhantomData })
}

/// Proof that the process itself holds the store: whoever may open its files may make accounts and tokens.
#[derive(Debug, Clone)]
pub struct LocalOperator {
    actor: Actor,
}

impl LocalOperator {
    /// For commands that open the store beside a stopped server.
    pub fn beside_the_store() -> Self {
        let principal = "operator:local".to_owned();
        Self { actor: Actor { principal, peer: String::new() } }
    }

    /// Who acts.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }
}

/// Proof that the vault acts by itself, on its schedule: on every account, but only what it was made for.
#[derive(Debug, Clone)]
pub struct Worker {
    actor: Actor,
}

impl Worker {
    /// The one that verifies providers again.
    pub fn verifier() -> Self {
        Self {
            actor: Actor {
                principal: "vault:scheduled-verification".to_owned(),
                peer: String::new(),
            },
        }
    }

    /// The right to verify the providers of an account.
    pub fn scope(&self, account: Account) -> Scope<VerifyProvider> {
        let method = VerifyProvider::METHOD;
        let inner = AccountScope { account, actor: self.actor.clone(), method };
        Scope { inner, action: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::name::Uid;

    fn caller(disabled: bool, roles: &[Role]) -> Caller {
        let account = Account {
            uid: Uid::from_bytes([1; 16]),
            id: ResourceId::parse("acme").unwrap(),
            disabled,
            create_time: Timestamp::UNIX_EPOCH,
        };
        Caller {
            actor: Actor { principal: "token:1".to_owned(), peer: String::new() },
            memberships: vec![Membership { account, roles: roles.to_vec() }],
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

    #[test]
    fn an_admin_may_everything_but_use() {
        for (method, roles) in ACTIONS {
            assert_eq!(
                roles.contains(&Role::AccountAdmin),
                *method != "VerifySipDigest",
                "{method}"
            );
            assert_eq!(roles.contains(&Role::Verifier), *method == "VerifySipDigest", "{method}");
            assert_eq!(roles.contains(&Role::Auditor), *method == "ListAuditEntries", "{method}");
        }
    }

    #[test]
    fn role_names_parse_what_they_print() {
        for (role, name) in Role::ALL {
            assert_eq!((role.as_str(), Role::parse(name)), (name, Some(role)));
        }
        assert_eq!(Role::parse("operator"), None);
    }
}
