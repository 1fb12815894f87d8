//! A secret on its one way out.

use crate::secret::{Password, SecretText};

/// A password that was just issued and is already durable. Not Clone: consumed by the conversion to the
/// wire. Only this module's parents, create and rotate, make one; there is no way from an id to it.
#[expect(missing_debug_implementations, reason = "holds a password")]
pub struct Issued {
    password: SecretText,
    version: u64,
}

impl Issued {
    pub(super) fn new(password: Password, version: u64) -> Self {
        Self { password: password.into_text(), version }
    }

    /// Gives the password up, for the one answer that carries it.
    pub fn into_parts(self) -> (SecretText, u64) {
        (self.password, self.version)
    }
}
