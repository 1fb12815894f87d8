//! `AuditService`.

use tonic::{Request, Response, Status};

use super::convert::{self, audit as wire};
use super::proto::audit_service_server::AuditService;
use super::proto::{ListAuditEntriesRequest, ListAuditEntriesResponse};
use super::{Service, accept};

#[tonic::async_trait]
impl AuditService for Service {
    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let (caller, mut request) = accept(request)?;
        let owner = convert::access::owner_name(&request.parent)?;
        let scope = self.vault.authorize_owner(&caller, &owner, &request.parent).await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let page = convert::page(size, token, &request)?;
        let resource = request.filter.map(|filter| filter.resource);
        let resource = resource.filter(|resource| !resource.is_empty());
        let listed = self.vault.list_audit_entries(&scope, resource, page).await?;
        Ok(Response::new(ListAuditEntriesResponse {
            entries: listed.items.into_iter().map(wire::to_wire).collect(),
            next_page_token: listed.next_page_token,
        }))
    }
}
