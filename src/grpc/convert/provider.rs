//! Providers on the wire.

use super::{Mask, chosen_id, field, timestamp};
use crate::grpc::proto;
use crate::name::Invalid;
use crate::provider::{
    AccountSid, Check, CheckStatus, DisplayName, Kind, Provider, ProviderFilter, ProviderType,
    Status, Verification,
};
use crate::secret::SecretText;
use crate::vault::{Error, NewProvider, ProviderChanges};

/// The configuration and the last verification. There is no field for a token to be in.
pub(in crate::grpc) fn to_wire(provider: Provider) -> proto::Provider {
    let etag = provider.etag().to_string();
    proto::Provider {
        name: provider.name.to_string(),
        display_name: Some(provider.display_name.as_str().to_owned()),
        kind: Some(kind_to_wire(&provider.kind)),
        verification: Some(verification_to_wire(provider.verification)),
        token_version: super::count(provider.token_version),
        token_update_time: Some(timestamp(provider.token_update_time)),
        create_time: Some(timestamp(provider.create_time)),
        update_time: Some(timestamp(provider.update_time)),
        etag,
    }
}

fn kind_to_wire(kind: &Kind) -> proto::provider::Kind {
    match kind {
        Kind::Twilio { account_sid } => proto::provider::Kind::Twilio(proto::TwilioProvider {
            account_sid: account_sid.as_str().to_owned(),
        }),
    }
}

fn verification_to_wire(verification: Verification) -> proto::Verification {
    let status = match verification.status {
        Status::Pending => proto::VerificationStatus::Pending,
        Status::Verified => proto::VerificationStatus::Verified,
        Status::Warning => proto::VerificationStatus::Warning,
        Status::Failed => proto::VerificationStatus::Failed,
    };
    proto::Verification {
        status: status.into(),
        last_verify_time: verification.last_verify_time.map(timestamp),
        checks: verification.checks.into_iter().map(check_to_wire).collect(),
    }
}

fn check_to_wire(check: Check) -> proto::VerificationCheck {
    let status = match check.status {
        CheckStatus::Passed => proto::CheckStatus::Passed,
        CheckStatus::Failed => proto::CheckStatus::Failed,
        CheckStatus::Skipped => proto::CheckStatus::Skipped,
    };
    proto::VerificationCheck {
        name: check.name,
        status: status.into(),
        message: check.message,
        time: Some(timestamp(check.time)),
    }
}

/// What to create.
pub(in crate::grpc) fn new_provider(
    request: proto::CreateProviderRequest,
) -> Result<NewProvider, Error> {
    let auth_token = auth_token(request.auth_token)?;
    let id = chosen_id("provider_id", &request.provider_id)?;
    let provider =
        request.provider.ok_or_else(|| Error::field("provider", Invalid("is required")))?;
    let kind = provider.kind.ok_or_else(|| {
        Error::field("provider.kind", Invalid("is required: say which carrier, for example twilio"))
    })?;
    Ok(NewProvider {
        id,
        display_name: display_name(provider.display_name.as_deref().unwrap_or_default())?,
        kind: kind_from_wire(kind)?,
        auth_token,
        validate_only: request.validate_only,
    })
}

/// What to change.
pub(in crate::grpc) fn changes(
    provider: proto::Provider,
    mask: Option<prost_types::FieldMask>,
) -> Result<ProviderChanges, Error> {
    let mask = Mask::parse(
        mask,
        &["display_name"],
        &[
            "name",
            "kind",
            "twilio",
            "twilio.account_sid",
            "verification",
            "token_version",
            "token_update_time",
            "create_time",
            "update_time",
            "etag",
        ],
    )?;
    let mut changes = ProviderChanges::default();
    if mask.sets("display_name", provider.display_name.is_some()) {
        changes.display_name = Some(display_name(&provider.display_name.unwrap_or_default())?);
    }
    if mask.is_whole() {
        changes.kind = provider.kind.map(kind_from_wire).transpose()?;
    }
    Ok(changes)
}

/// Which providers to list.
pub(in crate::grpc) fn filter(
    filter: Option<proto::ProviderFilter>,
) -> Result<ProviderFilter, Error> {
    use proto::{ProviderType as WireType, VerificationStatus as WireStatus};
    const UNKNOWN: Invalid = Invalid("is not a value that this vault knows");
    let filter = filter.unwrap_or_default();
    let provider_type = match WireType::try_from(filter.provider_type) {
        Ok(WireType::Unspecified) => None,
        Ok(WireType::Twilio) => Some(ProviderType::Twilio),
        Err(_) => return Err(Error::field("filter.provider_type", UNKNOWN)),
    };
    let status = match WireStatus::try_from(filter.status) {
        Ok(WireStatus::Unspecified) => None,
        Ok(WireStatus::Pending) => Some(Status::Pending),
        Ok(WireStatus::Verified) => Some(Status::Verified),
        Ok(WireStatus::Warning) => Some(Status::Warning),
        Ok(WireStatus::Failed) => Some(Status::Failed),
        Err(_) => return Err(Error::field("filter.status", UNKNOWN)),
    };
    Ok(ProviderFilter { provider_type, status })
}

/// A token as it came in. Its exact format is the carrier's business; this only bounds it.
pub(in crate::grpc) fn auth_token(token: String) -> Result<SecretText, Error> {
    const RULE: Invalid = Invalid("must be 1 to 512 printable ASCII characters without spaces");
    if token.is_empty() {
        return Err(Error::field("auth_token", Invalid("is required")));
    }
    let printable = token.len() <= 512 && token.bytes().all(|b| b.is_ascii_graphic());
    let token = SecretText::new(token);
    if printable { Ok(token) } else { Err(Error::field("auth_token", RULE)) }
}

fn kind_from_wire(kind: proto::provider::Kind) -> Result<Kind, Error> {
    match kind {
        proto::provider::Kind::Twilio(twilio) => {
            let path = "provider.twilio.account_sid";
            let account_sid = field(path, &twilio.account_sid, AccountSid::parse)?;
            Ok(Kind::Twilio { account_sid })
        }
    }
}

fn display_name(text: &str) -> Result<DisplayName, Error> {
    field("provider.display_name", text, DisplayName::parse)
}
