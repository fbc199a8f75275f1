//! Puts kube-dns together; reads like the diagram in the architecture page.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use client::{Client, Session};
use daemon::{Shell, tasks};
use tokio::task::JoinHandle;

use crate::config::Flags;
use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::respond::Responder;
use crate::serve::{listen, serve_tcp, serve_udp};
use crate::zone::Zone;

/// A running kube-dns.
pub struct Running {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    serving: Vec<JoinHandle<()>>,
}

/// Starts kube-dns.
///
/// # Errors
/// A file that cannot be used, or an address that cannot be listened on.
pub async fn assemble(flags: &Flags, shell: &Shell) -> anyhow::Result<Running> {
    let session = Session::from_file(&flags.kubeconfig)?;
    let client = Client::new(&session, "kube-dns").context("connect to the API server")?;
    let zone = Arc::new(Zone::start(&flags.cluster_domain, &client));
    let forwarder = Arc::new(Forwarder::new(flags.upstream()?, Arc::clone(&shell.clock)));
    let addresses: Vec<SocketAddr> =
        flags.bind_address.iter().map(|address| SocketAddr::new(*address, flags.port)).collect();
    start(Responder { zone, forwarder, metrics: Metrics::default() }, &addresses, shell).await
}

/// Starts answering on some addresses.
///
/// # Errors
/// An address cannot be listened on.
pub async fn start(responder: Responder, addresses: &[SocketAddr], shell: &Shell) -> anyhow::Result<Running> {
    let mut running = Running { addresses: Vec::new(), serving: Vec::new() };
    for address in addresses {
        let (udp, tcp) = listen(*address).await.with_context(|| format!("listen on {address}"))?;
        running.addresses.push(tcp.local_addr().context("read the listening address")?);
        let shutdown = || shell.shutdown.clone();
        running.serving.push(tasks::spawn("udp", serve_udp(udp, responder.clone(), shutdown())));
        running.serving.push(tasks::spawn("tcp", serve_tcp(tcp, responder.clone(), shutdown())));
    }
    shell.health.metrics(|registry| responder.metrics.register(registry));
    let zone = Arc::clone(&responder.zone);
    shell.health.ready("zone", move || {
        if zone.is_filled() { Ok(()) } else { Err("the cluster's names are not known yet".to_owned()) }
    });
    let (zone, shell) = (responder.zone, shell.clone());
    tasks::spawn("ready", async move {
        tokio::select! {
            () = shell.shutdown.begun() => {}
            () = zone.filled() => shell.ready(),
        }
    });
    Ok(running)
}

impl Running {
    /// Waits until everything has ended.
    ///
    /// # Errors
    /// A socket's task ended badly.
    pub async fn finished(self) -> anyhow::Result<()> {
        for serving in self.serving {
            serving.await.context("a socket's task ended badly")?;
        }
        Ok(())
    }
}
