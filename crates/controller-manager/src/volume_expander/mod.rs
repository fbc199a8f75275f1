//! Tells people that a claim which asks for more waits for its driver (upstream:
//! `pkg/controller/volume/expand`). Drivers resize volumes themselves; no kind of
//! volume here needs a controller for it.

use std::sync::Arc;

use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::{ObjectKey, Quantity};
use client::Cache;
use client::events::reference;
use reconcile::{Action, Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's caches.
pub struct VolumeExpander {
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
}

/// What a plan is made of.
pub struct Observed {
    claim: Arc<PersistentVolumeClaim>,
    volume: Arc<PersistentVolume>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (claims, volumes) = (context.caches.claims(), context.caches.volumes());
    let reconciler = VolumeExpander { claims: Arc::clone(&claims), volumes: Arc::clone(&volumes) };
    Loop::new(reconciler, 10).reads(&volumes).mapped(&claims, |change| {
        let grows = change.new.is_some_and(|claim| wants_more(claim));
        let asked = |claim: Option<&Arc<PersistentVolumeClaim>>| claim.and_then(|claim| requested(claim));
        let is_news = asked(change.old) != asked(change.new);
        (grows && is_news).then(|| change.key.clone()).into_iter().collect()
    })
}

fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::try_from(requests.get("storage")?).ok()
}

fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    let capacity = capacity.and_then(|one| Quantity::try_from(one).ok());
    matches!((requested(claim), capacity), (Some(wanted), Some(has)) if wanted > has)
}

impl Reconciler for VolumeExpander {
    const NAME: &'static str = "persistentvolume-expander";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let claim = self.claims.get_key(key)?;
        let volume = self.volumes.get("", claim.spec.as_ref()?.volume_name.as_deref()?)?;
        Some(Observed { claim, volume })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan(&observed.claim, &observed.volume)
    }
}

fn plan(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    let claimed = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let is_bound = claimed.is_some_and(|claimed| claimed.uid == claim.metadata.uid);
    if !is_bound || !wants_more(claim) {
        return Plan::default();
    }
    let text = "waiting for an external controller to expand this PVC";
    Plan::of(vec![Action::normal(reference(claim), "ExternalExpanding", text)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::object;

    #[test]
    fn a_bound_claim_that_asks_for_more_waits_for_its_driver() {
        let told = |wanted: &str, has: &str, uid: &str| {
            let claim: PersistentVolumeClaim = object(json!({
                "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
                "spec": {"volumeName": "v", "resources": {"requests": {"storage": wanted}}},
                "status": {"capacity": {"storage": has}},
            }));
            let volume = object(json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": uid}}}));
            plan(&claim, &volume).actions.len()
        };
        assert_eq!(told("2Gi", "1Gi", "u"), 1);
        assert_eq!(told("1Gi", "1Gi", "u"), 0);
        assert_eq!(told("2Gi", "1Gi", "other"), 0);
    }
}
