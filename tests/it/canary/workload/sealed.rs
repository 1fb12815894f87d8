//! Passwords that are sealed for a recipient, and proofs that they arrived: in no answer are they as they are.

use credvault::crypto;
use credvault::crypto::delivery::{Delivered, PrivateKey};
use credvault::grpc::proto::recipient::Key;
use credvault::grpc::proto::{
    CancelRotationRequest, ConfirmRotationRequest, CreateCredentialRequest, Credential,
    GetRotationRequest, ListRotationsRequest, ListVersionsRequest, Recipient,
    RotateCredentialRequest, SealedSecret,
};
use credvault::secret::SecretText;
use jiff::Timestamp;
use tonic::Code;

use super::{PARENT, REALM, Workload};
use crate::support::exposed;

const USER: &str = "sealed";

impl Workload {
    pub(super) fn open(
        &mut self,
        key: &PrivateKey,
        sealed: Option<SealedSecret>,
    ) -> Result<String, String> {
        let sealed = sealed.ok_or("a secret should have been sealed")?;
        let time = Timestamp::from_second(sealed.expire_time.unwrap_or_default().seconds).unwrap();
        let SealedSecret { credential, version, request_id, public_key_sha256, .. } =
            sealed.clone();
        let aad = format!("{credential}\n{version}\n{request_id}\n{public_key_sha256}\n{time}");
        let delivered = Delivered {
            encapsulated_key: sealed.encapsulated_key.try_into().unwrap(),
            ciphertext: sealed.ciphertext,
        };
        let password = exposed(&key.open(&delivered, &aad).map_err(|error| error.to_string())?);
        self.secret(&format!("sealed password {version}"), &password);
        self.ha1(USER, &password);
        Ok(password)
    }

    /// Creates and rotates for a recipient, and confirms and cancels with good and bad proofs.
    pub(super) async fn sealed(&mut self) -> Result<(), String> {
        let key = PrivateKey::generate().unwrap();
        let public = key.public_key().unwrap().as_bytes().to_vec();
        self.secret("the recipient's private key", &hex::encode(key.as_bytes()));
        let recipient = Some(Recipient { key: Some(Key::HpkePublicKey(public)) });
        let (username, realm) = (USER.to_owned(), REALM.to_owned());
        let request = CreateCredentialRequest {
            parent: PARENT.to_owned(),
            credential_id: USER.to_owned(),
            credential: Some(Credential { username, realm, ..Credential::default() }),
            recipient: recipient.clone(),
            ..CreateCredentialRequest::default()
        };
        let result = self.clients.credentials.create_credential(request).await;
        let created = self.good("CreateCredential, sealed", result)?;
        self.open(&key, created.sealed)?;
        let name = format!("{PARENT}/credentials/{USER}");
        for confirms in [true, false] {
            let request = RotateCredentialRequest {
                name: name.clone(),
                request_id: self.rng.uuid4(),
                require_confirmation: true,
                recipient: recipient.clone(),
                ..RotateCredentialRequest::default()
            };
            let result = self.clients.credentials.rotate_credential(request.clone()).await;
            let first = self.good("RotateCredential, sealed", result)?;
            let result = self.clients.credentials.rotate_credential(request).await;
            let again = self.good("RotateCredential, sealed, again", result)?;
            if first.sealed != again.sealed {
                return Err("a retry should get the same sealed secret".to_owned());
            }
            let password = self.open(&key, first.sealed)?;
            let rotation = first.rotation.unwrap_or_default().name;
            let result = self
                .clients
                .rotations
                .get_rotation(GetRotationRequest { name: rotation.clone() })
                .await;
            self.good("GetRotation", result)?;
            let proof = |password: &str| {
                crypto::proof_of(&SecretText::new(password.to_owned()), &rotation).to_vec()
            };
            let request = |proof| ConfirmRotationRequest {
                name: rotation.clone(),
                proof,
                ..ConfirmRotationRequest::default()
            };
            self.secret("a proof", &hex::encode(proof(&password)));
            let wrong = self.password("a password that somebody took for the new one");
            self.secret("a wrong proof", &hex::encode(proof(&wrong)));
            let result = self.clients.rotations.confirm_rotation(request(proof(&wrong))).await;
            self.bad("ConfirmRotation with a wrong proof", Code::InvalidArgument, result)?;
            let result = self.clients.rotations.confirm_rotation(request(wrong.into_bytes())).await;
            self.bad("ConfirmRotation with a password", Code::InvalidArgument, result)?;
            if confirms {
                let result =
                    self.clients.rotations.confirm_rotation(request(proof(&password))).await;
                self.good("ConfirmRotation", result)?;
            } else {
                let request =
                    CancelRotationRequest { name: rotation.clone(), ..Default::default() };
                let result = self.clients.rotations.cancel_rotation(request).await;
                self.good("CancelRotation", result)?;
            }
        }
        let request = ListRotationsRequest { parent: name.clone(), ..Default::default() };
        let result = self.clients.rotations.list_rotations(request).await;
        self.good("ListRotations", result)?;
        let request = ListVersionsRequest { parent: name };
        let result = self.clients.credentials.list_versions(request).await;
        self.good("ListVersions", result).map(drop)
    }
}
