//! Every RPC as a value, and the short way to the answers that tests look at.

use credvault::grpc::proto::*;
use prost::Message as _;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;

use super::{Bearer, Clients, TestVault, channel};

macro_rules! calls {
    ($($rpc:ident: $service:ident.$function:ident($request:ident);)*) => {
        /// A request of some RPC, for tables.
        #[derive(Clone)]
        pub(crate) enum Call {
            $($rpc($request),)*
        }

        impl Call {
            /// Makes the call; the answer itself does not matter.
            pub(crate) async fn send(self, clients: &Clients) -> Result<(), Status> {
                let clients = clients.clone();
                match self {
                    $(Self::$rpc(request) => {
                        let mut client = clients.$service;
                        client.$function(request).await.map(drop)
                    })*
                }
            }

            /// The request as it is sent.
            pub(crate) fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$rpc(request) => request.encode_to_vec(),)*
                }
            }

            /// The RPC's name.
            pub(crate) fn method(&self) -> &'static str {
                match self {
                    $(Self::$rpc(_) => stringify!($rpc),)*
                }
            }
        }

        $(impl From<$request> for Call {
            fn from(request: $request) -> Self {
                Self::$rpc(request)
            }
        })*
    };
}

calls! {
    CreateCredential: credentials.create_credential(CreateCredentialRequest);
    GetCredential: credentials.get_credential(GetCredentialRequest);
    ListCredentials: credentials.list_credentials(ListCredentialsRequest);
    UpdateCredential: credentials.update_credential(UpdateCredentialRequest);
    RotateCredential: credentials.rotate_credential(RotateCredentialRequest);
    DeleteCredential: credentials.delete_credential(DeleteCredentialRequest);
    ListVersions: credentials.list_versions(ListVersionsRequest);
    WatchCredentials: credentials.watch_credentials(WatchCredentialsRequest);
    GetRotation: rotations.get_rotation(GetRotationRequest);
    ListRotations: rotations.list_rotations(ListRotationsRequest);
    ConfirmRotation: rotations.confirm_rotation(ConfirmRotationRequest);
    CancelRotation: rotations.cancel_rotation(CancelRotationRequest);
    ResumeRotation: rotations.resume_rotation(ResumeRotationRequest);
    CreateProvider: providers.create_provider(CreateProviderRequest);
    GetProvider: providers.get_provider(GetProviderRequest);
    ListProviders: providers.list_providers(ListProvidersRequest);
    UpdateProvider: providers.update_provider(UpdateProviderRequest);
    UpdateToken: providers.update_token(UpdateTokenRequest);
    RotateToken: providers.rotate_token(RotateTokenRequest);
    VerifyProvider: providers.verify_provider(VerifyProviderRequest);
    ListVerifications: providers.list_verifications(ListVerificationsRequest);
    DeleteProvider: providers.delete_provider(DeleteProviderRequest);
    VerifySipDigest: uses.verify_sip_digest(VerifySipDigestRequest);
    IssueSipChallenge: uses.issue_sip_challenge(IssueSipChallengeRequest);
    VerifyTwilioWebhook: uses.verify_twilio_webhook(VerifyTwilioWebhookRequest);
    MintTwilioAccessToken: uses.mint_twilio_access_token(MintTwilioAccessTokenRequest);
    BatchVerifySipDigest: uses.batch_verify_sip_digest(BatchVerifySipDigestRequest);
    ComputeSipDigest: uses.compute_sip_digest(ComputeSipDigestRequest);
    ListAuditEntries: audit.list_audit_entries(ListAuditEntriesRequest);
    CreateAccount: access.create_account(CreateAccountRequest);
    GetAccount: access.get_account(GetAccountRequest);
    ListAccounts: access.list_accounts(ListAccountsRequest);
    DisableAccount: access.disable_account(DisableAccountRequest);
    EnableAccount: access.enable_account(EnableAccountRequest);
    DeleteAccount: access.delete_account(DeleteAccountRequest);
    CreateApiToken: access.create_api_token(CreateApiTokenRequest);
    GetApiToken: access.get_api_token(GetApiTokenRequest);
    ListApiTokens: access.list_api_tokens(ListApiTokensRequest);
    RevokeApiToken: access.revoke_api_token(RevokeApiTokenRequest);
    CreateRecipientKey: access.create_recipient_key(CreateRecipientKeyRequest);
    ListRecipientKeys: access.list_recipient_keys(ListRecipientKeysRequest);
    RevokeRecipientKey: access.revoke_recipient_key(RevokeRecipientKeyRequest);
    GetDeliveryPolicy: access.get_delivery_policy(GetDeliveryPolicyRequest);
    UpdateDeliveryPolicy: access.update_delivery_policy(UpdateDeliveryPolicyRequest);
    GetAccessTokenPolicy: access.get_access_token_policy(GetAccessTokenPolicyRequest);
    UpdateAccessTokenPolicy: access.update_access_token_policy(UpdateAccessTokenPolicyRequest);
    SetRoleBinding: access.set_role_binding(SetRoleBindingRequest);
    ListRoleBindings: access.list_role_bindings(ListRoleBindingsRequest);
    DeleteRoleBinding: access.delete_role_binding(DeleteRoleBindingRequest);
}

impl Clients {
    pub(crate) async fn create(
        &self,
        request: CreateCredentialRequest,
    ) -> Result<(Credential, Option<IssuedSecret>), Status> {
        let answer = self.credentials.clone().create_credential(request).await?.into_inner();
        Ok((answer.credential.unwrap(), answer.issued))
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Credential, Status> {
        let request = GetCredentialRequest { name: name.to_owned() };
        let answer = self.credentials.clone().get_credential(request).await?.into_inner();
        Ok(answer.credential.unwrap())
    }

    pub(crate) async fn update(
        &self,
        request: UpdateCredentialRequest,
    ) -> Result<Credential, Status> {
        let answer = self.credentials.clone().update_credential(request).await?.into_inner();
        Ok(answer.credential.unwrap())
    }

    pub(crate) async fn rotate(
        &self,
        request: RotateCredentialRequest,
    ) -> Result<(Credential, IssuedSecret), Status> {
        let answer = self.credentials.clone().rotate_credential(request).await?.into_inner();
        Ok((answer.credential.unwrap(), answer.issued.unwrap()))
    }

    pub(crate) async fn delete(&self, request: DeleteCredentialRequest) -> Result<(), Status> {
        self.credentials.clone().delete_credential(request).await.map(drop)
    }

    pub(crate) async fn create_provider(
        &self,
        request: CreateProviderRequest,
    ) -> Result<Provider, Status> {
        let answer = self.providers.clone().create_provider(request).await?.into_inner();
        Ok(answer.provider.unwrap())
    }

    pub(crate) async fn get_provider(&self, name: &str) -> Result<Provider, Status> {
        let request = GetProviderRequest { name: name.to_owned() };
        let answer = self.providers.clone().get_provider(request).await?.into_inner();
        Ok(answer.provider.unwrap())
    }

    pub(crate) async fn update_provider(
        &self,
        request: UpdateProviderRequest,
    ) -> Result<Provider, Status> {
        let answer = self.providers.clone().update_provider(request).await?.into_inner();
        Ok(answer.provider.unwrap())
    }

    pub(crate) async fn update_token(
        &self,
        request: UpdateTokenRequest,
    ) -> Result<Provider, Status> {
        let answer = self.providers.clone().update_token(request).await?.into_inner();
        Ok(answer.provider.unwrap())
    }

    pub(crate) async fn verify_provider(&self, name: &str) -> Result<Provider, Status> {
        let request = VerifyProviderRequest { name: name.to_owned() };
        let answer = self.providers.clone().verify_provider(request).await?.into_inner();
        Ok(answer.provider.unwrap())
    }

    /// The whole audit log of `accounts/{account}`.
    pub(crate) async fn audit_log(&self, account: &str) -> Vec<AuditEntry> {
        let mut request = ListAuditEntriesRequest {
            parent: format!("accounts/{account}"),
            page_size: 200,
            ..Default::default()
        };
        let mut log = Vec::new();
        loop {
            let answer = self.audit.clone().list_audit_entries(request.clone()).await;
            let page = answer.unwrap().into_inner();
            log.extend(page.entries);
            if page.next_page_token.is_empty() {
                return log;
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// A call of any path with one message, whose field 1 holds these bytes.
pub(crate) async fn raw(
    vault: &TestVault,
    token: &str,
    path: &str,
    field_1: &[u8],
) -> Result<(), Status> {
    let wire = InterceptedService::new(channel(vault.address), Bearer(token.to_owned()));
    let mut client = tonic::client::Grpc::new(wire);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Vec<u8>, ()>::default();
    let request = tonic::Request::new(field_1.to_vec());
    client.unary(request, path.parse().unwrap(), codec).await.map(drop)
}
