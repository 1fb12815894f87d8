//! Random bytes, from the operating system only (RUSTSEC-2026-0097: no userspace generator for keys).

use rand::TryRng as _;
use rand::rngs::SysRng;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct Error;

/// `N` random bytes, in one system call.
pub fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| Error)?;
    Ok(bytes)
}
