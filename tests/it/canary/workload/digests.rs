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
        self.bad("a body without auth-int", Code::InvalidArgument, result)
    }
}
