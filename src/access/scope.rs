//! Proofs that somebody may act. Only `authorize…` makes them, and for the process itself [`LocalOperator`] and
//! [`Worker`].

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use super::{Action, RotateCredential, VerifyProvider};
use crate::account::Account;
use crate::audit::{Actor, Chain};
use crate::name::{OwnerName, Uid};

/// What tokens, role bindings and audit entries belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The vault itself: its operators, and what they do.
    Vault,
    /// An account.
    Account(Account),
}

impl Owner {
    /// The identity under which it is stored.
    pub fn uid(&self) -> Uid {
        match self {
            Self::Vault => Uid::ZERO,
            Self::Account(account) => account.uid,
        }
    }

    /// Its name.
    pub fn name(&self) -> OwnerName {
        match self {
            Self::Vault => OwnerName::Vault,
            Self::Account(account) => OwnerName::Account(account.id.clone()),
        }
    }

    fn chain(&self) -> Chain {
        match self {
            Self::Vault => Chain::of_vault(),
            Self::Account(account) => Chain::of_account(account),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

mod sealed {
    /// Keeps proofs from being made elsewhere.
    pub trait Sealed {}
}

/// What every proof says: who may do what, and where that is recorded.
pub trait Authorized: sealed::Sealed + Sync {
    /// Under what request ids and page tokens are kept: the account, or zero for the vault.
    fn owner_uid(&self) -> Uid;
    /// Where its audit entries stand.
    fn chain(&self) -> Chain;
    /// Who acts.
    fn actor(&self) -> &Actor;
    /// Which action was authorized.
    fn method(&self) -> &'static str;
}

/// Proof that a caller may act in an account.
#[derive(Debug, Clone)]
pub struct AccountScope {
    account: Account,
    actor: Actor,
    method: &'static str,
}

impl AccountScope {
    pub(super) fn new(account: Account, actor: Actor, method: &'static str) -> Self {
        Self { account, actor, method }
    }

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

impl sealed::Sealed for AccountScope {}

impl Authorized for AccountScope {
    fn owner_uid(&self) -> Uid {
        self.account.uid
    }

    fn chain(&self) -> Chain {
        Chain::of_account(&self.account)
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn method(&self) -> &'static str {
        self.method
    }
}

/// Proof that an operator may act on the vault itself.
#[derive(Debug, Clone)]
pub struct OperatorScope {
    actor: Actor,
    method: &'static str,
}

impl OperatorScope {
    pub(super) fn new(actor: Actor, method: &'static str) -> Self {
        Self { actor, method }
    }
}

impl sealed::Sealed for OperatorScope {}

impl Authorized for OperatorScope {
    fn owner_uid(&self) -> Uid {
        Uid::ZERO
    }

    fn chain(&self) -> Chain {
        Chain::of_vault()
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn method(&self) -> &'static str {
        self.method
    }
}

/// Whose right it is to act on what belongs to an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// An account's admin in it, an operator in the vault. May not lock everybody out.
    Own,
    /// An operator in an account: its first admin, and nothing else.
    FirstAdmin,
    /// Whoever holds the store.
    Local,
}

/// Proof that a caller may act on tokens, role bindings or audit entries of an account, or of the vault.
#[derive(Debug, Clone)]
pub struct OwnerScope {
    owner: Owner,
    right: Right,
    actor: Actor,
    method: &'static str,
}

impl OwnerScope {
    pub(super) fn of_member(account: Account, actor: Actor, method: &'static str) -> Self {
        Self { owner: Owner::Account(account), right: Right::Own, actor, method }
    }

    /// Whose they are.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whether the last admin, or operator, must stay: a caller could not let anybody in again.
    pub fn keeps_last_admin(&self) -> bool {
        self.right != Right::Local
    }

    /// Whether only a first admin may be made.
    pub fn is_for_first_admin(&self) -> bool {
        self.right == Right::FirstAdmin
    }
}

impl sealed::Sealed for OwnerScope {}

impl Authorized for OwnerScope {
    fn owner_uid(&self) -> Uid {
        self.owner.uid()
    }

    /// What operators do stands in the vault's chain, whatever they do it to.
    fn chain(&self) -> Chain {
        if self.right == Right::Own { self.owner.chain() } else { Chain::of_vault() }
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn method(&self) -> &'static str {
        self.method
    }
}

/// Proof that a caller may perform action `A`: in an account, unless `S` says otherwise.
#[derive(Debug, Clone)]
pub struct Scope<A, S = AccountScope> {
    inner: S,
    action: PhantomData<fn() -> A>,
}

impl<A, S> Scope<A, S> {
    pub(super) fn of(inner: S) -> Self {
        Self { inner, action: PhantomData }
    }
}

impl<A> Scope<A, OperatorScope> {
    /// The same action, on what belongs to the vault itself.
    pub fn on_vault(self) -> Scope<A, OwnerScope> {
        let OperatorScope { actor, method } = self.inner;
        Scope::of(OwnerScope { owner: Owner::Vault, right: Right::Own, actor, method })
    }
}

impl Scope<super::CreateApiToken, OperatorScope> {
    /// The right to make the first admin of an account.
    pub fn first_admin_of(self, account: Account) -> Scope<super::CreateApiToken, OwnerScope> {
        let OperatorScope { actor, method } = self.inner;
        let owner = Owner::Account(account);
        Scope::of(OwnerScope { owner, right: Right::FirstAdmin, actor, method })
    }
}

impl<A, S> Deref for Scope<A, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.inner
    }
}

impl<A, S> sealed::Sealed for Scope<A, S> {}

impl<A, S: Authorized> Authorized for Scope<A, S> {
    fn owner_uid(&self) -> Uid {
        self.inner.owner_uid()
    }

    fn chain(&self) -> Chain {
        self.inner.chain()
    }

    fn actor(&self) -> &Actor {
        self.inner.actor()
    }

    fn method(&self) -> &'static str {
        self.inner.method()
    }
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

    /// The right to act on the vault itself.
    pub fn scope<A: Action>(&self) -> Scope<A, OperatorScope> {
        Scope::of(OperatorScope::new(self.actor.clone(), A::METHOD))
    }

    /// The right to act on what belongs to `owner`, down to its last admin.
    pub fn owner_scope<A: Action>(&self, owner: Owner) -> Scope<A, OwnerScope> {
        let (actor, method) = (self.actor.clone(), A::METHOD);
        Scope::of(OwnerScope { owner, right: Right::Local, actor, method })
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

    /// The one that ends what was to end by itself (retiring versions, sealed secrets, waits for a confirmation), and
    /// rotates what is due on its schedule.
    pub fn rotations() -> Self {
        let principal = "vault:rotations".to_owned();
        Self { actor: Actor { principal, peer: String::new() } }
    }

    /// The right to destroy versions of an account that no longer verify.
    pub fn retirement(&self, account: Account) -> AccountScope {
        AccountScope::new(account, self.actor.clone(), "RetireVersion")
    }

    /// The right to end deliveries of an account whose time has passed.
    pub fn expiry(&self, account: Account) -> AccountScope {
        AccountScope::new(account, self.actor.clone(), "ExpireRotation")
    }

    /// The right to carry rotations of an account out at their carriers.
    pub fn performance(&self, account: Account) -> AccountScope {
        AccountScope::new(account, self.actor.clone(), "PerformRotation")
    }

    /// The right to rotate the credentials of an account on their schedules.
    pub fn schedule(&self, account: Account) -> AccountScope {
        AccountScope::new(account, self.actor.clone(), RotateCredential::METHOD)
    }

    /// The right to verify the providers of an account.
    pub fn scope(&self, account: Account) -> Scope<VerifyProvider> {
        Scope::of(AccountScope::new(account, self.actor.clone(), VerifyProvider::METHOD))
    }
}
