//! `CredentialService`.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::convert::{self, credential as wire, rotation};
use super::proto::credential_service_server::CredentialService;
use super::proto::{
    CreateCredentialRequest, CreateCredentialResponse, DeleteCredentialRequest,
    DeleteCredentialResponse, GetCredentialRequest, GetCredentialResponse, ListCredentialsRequest,
    ListCredentialsResponse, ListVersionsRequest, ListVersionsResponse, RotateCredentialRequest,
    RotateCredentialResponse, UpdateCredentialRequest, UpdateCredentialResponse,
    WatchCredentialsRequest, WatchCredentialsResponse,
};
use super::{Service, accept};
use crate::vault::Error;

#[tonic::async_trait]
impl CredentialService for Service {
    async fn create_credential(
        &self,
        request: Request<CreateCredentialRequest>,
    ) -> Result<Response<CreateCredentialResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let new = wire::new_credential(request, &account)?;
        let made = self.vault.create_credential(&scope, new, &intent).await?;
        let (issued, sealed) = wire::secret_to_wire(made.secret);
        Ok(Response::new(CreateCredentialResponse {
            credential: Some(wire::to_wire(made.credential, None)),
            issued,
            sealed,
            rotation: made.rotation.map(rotation::to_wire),
        }))
    }

    async fn get_credential(
        &self,
        request: Request<GetCredentialRequest>,
    ) -> Result<Response<GetCredentialResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::credential_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let view = self.vault.get_credential(&scope, &name.id).await?;
        let credential = Some(wire::view_to_wire(view));
        Ok(Response::new(GetCredentialResponse { credential }))
    }

    async fn list_credentials(
        &self,
        request: Request<ListCredentialsRequest>,
    ) -> Result<Response<ListCredentialsResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let filter = wire::filter(request.filter, &account)?;
        let listed = self.vault.list_credentials(&scope, filter, page).await?;
        Ok(Response::new(ListCredentialsResponse {
            credentials: listed.items.into_iter().map(wire::view_to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn update_credential(
        &self,
        request: Request<UpdateCredentialRequest>,
    ) -> Result<Response<UpdateCredentialResponse>, Status> {
        let (caller, request) = accept(request)?;
        let resource = request.credential.clone().unwrap_or_default();
        let name = convert::credential_name("credential.name", &resource.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &resource.name).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let etag = convert::etag(resource.etag.clone());
        let changes =
            wire::changes(resource, &name.account, request.update_mask, request.password)?;
        let credential =
            self.vault.update_credential(&scope, &name.id, etag.as_ref(), changes, &intent).await?;
        let credential = Some(wire::to_wire(credential, None));
        Ok(Response::new(UpdateCredentialResponse { credential }))
    }

    async fn rotate_credential(
        &self,
        request: Request<RotateCredentialRequest>,
    ) -> Result<Response<RotateCredentialResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::credential_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let etag = convert::etag(request.etag.clone());
        let how = wire::new_rotation(request, &name.account)?;
        let made =
            self.vault.rotate_credential(&scope, &name.id, etag.as_ref(), how, &intent).await?;
        let (issued, sealed) = wire::secret_to_wire(made.secret);
        Ok(Response::new(RotateCredentialResponse {
            credential: Some(wire::to_wire(made.credential, None)),
            issued,
            sealed,
            rotation: made.rotation.map(rotation::to_wire),
        }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::credential_name("parent", &request.parent)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.parent).await?;
        let versions = self.vault.list_versions(&scope, &name.id).await?;
        let versions = versions.into_iter().map(wire::version_to_wire).collect();
        Ok(Response::new(ListVersionsResponse { versions }))
    }

    type WatchCredentialsStream = BoxStream<'static, Result<WatchCredentialsResponse, Status>>;

    async fn watch_credentials(
        &self,
        request: Request<WatchCredentialsRequest>,
    ) -> Result<Response<Self::WatchCredentialsStream>, Status> {
        let (caller, mut request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let token = std::mem::take(&mut request.resume_token);
        let vault = Arc::clone(&self.vault);
        let watch = vault.watch_credentials(caller, scope, &token, request.encode_to_vec()).await?;
        // Asked for the next one when HTTP/2 has room for it, so who does not read has nothing read.
        let told = stream::try_unfold(watch, async |mut watch| {
            let told = watch.next().await?;
            Ok::<_, Error>(Some((wire::told_to_wire(told), watch)))
        });
        Ok(Response::new(told.map_err(Status::from).boxed()))
    }

    async fn delete_credential(
        &self,
        request: Request<DeleteCredentialRequest>,
    ) -> Result<Response<DeleteCredentialResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::credential_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let intent = convert::intent(&request, &request.request_id, &request.reason)?;
        let etag = convert::etag(request.etag);
        self.vault.delete_credential(&scope, &name.id, etag.as_ref(), &intent).await?;
        Ok(Response::new(DeleteCredentialResponse {}))
    }
}
