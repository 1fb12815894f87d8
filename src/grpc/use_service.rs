//! `UseService`.

use tonic::{Request, Response, Status};

use super::convert::{self, access_token, digest, webhook};
use super::proto::use_service_server::UseService;
use super::proto::{
    BatchVerifySipDigestRequest, BatchVerifySipDigestResponse, ComputeSipDigestRequest,
    ComputeSipDigestResponse, IssueSipChallengeRequest, IssueSipChallengeResponse,
    MintTwilioAccessTokenRequest, MintTwilioAccessTokenResponse, VerifySipDigestRequest,
    VerifySipDigestResponse, VerifyTwilioWebhookRequest, VerifyTwilioWebhookResponse,
};
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
        let presented = digest::presented(&request)?;
        let verdict = self.vault.verify_sip_digest(&scope, &presented).await?;
        Ok(Response::new(digest::verdict(verdict)))
    }

    async fn issue_sip_challenge(
        &self,
        request: Request<IssueSipChallengeRequest>,
    ) -> Result<Response<IssueSipChallengeResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let new = digest::new_challenge(&request)?;
        let made = self.vault.issue_sip_challenge(&scope, &new)?;
        Ok(Response::new(digest::challenge(new, made, request.stale)))
    }

    async fn verify_twilio_webhook(
        &self,
        request: Request<VerifyTwilioWebhookRequest>,
    ) -> Result<Response<VerifyTwilioWebhookResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::provider_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let signature = request.signature.clone();
        let webhook = webhook::webhook(request)?;
        let verdict =
            self.vault.verify_twilio_webhook(&scope, &name.id, &webhook, &signature).await?;
        Ok(Response::new(webhook::verdict_to_wire(verdict)))
    }

    async fn mint_twilio_access_token(
        &self,
        request: Request<MintTwilioAccessTokenRequest>,
    ) -> Result<Response<MintTwilioAccessTokenResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::provider_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let (grants, lifetime) = access_token::grants(request)?;
        let minted = self.vault.mint_twilio_access_token(&scope, &name.id, &grants, lifetime);
        Ok(Response::new(access_token::minted_to_wire(minted.await?)))
    }

    async fn batch_verify_sip_digest(
        &self,
        request: Request<BatchVerifySipDigestRequest>,
    ) -> Result<Response<BatchVerifySipDigestResponse>, Status> {
        let (caller, request) = accept(request)?;
        let account = convert::account_name(&request.parent)?;
        let scope = self.vault.authorize(&caller, &account, &request.parent).await?;
        let batch = digest::batch(&request)?;
        let verdicts = self.vault.batch_verify_sip_digest(&scope, batch).await;
        Ok(Response::new(digest::outcomes(verdicts)))
    }

    async fn compute_sip_digest(
        &self,
        request: Request<ComputeSipDigestRequest>,
    ) -> Result<Response<ComputeSipDigestResponse>, Status> {
        let (caller, request) = accept(request)?;
        let name = convert::credential_name("name", &request.name)?;
        let scope = self.vault.authorize(&caller, &name.account, &request.name).await?;
        let (new, opaque) = digest::new_answer(&request)?;
        let computed = self.vault.compute_sip_digest(&scope, &name.id, new).await?;
        Ok(Response::new(digest::computed(computed, opaque.as_ref())))
    }
}
