//! What one would write in an afternoon: one mutex around one connection, one commit a change, no
//! authentication, no idempotency. And a bare echo: `GetCredential` answers a constant.

#![expect(clippy::disallowed_types, reason = "a server apart from the product, to compare with")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use credvault::crypto::{Field, Kek, Keyring, Place, Sealer, password};
use credvault::grpc::proto::credential_service_server::{
    CredentialService, CredentialServiceServer,
};
use credvault::grpc::proto::{self, Credential, IssuedSecret};
use credvault::name::Uid;
use credvault::secret::PasswordLength;
use rusqlite::{Connection, params};
use tonic::{Request, Response, Status};

struct Naive {
    connection: Arc<Mutex<Connection>>,
    sealer: Arc<Sealer>,
}

/// Serves until the process is killed.
pub(crate) fn serve(file: &Path, relaxed: bool) {
    let connection = Connection::open(file).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
             CREATE TABLE credential (name TEXT PRIMARY KEY, version INTEGER NOT NULL, sealed BLOB NOT NULL);
             CREATE TABLE audit (id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL);",
        )
        .unwrap();
    if relaxed {
        // It answers before the disk has it: what the watch over answers and flushes must notice.
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
    }
    let keyring = || Keyring::new(vec![Kek::new(1, &[7; 32])]).unwrap();
    let root = Sealer::create_root(&keyring(), Uid::ZERO).unwrap();
    let Ok(sealer) = Sealer::open_vault(keyring(), Uid::ZERO, &root) else { return };
    let naive = Naive { connection: Arc::new(Mutex::new(connection)), sealer: Arc::new(sealer) };

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("naive on {}", listener.local_addr().unwrap());
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        tonic::transport::Server::builder()
            .add_service(CredentialServiceServer::new(naive))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}

fn credential(name: String, version: i64) -> Credential {
    Credential {
        name,
        username: "user-12345".to_owned(),
        realm: "sip-1.example.com".to_owned(),
        enabled: Some(true),
        description: Some(crate::calls::DESCRIPTION.to_owned()),
        labels: [("site".to_owned(), "paris".to_owned())].into(),
        version,
        create_time: Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 123_456_000 }),
        update_time: Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 123_456_000 }),
        rotate_time: Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 123_456_000 }),
        etag: "\"12345678.1\"".to_owned(),
        last_success_time: None,
        ..Credential::default()
    }
}

#[tonic::async_trait]
impl CredentialService for Naive {
    async fn get_credential(
        &self,
        request: Request<proto::GetCredentialRequest>,
    ) -> Result<Response<proto::GetCredentialResponse>, Status> {
        let credential = Some(credential(request.into_inner().name, 1));
        Ok(Response::new(proto::GetCredentialResponse { credential }))
    }

    #[expect(clippy::disallowed_methods, reason = "answers the password that it made")]
    async fn rotate_credential(
        &self,
        request: Request<proto::RotateCredentialRequest>,
    ) -> Result<Response<proto::RotateCredentialResponse>, Status> {
        let name = request.into_inner().name;
        let (connection, sealer) = (Arc::clone(&self.connection), Arc::clone(&self.sealer));
        let work = move || {
            let Ok(password) = password::generate(PasswordLength::parse(0).unwrap()) else {
                panic!("no random bytes")
            };
            let place = Place {
                account: Uid::ZERO,
                resource: Uid::ZERO,
                field: Field::Password,
                version: 1,
            };
            let sealed = sealer.seal(&place, password.as_text()).unwrap();
            let mut connection = connection.lock().unwrap();
            let transaction = connection.transaction().unwrap();
            let version: i64 = transaction
                .prepare_cached(
                    "INSERT INTO credential (name, version, sealed) VALUES (?1, 1, ?2) ON CONFLICT (name)
                     DO UPDATE SET version = version + 1, sealed = ?2 RETURNING version",
                )
                .unwrap()
                .query_row(params![name, sealed.as_bytes()], |row| row.get(0))
                .unwrap();
            transaction
                .prepare_cached("INSERT INTO audit (name, version) VALUES (?1, ?2)")
                .unwrap()
                .execute(params![name, version])
                .unwrap();
            transaction.commit().unwrap();
            let issued = IssuedSecret { password: password.as_text().expose().to_owned(), version };
            proto::RotateCredentialResponse {
                credential: Some(credential(name, version)),
                issued: Some(issued),
                ..Default::default()
            }
        };
        Ok(Response::new(tokio::task::spawn_blocking(work).await.unwrap()))
    }

    async fn create_credential(
        &self,
        _: Request<proto::CreateCredentialRequest>,
    ) -> Result<Response<proto::CreateCredentialResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }

    async fn list_credentials(
        &self,
        _: Request<proto::ListCredentialsRequest>,
    ) -> Result<Response<proto::ListCredentialsResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }

    async fn update_credential(
        &self,
        _: Request<proto::UpdateCredentialRequest>,
    ) -> Result<Response<proto::UpdateCredentialResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }

    async fn list_versions(
        &self,
        _: Request<proto::ListVersionsRequest>,
    ) -> Result<Response<proto::ListVersionsResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }

    type WatchCredentialsStream =
        futures_util::stream::Empty<Result<proto::WatchCredentialsResponse, Status>>;

    async fn watch_credentials(
        &self,
        _: Request<proto::WatchCredentialsRequest>,
    ) -> Result<Response<Self::WatchCredentialsStream>, Status> {
        Err(Status::unimplemented("not compared"))
    }

    async fn delete_credential(
        &self,
        _: Request<proto::DeleteCredentialRequest>,
    ) -> Result<Response<proto::DeleteCredentialResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }
}
