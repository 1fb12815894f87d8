//! Health, for probes that have no token; reflection, for people in dev and callers elsewhere.

#![expect(clippy::disallowed_types, reason = "passes the status of a refusal on")]

use std::time::{Duration, Instant};

use credvault::access::Role;
use futures_util::stream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::{v1, v1alpha};

use crate::door::channel_from;
use crate::support::process::Process;
use crate::support::{Bearer, TestVault, channel, outcome};

const SERVICES: [&str; 4] = [
    "credvault.v1.AuditService",
    "credvault.v1.CredentialService",
    "credvault.v1.ProviderService",
    "credvault.v1.UseService",
];

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn everybody_may_ask_for_the_health_of_all_and_of_each_service() {
    let vault = TestVault::start().await;
    let mut health = HealthClient::new(channel(vault.address));
    for service in [""].into_iter().chain(SERVICES) {
        let answer = health.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    for unknown in ["credvault.v1.BackDoor", "grpc.health.v1.Health", "CredentialService", " "] {
        let refused = health.check(ask(unknown)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{unknown}");
    }
}

#[tokio::test]
async fn a_watch_sees_that_the_server_stops_before_it_ends() {
    let vault = TestVault::start().await;
    let mut watches = Vec::new();
    for service in [""].into_iter().chain(SERVICES) {
        let mut health = HealthClient::new(channel(vault.address));
        let mut watch = health.watch(ask(service)).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving, "{service}");
        watches.push((service, health, watch));
    }
    let stopped = tokio::spawn(vault.stop());
    for (service, health, mut watch) in watches {
        let next = tokio::time::timeout(Duration::from_secs(5), watch.message()).await;
        let next = next.expect("within 5 s").unwrap().unwrap();
        assert_eq!(next.status(), ServingStatus::NotServing, "{service}");
        drop((health, watch));
    }
    // Nobody watches any more, so nothing holds the server up.
    let stopped = tokio::time::timeout(Duration::from_secs(5), stopped).await;
    stopped.expect("within 5 s").unwrap();
}

/// Begins so many watches on a connection of its own; those that were let in.
async fn watches(
    channel: &Channel,
    token: &str,
    many: usize,
) -> Vec<tonic::Streaming<HealthCheckResponse>> {
    let mut watches = Vec::new();
    for _ in 0..many {
        match HealthClient::with_interceptor(channel.clone(), bearer(token)).watch(ask("")).await {
            Ok(watch) => watches.push(watch.into_inner()),
            refused => assert_eq!(outcome(&refused), "ResourceExhausted RATE_LIMITED retry 1s"),
        }
    }
    watches
}

#[tokio::test]
async fn a_connection_has_eight_watches_an_address_sixteen_and_all_strangers_sixty_four() {
    let vault = TestVault::start().await;
    let from = |source| channel_from(source, vault.address);
    let first = from("127.0.1.1");
    let mut held = watches(&first, "", 12).await;
    assert_eq!(held.len(), 8);
    // What is over makes room, once the server has seen it go.
    held.truncate(4);
    let began = Instant::now();
    while held.len() < 8 {
        assert!(began.elapsed() < Duration::from_secs(10), "{} watches", held.len());
        held.extend(watches(&first, "", 1).await);
    }
    held.extend(watches(&from("127.0.1.1"), "", 12).await);
    assert_eq!(held.len(), 16);
    assert_eq!(watches(&from("127.0.1.1"), "", 1).await.len(), 0, "one address has no more");
    for (source, token) in [("127.0.1.2", ""), ("127.0.1.3", ""), ("127.0.1.4", "cv1_no")] {
        for _ in 0..3 {
            held.extend(watches(&from(source), token, 12).await);
        }
    }
    assert_eq!(held.len(), 64);
    for token in ["", "cv1_no"] {
        assert_eq!(watches(&from("127.0.1.5"), token, 1).await.len(), 0);
    }
    let token = vault.token("acme", &[Role::Reader]).await;
    let known = watches(&from("127.0.1.1"), &token, 12).await;
    assert_eq!(known.len(), 8, "who shows a valid token needs no place of a stranger");
    held.extend(known);
    let answer = HealthClient::new(from("127.0.1.1")).check(ask("")).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "who asks once is answered");
    for watch in &mut held {
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
    }
}

/// The services that reflection lists in its version 1.
async fn list_v1(channel: &Channel, token: &str) -> Result<Vec<String>, Status> {
    use v1::server_reflection_client::ServerReflectionClient;
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;

    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = v1::ServerReflectionRequest { message_request, ..Default::default() };
    let mut client = ServerReflectionClient::with_interceptor(channel.clone(), bearer(token));
    let call = client.server_reflection_info(Request::new(stream::iter([request])));
    match call.await?.into_inner().message().await?.unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("{other:?}"),
    }
}

/// The same in the version that older tools speak.
async fn list_v1alpha(channel: &Channel, token: &str) -> Result<Vec<String>, Status> {
    use v1alpha::server_reflection_client::ServerReflectionClient;
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;

    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = v1alpha::ServerReflectionRequest { message_request, ..Default::default() };
    let mut client = ServerReflectionClient::with_interceptor(channel.clone(), bearer(token));
    let call = client.server_reflection_info(Request::new(stream::iter([request])));
    match call.await?.into_inner().message().await?.unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn bearer(token: &str) -> Bearer {
    Bearer(token.to_owned())
}

fn lists_our_services(listed: &[String]) {
    for service in SERVICES {
        assert!(listed.iter().any(|name| name == service), "{service} is not in {listed:?}");
    }
}

#[tokio::test]
async fn reflection_is_open_in_dev() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Process::dev(dir.path(), &[]);
    lists_our_services(&list_v1(&dev.channel, "").await.unwrap());
    lists_our_services(&list_v1alpha(&dev.channel, "").await.unwrap());
}

#[tokio::test]
async fn reflection_needs_a_caller_elsewhere() {
    let vault = TestVault::start().await;
    let channel = channel(vault.address);
    for token in ["", "cv1_nonsense"] {
        let v1 = list_v1(&channel, token).await.unwrap_err();
        let v1alpha = list_v1alpha(&channel, token).await.unwrap_err();
        assert_eq!((v1.code(), v1alpha.code()), (Code::Unauthenticated, Code::Unauthenticated));
    }
    // Any valid token will do: what exists is no secret among callers.
    let token = vault.token("acme", &[Role::Auditor]).await;
    lists_our_services(&list_v1(&channel, &token).await.unwrap());
    lists_our_services(&list_v1alpha(&channel, &token).await.unwrap());
}
