//! What the environment says beside settings, and what was typed.

use std::ffi::OsString;
use std::path::PathBuf;

/// The words that this process was started with, its name first.
pub fn typed() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// Of the environment, what `credvault doctor` looks at.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Whether an API token lies in it.
    pub has_token: bool,
    /// The file with an API token that it names.
    pub token_file: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    #[expect(clippy::disallowed_methods, reason = "`config` reads the environment")]
    pub fn read() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            has_token: set("CREDVAULT_TOKEN").is_some(),
            token_file: set("CREDVAULT_TOKEN_FILE").map(PathBuf::from),
        }
    }
}
