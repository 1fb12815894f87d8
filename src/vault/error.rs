//! What can go wrong, by what the caller can do about it. Display is safe to show to the caller; causes
//! are for the log.

use std::time::Duration;

use jiff::Timestamp;

use super::limits::CallLimit;
use crate::access_token::Excess;
use crate::name::Invalid;

/// The cause of an error, for the log only.
pub(super) type Source = Box<dyn std::error::Error + Send + Sync>;

/// A field of a request that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Its path, for example `credential.username`.
    pub field: String,
    /// What is wrong, without the value.
    pub problem: String,
}

impl FieldError {
    /// A field with what is wrong with it.
    pub fn new(field: impl Into<String>, problem: Invalid) -> Self {
        Self { field: field.into(), problem: problem.0.to_owned() }
    }
}

/// Why an operation did not do what it was asked. Nothing has changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("{} {}", .0.field, .0.problem)]
    InvalidField(FieldError),
    #[error("present one valid API token, `authorization: Bearer cv1_…`, or a client certificate")]
    Unauthenticated,
    #[error(
        "no role of yours in this account allows {method}: ask an account-admin for one that does"
    )]
    RoleMissing { method: &'static str },
    #[error("{method} is for operators of the vault: ask one")]
    NotOperator { method: &'static str },
    #[error("{0}")]
    InvalidState(&'static str),
    #[error(
        "nobody could let anybody into this account any more: make another account-admin first"
    )]
    LastAdmin,
    #[error("nobody could operate this vault any more: make another operator first")]
    LastOperator,
    #[error("{name} does not exist, or you do not belong to its account")]
    NotFound { name: String },
    #[error("this {what} is taken: choose another, or use the resource that has it")]
    AlreadyExists { what: &'static str },
    #[error("this request_id was used for another request: use a new one")]
    RequestIdReused,
    #[error("the resource changed since you read this etag: read it again and decide again")]
    EtagMismatch,
    #[error("the resource changed while this call ran: read it again and decide again")]
    VersionConflict,
    #[error(
        "a rotation of it waits for its confirmation or for its carrier: confirm or cancel it, or let it end \
         (ListRotations says which), then come again"
    )]
    RotationInProgress,
    #[error(
        "new passwords leave this account only sealed for a recipient key of it: name one (ListRecipientKeys)"
    )]
    RecipientKeyRequired,
    #[error(
        "the account's policy for access tokens allows {0}: ask for less, or an account-admin to allow more \
         (UpdateAccessTokenPolicy)"
    )]
    AccessTokenNotAllowed(Excess),
    #[error(
        "version {version} of {name} was issued at {time} in the first answer to this request_id and is not \
         shown again: if that answer was lost, rotate under a new request_id, after CancelRotation if its rotation waits"
    )]
    SecretAlreadyIssued { name: String, version: u64, time: Timestamp },
    #[error(
        "{name} was issued at {time} in the first answer to this request_id and is not shown again: if that \
         answer was lost, revoke it and make another under a new request_id"
    )]
    TokenAlreadyIssued { name: String, time: Timestamp },
    #[error("the account is disabled: an operator can enable it")]
    AccountDisabled,
    #[error(
        "the carrier refuses this token for this account; nothing was changed: {}",
        .works_in.map_or_else(
            || {
                "check account and token in its console; a token made in the last minute may need one more"
                    .to_owned()
            },
            |region| {
                format!(
                    "it belongs to region {region}: send a token of the provider's region, or create a provider in \
                     {region}"
                )
            }
        )
    )]
    UpstreamRejectedToken { works_in: Option<&'static str> },
    #[error(
        "the carrier accepts this token, but it may not read phone numbers; nothing was changed: allow it that in \
         the carrier's console, or send another"
    )]
    UpstreamNotPermitted,
    #[error(
        "the carrier does not serve this account: it is suspended or closed, or may not be read; nothing was changed: \
         look into the carrier's console"
    )]
    UpstreamAccountInactive,
    #[error("the carrier knows no such account; nothing was changed: check its id")]
    UpstreamAccountNotFound,
    #[error(
        "the carrier answered for another account; nothing was changed: check which account the token is of"
    )]
    UpstreamSidMismatch,
    #[error(
        "the carrier asks us to slow down; nothing was changed: retry in {} s", .retry_after.as_secs()
    )]
    UpstreamRateLimited { retry_after: Duration },
    #[error("the carrier failed; nothing was changed: retry later")]
    UpstreamError,
    #[error("the carrier did not answer in time; nothing was changed: retry later")]
    UpstreamTimeout,
    #[error("the carrier cannot be reached; nothing was changed: retry later")]
    UpstreamUnreachable,
    #[error("the carrier's TLS is not acceptable; nothing was changed: tell the operator")]
    UpstreamTls,
    #[error(
        "the carrier redirects elsewhere, which is never followed; nothing was changed: tell the operator"
    )]
    UpstreamRedirect,
    #[error(
        "the carrier sent an answer that the vault does not understand; nothing was changed: tell the operator"
    )]
    UpstreamProtocol,
    #[error(
        "the carrier's name leads to an address that is not public; nothing was changed: tell the operator"
    )]
    UpstreamBlockedAddress,
    #[error(
        "the carrier kept failing, so the vault pauses its calls to it; nothing was changed: retry in {} s",
        .retry_after.as_secs()
    )]
    UpstreamCircuitOpen { retry_after: Duration },
    #[error(
        "the vault has too many calls to this carrier under way; nothing was changed: retry in a moment"
    )]
    UpstreamAtCapacity,
    #[error("the carrier has no such credential; nothing was changed: check its id there")]
    UpstreamCredentialNotFound,
    #[error(
        "the carrier does not take such a password; nothing was changed: use a longer one with digits and mixed case"
    )]
    UpstreamRejectedPassword,
    #[error(
        "the carrier does not let this token do that; nothing was changed: allow it in the carrier's console"
    )]
    UpstreamNotAllowed,
    #[error("the carrier refused the request; nothing was changed: tell the operator")]
    UpstreamRefused,
    /// The change may have happened at the carrier.
    #[error(
        "the carrier did not say whether it did it; nothing was changed here: send the same request again until it answers"
    )]
    UpstreamUnsure,
    /// The change goes on.
    #[error(
        "the carrier has not done it yet; the vault goes on asking by itself: ListRotations says how far it is"
    )]
    UpstreamPending,
    #[error(
        "credentials live at this provider: delete them first (ListCredentials with filter.provider names them)"
    )]
    ProviderInUse,
    #[error("{limit}; nothing was changed: retry in {} s", .retry_after.as_secs())]
    RateLimited { limit: CallLimit, retry_after: Duration },
    #[error(
        "too many responses of this username from this source were wrong: retry in {} s", .retry_after.as_secs()
    )]
    DigestLimited { retry_after: Duration },
    #[error("too many writes are waiting: retry later")]
    Overloaded,
    #[error("the vault's storage is full, so nothing was changed: tell the operator")]
    StorageFull(#[source] Source),
    /// During a change the outcome is unknown: a retry under the same `request_id` finds out.
    #[error("the vault's storage does not answer: retry with the same request_id")]
    StorageUnavailable(#[source] Source),
    /// The change may still happen: a retry under the same `request_id` finds out.
    #[error("the call took longer than its deadline: retry with the same request_id")]
    DeadlineExceeded,
    #[error(
        "the stored record fails authentication and is not used: tell the operator, restore a backup"
    )]
    RecordDamaged(#[source] Source),
    #[error("internal error: tell the operator")]
    Internal(#[source] Source),
}

impl Error {
    /// The reason that stands in `ErrorInfo` and in audit entries.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidField(_) => "INVALID_FIELD",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::RoleMissing { .. } | Self::NotOperator { .. } => "ROLE_MISSING",
            Self::InvalidState(_) => "INVALID_STATE",
            Self::LastAdmin => "LAST_ADMIN",
            Self::LastOperator => "LAST_OPERATOR",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::AlreadyExists { .. } => "ALREADY_EXISTS",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::EtagMismatch => "ETAG_MISMATCH",
            Self::VersionConflict => "VERSION_CONFLICT",
            Self::RotationInProgress => "ROTATION_IN_PROGRESS",
            Self::RecipientKeyRequired => "RECIPIENT_KEY_REQUIRED",
            Self::AccessTokenNotAllowed(_) => "ACCESS_TOKEN_NOT_ALLOWED",
            Self::SecretAlreadyIssued { .. } | Self::TokenAlreadyIssued { .. } => {
                "SECRET_ALREADY_ISSUED"
            }
            Self::AccountDisabled => "ACCOUNT_DISABLED",
            Self::UpstreamRejectedToken { .. } | Self::UpstreamNotPermitted => {
                "UPSTREAM_REJECTED_TOKEN"
            }
            Self::UpstreamAccountInactive => "UPSTREAM_ACCOUNT_INACTIVE",
            Self::UpstreamAccountNotFound => "UPSTREAM_ACCOUNT_NOT_FOUND",
            Self::UpstreamSidMismatch => "UPSTREAM_SID_MISMATCH",
            Self::UpstreamRateLimited { .. } => "UPSTREAM_RATE_LIMITED",
            Self::UpstreamError => "UPSTREAM_ERROR",
            Self::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            Self::UpstreamUnreachable | Self::UpstreamCircuitOpen { .. } => "UPSTREAM_UNREACHABLE",
            Self::UpstreamTls => "UPSTREAM_TLS",
            Self::UpstreamRedirect => "UPSTREAM_REDIRECT",
            Self::UpstreamProtocol => "UPSTREAM_PROTOCOL",
            Self::UpstreamBlockedAddress => "UPSTREAM_BLOCKED_ADDRESS",
            Self::UpstreamCredentialNotFound => "UPSTREAM_CREDENTIAL_NOT_FOUND",
            Self::UpstreamRejectedPassword => "UPSTREAM_REJECTED_PASSWORD",
            Self::UpstreamNotAllowed => "UPSTREAM_NOT_ALLOWED",
            Self::UpstreamRefused => "UPSTREAM_REFUSED",
            Self::UpstreamUnsure => "UPSTREAM_UNSURE",
            Self::UpstreamPending => "UPSTREAM_PENDING",
            Self::ProviderInUse => "PROVIDER_IN_USE",
            Self::RateLimited { .. } | Self::DigestLimited { .. } | Self::UpstreamAtCapacity => {
                "RATE_LIMITED"
            }
            Self::Overloaded => "OVERLOADED",
            Self::StorageFull(_) => "STORAGE_FULL",
            Self::StorageUnavailable(_) => "STORAGE_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::RecordDamaged(_) => "RECORD_DAMAGED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// A field that is not acceptable.
    pub fn field(field: impl Into<String>, problem: Invalid) -> Self {
        Self::InvalidField(FieldError::new(field, problem))
    }
}
