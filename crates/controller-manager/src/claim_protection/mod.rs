//! A claim that is deleted stays until no pod on a node uses it (upstream:
//! `pkg/controller/volume/pvcprotection`).

mod plan;

pub(crate) use plan::claims_of;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{PersistentVolumeClaim, Pod};
use client::{Cache, Change};
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::NAMESPACE;
use crate::controllers::Context;
use crate::pods;

const WORKERS: usize = 2;

/// The loop's caches.
pub struct ClaimProtection {
    claims: Arc<Cache<PersistentVolumeClaim>>,
    pods: Arc<Cache<Pod>>,
}

/// What a plan is made of.
pub struct Observed {
    claim: Arc<PersistentVolumeClaim>,
    /// The pods of its namespace.
    pods: Vec<Arc<Pod>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (claims, pods) = (context.caches.claims(), context.caches.pods());
    let reconciler = ClaimProtection { claims: Arc::clone(&claims), pods: Arc::clone(&pods) };
    Loop::new(reconciler, WORKERS).own(&claims).mapped(&pods, freed)
}

/// The claims that a pod may have let go.
fn freed(change: &Change<'_, Pod>) -> Vec<ObjectKey> {
    let holds = change.new.is_some_and(|pod| !pods::has_ended(pod) && !pods::node_name(pod).is_empty());
    if holds && !change.new.is_some_and(|pod| plan::is_shut_down(pod)) {
        return Vec::new();
    }
    let both = [change.old, change.new].into_iter().flatten();
    let names = both.flat_map(|pod| plan::claims_of(pod));
    names.map(|name| ObjectKey::new(change.key.namespace.clone(), name)).collect()
}

impl Reconciler for ClaimProtection {
    const NAME: &'static str = "persistentvolumeclaim-protection";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let claim = self.claims.get_key(key)?;
        Some(Observed { claim, pods: self.pods.indexed(NAMESPACE, &key.namespace) })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(&observed.claim, &observed.pods)
    }
}
