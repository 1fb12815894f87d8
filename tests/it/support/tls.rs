//! A carrier behind TLS: certificates of the tests' own authority, and a server that speaks TLS well or
//! badly and keeps what it hears.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

/// Signs certificates.
pub(crate) struct Authority {
    /// Its own certificate (DER).
    pub(crate) root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// TLS with a certificate for this host, in front of a server at `to`.
    pub(crate) fn signed(&self, host: &str, to: SocketAddr) -> Speech {
        self.signed_with(CertificateParams::new([host.to_owned()]).unwrap(), to)
    }

    /// The same, but the certificate has expired long ago.
    pub(crate) fn signed_and_expired(&self, host: &str, to: SocketAddr) -> Speech {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.signed_with(params, to)
    }

    fn signed_with(&self, params: CertificateParams, to: SocketAddr) -> Speech {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        tls(&certificate, &key, to)
    }
}

/// TLS with a certificate that only itself vouches for.
pub(crate) fn self_signed(host: &str, to: SocketAddr) -> Speech {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([host.to_owned()]).unwrap();
    tls(&params.self_signed(&key).unwrap(), &key, to)
}

fn tls(certificate: &rcgen::Certificate, key: &KeyPair, to: SocketAddr) -> Speech {
    let key = key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Speech::Tls(Arc::new(config).into(), to)
}

/// What a server says.
#[derive(Clone)]
pub(crate) enum Speech {
    /// TLS, and behind it what the server at this address says.
    Tls(TlsAcceptor, SocketAddr),
    /// These bytes, whatever comes.
    Bytes(Vec<u8>),
}

impl Speech {
    /// A server that knows nothing newer than TLS 1.1 (RFC 4346 §7.4.1.3): its hello says 0x0302.
    pub(crate) fn tls_1_1() -> Self {
        let body = [&[3, 2], [7; 32].as_slice(), &[0, 0x00, 0x2f, 0]].concat();
        let length = u8::try_from(body.len()).unwrap();
        Self::Bytes([&[22, 3, 2, 0, length + 4, 2, 0, 0, length], body.as_slice()].concat())
    }

    /// A server without TLS.
    pub(crate) fn plain_http() -> Self {
        let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        Self::Bytes(answer.as_bytes().to_vec())
    }
}

/// A server on loopback. Dropping it closes its port.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    speech: Mutex<Speech>,
    connections: AtomicU64,
    heard: Heard,
}

type Heard = Arc<Mutex<Vec<u8>>>;

impl Front {
    pub(crate) async fn start(speech: Speech) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let speech = Mutex::new(speech);
        let shared =
            Arc::new(Shared { speech, connections: AtomicU64::new(0), heard: Heard::default() });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, server }
    }

    /// Speaks otherwise from now on.
    pub(crate) fn speak(&self, speech: Speech) {
        *self.shared.speech.lock().unwrap() = speech;
    }

    /// How many connections have come.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// All bytes that came since this was asked last: as they came, and as TLS opened them.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Vec<u8>> {
        self.shared.heard.lock().unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let speech = shared.speech.lock().unwrap().clone();
        // An error in there is a caller who left.
        tokio::spawn(converse(stream, speech, Arc::clone(&shared.heard)));
    }
}

async fn converse(stream: TcpStream, speech: Speech, heard: Heard) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = Tap { reader, heard: Arc::clone(&heard) };
    match speech {
        Speech::Tls(acceptor, to) => {
            let stream = acceptor.accept(tokio::io::join(reader, writer)).await?;
            let (reader, writer) = tokio::io::split(stream);
            let mut opened = tokio::io::join(Tap { reader, heard }, writer);
            let mut to = TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut opened, &mut to).await.map(drop)
        }
        Speech::Bytes(bytes) => {
            let _ = reader.read(&mut [0; 4096]).await?;
            writer.write_all(&bytes).await?;
            // Closing before the caller does might reset the connection, and lose what was said.
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.map(drop)
        }
    }
}

/// Keeps a copy of what is read.
struct Tap<R> {
    reader: R,
    heard: Heard,
}

impl<R: AsyncRead + Unpin> AsyncRead for Tap<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(context, buffer))?;
        self.heard.lock().unwrap().extend(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}
