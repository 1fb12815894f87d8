//! A server with nothing but tonic's own: its transport with its defaults, its health, and a rotation that stores nothing.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use credvault::grpc::proto::credential_service_server::{
    CredentialService, CredentialServiceServer,
};
use credvault::grpc::proto::{self, Credential, IssuedSecret};
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Set in the process that serves: where the certificate lies, or empty for none.
const SERVES: &str = "ATTACKS_STOCK";

/// One as a process. Killed when dropped.
pub(crate) struct Stock {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Stock {
    /// Runs this program once more, to serve.
    pub(crate) fn start(certificate: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stock::serves_if_it_is_told_to", "--nocapture"]);
        command.env(SERVES, certificate.unwrap_or(Path::new("")));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut words =
            lines.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let address = words.find_map(|word| word.parse().ok()).expect("it serves");
        Self { child, address }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// In a process that [`Stock`] starts; elsewhere there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a test is told that it is the server")]
async fn serves_if_it_is_told_to() {
    let Some(certificate) = std::env::var_os(SERVES) else { return };
    let mut server = Server::builder();
    if !certificate.is_empty() {
        let file = |name: &str| std::fs::read(Path::new(&certificate).join(name)).unwrap();
        let identity = Identity::from_pem(file("tls.crt"), file("tls.key"));
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<CredentialServiceServer<Constant>>().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stop = signal(SignalKind::terminate()).unwrap();
    println!("stock on {}", listener.local_addr().unwrap());
    server
        .add_service(health)
        .add_service(CredentialServiceServer::new(Constant))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async move {
                stop.recv().await;
            },
        )
        .await
        .unwrap();
}

/// Answers the same, always.
struct Constant;

fn answer() -> (Option<Credential>, Option<IssuedSecret>) {
    let credential =
        Credential { name: "accounts/dev/credentials/honest".to_owned(), ..Default::default() };
    (Some(credential), Some(IssuedSecret::default()))
}

#[tonic::async_trait]
impl CredentialService for Constant {
    async fn create_credential(
        &self,
        _: Request<proto::CreateCredentialRequest>,
    ) -> Result<Response<proto::CreateCredentialResponse>, Status> {
        let (credential, issued) = answer();
        let answer = proto::CreateCredentialResponse { credential, issued, ..Default::default() };
        Ok(Response::new(answer))
    }

    async fn rotate_credential(
        &self,
        _: Request<proto::RotateCredentialRequest>,
    ) -> Result<Response<proto::RotateCredentialResponse>, Status> {
        let (credential, issued) = answer();
        let answer = proto::RotateCredentialResponse { credential, issued, ..Default::default() };
        Ok(Response::new(answer))
    }

    async fn get_credential(
        &self,
        _: Request<proto::GetCredentialRequest>,
    ) -> Result<Response<proto::GetCredentialResponse>, Status> {
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
