//! `kube-controller-manager`: the loops that make a cluster what its objects
//! say, each a folder of this crate.
//!
//! A folder has `mod.rs` (which caches the loop reads, and what wakes it),
//! `plan.rs` (pure: what to do) and `tests.rs`. The runtime under them is the
//! crate `reconcile`. Start reading in [`controllers`], the table of all.

pub mod answers;
pub mod attach_detach;
pub mod attributes_class_protection;
pub mod bootstrap_signer;
pub mod caches;
pub mod certificate_approval;
pub mod certificate_cleaner;
pub mod certificate_signing;
pub mod claim_protection;
pub mod clusterrole_aggregation;
pub mod controllers;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod device_taint_eviction;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod ephemeral_volume;
pub mod flags;
pub mod garbage_collector;
pub mod horizontal_autoscaler;
pub mod inventory;
pub mod job;
pub mod legacy_token_cleaner;
pub mod local_path;
pub mod namespace;
pub mod namespaces;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_ttl;
pub mod nodes;
pub mod owners;
pub mod pod_gc;
pub mod pods;
mod protection;
pub mod replicaset;
pub mod resource_claim;
pub mod resource_quota;
pub mod revisions;
pub mod root_ca;
pub mod service_account;
pub mod service_cidr;
pub mod service_load_balancer;
pub mod service_pods;
pub mod signing_requests;
pub mod statefulset;
pub mod status;
pub mod taint_eviction;
#[cfg(test)]
mod testing;
pub mod token_cleaner;
pub mod ttl_after_finished;
pub mod volume_binder;
pub mod volume_expander;
pub mod volume_protection;

use std::sync::Arc;

use anyhow::Context as _;
use client::election::Election;
use client::{Client, Kubeconfig, Recorder, Session};
use daemon::{Clock, Shell};
use reconcile::{Loop, Metrics, Runtime};

use caches::Caches;
use controllers::Context;
use flags::Flags;

/// Runs the daemon until shutdown, or until leadership is lost.
///
/// # Errors
/// Flags that name unreadable files or unknown controllers; lost leadership.
pub async fn run(flags: Flags, shell: Shell) -> anyhow::Result<()> {
    let session: Session = Kubeconfig::load(&flags.kubeconfig)?.session(None)?;
    let client = Client::new(&session, "kube-controller-manager")?;
    let root_ca = match &flags.root_ca_file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?,
        None => String::new(),
    };
    for name in &flags.controllers {
        let bare = name.trim_start_matches('-');
        anyhow::ensure!(
            bare == "*" || controllers::ALL.iter().any(|(known, _)| *known == bare),
            "--controllers: there is no controller {bare:?}"
        );
    }
    let metrics = Metrics::default();
    shell.health.metrics(|registry| metrics.register(registry));
    shell.ready();
    if !flags.leader_elect {
        let stop = shell.shutdown.clone();
        control(flags, root_ca.into(), client, &shell, metrics, async move { stop.begun().await }).await;
        return Ok(());
    }
    let identity = format!("{}_{:x}", host_name(), shell.clock.now().as_nanosecond());
    let clock = Arc::clone(&shell.clock);
    let election = Election::new("kube-controller-manager", &identity);
    let mut leadership = tokio::select! {
        () = shell.shutdown.begun() => return Ok(()),
        leadership = election.lead(&client, move || clock.now()) => leadership,
    };
    let stop = shell.shutdown.clone();
    let ended = async {
        tokio::select! {
            () = stop.begun() => {}
            () = leadership.lost() => {}
        }
    };
    control(flags, root_ca.into(), client, &shell, metrics, ended).await;
    anyhow::ensure!(shell.shutdown.has_begun(), "leadership lost");
    leadership.give_up().await;
    Ok(())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Runs every wanted controller until `stop` ends. The caches start here, after the election, so
/// that they begin with all that an earlier leader wrote.
pub async fn control(
    flags: Flags,
    root_ca: Arc<str>,
    client: Client,
    shell: &Shell,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) {
    let time = |clock: &Arc<dyn Clock>| {
        let clock = Arc::clone(clock);
        move || clock.now()
    };
    let recorder = Recorder::start(&client, "controllermanager", None, time(&shell.clock));
    let runtime = Runtime::new(client.clone(), recorder, time(&shell.clock), metrics);
    let caches = Caches::following(client.clone());
    let context = Context::new(flags, caches, root_ca, Some(client), Arc::clone(&shell.clock));
    runtime.run(build(&context), stop).await;
}

/// The wanted controllers, wired.
#[must_use]
pub fn build(context: &Context) -> Vec<Loop> {
    let wanted = controllers::ALL.iter().filter(|(name, _)| context.flags.wants(name));
    wanted.map(|(_, start)| start(context)).collect()
}
