//! The RPCs of the contract, as its descriptors list them, and a call of each.

use credvault::grpc::proto::{
    AccessTokenPolicy, BatchVerifySipDigestRequest, CancelRotationRequest, ComputeSipDigestRequest,
    ConfirmRotationRequest, CreateAccountRequest, CreateApiTokenRequest, CreateCredentialRequest,
    CreateProviderRequest, CreateRecipientKeyRequest, Credential, DeleteAccountRequest,
    DeleteRoleBindingRequest, DeliveryPolicy, DisableAccountRequest, EnableAccountRequest,
    GetAccessTokenPolicyRequest, GetAccountRequest, GetApiTokenRequest, GetCredentialRequest,
    GetDeliveryPolicyRequest, GetProviderRequest, GetRotationRequest, IssueSipChallengeRequest,
    ListAccountsRequest, ListApiTokensRequest, ListAuditEntriesRequest, ListCredentialsRequest,
    ListProvidersRequest, ListRecipientKeysRequest, ListRoleBindingsRequest, ListRotationsRequest,
    ListVerificationsRequest, ListVersionsRequest, MintTwilioAccessTokenRequest,
    ResumeRotationRequest, RevokeApiTokenRequest, RevokeRecipientKeyRequest, RotateTokenRequest,
    SetRoleBindingRequest, UpdateAccessTokenPolicyRequest, UpdateDeliveryPolicyRequest,
    VerifyProviderRequest, VerifySipDigestRequest, VerifyTwilioWebhookRequest, VideoGrant,
    WatchCredentialsRequest,
};
use prost_types::FileDescriptorSet;

use crate::credentials::{delete, rotate, update};
use crate::providers::{
    TOKEN, create_provider, delete as delete_provider, display_name, update_token,
};
use crate::support::calls::Call;

const NOT_FOUND: &str = "NotFound NOT_FOUND";

/// No rotation has this id.
const ROTATION: &str = "x00000000000000000000000000000000";

/// One RPC.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) path: String,
}

/// The RPCs of the contract itself.
pub(crate) fn of(descriptors: &FileDescriptorSet) -> Vec<Rpc> {
    let ours = descriptors.file.iter().filter(|file| file.package() == "credvault.v1");
    let rpcs = ours.flat_map(|file| &file.service).flat_map(|service| {
        service.method.iter().map(|method| Rpc {
            service: service.name().to_owned(),
            method: method.name().to_owned(),
            path: format!("/credvault.v1.{}/{}", service.name(), method.name()),
        })
    });
    rpcs.collect()
}

/// The id of the token that `owner` has, if there is such an owner: the same length for each.
pub(super) fn token_id(owner: &str) -> String {
    let digit = owner.bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte));
    hex::encode([digit; 12])
}

/// A call of an RPC on what `owner` has, `accounts/{account}` or `vault`, and how it ends for a caller who may make
/// it. None of them changes what the next one meets. None: it has no row here, or `vault` cannot be named in it.
pub(crate) fn row(method: &str, owner: &str) -> Option<(Call, &'static str)> {
    if owner == "vault" {
        return owners_row(method, owner);
    }
    let parent = owner.to_owned();
    let credential = format!("{owner}/credentials/desk");
    let provider = format!("{owner}/providers/main");
    let stale = || "\"stale\"".to_owned();
    let mismatch = "Aborted ETAG_MISMATCH";
    let row: (Call, &str) = match method {
        "CreateCredential" => (
            CreateCredentialRequest { parent, ..Default::default() }.into(),
            "InvalidArgument INVALID_FIELD credential",
        ),
        "GetCredential" => (GetCredentialRequest { name: credential }.into(), "OK"),
        "ListCredentials" => (ListCredentialsRequest { parent, ..Default::default() }.into(), "OK"),
        "UpdateCredential" => (update(&credential, Credential::default(), &[]).into(), "OK"),
        "RotateCredential" => {
            let mut request = rotate(&credential);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "DeleteCredential" => {
            let mut request = delete(&credential);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "CreateProvider" => (
            CreateProviderRequest { parent, ..create_provider("main") }.into(),
            "AlreadyExists ALREADY_EXISTS",
        ),
        "GetProvider" => (GetProviderRequest { name: provider }.into(), "OK"),
        "ListProviders" => (ListProvidersRequest { parent, ..Default::default() }.into(), "OK"),
        "UpdateProvider" => (display_name(&provider, "").into(), "OK"),
        "UpdateToken" => {
            let mut request = update_token(&provider, TOKEN);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "RotateToken" => {
            let etag = stale();
            let request = RotateTokenRequest { name: provider, etag, ..Default::default() };
            (request.into(), mismatch)
        }
        "VerifyProvider" => (VerifyProviderRequest { name: provider }.into(), "OK"),
        "ListVerifications" => {
            (ListVerificationsRequest { parent: provider, ..Default::default() }.into(), "OK")
        }
        "DeleteProvider" => {
            let mut request = delete_provider(&provider);
            request.etag = stale();
            (request.into(), mismatch)
        }
        "WatchCredentials" => {
            // A good one would go on.
            let request = WatchCredentialsRequest { parent, resume_token: "x".to_owned() };
            (request.into(), "InvalidArgument INVALID_FIELD resume_token")
        }
        "ListVersions" => (ListVersionsRequest { parent: credential }.into(), "OK"),
        "ListRotations" => {
            (ListRotationsRequest { parent: credential, ..Default::default() }.into(), "OK")
        }
        _ => {
            return use_row(method, owner)
                .or_else(|| delivery_row(method, owner))
                .or_else(|| accounts_row(method, owner))
                .or_else(|| owners_row(method, owner));
        }
    };
    Some(row)
}

/// The RPCs by which secrets work.
fn use_row(method: &str, owner: &str) -> Option<(Call, &'static str)> {
    let parent = owner.to_owned();
    let credential = format!("{owner}/credentials/desk");
    let provider = format!("{owner}/providers/main");
    let row: (Call, &str) = match method {
        "VerifySipDigest" => {
            let request = VerifySipDigestRequest {
                parent,
                username: "alice".to_owned(),
                realm: "sip.test".to_owned(),
                method: "REGISTER".to_owned(),
                uri: "sip:sip.test".to_owned(),
                nonce: "n0nce".to_owned(),
                response: "0".repeat(32),
                ..Default::default()
            };
            (request.into(), "OK")
        }
        "BatchVerifySipDigest" => {
            let requests = vec![VerifySipDigestRequest::default()];
            (BatchVerifySipDigestRequest { parent, requests }.into(), "OK")
        }
        "ComputeSipDigest" => {
            let request = ComputeSipDigestRequest {
                name: credential,
                method: "REGISTER".to_owned(),
                uri: "sip:sip.test".to_owned(),
                realm: "sip.test".to_owned(),
                nonce: "n0nce".to_owned(),
                ..Default::default()
            };
            (request.into(), "OK")
        }
        "IssueSipChallenge" => {
            let realm = "sip.test".to_owned();
            (IssueSipChallengeRequest { parent, realm, ..Default::default() }.into(), "OK")
        }
        "MintTwilioAccessToken" => {
            // It holds an Auth Token, which signs none.
            let (identity, video) = ("alice".to_owned(), Some(VideoGrant::default()));
            let request = MintTwilioAccessTokenRequest {
                name: provider,
                identity,
                video,
                ..Default::default()
            };
            (request.into(), "FailedPrecondition INVALID_STATE")
        }
        "VerifyTwilioWebhook" => {
            let url = "https://example.com/".to_owned();
            let request = VerifyTwilioWebhookRequest { name: provider, url, ..Default::default() };
            (request.into(), "OK")
        }
        _ => return None,
    };
    Some(row)
}

/// The RPCs about how new secrets arrive.
fn delivery_row(method: &str, owner: &str) -> Option<(Call, &'static str)> {
    let parent = owner.to_owned();
    // Rotations have random names, so there is none of this one.
    let rotation = rotation(owner);
    let key = format!("{owner}/recipientKeys/edge");
    let policy = format!("{owner}/deliveryPolicy");
    let access_token_policy = format!("{owner}/accessTokenPolicy");
    let (reason, too_long) = long_reason();
    let row: (Call, &str) = match method {
        "GetRotation" => (GetRotationRequest { name: rotation }.into(), NOT_FOUND),
        "ConfirmRotation" => {
            let request = ConfirmRotationRequest { name: rotation, reason, ..Default::default() };
            (request.into(), too_long)
        }
        "CancelRotation" => (CancelRotationRequest { name: rotation, reason }.into(), too_long),
        "ResumeRotation" => (ResumeRotationRequest { name: rotation, reason }.into(), too_long),
        "CreateRecipientKey" => (
            CreateRecipientKeyRequest { parent, ..Default::default() }.into(),
            "InvalidArgument INVALID_FIELD recipient_key",
        ),
        "ListRecipientKeys" => {
            (ListRecipientKeysRequest { parent, ..Default::default() }.into(), "OK")
        }
        "RevokeRecipientKey" => (RevokeRecipientKeyRequest { name: key, reason }.into(), too_long),
        "GetDeliveryPolicy" => (GetDeliveryPolicyRequest { name: policy }.into(), "OK"),
        "GetAccessTokenPolicy" => {
            (GetAccessTokenPolicyRequest { name: access_token_policy }.into(), "OK")
        }
        "UpdateAccessTokenPolicy" => {
            let name = access_token_policy;
            let access_token_policy = Some(AccessTokenPolicy { name, ..Default::default() });
            (UpdateAccessTokenPolicyRequest { access_token_policy, reason }.into(), too_long)
        }
        "UpdateDeliveryPolicy" => {
            let delivery_policy =
                Some(DeliveryPolicy { name: policy, enrolled_keys_only: Some(false) });
            (UpdateDeliveryPolicyRequest { delivery_policy, reason }.into(), too_long)
        }
        _ => return None,
    };
    Some(row)
}

fn rotation(owner: &str) -> String {
    format!("{owner}/credentials/desk/rotations/{ROTATION}")
}

/// A reason that is too long: whoever is told so is past the door, and nothing has changed.
fn long_reason() -> (String, &'static str) {
    ("x".repeat(201), "InvalidArgument INVALID_FIELD reason")
}

/// The RPCs about accounts themselves.
fn accounts_row(method: &str, owner: &str) -> Option<(Call, &'static str)> {
    let name = owner.to_owned();
    let (reason, too_long) = long_reason();
    let row: (Call, &str) = match method {
        "CreateAccount" => {
            let account_id = owner.trim_start_matches("accounts/").to_owned();
            let request = CreateAccountRequest { account_id, reason, ..Default::default() };
            (request.into(), too_long)
        }
        "GetAccount" => {
            let past_the_door = if owner == "accounts/ghost" { NOT_FOUND } else { "OK" };
            (GetAccountRequest { name }.into(), past_the_door)
        }
        "ListAccounts" => (ListAccountsRequest::default().into(), "OK"),
        "DisableAccount" => (DisableAccountRequest { name, reason }.into(), too_long),
        "EnableAccount" => (EnableAccountRequest { name, reason }.into(), too_long),
        "DeleteAccount" => (DeleteAccountRequest { name, reason }.into(), too_long),
        _ => return None,
    };
    Some(row)
}

/// The RPCs about what belongs to an account or to the vault.
fn owners_row(method: &str, owner: &str) -> Option<(Call, &'static str)> {
    let parent = owner.to_owned();
    let name = format!("{owner}/apiTokens/{}", token_id(owner));
    let (reason, too_long) = long_reason();
    let row: (Call, &str) = match method {
        "ListAuditEntries" => {
            (ListAuditEntriesRequest { parent, ..Default::default() }.into(), "OK")
        }
        "CreateApiToken" => (
            CreateApiTokenRequest { parent, ..Default::default() }.into(),
            "InvalidArgument INVALID_FIELD api_token",
        ),
        "GetApiToken" => (GetApiTokenRequest { name }.into(), "OK"),
        "ListApiTokens" => (ListApiTokensRequest { parent, ..Default::default() }.into(), "OK"),
        "RevokeApiToken" => (RevokeApiTokenRequest { name, reason }.into(), too_long),
        "SetRoleBinding" => (
            SetRoleBindingRequest { parent, ..Default::default() }.into(),
            "InvalidArgument INVALID_FIELD role_binding",
        ),
        "ListRoleBindings" => {
            (ListRoleBindingsRequest { parent, ..Default::default() }.into(), "OK")
        }
        "DeleteRoleBinding" => {
            let principal = "spiffe://example.org/nobody".to_owned();
            (DeleteRoleBindingRequest { parent, principal, reason }.into(), too_long)
        }
        _ => return None,
    };
    Some(row)
}

/// Calls that are recorded even when they find nothing new.
pub(super) const LEAVES_AN_ENTRY: [&str; 1] = ["VerifyProvider"];

/// What a refusal of a row says that it is about, and its audit entry.
pub(super) fn resource(method: &str, owner: &str) -> String {
    let child = match method {
        "GetCredential" | "UpdateCredential" | "RotateCredential" | "DeleteCredential"
        | "ListVersions" | "ListRotations" | "ComputeSipDigest" => "/credentials/desk".to_owned(),
        "GetRotation" | "ConfirmRotation" | "CancelRotation" | "ResumeRotation" => {
            return rotation(owner);
        }
        "RevokeRecipientKey" => "/recipientKeys/edge".to_owned(),
        "GetDeliveryPolicy" | "UpdateDeliveryPolicy" => "/deliveryPolicy".to_owned(),
        "GetAccessTokenPolicy" | "UpdateAccessTokenPolicy" => "/accessTokenPolicy".to_owned(),
        "GetProvider"
        | "UpdateProvider"
        | "UpdateToken"
        | "RotateToken"
        | "VerifyProvider"
        | "ListVerifications"
        | "DeleteProvider"
        | "VerifyTwilioWebhook"
        | "MintTwilioAccessToken" => "/providers/main".to_owned(),
        "GetApiToken" | "RevokeApiToken" => format!("/apiTokens/{}", token_id(owner)),
        "ListAccounts" => return "vault".to_owned(),
        _ => String::new(),
    };
    format!("{owner}{child}")
}
