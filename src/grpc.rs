//! gRPC: the wire. Thin services that parse, authorize, call the vault, and convert the answer.
//!
//! Never uses the store, cryptography or carriers. One place turns errors into statuses (`status.rs`), and
//! one place lets a secret out (`convert/credential.rs`). `client.rs` is the other end of the wire, for the
//! command line.

mod access_service;
mod audit_service;
pub mod client;
pub mod codec;
mod convert;
mod credential_service;
mod frame;
mod front;
mod going_on;
mod health;
mod holding;
mod items;
pub mod json;
mod large_answers;
mod measure;
mod places;
pub mod proto;
mod provider_service;
mod rotation_service;
mod status;
mod use_service;
mod watches;

use std::sync::Arc;

use bytes::Bytes;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Service as _, ServiceExt as _};

use crate::access::Caller;
use crate::defect::{Defect, planted};
use crate::vault::{Error, Vault};
use proto::access_service_server::{AccessServiceServer, SERVICE_NAME as ACCESS};
use proto::audit_service_server::{AuditServiceServer, SERVICE_NAME as AUDIT};
use proto::credential_service_server::{CredentialServiceServer, SERVICE_NAME as CREDENTIAL};
use proto::provider_service_server::{ProviderServiceServer, SERVICE_NAME as PROVIDER};
use proto::rotation_service_server::{RotationServiceServer, SERVICE_NAME as ROTATION};
use proto::use_service_server::{SERVICE_NAME as USE, UseServiceServer};

pub use front::{Front, Peer};
pub use health::{Asks, Health, Readiness};
pub use holding::Holding;
pub use watches::goes_on;

/// The services that report their health under their own names; the empty name stands for all.
const SERVICES: [&str; 7] = ["", ACCESS, CREDENTIAL, PROVIDER, ROTATION, USE, AUDIT];

/// Those that change what is stored. They cannot while the disk is full; the others, and the vault as a whole, go
/// on: an orchestrator that took the vault away would stop the calls that phones make.
const WRITING: [&str; 4] = [ACCESS, CREDENTIAL, PROVIDER, ROTATION];

/// The services of one vault.
#[derive(Clone)]
struct Service {
    vault: Arc<Vault>,
}

/// Puts all services of a vault behind its front door.
pub fn front(vault: Arc<Vault>, health: &Health) -> anyhow::Result<Front> {
    let service = Service { vault: Arc::clone(&vault) };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl shows what ErrorInfo and BadRequest say.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let services = Services {
        access: AccessServiceServer::new(service.clone()),
        audit: AuditServiceServer::new(service.clone()),
        credential: CredentialServiceServer::new(service.clone()),
        provider: ProviderServiceServer::new(service.clone()),
        rotation: RotationServiceServer::new(service.clone()),
        using: UseServiceServer::new(service),
        others: Routes::new(health.service())
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .prepare(),
    };
    Ok(Front::new(vault, services, health.clone()))
}

/// All services, by name. Ours without a router: it costs more than finding one of six names.
#[derive(Clone)]
struct Services {
    access: AccessServiceServer<Service>,
    audit: AuditServiceServer<Service>,
    credential: CredentialServiceServer<Service>,
    provider: ProviderServiceServer<Service>,
    rotation: RotationServiceServer<Service>,
    using: UseServiceServer<Service>,
    others: Routes,
}

impl Services {
    async fn answer<B>(&self, request: http::Request<B>) -> http::Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let path = request.uri().path();
        let answer = match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
            Some((ACCESS, _)) => self.access.clone().call(request).await,
            Some((AUDIT, _)) => self.audit.clone().call(request).await,
            Some((CREDENTIAL, _)) => self.credential.clone().call(request).await,
            Some((PROVIDER, _)) => self.provider.clone().call(request).await,
            Some((ROTATION, _)) => self.rotation.clone().call(request).await,
            Some((USE, _)) => self.using.clone().call(request).await,
            _ => self.others.clone().oneshot(request.map(Body::new)).await,
        };
        match answer {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

/// Takes a request apart into who calls and what is asked.
fn accept<T: prost::Message>(request: tonic::Request<T>) -> Result<(Caller, T), Error> {
    let (metadata, mut extensions, message) = request.into_parts();
    if planted(Defect::PanicInCall) && metadata.contains_key("x-panic") {
        panic_over(&message);
    }
    let caller = extensions.remove::<Caller>().ok_or(Error::Unauthenticated)?;
    Ok((caller, message))
}

/// The planted panic, in the worst of forms: with all secrets of the request.
#[expect(clippy::panic, reason = "a planted defect: what a panic does is tested")]
fn panic_over(message: &impl prost::Message) {
    panic!("planted: {}", String::from_utf8_lossy(&message.encode_to_vec()));
}
