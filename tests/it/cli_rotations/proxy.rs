//! A way to a vault on which answers get lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to an answer when it comes.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// It is gone, and so is the connection.
    Cut,
    /// It is on its way, for ever.
    Held,
}

/// A proxy that counts answers from 0, and has a fate for some.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    came: watch::Receiver<usize>,
}

struct Way {
    vault: SocketAddr,
    fate: Fate,
    which: BTreeSet<usize>,
    next: AtomicUsize,
    came: watch::Sender<usize>,
}

impl Proxy {
    pub(crate) async fn start(vault: SocketAddr, fate: Fate, which: &[usize]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, came) = watch::channel(0);
        let which = which.iter().copied().collect();
        let way = Arc::new(Way { vault, fate, which, next: AtomicUsize::new(0), came: sender });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&way).carry(client));
            }
        });
        Self { address, came }
    }

    /// Waits until so many answers have come: what they answer is done by then.
    pub(super) async fn answers(&mut self, count: usize) {
        self.came.wait_for(|came| *came >= count).await.unwrap();
    }
}

impl Way {
    async fn carry(self: Arc<Self>, client: TcpStream) {
        let Ok(vault) = TcpStream::connect(self.vault).await else { return };
        let (mut from_client, to_client) = client.into_split();
        let (from_vault, mut to_vault) = vault.into_split();
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_vault) => {}
            _ = self.answers(from_vault, to_client) => {}
        }
    }

    /// Frame by frame (RFC 9113 §4.1). Each second one with headers begins an answer; the other is its trailers.
    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> std::io::Result<()> {
        const HEADERS: u8 = 1;
        const END_STREAM: u8 = 1;
        loop {
            let mut head = [0; 9];
            from.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, ..] = head;
            let mut body = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
            from.read_exact(&mut body).await?;
            if kind == HEADERS && flags & END_STREAM == 0 {
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                self.came.send_replace(number + 1);
                if self.which.contains(&number) {
                    match self.fate {
                        Fate::Cut => return Ok(()),
                        Fate::Held => std::future::pending::<()>().await,
                    }
                }
            }
            to.write_all(&head).await?;
            to.write_all(&body).await?;
        }
    }
}
