//! `drain`: closes nodes to new pods and evicts those on them.

mod choice;

use std::sync::Arc;
use std::time::Duration;

use api::{Object, Reason};
use clap::Args;
use client::{DeleteOptions, Target};
use futures::stream::{FuturesUnordered, StreamExt as _};
use serde_json::json;

use super::Verb;
use super::cordon::{Nodes, mark};
use crate::changes::DryRun;
use crate::discovery::Resource;
use crate::error::Error;
use crate::kube::{Info, Kube, parse_duration};
use crate::output;
use choice::{Choice, choose};

/// How long to wait before a refused eviction is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    nodes: Nodes,
    /// Also pods that no controller would replace
    #[arg(long)]
    force: bool,
    /// Leave the pods of daemon sets
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Also pods with emptyDir volumes, whose data is lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Seconds for each pod to end; -1 for its own
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// How long to wait for all; 0 for ever
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Only pods with these labels
    #[arg(long, default_value = "")]
    pod_selector: String,
    /// Delete instead of evicting, which bypasses disruption budgets
    #[arg(long)]
    disable_eviction: bool,
    /// Do not wait for pods whose deletion is older than this many seconds
    #[arg(long, default_value_t = 0)]
    skip_wait_for_delete_timeout: i64,
    /// Read lists in chunks of this size
    #[arg(long, default_value_t = 500)]
    chunk_size: u64,
}

/// What the work on one pod needs.
struct Work<'a> {
    kube: &'a Kube,
    drain: &'a Drain,
    pods: Arc<Resource>,
    dry_run: DryRun,
    evict: bool,
}

impl Verb for Drain {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let dry_run = DryRun::parse(&self.nodes.dry_run)?;
        let limit = parse_duration(&self.timeout)?;
        let nodes = self.nodes.find(kube, "drain").await?;
        mark(kube, &nodes, true, dry_run).await?;
        let pods = kube.discovery().await?.of_kind("v1", "Pod")?;
        let evict = !self.disable_eviction && pods.subresources.iter().any(|one| one == "eviction");
        let work = Work { kube, drain: &self, pods, dry_run, evict };
        let (mut errors, mut remaining) = (Vec::new(), Vec::new());
        for node in &nodes {
            match work.node(node, limit).await {
                Ok(()) => output::line(format!("{} drained{}", node.label(), dry_run.suffix()))?,
                Err(error) => {
                    let why = error.to_string();
                    let why = why.strip_prefix("error: ").unwrap_or(&why);
                    eprintln!(
                        "error: unable to drain node {:?} due to error: {why}, continuing command...",
                        node.name
                    );
                    remaining.push(node.name.clone());
                    errors.push(error);
                }
            }
        }
        if !remaining.is_empty() {
            eprintln!("There are pending nodes to be drained:\n {}", remaining.join("\n "));
        }
        Error::of_all(errors)
    }
}

impl Work<'_> {
    async fn node(&self, node: &Info, limit: Duration) -> Result<(), Error> {
        let chosen = self.chosen(&node.name).await?;
        if !chosen.warnings.is_empty() {
            eprintln!("Warning: {}", chosen.warnings);
        }
        if self.dry_run == DryRun::Client {
            for pod in &chosen.pods {
                output::line(format!("evicting pod {}/{} (dry run)", pod.namespace(), pod.name()))?;
            }
            return Ok(());
        }
        let until = crate::clock::deadline(limit);
        let mut all: FuturesUnordered<_> =
            chosen.pods.iter().map(|pod| self.pod(pod, limit, until)).collect();
        let mut errors = Vec::new();
        while let Some(outcome) = all.next().await {
            errors.extend(outcome.err());
        }
        Error::of_all(errors)
    }

    async fn chosen(&self, node: &str) -> Result<Choice, Error> {
        let fields = format!("spec.nodeName={node}");
        let target = self.pods.target("", "");
        let found = self.kube.list(target, &self.drain.pod_selector, &fields).await?;
        let daemon_sets = self.kube.discovery().await?.of_kind("apps/v1", "DaemonSet")?;
        // Only the sets that pods name are looked for.
        let mut missing = Vec::new();
        for (namespace, name) in found.iter().filter_map(choice::daemon_set_of) {
            let target = daemon_sets.target(&namespace, &name);
            if self.kube.find(target).await?.is_none() {
                missing.push((namespace, name));
            }
        }
        let rules = choice::Rules {
            force: self.drain.force,
            ignore_daemon_sets: self.drain.ignore_daemonsets,
            delete_empty_dirs: self.drain.delete_emptydir_data,
            skip_deleted_for: self.drain.skip_wait_for_delete_timeout,
            missing_daemon_sets: &missing,
            now: crate::clock::now(),
        };
        choose(found, &rules).map_err(Error::said)
    }

    /// Evicts or deletes a pod, and waits until it is gone.
    async fn pod(
        &self,
        pod: &Object,
        limit: Duration,
        until: Option<tokio::time::Instant>,
    ) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace(), pod.name());
        let work = async {
            if self.evict {
                self.evict(pod).await?;
            } else {
                self.delete(pod).await?;
            }
            if self.dry_run == DryRun::None { self.wait(pod).await } else { Ok(()) }
        };
        match until {
            None => work.await,
            Some(until) => match tokio::time::timeout_at(until, work).await {
                Ok(done) => done,
                Err(_) => Err(Error::said(format!(
                    "error when evicting pods/{name:?} -n {namespace:?}: global timeout reached: {}",
                    shown(limit)
                ))),
            },
        }
    }

    fn options(&self) -> DeleteOptions {
        DeleteOptions {
            grace_period_seconds: (self.drain.grace_period >= 0).then_some(self.drain.grace_period),
            dry_run: if self.dry_run == DryRun::Server { vec!["All".into()] } else { Vec::new() },
            ..DeleteOptions::default()
        }
    }

    async fn evict(&self, pod: &Object) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace(), pod.name());
        let options = serde_json::to_value(self.options())?;
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options});
        let eviction = Object::from_value(eviction).map_err(|error| Error::said(error.to_string()))?;
        let target = Target { subresource: "eviction".into(), ..self.pods.target(namespace, name) };
        loop {
            output::line(format!("evicting pod {namespace}/{name}{}", self.dry_run.suffix()))?;
            match self.kube.create(target.clone(), &eviction, &self.dry_run.options()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(Error::Server { status, .. })
                    if status.reason == Reason::TooManyRequests || is_namespace_ending(&status) =>
                {
                    eprintln!(
                        "error when evicting pods/{name:?} -n {namespace:?} (will retry after 5s): {}",
                        status.message
                    );
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    return Err(Error::said(format!(
                        "error when evicting pods/{name:?} -n {namespace:?}: {}",
                        plain(&error)
                    )));
                }
            }
        }
    }

    async fn delete(&self, pod: &Object) -> Result<(), Error> {
        let target = self.pods.target(pod.namespace(), pod.name());
        match self.kube.delete(target, &self.options()).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn wait(&self, pod: &Object) -> Result<(), Error> {
        let target = self.pods.target(pod.namespace(), pod.name());
        loop {
            match self.kube.find(target.clone()).await? {
                Some(now) if now.uid() == pod.uid() => {
                    let limit = self.drain.skip_wait_for_delete_timeout;
                    if choice::is_long_deleted(&now, limit, crate::clock::now()) {
                        return output::line(format!(
                            "pod {:?} has DeletionTimestamp older than {limit} seconds, skipping",
                            pod.name()
                        ));
                    }
                }
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let done = if self.evict { "evicted" } else { "deleted" };
        output::line(format!("pod/{} {done}", pod.name()))
    }
}

/// The refusal of an eviction in a namespace that is being deleted.
fn is_namespace_ending(status: &api::Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    status.reason == Reason::Forbidden && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn plain(error: &Error) -> String {
    match error {
        Error::Server { status, .. } => status.message.clone(),
        other => other.to_string(),
    }
}

/// A duration as Go prints it.
fn shown(limit: Duration) -> String {
    let seconds = limit.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
