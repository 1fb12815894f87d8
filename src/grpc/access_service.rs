//! `AccessService`.

use tonic::{Request, Response, Status};

use super::convert::{self, access as wire, access_token, rotation};
use super::proto::access_service_server::AccessService;
use super::proto::{
    CreateAccountRequest, CreateAccountResponse, CreateApiTokenRequest, CreateApiTokenResponse,
    CreateRecipientKeyRequest, CreateRecipientKeyResponse, DeleteAccountRequest,
    DeleteAccountResponse, DeleteRoleBindingRequest, DeleteRoleBindingResponse,
    DisableAccountRequest, DisableAccountResponse, EnableAccountRequest, EnableAccountResponse,
    GetAccessTokenPolicyRequest, GetAccessTokenPolicyResponse, GetAccountRequest,
    GetAccountResponse, GetApiTokenRequest, GetApiTokenResponse, GetDeliveryPolicyRequest,
    GetDeliveryPolicyResponse, ListAccountsRequest, ListAccountsResponse, ListApiTokensRequest,
    ListApiTokensResponse, ListRecipientKeysRequest, ListRecipientKeysResponse,
    ListRoleBindingsRequest, ListRoleBindingsResponse, RevokeApiTokenRequest,
    RevokeApiTokenResponse, RevokeRecipientKeyRequest, RevokeRecipientKeyResponse,
    SetRoleBindingRequest, SetRoleBindingResponse, UpdateAccessTokenPolicyRequest,
    UpdateAccessTokenPolicyResponse, UpdateDeliveryPolicyRequest, UpdateDeliveryPolicyResponse,
};
use super::{Service, accept};
use crate::name::Invalid;
use crate::vault::Error;

#[tonic::async_trait]
impl AccessService for Service {
    async fn create_account(
        &self,
        request: Request<CreateAccountRequest>,
    ) -> Result<Response<CreateAccountResponse>, Status> {
        let (caller, request) = accept(request)?;
        let id = convert::chosen_id("account_id", &request.account_id)?;
        let id = id.ok_or_else(|| Error::field("account_id", Invalid("is required")))?;
        let scope = self.vault.authorize_operator(&caller, &format!("accounts/{id}")).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let account = self.vault.create_account(&scope, id, &intent).await?;
        Ok(Response::new(CreateAccountResponse { account: Some(wire::account_to_wire(account)) }))
    }

    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<GetAccountResponse>, Status> {
        let (caller, request) = accept(request)?;
        let id = wire::account_name(&request.name)?;
        let scope = self.vault.authorize_operator(&caller, &request.name).await?;
        let account = self.vault.get_account(&scope, &id).await?;
        Ok(Response::new(GetAccountResponse { account: Some(wire::account_to_wire(account)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let scope = self.vault.authorize_operator(&caller, "vault").await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let listed = self.vault.list_accounts(&scope, page).await?;
        Ok(Response::new(ListAccountsResponse {
            accounts: listed.items.into_iter().map(wire::account_to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn disable_account(
        &self,
        request: Request<DisableAccountRequest>,
    ) -> Result<Response<DisableAccountResponse>, Status> {
        let (caller, request) = accept(request)?;
        let id = wire::account_name(&request.name)?;
        let scope = self.vault.authorize_operator(&caller, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let account = self.vault.disable_account(&scope, &id, &intent).await?;
        Ok(Response::new(DisableAccountResponse { account: Some(wire::account_to_wire(account)) }))
    }

    async fn enable_account(
        &self,
        request: Request<EnableAccountRequest>,
    ) -> Result<Response<EnableAccountResponse>, Status> {
        let (caller, request) = accept(request)?;
        let id = wire::account_name(&request.name)?;
        let scope = self.vault.authorize_operator(&caller, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let account = self.vault.enable_account(&scope, &id, &intent).await?;
        Ok(Response::new(EnableAccountResponse { account: Some(wire::account_to_wire(account)) }))
    }

    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, Status> {
        let (caller, request) = accept(request)?;
        let id = wire::account_name(&request.name)?;
        let scope = self.vault.authorize_operator(&caller, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        self.vault.delete_account(&scope, &id, &intent).await?;
        Ok(Response::new(DeleteAccountResponse {}))
    }

    async fn create_api_token(
        &self,
        request: Request<CreateApiTokenRequest>,
    ) -> Result<Response<CreateApiTokenResponse>, Status> {
        let (caller, request) = accept(request)?;
        let owner = wire::owner_name(&request.parent)?;
        let scope = self.vault.authorize_new_token(&caller, &owner).await?;
        let new = wire::new_token(&request)?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let made = self.vault.create_api_token(&scope, new, &intent).await?;
        Ok(Response::new(wire::new_token_to_wire(made)))
    }

    async fn get_api_token(
        &self,
        request: Request<GetApiTokenRequest>,
    ) -> Result<Response<GetApiTokenResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = wire::token_name(&request.name)?;
        let scope = self.vault.authorize_owner(&caller, &name.owner, &request.name).await?;
        let token = self.vault.get_api_token(&scope, &name.id).await?;
        Ok(Response::new(GetApiTokenResponse { api_token: Some(wire::token_to_wire(token)) }))
    }

    async fn list_api_tokens(
        &self,
        request: Request<ListApiTokensRequest>,
    ) -> Result<Response<ListApiTokensResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let owner = wire::owner_name(&request.parent)?;
        let scope = self.vault.authorize_owner(&caller, &owner, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let listed = self.vault.list_api_tokens(&scope, page).await?;
        Ok(Response::new(ListApiTokensResponse {
            api_tokens: listed.items.into_iter().map(wire::token_to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn revoke_api_token(
        &self,
        request: Request<RevokeApiTokenRequest>,
    ) -> Result<Response<RevokeApiTokenResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = wire::token_name(&request.name)?;
        let scope = self.vault.authorize_owner(&caller, &name.owner, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let token = self.vault.revoke_api_token(&scope, &name.id, &intent).await?;
        Ok(Response::new(RevokeApiTokenResponse { api_token: Some(wire::token_to_wire(token)) }))
    }

    async fn set_role_binding(
        &self,
        request: Request<SetRoleBindingRequest>,
    ) -> Result<Response<SetRoleBindingResponse>, Status> {
        let (caller, request) = accept(request)?;
        let owner = wire::owner_name(&request.parent)?;
        let scope = self.vault.authorize_owner(&caller, &owner, &request.parent).await?;
        let Some(binding) = &request.role_binding else {
            return Err(Error::field("role_binding", Invalid("is required")).into());
        };
        let principal = wire::principal("role_binding.principal", &binding.principal)?;
        let roles = wire::roles("role_binding.roles", &binding.roles)?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let binding = self.vault.set_role_binding(&scope, principal, roles, &intent).await?;
        let role_binding = Some(wire::binding_to_wire(binding));
        Ok(Response::new(SetRoleBindingResponse { role_binding }))
    }

    async fn list_role_bindings(
        &self,
        request: Request<ListRoleBindingsRequest>,
    ) -> Result<Response<ListRoleBindingsResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let owner = wire::owner_name(&request.parent)?;
        let scope = self.vault.authorize_owner(&caller, &owner, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let listed = self.vault.list_role_bindings(&scope, page).await?;
        Ok(Response::new(ListRoleBindingsResponse {
            role_bindings: listed.items.into_iter().map(wire::binding_to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn delete_role_binding(
        &self,
        request: Request<DeleteRoleBindingRequest>,
    ) -> Result<Response<DeleteRoleBindingResponse>, Status> {
        let (caller, request) = accept(request)?;
        let owner = wire::owner_name(&request.parent)?;
        let scope = self.vault.authorize_owner(&caller, &owner, &request.parent).await?;
        let principal = wire::principal("principal", &request.principal)?;
        let intent = convert::intent(&request, "", &request.reason)?;
        self.vault.delete_role_binding(&scope, principal, &intent).await?;
        Ok(Response::new(DeleteRoleBindingResponse {}))
    }

    async fn create_recipient_key(
        &self,
        request: Request<CreateRecipientKeyRequest>,
    ) -> Result<Response<CreateRecipientKeyResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let new = rotation::new_key(request)?;
        let key = self.vault.create_recipient_key(&scope, new, &intent).await?;
        let recipient_key = Some(rotation::key_to_wire(key));
        Ok(Response::new(CreateRecipientKeyResponse { recipient_key }))
    }

    async fn list_recipient_keys(
        &self,
        request: Request<ListRecipientKeysRequest>,
    ) -> Result<Response<ListRecipientKeysResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let listed = self.vault.list_recipient_keys(&scope, page).await?;
        Ok(Response::new(ListRecipientKeysResponse {
            recipient_keys: listed.items.into_iter().map(rotation::key_to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn revoke_recipient_key(
        &self,
        request: Request<RevokeRecipientKeyRequest>,
    ) -> Result<Response<RevokeRecipientKeyResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = rotation::key_name(&request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let key = self.vault.revoke_recipient_key(&scope, &name.id, &intent).await?;
        let recipient_key = Some(rotation::key_to_wire(key));
        Ok(Response::new(RevokeRecipientKeyResponse { recipient_key }))
    }

    async fn get_delivery_policy(
        &self,
        request: Request<GetDeliveryPolicyRequest>,
    ) -> Result<Response<GetDeliveryPolicyResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = rotation::policy_account("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &account, &request.name).await?;
        let policy = self.vault.delivery_policy(&scope);
        let delivery_policy = Some(rotation::policy_to_wire(scope.account(), policy));
        Ok(Response::new(GetDeliveryPolicyResponse { delivery_policy }))
    }

    async fn update_delivery_policy(
        &self,
        request: Request<UpdateDeliveryPolicyRequest>,
    ) -> Result<Response<UpdateDeliveryPolicyResponse>, Status> {
        let (caller, request) = accept(request)?;
        let policy = request.delivery_policy.clone().unwrap_or_default();
        let account = rotation::policy_account("delivery_policy.name", &policy.name)?;
        let scope = self.vault.authorize(&caller, &account, &policy.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        // Absent by mistake, it must not open what was closed.
        let asked = policy.enrolled_keys_only.ok_or_else(|| {
            Error::field("delivery_policy.enrolled_keys_only", Invalid("is required"))
        })?;
        let policy = self.vault.update_delivery_policy(&scope, asked, &intent).await?;
        let delivery_policy = Some(rotation::policy_to_wire(scope.account(), policy));
        Ok(Response::new(UpdateDeliveryPolicyResponse { delivery_policy }))
    }

    async fn get_access_token_policy(
        &self,
        request: Request<GetAccessTokenPolicyRequest>,
    ) -> Result<Response<GetAccessTokenPolicyResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = access_token::policy_account("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &account, &request.name).await?;
        let policy = self.vault.access_token_policy(&scope).await?;
        let access_token_policy = Some(access_token::policy_to_wire(scope.account(), policy));
        Ok(Response::new(GetAccessTokenPolicyResponse { access_token_policy }))
    }

    async fn update_access_token_policy(
        &self,
        request: Request<UpdateAccessTokenPolicyRequest>,
    ) -> Result<Response<UpdateAccessTokenPolicyResponse>, Status> {
        let (caller, request) = accept(request)?;
        let asked = request.access_token_policy.clone().unwrap_or_default();
        let account = access_token::policy_account("access_token_policy.name", &asked.name)?;
        let scope = self.vault.authorize(&caller, &account, &asked.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let policy = access_token::policy(&asked)?;
        let policy = self.vault.update_access_token_policy(&scope, policy, &intent).await?;
        let access_token_policy = Some(access_token::policy_to_wire(scope.account(), policy));
        Ok(Response::new(UpdateAccessTokenPolicyResponse { access_token_policy }))
    }
}
