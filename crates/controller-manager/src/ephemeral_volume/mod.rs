//! Makes the claims of volumes that live and die with their pods (upstream:
//! `pkg/controller/volume/ephemeral`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{PersistentVolumeClaim, Pod};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::pods;

/// The loop's caches.
pub struct EphemeralVolumes {
    pods: Arc<Cache<Pod>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
}

/// What a plan is made of.
pub struct Observed {
    pod: Arc<Pod>,
    /// The claims, whoever's, that have the names of those of its volumes.
    claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (pods, claims) = (context.caches.pods(), context.caches.claims());
    let reconciler = EphemeralVolumes { pods: Arc::clone(&pods), claims: Arc::clone(&claims) };
    Loop::new(reconciler, context.flags.concurrent_ephemeralvolume_syncs)
        .mapped(&pods, |change| {
            let has_some = change.new.is_some_and(|pod| plan::volumes(pod).next().is_some());
            has_some.then(|| change.key.clone()).into_iter().collect()
        })
        .owned(&claims, "Pod")
}

impl Reconciler for EphemeralVolumes {
    const NAME: &'static str = "ephemeral-volume";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let pod = self.pods.get_key(key).filter(|pod| !pods::is_being_deleted(pod))?;
        let names = plan::volumes(&pod).map(|(volume, _)| plan::claim_name(&pod, volume));
        let claims = names.filter_map(|name| self.claims.get(&key.namespace, &name)).collect();
        Some(Observed { pod, claims })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(&observed.pod, &observed.claims)
    }
}
