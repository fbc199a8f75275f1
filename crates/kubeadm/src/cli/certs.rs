//! `kubeadm certs`.

use std::time::Duration;

use clap::{Args, Subcommand};
use daemon::{Clock as _, SystemClock};
use kubeadm::{certs, token};

use super::{HostFlags, block_on, say};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Shows until when this host's certificates are good.
    CheckExpiration(HostFlags),
    /// Makes new certificates in place of old ones.
    Renew(Renew),
}

#[derive(Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    host: HostFlags,
    /// Which, as `check-expiration` names them; `all` for all.
    #[arg(value_name = "NAME")]
    name: String,
    /// Only those that expire within this time.
    #[arg(long, value_parser = token::parse_life, value_name = "DURATION")]
    if_expires_within: Option<Duration>,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::CheckExpiration(flags) => {
            println!("{}", certs::report(&flags.host()?, SystemClock.now())?);
            Ok(())
        }
        Command::Renew(flags) => {
            let host = flags.host.host()?;
            block_on(certs::renew(&host, &flags.name, flags.if_expires_within, SystemClock.now(), &say))
        }
    }
}
