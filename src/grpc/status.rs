//! The one place that turns errors into gRPC statuses (AIP-193): code, `ErrorInfo`, and what else helps.
//!
//! A failure of ours is logged here, once, with its causes; the caller gets its message without them.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::proto::SipDigestError;
use crate::telemetry::metrics::{self, Limit};
use crate::vault::{CallLimit, Error};

/// The domain of every reason.
pub(super) const DOMAIN: &str = "credvault";

/// When to come back, unless the cause says better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        log(&error);
        count(&error);
        let (code, retry_after) = code(&error);
        let mut details = details(error.reason(), metadata(&error));
        if let Error::InvalidField(field) = &error {
            details.add_bad_request_violation(&field.field, &field.problem);
        }
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Self::with_error_details(code, error.to_string(), details)
    }
}

/// How one item of a batch failed: the same in a message.
pub(super) fn of_item(error: Error) -> SipDigestError {
    log(&error);
    count(&error);
    let (code, retry_after) = code(&error);
    let field = match &error {
        Error::InvalidField(field) => field.field.clone(),
        _ => String::new(),
    };
    SipDigestError {
        code: code.into(),
        reason: error.reason().to_owned(),
        message: error.to_string(),
        field,
        retry_delay: retry_after.and_then(|delay| delay.try_into().ok()),
    }
}

/// The code of an error, and when to retry if that can help.
fn code(error: &Error) -> (Code, Option<Duration>) {
    let soon = Some(RETRY_AFTER);
    match error {
        Error::InvalidField(_) => (Code::InvalidArgument, None),
        Error::Unauthenticated => (Code::Unauthenticated, None),
        Error::RoleMissing { .. } | Error::NotOperator { .. } => (Code::PermissionDenied, None),
        Error::NotFound { .. } => (Code::NotFound, None),
        Error::AlreadyExists { .. } | Error::RequestIdReused => (Code::AlreadyExists, None),
        Error::EtagMismatch | Error::VersionConflict | Error::RotationInProgress => {
            (Code::Aborted, None)
        }
        Error::SecretAlreadyIssued { .. }
        | Error::TokenAlreadyIssued { .. }
        | Error::AccountDisabled
        | Error::RecipientKeyRequired
        | Error::AccessTokenNotAllowed(_)
        | Error::InvalidState(_)
        | Error::LastAdmin
        | Error::LastOperator
        | Error::UpstreamRejectedToken { .. }
        | Error::UpstreamNotPermitted
        | Error::UpstreamAccountInactive
        | Error::UpstreamAccountNotFound
        | Error::UpstreamSidMismatch
        | Error::UpstreamCredentialNotFound
        | Error::UpstreamRejectedPassword
        | Error::UpstreamNotAllowed
        | Error::UpstreamRefused
        | Error::ProviderInUse => (Code::FailedPrecondition, None),
        Error::UpstreamRateLimited { retry_after } | Error::UpstreamCircuitOpen { retry_after } => {
            (Code::Unavailable, Some(*retry_after))
        }
        Error::UpstreamError
        | Error::UpstreamTimeout
        | Error::UpstreamUnreachable
        | Error::UpstreamUnsure
        | Error::UpstreamPending
        | Error::StorageUnavailable(_) => (Code::Unavailable, soon),
        Error::UpstreamTls
        | Error::UpstreamRedirect
        | Error::UpstreamProtocol
        | Error::UpstreamBlockedAddress => (Code::Unavailable, None),
        Error::RateLimited { retry_after, .. } | Error::DigestLimited { retry_after } => {
            (Code::ResourceExhausted, Some(*retry_after))
        }
        Error::Overloaded | Error::UpstreamAtCapacity => (Code::ResourceExhausted, soon),
        Error::StorageFull(_) => (Code::ResourceExhausted, None),
        Error::DeadlineExceeded => (Code::DeadlineExceeded, None),
        Error::RecordDamaged(_) => (Code::DataLoss, None),
        Error::Internal(_) => (Code::Internal, None),
    }
}

/// What a program may want to read without parsing the message.
fn metadata(error: &Error) -> HashMap<String, String> {
    match error {
        Error::SecretAlreadyIssued { name, version, time } => HashMap::from([
            ("name".to_owned(), name.clone()),
            ("version".to_owned(), version.to_string()),
            ("time".to_owned(), time.to_string()),
        ]),
        Error::TokenAlreadyIssued { name, time } => HashMap::from([
            ("name".to_owned(), name.clone()),
            ("time".to_owned(), time.to_string()),
        ]),
        Error::UpstreamRejectedToken { works_in: Some(region) } => {
            HashMap::from([("region".to_owned(), (*region).to_owned())])
        }
        _ => HashMap::new(),
    }
}

fn log(error: &Error) {
    if let Some(cause) = error.source() {
        let mut causes = cause.to_string();
        let mut next = cause.source();
        while let Some(deeper) = next {
            causes.push_str(": ");
            causes.push_str(&deeper.to_string());
            next = deeper.source();
        }
        tracing::error!(reason = error.reason(), causes, "a call failed");
    }
}

/// Counts what a limit refused.
fn count(error: &Error) {
    let limit = match error {
        Error::RateLimited { limit, .. } => match limit {
            CallLimit::TokensOfProvider => Limit::TokenTriesPerProvider,
            CallLimit::TokensOfAccount => Limit::TokenTriesPerAccount,
            CallLimit::FailedAuthentications => Limit::FailedAuthentications,
            CallLimit::AccessTokens => Limit::AccessTokens,
        },
        Error::DigestLimited { .. } => Limit::FailedDigestChecks,
        Error::Overloaded => Limit::CommitQueue,
        Error::UpstreamAtCapacity => Limit::UpstreamCalls,
        _ => return,
    };
    metrics::refused(limit);
}

/// For a message that does not decode.
pub(super) fn malformed_message(problem: &'static str) -> Status {
    let details = details("MALFORMED_MESSAGE", HashMap::new());
    Status::with_error_details(Code::InvalidArgument, problem, details)
}

/// For metadata above the limit.
pub(super) fn headers_too_large(limit: usize) -> Status {
    metrics::refused(Limit::Metadata);
    let details = details("MESSAGE_TOO_LARGE", HashMap::new());
    let message = format!("a call may have at most {limit} bytes of metadata");
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// For a watch of health that is one too many.
pub(super) fn too_many_watches() -> Status {
    metrics::refused(Limit::Watches);
    let mut details = details("RATE_LIMITED", HashMap::new());
    details.set_retry_info(Some(RETRY_AFTER));
    let message = "too many watch the health: ask with Check, or watch on the operations listener";
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// For a watch of credentials that is one too many.
pub(super) fn too_many_credential_watches() -> Status {
    metrics::refused(Limit::CredentialWatches);
    let mut details = details("RATE_LIMITED", HashMap::new());
    details.set_retry_info(Some(RETRY_AFTER));
    let message = "too many watch credentials: a connection may 8 times, a caller 32 times, all together 128 times; \
                   end one, or let one feed many";
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// For a large request that is one too many.
pub(super) fn too_many_large_requests() -> Status {
    metrics::refused(Limit::LargeRequests);
    let mut details = details("RATE_LIMITED", HashMap::new());
    details.set_retry_info(Some(RETRY_AFTER));
    let message = "too many large requests of this connection wait: send fewer at once";
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// For a watch that ends because the vault does.
pub(super) fn stopping() -> Status {
    let mut details = details("STOPPING", HashMap::new());
    details.set_retry_info(Some(RETRY_AFTER));
    let message = "the vault stops: watch again with the last resume_token";
    Status::with_error_details(Code::Unavailable, message, details)
}

/// For a message above the limit.
pub(super) fn message_too_large(limit: u32) -> Status {
    metrics::refused(Limit::Message);
    let details = details("MESSAGE_TOO_LARGE", HashMap::new());
    let message = format!("a request may have at most {limit} bytes");
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// For a request with more items than it may have.
pub(super) fn too_many_items(most: usize) -> Status {
    metrics::refused(Limit::Message);
    let details = details("MESSAGE_TOO_LARGE", HashMap::new());
    let message = format!("the lists of a request may have at most {most} items together");
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

fn details(reason: &str, metadata: HashMap<String, String>) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

#[cfg(test)]
mod tests;
