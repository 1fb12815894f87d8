//! Where the KEKs come from. One small trait, one file a source.

mod file;

use super::Keyring;

pub use file::KeyFile;

/// Why the keys could not be read. Says what to do; never holds key material.
#[derive(Debug, thiserror::Error)]
#[error("{problem}; {mend}")]
pub struct Error {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
}

/// A source of KEKs.
pub trait KekSource {
    /// Reads every key version, or says why not. Never makes a key.
    fn load(&self) -> Result<Keyring, Error>;
}
