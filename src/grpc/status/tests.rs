//! The error table: every variant with its code, reason and details.

use jiff::Timestamp;
use tonic_types::StatusExt as _;

use super::*;
use crate::access_token::{Excess, Grant};
use crate::vault::FieldError;

const CANARY: &str = "SELECT sealed FROM credential WHERE hunter2";

fn cause() -> Box<dyn std::error::Error + Send + Sync> {
    CANARY.into()
}

/// Every variant: the match below fails to compile when one is added and missing here.
fn every_error() -> Vec<(Error, Code, &'static str, bool)> {
    let field =
        FieldError { field: "credential.realm".to_owned(), problem: "must be x".to_owned() };
    let issued = Error::SecretAlreadyIssued {
        name: "accounts/acme/credentials/desk".to_owned(),
        version: 7,
        time: Timestamp::UNIX_EPOCH,
    };
    let token = Error::TokenAlreadyIssued {
        name: "vault/apiTokens/0123".to_owned(),
        time: Timestamp::UNIX_EPOCH,
    };
    let limited = Error::UpstreamRateLimited { retry_after: Duration::from_secs(7) };
    let resting = Error::UpstreamCircuitOpen { retry_after: Duration::from_secs(30) };
    let tried = Error::RateLimited {
        limit: CallLimit::TokensOfProvider,
        retry_after: Duration::from_secs(2),
    };
    let guessed = Error::DigestLimited { retry_after: Duration::from_secs(3) };
    let not_found = Error::NotFound { name: "accounts/acme/credentials/desk".to_owned() };
    let errors = vec![
        (Error::InvalidField(field), Code::InvalidArgument, "INVALID_FIELD", false),
        (Error::Unauthenticated, Code::Unauthenticated, "UNAUTHENTICATED", false),
        (
            Error::RoleMissing { method: "GetCredential" },
            Code::PermissionDenied,
            "ROLE_MISSING",
            false,
        ),
        (
            Error::NotOperator { method: "CreateAccount" },
            Code::PermissionDenied,
            "ROLE_MISSING",
            false,
        ),
        (Error::InvalidState("do x"), Code::FailedPrecondition, "INVALID_STATE", false),
        (Error::LastAdmin, Code::FailedPrecondition, "LAST_ADMIN", false),
        (Error::LastOperator, Code::FailedPrecondition, "LAST_OPERATOR", false),
        (not_found, Code::NotFound, "NOT_FOUND", false),
        (Error::AlreadyExists { what: "id" }, Code::AlreadyExists, "ALREADY_EXISTS", false),
        (Error::RequestIdReused, Code::AlreadyExists, "REQUEST_ID_REUSED", false),
        (Error::EtagMismatch, Code::Aborted, "ETAG_MISMATCH", false),
        (Error::VersionConflict, Code::Aborted, "VERSION_CONFLICT", false),
        (Error::RotationInProgress, Code::Aborted, "ROTATION_IN_PROGRESS", false),
        (Error::RecipientKeyRequired, Code::FailedPrecondition, "RECIPIENT_KEY_REQUIRED", false),
        (issued, Code::FailedPrecondition, "SECRET_ALREADY_ISSUED", false),
        (token, Code::FailedPrecondition, "SECRET_ALREADY_ISSUED", false),
        (Error::AccountDisabled, Code::FailedPrecondition, "ACCOUNT_DISABLED", false),
        (
            Error::UpstreamRejectedToken { works_in: Some("ie1") },
            Code::FailedPrecondition,
            "UPSTREAM_REJECTED_TOKEN",
            false,
        ),
        (Error::UpstreamNotPermitted, Code::FailedPrecondition, "UPSTREAM_REJECTED_TOKEN", false),
        (
            Error::UpstreamAccountInactive,
            Code::FailedPrecondition,
            "UPSTREAM_ACCOUNT_INACTIVE",
            false,
        ),
        (
            Error::UpstreamAccountNotFound,
            Code::FailedPrecondition,
            "UPSTREAM_ACCOUNT_NOT_FOUND",
            false,
        ),
        (Error::UpstreamSidMismatch, Code::FailedPrecondition, "UPSTREAM_SID_MISMATCH", false),
        (limited, Code::Unavailable, "UPSTREAM_RATE_LIMITED", true),
        (Error::UpstreamError, Code::Unavailable, "UPSTREAM_ERROR", true),
        (Error::UpstreamTimeout, Code::Unavailable, "UPSTREAM_TIMEOUT", true),
        (Error::UpstreamUnreachable, Code::Unavailable, "UPSTREAM_UNREACHABLE", true),
        (Error::UpstreamTls, Code::Unavailable, "UPSTREAM_TLS", false),
        (Error::UpstreamRedirect, Code::Unavailable, "UPSTREAM_REDIRECT", false),
        (Error::UpstreamProtocol, Code::Unavailable, "UPSTREAM_PROTOCOL", false),
        (Error::UpstreamBlockedAddress, Code::Unavailable, "UPSTREAM_BLOCKED_ADDRESS", false),
        (resting, Code::Unavailable, "UPSTREAM_UNREACHABLE", true),
        (Error::UpstreamAtCapacity, Code::ResourceExhausted, "RATE_LIMITED", true),
        (tried, Code::ResourceExhausted, "RATE_LIMITED", true),
        (guessed, Code::ResourceExhausted, "RATE_LIMITED", true),
        (Error::Overloaded, Code::ResourceExhausted, "OVERLOADED", true),
        (Error::StorageFull(cause()), Code::ResourceExhausted, "STORAGE_FULL", false),
        (Error::StorageUnavailable(cause()), Code::Unavailable, "STORAGE_UNAVAILABLE", true),
        (Error::DeadlineExceeded, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", false),
        (Error::RecordDamaged(cause()), Code::DataLoss, "RECORD_DAMAGED", false),
        (Error::Internal(cause()), Code::Internal, "INTERNAL", false),
    ];
    errors.into_iter().chain(errors_of_changes()).collect()
}

/// Those of changes at a carrier.
fn errors_of_changes() -> Vec<(Error, Code, &'static str, bool)> {
    vec![
        (
            Error::UpstreamCredentialNotFound,
            Code::FailedPrecondition,
            "UPSTREAM_CREDENTIAL_NOT_FOUND",
            false,
        ),
        (
            Error::UpstreamRejectedPassword,
            Code::FailedPrecondition,
            "UPSTREAM_REJECTED_PASSWORD",
            false,
        ),
        (Error::UpstreamNotAllowed, Code::FailedPrecondition, "UPSTREAM_NOT_ALLOWED", false),
        (Error::UpstreamRefused, Code::FailedPrecondition, "UPSTREAM_REFUSED", false),
        (Error::UpstreamUnsure, Code::Unavailable, "UPSTREAM_UNSURE", true),
        (Error::UpstreamPending, Code::Unavailable, "UPSTREAM_PENDING", true),
        (Error::ProviderInUse, Code::FailedPrecondition, "PROVIDER_IN_USE", false),
        (
            Error::AccessTokenNotAllowed(Excess::Grant(Grant::VoiceOutgoing)),
            Code::FailedPrecondition,
            "ACCESS_TOKEN_NOT_ALLOWED",
            false,
        ),
    ]
}

/// A number for each variant, exhaustively.
fn number(error: &Error) -> usize {
    match error {
        Error::InvalidField(_) => 0,
        Error::Unauthenticated => 1,
        Error::RoleMissing { .. } => 2,
        Error::NotOperator { .. } => 3,
        Error::InvalidState(_) => 4,
        Error::LastAdmin => 5,
        Error::LastOperator => 6,
        Error::NotFound { .. } => 7,
        Error::AlreadyExists { .. } => 8,
        Error::RequestIdReused => 9,
        Error::EtagMismatch => 10,
        Error::VersionConflict => 11,
        Error::RotationInProgress => 12,
        Error::RecipientKeyRequired => 13,
        Error::SecretAlreadyIssued { .. } => 14,
        Error::TokenAlreadyIssued { .. } => 15,
        Error::AccountDisabled => 16,
        Error::UpstreamRejectedToken { .. } => 17,
        Error::UpstreamNotPermitted => 18,
        Error::UpstreamAccountInactive => 19,
        Error::UpstreamAccountNotFound => 20,
        Error::UpstreamSidMismatch => 21,
        Error::UpstreamRateLimited { .. } => 22,
        Error::UpstreamError => 23,
        Error::UpstreamTimeout => 24,
        Error::UpstreamUnreachable => 25,
        Error::UpstreamTls => 26,
        Error::UpstreamRedirect => 27,
        Error::UpstreamProtocol => 28,
        Error::UpstreamBlockedAddress => 29,
        Error::UpstreamCircuitOpen { .. } => 30,
        Error::UpstreamAtCapacity => 31,
        Error::RateLimited { .. } => 32,
        Error::DigestLimited { .. } => 33,
        Error::Overloaded => 34,
        Error::StorageFull(_) => 35,
        Error::StorageUnavailable(_) => 36,
        Error::DeadlineExceeded => 37,
        Error::RecordDamaged(_) => 38,
        Error::Internal(_) => 39,
        Error::UpstreamCredentialNotFound => 40,
        Error::UpstreamRejectedPassword => 41,
        Error::UpstreamNotAllowed => 42,
        Error::UpstreamRefused => 43,
        Error::UpstreamUnsure => 44,
        Error::UpstreamPending => 45,
        Error::ProviderInUse => 46,
        Error::AccessTokenNotAllowed(_) => 47,
    }
}

#[test]
fn every_variant_has_its_code_reason_and_details() {
    for (row, (error, code, reason, retryable)) in every_error().into_iter().enumerate() {
        assert_eq!(number(&error), row, "one row a variant, in order");
        let field = matches!(error, Error::InvalidField(_));
        let status = Status::from(error);
        assert_eq!(status.code(), code, "{reason}");

        let details = status.get_error_details();
        let info = details.error_info().expect("every error has ErrorInfo (AIP-193)");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "credvault"));
        assert_eq!(details.retry_info().is_some(), retryable, "{reason}");
        assert_eq!(details.bad_request().is_some(), field, "{reason}");

        let (message, raw) = (status.message(), String::from_utf8_lossy(status.details()));
        assert!(!message.is_empty() && message.len() < 300, "{reason}: {message}");
        assert!(!message.contains(CANARY) && !raw.contains(CANARY), "{reason} shows its cause");
    }
}

#[test]
fn details_say_which_field_when_to_retry_and_what_was_issued() {
    let mut errors = every_error().into_iter().map(|(error, ..)| Status::from(error));
    let details = errors.next().unwrap().get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(
        (violation.field.as_str(), violation.description.as_str()),
        ("credential.realm", "must be x")
    );

    let details = errors.nth(13).unwrap().get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(metadata["name"], "accounts/acme/credentials/desk");
    assert_eq!(metadata["version"], "7");
    assert_eq!(metadata["time"], "1970-01-01T00:00:00Z");

    for (skipped, seconds) in [(7, 7), (7, 30), (1, 2), (0, 3)] {
        let details = errors.nth(skipped).unwrap().get_error_details();
        let delay = details.retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_secs(seconds)));
    }
}

#[test]
fn the_wire_faults_have_their_reasons() {
    for (status, code, reason) in [
        (malformed_message("x"), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        (message_too_large(9), Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        (too_many_watches(), Code::ResourceExhausted, "RATE_LIMITED"),
        (too_many_credential_watches(), Code::ResourceExhausted, "RATE_LIMITED"),
        (stopping(), Code::Unavailable, "STOPPING"),
    ] {
        assert_eq!(status.code(), code);
        assert_eq!(status.get_error_details().error_info().unwrap().reason, reason);
    }
}
