//! Accounts, as operators manage them.

use super::intent::Committed;
use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{
    Action, CreateAccount, DeleteAccount, DisableAccount, EnableAccount, GetAccount, LocalOperator,
    OperatorScope, Scope,
};
use crate::account::Account;
use crate::crypto::random;
use crate::name::{AccountName, ResourceId, Uid};
use crate::store::Change;

impl Vault {
    /// Creates an account.
    pub async fn create_account(
        &self,
        scope: &Scope<CreateAccount, OperatorScope>,
        id: ResourceId,
        intent: &Intent,
    ) -> Result<Account, Error> {
        if let Some(done) = self.done_before(scope, intent).await? {
            return self.account_of(scope, &done.resource_id, done.resource).await;
        }
        let entry = self.entry_of(scope, intent, &AccountName(id.clone()).to_string());
        let uid = Uid::from_bytes(random::bytes()?);
        let account = Account {
            uid,
            id,
            disabled: false,
            enrolled_keys_only: false,
            create_time: entry.time,
        };
        let resource = (&account.id, account.uid);
        let change = Change::CreateAccount(account.clone());
        match self.commit(scope, intent, resource, change, entry).await? {
            Committed::Now => Ok(account),
            Committed::Before(done) => {
                self.account_of(scope, &done.resource_id, done.resource).await
            }
            Committed::Moved => Err(Error::VersionConflict),
        }
    }

    /// An account.
    pub async fn get_account(
        &self,
        scope: &Scope<GetAccount, OperatorScope>,
        id: &ResourceId,
    ) -> Result<Account, Error> {
        self.find_account(scope, id).await
    }

    /// Closes an account to everybody.
    pub async fn disable_account(
        &self,
        scope: &Scope<DisableAccount, OperatorScope>,
        id: &ResourceId,
        intent: &Intent,
    ) -> Result<Account, Error> {
        self.set_disabled(scope, id, true, intent).await
    }

    /// Opens an account again.
    pub async fn enable_account(
        &self,
        scope: &Scope<EnableAccount, OperatorScope>,
        id: &ResourceId,
        intent: &Intent,
    ) -> Result<Account, Error> {
        self.set_disabled(scope, id, false, intent).await
    }

    /// Deletes a disabled account with everything in it.
    pub async fn delete_account(
        &self,
        scope: &Scope<DeleteAccount, OperatorScope>,
        id: &ResourceId,
        intent: &Intent,
    ) -> Result<(), Error> {
        let old = self.find_account(scope, id).await?;
        if !old.disabled {
            return Err(Error::InvalidState(
                "the account is in use: disable it first, and delete it when nobody misses it",
            ));
        }
        let entry = self.entry_of(scope, intent, &AccountName(id.clone()).to_string());
        let resource = (id, old.uid);
        match self.commit(scope, intent, resource, Change::DeleteAccount(old), entry).await? {
            Committed::Now | Committed::Before(_) => Ok(()),
            Committed::Moved => Err(Error::VersionConflict),
        }
    }

    /// The account of that id, made if there is none, for whoever holds the store.
    pub(super) async fn ensure_account(
        &self,
        operator: &LocalOperator,
        id: &ResourceId,
    ) -> Result<Account, Error> {
        let scope = operator.scope::<CreateAccount>();
        match self.store.account(&scope, id).await? {
            Some(account) => Ok(account),
            None => self.create_account(&scope, id.clone(), &Intent::default()).await,
        }
    }

    async fn set_disabled<A: Action>(
        &self,
        scope: &Scope<A, OperatorScope>,
        id: &ResourceId,
        disabled: bool,
        intent: &Intent,
    ) -> Result<Account, Error> {
        for _ in 0..ATTEMPTS {
            let account = self.find_account(scope, id).await?;
            let entry = self.entry_of(scope, intent, &AccountName(id.clone()).to_string());
            let change = Change::SetAccountDisabled { account: account.uid, disabled };
            match self.commit(scope, intent, (id, account.uid), change, entry).await? {
                Committed::Now | Committed::Before(_) => {
                    return Ok(Account { disabled, ..account });
                }
                Committed::Moved => {}
            }
        }
        Err(Error::VersionConflict)
    }

    async fn find_account(&self, scope: &OperatorScope, id: &ResourceId) -> Result<Account, Error> {
        let found = self.store.account(scope, id).await?;
        found.ok_or_else(|| Error::NotFound { name: AccountName(id.clone()).to_string() })
    }

    /// The account that a request made before, if it still exists.
    async fn account_of(
        &self,
        scope: &OperatorScope,
        id: &ResourceId,
        uid: Uid,
    ) -> Result<Account, Error> {
        let account = self.find_account(scope, id).await?;
        if account.uid == uid {
            Ok(account)
        } else {
            Err(Error::NotFound { name: AccountName(id.clone()).to_string() })
        }
    }
}
