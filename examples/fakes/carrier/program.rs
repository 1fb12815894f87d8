//! A small carrier as a program that a person starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::{Carrier, Fake, control_help};

/// Runs a fake until Ctrl-C, on the port that it has unless told otherwise. `introduce` adds its accounts to a fake
/// that listens, and says of them what a person has to know.
#[expect(clippy::print_stderr, reason = "the program talks to a person")]
pub async fn run<C: Carrier>(port: u16, introduce: impl FnOnce(&Fake<C>) -> String) -> ExitCode {
    let Err(error) = serve(port, introduce).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the program talks to a person")]
async fn serve<C: Carrier>(
    port: u16,
    introduce: impl FnOnce(&Fake<C>) -> String,
) -> anyhow::Result<()> {
    let (name, lower) = (C::NAME, C::NAME.to_lowercase());
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => {
                println!(
                    "A small {name} on the loopback interface, to try the vault without an account at {name}.\n\n\
                     Usage: cargo run --example fake-{lower} -- [--listen 127.0.0.1:{port}]\n\n\
                     It listens on loopback only. As it starts, it says which accounts it has. Change them while it \
                     runs:\n\n{}",
                    control_help::<C>()
                );
                return Ok(());
            }
            "--listen" => {
                let text = arguments.next().unwrap_or_default();
                let hint = "--listen takes an address and a port, such as 127.0.0.1:8081";
                address = text.parse().context(hint)?;
            }
            other => bail!("unknown argument `{other}`, see --help"),
        }
    }
    if !address.ip().is_loopback() {
        bail!("{address} is refused: a fake listens on loopback only");
    }
    let listening = Fake::listen(address).await;
    let mut fake = listening.with_context(|| format!("listen on {address}"))?;
    let url = fake.url();
    println!("A small {name} listens on {url}\n\nStart the vault with this in its environment:\n");
    println!("{}", introduce(&fake));
    println!("Change them while it runs: curl {url}/_control\n\nCtrl-C ends it.");
    Ok((&mut fake.server).await?)
}
