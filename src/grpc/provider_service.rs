//! `ProviderService`.

use tonic::{Request, Response, Status};

use super::convert::{self, provider as wire, rotation};
use super::proto::provider_service_server::ProviderService;
use super::proto::{
    CreateProviderRequest, CreateProviderResponse, DeleteProviderRequest, DeleteProviderResponse,
    GetProviderRequest, GetProviderResponse, ListProvidersRequest, ListProvidersResponse,
    ListVerificationsRequest, ListVerificationsResponse, RotateTokenRequest, RotateTokenResponse,
    UpdateProviderRequest, UpdateProviderResponse, UpdateTokenRequest, UpdateTokenResponse,
    VerifyProviderRequest, VerifyProviderResponse,
};
use super::{Service, accept};
use crate::vault::TokenUpdate;

#[tonic::async_trait]
impl ProviderService for Service {
    async fn create_provider(
        &self,
        request: Request<CreateProviderRequest>,
    ) -> Result<Response<CreateProviderResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let request_id = if request.validate_only { "" } else { &request.request_id };
        let intent = convert::intent(&request, request_id, &request.reason)?;
        let new = wire::new_provider(request)?;
        let provider = self.vault.create_provider(&scope, new, &intent).await?;
        let provider = Some(wire::to_wire(provider));
        Ok(Response::new(CreateProviderResponse { provider }))
    }

    async fn get_provider(
        &self,
        request: Request<GetProviderRequest>,
    ) -> Result<Response<GetProviderResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::provider_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let provider = self.vault.get_provider(&scope, &name.id).await?;
        let provider = Some(wire::to_wire(provider));
        Ok(Response::new(GetProviderResponse { provider }))
    }

    async fn list_providers(
        &self,
        request: Request<ListProvidersRequest>,
    ) -> Result<Response<ListProvidersResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let filter = wire::filter(request.filter)?;
        let listed = self.vault.list_providers(&scope, filter, page).await?;
        Ok(Response::new(ListProvidersResponse {
            providers: listed.items.into_iter().map(wire::to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn update_provider(
        &self,
        request: Request<UpdateProviderRequest>,
    ) -> Result<Response<UpdateProviderResponse>, Status> {
        let (caller, request) = accept(request)?;
        let resource = request.provider.clone().unwrap_or_default();
        let name = convert::provider_name("provider.name", &resource.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &resource.name).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let etag = convert::etag(resource.etag.clone());
        let changes = wire::changes(resource, request.update_mask)?;
        let provider =
            self.vault.update_provider(&scope, &name.id, etag.as_ref(), changes, &intent).await?;
        let provider = Some(wire::to_wire(provider));
        Ok(Response::new(UpdateProviderResponse { provider }))
    }

    async fn update_token(
        &self,
        request: Request<UpdateTokenRequest>,
    ) -> Result<Response<UpdateTokenResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::provider_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let request_id = if request.validate_only { "" } else { &request.request_id };
        let intent = convert::intent(&request, request_id, &request.reason)?;
        let update = TokenUpdate {
            token: wire::token(request.auth_token, request.api_key)?,
            etag: convert::etag(request.etag),
            validate_only: request.validate_only,
        };
        let provider = self.vault.update_token(&scope, &name.id, update, &intent).await?;
        let provider = Some(wire::to_wire(provider));
        Ok(Response::new(UpdateTokenResponse { provider }))
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Result<Response<RotateTokenResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::provider_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let etag = convert::etag(request.etag.clone());
        let how = rotation::new_token_rotation(request, &name.account)?;
        let (provider, rotation) =
            self.vault.rotate_token(&scope, &name.id, etag.as_ref(), how, &intent).await?;
        let (provider, rotation) = (wire::to_wire(provider), rotation::to_wire(rotation));
        Ok(Response::new(RotateTokenResponse {
            provider: Some(provider),
            rotation: Some(rotation),
        }))
    }

    async fn verify_provider(
        &self,
        request: Request<VerifyProviderRequest>,
    ) -> Result<Response<VerifyProviderResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::provider_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let provider = self.vault.verify_provider(&scope, &name.id).await?;
        let provider = Some(wire::to_wire(provider));
        Ok(Response::new(VerifyProviderResponse { provider }))
    }

    async fn list_verifications(
        &self,
        request: Request<ListVerificationsRequest>,
    ) -> Result<Response<ListVerificationsResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let name = convert::provider_name("parent", &request.parent)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let listed = self.vault.list_verifications(&scope, &name.id, page).await?;
        Ok(Response::new(ListVerificationsResponse {
            verifications: listed.items.into_iter().map(wire::verification_to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn delete_provider(
        &self,
        request: Request<DeleteProviderRequest>,
    ) -> Result<Response<DeleteProviderResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::provider_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let etag = convert::etag(request.etag);
        self.vault.delete_provider(&scope, &name.id, etag.as_ref(), &intent).await?;
        Ok(Response::new(DeleteProviderResponse {}))
    }
}
