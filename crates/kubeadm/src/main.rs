//! `kubeadm`.

#![expect(clippy::print_stdout, reason = "its output is what people run it for")]

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes, joins and looks after clusters.
#[derive(Parser)]
#[command(name = "kubeadm", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes this host the control plane, and first node, of a new cluster.
    Init(Box<cli::init::Flags>),
    /// Makes this host a node of a cluster.
    Join(cli::join::Flags),
    /// Takes everything of a cluster from this host again.
    Reset(cli::reset::Flags),
    /// Bootstrap tokens, with which nodes join.
    #[command(subcommand)]
    Token(cli::token::Command),
    /// This host's certificates.
    #[command(subcommand)]
    Certs(cli::certs::Command),
    /// A whole cluster on this machine, in network namespaces made for it.
    #[command(subcommand)]
    Dev(cli::dev::Command),
}

fn run(cli: Cli) -> anyhow::Result<()> {
    daemon::tls::install_crypto();
    match cli.command {
        Command::Init(flags) => cli::init::run(*flags),
        Command::Join(flags) => cli::join::run(flags),
        Command::Reset(flags) => cli::reset::run(flags),
        Command::Token(command) => cli::token::run(command),
        Command::Certs(command) => cli::certs::run(command),
        Command::Dev(command) => cli::dev::run(command),
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
