//! A vault that runs: what it says of itself, by its operations listener.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Finding, enough_descriptors};
use crate::config::{OpsListen, Settings};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// No answer is larger: it might be another program's.
const MAX_ANSWER: u64 = 1024 * 1024;

/// Asks the vault that uses this store.
pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let address = match settings.ops_listen {
        OpsListen::Off => {
            let says = "not asked: ops_listen is off";
            let mend = "its log says how it is; with ops_listen it can be asked";
            return vec![Finding::not_checked("running", says, mend)];
        }
        OpsListen::Default(address) | OpsListen::At(address) => reachable(address),
    };
    let ready = get(address, "/readyz").await;
    let metrics = get(address, "/metrics").await;
    let mut findings = vec![readiness(address, ready)];
    if let Ok((200, metrics)) = metrics {
        findings.extend(measured(&metrics, settings));
    }
    findings
}

fn readiness(address: SocketAddr, ready: io::Result<(u16, String)>) -> Finding {
    match ready {
        Ok((200, _)) => Finding::good("running", format!("it takes calls, as {address} says")),
        Ok((503, why)) => Finding::warning(
            "running",
            format!("it takes no calls: {}", why.trim()),
            "wait, and look at its log if this stays",
        ),
        Ok((status, _)) => Finding::bad(
            "running",
            format!("{address} answers {status}: it is another program"),
            "name the vault's own with --ops-listen",
        ),
        Err(error) => Finding::bad(
            "running",
            format!("a process uses the vault, and {address} does not answer ({error})"),
            "name the vault's own with --ops-listen; look at its log",
        ),
    }
}

fn measured(metrics: &str, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let count = |name| value(metrics, name).unwrap_or(0.0);
    if count("credvault_commit_failures_total") > 0.0 {
        findings.push(Finding::bad(
            "commits",
            format!("{} failed since it started", count("credvault_commit_failures_total")),
            "look at the disk, and at the line `commit a batch` in its log",
        ));
    }
    if count("credvault_panics_total") > 0.0 {
        findings.push(Finding::bad(
            "panics",
            format!("{} since it started", count("credvault_panics_total")),
            "report the line `panic` of its log: it is a bug",
        ));
    }
    let running = label(metrics, "credvault_build_info", "version");
    if let Some(running) = running.filter(|running| running != env!("CARGO_PKG_VERSION")) {
        findings.push(Finding::warning(
            "version",
            format!("version {running} runs, and this is {}", env!("CARGO_PKG_VERSION")),
            "restart it to take the new one into use",
        ));
    }
    let limit = value(metrics, "process_max_fds").and_then(|limit| format!("{limit}").parse().ok());
    let wanted = settings.connections;
    findings.extend(limit.map(|limit| enough_descriptors(Some(limit), wanted, "there")));
    findings
}

/// The value of a metric without labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

fn label(metrics: &str, name: &str, label: &str) -> Option<String> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'))?;
    let (_, rest) = line.split_once(&format!("{label}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

/// Where to ask a listener that takes connections on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (ip, address.port()).into()
}

/// GETs a path: status and body. HTTP/1.1 with `connection: close` is as little as can be.
async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let no_http = || io::Error::new(io::ErrorKind::InvalidData, "not HTTP");
        Ok((status.ok_or_else(no_http)?, body.to_owned()))
    };
    tokio::time::timeout(ANSWER, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_their_whole_name() {
        let metrics = "# HELP a_total x\na_total_more 7\na_total 3\nb{version=\"1.2\",x=\"y\"} 1\n";
        assert_eq!(value(metrics, "a_total"), Some(3.0));
        assert_eq!(value(metrics, "a"), None);
        assert_eq!(label(metrics, "b", "version").as_deref(), Some("1.2"));
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        for (address, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.1:9464", "10.0.0.1:9464"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
