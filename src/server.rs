//! The process: puts the vault together, takes connections, and ends in time.
//!
//! Not tonic's own server: its shutdown waits for ever for a client that does nothing, and its accept loop
//! spins when file descriptors run out (docs/adr/0003).

mod connections;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;

use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::crypto::kek_source::{KekSource as _, KeyFile};
use crate::crypto::{Sealer, random};
use crate::grpc;
use crate::name::Uid;
use crate::store::{self, Identity};
use crate::upstream::{self, Http};
use crate::vault::Vault;

/// How long calls in progress may take after a stop was asked for. With the close of the store the process
/// ends within 10 s, whatever clients do.
const DRAIN: Duration = Duration::from_secs(7);

/// How long the store may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Makes a new vault: its identity and its root key, in an empty store.
pub fn create_vault(settings: &Settings, key_file: &KeyFile, dev: bool) -> anyhow::Result<()> {
    let keyring = key_file.load()?;
    let uid = Uid::from_bytes(random::bytes()?);
    let root = Sealer::create_root(&keyring, uid)?;
    let identity = Identity { uid, dev, root, create_time: SystemClock.now() };
    store::create(&settings.store, &identity)?;
    Ok(())
}

/// Opens a vault for this process alone.
pub fn open_vault(
    settings: &Settings,
    key_file: &KeyFile,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Vault> {
    let keyring = key_file.load()?;
    let store = store::open(&settings.store, Arc::clone(&clock))?;
    let identity = store.identity();
    let inside = key_file.path().canonicalize().ok().zip(settings.data_dir.canonicalize().ok());
    if !identity.dev && inside.is_some_and(|(key, data)| key.starts_with(data)) {
        bail!(
            "the key file {} lies in the data folder, so whoever copies the data can read it; \
             move it elsewhere and name it with --key-file",
            key_file.path().display()
        );
    }
    let sealer = Sealer::open_vault(keyring, identity.uid, &identity.root).map_err(|_| {
        anyhow::anyhow!(
            "the key file {} does not open this vault; name the one it was made with by --key-file",
            key_file.path().display()
        )
    })?;
    let upstreams = upstream::built_ins(&Http::new()?, &settings.endpoints);
    Ok(Vault::new(store, sealer, upstreams, clock))
}

/// Binds the address to take calls on.
pub async fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    TcpListener::bind(settings.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", settings.listen)
    })
}

/// Answers calls until `stop` is done, then drains and closes the vault.
pub async fn serve(
    listener: TcpListener,
    vault: Arc<Vault>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (front, health) = grpc::front(Arc::clone(&vault))?;
    health.set_serving(true).await;
    let mut connections = connections::Connections::new(front);
    connections.accept_until(&listener, stop).await;

    tracing::info!("stopping: finishing the calls in progress");
    health.set_serving(false).await;
    drop(listener);
    connections.drain(DRAIN).await;
    if tokio::time::timeout(CLOSE, vault.close()).await.is_err() {
        tracing::error!("the store did not close in time; the next start recovers from its log");
    }
    Ok(())
}
