//! Where a new password goes: standard output, a file, or another command.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cli::client::Output;
use crate::cli::terminal::harmless;
use crate::cli::{keys, quoted, render, secrets};
use crate::config::check_own;
use crate::grpc::proto::{IssuedSecret, RotateCredentialResponse, Rotation};
use crate::secret::SecretText;

/// More than any password.
const MOST: u64 = 1024;

/// A place for a password, looked at before there is one.
pub(super) enum Destination {
    StandardOutput,
    File(OutFile),
    Command(Vec<OsString>),
}

/// A file that gets a password.
pub(super) struct OutFile {
    file: File,
    path: PathBuf,
    /// It was made for this, and nothing stands in it.
    is_empty: bool,
}

impl Drop for OutFile {
    /// What got no password is not left behind.
    fn drop(&mut self) {
        if self.is_empty {
            fs::remove_file(&self.path).ok();
        }
    }
}

impl OutFile {
    /// Makes the file. What an earlier run `resumed` left there is taken as well.
    pub(super) fn open(path: &Path, resumed: bool) -> anyhow::Result<Self> {
        let context = || format!("cannot make {}; name another file with --out", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let (file, is_empty) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(error) if resumed && error.kind() == io::ErrorKind::AlreadyExists => {
                let file = options.open(path).with_context(context)?;
                check_own(&file, path)?;
                if !file.metadata().with_context(context)?.is_file() {
                    bail!("{} is no file; name one with --out", path.display());
                }
                (file, false)
            }
            Err(error) => return Err(error).with_context(context),
        };
        Ok(Self { file, path: path.to_owned(), is_empty })
    }

    #[expect(clippy::disallowed_methods, reason = "writes a password where its owner wants it")]
    fn put(&mut self, password: &SecretText) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", self.path.display());
        let (file, line) = (&mut self.file, SecretText::new(format!("{}\n", password.expose())));
        let mut there = Vec::new();
        file.take(MOST).read_to_end(&mut there).with_context(context)?;
        if !line.expose().as_bytes().starts_with(&there) {
            bail!(
                "{} holds something else by now; name another file with --out",
                self.path.display()
            );
        }
        let mut write = || {
            file.rewind()?;
            file.write_all(line.expose().as_bytes())?;
            file.sync_all()?;
            keys::sync_folder(&self.path)
        };
        write().with_context(context)?;
        self.is_empty = false;
        Ok(())
    }
}

impl Destination {
    /// Puts the password there, and returns when it is.
    #[expect(clippy::disallowed_methods, reason = "hands a password to whom its owner named")]
    pub(super) fn deliver(
        &mut self,
        password: &SecretText,
        rotation: &Rotation,
        output: Output,
    ) -> anyhow::Result<()> {
        match self {
            Self::StandardOutput => {
                let text = if output == Output::Json {
                    let password = password.expose().to_owned();
                    let issued = IssuedSecret { password, version: rotation.version };
                    render::json(&answer(Some(issued), rotation.clone()))?
                } else {
                    harmless(password.expose())
                };
                secrets::show(text, "Nobody read it")
            }
            Self::File(file) => file.put(password),
            Self::Command(words) => hand_to(words, password, output),
        }
    }

    /// What became of the password, for people.
    pub(super) fn told(&self) -> String {
        match self {
            Self::StandardOutput => "its password is not shown again".to_owned(),
            Self::File(file) => format!("its password is in {}, for you alone", quoted(&file.path)),
            Self::Command(words) => format!("{} has its password", program(words)),
        }
    }

    /// Where the state lies if nobody says. What goes to standard output has none, unless a carrier may have it wait for
    /// longer than the command.
    pub(super) fn state(&self, credential: &str, at_carrier: bool) -> Option<PathBuf> {
        let mut path = match self {
            Self::StandardOutput if !at_carrier => return None,
            Self::File(file) => file.path.clone().into_os_string(),
            Self::StandardOutput | Self::Command(_) => render::id(credential).into(),
        };
        path.push(".rotation");
        Some(path.into())
    }

    /// What `--resume` wants to be told again.
    pub(super) fn again(&self) -> &'static str {
        match self {
            Self::StandardOutput | Self::File(_) => "",
            Self::Command(_) => " -- COMMAND",
        }
    }

    /// Whether standard output is free for the answer.
    pub(super) fn is_elsewhere(&self) -> bool {
        !matches!(self, Self::StandardOutput)
    }
}

/// The answer of a rotation as JSON, with a password only where that goes to standard output.
pub(super) fn answer(issued: Option<IssuedSecret>, rotation: Rotation) -> RotateCredentialResponse {
    RotateCredentialResponse {
        issued,
        rotation: Some(rotation),
        ..RotateCredentialResponse::default()
    }
}

fn program(words: &[OsString]) -> String {
    let first = words.first().map(PathBuf::from).unwrap_or_default();
    harmless(&quoted(&first))
}

/// Runs a command with the password on its standard input, and waits for its end.
#[expect(clippy::disallowed_methods, reason = "hands a password to whom its owner named")]
fn hand_to(words: &[OsString], password: &SecretText, output: Output) -> anyhow::Result<()> {
    let program = program(words);
    let (first, arguments) = words.split_first().context("there is no command behind --")?;
    let mut command = Command::new(first);
    command.args(arguments).stdin(Stdio::piped());
    if output == Output::Json {
        // Standard output is for the answer.
        command.stdout(io::stderr());
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let written = child.stdin.take().map(|mut to| to.write_all(password.expose().as_bytes()));
    let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
    match status.code() {
        Some(0) => {}
        Some(code) => bail!("{program} ended with status {code}"),
        None => bail!("{program} was ended by a signal"),
    }
    written.unwrap_or(Ok(())).with_context(|| format!("{program} did not take the password"))
}
