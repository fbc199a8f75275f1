//! Keeps one pod on each node that a daemon set fits (upstream:
//! `pkg/controller/daemon`).

mod plan;
mod revisions;
mod template;
#[cfg(test)]
mod tests;
mod update;

use std::sync::Arc;

use api::ObjectKey;
use api::types::apps::v1::{ControllerRevision, DaemonSet};
use api::types::core::v1::{Node, Pod};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{CONTROLLER, adopters, orphans_in};
use crate::controllers::Context;
use crate::{owners, revisions as history};

/// The loop's caches.
pub struct DaemonSets {
    sets: Arc<Cache<DaemonSet>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    revisions: Arc<Cache<ControllerRevision>>,
}

/// What a plan is made of.
pub struct Observed {
    set: Arc<DaemonSet>,
    /// Its pods, and those of the namespace that nobody controls.
    pods: Vec<Arc<Pod>>,
    nodes: Vec<Arc<Node>>,
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

impl Reconciler for DaemonSets {
    const NAME: &'static str = "daemonset";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let set = self.sets.get_key(key)?;
        let mut pods = self.pods.indexed(CONTROLLER, owners::uid(&*set));
        pods.extend(self.pods.indexed(CONTROLLER, &orphans_in(&key.namespace)));
        let mut revisions = self.revisions.indexed(CONTROLLER, owners::uid(&*set));
        revisions.extend(self.revisions.indexed(CONTROLLER, &orphans_in(&key.namespace)));
        let namesake = self.revisions.get(&key.namespace, &history::new_name(&*set));
        Some(Observed { set, pods, nodes: self.nodes.list(), revisions, namesake })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
