//! Wires the parts together: reads like the architecture diagram.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon::shell::Shell;

use crate::api_server::ApiServer;
use crate::cgroups::Cgroups;
use crate::cluster::{Cluster, PodChange, Source};
use crate::config::Flags;
use crate::images::registry::Registries;
use crate::images::store::Store;
use crate::images::{Images, archive};
use crate::network::{self, Network};
use crate::node::{self, facts};
use crate::runtime::containerd::Containerd;
use crate::runtime::files::Dns;
use crate::runtime::{self, Runtime};
use crate::server;
use crate::sources;
use crate::standalone::Standalone;
use crate::status::writer::Writer;
use crate::volumes::Volumes;
use crate::worker::pods::Pods;
use crate::worker::task::Tools;

/// Time between tries to reach containerd.
const CONTAINERD_RETRY: Duration = Duration::from_millis(100);

/// Runs a kubelet until shutdown. Containers go on without it.
///
/// # Errors
/// When something that it cannot work without is missing.
pub async fn run(flags: Flags, shell: Shell) -> anyhow::Result<()> {
    let name = flags.node_name();
    let addresses = if flags.node_ip.is_empty() { facts::addresses() } else { flags.node_ip.clone() };
    let cluster = cluster(&flags, &name)?;

    let Some(containerd) = connect(&flags, &shell).await else { return Ok(()) };
    let cgroups = Cgroups::detect("/sys/fs/cgroup".as_ref(), &flags.cgroup_root);
    cgroups.ensure_tree().context("make control groups")?;
    let network = network(&flags);
    let machine = facts::machine(cgroups.version(), &flags.root_dir);
    let runtime =
        Runtime::new(containerd.clone(), runtime_settings(&flags)?, machine, network.clone(), cgroups);
    let store = Store::new(containerd.clone());
    if let Some(directory) = &flags.image_archives {
        archive::import_directory(&store, directory).await;
    }

    let tools = Arc::new(Tools {
        runtime,
        images: Images::new(store, registries(&flags)?),
        volumes: Volumes::new(flags.root_dir.clone(), Arc::clone(&cluster)),
        cluster: Arc::clone(&cluster),
        writer: Writer::start(Arc::clone(&cluster)),
        addresses: addresses.clone(),
    });
    let pods = Pods::new(tools, &name);
    let mut tasks =
        vec![daemon::tasks::spawn("pods", Arc::clone(&pods).run(sources(&flags, &name, cluster.as_ref())))];
    if flags.kubeconfig.is_some() {
        let version = containerd.version().await?;
        let identity = node::Identity::of(&flags, &name, &addresses, version)?;
        let node = node::Reporter::new(identity, cluster.clone(), network, Arc::clone(&pods));
        tasks.push(daemon::tasks::spawn("node", node.run()));
    } else {
        network.ensure_configuration(&flags.pod_cidr).context("configure the pod network")?;
    }
    let served = server::serve(&flags, Arc::clone(&pods), shell.clone()).await?;
    shell.ready();
    shell.shutdown.begun().await;
    for task in tasks {
        task.abort();
    }
    match served {
        Some(served) => served.await.context("server"),
        None => Ok(()),
    }
}

/// The API server, or its absence.
fn cluster(flags: &Flags, name: &str) -> anyhow::Result<Arc<dyn Cluster>> {
    let Some(kubeconfig) = &flags.kubeconfig else { return Ok(Arc::new(Standalone)) };
    let session = client::kubeconfig::Session::from_file(kubeconfig)
        .with_context(|| format!("kubeconfig {}", kubeconfig.display()))?;
    let client =
        client::Client::new(&session, "kubelet").map_err(|status| anyhow::anyhow!(status.message))?;
    Ok(Arc::new(ApiServer::new(client, name)))
}

/// Where pods come from.
fn sources(flags: &Flags, name: &str, cluster: &dyn Cluster) -> tokio::sync::mpsc::Receiver<PodChange> {
    let files = match &flags.pod_manifest_path {
        Some(path) => sources::files::watch(path.clone(), name),
        None => sources::empty(Source::Files),
    };
    sources::merge(vec![files, cluster.watch_pods()])
}

/// Waits until containerd answers: it may start after us, or again while we
/// start. `None` if we are told to stop first.
async fn connect(flags: &Flags, shell: &Shell) -> Option<Containerd> {
    let socket = flags.containerd_socket();
    let mut said = false;
    loop {
        let connected = async {
            let containerd = Containerd::connect(&socket, &flags.containerd_namespace).await?;
            containerd.ensure_namespace().await?;
            Ok::<_, crate::runtime::containerd::RuntimeError>(containerd)
        };
        match connected.await {
            Ok(containerd) => return Some(containerd),
            Err(error) if said => tracing::debug!(%error, "containerd does not answer yet"),
            Err(error) => {
                tracing::warn!(error = crate::images::chain(&error), "waiting for containerd");
                said = true;
            }
        }
        tokio::select! {
            () = shell.shutdown.begun() => return None,
            () = tokio::time::sleep(CONTAINERD_RETRY) => {}
        }
    }
}

fn network(flags: &Flags) -> Network {
    Network::new(network::Settings {
        bin_dirs: flags.cni_bin_dir.clone(),
        conf_dir: flags.cni_conf_dir.clone(),
        cache_dir: flags.cni_cache_dir.clone(),
        bridge: flags.cni_bridge.clone(),
        mtu: flags.network_plugin_mtu,
    })
}

fn runtime_settings(flags: &Flags) -> anyhow::Result<runtime::Settings> {
    Ok(runtime::Settings {
        root: flags.root_dir.clone(),
        state: flags.state_dir.clone(),
        logs: flags.pod_logs_dir.clone(),
        logger: std::env::current_exe().context("find our own executable")?,
        log_max_size: flags.container_log_max_size,
        log_max_files: flags.container_log_max_files,
        dns: Dns {
            servers: flags.cluster_dns.iter().map(ToString::to_string).collect(),
            domain: flags.cluster_domain.clone(),
            host: std::fs::read_to_string(&flags.resolv_conf).unwrap_or_default(),
        },
    })
}

fn registries(flags: &Flags) -> anyhow::Result<Registries> {
    let mut registries = Registries {
        plain_http: flags.insecure_registry.clone(),
        config: Some(flags.registry_config_dir.clone()),
        ..Registries::default()
    };
    for entry in &flags.registry_mirror {
        let (registry, mirror) = entry
            .split_once('=')
            .with_context(|| format!("registry mirror {entry:?} is not REGISTRY=MIRROR"))?;
        registries.mirrors.entry(registry.to_owned()).or_default().push(mirror.to_owned());
    }
    Ok(registries)
}

/// Where the server listens.
pub(crate) const fn listen_address(flags: &Flags) -> SocketAddr {
    SocketAddr::new(flags.address, flags.port)
}
