//! Providers on the wire.

use super::{Mask, chosen_id, field, timestamp};
use crate::grpc::proto;
use crate::name::Invalid;
use crate::provider::telepath::TelepathAccount;
use crate::provider::twilio::{
    AccountSid, ApiKeySid, CredentialListSid, Region, TrunkSid, TwilioAccount, TwilioChanges,
};
use crate::provider::vobiz::{AuthId, VobizAccount};
use crate::provider::{
    Check, CheckStatus, DisplayName, Kind, KindChanges, Provider, ProviderFilter, ProviderType,
    Status, Token, TokenKind, Verification,
};
use crate::secret::SecretText;
use crate::vault::{Error, NewProvider, ProviderChanges};

/// The configuration and the last verification. There is no field for a token to be in.
pub(in crate::grpc) fn to_wire(provider: Provider) -> proto::Provider {
    let etag = provider.etag().to_string();
    let facts = &provider.verification.facts;
    let kind = match &provider.kind {
        Kind::Twilio(account) => {
            twilio_to_wire(account, &provider.token_kind, facts.termination_uri.as_deref())
        }
        Kind::Vobiz(account) => {
            let auth_id = account.auth_id.as_str().to_owned();
            proto::provider::Kind::Vobiz(proto::VobizProvider { auth_id })
        }
        Kind::Telepath(TelepathAccount {}) => {
            proto::provider::Kind::Telepath(proto::TelepathProvider {})
        }
    };
    proto::Provider {
        name: provider.name.to_string(),
        display_name: Some(provider.display_name.as_str().to_owned()),
        kind: Some(kind),
        phone_number_count: facts.phone_number_count.map(super::count),
        supports_call_transfer: facts.supports_call_transfer,
        verification: Some(verification_to_wire(provider.verification)),
        token_version: super::count(provider.token_version),
        token_update_time: Some(timestamp(provider.token_update_time)),
        create_time: Some(timestamp(provider.create_time)),
        update_time: Some(timestamp(provider.update_time)),
        etag,
    }
}

fn twilio_to_wire(
    account: &TwilioAccount,
    token_kind: &TokenKind,
    termination_uri: Option<&str>,
) -> proto::provider::Kind {
    let trunk = account.trunk.as_ref();
    let list = trunk.and_then(|trunk| trunk.credential_list_sid.as_ref());
    let api_key_sid = match token_kind {
        TokenKind::AuthToken => String::new(),
        TokenKind::ApiKey { sid } => sid.as_str().to_owned(),
    };
    proto::provider::Kind::Twilio(proto::TwilioProvider {
        account_sid: account.account_sid.as_str().to_owned(),
        region: account.region.as_str().to_owned(),
        edge: account.region.edge().to_owned(),
        sip_trunk_sid: trunk.map(|trunk| trunk.sid.as_str().to_owned()),
        credential_list_sid: list.map(|list| list.as_str().to_owned()),
        termination_uri: termination_uri.unwrap_or_default().to_owned(),
        api_key_sid,
    })
}

/// A verification, of now or of the history.
pub(in crate::grpc) fn verification_to_wire(verification: Verification) -> proto::Verification {
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
        status_change_time: verification.status_change_time.map(timestamp),
        token_version: super::count(verification.token_version),
    }
}

fn check_to_wire(check: Check) -> proto::VerificationCheck {
    let status = match check.status {
        CheckStatus::Passed => proto::CheckStatus::Passed,
        CheckStatus::Failed => proto::CheckStatus::Failed,
        CheckStatus::Skipped => proto::CheckStatus::Skipped,
        CheckStatus::Unavailable => proto::CheckStatus::Unavailable,
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
    let token = token(request.auth_token, request.api_key)?;
    let id = chosen_id("provider_id", &request.provider_id)?;
    let provider =
        request.provider.ok_or_else(|| Error::field("provider", Invalid("is required")))?;
    let kind = provider.kind.ok_or_else(|| {
        Error::field(
            "provider.kind",
            Invalid("is required: say which carrier: twilio, vobiz or telepath"),
        )
    })?;
    Ok(NewProvider {
        id,
        display_name: display_name(provider.display_name.as_deref().unwrap_or_default())?,
        kind: kind_from_wire(kind)?,
        token,
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
        &["display_name", SIP_TRUNK_SID, CREDENTIAL_LIST_SID],
        &[
            "name",
            "kind",
            "twilio",
            "twilio.account_sid",
            "twilio.region",
            "twilio.edge",
            "twilio.termination_uri",
            "twilio.api_key_sid",
            "vobiz",
            "vobiz.auth_id",
            "telepath",
            "verification",
            "token_version",
            "token_update_time",
            "create_time",
            "update_time",
            "etag",
            "phone_number_count",
            "supports_call_transfer",
        ],
    )?;
    let mut changes = ProviderChanges::default();
    if mask.sets("display_name", provider.display_name.is_some()) {
        changes.display_name = Some(display_name(&provider.display_name.unwrap_or_default())?);
    }
    changes.kind = kind_changes(provider.kind, &mask)?;
    Ok(changes)
}

/// What may change of a Twilio account, as paths of a mask.
const SIP_TRUNK_SID: &str = "twilio.sip_trunk_sid";
const CREDENTIAL_LIST_SID: &str = "twilio.credential_list_sid";

/// What is said of the kind. What is immutable may be sent back as it was read, unless a mask names others.
fn kind_changes(kind: Option<proto::provider::Kind>, mask: &Mask) -> Result<KindChanges, Error> {
    use proto::provider::Kind as Wire;
    // Whether a mask names what only Twilio has.
    let of_twilio = [SIP_TRUNK_SID, CREDENTIAL_LIST_SID].iter().any(|path| mask.sets(path, false));
    match kind {
        None if mask.is_all() => {
            // Else a mask that was meant for the name would clear the trunk.
            let rule = Invalid("is required with update_mask `*`, which clears what is absent");
            Err(Error::field("provider.kind", rule))
        }
        Some(Wire::Twilio(twilio)) => twilio_changes(&twilio, mask),
        Some(Wire::Vobiz(vobiz)) if mask.is_whole() => {
            let said = !vobiz.auth_id.is_empty();
            Ok(KindChanges::Vobiz(said.then(|| auth_id(&vobiz)).transpose()?))
        }
        Some(Wire::Telepath(_)) if mask.is_whole() => Ok(KindChanges::Telepath),
        Some(Wire::Vobiz(_) | Wire::Telepath(_)) if of_twilio => {
            let rule =
                Invalid("names fields of twilio, but the provider sent is at another carrier");
            Err(Error::field("update_mask", rule))
        }
        None if of_twilio => twilio_changes(&proto::TwilioProvider::default(), mask),
        None | Some(Wire::Vobiz(_) | Wire::Telepath(_)) => Ok(KindChanges::None),
    }
}

fn twilio_changes(twilio: &proto::TwilioProvider, mask: &Mask) -> Result<KindChanges, Error> {
    let mut changes = TwilioChanges::default();
    if mask.is_whole() {
        let said = |text: &str| !text.is_empty();
        changes.account_sid = said(&twilio.account_sid).then(|| account_sid(twilio)).transpose()?;
        changes.region = said(&twilio.region).then(|| region(twilio)).transpose()?;
        changes.edge = said(&twilio.edge).then(|| twilio.edge.clone());
    }
    let mut named = mask.is_whole();
    if mask.sets(SIP_TRUNK_SID, twilio.sip_trunk_sid.is_some()) {
        (changes.sip_trunk_sid, named) = (Some(sip_trunk_sid(twilio)?), true);
    }
    if mask.sets(CREDENTIAL_LIST_SID, twilio.credential_list_sid.is_some()) {
        (changes.credential_list_sid, named) = (Some(credential_list_sid(twilio)?), true);
    }
    Ok(if named { KindChanges::Twilio(changes) } else { KindChanges::None })
}

const UNKNOWN: Invalid = Invalid("is not a value that this vault knows");

/// Which providers to list.
pub(in crate::grpc) fn filter(
    filter: Option<proto::ProviderFilter>,
) -> Result<ProviderFilter, Error> {
    use proto::VerificationStatus as WireStatus;
    let filter = filter.unwrap_or_default();
    let provider_type = type_of("filter.provider_type", filter.provider_type)?;
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

/// A carrier, or None if none is stated.
pub(super) fn type_of(path: &str, number: i32) -> Result<Option<ProviderType>, Error> {
    use proto::ProviderType as WireType;
    match WireType::try_from(number) {
        Ok(WireType::Unspecified) => Ok(None),
        Ok(WireType::Twilio) => Ok(Some(ProviderType::Twilio)),
        Ok(WireType::Vobiz) => Ok(Some(ProviderType::Vobiz)),
        Ok(WireType::Telepath) => Ok(Some(ProviderType::Telepath)),
        Err(_) => Err(Error::field(path, UNKNOWN)),
    }
}

/// A token as it came in: one of the two kinds. Its exact format is the carrier's business; this only bounds it.
pub(in crate::grpc) fn token(
    auth_token: String,
    api_key: Option<proto::TwilioApiKey>,
) -> Result<Token, Error> {
    match api_key {
        None if auth_token.is_empty() => {
            Err(Error::field("auth_token", Invalid("is required, or api_key")))
        }
        None => Ok(Token { kind: TokenKind::AuthToken, secret: secret("auth_token", auth_token)? }),
        Some(_) if !auth_token.is_empty() => {
            Err(Error::field("api_key", Invalid("and auth_token exclude each other: send one")))
        }
        Some(api_key) => {
            let secret = secret("api_key.secret", api_key.secret)?;
            let sid = field("api_key.sid", &api_key.sid, ApiKeySid::parse)?;
            Ok(Token { kind: TokenKind::ApiKey { sid }, secret })
        }
    }
}

fn secret(path: &str, text: String) -> Result<SecretText, Error> {
    const RULE: Invalid = Invalid("must be 1 to 512 printable ASCII characters without spaces");
    if text.is_empty() {
        return Err(Error::field(path, Invalid("is required")));
    }
    let printable = text.len() <= 512 && text.bytes().all(|b| b.is_ascii_graphic());
    let secret = SecretText::new(text);
    if printable { Ok(secret) } else { Err(Error::field(path, RULE)) }
}

fn kind_from_wire(kind: proto::provider::Kind) -> Result<Kind, Error> {
    match kind {
        proto::provider::Kind::Twilio(twilio) => {
            let account = TwilioAccount::new(
                account_sid(&twilio)?,
                region(&twilio)?,
                sip_trunk_sid(&twilio)?,
                credential_list_sid(&twilio)?,
            );
            account
                .map(Kind::Twilio)
                .map_err(|(path, problem)| Error::field(format!("provider.twilio.{path}"), problem))
        }
        proto::provider::Kind::Vobiz(vobiz) => {
            Ok(Kind::Vobiz(VobizAccount { auth_id: auth_id(&vobiz)? }))
        }
        proto::provider::Kind::Telepath(proto::TelepathProvider {}) => {
            Ok(Kind::Telepath(TelepathAccount {}))
        }
    }
}

fn auth_id(vobiz: &proto::VobizProvider) -> Result<AuthId, Error> {
    field("provider.vobiz.auth_id", &vobiz.auth_id, AuthId::parse)
}

fn account_sid(twilio: &proto::TwilioProvider) -> Result<AccountSid, Error> {
    field("provider.twilio.account_sid", &twilio.account_sid, AccountSid::parse)
}

fn region(twilio: &proto::TwilioProvider) -> Result<Region, Error> {
    let region = field("provider.twilio.region", &twilio.region, Region::parse)?;
    field("provider.twilio.edge", &twilio.edge, |edge| region.check_edge(edge))?;
    Ok(region)
}

fn sip_trunk_sid(twilio: &proto::TwilioProvider) -> Result<Option<TrunkSid>, Error> {
    let sid = twilio.sip_trunk_sid.as_deref();
    optional("provider.twilio.sip_trunk_sid", sid, TrunkSid::parse)
}

fn credential_list_sid(twilio: &proto::TwilioProvider) -> Result<Option<CredentialListSid>, Error> {
    let sid = twilio.credential_list_sid.as_deref();
    optional("provider.twilio.credential_list_sid", sid, CredentialListSid::parse)
}

/// Absent and empty both mean none.
fn optional<T>(
    path: &str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<Option<T>, Error> {
    text.filter(|text| !text.is_empty()).map(|text| field(path, text, parse)).transpose()
}

fn display_name(text: &str) -> Result<DisplayName, Error> {
    field("provider.display_name", text, DisplayName::parse)
}
