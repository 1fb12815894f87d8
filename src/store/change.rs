//! What changes: one mutation with its record, which become durable together or not at all.

use jiff::Timestamp;

use super::{Counted, Done, OnceKey, StoredCredential, StoredProvider, StoredRotation};
use crate::access::api_token::{TokenId, TokenMetadata};
use crate::access::principal::{Principal, RoleBinding};
use crate::access::{AccountScope, Authorized, Worker};
use crate::access_token::AccessTokenPolicy;
use crate::account::Account;
use crate::audit::{self, Chain};
use crate::credential::Credential;
use crate::name::{ResourceId, Uid};
use crate::provider::Provider;
use crate::recipient::{Recipient, RecipientKey};

/// A change of state.
#[derive(Debug)]
pub enum Change {
    /// None: the audit entry is all (a refusal).
    AuditOnly,
    /// A new account. [`Error::Taken`](super::Error::Taken) when its id is taken.
    CreateAccount(Account),
    /// Closes an account to everybody, or opens it again, if it is still there.
    SetAccountDisabled {
        /// The account.
        account: Uid,
        /// Whether it is closed.
        disabled: bool,
    },
    /// Removes a disabled account with everything in it. The audit entry keeps the last hash of its chain.
    DeleteAccount(Account),
    /// A token with its roles. [`Error::AdminExists`](super::Error::AdminExists) when it was to be the first admin and is
    /// not.
    CreateApiToken {
        /// What is known of it.
        token: TokenMetadata,
        /// Keyed hash of its secret.
        hash: [u8; 32],
        /// Whether only the first admin is to be made.
        first_admin: bool,
    },
    /// The end of a token, if the owner has one of this id.
    RevokeApiToken {
        /// The token's public part.
        token: TokenId,
        /// When; an earlier time stays.
        time: Timestamp,
        /// Whether the last admin must stay: [`Error::LastAdmin`](super::Error::LastAdmin),
        /// [`Error::LastOperator`](super::Error::LastOperator).
        keep_last_admin: bool,
    },
    /// Gives a principal exactly these roles.
    SetRoleBinding {
        /// The principal and its roles.
        binding: RoleBinding,
        /// Whether the last admin must stay.
        keep_last_admin: bool,
    },
    /// Takes all roles from a principal that has any.
    DeleteRoleBinding {
        /// The principal.
        principal: Principal,
        /// Whether the last admin must stay.
        keep_last_admin: bool,
    },
    /// How new secrets leave an account.
    SetDeliveryPolicy {
        /// The account.
        account: Uid,
        /// Whether they leave only sealed for an enrolled key.
        enrolled_keys_only: bool,
    },
    /// What an account allows in access tokens.
    SetAccessTokenPolicy {
        /// The account.
        account: Uid,
        /// What it allows.
        policy: AccessTokenPolicy,
    },
    /// An access token leaves, which is not stored. [`Error::Conflict`](super::Error::Conflict) if the account allows
    /// something else by now, or the provider has another key.
    MintAccessToken {
        /// What the account allowed.
        policy: AccessTokenPolicy,
        /// The provider.
        provider: Uid,
        /// The version of the key that signed.
        token_version: u64,
    },
    /// A new recipient key. [`Error::Taken`](super::Error::Taken) when its id is taken.
    CreateRecipientKey(RecipientKey),
    /// The end of a recipient key, if there is one of this id.
    RevokeRecipientKey {
        /// Its id.
        id: ResourceId,
        /// When; an earlier time stays.
        time: Timestamp,
    },
    /// A new credential. [`Error::Taken`](super::Error::Taken) when its id or its username is taken.
    CreateCredential {
        /// The credential.
        new: Box<StoredCredential>,
        /// What delivers its first password.
        rotation: Option<Box<StoredRotation>>,
        /// To whom a password leaves with it, if one does: [`Error::Conflict`](super::Error::Conflict) if the account
        /// does not allow that any more.
        leaves_to: Option<Recipient>,
    },
    /// A credential's new state with all its versions, if it is still at revision `expect`.
    ReplaceCredential {
        /// The revision that the new state was made from.
        expect: u64,
        /// The new state.
        new: Box<StoredCredential>,
        /// The rotation that it is part of, new or in its next revision.
        rotation: Option<Box<StoredRotation>>,
        /// To whom a password leaves with it, as with a creation.
        leaves_to: Option<Recipient>,
    },
    /// A rotation's next revision, if it is still at the one before.
    ReplaceRotation {
        /// The next revision.
        rotation: Box<StoredRotation>,
        /// To whom a password leaves with it, as with a creation.
        leaves_to: Option<Recipient>,
    },
    /// What became of versions in use: added to what is known of credentials that still exist.
    CountUses(Vec<Counted>),
    /// Removes a credential and its secrets, if it is still at its revision.
    DeleteCredential(Credential),
    /// A new provider. [`Error::Taken`](super::Error::Taken) when its id is taken.
    CreateProvider(StoredProvider),
    /// A provider's new state with all its tokens, if it is still at revision `expect`.
    ReplaceProvider {
        /// The revision that the new state was made from.
        expect: u64,
        /// The new state.
        new: StoredProvider,
        /// The rotation that it is part of, new or in its next revision.
        rotation: Option<Box<StoredRotation>>,
        /// To whom a token leaves with it, as with a creation.
        leaves_to: Option<Recipient>,
    },
    /// A verification, if token and kind are still those that were verified. An older one than what is stored only
    /// enters the history.
    RecordVerification(Provider),
    /// Removes a provider and its tokens, if it is still at its revision. [`Error::InUse`](super::Error::InUse) while a
    /// credential lives there.
    DeleteProvider {
        /// The provider.
        provider: Provider,
        /// The rotation that ends with it, in its next revision: if a call of that began meanwhile, it is a conflict.
        rotation: Option<Box<StoredRotation>>,
    },
}

/// One atomic mutation with its audit entry. A change needs a scope: nothing changes unauthorized.
#[derive(Debug)]
pub struct Write {
    pub(super) account: Uid,
    pub(super) chain: Chain,
    pub(super) change: Change,
    pub(super) record: Record,
    pub(super) once: Option<(OnceKey, Done)>,
}

/// Where it stands that a write was made.
#[derive(Debug)]
pub(super) enum Record {
    /// In the audit chain.
    Audit(Box<audit::Entry>),
    /// In what is changed itself: the history of verifications, where nothing changed but the time, or the steps of a
    /// rotation.
    History,
    /// Nowhere else: it counts what callers did.
    Counts,
}

impl Write {
    /// A change of what `scope` is about, and what its request id has done.
    pub fn new(
        scope: &impl Authorized,
        change: Change,
        entry: audit::Entry,
        once: Option<(OnceKey, Done)>,
    ) -> Self {
        let record = Record::Audit(Box::new(entry));
        Self { account: scope.owner_uid(), chain: scope.chain(), change, record, once }
    }

    /// A verification. Without an entry where it found nothing new: its place in the history is its record.
    pub fn verification(
        scope: &AccountScope,
        provider: Provider,
        entry: Option<audit::Entry>,
    ) -> Self {
        let account = scope.account().uid;
        let chain = Chain::of_account(scope.account());
        let record = entry.map_or(Record::History, |entry| Record::Audit(Box::new(entry)));
        Self { account, chain, change: Change::RecordVerification(provider), record, once: None }
    }

    /// A step of a rotation that is not its end. Its place among the rotation's steps is its record.
    pub fn journal(scope: &AccountScope, rotation: StoredRotation) -> Self {
        let (account, chain) = (scope.account().uid, Chain::of_account(scope.account()));
        let change = Change::ReplaceRotation { rotation: Box::new(rotation), leaves_to: None };
        Self { account, chain, change, record: Record::History, once: None }
    }

    /// Counts of uses, of any accounts.
    pub fn uses(_: &Worker, uses: Vec<Counted>) -> Self {
        let (account, chain) = (Uid::ZERO, Chain::of_vault());
        Self { account, chain, change: Change::CountUses(uses), record: Record::Counts, once: None }
    }

    /// Whether it must happen even for a caller who has gone: else refusals could be hidden, and counts of a stop lost.
    pub(super) fn is_record_only(&self) -> bool {
        matches!(self.change, Change::AuditOnly | Change::CountUses(_))
    }

    /// The record of a refusal: it changes nothing but the chain.
    pub fn refusal(chain: Chain, entry: audit::Entry) -> Self {
        let record = Record::Audit(Box::new(entry));
        Self { account: Uid::ZERO, chain, change: Change::AuditOnly, record, once: None }
    }
}
