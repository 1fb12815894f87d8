//! Tokens that Twilio makes: sealed for a recipient they leave, as they are never.

use credvault::crypto;
use credvault::crypto::delivery::PrivateKey;
use credvault::grpc::proto::recipient::Key;
use credvault::grpc::proto::{
    CancelRotationRequest, ConfirmRotationRequest, CreateProviderRequest, GetRotationRequest,
    Provider, Recipient, RotateTokenRequest, Rotation, RotationState, TwilioProvider,
    VerifyProviderRequest, VerifyTwilioWebhookRequest, provider::Kind,
};
use credvault::secret::SecretText;
use tonic::Code;

use super::{PARENT, Workload};
use crate::support::fakes::carrier::Fault;

impl Workload {
    /// Rotates a token for a recipient, with good and wrong proofs, once to its end and once given up, with a lost answer
    /// and with a refusal that repeats what it was told.
    pub(super) async fn rotated_tokens(&mut self) -> Result<(), String> {
        let account_sid = format!("AC{}", "2".repeat(32));
        let first = self.carrier_token("the token before its rotation");
        self.twilio.add_account(&account_sid, &first);
        let kind = Kind::Twilio(TwilioProvider {
            account_sid: account_sid.clone(),
            ..TwilioProvider::default()
        });
        let request = CreateProviderRequest {
            parent: PARENT.to_owned(),
            provider_id: "rotated".to_owned(),
            provider: Some(Provider { kind: Some(kind), ..Provider::default() }),
            auth_token: first.clone(),
            ..CreateProviderRequest::default()
        };
        let result = self.clients.providers.create_provider(request).await;
        self.good("CreateProvider", result)?;
        let name = format!("{PARENT}/providers/rotated");
        self.webhooks(&name, &first).await?;
        let key = PrivateKey::generate().unwrap();
        let public = key.public_key().unwrap().as_bytes().to_vec();
        self.secret("the recipient's private key", &hex::encode(key.as_bytes()));
        for confirms in [true, false] {
            if !confirms {
                self.twilio.fail_call("POST /v1/AuthTokens/Secondary", 0, Fault::CloseAfterEffect);
            }
            let request = RotateTokenRequest {
                name: name.clone(),
                require_confirmation: true,
                recipient: Some(Recipient { key: Some(Key::HpkePublicKey(public.clone())) }),
                request_id: self.rng.uuid4(),
                ..RotateTokenRequest::default()
            };
            let result = self.clients.providers.rotate_token(request).await;
            let begun = self.good("RotateToken", result)?;
            let rotation = begun.rotation.unwrap_or_default().name;
            let sealed = loop {
                let request = GetRotationRequest { name: rotation.clone() };
                let result = self.clients.rotations.get_rotation(request).await;
                let answer = self.good("GetRotation", result)?;
                let state = answer.rotation.as_ref().map(Rotation::state);
                if state == Some(RotationState::Holding) {
                    break answer.sealed;
                }
                tokio::task::yield_now().await;
            };
            let token = self.open(&key, sealed)?;
            let proof = |secret: &str| {
                crypto::proof_of(&SecretText::new(secret.to_owned()), &rotation).to_vec()
            };
            let confirmation = |proof| ConfirmRotationRequest {
                name: rotation.clone(),
                proof,
                ..ConfirmRotationRequest::default()
            };
            let wrong = self.carrier_token("a token that somebody took for the new one");
            let result = self.clients.rotations.confirm_rotation(confirmation(proof(&wrong))).await;
            self.bad("ConfirmRotation with a wrong proof", Code::InvalidArgument, result)?;
            self.secret("a proof", &hex::encode(proof(&token)));
            if confirms {
                let result = self.clients.rotations.confirm_rotation(confirmation(proof(&token)));
                let result = result.await;
                self.good("ConfirmRotation", result)?;
            } else {
                let request =
                    CancelRotationRequest { name: rotation.clone(), ..Default::default() };
                let result = self.clients.rotations.cancel_rotation(request).await;
                self.good("CancelRotation", result)?;
            }
            self.until_ended(&rotation).await?;
            let request = VerifyProviderRequest { name: name.clone() };
            let result = self.clients.providers.verify_provider(request).await;
            self.good("VerifyProvider", result)?;
        }
        let echo = self.password("what Twilio says of a token to make");
        let body = format!(r#"{{"message": "{echo}", "auth_token": "{echo}"}}"#).into_bytes();
        let fault = Fault::StatusWith { status: 401, headers: vec![("x-echo", echo)], body };
        self.twilio.fail_call("POST /v1/AuthTokens/Secondary", 0, fault);
        let request = RotateTokenRequest { name, ..RotateTokenRequest::default() };
        let result = self.clients.providers.rotate_token(request).await;
        self.bad("RotateToken, refused", Code::FailedPrecondition, result)
    }

    /// A webhook that the token signed, and one that it did not. What people say and type is in it.
    async fn webhooks(&mut self, name: &str, token: &str) -> Result<(), String> {
        let url = format!("https://example.com/voice?key={}", self.password("a key in a URL"));
        let typed = self.password("what somebody typed");
        let fields = [("Digits", typed.as_str())];
        let good = crate::webhooks::sign(token, &url, &fields);
        for signature in [good, String::new(), "x".to_owned()] {
            let valid = signature.len() > 1;
            let (name, url) = (name.to_owned(), url.clone());
            let content = Some(crate::webhooks::form(&fields));
            let request = VerifyTwilioWebhookRequest { name, url, content, signature };
            let result = self.clients.uses.verify_twilio_webhook(request).await;
            let answer = self.good("VerifyTwilioWebhook", result)?;
            if answer.valid != valid {
                return Err(format!("a webhook: valid is not {valid}"));
            }
        }
        Ok(())
    }

    async fn until_ended(&mut self, name: &str) -> Result<(), String> {
        loop {
            let request = GetRotationRequest { name: name.to_owned() };
            let result = self.clients.rotations.get_rotation(request).await;
            let answer = self.good("GetRotation", result)?;
            if answer.rotation.is_some_and(|rotation| rotation.end_time.is_some()) {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}
