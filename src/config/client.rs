//! What the commands need that call a vault: where it is, as whom, and for which account.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, fs::File, io};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Deserialize;

use super::{DATA_DIR, LISTEN};
use crate::name::ResourceId;
use crate::secret::SecretText;

/// Options of every command that calls a vault. The token has none: what stands in a command line is read by
/// everybody.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ClientOptions {
    /// A section of the client's configuration file (~/.config/credvault/client.toml) [default: default]
    #[arg(long, env = "CREDVAULT_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Where the vault is: https://HOST:PORT, unix:PATH, or on this machine HOST:PORT [default: 127.0.0.1:50051]
    #[arg(long, env = "CREDVAULT_ADDRESS", value_name = "ADDRESS")]
    pub address: Option<String>,
    /// File with your API token; or set `CREDVAULT_TOKEN` to the token itself
    /// [default: ./credvault-data/dev.token, which `credvault dev` makes]
    #[arg(long, env = "CREDVAULT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates of the authorities that vouch for the vault (PEM) [default: those of browsers]
    #[arg(long, env = "CREDVAULT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Your SPIFFE certificate (PEM), to call without a token
    #[arg(long, env = "CREDVAULT_CLIENT_CERT_FILE", value_name = "FILE")]
    pub client_cert_file: Option<PathBuf>,
    /// Its private key (PEM), readable by you alone
    #[arg(long, env = "CREDVAULT_CLIENT_KEY_FILE", value_name = "FILE")]
    pub client_key_file: Option<PathBuf>,
    /// The account, for example acme [default: dev, where ./credvault-data/dev.token is]
    #[arg(long, env = "CREDVAULT_ACCOUNT", value_name = "ACCOUNT")]
    pub account: Option<String>,
}

/// Which vault to call, and as whom.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct ClientSettings {
    /// Where the vault is.
    pub address: String,
    /// The API token; None: the certificate says who calls.
    pub token: Option<SecretText>,
    /// The file that the token is from; None: `CREDVAULT_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// The authorities that vouch for the vault (PEM); None: those of browsers.
    pub authorities: Option<String>,
    /// Certificate and private key of the caller (PEM).
    pub identity: Option<(String, SecretText)>,
    /// The account, if one was named or the vault is that of `credvault dev`.
    pub account: Option<ResourceId>,
}

/// One section of the client's configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Profile {
    address: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_cert_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    account: Option<String>,
}

/// What is around a command: where it is run, and by whom.
struct Surroundings {
    folder: PathBuf,
    token: Option<SecretText>,
    profiles: Option<PathBuf>,
}

impl ClientOptions {
    /// Resolves flags, environment, the profile and defaults, in this order.
    #[expect(clippy::disallowed_methods, reason = "`config` reads the environment")]
    pub fn resolve(self) -> anyhow::Result<ClientSettings> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
        let profiles = variable("CREDVAULT_CLIENT_CONFIG")
            .map(PathBuf::from)
            .or_else(|| folder.map(|folder| folder.join("credvault/client.toml")));
        let token = variable("CREDVAULT_TOKEN").map(SecretText::new);
        self.resolve_in(Surroundings { folder: PathBuf::new(), token, profiles })
    }

    fn resolve_in(self, surroundings: Surroundings) -> anyhow::Result<ClientSettings> {
        let profile = profile(self.profile.as_deref(), surroundings.profiles.as_deref())?;
        let dev = surroundings.folder.join(DATA_DIR).join("dev.token");
        let is_dev = profile.address.is_none() && dev.exists();
        // An empty variable is one that is not set.
        let named = |file: Option<PathBuf>| file.filter(|file| !file.as_os_str().is_empty());
        let identity = match (
            named(self.client_cert_file).or(profile.client_cert_file),
            named(self.client_key_file).or(profile.client_key_file),
        ) {
            (Some(certificate), Some(key)) => {
                let key = secret_in(&key).context("no client key (--client-key-file names one)")?;
                Some((read_text("certificate", &certificate)?, key))
            }
            (None, None) => None,
            (Some(_), None) => bail!("a client certificate needs its key: --client-key-file"),
            (None, Some(_)) => bail!("a client key needs its certificate: --client-cert-file"),
        };
        let (token, token_file) = match (named(self.token_file), surroundings.token) {
            (Some(file), _) => (Some(token_in(&file)?), Some(file)),
            (None, Some(token)) => (Some(token), None),
            (None, None) => match profile.token_file {
                Some(file) => (Some(token_in(&file)?), Some(file)),
                None if identity.is_some() => (None, None),
                None if is_dev => (Some(token_in(&dev)?), Some(dev)),
                None => bail!(
                    "no API token: name a file with --token-file or CREDVAULT_TOKEN_FILE, or set CREDVAULT_TOKEN; \
                     `credvault tokens create` makes one (the first: with --local, beside the stopped vault), and \
                     `credvault dev` leaves one in {DATA_DIR}/dev.token"
                ),
            },
        };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let account = match given(self.account).or(profile.account) {
            Some(account) => Some(parse_account(&account)?),
            None if is_dev => Some(ResourceId::parse("dev")?),
            None => None,
        };
        let address = given(self.address).or(profile.address);
        let address = address.unwrap_or_else(|| LISTEN.to_owned());
        let ca_file = named(self.ca_file).or(profile.ca_file);
        let authorities = ca_file.map(|file| read_text("authorities", &file)).transpose()?;
        Ok(ClientSettings { address, token, token_file, authorities, identity, account })
    }
}

/// The section `name` of the file, with its paths as seen from the file; without a name `default`, if it is there.
fn profile(name: Option<&str>, file: Option<&Path>) -> anyhow::Result<Profile> {
    let name = name.filter(|name| !name.is_empty());
    if let Some(file) = file
        && fs::metadata(file).is_ok_and(|found| found.mode() & 0o022 != 0)
    {
        bail!(
            "{0} can be written by others, who could have your token sent to themselves; take their rights: \
             chmod go-w {0}",
            file.display()
        );
    }
    let document = match file.map(|file| (file, fs::read_to_string(file))) {
        Some((file, Ok(text))) => {
            let parsed = toml::from_str::<BTreeMap<String, Profile>>(&text);
            Some((file, parsed.with_context(|| format!("cannot use {}", file.display()))?))
        }
        Some((file, Err(error))) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
        _ => None,
    };
    let place = file.map_or("~/.config/credvault/client.toml".into(), Path::to_string_lossy);
    let Some((file, mut profiles)) = document else {
        return match name {
            None => Ok(Profile::default()),
            Some(name) => bail!(
                "there is no profile {name}: {place} is not there; write [{name}] with an address into it"
            ),
        };
    };
    let found = profiles.remove(name.unwrap_or("default"));
    let mut found = match (found, name) {
        (Some(found), _) => found,
        (None, None) => Profile::default(),
        (None, Some(name)) => {
            let known = profiles.into_keys().collect::<Vec<_>>().join(", ");
            bail!("there is no profile {name} in {place}; it has: {known}")
        }
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let files = [
        &mut found.token_file,
        &mut found.ca_file,
        &mut found.client_cert_file,
        &mut found.client_key_file,
    ];
    for path in files.into_iter().flatten() {
        *path = folder.join(&*path);
    }
    if let Some(address) = &mut found.address
        && let Some(socket) = address.strip_prefix("unix:").filter(|path| !path.is_empty())
    {
        *address = format!("unix:{}", folder.join(socket).display());
    }
    Ok(found)
}

fn token_in(file: &Path) -> anyhow::Result<SecretText> {
    secret_in(file).context("no API token (--token-file names another file)")
}

fn read_text(what: &str, file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file)
        .with_context(|| format!("cannot read the {what} in {}", file.display()))
}

/// Refuses a file with secrets, open already, that others may read.
pub fn check_own(file: &File, path: &Path) -> anyhow::Result<()> {
    let found = file
        .metadata()
        .with_context(|| format!("cannot look at the secret in {}", path.display()))?;
    // What is no file (a pipe of the shell) is nobody else's.
    if found.is_file() && found.mode() & 0o077 != 0 {
        bail!(
            "{} holds a secret and others may read it; take their rights: chmod 600 {}",
            path.display(),
            path.display()
        );
    }
    Ok(())
}

/// A secret from a file that is its owner's alone, without the end of its line.
pub fn secret_in(path: &Path) -> anyhow::Result<SecretText> {
    let context = || format!("cannot read the secret in {}", path.display());
    let file = File::open(path).with_context(context)?;
    check_own(&file, path)?;
    let text = io::read_to_string(file).map(SecretText::new).with_context(context)?;
    #[expect(clippy::disallowed_methods, reason = "takes the line end off a caller's secret")]
    let secret = SecretText::new(text.expose().trim_end_matches(['\r', '\n']).to_owned());
    Ok(secret)
}

fn parse_account(account: &str) -> anyhow::Result<ResourceId> {
    let id = account.strip_prefix("accounts/").unwrap_or(account);
    ResourceId::parse(id).with_context(|| format!("account {account:?}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test looks at what it wrote")]
    fn told(settings: &ClientSettings) -> (&str, Option<&Path>, Option<&str>) {
        let account = settings.account.as_ref().map(ResourceId::as_str);
        let token = settings.token.as_ref().unwrap().expose();
        (token, settings.token_file.as_deref(), account)
    }

    fn write(file: &Path, text: &str) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn resolve(
        dir: &Path,
        options: ClientOptions,
        variable: Option<&str>,
    ) -> anyhow::Result<ClientSettings> {
        options.resolve_in(Surroundings {
            folder: dir.to_owned(),
            token: variable.map(|it| SecretText::new(it.to_owned())),
            profiles: Some(dir.join("client.toml")),
        })
    }

    #[test]
    fn a_named_file_wins_over_the_variable_and_both_over_what_dev_left() {
        let dir = tempfile::tempdir().unwrap();
        let resolve = |options, variable| resolve(dir.path(), options, variable);
        let none = resolve(ClientOptions::default(), None).err().unwrap().to_string();
        assert!(none.contains("--token-file") && none.contains("credvault dev"), "{none}");
        let settings = resolve(ClientOptions::default(), Some("variable")).unwrap();
        assert_eq!(told(&settings), ("variable", None, None));
        assert_eq!(settings.address, LISTEN);

        fs::create_dir(dir.path().join(DATA_DIR)).unwrap();
        let left = dir.path().join(DATA_DIR).join("dev.token");
        write(&left, "left\n");
        let settings = resolve(ClientOptions::default(), None).unwrap();
        assert_eq!(told(&settings), ("left", Some(left.as_path()), Some("dev")));
        let settings = resolve(ClientOptions::default(), Some("variable")).unwrap();
        assert_eq!(told(&settings), ("variable", None, Some("dev")));

        let file = dir.path().join("acme.token");
        write(&file, "named\n");
        let account = Some("accounts/acme".to_owned());
        let options =
            ClientOptions { token_file: Some(file.clone()), account, ..ClientOptions::default() };
        let settings = resolve(options.clone(), Some("variable")).unwrap();
        assert_eq!(told(&settings), ("named", Some(file.as_path()), Some("acme")));

        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = format!("{:#}", resolve(options, None).err().unwrap());
        assert!(refused.contains("chmod 600") && refused.contains("--token-file"), "{refused}");

        let account = Some("Acme!".to_owned());
        let refused = resolve(ClientOptions { account, ..ClientOptions::default() }, None);
        assert!(format!("{:#}", refused.err().unwrap()).contains("Acme!"));
    }

    #[test]
    fn a_profile_wins_over_what_dev_left_and_gives_way_to_all_else() {
        let dir = tempfile::tempdir().unwrap();
        let named = |name: &str| ClientOptions {
            profile: Some(name.to_owned()),
            ..ClientOptions::default()
        };
        let missing = resolve(dir.path(), named("far"), Some("x")).err().unwrap().to_string();
        assert!(missing.contains("[far]"), "{missing}");
        let text = "[default]\naddress = \"127.0.0.1:1\"\ntoken_file = \"a.token\"\n\
                    [far]\naddress = \"https://far:2\"\ntoken_file = \"a.token\"\naccount = \"acme\"\n\
                    [wrong]\naddres = \"x\"\n";
        write(&dir.path().join("client.toml"), text.split("[wrong]").next().unwrap());
        write(&dir.path().join("a.token"), "profile");
        let settings = resolve(dir.path(), ClientOptions::default(), None).unwrap();
        let file = dir.path().join("a.token");
        assert_eq!(told(&settings), ("profile", Some(file.as_path()), None));
        assert_eq!(settings.address, "127.0.0.1:1");
        let settings = resolve(dir.path(), named("far"), Some("variable")).unwrap();
        assert_eq!(told(&settings), ("variable", None, Some("acme")));
        assert_eq!(settings.address, "https://far:2");
        let options = ClientOptions { address: Some("127.0.0.1:3".into()), ..named("far") };
        assert_eq!(resolve(dir.path(), options, None).unwrap().address, "127.0.0.1:3");
        let unknown = resolve(dir.path(), named("near"), None).err().unwrap().to_string();
        assert!(unknown.contains("it has: default, far"), "{unknown}");
        let socket = text.replace("https://far:2", "unix:run/socket");
        write(&dir.path().join("client.toml"), socket.split("[wrong]").next().unwrap());
        let settings = resolve(dir.path(), named("far"), None).unwrap();
        assert_eq!(settings.address, format!("unix:{}/run/socket", dir.path().display()));
        let open = fs::Permissions::from_mode(0o622);
        fs::set_permissions(dir.path().join("client.toml"), open).unwrap();
        let refused = resolve(dir.path(), named("far"), None).err().unwrap().to_string();
        assert!(refused.contains("chmod go-w") && refused.contains("client.toml"), "{refused}");
        write(&dir.path().join("client.toml"), text);
        let wrong = resolve(dir.path(), ClientOptions::default(), None).err().unwrap();
        assert!(format!("{wrong:#}").contains("addres"), "{wrong:#}");
    }
}
