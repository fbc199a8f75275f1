//! Keeps as many pods as a replica set, or a replication controller, asks for
//! (upstream: `pkg/controller/replicaset`).

mod keeper;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Pod;
use client::Cache;
use reconcile::wiring::controller_of;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{CONTROLLER, adopters, claimable};
use crate::controllers::Context;
use crate::{owners, pods};

pub use keeper::Keeper;

/// The loop's caches.
pub struct ReplicaSets<K: Keeper> {
    keepers: Arc<Cache<K>>,
    pods: Arc<Cache<Pod>>,
}

/// What a plan is made of.
pub struct Observed<K> {
    keeper: Arc<K>,
    /// Its pods, and those of the namespace that nobody controls.
    pods: Vec<Arc<Pod>>,
    /// Active pods per node, of this one and its siblings under the same owner.
    neighbours: HashMap<String, usize>,
}

/// The loop of replica sets, wired.
pub fn start(context: &Context) -> Loop {
    wired(context, &context.caches.replica_sets(), context.flags.concurrent_replicaset_syncs)
}

/// The loop of replication controllers, wired.
pub fn start_replication_controllers(context: &Context) -> Loop {
    wired(context, &context.caches.replication_controllers(), context.flags.concurrent_rc_syncs)
}

fn wired<K: Keeper>(context: &Context, keepers: &Arc<Cache<K>>, workers: usize) -> Loop {
    let pods = context.caches.pods();
    let known = Arc::clone(keepers);
    let reconciler = ReplicaSets { keepers: Arc::clone(keepers), pods: Arc::clone(&pods) };
    Loop::new(reconciler, workers)
        .own(keepers)
        .owned(&pods, K::KIND)
        .mapped(&pods, move |change| adopters(&known, change, K::selector))
}

impl<K: Keeper> Reconciler for ReplicaSets<K> {
    const NAME: &'static str = K::LOOP;
    type Observed = Observed<K>;

    fn observe(&self, key: &ObjectKey) -> Option<Observed<K>> {
        let keeper = self.keepers.get_key(key)?;
        let candidates = claimable(&self.pods, &*keeper, &key.namespace);
        let siblings = match controller_of(keeper.metadata()) {
            Some(owner) => self.keepers.indexed(CONTROLLER, &owner.uid),
            None => vec![Arc::clone(&keeper)],
        };
        let mut neighbours = HashMap::new();
        for pod in siblings.iter().flat_map(|set| self.pods.indexed(CONTROLLER, owners::uid(&**set))) {
            if pods::is_active(&pod) {
                *neighbours.entry(pods::node_name(&pod).to_owned()).or_default() += 1;
            }
        }
        Some(Observed { keeper, pods: candidates, neighbours })
    }

    fn plan(&self, observed: &Observed<K>, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
