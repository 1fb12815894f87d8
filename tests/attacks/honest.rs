//! Honest callers: one rotates passwords and one asks for health, each twenty times a second on a connection of its own,
//! and one comes anew twice a second.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use credvault::grpc::proto::{CreateCredentialRequest, Credential, RotateCredentialRequest};
use tokio::sync::watch;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::Clients;
use crate::target::{Reach, Target};

/// When a call counts as failed.
const GIVEN_UP: Duration = Duration::from_secs(5);

pub(crate) struct Honest {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
}

/// What they met with.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long each good call took.
    took: Vec<Duration>,
    pub(crate) errors: Vec<String>,
}

impl Seen {
    pub(crate) fn calls(&self) -> usize {
        self.took.len() + self.errors.len()
    }

    /// What this part of the good calls did not exceed.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::as_conversions,
        reason = "an index of some thousand"
    )]
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = (took.len() as f64 * part) as usize;
        took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Honest {
    /// On a thread of their own: they wait for the server, and not for who attacks it from this process.
    pub(crate) fn start(target: &Target) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (stop, stopped) = watch::channel(false);
        let (reach, their) = (target.reach.clone(), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(call(&reach, stopped, &their));
        });
        Self { stop, thread, seen }
    }

    pub(crate) async fn stop(self) -> Seen {
        self.stop.send_replace(true);
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn call(reach: &Reach, stopped: watch::Receiver<bool>, seen: &Mutex<Seen>) {
    let clients = Clients::new(&reach.channel_from("127.0.0.2"), &reach.token);
    let credential = Credential {
        username: "honest".to_owned(),
        realm: "sip.test".to_owned(),
        ..Credential::default()
    };
    let request = CreateCredentialRequest {
        parent: "accounts/dev".to_owned(),
        credential: Some(credential),
        ..CreateCredentialRequest::default()
    };
    let (credential, _) = clients.create(request).await.unwrap();
    let rotate = async || {
        let request =
            RotateCredentialRequest { name: credential.name.clone(), ..Default::default() };
        clients.rotate(request).await.map(drop)
    };
    let kept = reach.channel_from("127.0.0.3");
    let check = async |channel| {
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(drop)
    };
    let often = Duration::from_millis(50);
    tokio::join!(
        every(often, stopped.clone(), seen, "rotate", rotate),
        every(often, stopped.clone(), seen, "health", || check(kept.clone())),
        every(Duration::from_millis(500), stopped, seen, "newcomer", || {
            check(reach.channel_from("127.0.0.4"))
        }),
    );
}

async fn every(
    time: Duration,
    mut stopped: watch::Receiver<bool>,
    seen: &Mutex<Seen>,
    what: &'static str,
    call: impl AsyncFn() -> Result<(), Status>,
) {
    let mut tick = tokio::time::interval(time);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let began = Instant::now();
        let ended = tokio::time::timeout(GIVEN_UP, call()).await;
        let mut seen = seen.lock().unwrap();
        match ended {
            Ok(Ok(())) => seen.took.push(began.elapsed()),
            Ok(Err(status)) => {
                seen.errors.push(format!("{what}: {:?} {}", status.code(), status.message()));
            }
            Err(_) => seen.errors.push(format!("{what}: no answer in {GIVEN_UP:?}")),
        }
    }
}
