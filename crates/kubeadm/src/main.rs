//! `kubeadm`.

#![expect(clippy::print_stdout, reason = "its output is what people run it for")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use daemon::SystemClock;
use kubeadm::dev::{self, Layout};

/// Makes, joins and looks after clusters.
#[derive(Parser)]
#[command(name = "kubeadm", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A whole cluster on this machine, in network namespaces made for it.
    #[command(subcommand)]
    Dev(Dev),
}

#[derive(Subcommand)]
enum Dev {
    /// Brings the cluster up; what runs already is left alone.
    Up(DevFlags),
    /// Ends the cluster and removes everything of it.
    Down(DevFlags),
    /// Lists the cluster's processes.
    Status(DevFlags),
}

#[derive(Args)]
struct DevFlags {
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

impl DevFlags {
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

fn run(cli: Cli) -> anyhow::Result<()> {
    daemon::tls::install_crypto();
    let say = |text: &str| println!("[dev] {text}");
    match cli.command {
        Command::Dev(Dev::Up(flags)) => {
            let layout = flags.layout();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(dev::up(&layout, &SystemClock, &say))?;
            println!(
                "\nThe cluster is up. To use it:\n\n  export KUBECONFIG={}",
                layout.admin_kubeconfig().display()
            );
            println!("  kubectl get nodes");
            Ok(())
        }
        Command::Dev(Dev::Down(flags)) => dev::down(&flags.layout(), &say),
        Command::Dev(Dev::Status(flags)) => {
            dev::status(&flags.layout())?.iter().for_each(|line| println!("{line}"));
            Ok(())
        }
    }
}

#[expect(clippy::print_stderr, reason = "the edge prints the error once")]
fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
