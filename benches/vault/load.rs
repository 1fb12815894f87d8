//! The load: many callers over few connections, each waiting for its answer before the next call.
//!
//! Calls are prebuilt bytes over hyper, not a tonic client, which would cost more than the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use credvault::grpc::proto::{
    CreateCredentialRequest, CreateCredentialResponse, Credential, GetCredentialRequest,
    RotateCredentialRequest,
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

const CONNECTIONS: usize = 4;
const SERVICE: &str = "/credvault.v1.CredentialService";

/// Where to send calls.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

/// What to call.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Get,
    Rotate,
}

/// What came of a round.
pub(crate) struct Outcome {
    pub(crate) calls: u64,
    pub(crate) refused: u64,
    pub(crate) rate: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// One caller's way to a server.
#[derive(Clone)]
struct Caller {
    sender: SendRequest<Full<Bytes>>,
    head: Arc<http::request::Parts>,
}

impl Caller {
    async fn call(&mut self, method: &str, message: &impl Message) -> (bool, Bytes) {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut frame).unwrap();
        let mut request =
            http::Request::from_parts((*self.head).clone(), Full::new(frame.freeze()));
        *request.uri_mut() = format!("http://bench{SERVICE}/{method}").parse().unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let refused = response.headers().contains_key("grpc-status");
        let body = response.into_body().collect().await.unwrap();
        let good = body.trailers().is_some_and(|trailers| trailers["grpc-status"] == "0");
        (good && !refused, body.to_bytes())
    }
}

async fn callers(target: &Target, count: usize) -> Vec<Caller> {
    let mut head = http::Request::post("/");
    head = head.header("content-type", "application/grpc").header("te", "trailers");
    if !target.token.is_empty() {
        head = head.header("authorization", format!("Bearer {}", target.token));
    }
    let head = Arc::new(head.body(()).unwrap().into_parts().0);
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(target.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let per_connection = count / CONNECTIONS;
        callers.extend(
            (0..per_connection).map(|_| Caller { sender: sender.clone(), head: Arc::clone(&head) }),
        );
    }
    callers
}

/// Creates credentials and returns their names.
pub(crate) async fn fill(target: &Target, count: usize, width: usize) -> Arc<Vec<String>> {
    let callers = callers(target, width).await;
    let share = count / callers.len();
    let tasks: Vec<_> = callers
        .into_iter()
        .enumerate()
        .map(|(number, mut caller)| {
            tokio::spawn(async move {
                let mut names = Vec::new();
                for index in 0..share {
                    let request = CreateCredentialRequest {
                        parent: "accounts/dev".to_owned(),
                        credential: Some(Credential {
                            username: format!("user-{number}-{index}"),
                            realm: "sip.example.com".to_owned(),
                            ..Credential::default()
                        }),
                        ..CreateCredentialRequest::default()
                    };
                    let (good, answer) = caller.call("CreateCredential", &request).await;
                    assert!(good, "create a credential");
                    let answer = CreateCredentialResponse::decode(answer.slice(5..)).unwrap();
                    names.push(answer.credential.unwrap().name);
                }
                names
            })
        })
        .collect();
    let mut names = Vec::new();
    for task in tasks {
        names.extend(task.await.unwrap());
    }
    Arc::new(names)
}

/// Calls for `time` and says what came of it.
pub(crate) async fn measure(
    target: &Target,
    call: Call,
    names: &Arc<Vec<String>>,
    width: usize,
    time: Duration,
) -> Outcome {
    let callers = callers(target, width).await;
    let started = Instant::now();
    let tasks: Vec<_> = callers
        .into_iter()
        .enumerate()
        .map(|(number, mut caller)| {
            let names = Arc::clone(names);
            tokio::spawn(async move {
                let (mut times, mut refused) = (Vec::new(), 0_u64);
                // A fixed walk with a stride far from any power of two: spread, and the same in each run.
                let mut place = number * 7_919;
                while started.elapsed() < time {
                    place = (place + 104_729) % names.len();
                    let name = names[place].clone();
                    let begun = Instant::now();
                    let (good, _) = match call {
                        Call::Get => {
                            caller.call("GetCredential", &GetCredentialRequest { name }).await
                        }
                        Call::Rotate => {
                            let request = RotateCredentialRequest {
                                name,
                                ..RotateCredentialRequest::default()
                            };
                            caller.call("RotateCredential", &request).await
                        }
                    };
                    times.push(begun.elapsed());
                    refused += u64::from(!good);
                }
                (times, refused)
            })
        })
        .collect();
    let (mut times, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let (some, more) = task.await.unwrap();
        times.extend(some);
        refused += more;
    }
    let elapsed = started.elapsed();
    times.sort_unstable();
    let micros = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
    Outcome {
        calls: u64::try_from(times.len()).unwrap(),
        refused,
        rate: f64::from(u32::try_from(times.len()).unwrap()) / elapsed.as_secs_f64(),
        p50_micros: micros(50),
        p99_micros: micros(99),
    }
}
