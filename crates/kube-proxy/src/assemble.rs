//! Puts kube-proxy together; reads like the diagram in the architecture page.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use client::{Cache, Client, Scope, Session};
use daemon::Shell;
use ipnet::IpNet;

use crate::config::Flags;
use crate::kernel::Nft;
use crate::metrics::Metrics;
use crate::programmer::Programmer;
use crate::routes::Routes;
use crate::rules::Place;
use crate::run::{BY_SERVICE, Caches, Loop, Parts, service_terms};

/// Runs kube-proxy until shutdown.
///
/// # Errors
/// A kubeconfig that cannot be used, or a kernel that does not forward.
pub async fn assemble(flags: &Flags, shell: &Shell) -> anyhow::Result<()> {
    let session = Session::from_file(&flags.kubeconfig)?;
    let client = Client::new(&session, "kube-proxy").context("connect to the API server")?;
    forward_packets(&flags.cluster_cidr)?;
    let caches = Caches {
        services: Cache::start(&client, Scope::default()),
        slices: Cache::start_indexed(&client, Scope::default(), vec![(BY_SERVICE, service_terms)]),
        nodes: Cache::start(&client, Scope::default()),
    };
    // Rules of an earlier run serve until all is known.
    tokio::select! {
        () = shell.shutdown.begun() => return Ok(()),
        _ = async { tokio::join!(caches.services.synced(), caches.slices.synced(), caches.nodes.synced()) } => {}
    }
    let place = Place { node: flags.node_name(), cluster_cidr: flags.cluster_cidr.clone() };
    let routes = if flags.no_routes { None } else { Some(Routes::open().context("prepare routes")?) };
    let metrics = shell.health.metrics(Metrics::register);
    let programmer = Programmer::new(Nft::default());
    let work =
        Loop::new(caches, Parts { place, programmer, routes, metrics, clock: Arc::clone(&shell.clock) });
    let programmed = work.programmed();
    let check = Arc::clone(&programmed);
    shell.health.ready("programmed", move || {
        if check.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("the kernel does not hold the rules".to_owned())
        }
    });
    shell.ready();
    work.run(shell.shutdown.clone()).await;
    Ok(())
}

fn forward_packets(ranges: &[IpNet]) -> anyhow::Result<()> {
    let mut switches = vec!["/proc/sys/net/ipv4/ip_forward"];
    if ranges.iter().any(|range| matches!(range, IpNet::V6(_))) {
        switches.push("/proc/sys/net/ipv6/conf/all/forwarding");
    }
    for switch in switches.into_iter().map(Path::new) {
        let shown = switch.display();
        let state = std::fs::read_to_string(switch).with_context(|| format!("read {shown}"))?;
        if state.trim() == "0" {
            std::fs::write(switch, "1").with_context(|| format!("switch on {shown}"))?;
            tracing::info!(%shown, "switched on");
        }
    }
    Ok(())
}
