//! `kubeadm dev`: a whole cluster on one machine, in network namespaces made
//! for it, without systemd and without a change to the host.
//!
//! The namespaces have no route out. The API server also listens on the host's
//! loopback, on a socket that is made there and handed over, so that clients on
//! the host reach it. `down` ends every process by its recorded id and removes
//! every namespace, mount and file.

mod layout;
mod network;
mod process;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use client::{Client, ListOptions, Session};
use daemon::Clock;

pub use layout::Layout;
use process::Processes;

use crate::addons;
use crate::kubeconfigs;
use crate::leftovers;
use crate::pki::{Folder, Subject};

/// How long the control plane may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// How long nodes may take to be ready.
const NODES_READY: Duration = Duration::from_secs(60);

/// Brings a cluster up; what runs already is left alone.
///
/// # Errors
/// What could not be made, and what to do about it.
pub async fn up(layout: &Layout, clock: &dyn Clock, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    check_host(layout)?;
    let mut processes = Processes::open(&layout.state)?;
    say("keys and certificates");
    make_credentials(layout, clock)?;
    say("network namespaces");
    network::make(layout)?;
    say("control plane");
    for daemon in layout.control_plane().daemons() {
        let mut sockets = Vec::new();
        if daemon.name == "kube-apiserver" && !processes.is_running(daemon.name) {
            let address = layout.host_address();
            let socket = TcpListener::bind(address).with_context(|| {
                format!("listen on {address} for clients on this host; choose another port with --port")
            })?;
            sockets.push(socket.into());
        }
        let is_server = daemon.name == "kube-apiserver";
        processes.start(layout, daemon.name, &daemon, &layout.fabric(), sockets)?;
        if is_server {
            wait_for_server(layout, &processes).await?;
        }
    }
    let session = Session::from_file(&layout.admin_kubeconfig())?;
    let client = Client::new(&session, "kubeadm")?;
    addons::publish_dns(&client, layout.service_address(10), layout.control_address()).await?;
    let dns = layout.control_plane().dns(layout.domain());
    let proxy = layout.control_plane().proxy(&layout.name);
    for daemon in [dns, proxy] {
        processes.start(layout, daemon.name, &daemon, &layout.fabric(), Vec::new())?;
    }
    for node in layout.nodes() {
        say(&format!("node {}", node.name));
        processes.start_containerd(layout, &node)?;
        for daemon in node.daemons() {
            let name = format!("{}-{}", node.name, daemon.name);
            processes.start(layout, &name, &daemon, &layout.namespace(&node.name), Vec::new())?;
        }
    }
    say("waiting until the nodes are ready");
    wait_for_nodes(layout, &client, &processes).await
}

/// Ends the cluster and removes everything of it.
///
/// # Errors
/// What could not be ended or removed.
pub fn down(layout: &Layout, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    if !layout.state.exists() {
        say("no such cluster");
        return Ok(());
    }
    say("processes");
    let mut processes = Processes::open(&layout.state)?;
    processes.end_all(layout)?;
    say("mounts and cgroups");
    leftovers::unmount_below(&layout.state)?;
    leftovers::remove_cgroups(&layout.cgroup_root());
    say("network namespaces");
    network::remove(layout)?;
    say("files");
    fs::remove_dir_all(&layout.state).with_context(|| format!("remove {}", layout.state.display()))
}

/// Describes what runs, a line for each process.
///
/// # Errors
/// The state cannot be read.
pub fn status(layout: &Layout) -> anyhow::Result<Vec<String>> {
    if !layout.state.exists() {
        return Ok(vec!["no such cluster".to_owned()]);
    }
    Ok(Processes::open(&layout.state)?.describe())
}

/// The ids of the cluster's processes that run, by name.
///
/// # Errors
/// The state cannot be read.
pub fn processes(layout: &Layout) -> anyhow::Result<BTreeMap<String, u32>> {
    Ok(Processes::open(&layout.state)?.running())
}

fn check_host(layout: &Layout) -> anyhow::Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("kubeadm dev needs to be root: it makes network namespaces and containers");
    }
    for program in ["ip", "nft", "containerd", "runc", "nsenter"] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()));
        if !found {
            bail!(
                "{program} is not installed; on Debian: apt-get install iproute2 nftables containerd runc util-linux"
            );
        }
    }
    if !layout.cni_plugins.join("bridge").exists() {
        bail!(
            "no CNI plugins in {}; on Debian: apt-get install containernetworking-plugins",
            layout.cni_plugins.display()
        );
    }
    Ok(())
}

fn make_credentials(layout: &Layout, clock: &dyn Clock) -> anyhow::Result<()> {
    let now = clock.now();
    let pki = Folder::new(layout.pki());
    let authority = pki.authority(now)?;
    let server = layout.server();
    let hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"];
    let mut hosts: Vec<String> = hosts.map(str::to_owned).into();
    hosts.push(format!("kubernetes.default.svc.{}", layout.domain()));
    hosts.push(layout.control_address().to_string());
    hosts.push(layout.service_address(1).to_string());
    pki.ensure("apiserver", &authority, &Subject::server("kube-apiserver", hosts), now)?;
    let caller = Subject::client("kube-apiserver-kubelet-client", &["kubeadm:cluster-admins"]);
    pki.ensure("apiserver-kubelet-client", &authority, &caller, now)?;
    pki.ensure_front_proxy(now)?;
    pki.ensure_service_account_keys()?;
    fs::create_dir_all(layout.kubeconfigs()).context("create the folder of kubeconfigs")?;
    let users = [
        ("controller-manager.conf", "system:kube-controller-manager"),
        ("scheduler.conf", "system:kube-scheduler"),
        ("kube-dns.conf", "system:kube-dns"),
        ("kube-proxy.conf", "system:kube-proxy"),
    ];
    for (file, user) in users {
        let path = layout.kubeconfigs().join(file);
        kubeconfigs::ensure(&path, &layout.name, &server, &authority, &Subject::client(user, &[]), now)?;
    }
    let admin = Subject::client("kubernetes-admin", &["system:masters"]);
    let host_server = format!("https://{}", layout.host_address());
    kubeconfigs::ensure(&layout.admin_kubeconfig(), &layout.name, &host_server, &authority, &admin, now)?;
    for node in layout.nodes() {
        let folder = Folder::new(&node.pki);
        fs::create_dir_all(&node.pki).with_context(|| format!("create {}", node.pki.display()))?;
        fs::write(folder.path("ca.crt"), authority.pem()).context("write the node's ca.crt")?;
        let hosts = vec![node.name.clone(), node.address.to_string()];
        folder.ensure(
            "kubelet",
            &authority,
            &Subject::server(format!("system:node:{}", node.name), hosts),
            now,
        )?;
        let kubelet = Subject::client(format!("system:node:{}", node.name), &["system:nodes"]);
        let proxy = Subject::client("system:kube-proxy", &[]);
        for (file, user) in [("kubelet.conf", kubelet), ("kube-proxy.conf", proxy)] {
            kubeconfigs::ensure(&node.kubeconfigs.join(file), &layout.name, &server, &authority, &user, now)?;
        }
    }
    Ok(())
}

async fn wait_for_server(layout: &Layout, processes: &Processes) -> anyhow::Result<()> {
    let session = Session::from_file(&layout.admin_kubeconfig())?;
    let client = Client::new(&session, "kubeadm")?;
    let ready = async {
        while client.discover().await.is_err() {
            if !processes.is_running("kube-apiserver") {
                bail!("kube-apiserver ended; its log is {}", layout.log("kube-apiserver").display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    match tokio::time::timeout(READY, ready).await {
        Ok(outcome) => outcome,
        Err(_) => bail!(
            "kube-apiserver does not answer after {} seconds; its log is {}",
            READY.as_secs(),
            layout.log("kube-apiserver").display()
        ),
    }
}

async fn wait_for_nodes(layout: &Layout, client: &Client, processes: &Processes) -> anyhow::Result<()> {
    use api::types::core::v1::Node;
    let wanted = layout.nodes().len();
    let is_ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
    };
    let ready = async {
        loop {
            let nodes = client.list::<Node>(&ListOptions::default()).await?;
            if nodes.items.iter().filter(|node| is_ready(node)).count() >= wanted {
                return Ok(());
            }
            if let Some(ended) = processes.ended() {
                bail!("{ended} ended; its log is {}", layout.log(&ended).display());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    match tokio::time::timeout(NODES_READY, ready).await {
        Ok(outcome) => outcome,
        Err(_) => bail!(
            "the nodes are not ready after {} seconds; look into {}",
            NODES_READY.as_secs(),
            layout.logs().display()
        ),
    }
}

/// The program that belongs to this build: beside this one.
fn sibling(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let own = std::env::current_exe().context("find this program's own path")?;
    let path = own.parent().unwrap_or(Path::new("")).join(name);
    if !path.exists() {
        bail!("{} is not there; build it with `cargo build --release`", path.display());
    }
    Ok(path)
}
