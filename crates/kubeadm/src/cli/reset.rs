//! `kubeadm reset`.

use std::io::BufRead as _;

use anyhow::bail;
use clap::Args;
use kubeadm::reset;

use super::{HostFlags, say};

#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    host: HostFlags,
    /// Do not ask.
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn run(flags: Flags) -> anyhow::Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("kubeadm reset needs to be root");
    }
    if !flags.force {
        println!("[reset] WARNING: everything of the cluster on this host will be removed, its data too.");
        println!("[reset] Are you sure you want to proceed? [y/N]:");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("aborted reset operation");
        }
    }
    let troubles = reset::reset(&flags.host.host()?, &say);
    if !troubles.is_empty() {
        bail!("not everything could be removed:\n\t{}", troubles.join("\n\t"));
    }
    println!(
        "\nThis host has nothing of the cluster any more, but for images in containerd, and kubeconfig files in \
         home folders.\nIf the cluster lives on elsewhere: kubectl delete node {}",
        kubeadm::host::node_name(None).unwrap_or_else(|_| "NAME".to_owned())
    );
    Ok(())
}
