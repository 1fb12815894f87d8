//! Where calls are taken, and how: addresses, certificates, and how many may come.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Deserialize;

use super::LISTEN;
use crate::access::spiffe::TrustDomain;

/// Where calls are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `ADDRESS:PORT`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The files that make connections encrypted, and callers known by their certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate of this server, with the intermediate ones behind it (PEM).
    pub cert_file: PathBuf,
    /// Its private key (PEM), for its owner alone.
    pub key_file: PathBuf,
    /// The certificates of authorities (PEM) that vouch for the workloads of each trust domain.
    pub trust_domains: BTreeMap<TrustDomain, PathBuf>,
}

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one address; for IPv6 from one /64.
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 512, per_address: 64 }
    }
}

/// Options about TLS.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsOptions {
    /// Certificate of this server with its intermediates (PEM); needed where others can reach it
    #[arg(long, env = "CREDVAULT_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of that certificate (PEM), readable by its owner alone
    #[arg(long, env = "CREDVAULT_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// A trust domain with the certificates of its authorities (PEM): workloads of it may call with their SPIFFE
    /// certificate in place of a token; may be given several times
    #[arg(
        long = "tls-trust-domain",
        env = "CREDVAULT_TLS_TRUST_DOMAINS",
        value_name = "DOMAIN=FILE",
        value_delimiter = ','
    )]
    pub tls_trust_domains: Vec<String>,
}

/// The section `[tls]` of the configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    trust_domains: BTreeMap<String, PathBuf>,
}

/// Resolves the options about TLS; None: calls are not encrypted.
pub(super) fn tls(options: TlsOptions, section: TlsSection) -> anyhow::Result<Option<TlsSettings>> {
    let mut named = section.trust_domains;
    if !options.tls_trust_domains.is_empty() {
        let pair = |text: &String| {
            let (domain, file) = text.split_once('=').with_context(|| {
                format!("tls.trust_domains has {text}; write DOMAIN=FILE, for example example.org=bundle.pem")
            })?;
            Ok((domain.to_owned(), PathBuf::from(file)))
        };
        named = options.tls_trust_domains.iter().map(pair).collect::<anyhow::Result<_>>()?;
    }
    let mut trust_domains = BTreeMap::new();
    for (domain, file) in named {
        let known = TrustDomain::parse(&domain)
            .map_err(|problem| anyhow::anyhow!("tls.trust_domains: {domain} {problem}"))?;
        trust_domains.insert(known, file);
    }
    let cert_file = options.tls_cert_file.or(section.cert_file);
    match (cert_file, options.tls_key_file.or(section.key_file)) {
        (Some(cert_file), Some(key_file)) => {
            Ok(Some(TlsSettings { cert_file, key_file, trust_domains }))
        }
        (None, None) if trust_domains.is_empty() => Ok(None),
        (None, None) => bail!("tls.trust_domains needs TLS: name tls.cert_file and tls.key_file"),
        (Some(_), None) => bail!("tls.cert_file needs the private key: name tls.key_file"),
        (None, Some(_)) => bail!("tls.key_file needs its certificate: name tls.cert_file"),
    }
}

/// What fits into the address of a Unix socket (unix(7)): 108 bytes, and the last is zero.
const LONGEST_SOCKET: usize = 107;

/// Parses where calls are taken; without TLS only where nobody else can listen in.
pub(super) fn listen(text: &str, encrypted: bool) -> anyhow::Result<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            bail!(
                "listen is unix: without a path; write unix:PATH, for example unix:/run/credvault/socket"
            );
        }
        if path.len() > LONGEST_SOCKET {
            bail!(
                "listen is a path of {} bytes, and that of a Unix socket has at most {LONGEST_SOCKET}; choose a \
                 shorter one",
                path.len()
            );
        }
        if encrypted {
            bail!(
                "listen is a Unix socket, which needs no TLS; take tls.cert_file and tls.key_file out"
            );
        }
        return Ok(Listen::Unix(path.into()));
    }
    let address: SocketAddr = text.parse().ok().with_context(|| {
        format!("listen is {text}; write ADDRESS:PORT, for example {LISTEN}, or unix:PATH")
    })?;
    if !address.ip().is_loopback() && !encrypted {
        bail!(
            "listen is {address}, which others can reach, and without TLS they could read every password; \
             name tls.cert_file and tls.key_file, or write {LISTEN}"
        );
    }
    Ok(Listen::Tcp(address))
}
