//! `kubeadm dev`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use daemon::SystemClock;
use kubeadm::dev::{self, Layout};

use super::block_on;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Brings the cluster up; what runs already is left alone.
    Up(Flags),
    /// Ends the cluster and removes everything of it.
    Down(Flags),
    /// Lists the cluster's processes.
    Status(Flags),
}

#[derive(Args)]
pub(crate) struct Flags {
    /// The cluster's name.
    #[arg(long, default_value = "dev")]
    name: String,
    /// Where its files are; /var/lib/corten-dev/NAME where it is not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// Port of the API server on the host's loopback.
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// Where the CNI plugins are.
    #[arg(long, default_value = "/usr/lib/cni", value_name = "DIR")]
    cni_bin_dir: PathBuf,
    /// Archives of images that every node loads at its start.
    #[arg(long, value_name = "DIR")]
    image_archives: Option<PathBuf>,
}

impl Flags {
    fn layout(self) -> Layout {
        let state = self.dir.unwrap_or_else(|| PathBuf::from("/var/lib/corten-dev").join(&self.name));
        Layout {
            state,
            name: self.name,
            node_count: self.nodes,
            port: self.port,
            cni_plugins: self.cni_bin_dir,
            image_archives: self.image_archives,
        }
    }
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    let say = |text: &str| println!("[dev] {text}");
    match command {
        Command::Up(flags) => {
            let layout = flags.layout();
            block_on(dev::up(&layout, &SystemClock, &say))?;
            println!(
                "\nThe cluster is up. To use it:\n\n  export KUBECONFIG={}",
                layout.admin_kubeconfig().display()
            );
            println!("  kubectl get nodes");
            Ok(())
        }
        Command::Down(flags) => dev::down(&flags.layout(), &say),
        Command::Status(flags) => {
            dev::status(&flags.layout())?.iter().for_each(|line| println!("{line}"));
            Ok(())
        }
    }
}
