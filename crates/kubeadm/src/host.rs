//! Where everything of a cluster is on a host: upstream's places where upstream
//! has one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::daemons::{ControlPlane, Node};
use crate::settings::Cluster;

/// Where CNI plugins are looked for.
pub const CNI_PLUGINS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// What systemd-resolved knows, for pods: its own address is of no use to them.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// The kubeconfigs of the control plane.
pub const CONTROL_PLANE_KUBECONFIGS: [&str; 5] =
    ["admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kube-dns.conf"];
/// The kubeconfigs of a node.
pub const NODE_KUBECONFIGS: [&str; 2] = ["kubelet.conf", "kube-proxy.conf"];

/// The files and folders.
#[derive(Clone, Debug)]
pub struct Host {
    /// Kubeconfigs, and the folder `pki`.
    pub configuration: PathBuf,
    /// Keys and certificates of the cluster.
    pub pki: PathBuf,
    /// The store.
    pub data: PathBuf,
    /// The kubelet's folder.
    pub kubelet: PathBuf,
    /// What does not outlive a boot.
    pub kubelet_state: PathBuf,
    /// Logs of containers.
    pub pod_logs: PathBuf,
    /// Units.
    pub units: PathBuf,
    /// The folder of the programs: that of this one.
    pub programs: PathBuf,
    /// CNI configuration.
    pub cni_configuration: PathBuf,
    /// What CNI plugins remember.
    pub cni_cache: PathBuf,
    /// containerd's socket.
    pub containerd: PathBuf,
}

impl Host {
    /// This host.
    ///
    /// # Errors
    /// The path of this program cannot be found out.
    pub fn new(pki: Option<PathBuf>, cri_socket: &str) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("find this program's own path")?;
        let configuration = PathBuf::from("/etc/kubernetes");
        Ok(Self {
            pki: pki.unwrap_or_else(|| configuration.join("pki")),
            configuration,
            data: "/var/lib/corten/store".into(),
            kubelet: "/var/lib/kubelet".into(),
            kubelet_state: "/run/kubelet".into(),
            pod_logs: "/var/log/pods".into(),
            units: "/etc/systemd/system".into(),
            programs: own.parent().unwrap_or(Path::new("/")).to_owned(),
            cni_configuration: "/etc/cni/net.d".into(),
            cni_cache: "/var/lib/cni".into(),
            containerd: cri_socket.trim_start_matches("unix://").into(),
        })
    }

    /// A kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self, name: &str) -> PathBuf {
        self.configuration.join(name)
    }

    /// The kubelet's client certificate and key, in one file.
    #[must_use]
    pub fn kubelet_client(&self) -> PathBuf {
        self.kubelet.join("pki/kubelet-client-current.pem")
    }

    /// The folder with the kubelet's serving certificate.
    #[must_use]
    pub fn kubelet_pki(&self) -> PathBuf {
        self.kubelet.join("pki")
    }

    /// A program of this release.
    ///
    /// # Errors
    /// It is not there.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.programs.join(name);
        if !path.exists() {
            bail!("{} is not there; put all programs of a release into one folder", path.display());
        }
        Ok(path)
    }

    /// The control plane's daemons.
    #[must_use]
    pub fn control_plane(&self, address: IpAddr, port: u16, cluster: &Cluster) -> ControlPlane {
        let unspecified = if address.is_ipv4() { "0.0.0.0" } else { "::" };
        ControlPlane {
            pki: self.pki.clone(),
            kubeconfigs: self.configuration.clone(),
            data: self.data.clone(),
            address,
            port,
            bind: unspecified.parse().unwrap_or(address),
            pod_range: cluster.pod_range.to_string(),
            service_range: cluster.service_range.to_string(),
            health_address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        }
    }

    /// The node's daemons.
    #[must_use]
    pub fn node(&self, name: &str, address: IpAddr, cluster: &Cluster, images: Option<PathBuf>) -> Node {
        let plugins = CNI_PLUGINS.into_iter().map(PathBuf::from);
        let mut plugins = plugins.filter(|folder| folder.join("bridge").exists());
        let resolved = Path::new(RESOLVED);
        let serving = |name: &str| self.kubelet_pki().join(name);
        Node {
            name: name.to_owned(),
            address,
            pki: self.pki.clone(),
            kubeconfigs: self.configuration.clone(),
            root: self.kubelet.clone(),
            state: self.kubelet_state.clone(),
            pod_logs: self.pod_logs.clone(),
            containerd: self.containerd.clone(),
            cni_plugins: plugins.next().unwrap_or_else(|| CNI_PLUGINS[0].into()),
            cni_configuration: self.cni_configuration.clone(),
            cni_cache: self.cni_cache.clone(),
            cgroup_root: "/".to_owned(),
            eviction_hard: None,
            image_archives: images,
            pod_range: cluster.pod_range.to_string(),
            dns: cluster.dns_address(),
            domain: cluster.dns_domain.clone(),
            serving: (serving("kubelet.crt"), serving("kubelet.key")),
            resolv_conf: resolved.exists().then(|| resolved.to_owned()),
            health_address: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        }
    }
}

/// This machine's name, as a node's.
///
/// # Errors
/// It has none.
pub fn node_name(given: Option<&str>) -> anyhow::Result<String> {
    let own = || nix::unistd::gethostname().ok()?.into_string().ok();
    let name = given.map(str::to_owned).or_else(own).unwrap_or_default().trim().to_lowercase();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|byte| plain(byte) || byte == b'-')
            && label.bytes().next().is_some_and(plain)
            && label.bytes().next_back().is_some_and(plain)
    };
    if name.is_empty() || name.len() > 253 || !name.split('.').all(label) {
        bail!(
            "{name:?} cannot be a node's name: lower case letters, digits, '-' and '.'; give one with --node-name"
        );
    }
    if name == "localhost" {
        bail!("a node cannot be called localhost; give this machine a name, or give one with --node-name");
    }
    Ok(name)
}

/// The address by which others reach this machine: that of the default route,
/// or else the first that is not only its own.
///
/// # Errors
/// There is none.
pub fn own_address() -> anyhow::Result<IpAddr> {
    let routed = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        // Nothing is sent: connecting only asks for the route.
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let interfaces = nix::ifaddrs::getifaddrs().context("list the network interfaces")?;
    let configured = || {
        let mut addresses =
            interfaces.filter_map(|one| Some(IpAddr::V4(one.address?.as_sockaddr_in()?.ip())));
        addresses.find(|address| !address.is_loopback())
    };
    routed()
        .filter(|address| !address.is_unspecified() && !address.is_loopback())
        .or_else(configured)
        .context("this machine has no address that others reach; give one with --apiserver-advertise-address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes() {
        assert_eq!(node_name(Some("Node-1.site")).expect("a name"), "node-1.site");
        for bad in ["localhost", "a_b", "-a", "a-", "a..b", &"a".repeat(254)] {
            assert!(node_name(Some(bad)).is_err(), "{bad}");
        }
    }
}
