//! Flags, parsed once into types. Names are upstream's where upstream has them.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use daemon::shell::CommonFlags;

use crate::node::thresholds::Thresholds;

/// The node agent.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubelet", version, about)]
pub struct Flags {
    /// What every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// How to reach the API server. Without it the node runs its manifests alone.
    #[arg(long, required_unless_present = "pod_manifest_path",
        requires_all = ["tls_cert_file", "tls_private_key_file", "client_ca_file"])]
    pub kubeconfig: Option<PathBuf>,
    /// Directory of manifests of static pods, or one manifest.
    #[arg(long, alias = "static-pod-path")]
    pub pod_manifest_path: Option<PathBuf>,
    /// Pod addresses of a node without an API server.
    #[arg(long, value_delimiter = ',')]
    pub pod_cidr: Vec<ipnet::IpNet>,
    /// The node's name; by default the machine's host name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The node's addresses, the primary one first; by default that of the default route.
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Directory of pods' files.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Directory of what does not survive a reboot.
    #[arg(long, default_value = "/run/kubelet")]
    pub state_dir: PathBuf,
    /// Directory of containers' logs.
    #[arg(long, default_value = "/var/log/pods")]
    pub pod_logs_dir: PathBuf,
    /// containerd's socket.
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    pub container_runtime_endpoint: String,
    /// The namespace in containerd.
    #[arg(long, default_value = "k8s.io")]
    pub containerd_namespace: String,
    /// The cluster's name servers.
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The node's own name resolution, for pods that ask for it.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// The control group under which all of this kubelet lives.
    #[arg(long, default_value = "/")]
    pub cgroup_root: String,
    /// How many pods the node takes.
    #[arg(long, default_value_t = 110)]
    pub max_pods: u32,
    /// Labels of the node, NAME=VALUE.
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Taints that the node is registered with, NAME=VALUE:EFFECT.
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Directories of CNI plugins.
    #[arg(long, value_delimiter = ',', default_value = "/opt/cni/bin,/usr/lib/cni")]
    pub cni_bin_dir: Vec<PathBuf>,
    /// Directory of CNI configurations.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Directory of CNI results.
    #[arg(long, default_value = "/var/lib/cni")]
    pub cni_cache_dir: PathBuf,
    /// Name of the pod network's bridge, where we configure it.
    #[arg(long, default_value = "cni0")]
    pub cni_bridge: String,
    /// Largest packet on the pod network; 0: the plugin's own.
    #[arg(long, default_value_t = 0)]
    pub network_plugin_mtu: u32,
    /// Address to serve on.
    #[arg(long, default_value = "0.0.0.0")]
    pub address: IpAddr,
    /// Port to serve on.
    #[arg(long, default_value_t = 10250)]
    pub port: u16,
    /// Certificate to serve with.
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "client_ca_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// The CA that signs the API server's client certificate.
    #[arg(long, requires = "tls_cert_file")]
    pub client_ca_file: Option<PathBuf>,
    /// The name in the only client certificate that is accepted.
    #[arg(long, default_value = "kube-apiserver-kubelet-client")]
    pub client_name: String,
    /// When the node is under pressure: memory.available and nodefs.available, as
    /// quantities or percentages.
    #[arg(long, default_value = "memory.available<100Mi,nodefs.available<10%")]
    pub eviction_hard: Thresholds,
    /// Directory of image archives to import at start.
    #[arg(long)]
    pub image_archives: Option<PathBuf>,
    /// Registries that speak plain HTTP.
    #[arg(long, value_delimiter = ',')]
    pub insecure_registry: Vec<String>,
    /// Mirrors, REGISTRY=MIRROR, asked before the registry.
    #[arg(long, value_delimiter = ',')]
    pub registry_mirror: Vec<String>,
    /// Directory of hosts.toml files, one folder a registry, as containerd has them.
    #[arg(long, default_value = "/etc/containerd/certs.d")]
    pub registry_config_dir: PathBuf,
    /// Rotate a container's log at this size, in bytes.
    #[arg(long, default_value_t = 10 << 20)]
    pub container_log_max_size: u64,
    /// Log files to keep for each container.
    #[arg(long, default_value_t = 5)]
    pub container_log_max_files: u32,
}

impl Flags {
    /// The path of containerd's socket.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        PathBuf::from(self.container_runtime_endpoint.trim_start_matches("unix://"))
    }

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
        let base = [
            "kubelet",
            "--kubeconfig=k",
            "--tls-cert-file=c",
            "--tls-private-key-file=p",
            "--client-ca-file=a",
        ];
        let flags = Flags::try_parse_from(
            base.iter().chain(&["--hostname-override=Node-1", "--node-ip=10.0.0.1,fd00::1"]),
        )
        .expect("parses");
        assert_eq!(flags.node_name(), "node-1");
        assert_eq!(flags.node_ip.len(), 2);
        assert_eq!(flags.containerd_socket(), PathBuf::from("/run/containerd/containerd.sock"));
        assert!(Flags::try_parse_from(["kubelet"]).is_err(), "nothing secret has a default");
        assert!(Flags::try_parse_from(&base[..4]).is_err(), "all three files of the server, or none");
        let alone = ["kubelet", "--pod-manifest-path=/m", "--pod-cidr=10.1.0.0/24"];
        assert!(Flags::try_parse_from(alone).expect("a node by itself").kubeconfig.is_none());
    }
}
