//! A thousand answers that get lost on the way, and clients who come again: one new version each, and a sealed one
//! for whoever holds the key.
//!
//! The answers go through a proxy that cuts the connection when the first header of an answer comes: then the commit
//! has happened. After that four callers retry at once, one to five times each, and some of these answers are cut as well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use credvault::access::Role;
use credvault::crypto::delivery::PrivateKey;
use credvault::grpc::proto::{
    CreateCredentialRequest, CreateCredentialResponse, RotateCredentialRequest, SealedSecret,
};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;

use super::delivery::{open, to};
use super::whole;
use crate::credentials::{check, create, rotate};
use crate::support::random::Rng;
use crate::support::{Clients, TestVault, channel, outcome, uuid};

const SEED: u64 = 0x1057;
const OPERATIONS: usize = 1_000;
const RETRYING: usize = 4;

/// Type of a HEADERS frame (RFC 9113 §6.2).
const HEADERS: u8 = 1;

/// Passes everything on, and ends a connection when an answer begins. Counts how often.
async fn cutting_proxy(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cuts = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&cuts);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let cuts = Arc::clone(&counted);
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = async {
                    tokio::io::copy(&mut from_client, &mut to_server).await.ok();
                };
                let down = async {
                    let mut header = [0; 9];
                    while from_server.read_exact(&mut header).await.is_ok() {
                        if header[3] == HEADERS {
                            cuts.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                        let mut rest = vec![0; usize::try_from(length).unwrap()];
                        from_server.read_exact(&mut rest).await.unwrap();
                        to_client.write_all(&[&header, rest.as_slice()].concat()).await.unwrap();
                    }
                };
                tokio::select! { () = up => {}, () = down => {} }
            });
        }
    });
    (address, cuts)
}

/// What is asked, again and again.
#[derive(Clone)]
enum Ask {
    Create(Box<CreateCredentialRequest>),
    Rotate(RotateCredentialRequest),
}

impl Ask {
    /// The sealed secret of an answer, and the credential's version.
    async fn send(&self, clients: &Clients) -> Result<(Option<SealedSecret>, i64), Status> {
        match self {
            Self::Create(request) => {
                let answer = clients
                    .credentials
                    .clone()
                    .create_credential(CreateCredentialRequest::clone(request))
                    .await?;
                let CreateCredentialResponse { credential, sealed, .. } = answer.into_inner();
                Ok((sealed, credential.unwrap().version))
            }
            Self::Rotate(request) => {
                let answer = whole(clients, request.clone()).await?;
                Ok((answer.sealed, answer.credential.unwrap().version))
            }
        }
    }
}

struct World {
    token: String,
    direct: Clients,
    proxy: SocketAddr,
}

impl World {
    /// Asks once through the proxy: the answer is lost.
    async fn lose(&self, ask: &Ask) {
        let clients = Clients::new(&channel(self.proxy), &self.token);
        ask.send(&clients).await.expect_err("the answer is cut");
    }

    async fn retry(&self, ask: &Ask, times: usize, lost: usize) -> Vec<String> {
        let mut outcomes = Vec::new();
        for number in 0..times {
            if number == lost {
                self.lose(ask).await;
                continue;
            }
            let answer = ask.send(&self.direct).await;
            outcomes.push(match answer {
                Ok((Some(sealed), version)) => format!("{version} {sealed:?}"),
                Ok((None, _)) => panic!("a plaintext was given out twice"),
                Err(_) => outcome(&answer),
            });
        }
        outcomes
    }
}

/// One operation whose first answer is lost, and what its retries come to.
async fn operation(world: &World, number: usize, mut rng: Rng) -> (bool, usize) {
    let id = u64::try_from(number).unwrap();
    let key = PrivateKey::generate().unwrap();
    let is_sealed = number.is_multiple_of(2);
    let recipient = is_sealed.then(|| to(&key));
    let user = format!("user-{number}");
    let creation = CreateCredentialRequest {
        credential_id: format!("c-{number}"),
        request_id: uuid(2 * id),
        ..create(&user)
    };
    let name = format!("accounts/acme/credentials/c-{number}");
    let is_creation = number % 4 < 2;
    let ask = if is_creation {
        Ask::Create(Box::new(CreateCredentialRequest { recipient, ..creation }))
    } else {
        world.direct.create(creation).await.unwrap();
        let request_id = uuid(2 * id + 1);
        Ask::Rotate(RotateCredentialRequest { recipient, request_id, ..rotate(&name) })
    };
    let before = i64::from(!is_creation);
    world.lose(&ask).await;
    let retries = (0..RETRYING).map(|_| {
        let times = 1 + rng.below(5);
        // Of a long row of retries one is lost as well.
        let lost = if times > 3 { rng.below(times) } else { times };
        world.retry(&ask, times, lost)
    });
    let outcomes: Vec<_> = join_all(retries).await.into_iter().flatten().collect();
    let all_equal = outcomes.windows(2).all(|pair| pair[0] == pair[1]);
    assert!(all_equal && !outcomes.is_empty(), "operation {number}: {outcomes:#?}");
    assert_eq!(world.direct.get(&name).await.unwrap().version, before + 1);
    if is_sealed {
        let (sealed, version) = ask.send(&world.direct).await.unwrap();
        let password = open(&key, &sealed.unwrap()).unwrap();
        assert_eq!(check(&world.direct, &user, &password).await.version, version);
        assert_eq!(version, before + 1);
    } else {
        assert_eq!(outcomes[0], "FailedPrecondition SECRET_ALREADY_ISSUED");
    }
    (is_sealed, outcomes.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_lost_answers_strand_no_sealed_secret_and_make_no_second_version() {
    println!("seed {SEED:#x}");
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
    let (proxy, cuts) = cutting_proxy(vault.address).await;
    let world =
        Arc::new(World { direct: Clients::new(&channel(vault.address), &token), proxy, token });
    let mut rng = Rng::new(SEED);
    let mut sealed = 0;
    let mut retries = 0;
    for first in (0..OPERATIONS).step_by(20) {
        let some = (first..first + 20).map(|number| {
            let (world, rng) = (Arc::clone(&world), Rng::new(rng.draw()));
            tokio::spawn(async move { operation(&world, number, rng).await })
        });
        for done in join_all(some).await {
            let (is_sealed, retried) = done.unwrap();
            sealed += usize::from(is_sealed);
            retries += retried;
        }
    }
    let log = world.direct.audit_log("acme").await;
    let made = log
        .iter()
        .filter(|entry| entry.outcome == "OK")
        .filter(|entry| entry.method == "CreateCredential" || entry.method == "RotateCredential");
    assert_eq!(made.count(), OPERATIONS + OPERATIONS / 2, "half of them rotate what was created");
    let cuts = cuts.load(Ordering::Relaxed);
    assert!(cuts >= OPERATIONS, "{cuts}");
    println!(
        "{OPERATIONS} operations, {sealed} of them sealed; {cuts} answers lost; {retries} retries answered"
    );
}
