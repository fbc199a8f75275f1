//! Keeps as many pods as a replica set asks for (upstream:
//! `pkg/controller/replicaset`).

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use api::ObjectKey;
use api::types::apps::v1::ReplicaSet;
use api::types::core::v1::Pod;
use client::{Cache, Change};
use reconcile::wiring::controller_of;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{CONTROLLER, NAMESPACE, orphans_in};
use crate::controllers::Context;
use crate::{owners, pods};

/// The loop's caches.
pub struct ReplicaSets {
    replica_sets: Arc<Cache<ReplicaSet>>,
    pods: Arc<Cache<Pod>>,
}

/// What a plan is made of.
pub struct Observed {
    replica_set: Arc<ReplicaSet>,
    /// Its pods, and those of the namespace that nobody controls.
    pods: Vec<Arc<Pod>>,
    /// Active pods per node, of this replica set and its siblings under the same owner.
    neighbours: HashMap<String, usize>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let replica_sets = context.caches.replica_sets();
    let pods = context.caches.pods();
    let known = Arc::clone(&replica_sets);
    let reconciler = ReplicaSets { replica_sets: Arc::clone(&replica_sets), pods: Arc::clone(&pods) };
    Loop::new(reconciler, context.flags.concurrent_replicaset_syncs)
        .own(&replica_sets)
        .owned(&pods, "ReplicaSet")
        .mapped(&pods, move |change| adopters(&known, change))
}

/// The replica sets that may want a pod without controller.
fn adopters(replica_sets: &Cache<ReplicaSet>, change: &Change<'_, Pod>) -> Vec<ObjectKey> {
    let Some(pod) = change.new.filter(|pod| controller_of(&pod.metadata).is_none()) else {
        return Vec::new();
    };
    let candidates = replica_sets.indexed(NAMESPACE, &change.key.namespace);
    let selecting = candidates.iter().filter(|set| plan::selector(set).matches(&pod.metadata.labels));
    selecting.map(|set| ObjectKey::of(&**set)).collect()
}

impl Reconciler for ReplicaSets {
    const NAME: &'static str = "replicaset";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let replica_set = self.replica_sets.get_key(key)?;
        let mut candidates = self.pods.indexed(CONTROLLER, owners::uid(&*replica_set));
        candidates.extend(self.pods.indexed(CONTROLLER, &orphans_in(&key.namespace)));
        let siblings = match controller_of(&replica_set.metadata) {
            Some(owner) => self.replica_sets.indexed(CONTROLLER, &owner.uid),
            None => vec![Arc::clone(&replica_set)],
        };
        let mut neighbours = HashMap::new();
        for pod in siblings.iter().flat_map(|set| self.pods.indexed(CONTROLLER, owners::uid(&**set))) {
            if pods::is_active(&pod) && pods::is_ready(&pod) {
                *neighbours.entry(pods::node_name(&pod).to_owned()).or_default() += 1;
            }
        }
        Some(Observed { replica_set, pods: candidates, neighbours })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
