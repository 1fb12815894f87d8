//! Health: whether the vault takes calls, as probes see it, by `grpc.health.v1` and for `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::ServiceExt as _;

use super::frame::{self, Checked, Messages};
use super::{SERVICES, WRITING, front, measure, status};
use crate::vault::Error;

/// How long a probe may take to say what it asks.
const DEADLINE: Duration = Duration::from_secs(5);

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// Whether the services take calls. All clones are one.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    readiness: Arc<watch::Sender<Readiness>>,
}

/// Whether calls should be sent here.
///
/// It is about reads. A service that cannot take changes (a full disk) may say `NOT_SERVING` under its own name,
/// and the vault stays ready: sent elsewhere, its callers would lose the reads and digest checks that go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The vault is not open yet.
    Starting,
    /// It takes calls.
    Ready,
    /// It finishes the calls in progress, and then ends.
    Stopping,
}

impl Health {
    /// The health of a vault that is not open yet.
    pub async fn starting() -> Self {
        // Who looks at health looks at the metrics as well, and compares them with what they were at the start.
        measure::prepare();
        let health = Self {
            reporter: HealthReporter::new(),
            readiness: Arc::new(watch::Sender::new(Readiness::Starting)),
        };
        health.report(&SERVICES, false).await;
        health
    }

    /// Takes calls from now on, or no more.
    pub async fn set_serving(&self, serving: bool) {
        self.readiness.send_replace(if serving { Readiness::Ready } else { Readiness::Stopping });
        self.report(&SERVICES, serving).await;
    }

    /// Says under their own names that the services that write cannot while there is no room, for as long as it is
    /// polled.
    pub async fn follow(&self, mut has_room: watch::Receiver<bool>) {
        while has_room.changed().await.is_ok() {
            let serving = *has_room.borrow_and_update();
            self.report(&WRITING, serving).await;
        }
    }

    async fn report(&self, services: &[&'static str], serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in services {
            self.reporter.set_service_status(*service, status).await;
        }
    }

    /// Whether calls should be sent here.
    pub fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }

    /// Done when the vault stops.
    pub(super) fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut readiness = self.readiness.subscribe();
        async move { drop(readiness.wait_for(|now| *now == Readiness::Stopping).await) }
    }

    /// Whether a path is one of the two that [`Self::answer`] answers, and whether it is the one whose answer goes
    /// on for as long as its caller likes.
    pub fn is_asked_by(path: &str) -> Option<Asks> {
        match path {
            CHECK => Some(Asks::Once),
            WATCH => Some(Asks::ToWatch),
            _ => None,
        }
    }

    /// Answers a probe, without the front door and what it keeps for callers.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let limit = frame::limit(request.uri().path());
        let request = request.map(|body| Body::new(Checked::new(body, Messages::One, limit)));
        let answer = self.service().oneshot(request);
        match tokio::time::timeout(DEADLINE, answer).await {
            // The stock codec's only INTERNAL is a message that does not decode.
            Ok(Ok(response)) if front::code(&response) == Code::Internal => {
                status::malformed_message("the message does not decode as its type").into_http()
            }
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => Status::from(Error::DeadlineExceeded).into_http(),
        }
    }

    /// The two RPCs.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}

/// How long a probe listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// For one answer.
    Once,
    /// For every change.
    ToWatch,
}
