//! Configuration: flags, environment, one TOML file, defaults, in this order. The only reader of them.

mod carriers;
mod client;
mod door;
mod surroundings;

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::SignedDuration;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use crate::crypto::kek_source::KeyFile;
use crate::store::Location;
use crate::upstream::Endpoints;
use crate::vault::CallLimits;

pub use client::{ClientOptions, ClientSettings, check_own, secret_in};
pub use door::{ConnectionLimits, Listen, TlsOptions, TlsSettings};
pub use surroundings::{Surroundings, typed};

/// Where the data lies unless told otherwise.
const DATA_DIR: &str = "./credvault-data";

/// Where calls are taken unless told otherwise.
const LISTEN: &str = "127.0.0.1:50051";

/// Where health, readiness and metrics are told unless told otherwise.
const OPS_LISTEN: &str = "127.0.0.1:9464";

/// No more connections can be asked for: a slip of the keyboard would let memory and file descriptors run out.
const MOST_CONNECTIONS: usize = 65_536;

/// Options of every command that opens a vault.
#[derive(Debug, Clone, Default, Args)]
pub struct StoreOptions {
    /// Configuration file (TOML). Flags and environment variables win over it
    #[arg(long, env = "CREDVAULT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the vault's data [default: ./credvault-data]
    #[arg(long, env = "CREDVAULT_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the vault is stored [default: sqlite:./credvault-data/credvault.db]
    #[arg(long, env = "CREDVAULT_STORE", value_name = "URL")]
    pub store: Option<String>,
    /// File with the key-encryption keys; keep it out of the data folder and out of its backups
    /// [default: ./credvault-data.key; dev keeps it inside]
    #[arg(long, env = "CREDVAULT_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// How much to log: error, warn, info, debug or trace [default: info]
    #[arg(long, env = "CREDVAULT_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
    /// Open the vault although the clock is before its newest audit entry: the clock was wrong then, and is right now.
    /// Needed once; `serve` and `dev` record it
    #[arg(long)]
    pub accept_clock: bool,
}

/// Options of the commands that take calls.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeOptions {
    /// Options of the vault itself.
    #[command(flatten)]
    pub store: StoreOptions,
    /// Where to take calls: ADDRESS:PORT, or unix:PATH; anything but loopback needs TLS [default: 127.0.0.1:50051]
    #[arg(long, env = "CREDVAULT_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// Options about TLS.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Address for health, readiness and metrics, without encryption; or off [default: 127.0.0.1:9464]
    #[arg(long, env = "CREDVAULT_OPS_LISTEN", value_name = "ADDR")]
    pub ops_listen: Option<String>,
    /// Where Twilio's REST API is: https, or http to this machine [default: Twilio's own]
    #[arg(long, env = "CREDVAULT_UPSTREAM_TWILIO_API_URL", value_name = "URL")]
    pub upstream_twilio_api_url: Option<String>,
    /// Where Twilio's account API is, which rotates Auth Tokens [default: where its REST API is, if that is set, or else
    /// Twilio's own]
    #[arg(long, env = "CREDVAULT_UPSTREAM_TWILIO_ACCOUNTS_URL", value_name = "URL")]
    pub upstream_twilio_accounts_url: Option<String>,
    /// Where Twilio's IAM API is, which makes API keys [default: where its REST API is, if that is set, or else Twilio's
    /// own]
    #[arg(long, env = "CREDVAULT_UPSTREAM_TWILIO_IAM_URL", value_name = "URL")]
    pub upstream_twilio_iam_url: Option<String>,
    /// Where Twilio's trunking API is [default: where its REST API is, if that is set, or else Twilio's own]
    #[arg(long, env = "CREDVAULT_UPSTREAM_TWILIO_TRUNKING_URL", value_name = "URL")]
    pub upstream_twilio_trunking_url: Option<String>,
    /// Where Vobiz' API is: https, or http to this machine [default: Vobiz' own]
    #[arg(long, env = "CREDVAULT_UPSTREAM_VOBIZ_API_URL", value_name = "URL")]
    pub upstream_vobiz_api_url: Option<String>,
    /// Where Telepath's API is: https, or http to this machine [default: Telepath's own]
    #[arg(long, env = "CREDVAULT_UPSTREAM_TELEPATH_API_URL", value_name = "URL")]
    pub upstream_telepath_api_url: Option<String>,
    /// The last part of the path that rotates a trunk's password at Telepath, whose pages also name
    /// rotate-sip-password [default: rotate-password]
    #[arg(long, env = "CREDVAULT_UPSTREAM_TELEPATH_ROTATE_PATH", value_name = "PART")]
    pub upstream_telepath_rotate_path: Option<String>,
    /// How often each provider is verified again, such as 30m; or off [default: 1h]
    #[arg(long, env = "CREDVAULT_VERIFICATION_INTERVAL", value_name = "DURATION")]
    pub verification_interval: Option<String>,
    /// How many tokens a minute may be tried on one provider; 0 turns the limit off [default: 5]
    #[arg(long, env = "CREDVAULT_LIMITS_TOKEN_TRIES_PER_PROVIDER", value_name = "COUNT")]
    pub limits_token_tries_per_provider: Option<u32>,
    /// How many tokens a minute may be tried in one account; 0 turns the limit off [default: 30]
    #[arg(long, env = "CREDVAULT_LIMITS_TOKEN_TRIES_PER_ACCOUNT", value_name = "COUNT")]
    pub limits_token_tries_per_account: Option<u32>,
    /// How many connections may be open [default: 512]
    #[arg(long, env = "CREDVAULT_LIMITS_CONNECTIONS", value_name = "COUNT")]
    pub limits_connections: Option<usize>,
    /// How many connections may be open from one address [default: 64]
    #[arg(long, env = "CREDVAULT_LIMITS_CONNECTIONS_PER_ADDRESS", value_name = "COUNT")]
    pub limits_connections_per_address: Option<usize>,
    /// How many calls a second may fail to authenticate from one address, in bursts of twice as many; 0 turns the
    /// limit off [default: 10]
    #[arg(long, env = "CREDVAULT_LIMITS_FAILED_AUTHENTICATIONS", value_name = "COUNT")]
    pub limits_failed_authentications: Option<u32>,
    /// How many digest responses a minute may be wrong for one username in a realm, from one source; 0 turns the limit
    /// off [default: 10]
    #[arg(long, env = "CREDVAULT_LIMITS_FAILED_DIGEST_CHECKS", value_name = "COUNT")]
    pub limits_failed_digest_checks: Option<u32>,
    /// How many access tokens a minute may be minted in one account; 0 turns the limit off [default: 600]
    #[arg(long, env = "CREDVAULT_LIMITS_ACCESS_TOKENS", value_name = "COUNT")]
    pub limits_access_tokens: Option<u32>,
}

/// The configuration file. An unknown key is an error: it would be a setting that does not work.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    data_dir: Option<PathBuf>,
    store: Option<String>,
    key_file: Option<PathBuf>,
    log: Option<String>,
    listen: Option<String>,
    ops_listen: Option<String>,
    upstream: carriers::UpstreamSection,
    verification: VerificationSection,
    limits: LimitsSection,
    tls: door::TlsSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct VerificationSection {
    interval: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    token_tries_per_provider: Option<u32>,
    token_tries_per_account: Option<u32>,
    connections: Option<usize>,
    connections_per_address: Option<usize>,
    failed_authentications: Option<u32>,
    failed_digest_checks: Option<u32>,
    access_tokens: Option<u32>,
}

/// Where the operations listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpsListen {
    /// Nowhere.
    Off,
    /// Where it is by default: nobody chose it.
    Default(SocketAddr),
    /// Where the operator wants it. Any address: it tells no secret, and probes come from other machines.
    At(SocketAddr),
}

/// What a command works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the vault's data.
    pub data_dir: PathBuf,
    /// Where the vault is stored.
    pub store: Location,
    /// The key file that was named; None: the default for this data folder.
    named_key_file: Option<PathBuf>,
    /// How much to log.
    pub log: LevelFilter,
    /// Whether times in the vault that lie in the future are known to be wrong.
    pub accept_clock: bool,
    /// Where to take calls.
    pub listen: Listen,
    /// How connections are encrypted; None: not at all.
    pub tls: Option<TlsSettings>,
    /// How many connections may be open.
    pub connections: ConnectionLimits,
    /// Where to tell health, readiness and metrics.
    pub ops_listen: OpsListen,
    /// Where the carriers are.
    pub endpoints: Endpoints,
    /// How often each provider is verified again; None: never by itself.
    pub verification_interval: Option<SignedDuration>,
    /// How many calls of some kinds are let through.
    pub call_limits: CallLimits,
}

impl ServeOptions {
    /// Resolves flags, environment, file and defaults.
    pub fn resolve(mut self) -> anyhow::Result<Settings> {
        let document = read(self.store.config.as_deref())?;
        let Document { data_dir, store, key_file, log, listen, ops_listen, .. } = document;
        let Document { upstream, verification, limits, .. } = document;
        let endpoints = upstream.endpoints(&mut self)?;
        let data_dir = self.store.data_dir.or(data_dir).unwrap_or_else(|| DATA_DIR.into());
        let store = match self.store.store.or(store) {
            Some(url) => Location::parse(&url)?,
            None => Location::Sqlite(data_dir.join("credvault.db")),
        };
        let log = self.store.log.or(log);
        let listen = self.listen.or(listen);
        let interval = self.verification_interval.or(verification.interval);
        let defaults = CallLimits::default();
        let limit = |said: Option<u32>, default| said.map_or(default, NonZeroU32::new);
        let call_limits = CallLimits {
            per_provider: limit(
                self.limits_token_tries_per_provider.or(limits.token_tries_per_provider),
                defaults.per_provider,
            ),
            per_account: limit(
                self.limits_token_tries_per_account.or(limits.token_tries_per_account),
                defaults.per_account,
            ),
            failed_authentications: limit(
                self.limits_failed_authentications.or(limits.failed_authentications),
                defaults.failed_authentications,
            ),
            failed_digest_checks: limit(
                self.limits_failed_digest_checks.or(limits.failed_digest_checks),
                defaults.failed_digest_checks,
            ),
            access_tokens: limit(
                self.limits_access_tokens.or(limits.access_tokens),
                defaults.access_tokens,
            ),
        };
        let most = ConnectionLimits::default();
        let connections = ConnectionLimits {
            total: self.limits_connections.or(limits.connections).unwrap_or(most.total),
            per_address: self
                .limits_connections_per_address
                .or(limits.connections_per_address)
                .unwrap_or(most.per_address),
        };
        let possible = 1..=MOST_CONNECTIONS;
        if !possible.contains(&connections.total) || !possible.contains(&connections.per_address) {
            bail!(
                "limits.connections and limits.connections_per_address must be from 1 to {MOST_CONNECTIONS}; \
                 the default is {} and {}",
                most.total,
                most.per_address
            );
        }
        let tls = door::tls(self.tls, document.tls)?;
        Ok(Settings {
            data_dir,
            store,
            named_key_file: self.store.key_file.or(key_file),
            accept_clock: self.store.accept_clock,
            log: parse_log(log.as_deref().unwrap_or("info"))?,
            listen: door::listen(listen.as_deref().unwrap_or(LISTEN), tls.is_some())?,
            tls,
            connections,
            ops_listen: parse_ops_listen(self.ops_listen.or(ops_listen).as_deref())?,
            endpoints,
            verification_interval: parse_interval(interval.as_deref().unwrap_or("1h"))?,
            call_limits,
        })
    }
}

impl StoreOptions {
    /// Resolves flags, environment, file and defaults.
    pub fn resolve(self) -> anyhow::Result<Settings> {
        ServeOptions { store: self, ..ServeOptions::default() }.resolve()
    }
}

impl Settings {
    /// Makes the data folder, for its owner alone.
    pub fn make_data_dir(&self) -> anyhow::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.data_dir)
            .with_context(|| format!("cannot make the data folder {}", self.data_dir.display()))
    }

    /// The key file: named; or beside the data folder, `DATA_DIR.key`; or for dev inside it.
    pub fn key_file(&self, dev: bool) -> anyhow::Result<KeyFile> {
        if let Some(named) = &self.named_key_file {
            return Ok(KeyFile::at(named));
        }
        if dev {
            return Ok(KeyFile::at(self.data_dir.join("dev.key")));
        }
        let Some(name) = self.data_dir.file_name() else {
            bail!(
                "the data folder {} has no name; name a key file with --key-file",
                self.data_dir.display()
            );
        };
        let mut name = name.to_owned();
        name.push(".key");
        Ok(KeyFile::at(self.data_dir.with_file_name(name)))
    }
}

fn read(path: Option<&Path>) -> anyhow::Result<Document> {
    let Some(path) = path else { return Ok(Document::default()) };
    if fs::metadata(path).is_ok_and(|found| found.mode() & 0o022 != 0) {
        bail!(
            "the configuration file {} can be written by others, who could send tokens to themselves; take their \
             rights: chmod go-w {}",
            path.display(),
            path.display()
        );
    }
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}; name another with --config", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        // Its Display quotes the line over several lines; a refusal has one.
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(&text);
        let line = 1 + before.matches('\n').count();
        let problem = error.message().lines().collect::<Vec<_>>().join(", ");
        anyhow!(
            "the configuration file {} is not valid; mend line {line}: {problem}",
            path.display()
        )
    })
}

fn parse_interval(text: &str) -> anyhow::Result<Option<SignedDuration>> {
    if text == "off" {
        return Ok(None);
    }
    let minute = SignedDuration::from_mins(1);
    let week = SignedDuration::from_hours(7 * 24);
    match text.parse::<SignedDuration>() {
        Ok(interval) if (minute..=week).contains(&interval) => Ok(Some(interval)),
        _ => bail!(
            "verification.interval is {text}; write a duration from 1m to 168h, such as 1h, or off"
        ),
    }
}

fn parse_log(level: &str) -> anyhow::Result<LevelFilter> {
    // Not LevelFilter's own parser: it also takes filters by target, which could show other crates' secrets.
    match level {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => bail!("log is {level}; write error, warn, info, debug or trace"),
    }
}

fn parse_ops_listen(text: Option<&str>) -> anyhow::Result<OpsListen> {
    let address = match text {
        None => return Ok(OpsListen::Default(OPS_LISTEN.parse()?)),
        Some("off") => return Ok(OpsListen::Off),
        Some(text) => text.parse().ok(),
    };
    address.map(OpsListen::At).with_context(|| {
        let text = text.unwrap_or_default();
        format!("ops_listen is {text}; write ADDRESS:PORT, for example {OPS_LISTEN}, or off")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> anyhow::Result<Settings> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("credvault.toml");
        fs::write(&path, text)?;
        StoreOptions { config: Some(path), ..StoreOptions::default() }.resolve()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let settings =
            from_file("data_dir = 'a'\n[upstream.twilio]\napi_url = 'http://127.0.0.1:9'").unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("a"));
        assert_eq!(settings.store, Location::Sqlite("a/credvault.db".into()));
        assert_eq!(settings.key_file(false).unwrap().path(), Path::new("a.key"));
        assert_eq!(settings.listen.to_string(), LISTEN);
        assert_eq!(settings.ops_listen, OpsListen::Default(OPS_LISTEN.parse().unwrap()));
        let settings = from_file("ops_listen = '0.0.0.0:9464'").unwrap();
        assert_eq!(settings.ops_listen, OpsListen::At("0.0.0.0:9464".parse().unwrap()));
        assert_eq!(from_file("ops_listen = 'off'").unwrap().ops_listen, OpsListen::Off);

        let options = StoreOptions {
            data_dir: Some("b".into()),
            store: Some("sqlite:c.db".into()),
            ..StoreOptions::default()
        };
        let settings = options.resolve().unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("b"));
        assert_eq!(settings.store, Location::Sqlite("c.db".into()));
    }

    #[test]
    fn what_would_not_work_or_is_not_safe_is_refused() {
        for (file, says) in [
            ("data_dri = 'a'", "data_dri"),
            ("[upstream.twilio]\napi_urll = 'x'", "api_urll"),
            ("[upstream.twilio]\napi_url = 'http://api.twilio.com'", "https"),
            ("[upstream.twilio]\ntrunking_url = 'https://trunking.ie1.twilio.com'", "retired"),
            (
                "[upstream.twilio]\naccounts_url = 'x'",
                "upstream.twilio.accounts_url must be an https URL",
            ),
            (
                "[upstream.vobiz]\napi_url = 'http://api.vobiz.ai'",
                "upstream.vobiz.api_url must be an https URL",
            ),
            ("[upstream.twilio]\niam_url = 'x'", "upstream.twilio.iam_url must be an https URL"),
            ("[upstream.vobiz]\naccounts_url = 'x'", "accounts_url"),
            (
                "[upstream.telepath]\nrotate_path = '../x'",
                "upstream.telepath.rotate_path must be one part of a path",
            ),
            (
                "[upstream.telepath]\napi_url = 'x'",
                "upstream.telepath.api_url must be an https URL",
            ),
            ("[verification]\ninterval = '5s'", "1m to 168h"),
            ("[verification]\ninterval = 'hourly'", "1m to 168h"),
            ("[limits]\ntoken_tries_per_provider = -1", "line 2"),
            ("listen = '0.0.0.0:50051'", "name tls.cert_file and tls.key_file"),
            ("listen = 'unix:'", "unix:PATH"),
            ("listen = 'unix:/s'\n[tls]\ncert_file = 'c'\nkey_file = 'k'", "needs no TLS"),
            ("[tls]\ncert_file = 'c'", "name tls.key_file"),
            ("[tls]\nkey_file = 'k'", "name tls.cert_file"),
            ("[tls.trust_domains]\n'example.org' = 'b'", "needs TLS"),
            ("[tls.trust_domains]\n'Example.org' = 'b'", "Example.org must be a trust domain"),
            ("[limits]\nconnections = 0", "from 1 to 65536"),
            ("[limits]\nconnections_per_address = 1000000", "from 1 to 65536"),
            ("listen = 'localhost'", "ADDRESS:PORT"),
            ("ops_listen = 'localhost'", "ADDRESS:PORT, for example 127.0.0.1:9464, or off"),
            ("log = 'credvault=trace,h2=trace'", "write error, warn"),
            ("store = 'mysql://x'", "sqlite:PATH"),
        ] {
            let error = format!("{:#}", from_file(file).unwrap_err());
            assert!(error.contains(says), "{file}: {error}");
        }
    }
}
