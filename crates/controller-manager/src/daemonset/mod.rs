//! Keeps one pod on each node that a daemon set fits (upstream:
//! `pkg/controller/daemon`).

mod backoff;
mod plan;
mod revisions;
mod template;
#[cfg(test)]
mod tests;
mod update;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::types::apps::v1::{ControllerRevision, DaemonSet};
use api::types::core::v1::{Node, Pod};
use client::Cache;
use daemon::Clock;
use parking_lot::Mutex;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{adopters, claimable};
use crate::controllers::Context;
use crate::{owners, pods, revisions as history};

use backoff::Failures;

/// The loop's caches.
pub struct DaemonSets {
    sets: Arc<Cache<DaemonSet>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    revisions: Arc<Cache<ControllerRevision>>,
    clock: Arc<dyn Clock>,
    failures: Mutex<Failures>,
}

/// What a plan is made of.
pub struct Observed {
    set: Arc<DaemonSet>,
    /// Its pods, and those of the namespace that nobody controls.
    pods: Vec<Arc<Pod>>,
    nodes: Vec<Arc<Node>>,
    /// How long failed pods are still left, by uid.
    left: HashMap<String, Duration>,
    /// Its revisions, and those of the namespace that nobody controls.
    revisions: Vec<Arc<ControllerRevision>>,
    /// The revision, whoever's, that has the name of the one to create.
    namesake: Option<Arc<ControllerRevision>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (sets, pods) = (context.caches.daemon_sets(), context.caches.pods());
    let (nodes, revisions) = (context.caches.nodes(), context.caches.controller_revisions());
    let (by_pod, by_node) = (Arc::clone(&sets), Arc::clone(&sets));
    let reconciler = DaemonSets {
        sets: Arc::clone(&sets),
        pods: Arc::clone(&pods),
        nodes: Arc::clone(&nodes),
        revisions: Arc::clone(&revisions),
        clock: Arc::clone(&context.clock),
        failures: Mutex::default(),
    };
    Loop::new(reconciler, context.flags.concurrent_daemonset_syncs)
        .own(&sets)
        .owned(&pods, "DaemonSet")
        .mapped(&pods, move |change| adopters(&by_pod, change, plan::selector))
        .owned(&revisions, "DaemonSet")
        .mapped(&nodes, move |change| {
            let matters =
                change.old.map(|node| plan::concern(node)) != change.new.map(|node| plan::concern(node));
            let all = if matters { by_node.list() } else { Vec::new() };
            all.iter().map(|set| ObjectKey::of(&**set)).collect()
        })
}

impl DaemonSets {
    /// How long the failed pods of a set are still left.
    fn failed(&self, set: &DaemonSet, pods: &[Arc<Pod>]) -> HashMap<String, Duration> {
        let now = self.clock.now();
        let mut failures = self.failures.lock();
        let failed = pods.iter().filter(|pod| {
            pods::phase(pod) == "Failed"
                && !pods::is_being_deleted(pod)
                && owners::is_controlled_by(&***pod, set)
        });
        let mut left = |pod: &Pod| {
            let uid = owners::uid(pod);
            (uid.to_owned(), failures.left(owners::uid(set), pods::node_name(pod), uid, now))
        };
        failed.map(|pod| left(pod)).collect()
    }
}

impl Reconciler for DaemonSets {
    const NAME: &'static str = "daemonset";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let set = self.sets.get_key(key)?;
        let pods = claimable(&self.pods, &*set, &key.namespace);
        let revisions = claimable(&self.revisions, &*set, &key.namespace);
        let namesake = self.revisions.get(&key.namespace, &history::new_name(&*set));
        let left = self.failed(&set, &pods);
        Some(Observed { set, pods, nodes: self.nodes.list(), left, revisions, namesake })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
