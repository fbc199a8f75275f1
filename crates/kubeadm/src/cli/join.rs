//! `kubeadm join`.

use std::net::IpAddr;

use clap::Args;
use kubeadm::certificate::Digest;
use kubeadm::host;
use kubeadm::join::{self, Options};
use kubeadm::token::Token;

use super::{HostFlags, NodeFlags, block_on, say};

#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    node: NodeFlags,
    /// The cluster's API server.
    #[arg(value_name = "HOST:PORT", value_parser = join::endpoint)]
    endpoint: String,
    /// A bootstrap token of the cluster.
    #[arg(long, value_name = "TOKEN")]
    token: Token,
    /// Digest of the cluster's authority, as `kubeadm init` printed it; one of several, while it changes.
    #[arg(long, value_name = "sha256:DIGEST", required = true)]
    discovery_token_ca_cert_hash: Vec<Digest>,
    /// Address at which the cluster reaches this host; by default that from which it reaches the API server.
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<IpAddr>,
}

pub(crate) fn run(flags: Flags) -> anyhow::Result<()> {
    let host = flags.host.host()?;
    let options = Options {
        endpoint: flags.endpoint,
        token: flags.token,
        digests: flags.discovery_token_ca_cert_hash,
        node_name: host::node_name(flags.node.node_name.as_deref())?,
        address: flags.node_ip,
        images: flags.node.images()?,
        ignored: flags.node.ignore_preflight_errors,
    };
    block_on(join::join(&host, &options, &say))?;
    println!("{}", join::next_steps());
    Ok(())
}
