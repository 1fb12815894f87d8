//! Credentials on the wire, and the one place where a secret leaves.

use jiff::Timestamp;

use super::policy;
use super::rotation::{overlap, recipient, sealed_to_wire};
use super::{Mask, chosen_id, field, timestamp};
use crate::credential::{
    CarrierCredential, Credential, CredentialFilter, Description, Labels, Realm, Username,
};
use crate::grpc::proto;
use crate::grpc::proto::credential::AtCarrier;
use crate::name::{Invalid, ProviderName, ResourceId};
use crate::provider::telepath::TrunkId;
use crate::provider::twilio::{CredentialListSid, CredentialSid};
use crate::provider::vobiz::CredentialId;
use crate::secret::{Password, PasswordLength};
use crate::vault::{
    CredentialChanges, CredentialView, Error, Issued, NewCredential, NewPassword, NewRotation,
    News, Outgoing, PolicyChange, Told, VersionView,
};
use crate::versions::State;

/// Where the policy stands in a request.
const POLICY: &str = "credential.rotation_policy";

/// The configuration. There is no field for a secret to be in.
pub(in crate::grpc) fn to_wire(
    credential: Credential,
    last_success_time: Option<Timestamp>,
) -> proto::Credential {
    let etag = credential.etag().to_string();
    let residence = credential.residence.clone();
    let next_rotation_time = credential.next_rotation_time();
    let policy = credential.schedule.as_ref().map(|schedule| &schedule.policy);
    let rotation_policy = policy.map(|it| policy::to_wire(it, &credential.name.account));
    proto::Credential {
        name: credential.name.to_string(),
        username: credential.username.as_str().to_owned(),
        realm: credential.realm.as_str().to_owned(),
        enabled: Some(credential.enabled),
        description: Some(credential.description.as_str().to_owned()),
        labels: credential.labels.as_map().clone(),
        version: super::count(credential.version),
        create_time: Some(timestamp(credential.create_time)),
        update_time: Some(timestamp(credential.update_time)),
        rotate_time: Some(timestamp(credential.rotate_time)),
        etag,
        last_success_time: last_success_time.map(timestamp),
        provider: residence.as_ref().map_or(String::new(), |residence| {
            let (account, id) = (credential.name.account.clone(), residence.provider.clone());
            ProviderName { account, id }.to_string()
        }),
        at_carrier: residence.map(|residence| at_carrier_to_wire(residence.at)),
        rotation_policy,
        next_rotation_time: next_rotation_time.map(timestamp),
        rotation_block: 0,
    }
}

/// The same with what is known of it beside.
pub(in crate::grpc) fn view_to_wire(view: CredentialView) -> proto::Credential {
    let wire = to_wire(view.credential, view.last_success_time);
    let Some(outlook) = view.outlook else { return wire };
    proto::Credential {
        next_rotation_time: Some(timestamp(outlook.time)),
        rotation_block: policy::block_to_wire(outlook.block).into(),
        ..wire
    }
}

fn at_carrier_to_wire(at: CarrierCredential) -> AtCarrier {
    match at {
        CarrierCredential::Twilio { credential_list_sid, credential_sid } => {
            AtCarrier::Twilio(proto::TwilioCredential {
                credential_list_sid: credential_list_sid.into(),
                credential_sid: credential_sid.into(),
            })
        }
        CarrierCredential::Vobiz { credential_id } => {
            AtCarrier::Vobiz(proto::VobizCredential { credential_id: credential_id.into() })
        }
        CarrierCredential::Telepath { trunk_id } => {
            AtCarrier::Telepath(proto::TelepathTrunk { trunk_id: trunk_id.into() })
        }
    }
}

/// Where a credential lives: both, or neither.
fn residence(
    provider: &str,
    at: Option<AtCarrier>,
    account: &ResourceId,
) -> Result<Option<(ResourceId, CarrierCredential)>, Error> {
    const PROVIDER: &str = "credential.provider";
    let at = match (provider, at) {
        ("", None) => return Ok(None),
        ("", Some(_)) => {
            return Err(Error::field(PROVIDER, Invalid("is required with what it is there")));
        }
        (_, None) => {
            let rule = Invalid("needs what it is there: twilio, vobiz or telepath");
            return Err(Error::field(PROVIDER, rule));
        }
        (_, Some(at)) => at,
    };
    let provider = super::provider_of(PROVIDER, provider, account)?;
    let at = match at {
        AtCarrier::Twilio(at) => CarrierCredential::Twilio {
            credential_list_sid: field(
                "credential.twilio.credential_list_sid",
                &at.credential_list_sid,
                CredentialListSid::parse,
            )?,
            credential_sid: field(
                "credential.twilio.credential_sid",
                &at.credential_sid,
                CredentialSid::parse,
            )?,
        },
        AtCarrier::Vobiz(at) => CarrierCredential::Vobiz {
            credential_id: field(
                "credential.vobiz.credential_id",
                &at.credential_id,
                CredentialId::parse,
            )?,
        },
        AtCarrier::Telepath(at) => CarrierCredential::Telepath {
            trunk_id: field("credential.telepath.trunk_id", &at.trunk_id, TrunkId::parse)?,
        },
    };
    Ok(Some((provider, at)))
}

/// What a version is; None: the active one.
pub(in crate::grpc) fn version_state(state: Option<State>) -> proto::VersionState {
    match state {
        None => proto::VersionState::Active,
        Some(State::Pending | State::Awaited) => proto::VersionState::Pending,
        Some(State::Retiring { .. }) => proto::VersionState::Retiring,
        Some(State::Destroyed { .. }) => proto::VersionState::Destroyed,
    }
}

/// A version, without the password.
pub(in crate::grpc) fn version_to_wire(view: VersionView) -> proto::CredentialVersion {
    let (retire_time, destroy_time) = match view.state {
        Some(State::Retiring { until }) => (Some(timestamp(until)), None),
        Some(State::Destroyed { time }) => (None, Some(timestamp(time))),
        Some(State::Pending | State::Awaited) | None => (None, None),
    };
    proto::CredentialVersion {
        version: super::count(view.version),
        state: version_state(view.state).into(),
        create_time: Some(timestamp(view.create_time)),
        retire_time,
        destroy_time,
        last_success_time: view.uses.last_success_time.map(timestamp),
        success_count: super::count(view.uses.successes),
        failure_count: super::count(view.uses.failures),
    }
}

/// What an answer carries of a generated secret: one of the two, or neither where there is none.
pub(in crate::grpc) fn secret_to_wire(
    secret: Option<Outgoing>,
) -> (Option<proto::IssuedSecret>, Option<proto::SealedSecret>) {
    match secret {
        None => (None, None),
        Some(Outgoing::Issued(issued)) => (Some(issued_to_wire(issued)), None),
        Some(Outgoing::Sealed(sealed)) => (None, Some(sealed_to_wire(sealed))),
    }
}

/// What a watch tells.
pub(in crate::grpc) fn told_to_wire(told: Told) -> proto::WatchCredentialsResponse {
    use proto::watch_credentials_response::Change;
    let change = match told.news {
        News::Credential(credential) => {
            Some(Change::Credential(Box::new(to_wire(*credential, None))))
        }
        News::Deleted(name) => Some(Change::Deleted(name.to_string())),
        News::CaughtUp => Some(Change::CaughtUp(true)),
        News::Nothing => None,
    };
    proto::WatchCredentialsResponse { resume_token: told.resume_token, change }
}

/// A secret leaves here and nowhere else; the conversion consumes it.
#[expect(clippy::disallowed_methods, reason = "the one way out of an issued secret")]
fn issued_to_wire(issued: Issued) -> proto::IssuedSecret {
    let (password, version) = issued.into_parts();
    proto::IssuedSecret { password: password.expose().to_owned(), version: super::count(version) }
}

/// What to create.
pub(in crate::grpc) fn new_credential(
    request: proto::CreateCredentialRequest,
    account: &ResourceId,
) -> Result<NewCredential, Error> {
    let length = password_length(request.password_length)?;
    let password = match request.password {
        Some(_) if request.password_length != 0 => {
            let rule = Invalid("must be 0 when you bring a password");
            return Err(Error::field("password_length", rule));
        }
        Some(_) if request.recipient.is_some() => {
            let rule = Invalid("must be absent when you bring a password: nothing is sent");
            return Err(Error::field("recipient", rule));
        }
        Some(password) => NewPassword::Chosen(chosen_password(password)?),
        None => NewPassword::Generated(length, recipient(request.recipient, account)?),
    };
    let id = chosen_id("credential_id", &request.credential_id)?;
    let credential =
        request.credential.ok_or_else(|| Error::field("credential", Invalid("is required")))?;
    Ok(NewCredential {
        id,
        username: field("credential.username", &credential.username, Username::parse)?,
        realm: field("credential.realm", &credential.realm, Realm::parse)?,
        enabled: credential.enabled.unwrap_or(true),
        description: description(credential.description.as_deref().unwrap_or_default())?,
        labels: labels("credential.labels", credential.labels)?,
        rotation_policy: credential
            .rotation_policy
            .map(|policy| policy::policy(POLICY, policy, account))
            .transpose()?,
        password,
        residence: residence(&credential.provider, credential.at_carrier, account)?,
    })
}

/// What to change.
pub(in crate::grpc) fn changes(
    credential: proto::Credential,
    account: &ResourceId,
    mask: Option<prost_types::FieldMask>,
    password: Option<String>,
) -> Result<CredentialChanges, Error> {
    let mask = Mask::parse(
        mask,
        &["enabled", "description", "labels", "rotation_policy"],
        &[
            "name",
            "username",
            "realm",
            "version",
            "create_time",
            "update_time",
            "rotate_time",
            "etag",
            "last_success_time",
            "provider",
            "twilio",
            "vobiz",
            "telepath",
            "next_rotation_time",
            "rotation_block",
        ],
    )?;
    let mut changes = CredentialChanges::default();
    if mask.sets("enabled", credential.enabled.is_some()) {
        let rule = Invalid("is required when update_mask names it");
        let enabled = credential.enabled.ok_or_else(|| Error::field("credential.enabled", rule))?;
        changes.enabled = Some(enabled);
    }
    if mask.sets("description", credential.description.is_some()) {
        changes.description = Some(description(&credential.description.unwrap_or_default())?);
    }
    if mask.sets("labels", !credential.labels.is_empty()) {
        changes.labels = Some(labels("credential.labels", credential.labels)?);
    }
    if mask.sets("rotation_policy", credential.rotation_policy.is_some()) {
        changes.rotation_policy = match credential.rotation_policy {
            Some(policy) => PolicyChange::Set(policy::policy(POLICY, policy, account)?),
            None => PolicyChange::Clear,
        };
    }
    if mask.is_whole() {
        if !credential.username.is_empty() {
            let username = field("credential.username", &credential.username, Username::parse)?;
            changes.username = Some(username);
        }
        if !credential.realm.is_empty() {
            changes.realm = Some(field("credential.realm", &credential.realm, Realm::parse)?);
        }
    }
    changes.password = password.map(chosen_password).transpose()?;
    Ok(changes)
}

/// Which credentials of an account to list.
pub(in crate::grpc) fn filter(
    filter: Option<proto::CredentialFilter>,
    account: &ResourceId,
) -> Result<CredentialFilter, Error> {
    let filter = filter.unwrap_or_default();
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(CredentialFilter {
        enabled: filter.enabled,
        realm: some(filter.realm)
            .map(|realm| field("filter.realm", &realm, Realm::parse))
            .transpose()?,
        username_prefix: some(filter.username_prefix)
            .map(|prefix| field("filter.username_prefix", &prefix, Username::parse))
            .transpose()?,
        labels: labels("filter.labels", filter.labels)?,
        rotated_before: filter
            .rotated_before
            .map(|before| super::time("filter.rotated_before", before))
            .transpose()?,
        provider: some(filter.provider)
            .map(|provider| super::provider_of("filter.provider", &provider, account))
            .transpose()?,
        provider_type: super::provider::type_of("filter.provider_type", filter.provider_type)?,
        due_before: filter
            .due_before
            .map(|before| super::time("filter.due_before", before))
            .transpose()?,
    })
}

/// How to rotate.
pub(in crate::grpc) fn new_rotation(
    request: proto::RotateCredentialRequest,
    account: &ResourceId,
) -> Result<NewRotation, Error> {
    Ok(NewRotation {
        length: password_length(request.password_length)?,
        overlap: overlap(request.overlap)?,
        require_confirmation: request.require_confirmation,
        recipient: recipient(request.recipient, account)?,
    })
}

fn password_length(length: u32) -> Result<PasswordLength, Error> {
    PasswordLength::parse(length).map_err(|problem| Error::field("password_length", problem))
}

fn chosen_password(password: String) -> Result<Password, Error> {
    Password::parse(password).map_err(|problem| Error::field("password", problem))
}

fn description(text: &str) -> Result<Description, Error> {
    field("credential.description", text, Description::parse)
}

fn labels(path: &str, labels: std::collections::BTreeMap<String, String>) -> Result<Labels, Error> {
    Labels::parse(labels).map_err(|problem| Error::field(path, problem))
}
