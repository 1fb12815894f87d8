//! `UseService`.

use tonic::{Request, Response, Status};

use super::convert::{self, credential, digest};
use super::proto::use_service_server::UseService;
use super::proto::{VerifySipDigestRequest, VerifySipDigestResponse};
use super::{Service, accept};

#[tonic::async_trait]
impl UseService for Service {
    async fn verify_sip_digest(
        &self,
        request: Request<VerifySipDigestRequest>,
    ) -> Result<Response<VerifySipDigestResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let (digest, response) = digest::digest(&request)?;
        let source = digest::source(&request)?;
        let matched =
            self.vault.verify_sip_digest(&scope, &digest, &response, source.as_ref()).await?;
        Ok(Response::new(match matched {
            None => VerifySipDigestResponse::default(),
            Some(matched) => VerifySipDigestResponse {
                valid: true,
                credential: matched.credential.to_string(),
                version: convert::count(matched.version),
                version_state: credential::version_state(matched.state).into(),
                rspauth: matched.rspauth.unwrap_or_default(),
            },
        }))
    }
}
