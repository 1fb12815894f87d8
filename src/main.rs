//! The `credvault` binary: an allocator and a command line.

use std::process::ExitCode;

/// Freed memory is zeroed: copies of a secret that buffers of other crates held do not linger in the heap.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

fn main() -> ExitCode {
    credvault::cli::run()
}
