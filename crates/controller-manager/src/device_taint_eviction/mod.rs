//! Deletes pods whose devices have `NoExecute` taints that their claims do not
//! tolerate, or no longer (upstream: `pkg/controller/devicetainteviction`, for the
//! taints that drivers publish with their devices).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Pod;
use api::types::resource::v1::{DeviceRequestAllocationResult, DeviceTaint, ResourceClaim, ResourceSlice};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::resource_claim::{claim_name, entries};
use crate::{owners, pods};

/// The loop's caches; its keys are pods.
pub struct DeviceTaintEviction {
    pods: Arc<Cache<Pod>>,
    claims: Arc<Cache<ResourceClaim>>,
    slices: Arc<Cache<ResourceSlice>>,
}

/// What a plan is made of.
pub struct Observed {
    pod: Arc<Pod>,
    /// The devices that the pod has, each with what expels it.
    devices: Vec<(DeviceRequestAllocationResult, Vec<DeviceTaint>)>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let caches = &context.caches;
    let (pods, claims, slices) = (caches.pods(), caches.resource_claims(), caches.resource_slices());
    let by_slice = Arc::clone(&claims);
    let reconciler = DeviceTaintEviction {
        pods: Arc::clone(&pods),
        claims: Arc::clone(&claims),
        slices: Arc::clone(&slices),
    };
    Loop::new(reconciler, 8)
        .mapped(&pods, |change| {
            let has_some = change
                .new
                .is_some_and(|pod| entries(pod).next().is_some() && !pods::node_name(pod).is_empty());
            has_some.then(|| change.key.clone()).into_iter().collect()
        })
        .mapped(&claims, |change| change.new.map(|claim| users(claim)).unwrap_or_default())
        .mapped(&slices, move |change| {
            let slices = [change.old, change.new];
            let concerned = |claim: &Arc<ResourceClaim>| {
                results(claim)
                    .iter()
                    .any(|result| slices.iter().flatten().any(|slice| is_of_pool(slice, result)))
            };
            by_slice.list().iter().filter(|claim| concerned(claim)).flat_map(|claim| users(claim)).collect()
        })
}

/// The pods that a claim is reserved for.
fn users(claim: &ResourceClaim) -> Vec<ObjectKey> {
    let reserved = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    let pods = reserved.filter(|one| one.resource == "pods");
    pods.map(|one| ObjectKey::new(owners::namespace(claim), one.name.clone())).collect()
}

fn results(claim: &ResourceClaim) -> &[DeviceRequestAllocationResult] {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    allocation.and_then(|one| one.devices.as_ref()?.results.as_deref()).unwrap_or_default()
}

fn is_of_pool(slice: &ResourceSlice, result: &DeviceRequestAllocationResult) -> bool {
    slice.spec.driver == result.driver && slice.spec.pool.name == result.pool
}

impl DeviceTaintEviction {
    /// Whether a pod really has a claim: it was made for it if made at all, and is reserved for it.
    fn has(pod: &Pod, claim: &ResourceClaim, is_made: bool) -> bool {
        let reserved = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
        let mut reserved = reserved.filter(|one| one.uid == owners::uid(pod));
        reserved.next().is_some() && (!is_made || owners::is_controlled_by(claim, pod))
    }

    /// The taints of a device, as the newest state of its pool has them.
    fn taints(&self, result: &DeviceRequestAllocationResult) -> Vec<DeviceTaint> {
        let mut pool = self.slices.list();
        pool.retain(|slice| is_of_pool(slice, result));
        let newest = pool.iter().map(|slice| slice.spec.pool.generation).max();
        let current = pool.iter().filter(|slice| Some(slice.spec.pool.generation) == newest);
        let mut devices = current.flat_map(|slice| slice.spec.devices.iter().flatten());
        let device = devices.find(|device| device.name == result.device);
        device.and_then(|device| device.taints.clone()).unwrap_or_default()
    }
}

impl Reconciler for DeviceTaintEviction {
    const NAME: &'static str = "device-taint-eviction";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let pod = self.pods.get_key(key).filter(|pod| !pods::node_name(pod).is_empty())?;
        let mut devices = Vec::new();
        for entry in entries(&pod) {
            let Some(name) = claim_name(&pod, entry) else { continue };
            let Some(claim) = self.claims.get(&key.namespace, &name) else { continue };
            if Self::has(&pod, &claim, entry.resource_claim_template_name.is_some()) {
                devices.extend(results(&claim).iter().map(|result| (result.clone(), self.taints(result))));
            }
        }
        Some(Observed { pod, devices })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
