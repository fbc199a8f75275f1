//! The flags of kube-dns.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use daemon::shell::CommonFlags;

/// The port of name servers.
const DNS: u16 = 53;

/// Answers for names of the cluster, and forwards the rest.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-dns", version)]
pub struct Flags {
    /// What every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// How to reach the API server.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local", value_name = "NAME")]
    pub cluster_domain: String,
    /// Addresses to listen on.
    #[arg(long, default_value = "127.0.0.1", value_delimiter = ',', value_name = "ADDRESS")]
    pub bind_address: Vec<IpAddr>,
    /// Port to listen on, UDP and TCP.
    #[arg(long, default_value_t = DNS)]
    pub port: u16,
    /// Name servers to ask about other names; by default those of --resolv-conf.
    #[arg(long, value_delimiter = ',', value_parser = server, value_name = "ADDRESS[:PORT]")]
    pub forward: Vec<SocketAddr>,
    /// File that names them.
    #[arg(long, default_value = "/etc/resolv.conf", value_name = "FILE")]
    pub resolv_conf: PathBuf,
}

impl Flags {
    /// The name servers to ask about other names, without ourselves.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn upstream(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let servers = if self.forward.is_empty() { read(&self.resolv_conf)? } else { self.forward.clone() };
        let own =
            |server: &SocketAddr| server.port() == self.port && self.bind_address.contains(&server.ip());
        Ok(servers.into_iter().filter(|server| !own(server)).collect())
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<SocketAddr>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(name_servers(&text))
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") {
            servers
                .extend(words.next().and_then(|address| Some(SocketAddr::new(address.parse().ok()?, DNS))));
        }
    }
    servers
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS));
    address.or_else(|_| text.parse()).map_err(|_| "expected ADDRESS or ADDRESS:PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_found_and_never_ourselves() {
        let text = "# x\nnameserver 10.0.0.1\n  nameserver\tfd00::1\nnameserver bad\nsearch a b\n";
        assert_eq!(name_servers(text).len(), 2);
        let arguments = ["kube-dns", "--kubeconfig=k", "--forward=127.0.0.1,10.0.0.1:5353,[fd00::1]:53"];
        let flags = Flags::try_parse_from(arguments).expect("parses");
        let upstream: Vec<String> =
            flags.upstream().expect("servers").iter().map(ToString::to_string).collect();
        assert_eq!(upstream, ["10.0.0.1:5353", "[fd00::1]:53"]);
        assert!(Flags::try_parse_from(["kube-dns", "--kubeconfig=k", "--forward=x"]).is_err());
    }
}
