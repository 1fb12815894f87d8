//! `MintTwilioAccessToken`: a key signs without being seen; and what an account allows of that.

use super::{ATTEMPTS, Error, Intent, Vault};
use crate::access::{
    AccountScope, GetAccessTokenPolicy, MintTwilioAccessToken, Scope, UpdateAccessTokenPolicy,
};
use crate::access_token::{AccessTokenPolicy, Grant, Grants, Lifetime, Minted, Signer, mint};
use crate::audit::Entry;
use crate::crypto::random;
use crate::name::{AccountName, ResourceId};
use crate::provider::{Kind, TokenKind};
use crate::store::{self, Change, Write};

impl Vault {
    /// Makes a token for who is named in its grants, with the version of the key that signed it.
    ///
    /// - What the account's policy does not allow is refused before the key is opened, and the policy is looked at once more
    ///   with the commit: once an admin was told that it is narrower, nothing beyond it leaves.
    /// - The active key signs: one that is to take its place may yet be given up.
    /// - The token leaves after its audit entry is durable. That names the token, its grants and what they reach, and not
    ///   who it is for: entries stay, and callers of a third party are none of theirs.
    /// - An account has only so many a minute: each is a commit, and an entry that stays.
    pub async fn mint_twilio_access_token(
        &self,
        scope: &Scope<MintTwilioAccessToken>,
        provider: &ResourceId,
        grants: &Grants,
        lifetime: Option<Lifetime>,
    ) -> Result<(Minted, u64), Error> {
        self.limits.may_mint(scope.account().uid)?;
        for _ in 0..ATTEMPTS {
            if let Some(minted) = self.mint_once(scope, provider, grants, lifetime).await? {
                return Ok(minted);
            }
        }
        Err(Error::VersionConflict)
    }

    /// None: policy or key changed meanwhile.
    async fn mint_once(
        &self,
        scope: &Scope<MintTwilioAccessToken>,
        provider: &ResourceId,
        grants: &Grants,
        lifetime: Option<Lifetime>,
    ) -> Result<Option<(Minted, u64)>, Error> {
        let stored = self.find_provider(scope, provider).await?;
        let provider = &stored.provider;
        let (Kind::Twilio(account), TokenKind::ApiKey { sid }) =
            (&provider.kind, &provider.token_kind)
        else {
            return Err(Error::InvalidState(
                "access tokens are signed with an API key of a Twilio account, and this provider holds none: create \
                 another provider of the account with a Main or a Standard key, and name that",
            ));
        };
        let policy = self.policy_of_access_tokens(scope).await?;
        let lifetime = policy.judge(grants, lifetime).map_err(Error::AccessTokenNotAllowed)?;
        let key = self.token_of(scope, &stored)?;
        let signer = Signer { account: &account.account_sid, key: sid, region: account.region };
        let minted =
            mint(signer, &key.secret, grants, (self.clock.now(), lifetime), random::bytes()?);
        let entry = Entry {
            version_before: provider.token_version,
            version_after: provider.token_version,
            detail: format!("{} for {} s: {}", minted.jti, lifetime.seconds(), grants.reach()),
            ..self.entry_of(scope, &Intent::default(), &provider.name.to_string())
        };
        let token_version = provider.token_version;
        let change = Change::MintAccessToken { policy, provider: provider.uid, token_version };
        match self.store.commit(Write::new(&**scope, change, entry, None)).await {
            Ok(()) => Ok(Some((minted, token_version))),
            Err(store::Error::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What an account allows in access tokens.
    pub async fn access_token_policy(
        &self,
        scope: &Scope<GetAccessTokenPolicy>,
    ) -> Result<AccessTokenPolicy, Error> {
        self.policy_of_access_tokens(scope).await
    }

    /// Says what an account allows in access tokens.
    pub async fn update_access_token_policy(
        &self,
        scope: &Scope<UpdateAccessTokenPolicy>,
        policy: AccessTokenPolicy,
        intent: &Intent,
    ) -> Result<AccessTokenPolicy, Error> {
        let account = scope.account();
        let name = format!("{}/accessTokenPolicy", AccountName(account.id.clone()));
        let grants: Vec<_> = policy.grants().map(Grant::as_str).collect();
        let entry = Entry {
            detail: format!("{} s: {}", policy.longest().seconds(), grants.join(", ")),
            ..self.entry_of(scope, intent, &name)
        };
        let change = Change::SetAccessTokenPolicy { account: account.uid, policy };
        self.store.commit(Write::new(&**scope, change, entry, None)).await?;
        Ok(policy)
    }

    async fn policy_of_access_tokens(
        &self,
        scope: &AccountScope,
    ) -> Result<AccessTokenPolicy, Error> {
        // Of an account that has gone meanwhile nothing is allowed.
        Ok(self.store.access_token_policy(scope).await?.unwrap_or_default())
    }
}
