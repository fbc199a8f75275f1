//! The flags of kube-proxy, with upstream's names.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use daemon::shell::CommonFlags;
use ipnet::IpNet;

/// Sends the traffic of services to their endpoints.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-proxy", version)]
pub struct Flags {
    /// What every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// How to reach the API server.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// The node's name; by default the machine's host name.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// Addresses of pods, one range of each family; traffic to services from elsewhere is masqueraded.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub cluster_cidr: Vec<IpNet>,
    /// Accepted for upstream's sake: nothing here listens but the health port.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Do not set routes to other nodes' pods; somebody else does.
    #[arg(long)]
    pub no_routes: bool,
}

impl Flags {
    /// The node's name.
    #[must_use]
    pub fn node_name(&self) -> String {
        let host = || nix::unistd::gethostname().ok()?.into_string().ok();
        self.hostname_override.clone().or_else(host).unwrap_or_default().to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let parse =
            |more: &[&str]| Flags::try_parse_from(["kube-proxy", "--kubeconfig=k"].iter().chain(more));
        let flags =
            parse(&["--cluster-cidr=10.244.0.0/16,fd00::/56", "--hostname-override=N1"]).expect("parses");
        assert_eq!((flags.cluster_cidr.len(), flags.node_name().as_str()), (2, "n1"));
        assert!(parse(&["--cluster-cidr=10.244.0.0"]).is_err());
    }
}
