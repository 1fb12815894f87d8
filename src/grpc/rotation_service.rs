//! `RotationService`.

use tonic::{Request, Response, Status};

use super::convert::{self, rotation as wire};
use super::proto::rotation_service_server::RotationService;
use super::proto::{
    CancelRotationRequest, CancelRotationResponse, ConfirmRotationRequest, ConfirmRotationResponse,
    GetRotationRequest, GetRotationResponse, ListRotationsRequest, ListRotationsResponse,
    ResumeRotationRequest, ResumeRotationResponse,
};
use super::{Service, accept};

#[tonic::async_trait]
impl RotationService for Service {
    async fn get_rotation(
        &self,
        request: Request<GetRotationRequest>,
    ) -> Result<Response<GetRotationResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = wire::name(&request.name)?;
        let scope = self.vault.authorize(&caller, name.parent.account(), &request.name).await?;
        let (rotation, sealed) = self.vault.get_rotation(&scope, &name).await?;
        Ok(Response::new(GetRotationResponse {
            rotation: Some(wire::to_wire(rotation)),
            sealed: sealed.map(wire::sealed_to_wire),
        }))
    }

    async fn list_rotations(
        &self,
        request: Request<ListRotationsRequest>,
    ) -> Result<Response<ListRotationsResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let (account, parent) = wire::parent(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let filter = wire::filter(request.filter)?;
        let listed = self.vault.list_rotations(&scope, parent.as_ref(), filter, page).await?;
        Ok(Response::new(ListRotationsResponse {
            rotations: listed.items.into_iter().map(wire::to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn confirm_rotation(
        &self,
        request: Request<ConfirmRotationRequest>,
    ) -> Result<Response<ConfirmRotationResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = wire::name(&request.name)?;
        let scope = self.vault.authorize_rotation(&caller, &name.parent, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let proof = wire::proof(&request.proof)?;
        let rotation = self.vault.confirm_rotation(&scope, &name, proof.as_ref(), &intent).await?;
        Ok(Response::new(ConfirmRotationResponse { rotation: Some(wire::to_wire(rotation)) }))
    }

    async fn cancel_rotation(
        &self,
        request: Request<CancelRotationRequest>,
    ) -> Result<Response<CancelRotationResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = wire::name(&request.name)?;
        let scope = self.vault.authorize_rotation(&caller, &name.parent, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let rotation = self.vault.cancel_rotation(&scope, &name, &intent).await?;
        Ok(Response::new(CancelRotationResponse { rotation: Some(wire::to_wire(rotation)) }))
    }

    async fn resume_rotation(
        &self,
        request: Request<ResumeRotationRequest>,
    ) -> Result<Response<ResumeRotationResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = wire::name(&request.name)?;
        let scope = self.vault.authorize_rotation(&caller, &name.parent, &request.name).await?;
        let intent = convert::intent(&request, "", &request.reason)?;
        let rotation = self.vault.resume_rotation(&scope, &name, &intent).await?;
        Ok(Response::new(ResumeRotationResponse { rotation: Some(wire::to_wire(rotation)) }))
    }
}
