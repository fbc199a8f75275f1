//! A host as a node: the files and units of its daemons, and the wait until the
//! cluster counts on it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::types::core::v1::Node;
use client::Client;

use crate::daemons::Daemon;
use crate::host::Host;
use crate::pki::{Folder, Pair, write_secret};
use crate::{kubeconfigs, systemd, units};

const POLL: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_mins(2);

/// A node's certificates.
#[derive(Clone)]
pub struct Credentials {
    /// With which it calls the API server.
    pub client: Pair,
    /// With which it is called.
    pub serving: Pair,
}

/// Writes the client certificate and its key into one file, as upstream does.
///
/// # Errors
/// The file cannot be written.
pub fn write_client(host: &Host, client: &Pair) -> anyhow::Result<()> {
    let folder = host.kubelet_pki();
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    write_secret(&host.kubelet_client(), &format!("{}{}", client.certificate, client.key))
}

/// Writes a node's certificates and kubeconfigs.
///
/// # Errors
/// A file cannot be written.
pub fn write_files(
    host: &Host,
    authority: &str,
    endpoint: &str,
    credentials: &Credentials,
) -> anyhow::Result<()> {
    for folder in [&host.pki, &host.configuration] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let path = host.pki.join("ca.crt");
    fs::write(&path, authority).with_context(|| format!("write {}", path.display()))?;
    write_client(host, &credentials.client)?;
    Folder::new(host.kubelet_pki()).write("kubelet", &credentials.serving)?;
    for (file, user) in [("kubelet.conf", "default-auth"), ("kube-proxy.conf", "default-auth")] {
        let server = format!("https://{endpoint}");
        let text = kubeconfigs::with_file("kubernetes", &server, authority, user, &host.kubelet_client())?;
        write_secret(&host.kubeconfig(file), &text)?;
    }
    Ok(())
}

/// Writes the units of a node and starts them.
///
/// # Errors
/// A daemon is not ready in time.
pub async fn start(host: &Host, daemons: &[Daemon], say: &dyn Fn(&str)) -> anyhow::Result<()> {
    say(&format!("[kubelet-start] Writing the units of the node to {:?}", host.units.display()));
    let mut written: Vec<_> = daemons
        .iter()
        .map(|daemon| Ok(units::daemon(daemon, &host.program(daemon.name)?)))
        .collect::<anyhow::Result<_>>()?;
    written.extend(units::renewal(&host.program("kubeadm")?, &host.pki));
    systemd::write(&host.units, &written)?;
    for daemon in daemons {
        say(&format!("[kubelet-start] Starting {}", daemon.name));
        systemd::start(&format!("{}.service", daemon.name), PATIENCE).await?;
    }
    systemd::systemctl(&["enable", "--quiet", "--now", &format!("{}.timer", units::RENEWAL)]).map(drop)
}

/// Whether a node says that it takes pods.
#[must_use]
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Waits until the node is ready.
///
/// # Errors
/// It is not in time.
pub async fn wait_until_ready(client: &Client, name: &str, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    say(&format!("[kubelet-check] Waiting until the node {name} is Ready"));
    let ready = async {
        // The API server may be away for a moment.
        while !client.get::<Node>("", name).await.is_ok_and(|node| is_ready(&node)) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(PATIENCE, ready).await.is_ok() {
        return Ok(());
    }
    let seen = client.get::<Node>("", name).await.ok().and_then(|node| node.status?.conditions);
    let why = seen.into_iter().flatten().find(|one| one.type_ == "Ready").and_then(|one| one.message);
    bail!(
        "the node {name} is not Ready after {} seconds ({}); see journalctl -u kubelet -u kube-proxy",
        PATIENCE.as_secs(),
        why.unwrap_or_else(|| "it has not reported itself".to_owned())
    )
}
