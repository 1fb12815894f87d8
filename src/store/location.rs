//! Where a store is, and how it is opened: held and looked at first, changed only after that.
//!
//! In between, whoever opens it decides whether it may be opened at all (its key, its kind, the clock), so that a start
//! that is refused has changed nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Store, sqlite};
use crate::clock::Clock;
use crate::crypto::SealedRoot;
use crate::name::Uid;

/// Which store a process uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `sqlite:{path}`.
    Sqlite(PathBuf),
}

impl Location {
    /// Parses a store URL.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        match url.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err(OpenError::new(
                "the store URL is not one that Credvault knows",
                "write sqlite:PATH, for example --store sqlite:/var/lib/credvault/credvault.db",
            )),
        }
    }

    /// Whether there is a store already.
    pub fn exists(&self) -> bool {
        match self {
            Self::Sqlite(path) => path.exists(),
        }
    }

    /// The folder that it lies in.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Sqlite(path) => sqlite::folder(path),
        }
    }

    /// Makes the place for a new store, or refuses it, before anything is made for it.
    pub fn prepare(&self) -> Result<(), OpenError> {
        match self {
            Self::Sqlite(path) => sqlite::prepare(path),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Creates an empty store with the identity of a new vault. Refuses to touch one that exists.
pub fn create(location: &Location, identity: &Identity) -> Result<(), OpenError> {
    match location {
        Location::Sqlite(path) => sqlite::create(path, identity),
    }
}

/// Takes a store for this process alone and looks at it, without a change to it.
pub fn hold(location: &Location, clock: Arc<dyn Clock>) -> Result<Held, OpenError> {
    match location {
        Location::Sqlite(path) => sqlite::hold(path, clock),
    }
}

/// Holds a store and opens it.
pub fn open(location: &Location, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, OpenError> {
    hold(location, clock)?.open()
}

/// Brings a store up to date and opens it.
type Open = dyn FnOnce() -> Result<Arc<dyn Store>, OpenError> + Send;

/// A store that this process has to itself, and in which nothing has been changed yet.
pub struct Held {
    /// Whose store it is.
    pub identity: Identity,
    /// The time of the newest audit entry, but for times that an operator has set right since.
    pub newest_entry: Option<Timestamp>,
    pub(super) open: Box<Open>,
}

impl Held {
    /// Brings its schema up to date, recovers what a crash left, and opens it.
    pub fn open(self) -> Result<Arc<dyn Store>, OpenError> {
        (self.open)()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Why a store could not be opened. Says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{problem}; {mend}")]
pub struct OpenError {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
}

impl OpenError {
    pub(super) fn new(problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { problem: problem.into(), mend: mend.into() }
    }
}

/// What makes a vault this vault.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its identity; every ciphertext is bound to it.
    pub uid: Uid,
    /// Made by `credvault dev`; `serve` refuses it.
    pub dev: bool,
    /// The root key, sealed under the KEK.
    pub root: SealedRoot,
    /// When it was created.
    pub create_time: Timestamp,
}
