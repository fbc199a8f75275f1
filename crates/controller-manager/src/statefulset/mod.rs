//! Keeps a row of pods that each have a name, a place and volumes of their own
//! (upstream: `pkg/controller/statefulset`).
//!
//! A stateful set's history names two revisions: the one that its pods are at
//! and the one that they are moved to. Start reading in `plan.rs`; `identity.rs`
//! says who a pod is, `claims.rs` what it stores on, `rollout.rs` which pod is
//! moved next.

mod claims;
mod identity;
mod plan;
mod rollout;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ObjectKey;
use api::types::apps::v1::{ControllerRevision, StatefulSet};
use api::types::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use client::{Cache, Change};
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{NAMESPACE, adopters, claimable};
use crate::controllers::Context;
use crate::revisions::{self, Versioned};

/// The loop's caches.
pub struct StatefulSets {
    sets: Arc<Cache<StatefulSet>>,
    pods: Arc<Cache<Pod>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    revisions: Arc<Cache<ControllerRevision>>,
}

/// What a plan is made of.
pub struct Observed {
    set: Arc<StatefulSet>,
    /// Its pods, and those of the namespace that nobody controls.
    pods: Vec<Arc<Pod>>,
    /// The claims of its pods, by name.
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// Its revisions, and those of the namespace that nobody controls.
    revisions: Vec<Arc<ControllerRevision>>,
    /// The revision, whoever's, that has the name of the one to create.
    namesake: Option<Arc<ControllerRevision>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (sets, pods) = (context.caches.stateful_sets(), context.caches.pods());
    let (claims, revisions) = (context.caches.claims(), context.caches.controller_revisions());
    let (by_pod, by_claim) = (Arc::clone(&sets), Arc::clone(&sets));
    let reconciler = StatefulSets {
        sets: Arc::clone(&sets),
        pods: Arc::clone(&pods),
        claims: Arc::clone(&claims),
        revisions: Arc::clone(&revisions),
    };
    Loop::new(reconciler, context.flags.concurrent_statefulset_syncs)
        .own(&sets)
        .owned(&pods, "StatefulSet")
        .mapped(&pods, move |change| adopters(&by_pod, change, plan::selector))
        .owned(&revisions, "StatefulSet")
        .mapped(&claims, move |change| claimants(&by_claim, change))
}

/// The stateful sets for whose pods a claim is.
fn claimants(sets: &Cache<StatefulSet>, change: &Change<'_, PersistentVolumeClaim>) -> Vec<ObjectKey> {
    let Some((name, _)) = identity::split(&change.key.name) else { return Vec::new() };
    let candidates = sets.indexed(NAMESPACE, &change.key.namespace);
    let claiming = candidates
        .iter()
        .filter(|set| claims::templates(set).iter().any(|template| name == claims::prefix(set, template)));
    claiming.map(|set| ObjectKey::of(&**set)).collect()
}

impl Versioned for StatefulSet {
    const HASH: &'static str = "controller.kubernetes.io/hash";

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref()?.collision_count
    }

    fn history_limit(&self) -> Option<i32> {
        self.spec.as_ref()?.revision_history_limit
    }
}

impl Reconciler for StatefulSets {
    const NAME: &'static str = "statefulset";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let set = self.sets.get_key(key)?;
        let pods = claimable(&self.pods, &*set, &key.namespace);
        let revisions = claimable(&self.revisions, &*set, &key.namespace);
        let namesake = self.revisions.get(&key.namespace, &revisions::new_name(&*set));
        let mut claims = BTreeMap::new();
        let members = pods.iter().filter_map(|pod| identity::ordinal(&set, pod));
        for ordinal in identity::ordinals(&set).chain(members) {
            for template in claims::templates(&set) {
                let name = claims::name(&set, template, ordinal);
                let claim = self.claims.get(&key.namespace, &name);
                claims.extend(claim.map(|claim| (name, claim)));
            }
        }
        Some(Observed { set, pods, claims, revisions, namesake })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
