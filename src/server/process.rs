//! What of this process others may see: nothing that it writes, and nothing of its memory.

use anyhow::Context as _;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// Closes this process off, before it reads its first secret:
///
/// - whatever it makes is its owner's alone (umask 077);
/// - it leaves no core, which would hold keys: neither a file (`RLIMIT_CORE`) nor one piped to a program, which that
///   limit does not stop (core(5)). Not dumpable, it also keeps other processes of its user from reading its memory.
pub fn close_off() -> anyhow::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("cannot switch core dumps off (RLIMIT_CORE)")?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("cannot close the memory to other processes (PR_SET_DUMPABLE)")?;
    }
    Ok(())
}

/// Whether this process leaves no core.
pub(super) fn is_closed_off() -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        if dumpable_behavior() != Ok(DumpableBehavior::NotDumpable) {
            return false;
        }
    }
    getrlimit(Resource::Core).current == Some(0)
}
