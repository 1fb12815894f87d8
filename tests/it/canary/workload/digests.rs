//! Digests with nonces of the vault's own, and bodies that hold keys.

use sha2::{Digest as _, Sha256};

use super::*;

impl Workload {
    /// Challenges, and what a phone answers: right, again, late, and wrong.
    pub(super) async fn digests(&mut self) -> Result<(), String> {
        let user = "digests";
        let result = self.clients.credentials.create_credential(Self::new_credential(user)).await;
        let created = self.good("CreateCredential", result)?;
        let password = self.issued(user, created.issued)?;
        let request = IssueSipChallengeRequest {
            parent: PARENT.to_owned(),
            realm: REALM.to_owned(),
            algorithm: "SHA-256-sess".to_owned(),
            qop: vec!["auth-int".to_owned()],
            ..Default::default()
        };
        let result = self.clients.uses.issue_sip_challenge(request).await;
        let challenge = self.good("IssueSipChallenge", result)?;
        let body = self.password("a key in a body").into_bytes();
        let h = |text: &str| hex::encode(Sha256::digest(text));
        let ha1 = h(&format!("{user}:{REALM}:{password}"));
        let nonce = &challenge.nonce;
        let session = h(&format!("{ha1}:{nonce}:c"));
        self.secret("the HA1 of a session", &session);
        let ha2 = h(&format!("INVITE:sip:{REALM}:{}", hex::encode(Sha256::digest(&body))));
        let mut request = VerifySipDigestRequest {
            parent: PARENT.to_owned(),
            username: user.to_owned(),
            realm: REALM.to_owned(),
            method: "INVITE".to_owned(),
            uri: format!("sip:{REALM}"),
            nonce: nonce.clone(),
            nc: "00000001".to_owned(),
            cnonce: "c".to_owned(),
            qop: "auth-int".to_owned(),
            algorithm: challenge.algorithm.clone(),
            response: h(&format!("{session}:{nonce}:00000001:c:auth-int:{ha2}")),
            body,
            check_nonce: true,
            ..Default::default()
        };
        for reason in [InvalidReason::Unspecified, InvalidReason::NonceReplayed] {
            let result = self.clients.uses.verify_sip_digest(request.clone()).await;
            let answer = self.good("VerifySipDigest", result)?;
            if answer.invalid_reason() != reason {
                return Err(format!("{:?}, not {reason:?}", answer.invalid_reason()));
            }
        }
        "auth".clone_into(&mut request.qop);
        let result = self.clients.uses.verify_sip_digest(request).await;
        self.bad("a body without auth-int", Code::InvalidArgument, result)?;
        self.computed(user, &challenge).await
    }

    /// The vault answers its own challenge, and checks that in a batch, beside what is no digest.
    async fn computed(
        &mut self,
        user: &str,
        challenge: &IssueSipChallengeResponse,
    ) -> Result<(), String> {
        let mut request = ComputeSipDigestRequest {
            name: Self::name(user),
            method: "REGISTER".to_owned(),
            uri: format!("sip:{REALM}"),
            realm: REALM.to_owned(),
            nonce: challenge.nonce.clone(),
            algorithm: challenge.algorithm.clone(),
            qop: "auth-int".to_owned(),
            nonce_count: 7,
            ..Default::default()
        };
        let result = self.clients.uses.compute_sip_digest(request.clone()).await;
        let answer = self.good("ComputeSipDigest", result)?;
        let right = VerifySipDigestRequest {
            username: answer.username,
            realm: answer.realm,
            method: "REGISTER".to_owned(),
            uri: answer.uri,
            nonce: answer.nonce,
            nc: answer.nc,
            cnonce: answer.cnonce,
            qop: answer.qop,
            algorithm: answer.algorithm,
            response: answer.response,
            check_nonce: true,
            ..Default::default()
        };
        let response = self.password("a password as response in a batch");
        let wrong = VerifySipDigestRequest { response, ..right.clone() };
        let (parent, requests) = (PARENT.to_owned(), vec![right, wrong]);
        let batch = BatchVerifySipDigestRequest { parent, requests };
        let result = self.clients.uses.batch_verify_sip_digest(batch).await;
        let found = self.good("BatchVerifySipDigest", result)?.outcomes;
        let [
            Some(sip_digest_outcome::Outcome::Response(right)),
            Some(sip_digest_outcome::Outcome::Error(_)),
        ] = [0, 1].map(|it| found[it].outcome.clone())
        else {
            return Err(format!("{found:?}"));
        };
        if !right.valid {
            return Err("what the vault computes does not verify".to_owned());
        }
        request.opaque = self.password("a password as opaque") + "\n";
        let result = self.clients.uses.compute_sip_digest(request).await;
        self.bad("a password as opaque", Code::InvalidArgument, result)
    }
}
