//! Vobiz and Telepath: good tokens, refused ones, and carriers that repeat all that they were told.

use credvault::grpc::proto::{
    CreateProviderRequest, Provider, ResumeRotationRequest, RotateCredentialRequest,
    TelepathProvider, TelepathTrunk, UpdateTokenRequest, VerifyProviderRequest, VobizCredential,
    VobizProvider, credential::AtCarrier, provider::Kind,
};
use tonic::Code;

use super::{PARENT, Workload};
use crate::support::fakes::carrier::Fault;

const AUTH_ID: &str = "MA_XXXXXXXX";

impl Workload {
    /// Creates a provider at each, replaces its token, and tries tokens that fail.
    pub(super) async fn other_carriers(&mut self) -> Result<(), String> {
        let vobiz = Kind::Vobiz(VobizProvider { auth_id: AUTH_ID.to_owned() });
        let telepath = Kind::Telepath(TelepathProvider {});
        for (id, kind) in [("vobiz", vobiz), ("telepath", telepath)] {
            let create = |auth_token: &str| CreateProviderRequest {
                parent: PARENT.to_owned(),
                provider_id: id.to_owned(),
                provider: Some(Provider { kind: Some(kind.clone()), ..Provider::default() }),
                auth_token: auth_token.to_owned(),
                ..CreateProviderRequest::default()
            };
            let name = format!("{PARENT}/providers/{id}");
            let update = |auth_token: &str| UpdateTokenRequest {
                name: name.clone(),
                auth_token: auth_token.to_owned(),
                ..UpdateTokenRequest::default()
            };
            let first = self.password(&format!("the first token at {id}"));
            self.open_with(id, &first);
            let result = self.clients.providers.create_provider(create(&first)).await;
            self.good("CreateProvider", result)?;
            let second = self.password(&format!("the second token at {id}"));
            self.open_with(id, &second);
            let result = self.clients.providers.update_token(update(&second)).await;
            self.good("UpdateToken", result)?;
            let request = VerifyProviderRequest { name: name.clone() };
            let result = self.clients.providers.verify_provider(request).await;
            self.good("VerifyProvider", result)?;

            let long = self.password(&format!("a long token at {id}")).repeat(20);
            let result = self.clients.providers.update_token(update(&long)).await;
            self.bad("UpdateToken", Code::InvalidArgument, result)?;
            for (status, code) in [
                (200, Code::Unavailable),
                (401, Code::FailedPrecondition),
                (403, Code::FailedPrecondition),
                (418, Code::Unavailable),
                (429, Code::Unavailable),
                (503, Code::Unavailable),
            ] {
                let token = self.password(&format!("a token at {id} with {status}"));
                let body = format!(r#"{{"error": {{"code": "{token}", "message": "{token}"}}}}"#);
                let (headers, body) = (vec![("x-echo", token.clone())], body.into_bytes());
                let fault = Fault::StatusWith { status, headers, body };
                match id {
                    "vobiz" => self.others.0.fail_next(fault),
                    _ => self.others.1.fail_next(fault),
                }
                let result = self.clients.providers.update_token(update(&token)).await;
                self.bad("UpdateToken", code, result)?;
            }
            self.rotation_at(id, &second).await?;
        }
        Ok(())
    }

    /// Takes a credential over, and rotates it there: with a good answer, with a lost one, and refused.
    async fn rotation_at(&mut self, id: &str, token: &str) -> Result<(), String> {
        let user = format!("at-{id}");
        let first = self.password(&format!("the password in force at {id}"));
        let (vobiz, telepath) = &*self.others;
        let there = if id == "vobiz" {
            let credential_id = vobiz.add_credential(AUTH_ID, &user, &first);
            AtCarrier::Vobiz(VobizCredential { credential_id })
        } else {
            let trunk_id = telepath.add_trunk(token, &user, &first);
            AtCarrier::Telepath(TelepathTrunk { trunk_id })
        };
        let mut request = Self::new_credential(&user);
        request.password = Some(first.clone());
        let credential = request.credential.get_or_insert_default();
        credential.provider = format!("{PARENT}/providers/{id}");
        credential.at_carrier = Some(there);
        let result = self.clients.credentials.create_credential(request).await;
        self.good("CreateCredential", result)?;
        self.ha1(&user, &first);
        let rotate = |request_id| RotateCredentialRequest {
            name: Self::name(&user),
            request_id,
            ..RotateCredentialRequest::default()
        };
        let request = rotate(self.rng.uuid4());
        let result = self.clients.credentials.rotate_credential(request).await;
        let rotated = self.good("RotateCredential", result)?;
        let second = self.issued(&user, rotated.issued)?;
        self.verify(&user, &second, true).await?;

        let lost = Fault::CloseAfterEffect;
        let (vobiz, telepath) = &*self.others;
        match id {
            "vobiz" => vobiz.fail_next(lost),
            _ => telepath.fail_next(lost),
        }
        let request = rotate(self.rng.uuid4());
        let result = self.clients.credentials.rotate_credential(request.clone()).await;
        let begun = self.good("RotateCredential", result)?;
        let name = begun.rotation.unwrap_or_default().name;
        // It goes on by itself as well.
        let resume = ResumeRotationRequest { name, ..ResumeRotationRequest::default() };
        drop(self.clients.rotations.resume_rotation(resume).await);
        let result = self.clients.credentials.rotate_credential(request.clone()).await;
        let rotated = self.good("RotateCredential", result)?;
        let third = self.issued(&user, rotated.issued)?;
        self.verify(&user, &third, true).await?;
        let again = self.clients.credentials.rotate_credential(request).await;
        self.bad("RotateCredential again", Code::FailedPrecondition, again)?;

        let echoed = self.password(&format!("what {id} says of a refused rotation"));
        let body = format!(r#"{{"error": {{"code": "{echoed}", "message": "{echoed}"}}}}"#);
        let (headers, body) = (vec![("x-echo", echoed)], body.into_bytes());
        let fault = Fault::StatusWith { status: 401, headers, body };
        let (vobiz, telepath) = &*self.others;
        match id {
            "vobiz" => vobiz.fail_next(fault),
            _ => telepath.fail_next(fault),
        }
        let request = rotate(self.rng.uuid4());
        let result = self.clients.credentials.rotate_credential(request).await;
        self.bad("RotateCredential", Code::FailedPrecondition, result)
    }

    /// Has a carrier take this token.
    fn open_with(&self, id: &str, token: &str) {
        let (vobiz, telepath) = &*self.others;
        match id {
            "vobiz" => vobiz.add_account(AUTH_ID, token),
            _ => telepath.add_account(token),
        }
    }
}
