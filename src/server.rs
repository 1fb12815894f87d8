//! The process: puts the vault together, takes connections, and ends in time.
//!
//! Not tonic's own server: its shutdown waits for ever for a client that does nothing, and its accept loop
//! spins when file descriptors run out (docs/adr/0003).

mod connections;
pub mod doctor;
mod listener;
mod operations;
mod places;
mod process;
mod tls;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::access::LocalOperator;
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::crypto::kek_source::{KekSource as _, KeyFile};
use crate::crypto::{Sealer, random};
use crate::grpc;
use crate::name::Uid;
use crate::store::{self, Held, Identity};
use crate::upstream::{self, Network, Upstream};
use crate::vault::{CallLimits, Vault};

pub use listener::{Listener, Reserved};
pub use operations::Operations;
pub use process::close_off;

/// How long calls in progress may take after a stop was asked for. With the close of the store the process
/// ends within 10 s, whatever clients do.
const DRAIN: Duration = Duration::from_secs(7);

/// How long the store may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// How far the clock may lie behind the newest audit entry: what setting it right now and then comes to.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Which kind of vault a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// One that `credvault dev` made, with its key beside it.
    Dev,
    /// One for real use.
    Real,
    /// Either.
    Either,
}

/// Makes a new vault: its folders, its key file unless there is one, and a store with its identity.
/// Returns whether the key file was made.
pub fn create_vault(settings: &Settings, dev: bool) -> anyhow::Result<bool> {
    if settings.store.exists() {
        bail!(
            "there is a vault at {} already; use it with `credvault serve` (or `dev`, if that made it), \
             or choose another --data-dir",
            settings.store
        );
    }
    settings.make_data_dir()?;
    settings.store.prepare()?;
    let key_file = settings.key_file(dev)?;
    check_key_place(settings, &key_file, dev)?;
    let made = !key_file.path().exists();
    if made {
        key_file.create()?;
    }
    let keyring = key_file.load()?;
    let uid = Uid::from_bytes(random::bytes()?);
    let root = Sealer::create_root(&keyring, uid)?;
    let identity = Identity { uid, dev, root, create_time: SystemClock.now() };
    store::create(&settings.store, &identity)?;
    Ok(made)
}

/// A vault that this process has to itself and may open. Nothing in it has been changed yet.
pub struct Admitted {
    held: Held,
    sealer: Sealer,
    upstreams: Vec<Box<dyn Upstream>>,
    call_limits: CallLimits,
    clock: Arc<dyn Clock>,
    /// The newest entry, if an operator says that the clock was wrong when it was made.
    wrong_time: Option<Timestamp>,
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("held", &self.held).finish_non_exhaustive()
    }
}

/// Takes a vault for this process alone, or says why it may not be opened.
pub fn admit(
    settings: &Settings,
    purpose: Purpose,
    clock: Arc<dyn Clock>,
    network: &Network,
) -> anyhow::Result<Admitted> {
    let held = store::hold(&settings.store, Arc::clone(&clock))?;
    let identity = &held.identity;
    match (purpose, identity.dev) {
        (Purpose::Dev, false) => bail!(
            "the vault at {} was made for real use; start it with `credvault serve`, \
             or choose another --data-dir",
            settings.store
        ),
        (Purpose::Real, true) => bail!(
            "the vault at {} was made by `credvault dev`, with its key beside it; \
             make another with `credvault init --data-dir DIR`",
            settings.store
        ),
        _ => {}
    }
    let sealer = unlock(settings, identity)?;
    let now = clock.now();
    let wrong_time = held.newest_entry.filter(|newest| is_set_back(now, *newest));
    if let Some(newest) = wrong_time
        && !settings.accept_clock
    {
        bail!(
            "the clock says {now:.0}, and the newest audit entry is of {newest:.0}; set the clock, \
             or, if it was wrong then, start once with --accept-clock"
        );
    }
    let upstreams = upstream::built_ins(network, &settings.endpoints, &clock)?;
    let call_limits = settings.call_limits;
    Ok(Admitted { held, sealer, upstreams, call_limits, clock, wrong_time })
}

/// What opens the secrets of a vault.
fn unlock(settings: &Settings, identity: &Identity) -> anyhow::Result<Sealer> {
    let key_file = settings.key_file(identity.dev)?;
    check_key_place(settings, &key_file, identity.dev)?;
    let keyring = key_file.load()?;
    Sealer::open_vault(keyring, identity.uid, &identity.root).map_err(|_| {
        anyhow::anyhow!(
            "the key file {} does not open this vault; name the one it was made with by --key-file",
            key_file.path().display()
        )
    })
}

/// Whether the clock is before a time that the vault has seen. Expired tokens would open it again.
fn is_set_back(now: Timestamp, seen: Timestamp) -> bool {
    seen.duration_since(now) > CLOCK_TOLERANCE
}

impl Admitted {
    /// Opens it: from here on its files change.
    pub fn open(self) -> anyhow::Result<Vault> {
        let store = self.held.open()?;
        Ok(Vault::new(store, self.sealer, self.upstreams, self.call_limits, self.clock))
    }

    /// The same, and records what an operator said of the clock, so that it need not be said at the next start.
    pub async fn open_and_record(self) -> anyhow::Result<Vault> {
        let wrong_time = self.wrong_time;
        let vault = self.open()?;
        if let Some(newest) = wrong_time {
            let operator = LocalOperator::beside_the_store();
            vault.accept_clock(&operator, newest).await.context("cannot record --accept-clock")?;
        }
        Ok(vault)
    }
}

/// Takes a vault for this process alone and opens it.
pub fn open_vault(
    settings: &Settings,
    purpose: Purpose,
    clock: Arc<dyn Clock>,
    network: &Network,
) -> anyhow::Result<Vault> {
    admit(settings, purpose, clock, network)?.open()
}

/// A copy of the data folder must not bring the key along. The folders must exist.
fn check_key_place(settings: &Settings, key_file: &KeyFile, dev: bool) -> anyhow::Result<()> {
    let data = [settings.data_dir.as_path(), settings.store.folder()];
    let data: Vec<_> = data.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    let folder = key_file.path().parent().filter(|folder| !folder.as_os_str().is_empty());
    // Where the key lies by name, and where it really lies if that is a link.
    let places = [folder.unwrap_or(Path::new(".")).canonicalize(), key_file.path().canonicalize()];
    let inside = |place: &Path| data.iter().any(|data| place.starts_with(data));
    if !dev && places.iter().flatten().any(|place| inside(place)) {
        bail!(
            "the key file {} lies in the data folder, so whoever copies the data has the key as well; \
             choose a place outside with --key-file",
            key_file.path().display()
        );
    }
    Ok(())
}

/// Reads the certificates and reserves the address to take calls on. Nobody can connect yet.
pub async fn reserve(settings: &Settings) -> anyhow::Result<Reserved> {
    Reserved::new(settings, SystemClock.now()).await
}

/// Reserves the address to take calls on, and lets clients connect.
pub async fn listen(settings: &Settings) -> anyhow::Result<Listener> {
    reserve(settings).await?.listen()
}

/// What asks a server to stop. Asked a second time, it stops without waiting for anybody.
pub trait StopSignal {
    /// Done when the server is asked to stop, once more at each call.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

/// Answers calls until it is asked to stop, then drains and closes the vault. Meanwhile each provider is verified
/// again once a `verification_interval`. What `operations` listens on is told, and goes on until the vault is closed.
pub async fn serve(
    listener: Listener,
    vault: Arc<Vault>,
    verification_interval: Option<SignedDuration>,
    operations: Operations,
    mut stop: impl StopSignal,
) -> anyhow::Result<()> {
    let health = operations.health().clone();
    let front = grpc::front(Arc::clone(&vault), &health)?;
    let interval = verification_interval.map_or("off".to_owned(), |interval| interval.to_string());
    tracing::info!(interval, "scheduled verification of providers");
    let schedule = verification_interval.map(|interval| {
        let vault = Arc::clone(&vault);
        tokio::spawn(async move { vault.run_scheduled_verifications(interval).await })
    });
    health.set_serving(true).await;
    let mut connections = connections::Connections::new(front, listener.limits);
    let mut beside = JoinSet::new();
    let (recorder, told) = (Arc::clone(&vault), health.clone());
    beside.spawn(async move { recorder.run_noise_records().await });
    let ender = Arc::clone(&vault);
    beside.spawn(async move { ender.run_rotations().await });
    let performer = Arc::clone(&vault);
    let mut performing = tokio::spawn(async move { performer.run_carrier_work().await });
    let counter = Arc::clone(&vault);
    beside.spawn(async move { counter.run_use_counts().await });
    let has_room = vault.has_room();
    beside.spawn(async move { told.follow(has_room).await });
    if let Some(tls) = listener.tls.clone() {
        beside.spawn(async move { tls.follow_files().await });
    }
    connections.accept_until(&listener, stop.next()).await;

    tracing::info!("stopping: finishing the calls in progress");
    vault.finish_carrier_work();
    beside.shutdown().await;
    health.set_serving(false).await;
    let deadline = Instant::now() + DRAIN;
    if let Some(schedule) = schedule {
        // A verification that is cut off has changed nothing.
        schedule.abort();
    }
    drop(listener);
    connections.drain(DRAIN, stop.next()).await;
    // Calls that change something at a carrier go on beside the drain. What is cut off is taken on again after the start.
    tokio::select! {
        _ = timeout_at(deadline, &mut performing) => {}
        () = stop.next() => {}
    }
    performing.abort();
    if tokio::time::timeout(CLOSE, vault.close()).await.is_err() {
        tracing::error!("the store did not close in time; the next start recovers from its log");
    }
    operations.stop().await;
    Ok(())
}
