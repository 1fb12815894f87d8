//! Whether the vault does what it is measured for, asked with a real tonic client before anything is measured. The
//! load itself looks at every message, but at no trailers.

use credvault::grpc::proto::credential_service_client::CredentialServiceClient;
use credvault::grpc::proto::use_service_client::UseServiceClient;
use credvault::grpc::proto::{
    CreateCredentialRequest, Credential, GetCredentialRequest, IssuedSecret,
    RotateCredentialRequest,
};
use tonic::Request;
use tonic::transport::Channel;

use crate::calls;
use crate::server::Server;

const REALM: &str = "check.example.com";

/// Creates, reads, rotates and verifies; a password verifies until it is rotated, and the next one after.
pub(crate) async fn right_answers(server: &Server) {
    let target = &server.target;
    let channel = Channel::from_shared(format!("http://{}", target.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut credentials = CredentialServiceClient::new(channel.clone());
    let mut uses = UseServiceClient::new(channel);
    let bearer = format!("Bearer {}", target.token);
    for number in 0..50 {
        let username = format!("check-{number}");
        let create = CreateCredentialRequest {
            parent: calls::ACCOUNT.to_owned(),
            credential: Some(Credential {
                username: username.clone(),
                realm: REALM.to_owned(),
                ..Credential::default()
            }),
            ..CreateCredentialRequest::default()
        };
        let created = credentials.create_credential(with(&bearer, create)).await.unwrap();
        let created = created.into_inner();
        let made = created.credential.unwrap();
        let get = GetCredentialRequest { name: made.name.clone() };
        let read = credentials.get_credential(with(&bearer, get)).await.unwrap().into_inner();
        assert_eq!(read.credential.as_ref(), Some(&made), "it reads as it was created");

        let rotate = RotateCredentialRequest {
            name: made.name.clone(),
            ..RotateCredentialRequest::default()
        };
        let rotated = credentials.rotate_credential(with(&bearer, rotate)).await.unwrap();
        let rotated = rotated.into_inner().issued.unwrap();
        let first = created.issued.unwrap();
        assert_eq!((first.version, rotated.version), (1, 2));
        for (issued, expected) in [(&first, None), (&rotated, Some((&made.name, 2)))] {
            let IssuedSecret { password, .. } = issued;
            let digest = calls::digest(username.clone(), REALM.to_owned(), password);
            let verified =
                uses.verify_sip_digest(with(&bearer, digest)).await.unwrap().into_inner();
            let found = verified.valid.then_some((&verified.credential, verified.version));
            assert_eq!(found, expected, "the digest of version {}", issued.version);
        }
    }
}

fn with<T>(bearer: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    request
}
