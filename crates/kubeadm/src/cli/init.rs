//! `kubeadm init`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use daemon::SystemClock;
use ipnet::IpNet;
use kubeadm::init::{self, Options};
use kubeadm::settings::Cluster;
use kubeadm::token::{self, Token};
use kubeadm::{host, units};

use super::{HostFlags, NodeFlags, block_on, say};

#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    node: NodeFlags,
    /// Address at which the cluster reaches this host; by default that of the default route.
    #[arg(long, value_name = "ADDRESS")]
    apiserver_advertise_address: Option<IpAddr>,
    /// Port of the API server.
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    apiserver_bind_port: u16,
    /// Further names and addresses for the API server's certificate.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    apiserver_cert_extra_sans: Vec<String>,
    /// Addresses of pods.
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pod_network_cidr: IpNet,
    /// Addresses of services.
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    service_cidr: IpNet,
    /// Domain of cluster DNS.
    #[arg(long, default_value = "cluster.local", value_name = "NAME")]
    service_dns_domain: String,
    /// The token with which nodes join; made up if not given.
    #[arg(long, value_name = "TOKEN")]
    token: Option<Token>,
    /// The token's life; 0: for ever.
    #[arg(long, default_value = "24h", value_parser = token::parse_life, value_name = "DURATION")]
    token_ttl: Duration,
    /// Do not print the token.
    #[arg(long)]
    skip_token_print: bool,
    /// Keep pods away from this host, as upstream does.
    #[arg(long)]
    taint_control_plane: bool,
    /// Check and print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Flags {
    fn options(&self) -> anyhow::Result<Options> {
        let address = match self.apiserver_advertise_address {
            Some(address) => address,
            None => host::own_address()?,
        };
        Ok(Options {
            address,
            port: self.apiserver_bind_port,
            extra_names: self.apiserver_cert_extra_sans.clone(),
            cluster: Cluster {
                endpoint: SocketAddr::new(address, self.apiserver_bind_port).to_string(),
                pod_range: self.pod_network_cidr,
                service_range: self.service_cidr,
                dns_domain: self.service_dns_domain.clone(),
            },
            node_name: host::node_name(self.node.node_name.as_deref())?,
            token: self.token.clone().unwrap_or_else(Token::generate),
            token_life: self.token_ttl,
            hides_token: self.skip_token_print,
            taint: self.taint_control_plane,
            images: self.node.images()?,
            ignored: self.node.ignore_preflight_errors.clone(),
        })
    }
}

pub(crate) fn run(flags: Flags) -> anyhow::Result<()> {
    let (host, options) = (flags.host.host()?, flags.options()?);
    if flags.dry_run {
        return dry_run(&host, &options);
    }
    let next = block_on(init::init(&host, &options, &SystemClock, &say))?;
    println!("{next}");
    Ok(())
}

fn dry_run(host: &host::Host, options: &Options) -> anyhow::Result<()> {
    init::check(host, options, &say)?;
    say("[dryrun] Would write keys, certificates and kubeconfigs, and these units, and start them:");
    let (plane, node) = options.daemons(host);
    for daemon in plane.iter().chain(&node) {
        let program = host.program(daemon.name).context("a unit's program")?;
        let unit = units::daemon(daemon, &program);
        println!("\n# {}", host.units.join(&unit.name).display());
        print!("{}", unit.text);
    }
    Ok(())
}
