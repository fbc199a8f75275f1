//! Whether a claim is used, and whether it goes.

use std::sync::Arc;

use api::Object;
use api::types::core::v1::{PersistentVolumeClaim, Pod, Volume};
use client::verbs::target;
use reconcile::action::Search;
use reconcile::{Action, Guard, Plan};

use crate::{pods, protection};

const FINALIZER: &str = "kubernetes.io/pvc-protection";

pub(super) fn plan(claim: &PersistentVolumeClaim, pods: &[Arc<Pod>]) -> Plan {
    let user = User::of(claim);
    let is_used = pods.iter().any(|pod| user.holds(pod));
    // A pod that was bound a moment ago may not be in the cache yet.
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let pods = target::<Pod>(namespace, "");
    let certain = Action::Require(Guard::NoneOf { target: pods, search: Arc::new(user) });
    protection::settle(claim, FINALIZER, is_used, Some(certain))
}

/// What makes a pod a user of a claim.
#[derive(Debug)]
struct User {
    claim: String,
    /// The uid of the pod that the claim was made for, if it was.
    owner: Option<String>,
}

impl User {
    fn of(claim: &PersistentVolumeClaim) -> Self {
        let owner = reconcile::wiring::controller_of(&claim.metadata);
        Self {
            claim: claim.metadata.name.clone().unwrap_or_default(),
            owner: owner.filter(|owner| owner.kind == "Pod").map(|owner| owner.uid.clone()),
        }
    }

    /// Whether a pod uses the claim. One without a node does not: no kubelet
    /// starts a pod on a claim that is being deleted.
    fn holds(&self, pod: &Pod) -> bool {
        if pods::node_name(pod).is_empty() {
            return false;
        }
        let is_own = self.owner.is_some() && self.owner == pod.metadata.uid;
        volumes(pod).any(|volume| {
            let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str());
            let made = is_own && !is_shut_down(pod) && ephemeral(pod, volume).as_ref() == Some(&self.claim);
            named == Some(self.claim.as_str()) || made
        })
    }
}

impl Search for User {
    fn finds(&self, object: &Object) -> bool {
        // What cannot be read may use it.
        object.to_typed::<Pod>().map_or(true, |pod| self.holds(&pod))
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// The claim that is made for an ephemeral volume.
fn ephemeral(pod: &Pod, volume: &Volume) -> Option<String> {
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name))
}

/// The names of the claims that a pod refers to.
pub(crate) fn claims_of(pod: &Pod) -> Vec<String> {
    let name = |volume: &Volume| {
        let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
        named.or_else(|| ephemeral(pod, volume))
    };
    volumes(pod).filter_map(name).collect()
}

/// Whether the kubelet is done with a pod, which waits only to be removed.
pub(super) fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{object, pod};

    fn claim(changes: Value) -> PersistentVolumeClaim {
        let mut claim = json!({"metadata": {
            "name": "c", "namespace": "ns", "uid": "u", "resourceVersion": "5",
            "finalizers": ["other", FINALIZER], "deletionTimestamp": "2026-11-23T11:30:00Z",
        }});
        api::patch::merge_patch(&mut claim, changes);
        object(claim)
    }

    fn user(changes: Value) -> Arc<Pod> {
        let mut with = json!({"spec": {
            "nodeName": "n", "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
        api::patch::merge_patch(&mut with, changes);
        Arc::new(pod("p", with))
    }

    fn finalizers(plan: &Plan) -> Option<Value> {
        match plan.actions.as_slice() {
            [] => None,
            [.., Action::Patch { patch: client::Patch::Merge(patch), .. }] => {
                Some(patch["metadata"]["finalizers"].clone())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_claim_goes_when_nobody_uses_it() {
        let gone = plan(&claim(json!({})), &[]);
        assert_eq!(finalizers(&gone), Some(json!(["other"])));
        assert!(matches!(gone.actions[0], Action::Require(Guard::NoneOf { .. })), "asked of the server");
        assert_eq!(finalizers(&plan(&claim(json!({})), &[user(json!({}))])), None);
        let unbound = user(json!({"spec": {"nodeName": null}}));
        assert_eq!(finalizers(&plan(&claim(json!({})), &[unbound])), Some(json!(["other"])));
        let alive = json!({"metadata": {"deletionTimestamp": null}});
        assert_eq!(finalizers(&plan(&claim(alive), &[])), None);
        let bare = json!({"metadata": {"deletionTimestamp": null, "finalizers": null}});
        let added = plan(&claim(bare), &[]);
        assert_eq!((finalizers(&added), added.actions.len()), (Some(json!([FINALIZER])), 1));
    }

    #[test]
    fn an_ephemeral_claim_is_used_by_its_own_pod() {
        let owner =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true}]);
        let claim = claim(json!({"metadata": {"name": "p-v", "ownerReferences": owner}}));
        let volumes = json!({"spec": {"volumes": [{"name": "v", "ephemeral": {}}]}});
        let own = user(volumes.clone());
        assert_eq!(claims_of(&own), ["p-v"]);
        assert_eq!(finalizers(&plan(&claim, &[own])), None);
        let mut ended = volumes;
        ended["metadata"] =
            json!({"deletionTimestamp": "2026-11-23T11:30:00Z", "deletionGracePeriodSeconds": 0});
        assert!(finalizers(&plan(&claim, &[user(ended)])).is_some());
    }
}
