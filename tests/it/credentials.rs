//! Credentials: issue, rotate, update, delete.

use credvault::grpc::proto::{
    CreateCredentialRequest, Credential, GetCredentialRequest, RotateCredentialRequest,
    VerifySipDigestRequest,
};

use crate::support::{Clients, TestVault, md5_response};

/// A request for a credential of this username.
pub(crate) fn create(username: &str) -> CreateCredentialRequest {
    CreateCredentialRequest {
        parent: "accounts/acme".to_owned(),
        credential: Some(Credential {
            username: username.to_owned(),
            realm: "sip.test".to_owned(),
            ..Credential::default()
        }),
        ..CreateCredentialRequest::default()
    }
}

/// Whether `password` verifies for `username` now.
pub(crate) async fn verifies(clients: &mut Clients, username: &str, password: &str) -> bool {
    let answer = clients.uses.verify_sip_digest(VerifySipDigestRequest {
        parent: "accounts/acme".to_owned(),
        username: username.to_owned(),
        realm: "sip.test".to_owned(),
        method: "REGISTER".to_owned(),
        uri: "sip:sip.test".to_owned(),
        nonce: "n0nce".to_owned(),
        response: md5_response(username, "sip.test", password, "n0nce"),
        ..VerifySipDigestRequest::default()
    });
    answer.await.unwrap().into_inner().valid
}

#[tokio::test]
async fn a_password_is_issued_once_and_a_rotation_kills_the_old_one_at_once() {
    let vault = TestVault::start().await;
    let mut acme = vault.acme().await;

    let created = acme.credentials.create_credential(create("alice")).await.unwrap().into_inner();
    let (credential, first) = (created.credential.unwrap(), created.issued.unwrap());
    assert_eq!((credential.version, first.version), (1, 1));
    assert!(verifies(&mut acme, "alice", &first.password).await);

    let request = RotateCredentialRequest { name: credential.name.clone(), ..Default::default() };
    let rotated = acme.credentials.rotate_credential(request).await.unwrap().into_inner();
    let (after, second) = (rotated.credential.unwrap(), rotated.issued.unwrap());
    assert_eq!((after.version, second.version, after.username.as_str()), (2, 2, "alice"));
    assert_ne!(first.password, second.password);
    assert_ne!(after.etag, credential.etag);
    assert!(!verifies(&mut acme, "alice", &first.password).await);
    assert!(verifies(&mut acme, "alice", &second.password).await);

    let vault = vault.restart().await;
    let mut acme = vault.acme().await;
    let request = GetCredentialRequest { name: credential.name };
    let got = acme.credentials.get_credential(request).await.unwrap().into_inner();
    assert_eq!(got.credential.unwrap(), after, "a restart forgets nothing");
    assert!(verifies(&mut acme, "alice", &second.password).await);
}
