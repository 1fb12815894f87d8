//! What the tests share: a vault in this process with a clock of its own, a vault as a process of its own,
//! and clients for both.

pub(crate) mod calls;
pub(crate) mod cli;
pub(crate) mod database;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod tls;

#[path = "../../examples/fakes/fakes.rs"]
#[expect(dead_code, unreachable_pub, reason = "programs of their own; tests use parts of them")]
pub(crate) mod fakes;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use credvault::access::principal::Principal;
use credvault::access::{LocalOperator, Owner, Role};
use credvault::clock::{Clock, MockClock};
use credvault::config::{ServeOptions, StoreOptions};
use credvault::grpc::proto::access_service_client::AccessServiceClient;
use credvault::grpc::proto::audit_service_client::AuditServiceClient;
use credvault::grpc::proto::credential_service_client::CredentialServiceClient;
use credvault::grpc::proto::provider_service_client::ProviderServiceClient;
use credvault::grpc::proto::rotation_service_client::RotationServiceClient;
use credvault::grpc::proto::use_service_client::UseServiceClient;
use credvault::name::{OwnerName, ResourceId};
use credvault::server::{self, Operations, Purpose, StopSignal};
use credvault::upstream::Network;
use credvault::vault::{Intent, Vault};
use fakes::telepath::FakeTelepath;
use fakes::twilio::FakeTwilio;
use fakes::vobiz::FakeVobiz;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Puts bearer tokens on every call: a header for each line, none when it is empty.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) String);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for token in self.0.lines() {
            let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().append("authorization", value);
        }
        Ok(request)
    }
}

pub(crate) type Wire = InterceptedService<Channel, Bearer>;

/// Clients of all services with one token.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) credentials: CredentialServiceClient<Wire>,
    pub(crate) providers: ProviderServiceClient<Wire>,
    pub(crate) rotations: RotationServiceClient<Wire>,
    pub(crate) uses: UseServiceClient<Wire>,
    pub(crate) audit: AuditServiceClient<Wire>,
    pub(crate) access: AccessServiceClient<Wire>,
}

impl Clients {
    pub(crate) fn new(channel: &Channel, token: &str) -> Self {
        let wire = InterceptedService::new(channel.clone(), Bearer(token.to_owned()));
        Self {
            credentials: CredentialServiceClient::new(wire.clone()),
            providers: ProviderServiceClient::new(wire.clone()),
            rotations: RotationServiceClient::new(wire.clone()),
            uses: UseServiceClient::new(wire.clone()),
            audit: AuditServiceClient::new(wire.clone()),
            access: AccessServiceClient::new(wire),
        }
    }
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// Stops a server once.
struct Stopped(Option<oneshot::Receiver<()>>);

impl StopSignal for Stopped {
    async fn next(&mut self) {
        match self.0.take() {
            Some(stopped) => drop(stopped.await),
            None => std::future::pending().await,
        }
    }
}

/// The carriers of a vault.
type Carriers = (FakeTwilio, FakeVobiz, FakeTelepath);

/// A vault served in this process on a real loopback port, with a real SQLite file, fake carriers, and a
/// clock that stands still. What its network is, and where it finds Twilio, may be changed for a restart.
pub(crate) struct TestVault {
    pub(crate) address: SocketAddr,
    /// Its operations listener, if its options have one.
    pub(crate) operations: Option<SocketAddr>,
    pub(crate) clock: Arc<MockClock>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) twilio: FakeTwilio,
    pub(crate) vobiz: FakeVobiz,
    pub(crate) telepath: FakeTelepath,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) network: Network,
    pub(crate) options: ServeOptions,
    stop: oneshot::Sender<()>,
    served: JoinHandle<anyhow::Result<()>>,
}

impl TestVault {
    /// Makes a vault in an empty folder and serves it.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    /// The same with other options than those of [`options`].
    pub(crate) async fn start_with(change: impl FnOnce(&mut ServeOptions, &FakeTwilio)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let carriers =
            (FakeTwilio::start().await, FakeVobiz::start().await, FakeTelepath::start().await);
        let mut options = options(dir.path(), &carriers);
        change(&mut options, &carriers.0);
        server::create_vault(&options.clone().resolve().unwrap(), false).unwrap();
        let clock = Arc::new(MockClock::at("2026-05-01T12:00:00Z".parse().unwrap()));
        Self::serve((dir, carriers, clock), Network::internet(), options).await
    }

    async fn serve(
        (dir, (twilio, vobiz, telepath), clock): (tempfile::TempDir, Carriers, Arc<MockClock>),
        network: Network,
        options: ServeOptions,
    ) -> Self {
        let settings = options.clone().resolve().unwrap();
        let dyn_clock: Arc<dyn Clock> = Arc::<MockClock>::clone(&clock);
        let vault = server::open_vault(&settings, Purpose::Real, dyn_clock, &network);
        let vault = Arc::new(vault.unwrap());
        let listener = server::listen(&settings).await.unwrap();
        // A Unix socket has none, and nobody asks for it.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = listener.local_addr().unwrap_or(nowhere);
        let (stop, stopped) = oneshot::channel();
        let stop_signal = Stopped(Some(stopped));
        let interval = settings.verification_interval;
        let operations = Operations::start(&settings, false).await.unwrap();
        let operations_address = operations.address();
        let served = tokio::spawn(server::serve(
            listener,
            Arc::clone(&vault),
            interval,
            operations,
            stop_signal,
        ));
        Self {
            address,
            operations: operations_address,
            clock,
            vault,
            twilio,
            vobiz,
            telepath,
            dir,
            network,
            options,
            stop,
            served,
        }
    }

    /// Stops the server and closes the store. What is left is what lies on the disk.
    pub(crate) async fn stop(self) -> (tempfile::TempDir, FakeTwilio, Arc<MockClock>) {
        let (dir, (twilio, ..), clock) = self.stop_with_carriers().await;
        (dir, twilio, clock)
    }

    async fn stop_with_carriers(self) -> (tempfile::TempDir, Carriers, Arc<MockClock>) {
        self.stop.send(()).ok();
        self.served.await.unwrap().unwrap();
        (self.dir, (self.twilio, self.vobiz, self.telepath), self.clock)
    }

    /// Stops it and serves the same files again, on another port.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after(|_| {}).await
    }

    /// The same, with something done to its database in between.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let (network, options) = (self.network.clone(), self.options.clone());
        let (dir, carriers, clock) = self.stop_with_carriers().await;
        change(&database(dir.path()));
        Self::serve((dir, carriers, clock), network, options).await
    }

    /// A new token with `roles` in `account`.
    pub(crate) async fn token(&self, account: &str, roles: &[Role]) -> String {
        let account = OwnerName::Account(ResourceId::parse(account).unwrap());
        self.token_of(&account, roles).await
    }

    /// A vault that takes calls elsewhere, and a reader's token for `accounts/acme`.
    pub(crate) async fn start_on(listen: &str) -> (Self, String) {
        let vault = Self::start_with(|options, _| options.listen = Some(listen.to_owned())).await;
        let token = vault.token("acme", &[Role::Reader]).await;
        (vault, token)
    }

    /// Binds roles in an account, which exists, to a principal.
    pub(crate) async fn bind(&self, account: &str, principal: &str, roles: &[Role]) {
        let operator = LocalOperator::beside_the_store();
        let id = ResourceId::parse(account).unwrap();
        let account = self.vault.get_account(&operator.scope(), &id).await.unwrap();
        let scope = operator.owner_scope(Owner::Account(account));
        let principal = Principal::parse(principal).unwrap();
        let intent = Intent::default();
        self.vault.set_role_binding(&scope, principal, roles.to_vec(), &intent).await.unwrap();
    }

    /// Clients of an operator.
    pub(crate) async fn operator(&self) -> Clients {
        let token = self.token_of(&OwnerName::Vault, &[Role::Operator]).await;
        Clients::new(&channel(self.address), &token)
    }

    /// Makes the holder of a token an operator as well.
    pub(crate) async fn make_operator(&self, token: &str) {
        let scope = LocalOperator::beside_the_store().owner_scope(Owner::Vault);
        let principal = format!("token:{}", token.split('_').nth(1).unwrap());
        let principal = Principal::parse(&principal).unwrap();
        let (roles, intent) = (vec![Role::Operator], Intent::default());
        self.vault.set_role_binding(&scope, principal, roles, &intent).await.unwrap();
    }

    async fn token_of(&self, owner: &OwnerName, roles: &[Role]) -> String {
        let operator = LocalOperator::beside_the_store();
        let lifetime = SignedDuration::from_hours(24 * 30);
        let token = self.vault.add_api_token(&operator, owner, roles, lifetime).await.unwrap();
        exposed(&token.to_text())
    }

    /// Clients with a new token that has `roles` in `account`.
    pub(crate) async fn clients(&self, account: &str, roles: &[Role]) -> Clients {
        Clients::new(&channel(self.address), &self.token(account, roles).await)
    }

    /// Clients of an admin of `accounts/acme` who may also use its secrets.
    pub(crate) async fn acme(&self) -> Clients {
        self.clients("acme", &[Role::AccountAdmin, Role::Verifier, Role::SipClient]).await
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(self.dir.path())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The options of a vault in `dir`.
fn options(dir: &Path, (twilio, vobiz, telepath): &Carriers) -> ServeOptions {
    ServeOptions {
        store: StoreOptions { data_dir: Some(dir.join("data")), ..StoreOptions::default() },
        listen: Some("127.0.0.1:0".to_owned()),
        ops_listen: Some("off".to_owned()),
        upstream_twilio_api_url: Some(twilio.url()),
        upstream_twilio_trunking_url: Some(twilio.url()),
        upstream_vobiz_api_url: Some(vobiz.url()),
        upstream_telepath_api_url: Some(telepath.url()),
        // Tests try more tokens than people do, and have carriers asked when they say so.
        limits_token_tries_per_provider: Some(0),
        limits_token_tries_per_account: Some(0),
        limits_failed_authentications: Some(0),
        verification_interval: Some("off".to_owned()),
        ..ServeOptions::default()
    }
}

pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("data/credvault.db")
}

#[expect(clippy::disallowed_methods, reason = "a test presents the token that it was given")]
pub(crate) fn exposed(text: &credvault::secret::SecretText) -> String {
    text.expose().to_owned()
}

/// Code and reason of a refusal.
pub(crate) fn refusal<T>(result: Result<T, Status>) -> (Code, String, ErrorDetails) {
    let Err(status) = result else { panic!("the call should have been refused") };
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), reason, details)
}

/// How a call ended: `OK`, or code and reason, with field and retry delay where there are any.
pub(crate) fn outcome<T>(result: &Result<T, Status>) -> String {
    let Err(status) = result else { return "OK".to_owned() };
    let details = status.get_error_details();
    let reason = details.error_info().map_or("?", |info| info.reason.as_str());
    let mut outcome = format!("{:?} {reason}", status.code());
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        outcome.extend([" ", &violation.field]);
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        outcome.extend([" retry ".to_owned(), delay.as_secs().to_string(), "s".to_owned()]);
    }
    outcome
}

/// A request id: the UUID4 of this number.
pub(crate) fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// The response of a phone, computed apart from the service's own code.
pub(crate) fn md5_response(user: &str, realm: &str, password: &str, nonce: &str) -> String {
    use md5::{Digest as _, Md5};
    let hex = |text: String| hex::encode(Md5::digest(text.as_bytes()));
    let ha1 = hex(format!("{user}:{realm}:{password}"));
    let ha2 = hex(format!("REGISTER:sip:{realm}"));
    hex(format!("{ha1}:{nonce}:{ha2}"))
}
