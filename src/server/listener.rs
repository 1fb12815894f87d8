//! Where connections come from: a TCP port, with TLS or on loopback; or a Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use rustix::process::{Resource, geteuid, getrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::tls::Tls;
use crate::config::{ConnectionLimits, Listen, Settings};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// File descriptors for all but connections: the store, the operations listener, carriers. At most half of all.
const RESERVED_FILES: usize = 192;

/// A bound address, with how connections to it are taken.
pub struct Listener {
    pub(super) socket: Socket,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) limits: ConnectionLimits,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A connection as it was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// An address that is ours, with how connections to it will be taken. Nobody can connect yet.
pub struct Reserved {
    place: Place,
    listen: Listen,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserved").field("place", &self.place).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Place {
    Tcp(TcpSocket),
    Unix(PathBuf),
}

impl Reserved {
    /// Reads the certificates and reserves the address.
    pub(super) async fn new(settings: &Settings, now: Timestamp) -> anyhow::Result<Self> {
        // First the files: nobody connects to a server that cannot go on.
        let tls = settings.tls.as_ref().map(|tls| Tls::load(tls, now)).transpose()?.map(Arc::new);
        let listen = settings.listen.clone();
        let place = match &listen {
            Listen::Tcp(address) => {
                Place::Tcp(bind(*address).map_err(|source| cannot(&listen, source))?)
            }
            Listen::Unix(path) => {
                SocketFile::check(path).await?;
                Place::Unix(path.clone())
            }
        };
        Ok(Self { place, listen, tls, limits: settings.connections })
    }

    /// Lets clients connect.
    pub fn listen(self) -> anyhow::Result<Listener> {
        let Self { place, listen, tls, limits } = self;
        let socket = match place {
            Place::Tcp(socket) => {
                let socket = socket.listen(BACKLOG).map_err(|source| cannot(&listen, source))?;
                Socket::Tcp(socket)
            }
            Place::Unix(path) => {
                let file = SocketFile::claim(&path)?;
                let socket = UnixListener::bind(&path).map_err(|source| cannot(&listen, source))?;
                fs::set_permissions(&path, Permissions::from_mode(0o600))?;
                Socket::Unix(socket, file)
            }
        };
        let open_files = getrlimit(Resource::Nofile).current;
        let within = within_open_files(limits, open_files);
        if within != limits {
            tracing::warn!(
                connections = within.total,
                "fewer connections than configured: raise the limit of open files (ulimit -n, LimitNOFILE)"
            );
        }
        Ok(Listener { socket, tls, limits: within })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does: a port whose connections of before have not timed out is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Listener {
    /// Where it is.
    pub fn address(&self) -> String {
        match &self.socket {
            Socket::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string())
            }
            Socket::Unix(_, file) => format!("unix:{}", file.0.display()),
        }
    }

    /// Its network address, if it is one.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr(),
            Socket::Unix(..) => Err(io::Error::new(io::ErrorKind::Unsupported, "a Unix socket")),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, peer))
            }
            Socket::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

/// No more connections than there can be with what the rest needs: out of file descriptors, a vault could read nothing
/// that it does not hold open already.
pub(super) fn within_open_files(
    limits: ConnectionLimits,
    open_files: Option<u64>,
) -> ConnectionLimits {
    let Some(most) = open_files.and_then(|most| usize::try_from(most).ok()) else { return limits };
    let left = most - RESERVED_FILES.min(most / 2);
    ConnectionLimits { total: limits.total.min(left.max(1)), ..limits }
}

fn cannot(listen: &Listen, source: io::Error) -> anyhow::Error {
    anyhow!("cannot listen on {listen}: {source}; choose another address with --listen")
}

/// The file of a Unix socket, which goes when the listener does.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl SocketFile {
    /// Refuses a place where others could put a socket of theirs, and one that is taken.
    async fn check(path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let found = fs::metadata(folder).with_context(|| {
            format!("cannot listen in {}; make the folder first", folder.display())
        })?;
        if found.uid() != 0 && found.uid() != geteuid().as_raw() {
            bail!(
                "the folder {} of the socket belongs to another user, who could put theirs in its place; \
                 choose a folder of your own",
                folder.display()
            );
        }
        if found.mode() & 0o022 != 0 {
            // A sticky one, such as /tmp, is meant for everybody.
            let mend = if found.mode() & 0o1000 != 0 {
                "choose a folder of your own".to_owned()
            } else {
                format!("chmod go-w {}", folder.display())
            };
            bail!(
                "the folder {} of the socket can be written by others, who could put theirs in its place; {mend}",
                folder.display(),
            );
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => bail!(
                "{} is there and is no socket; choose another path with --listen unix:PATH",
                path.display()
            ),
            Ok(_) if UnixStream::connect(path).await.is_ok() => bail!(
                "another process takes calls on unix:{}; stop it, or choose another path with --listen",
                path.display()
            ),
            _ => Ok(()),
        }
    }

    /// Makes room for a socket: one that nobody listens on any more, as was looked before, is removed.
    fn claim(path: &Path) -> anyhow::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path).with_context(|| {
                format!(
                    "cannot remove the socket {} of before; remove it, or choose another path",
                    path.display()
                )
            })?;
        }
        Ok(Self(path.to_owned()))
    }

    /// Whom it belongs to.
    pub(super) fn owner(&self) -> io::Result<u32> {
        fs::metadata(&self.0).map(|found| found.uid())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_file_descriptors_for_the_rest() {
        let limits = ConnectionLimits::default();
        for (open_files, total) in [
            (None, 512),
            (Some(u64::MAX), 512),
            (Some(1024), 512),
            (Some(512), 320),
            (Some(128), 64),
            (Some(1), 1),
        ] {
            assert_eq!(within_open_files(limits, open_files).total, total, "{open_files:?}");
        }
    }
}
