//! Secrets that people bring and take: never on the command line, where every process list shows them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal as _, Read as _, Write as _, stdin};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::terminal::harmless;
use super::{Signals, note, print, quoted};
use crate::config::secret_in;

/// Shorter ones, and those of one kind of character, are told to be weak.
const SHORT: usize = 12;

/// Where a command puts a secret that it gets.
#[derive(Debug, clap::Args)]
pub(super) struct Out {
    /// Write it to this new file, for you alone, in place of standard output
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    pub(super) out: Option<PathBuf>,
}

/// A place for a secret, made before it is issued: afterwards would be too late to find that there is none.
pub(super) struct Place {
    file: Option<(File, PathBuf)>,
}

impl Out {
    pub(super) fn open(self) -> anyhow::Result<Place> {
        let open = |path: PathBuf| {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match file {
                Ok(file) => Ok((file, path)),
                Err(error) => Err(error).with_context(|| {
                    format!("cannot make {}; name another file with --out", path.display())
                }),
            }
        };
        Ok(Place { file: self.out.map(open).transpose()? })
    }
}

impl Place {
    /// Puts the secret there, on a line; `lost` says what helps where it can be put nowhere.
    pub(super) fn put(mut self, secret: &str, lost: &str) -> anyhow::Result<()> {
        let secret = harmless(secret);
        let Some((mut file, path)) = self.file.take() else { return show(secret, lost) };
        let written = writeln!(file, "{secret}").and_then(|()| file.sync_all());
        let Err(error) = written else {
            note(format_args!("It is in {}, for you alone", quoted(&path)));
            return Ok(());
        };
        fs::remove_file(&path).ok();
        // It is not shown again: better there than nowhere.
        show(secret, lost)?;
        Err(error).with_context(|| {
            format!(
                "what was issued stands on standard output, since {} cannot be written",
                path.display()
            )
        })
    }
}

/// Prints what is not shown again. That nobody reads it is an error, too.
pub(super) fn show(text: impl fmt::Display, lost: &str) -> anyhow::Result<()> {
    print(text)
        .map_err(|error| anyhow!("cannot write the answer to standard output: {error}\n{lost}"))
}

impl Drop for Place {
    /// What got no secret is not left behind.
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            fs::remove_file(path).ok();
        }
    }
}

/// A secret from a file that is its owner's alone. `-`: from standard input, where a person types it without an echo.
#[expect(clippy::disallowed_methods, reason = "a secret goes from its owner into the request")]
pub(super) fn read(file: &Path, what: &str) -> anyhow::Result<String> {
    let secret = if file != Path::new("-") {
        secret_in(file)?.expose().to_owned()
    } else if stdin().is_terminal() {
        // Ctrl-C ends the prompt and not the process, which must first bring the echo back.
        let _signals = Signals::listen()?;
        rpassword::prompt_password(format!("{what}: "))
            .with_context(|| format!("cannot ask for the {what}"))?
    } else {
        let mut piped = String::new();
        stdin().read_to_string(&mut piped).with_context(|| format!("cannot read the {what}"))?;
        piped.truncate(piped.trim_end_matches(['\r', '\n']).len());
        piped
    };
    if secret.is_empty() {
        bail!("the {what} is empty; type it, pipe it in, or name a file with it");
    }
    if secret.contains('\n') {
        bail!("the {what} has more than one line; give it alone");
    }
    Ok(secret)
}

/// A password of the caller's own; says so if it is easily guessed.
pub(super) fn password(file: &Path) -> anyhow::Result<String> {
    let password = read(file, "password")?;
    if is_weak(&password) {
        note(format_args!(
            "warning: a password of fewer than {SHORT} characters, or of one kind of character, is easily guessed; \
             without one of your own the vault generates a good one"
        ));
    }
    Ok(password)
}

/// Whether it is short, or of one kind of character: lower-case, upper-case, digits, or others.
pub(super) fn is_weak(password: &str) -> bool {
    let kind = |c: char| {
        let kinds = [c.is_ascii_lowercase(), c.is_ascii_uppercase(), c.is_ascii_digit()];
        kinds.iter().position(|is_it| *is_it)
    };
    let mut kinds = password.chars().map(kind);
    let first = kinds.next();
    password.chars().count() < SHORT || kinds.all(|other| Some(other) == first)
}

#[cfg(test)]
mod tests {
    use super::is_weak;

    #[test]
    fn short_and_uniform_passwords_are_weak() {
        for weak in ["", "aB3!aB3!aB3", "abcdefghijklmnop", "1234567890123456", "!!!!!!!!!!!!!!"] {
            assert!(is_weak(weak), "{weak}");
        }
        for fine in ["abcdefghijk1", "ABCDEFGHIJKl", "UpdatedSecurePassword456!"] {
            assert!(!is_weak(fine), "{fine}");
        }
    }
}
