//! Whether a claim is still used, and what becomes of it when it is not.

use api::types::core::v1::Pod;
use api::types::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use client::verbs::target;
use reconcile::wiring::controller_of;
use reconcile::{Action, Guard, Plan};
use serde_json::json;

use super::ObservedClaim;
use crate::{owners, pods};

/// Keeps a claim while it is allocated.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// Whether a pod will not run, or not again.
pub(super) fn is_done(pod: &Pod) -> bool {
    pods::has_ended(pod) || (pods::is_being_deleted(pod) && pods::node_name(pod).is_empty())
}

fn consumers(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

fn is_pod(consumer: &ResourceClaimConsumerReference) -> bool {
    consumer.api_group.as_deref().unwrap_or_default().is_empty() && consumer.resource == "pods"
}

/// The name and uid of the pod that a claim was made for.
fn owner(claim: &ResourceClaim) -> Option<(&str, &str)> {
    let owner = controller_of(&claim.metadata).filter(|one| one.api_version == "v1" && one.kind == "Pod")?;
    Some((&owner.name, &owner.uid))
}

/// The names of the pods that a claim has to do with.
pub(super) fn pods_of(claim: &ResourceClaim) -> impl Iterator<Item = &str> {
    let users = consumers(claim).iter().filter(|one| is_pod(one)).map(|one| one.name.as_str());
    users.chain(owner(claim).map(|(name, _)| name))
}

/// Whether a consumer still holds a claim; what is no pod is not for us to judge.
fn holds(observed: &ObservedClaim, consumer: &ResourceClaimConsumerReference) -> bool {
    let pod = observed.pods.iter().find(|pod| pods::name(pod) == consumer.name);
    !is_pod(consumer) || pod.is_some_and(|pod| owners::uid(&**pod) == consumer.uid && !is_done(pod))
}

pub(super) fn plan(observed: &ObservedClaim) -> Plan {
    let claim = &*observed.claim;
    let mut plan = Plan::default();
    let all = consumers(claim);
    let (kept, gone): (Vec<_>, Vec<_>) = all.iter().partition(|consumer| holds(observed, consumer));
    // A pod that the cache does not show may be about to appear: the server must say that it is gone.
    for consumer in gone.iter().filter(|one| !observed.pods.iter().any(|pod| pods::name(pod) == one.name)) {
        let place = target::<Pod>(owners::namespace(claim), &consumer.name);
        plan.actions.push(Action::Require(Guard::Absent { target: place, uid: consumer.uid.clone() }));
    }
    let is_protected = claim.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER);
    let is_allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    let goes = claim.metadata.deletion_timestamp.is_some();
    let frees = is_protected && kept.is_empty() && (!gone.is_empty() || goes);
    let mut status = json!({});
    if !gone.is_empty() {
        status["reservedFor"] = json!(kept);
    }
    if frees && is_allocated {
        // As soon as the last consumer is gone: the next may need other devices.
        status["allocation"] = json!(null);
    }
    if status != json!({}) {
        let version = &claim.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
        plan.actions.push(Action::patch_status(claim, patch));
    }
    if frees {
        let finalizers = claim.metadata.finalizers.iter().flatten();
        let rest: Vec<&String> = finalizers.filter(|one| *one != FINALIZER).collect();
        plan.actions.push(Action::patch(claim, json!({"metadata": {"finalizers": rest}})));
    }
    if kept.is_empty() && !goes && is_outlived(observed) {
        plan.actions.push(Action::delete(claim));
    }
    plan
}

/// Whether the pod that a claim was made for will not need it. That it is truly gone is for the
/// garbage collector to find.
fn is_outlived(observed: &ObservedClaim) -> bool {
    let Some((name, uid)) = owner(&observed.claim) else { return false };
    let pod = observed.pods.iter().find(|pod| pods::name(pod) == name);
    pod.is_some_and(|pod| owners::uid(&**pod) != uid || is_done(pod))
}
