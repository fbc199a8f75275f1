//! Rolls a deployment's template out through replica sets (upstream:
//! `pkg/controller/deployment`).

mod plan;
mod revisions;
mod scale;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use revisions::short_hash;
pub(crate) use scale::resolve;

use std::sync::Arc;

use api::ObjectKey;
use api::types::apps::v1::{Deployment, ReplicaSet};
use api::types::core::v1::Pod;
use client::{Cache, Change};
use reconcile::wiring::controller_of;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{CONTROLLER, adopters, claimable};
use crate::controllers::Context;
use crate::{owners, pods};

/// The loop's caches.
pub struct Deployments {
    deployments: Arc<Cache<Deployment>>,
    replica_sets: Arc<Cache<ReplicaSet>>,
    pods: Arc<Cache<Pod>>,
}

/// What a plan is made of.
pub struct Observed {
    deployment: Arc<Deployment>,
    /// Its replica sets, and those of the namespace that nobody controls.
    replica_sets: Vec<Arc<ReplicaSet>>,
    /// Uids of replica sets that have a pod which has not ended.
    busy: Vec<String>,
    /// The replica set, whoever's, that has the name of the one to create.
    namesake: Option<Arc<ReplicaSet>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let deployments = context.caches.deployments();
    let replica_sets = context.caches.replica_sets();
    let pods = context.caches.pods();
    let (known, sets) = (Arc::clone(&deployments), Arc::clone(&replica_sets));
    let reconciler = Deployments {
        deployments: Arc::clone(&deployments),
        replica_sets: Arc::clone(&replica_sets),
        pods: Arc::clone(&pods),
    };
    Loop::new(reconciler, context.flags.concurrent_deployment_syncs)
        .own(&deployments)
        .owned(&replica_sets, "Deployment")
        .mapped(&replica_sets, move |change| adopters(&known, change, plan::selector))
        .mapped(&pods, move |change| recreating(&sets, change))
}

/// The deployment that may wait for the last pod of an old replica set to end.
fn recreating(replica_sets: &Cache<ReplicaSet>, change: &Change<'_, Pod>) -> Vec<ObjectKey> {
    let ended = change.new.is_none_or(|pod| pods::has_ended(pod));
    let Some(pod) = change.old.or(change.new).filter(|_| ended) else { return Vec::new() };
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
    let set = owner.and_then(|owner| replica_sets.get(&change.key.namespace, &owner.name));
    let owner =
        set.as_ref().and_then(|set| controller_of(&set.metadata)).filter(|owner| owner.kind == "Deployment");
    owner.map(|owner| ObjectKey::new(change.key.namespace.clone(), owner.name.clone())).into_iter().collect()
}

impl Reconciler for Deployments {
    const NAME: &'static str = "deployment";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let deployment = self.deployments.get_key(key)?;
        let replica_sets = claimable(&self.replica_sets, &*deployment, &key.namespace);
        let is_busy = |set: &&Arc<ReplicaSet>| {
            self.pods.indexed(CONTROLLER, owners::uid(&***set)).iter().any(|pod| !pods::has_ended(pod))
        };
        let busy = replica_sets.iter().filter(is_busy).map(|set| owners::uid(&**set).to_owned()).collect();
        let namesake = self.replica_sets.get(&key.namespace, &revisions::new_name(&deployment));
        Some(Observed { deployment, replica_sets, busy, namesake })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
