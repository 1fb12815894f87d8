//! The file of what was created, with the passwords: what makes an import one that can go on.
//!
//! Beside it, until the import is at its end, lies `….unfinished`: the random part of its request ids.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::rows::Users;
use crate::cli::note;
use crate::cli::terminal::harmless;
use crate::config::check_own;
use crate::crypto::random;
use crate::defect::{Defect, planted};
use crate::grpc::proto::{Credential, IssuedSecret};

const HEADER: &str = "name,username,realm,password\n";

/// The longest line: what a crash may have left in part.
const LONGEST_LINE: u64 = 4096;

pub(super) struct Out {
    file: File,
    path: PathBuf,
    unfinished: PathBuf,
    nonce: [u8; 12],
}

impl Out {
    /// Opens the file, or makes it for its owner alone; and who of this account stands there already.
    pub(super) fn open(path: &Path, parent: &str) -> anyhow::Result<(Self, Users)> {
        let context = || format!("cannot write {}; name another file with --out", path.display());
        // What standard output is may be a file, and not one to go on with. /dev/shm is a disk in memory.
        if path.starts_with("/dev") && !path.starts_with("/dev/shm") {
            bail!("{} is no file; name one of your own with --out", path.display());
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(path).with_context(context)?;
        if !file.metadata().with_context(context)?.is_file() {
            bail!("{} is no file; name one with --out", path.display());
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another import writes {}; wait for its end", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        let is_new = file.metadata().with_context(context)?.len() == 0;
        if !is_new {
            check_header(&mut file, path)?;
        }
        check_own(&file, path)?;
        let users = if is_new {
            file.write_all(HEADER.as_bytes()).with_context(context)?;
            Users::new()
        } else {
            mend(&file, path)?;
            users(&mut file, path, parent)?
        };
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let nonce =
            nonce(&unfinished).with_context(|| format!("cannot use {}", unfinished.display()))?;
        Ok((Self { file, path: path.to_owned(), unfinished, nonce }, users))
    }

    /// The random part of the import's request ids.
    pub(super) fn nonce(&self) -> [u8; 12] {
        self.nonce
    }

    /// One line in one write, so that a process that is killed leaves none in part.
    pub(super) fn write(
        &mut self,
        credential: &Credential,
        issued: Option<&IssuedSecret>,
    ) -> anyhow::Result<()> {
        let Credential { name, username, realm, .. } = credential;
        let password = issued.map_or("", |issued| &issued.password);
        let mut line = csv::WriterBuilder::new().buffer_capacity(512).from_writer(Vec::new());
        line.write_record([name, username, realm, password])?;
        let line = line.into_inner().map_err(csv::IntoInnerError::into_error)?;
        self.file.write_all(&line).with_context(|| {
            format!("cannot write to {}; make room and run it again", self.path.display())
        })
    }

    /// Brings all to the disk. At its end an import cannot go on any more.
    pub(super) fn close(self, is_at_its_end: bool) -> anyhow::Result<()> {
        self.file.sync_all().with_context(|| format!("cannot finish {}", self.path.display()))?;
        if is_at_its_end && !planted(Defect::ForgetImport) {
            fs::remove_file(&self.unfinished)
                .with_context(|| format!("cannot remove {}", self.unfinished.display()))?;
        }
        Ok(())
    }
}

/// Takes away the last line if a crash cut it off: its credential gets a new password.
fn mend(mut file: &File, path: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot read {}", path.display());
    let length = file.metadata().with_context(context)?.len();
    let from = length.saturating_sub(LONGEST_LINE);
    file.seek(SeekFrom::Start(from)).with_context(context)?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).with_context(context)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let length_whole = from + u64::try_from(whole)?;
    if length_whole < length && length_whole > 0 {
        file.set_len(length_whole).with_context(context)?;
        note(format_args!("the last line of {} was cut off, and is taken away", path.display()));
    }
    Ok(())
}

fn foreign(path: &Path) -> String {
    format!("{} was not written by an import; name another with --out", path.display())
}

/// Refuses a file of something else before anything is done to it.
fn check_header(file: &mut File, path: &Path) -> anyhow::Result<()> {
    let mut header = Vec::new();
    file.seek(SeekFrom::Start(0)).with_context(|| foreign(path))?;
    file.take(u64::try_from(HEADER.len())?)
        .read_to_end(&mut header)
        .with_context(|| foreign(path))?;
    if header != HEADER.as_bytes() {
        bail!(foreign(path));
    }
    Ok(())
}

/// Who stands in the file.
fn users(file: &mut File, path: &Path, parent: &str) -> anyhow::Result<Users> {
    let foreign = || foreign(path);
    let start = u64::try_from(HEADER.len())?;
    file.seek(SeekFrom::Start(start)).with_context(foreign)?;
    let mut users = Users::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    let mut record = csv::StringRecord::new();
    // Not with its error, which may quote a password.
    while reader.read_record(&mut record).ok().with_context(foreign)? {
        let (Some(name), Some(username), Some(realm)) =
            (record.get(0), record.get(1), record.get(2))
        else {
            bail!(foreign());
        };
        let Some((account, _)) = name.split_once("/credentials/") else { bail!(foreign()) };
        if account != parent {
            bail!("{} is of {}; name another with --out", path.display(), harmless(account));
        }
        users.insert(username, realm);
    }
    Ok(users)
}

/// The nonce of an import that was interrupted, or a new one.
fn nonce(file: &Path) -> anyhow::Result<[u8; 12]> {
    if planted(Defect::ForgetImport) {
        return Ok(random::bytes()?);
    }
    if let Ok(text) = fs::read_to_string(file) {
        let mut nonce = [0; 12];
        hex::decode_to_slice(text.trim(), &mut nonce).ok().context("it was changed; remove it")?;
        return Ok(nonce);
    }
    let nonce = random::bytes()?;
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(made, "{}", hex::encode(nonce))?;
    made.sync_all()?;
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn credential(username: &str) -> Credential {
        let name = format!("accounts/acme/credentials/{username}");
        Credential { name, username: username.to_owned(), realm: "r".into(), ..Default::default() }
    }

    #[test]
    fn an_interrupted_import_knows_who_is_there_and_its_request_ids() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let (mut out, users) = Out::open(&path, "accounts/acme").unwrap();
        assert_eq!(users.count(), 0);
        let issued = IssuedSecret { password: "p,\"w".to_owned(), version: 1 };
        out.write(&credential("a"), Some(&issued)).unwrap();
        out.write(&credential("b"), None).unwrap();
        let busy = Out::open(&path, "accounts/acme").err().unwrap().to_string();
        assert!(busy.contains("another import"), "{busy}");
        let nonce = out.nonce();
        drop(out);
        let written = fs::read_to_string(&path).unwrap();
        let lines =
            "accounts/acme/credentials/a,a,r,\"p,\"\"w\"\naccounts/acme/credentials/b,b,r,\n";
        assert_eq!(written, format!("{HEADER}{lines}"));

        // Killed in the middle of a line.
        fs::write(&path, format!("{written}accounts/acme/credentials/c,c,r,ha")).unwrap();
        let (out, users) = Out::open(&path, "accounts/acme").unwrap();
        assert_eq!((out.nonce(), users.count()), (nonce, 2));
        assert!(users.contains("a", "r") && users.contains("b", "r") && !users.contains("c", "r"));
        assert_eq!(fs::read_to_string(&path).unwrap(), written);
        out.close(true).unwrap();
        let (out, users) = Out::open(&path, "accounts/acme").unwrap();
        assert!(out.nonce() != nonce && users.count() == 2, "a further import is another one");
    }

    #[test]
    fn a_file_of_something_else_or_for_everybody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let open = || {
            Out::open(&path, "accounts/acme")
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default()
        };
        for other in ["precious", "precious\n", "precious\nhalf", "username,realm\na,r\n"] {
            fs::write(&path, other).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(open().contains("not written by an import"), "{other}: {}", open());
            assert_eq!(fs::read_to_string(&path).unwrap(), other, "untouched");
        }
        fs::write(&path, format!("{HEADER}accounts/beta/credentials/a,a,r,p\n")).unwrap();
        assert!(open().contains("chmod 600"), "{}", open());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(open().contains("out.csv is of accounts/beta; name another"), "{}", open());
        let stdout = Out::open(Path::new("/dev/stdout"), "accounts/acme").err().unwrap();
        assert!(stdout.to_string().contains("of your own with --out"), "{stdout}");
    }
}
