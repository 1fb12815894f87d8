//! A small Vobiz on the loopback interface, for trials: it serves one account for each thing a carrier can do.
//! See `--help`.

#[path = "fakes/fakes.rs"]
pub mod fakes;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    fakes::carrier::program::run(8082, fakes::vobiz::introduce).await
}
