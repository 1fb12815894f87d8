//! What the commands need that call a vault: where it is, as whom, and for which account.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{DATA_DIR, LISTEN};
use crate::name::ResourceId;
use crate::secret::SecretText;

/// Options of every command that calls a vault. The token has none: what stands in a command line is read by
/// everybody.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ClientOptions {
    /// Where the vault is; this machine only until TLS exists [default: 127.0.0.1:50051]
    #[arg(long, env = "CREDVAULT_ADDRESS", value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// File with your API token; or set `CREDVAULT_TOKEN` to the token itself
    /// [default: ./credvault-data/dev.token, which `credvault dev` makes]
    #[arg(long, env = "CREDVAULT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The account, for example acme [default: dev, where ./credvault-data/dev.token is]
    #[arg(long, env = "CREDVAULT_ACCOUNT", value_name = "ACCOUNT")]
    pub account: Option<String>,
}

/// Which vault to call, and as whom.
#[expect(missing_debug_implementations, reason = "holds a token")]
pub struct ClientSettings {
    /// Where the vault is.
    pub address: String,
    /// The API token.
    pub token: SecretText,
    /// The file that the token is from; None: `CREDVAULT_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// The account, if one was named or the vault is that of `credvault dev`.
    pub account: Option<ResourceId>,
}

impl ClientOptions {
    /// Resolves flags, environment and defaults.
    pub fn resolve(self) -> anyhow::Result<ClientSettings> {
        #[expect(clippy::disallowed_methods, reason = "`config` reads the environment")]
        let variable = std::env::var("CREDVAULT_TOKEN").ok().filter(|token| !token.is_empty());
        self.resolve_in(Path::new(""), variable.map(SecretText::new))
    }

    /// The same in this folder, with this value of `CREDVAULT_TOKEN`.
    fn resolve_in(
        self,
        folder: &Path,
        variable: Option<SecretText>,
    ) -> anyhow::Result<ClientSettings> {
        let dev = folder.join(DATA_DIR).join("dev.token");
        let is_dev = dev.exists();
        // An empty variable is one that is not set.
        let file = self.token_file.filter(|file| !file.as_os_str().is_empty());
        let (token, token_file) = match (file, variable) {
            (Some(file), _) => (read(&file)?, Some(file)),
            (None, Some(token)) => (token, None),
            (None, None) if is_dev => (read(&dev)?, Some(dev)),
            (None, None) => bail!(
                "no API token: name a file with --token-file or CREDVAULT_TOKEN_FILE, or set CREDVAULT_TOKEN; \
                 `credvault tokens create` makes one, and `credvault dev` leaves one in {DATA_DIR}/dev.token"
            ),
        };
        let account = match self.account.filter(|account| !account.is_empty()) {
            Some(account) => Some(parse_account(&account)?),
            None if is_dev => Some(ResourceId::parse("dev")?),
            None => None,
        };
        let address = self.address.filter(|address| !address.is_empty());
        let address = address.unwrap_or_else(|| LISTEN.to_owned());
        Ok(ClientSettings { address, token, token_file, account })
    }
}

fn read(file: &Path) -> anyhow::Result<SecretText> {
    let text = fs::read_to_string(file).map(SecretText::new).with_context(|| {
        format!("cannot read the token in {}; name another with --token-file", file.display())
    })?;
    #[expect(clippy::disallowed_methods, reason = "takes the line end off a caller's token")]
    let token = SecretText::new(text.expose().trim().to_owned());
    Ok(token)
}

fn parse_account(account: &str) -> anyhow::Result<ResourceId> {
    let id = account.strip_prefix("accounts/").unwrap_or(account);
    ResourceId::parse(id).with_context(|| format!("account {account:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test looks at what it wrote")]
    fn told(settings: &ClientSettings) -> (&str, Option<&Path>, Option<&str>) {
        let account = settings.account.as_ref().map(ResourceId::as_str);
        (settings.token.expose(), settings.token_file.as_deref(), account)
    }

    #[test]
    fn a_named_file_wins_over_the_variable_and_both_over_what_dev_left() {
        let dir = tempfile::tempdir().unwrap();
        let resolve = |options: ClientOptions, variable: Option<&str>| {
            options.resolve_in(dir.path(), variable.map(|it| SecretText::new(it.to_owned())))
        };
        let none = resolve(ClientOptions::default(), None).err().unwrap().to_string();
        assert!(none.contains("--token-file") && none.contains("credvault dev"), "{none}");
        let settings = resolve(ClientOptions::default(), Some("variable")).unwrap();
        assert_eq!(told(&settings), ("variable", None, None));
        assert_eq!(settings.address, LISTEN);

        fs::create_dir(dir.path().join(DATA_DIR)).unwrap();
        let left = dir.path().join(DATA_DIR).join("dev.token");
        fs::write(&left, "left\n").unwrap();
        let settings = resolve(ClientOptions::default(), None).unwrap();
        assert_eq!(told(&settings), ("left", Some(left.as_path()), Some("dev")));
        let settings = resolve(ClientOptions::default(), Some("variable")).unwrap();
        assert_eq!(told(&settings), ("variable", None, Some("dev")));

        let file = dir.path().join("acme.token");
        fs::write(&file, "named\n").unwrap();
        let account = Some("accounts/acme".to_owned());
        let options =
            ClientOptions { token_file: Some(file.clone()), account, ..ClientOptions::default() };
        let settings = resolve(options, Some("variable")).unwrap();
        assert_eq!(told(&settings), ("named", Some(file.as_path()), Some("acme")));

        let account = Some("Acme!".to_owned());
        let refused = resolve(ClientOptions { account, ..ClientOptions::default() }, None);
        assert!(format!("{:#}", refused.err().unwrap()).contains("Acme!"));
    }
}
