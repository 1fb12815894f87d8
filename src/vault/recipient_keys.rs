//! Recipient keys: enrolled, listed, revoked; and whether new secrets leave an account for them alone.

use super::intent::Committed;
use super::{Error, Intent, Listed, PageRequest, Vault};
use crate::access::{
    AccountScope, CreateRecipientKey, GetDeliveryPolicy, ListRecipientKeys, RevokeRecipientKey,
    Scope, UpdateDeliveryPolicy,
};
use crate::audit::Entry;
use crate::crypto::random;
use crate::name::{AccountName, ResourceId, Uid};
use crate::provider::DisplayName;
use crate::recipient::{PublicKey, RecipientKey, RecipientKeyName};
use crate::secret::SecretText;
use crate::store::{Change, Write};

use super::delivery::sealed_for;

/// A recipient key to be.
#[derive(Debug, Clone)]
pub struct NewRecipientKey {
    /// Its id; None: a random one.
    pub id: Option<ResourceId>,
    /// The key.
    pub public_key: PublicKey,
    /// Whose it is.
    pub display_name: DisplayName,
}

impl Vault {
    /// Enrolls a key that secrets may be sealed for.
    pub async fn create_recipient_key(
        &self,
        scope: &Scope<CreateRecipientKey>,
        new: NewRecipientKey,
        intent: &Intent,
    ) -> Result<RecipientKey, Error> {
        // What could not be sealed for it later is not enrolled.
        sealed_for(
            "recipient_key.public_key",
            &new.public_key,
            "",
            &SecretText::new(String::new()),
        )?;
        if let Some(done) = self.done_before(scope, intent).await? {
            return self.find_recipient_key(scope, &done.resource_id).await;
        }
        let now = self.clock.now();
        let id = match new.id {
            Some(id) => id,
            None => ResourceId::made_at(now, random::bytes()?),
        };
        let key = RecipientKey {
            name: RecipientKeyName { account: scope.account().id.clone(), id },
            public_key: new.public_key,
            display_name: new.display_name,
            create_time: now,
            revoke_time: None,
        };
        let entry = Entry {
            detail: format!("key {}", key.public_key.fingerprint()),
            ..self.entry_of(scope, intent, &key.name.to_string())
        };
        let change = Change::CreateRecipientKey(key.clone());
        match self.commit(scope, intent, (&key.name.id, Uid::ZERO), change, entry).await? {
            Committed::Now => Ok(key),
            Committed::Before(done) => self.find_recipient_key(scope, &done.resource_id).await,
            Committed::Moved => Err(Error::VersionConflict),
        }
    }

    /// Recipient keys, ordered by name.
    pub async fn list_recipient_keys(
        &self,
        scope: &Scope<ListRecipientKeys>,
        request: PageRequest,
    ) -> Result<Listed<RecipientKey>, Error> {
        let after = self.position(scope, &request)?;
        let page = self.store.list_recipient_keys(scope, after, request.size).await?;
        self.listed(scope, &request, page, |last| last.name.id.to_string())
    }

    /// Ends a key: nothing is sealed for it any more. What was sealed before stays for its holder.
    pub async fn revoke_recipient_key(
        &self,
        scope: &Scope<RevokeRecipientKey>,
        id: &ResourceId,
        intent: &Intent,
    ) -> Result<RecipientKey, Error> {
        let key = self.find_recipient_key(scope, id).await?;
        let entry = self.entry_of(scope, intent, &key.name.to_string());
        let change = Change::RevokeRecipientKey { id: id.clone(), time: entry.time };
        self.store.commit(Write::new(&**scope, change, entry, None)).await?;
        self.find_recipient_key(scope, id).await
    }

    /// Whether new secrets leave the account only sealed for an enrolled key.
    pub fn delivery_policy(&self, scope: &Scope<GetDeliveryPolicy>) -> bool {
        scope.account().enrolled_keys_only
    }

    /// Says whether new secrets leave the account only sealed for an enrolled key.
    pub async fn update_delivery_policy(
        &self,
        scope: &Scope<UpdateDeliveryPolicy>,
        enrolled_keys_only: bool,
        intent: &Intent,
    ) -> Result<bool, Error> {
        let account = scope.account();
        let name = format!("{}/deliveryPolicy", AccountName(account.id.clone()));
        let entry = Entry {
            detail: format!("enrolled_keys_only={enrolled_keys_only}"),
            ..self.entry_of(scope, intent, &name)
        };
        let change = Change::SetDeliveryPolicy { account: account.uid, enrolled_keys_only };
        self.store.commit(Write::new(&**scope, change, entry, None)).await?;
        Ok(enrolled_keys_only)
    }

    async fn find_recipient_key(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<RecipientKey, Error> {
        let name = RecipientKeyName { account: scope.account().id.clone(), id: id.clone() };
        let found = self.store.recipient_key(scope, id).await?;
        found.ok_or_else(|| Error::NotFound { name: name.to_string() })
    }
}
