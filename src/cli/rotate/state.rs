//! What is needed to go on with a rotation whose command ended too early, in a file for its owner alone.
//!
//! JSON: the request, with its id; the private key that it asks to seal for, or the file of that key; where the
//! password goes; and the rotation, once the vault has answered. It lies there from before the request is sent until
//! the password is delivered and that is confirmed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{keys, quoted};
use crate::config::secret_in;
use crate::crypto::delivery::PrivateKey;
use crate::grpc::json;
use crate::grpc::proto::RotateCredentialRequest;
use crate::secret::SecretText;

/// The only form so far.
const FORMAT: &str = "credvault-rotation-1";

/// The key that a rotation's password is sealed for.
pub(super) enum Key {
    /// Made for it alone.
    Fresh(PrivateKey),
    /// An enrolled one, in this file.
    Enrolled(PrivateKey, PathBuf),
}

impl Key {
    pub(super) fn private(&self) -> &PrivateKey {
        match self {
            Self::Fresh(key) | Self::Enrolled(key, _) => key,
        }
    }
}

/// All that a rotation needs to go on.
pub(super) struct Job {
    pub(super) request: RotateCredentialRequest,
    pub(super) key: Key,
    /// The file for the password, if it goes to one.
    pub(super) out: Option<PathBuf>,
    /// The rotation's name. None: the vault has not answered yet, as far as is known.
    pub(super) rotation: Option<String>,
}

/// A job as written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    request: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<String>,
}

/// Where a job is written.
pub(super) struct StateFile(PathBuf);

impl StateFile {
    /// Writes a job to a new file.
    pub(super) fn create(path: PathBuf, job: &Job) -> anyhow::Result<Self> {
        match write_new(&path, &job.to_text()?) {
            Ok(()) => Ok(Self(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(anyhow!(
                "{} is there: an earlier rotation is not at its end. `credvault rotate --resume {}` goes on with it; \
                 or remove the file, and with it what that rotation made",
                path.display(),
                quoted(&path)
            )),
            Err(error) => Err(error).with_context(|| {
                format!("cannot make {}; name another file with --state", path.display())
            }),
        }
    }

    /// The job that is written in a file. `key_file` is where an enrolled key lies now, if that is elsewhere.
    pub(super) fn open(path: PathBuf, key_file: Option<PathBuf>) -> anyhow::Result<(Self, Job)> {
        let job = Job::from_text(&secret_in(&path)?, key_file)
            .with_context(|| format!("cannot go on with {}", path.display()))?;
        Ok((Self(path), job))
    }

    /// As a shell takes it.
    pub(super) fn quoted(&self) -> String {
        quoted(&self.0)
    }

    /// Writes what has become known, in one step.
    pub(super) fn replace(&self, job: &Job) -> anyhow::Result<()> {
        let mut new = self.0.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        // Of an earlier run that was killed here.
        fs::remove_file(&new).ok();
        write_new(&new, &job.to_text()?)?;
        fs::rename(&new, &self.0)?;
        Ok(keys::sync_folder(&self.0)?)
    }

    /// Takes it away, when there is nothing to go on with.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        fs::remove_file(&self.0).with_context(|| {
            format!(
                "cannot remove {}; remove it yourself, it is not needed any more",
                self.quoted()
            )
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "keeps a key of its owner's where only he reads it")]
fn write_new(path: &Path, text: &SecretText) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = writeln!(file, "{}", text.expose()).and_then(|()| file.sync_all());
    written.and_then(|()| keys::sync_folder(path)).inspect_err(|_| drop(fs::remove_file(path)))
}

impl Job {
    #[expect(clippy::disallowed_methods, reason = "keeps a key of its owner's in his own file")]
    fn to_text(&self) -> anyhow::Result<SecretText> {
        let (private_key, key_file) = match &self.key {
            Key::Fresh(key) => (Some(keys::to_text(key).expose().to_owned()), None),
            Key::Enrolled(_, file) => (None, Some(file.clone())),
        };
        let written = Written {
            format: FORMAT.to_owned(),
            request: serde_json::from_str(&json::compact(&self.request)?)?,
            private_key,
            key_file,
            out: self.out.clone(),
            rotation: self.rotation.clone(),
        };
        Ok(SecretText::new(serde_json::to_string_pretty(&written)?))
    }

    /// Errors quote nothing of it.
    #[expect(clippy::disallowed_methods, reason = "takes a key of its owner's from his own file")]
    fn from_text(text: &SecretText, key_file: Option<PathBuf>) -> anyhow::Result<Self> {
        const FOREIGN: &str = "it was not written by `credvault rotate`, or was changed since";
        let written: Written = serde_json::from_str(text.expose()).ok().context(FOREIGN)?;
        if written.format != FORMAT {
            return Err(anyhow!("it is of another version of credvault: go on with that"));
        }
        let request = json::parse(&written.request.to_string()).ok().context(FOREIGN)?;
        let key = match (written.private_key, key_file.or(written.key_file)) {
            (Some(key), _) => Key::Fresh(keys::from_text(&SecretText::new(key)).context(FOREIGN)?),
            (None, Some(file)) => Key::Enrolled(
                keys::private(&file).context("--key-file names another place of the key")?,
                file,
            ),
            (None, None) => return Err(anyhow!(FOREIGN)),
        };
        Ok(Self { request, key, out: written.out, rotation: written.rotation })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::SignedDuration;

    use super::*;
    use crate::grpc::client::duration;
    use crate::grpc::proto::{Recipient, recipient};

    fn job() -> Job {
        let key = PrivateKey::generate().unwrap();
        let public = key.public_key().unwrap().as_bytes().to_vec();
        let request = RotateCredentialRequest {
            name: "accounts/acme/credentials/desk-1".to_owned(),
            request_id: "00000000-0000-4000-8000-000000000001".to_owned(),
            overlap: Some(duration(SignedDuration::from_hours(1))),
            recipient: Some(Recipient { key: Some(recipient::Key::HpkePublicKey(public)) }),
            ..RotateCredentialRequest::default()
        };
        Job { request, key: Key::Fresh(key), out: Some("/srv/x".into()), rotation: None }
    }

    #[test]
    fn what_is_written_is_read_again_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.rotation");
        let mut job = job();
        let file = StateFile::create(path.clone(), &job).unwrap();
        job.rotation = Some("accounts/acme/credentials/desk-1/rotations/x1a".to_owned());
        file.replace(&job).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (_, again) = StateFile::open(path.clone(), None).unwrap();
        assert!(again.request == job.request && again.rotation == job.rotation);
        assert!(again.out == job.out && matches!(again.key, Key::Fresh(_)));
        assert_eq!(again.key.private().as_bytes(), job.key.private().as_bytes());
        let there = StateFile::create(path, &job).err().unwrap().to_string();
        assert!(there.contains("credvault rotate --resume"), "{there}");
        file.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn another_file_is_refused_without_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.rotation");
        for text in ["hunter22", "{}", r#"{"format":"hunter22","request":{}}"#] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let said = format!("{:#}", StateFile::open(path.clone(), None).err().unwrap());
            assert!(said.contains("cannot go on with") && !said.contains("hunter22"), "{said}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let said = format!("{:#}", StateFile::open(path, None).err().unwrap());
        assert!(said.contains("chmod 600"), "{said}");
    }
}
