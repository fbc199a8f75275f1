//! The daemons of a cluster as data: which binary, with which flags. A
//! development cluster runs them as child processes, a host as systemd units.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::pki::FRONT_PROXY_CLIENT;

/// One daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its name, also that of its binary.
    pub name: &'static str,
    /// Its flags.
    pub flags: Vec<(String, String)>,
}

impl Daemon {
    fn new(name: &'static str, flags: &[(&str, String)]) -> Self {
        Self { name, flags: flags.iter().map(|(flag, value)| ((*flag).to_owned(), value.clone())).collect() }
    }

    /// The flags as arguments.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        self.flags.iter().map(|(flag, value)| format!("--{flag}={value}"))
    }
}

/// What the control plane's daemons need to know.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// The folder with keys and certificates.
    pub pki: PathBuf,
    /// The folder with kubeconfigs.
    pub kubeconfigs: PathBuf,
    /// The store's folder.
    pub data: PathBuf,
    /// Where the API server is reached.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Where the API server listens.
    pub bind: IpAddr,
    /// Addresses of pods.
    pub pod_range: String,
    /// Addresses of services.
    pub service_range: String,
    /// Where plain health endpoints are served.
    pub health_address: IpAddr,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl ControlPlane {
    /// The daemons in the order in which they start.
    #[must_use]
    pub fn daemons(&self) -> Vec<Daemon> {
        let pki = |name: &str| text(&self.pki.join(name));
        let kubeconfig = |name: &str| text(&self.kubeconfigs.join(name));
        let health = |port: u16| format!("{}:{port}", self.health_address);
        let api_server = Daemon::new(
            "kube-apiserver",
            &[
                ("advertise-address", self.address.to_string()),
                ("bind-address", self.bind.to_string()),
                ("secure-port", self.port.to_string()),
                ("data-dir", text(&self.data)),
                ("client-ca-file", pki("ca.crt")),
                ("tls-cert-file", pki("apiserver.crt")),
                ("tls-private-key-file", pki("apiserver.key")),
                ("service-account-signing-key-file", pki("sa.key")),
                ("service-account-key-file", pki("sa.pub")),
                ("kubelet-certificate-authority", pki("ca.crt")),
                ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
                ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
                ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
                ("requestheader-allowed-names", FRONT_PROXY_CLIENT.to_owned()),
                ("proxy-client-cert-file", pki("front-proxy-client.crt")),
                ("proxy-client-key-file", pki("front-proxy-client.key")),
                ("enable-bootstrap-token-auth", "true".to_owned()),
                ("service-cluster-ip-range", self.service_range.clone()),
            ],
        );
        let scheduler = Daemon::new(
            "kube-scheduler",
            &[("kubeconfig", kubeconfig("scheduler.conf")), ("healthz-bind-address", health(10_259))],
        );
        let controllers = Daemon::new(
            "kube-controller-manager",
            &[
                ("kubeconfig", kubeconfig("controller-manager.conf")),
                ("root-ca-file", pki("ca.crt")),
                ("cluster-signing-cert-file", pki("ca.crt")),
                ("cluster-signing-key-file", pki("ca.key")),
                ("allocate-node-cidrs", "true".to_owned()),
                ("cluster-cidr", self.pod_range.clone()),
                ("healthz-bind-address", health(10_257)),
            ],
        );
        vec![api_server, scheduler, controllers]
    }

    /// Routes to the pods, for a control plane that is no node.
    #[must_use]
    pub fn proxy(&self, name: &str) -> Daemon {
        Daemon::new(
            "kube-proxy",
            &[
                ("kubeconfig", text(&self.kubeconfigs.join("kube-proxy.conf"))),
                ("hostname-override", name.to_owned()),
                ("cluster-cidr", self.pod_range.clone()),
            ],
        )
    }

    /// Cluster DNS.
    #[must_use]
    pub fn dns(&self, domain: &str) -> Daemon {
        Daemon::new(
            "kube-dns",
            &[
                ("kubeconfig", text(&self.kubeconfigs.join("kube-dns.conf"))),
                ("bind-address", self.address.to_string()),
                ("cluster-domain", domain.to_owned()),
                ("healthz-bind-address", format!("{}:10254", self.health_address)),
            ],
        )
    }
}

/// What a node's daemons need to know.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// The node's address.
    pub address: IpAddr,
    /// The folder with the node's keys and certificates.
    pub pki: PathBuf,
    /// The folder with the node's kubeconfigs.
    pub kubeconfigs: PathBuf,
    /// The kubelet's folder.
    pub root: PathBuf,
    /// What must not outlive a boot: sandboxes' namespaces.
    pub state: PathBuf,
    /// Logs of containers.
    pub pod_logs: PathBuf,
    /// containerd's socket.
    pub containerd: PathBuf,
    /// CNI plugins.
    pub cni_plugins: PathBuf,
    /// CNI configuration.
    pub cni_configuration: PathBuf,
    /// What CNI plugins remember.
    pub cni_cache: PathBuf,
    /// The cgroup below which pods run.
    pub cgroup_root: String,
    /// When the node is under pressure; `None`: the kubelet's own thresholds.
    pub eviction_hard: Option<String>,
    /// Archives of images that are loaded at start.
    pub image_archives: Option<PathBuf>,
    /// Addresses of pods, in the whole cluster.
    pub pod_range: String,
    /// The address of cluster DNS.
    pub dns: IpAddr,
    /// The domain of cluster DNS.
    pub domain: String,
    /// The serving certificate and its key.
    pub serving: (PathBuf, PathBuf),
    /// The node's own name resolution, where it is not `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// Where plain health endpoints are served, if at all.
    pub health_address: Option<IpAddr>,
}

impl Node {
    /// The daemons in the order in which they start.
    #[must_use]
    pub fn daemons(&self) -> Vec<Daemon> {
        let mut kubelet = Daemon::new(
            "kubelet",
            &[
                ("kubeconfig", text(&self.kubeconfigs.join("kubelet.conf"))),
                ("hostname-override", self.name.clone()),
                ("node-ip", self.address.to_string()),
                ("address", self.address.to_string()),
                ("root-dir", text(&self.root)),
                ("state-dir", text(&self.state)),
                ("pod-logs-dir", text(&self.pod_logs)),
                ("container-runtime-endpoint", text(&self.containerd)),
                ("cni-bin-dir", text(&self.cni_plugins)),
                ("cni-conf-dir", text(&self.cni_configuration)),
                ("cni-cache-dir", text(&self.cni_cache)),
                ("cgroup-root", self.cgroup_root.clone()),
                ("cluster-dns", self.dns.to_string()),
                ("cluster-domain", self.domain.clone()),
                ("client-ca-file", text(&self.pki.join("ca.crt"))),
                ("tls-cert-file", text(&self.serving.0)),
                ("tls-private-key-file", text(&self.serving.1)),
            ],
        );
        if let Some(thresholds) = &self.eviction_hard {
            kubelet.flags.push(("eviction-hard".to_owned(), thresholds.clone()));
        }
        if let Some(archives) = &self.image_archives {
            kubelet.flags.push(("image-archives".to_owned(), text(archives)));
        }
        if let Some(file) = &self.resolv_conf {
            kubelet.flags.push(("resolv-conf".to_owned(), text(file)));
        }
        let mut proxy = Daemon::new(
            "kube-proxy",
            &[
                ("kubeconfig", text(&self.kubeconfigs.join("kube-proxy.conf"))),
                ("hostname-override", self.name.clone()),
                ("cluster-cidr", self.pod_range.clone()),
            ],
        );
        for (daemon, port) in [(&mut kubelet, 10_248), (&mut proxy, 10_256)] {
            let health = self.health_address.map(|address| format!("{address}:{port}"));
            daemon.flags.extend(health.map(|health| ("healthz-bind-address".to_owned(), health)));
        }
        vec![kubelet, proxy]
    }
}
