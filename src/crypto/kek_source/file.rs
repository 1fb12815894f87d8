//! Keys in a file that only its owner can read.
//!
//! ```text
//! # comment
//! cvk1_{version}_{64 hexadecimal digits}_{first 8 hexadecimal digits of SHA-256 of all before}
//! ```
//!
//! One line a version; the highest version seals. The checksum finds a typing error before the store does.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::super::{Kek, Keyring, random};
use super::{Error, KekSource};

/// No key file is larger: a hundred versions fit.
const MAX_SIZE: u64 = 16 * 1024;

/// A key file.
#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The key file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the file with one new key, readable by its owner alone. Refuses to overwrite anything.
    pub fn create(&self) -> Result<(), Error> {
        let key = random::bytes::<32>()
            .map(Zeroizing::new)
            .map_err(|source| self.error(&source.to_string(), "try again"))?;
        let line = Zeroizing::new(encode(1, &key));
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0)?;
            file.write_all(b"# Credvault key file. Whoever reads it reads every secret; without it none opens.\n")?;
            file.write_all(line.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            // The key must outlive a power cut before the first secret is sealed under it.
            let parent = self.0.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|source| {
            self.error(
                &format!("cannot create it: {source}"),
                "choose a path that does not exist yet, in a folder that you may write",
            )
        })
    }

    fn error(&self, problem: &str, mend: &str) -> Error {
        Error {
            problem: format!("key file {}: {problem}", self.0.display()),
            mend: mend.to_owned(),
        }
    }
}

impl KekSource for KeyFile {
    fn load(&self) -> Result<Keyring, Error> {
        let file = File::open(&self.0).map_err(|source| {
            self.error(
                &format!("cannot open it: {source}"),
                "restore it from its backup, or name it with --key-file",
            )
        })?;
        let metadata =
            file.metadata().map_err(|source| self.error(&source.to_string(), "check the disk"))?;
        if !metadata.is_file() {
            return Err(self.error("is not a regular file", "name the file itself"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(self.error(
                &format!("others may read it (mode {:04o})", metadata.mode() & 0o7777),
                &format!("run `chmod 600 {}`", self.0.display()),
            ));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(|source| {
            self.error(&format!("cannot read it: {source}"), "restore it from its backup")
        })?;
        if text.len() > usize::try_from(MAX_SIZE).unwrap_or(usize::MAX) {
            return Err(self.error("is too large to be a key file", "check --key-file"));
        }
        parse(&text).ok_or_else(|| {
            self.error(
                "holds no valid keys (each line: cvk1_version_key_checksum, versions distinct)",
                "restore it from its backup",
            )
        })
    }
}

fn parse(text: &str) -> Option<Keyring> {
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.map(decode).collect::<Option<Vec<Kek>>>()?;
    Keyring::new(keys)
}

fn encode(version: u32, key: &[u8; 32]) -> String {
    let digits = Zeroizing::new(hex::encode(key));
    let body = Zeroizing::new(format!("cvk1_{version}_{}", *digits));
    format!("{}_{}", *body, checksum(&body))
}

fn decode(line: &str) -> Option<Kek> {
    let (body, sum) = line.rsplit_once('_')?;
    if checksum(body) != sum {
        return None;
    }
    let (version, digits) = body.strip_prefix("cvk1_")?.split_once('_')?;
    let mut key = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(digits, key.as_mut_slice()).ok()?;
    let version = version.parse().ok().filter(|version| *version > 0)?;
    Some(Kek::new(version, &key))
}

fn checksum(body: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(body.as_bytes()));
    digits.truncate(8);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_read_back_and_guarded() {
        let dir = tempfile::tempdir().unwrap();
        let source = KeyFile::at(dir.path().join("credvault.key"));
        source.create().unwrap();
        assert_eq!(source.load().ok().unwrap().primary().version(), 1);
        assert!(source.create().is_err(), "an existing key file is never overwritten");

        let text = std::fs::read_to_string(source.path()).unwrap();
        for broken in
            ["", "nonsense", &text.replacen("cvk1_1", "cvk1_2", 1), &format!("{text}{text}")]
        {
            std::fs::write(source.path(), broken).unwrap();
            assert!(source.load().is_err(), "{broken:?}");
        }
        let two = format!("{text}{}\n", encode(7, &[9; 32]));
        std::fs::write(source.path(), two).unwrap();
        let keyring = source.load().ok().unwrap();
        assert_eq!(keyring.primary().version(), 7);
        assert!(keyring.get(1).is_some() && keyring.get(2).is_none());

        std::fs::set_permissions(source.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let message = source.load().err().unwrap().to_string();
        assert!(message.contains("0640") && message.contains("chmod 600"), "{message}");
    }
}
