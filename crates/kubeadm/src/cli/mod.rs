//! The command line: flags under upstream's names, parsed into the options of
//! the library, and its answers printed.

pub(crate) mod certs;
pub(crate) mod dev;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod reset;
pub(crate) mod token;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

/// What every command about this host has.
#[derive(Args)]
pub(crate) struct HostFlags {
    /// Where keys and certificates of the cluster are.
    #[arg(long, default_value = "/etc/kubernetes/pki", value_name = "DIR")]
    pub(crate) cert_dir: PathBuf,
    /// containerd's socket.
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock", value_name = "SOCKET")]
    pub(crate) cri_socket: String,
}

impl HostFlags {
    pub(crate) fn host(&self) -> anyhow::Result<kubeadm::host::Host> {
        kubeadm::host::Host::new(Some(std::path::absolute(&self.cert_dir)?), &self.cri_socket)
    }
}

/// What `init` and `join` have.
#[derive(Args)]
pub(crate) struct NodeFlags {
    /// The node's name; by default this machine's.
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Archives of images (docker save, OCI) that the node loads when it starts.
    #[arg(long, value_name = "DIR")]
    image_archives: Option<PathBuf>,
    /// Preflight checks that only warn; `all` for all.
    #[arg(long, value_delimiter = ',', value_name = "CHECK")]
    pub(crate) ignore_preflight_errors: Vec<String>,
}

impl NodeFlags {
    /// The folder of archives, as units need it: absolute, and there.
    pub(crate) fn images(&self) -> anyhow::Result<Option<PathBuf>> {
        let absolute = |folder: &PathBuf| {
            std::fs::canonicalize(folder)
                .with_context(|| format!("--image-archives: open {}", folder.display()))
        };
        self.image_archives.as_ref().map(absolute).transpose()
    }
}

pub(crate) fn say(line: &str) {
    println!("{line}");
}

pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
