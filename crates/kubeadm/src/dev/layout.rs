//! Where everything of a development cluster is: files, names, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::daemons::{ControlPlane, Node};

/// One development cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its name; part of the names of its namespaces.
    pub name: String,
    /// Where its files are.
    pub state: PathBuf,
    /// How many nodes it has.
    pub node_count: u8,
    /// The port on the host's loopback.
    pub port: u16,
    /// Where CNI plugins are.
    pub cni_plugins: PathBuf,
    /// Archives of images for every node.
    pub image_archives: Option<PathBuf>,
}

/// The port of the API server inside the cluster.
const SERVER_PORT: u16 = 6443;

impl Layout {
    /// The namespace of the control plane, through which nodes are connected.
    #[must_use]
    pub fn fabric(&self) -> String {
        format!("corten-{}", self.name)
    }

    /// The namespace of a node.
    #[must_use]
    pub fn namespace(&self, node: &str) -> String {
        format!("corten-{}-{node}", self.name)
    }

    /// The control plane's address.
    #[must_use]
    pub const fn control_address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1))
    }

    /// A node's address, counted from 1.
    #[must_use]
    pub const fn node_address(&self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 200, 0, 10 + number))
    }

    /// Addresses of pods.
    #[must_use]
    pub const fn pod_range(&self) -> &'static str {
        "10.244.0.0/16"
    }

    /// Addresses of services.
    #[must_use]
    pub const fn service_range(&self) -> &'static str {
        "10.96.0.0/16"
    }

    /// A fixed address in the service range.
    #[must_use]
    pub const fn service_address(&self, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96, 0, last))
    }

    /// The domain of cluster DNS.
    #[must_use]
    pub const fn domain(&self) -> &'static str {
        "cluster.local"
    }

    /// The API server inside the cluster.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://{}:{SERVER_PORT}", self.control_address())
    }

    /// The API server on the host.
    #[must_use]
    pub const fn host_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Keys and certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// Kubeconfigs of the control plane.
    #[must_use]
    pub fn kubeconfigs(&self) -> PathBuf {
        self.state.join("kubeconfigs")
    }

    /// The administrator's kubeconfig, for use on the host.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.state.join("admin.conf")
    }

    /// Logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// One process's log.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    /// The cgroup of the whole cluster.
    #[must_use]
    pub fn cgroup_root(&self) -> String {
        format!("/corten-{}", self.name)
    }

    /// The control plane's daemons.
    #[must_use]
    pub fn control_plane(&self) -> ControlPlane {
        ControlPlane {
            pki: self.pki(),
            kubeconfigs: self.kubeconfigs(),
            data: self.state.join("store"),
            address: self.control_address(),
            port: SERVER_PORT,
            bind: self.control_address(),
            pod_range: self.pod_range().to_owned(),
            service_range: self.service_range().to_owned(),
            health_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.node_count).map(|number| self.node(number)).collect()
    }

    fn node(&self, number: u8) -> Node {
        let name = format!("node{number}");
        let folder = self.state.join(&name);
        Node {
            address: self.node_address(number),
            pki: folder.join("pki"),
            kubeconfigs: folder.clone(),
            root: folder.join("kubelet"),
            state: folder.join("run"),
            pod_logs: folder.join("pod-logs"),
            containerd: folder.join("containerd.sock"),
            cni_plugins: self.cni_plugins.clone(),
            cni_configuration: folder.join("cni/net.d"),
            cni_cache: folder.join("cni/cache"),
            cgroup_root: format!("{}/{name}", self.cgroup_root()),
            // The disk is the developer's: how full it is says little about the cluster.
            eviction_hard: Some("nodefs.available<1%".to_owned()),
            image_archives: self.image_archives.clone(),
            pod_range: self.pod_range().to_owned(),
            dns: self.service_address(10),
            domain: self.domain().to_owned(),
            serving: (folder.join("pki/kubelet.crt"), folder.join("pki/kubelet.key")),
            resolv_conf: None,
            health_address: None,
            name,
        }
    }
}
