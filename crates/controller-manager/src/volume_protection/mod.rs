//! A persistent volume that is deleted stays while it is bound to a claim
//! (upstream: `pkg/controller/volume/pvprotection`).

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::PersistentVolume;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::protection;

const FINALIZER: &str = "kubernetes.io/pv-protection";
const WORKERS: usize = 2;

/// The loop's cache.
pub struct VolumeProtection {
    volumes: Arc<Cache<PersistentVolume>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let volumes = context.caches.volumes();
    Loop::new(VolumeProtection { volumes: Arc::clone(&volumes) }, WORKERS).own(&volumes)
}

impl Reconciler for VolumeProtection {
    const NAME: &'static str = "persistentvolume-protection";
    type Observed = Arc<PersistentVolume>;

    fn observe(&self, key: &ObjectKey) -> Option<Arc<PersistentVolume>> {
        self.volumes.get_key(key)
    }

    fn plan(&self, volume: &Arc<PersistentVolume>, _: &Moment) -> Plan {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        // The phase is the volume's own: what was read of it is what is changed.
        protection::settle(&**volume, FINALIZER, phase == Some("Bound"), None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{context, now, object};

    #[test]
    fn a_volume_goes_when_it_is_not_bound() {
        let reconciler = VolumeProtection { volumes: context().caches.volumes() };
        let planned = |phase: &str, deleted: bool, finalizers: &[&str]| {
            let at = deleted.then_some("2026-11-23T11:30:00Z");
            let volume: PersistentVolume = object(json!({
                "metadata": {"name": "v", "uid": "u", "finalizers": finalizers, "deletionTimestamp": at},
                "status": {"phase": phase},
            }));
            reconciler.plan(&Arc::new(volume), &Moment::at(now())).actions.len()
        };
        assert_eq!(planned("Bound", true, &[FINALIZER]), 0);
        assert_eq!(planned("Released", true, &[FINALIZER]), 1);
        assert_eq!(planned("Available", false, &[FINALIZER]), 0);
        assert_eq!(planned("Available", false, &[]), 1);
        assert_eq!(planned("Available", true, &[]), 0);
    }
}
