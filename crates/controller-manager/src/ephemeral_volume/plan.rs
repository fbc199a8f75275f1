//! Which claims a pod lacks.

use std::sync::Arc;

use api::metav1::ObjectMeta;
use api::types::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod};
use client::events::reference;
use reconcile::{Action, Announcement, Plan};

use crate::{owners, pods};

/// The volumes of a pod that need claims of their own: their names, and what those look like.
pub(super) fn volumes(pod: &Pod) -> impl Iterator<Item = (&str, &PersistentVolumeClaimTemplate)> {
    let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    all.filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        Some((volume.name.as_str(), template))
    })
}

/// The name of a volume's claim.
pub(super) fn claim_name(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", pods::name(pod))
}

pub(super) fn plan(pod: &Pod, claims: &[Arc<PersistentVolumeClaim>]) -> Plan {
    let mut plan = Plan::default();
    for (volume, template) in volumes(pod) {
        let name = claim_name(pod, volume);
        match claims.iter().find(|claim| owners::name(&***claim) == name) {
            Some(claim) if owners::is_controlled_by(&**claim, pod) => {}
            Some(_) => {
                let text = format!(
                    "ephemeral volume {volume}: PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                    owners::namespace(pod),
                    owners::namespace(pod),
                    pods::name(pod)
                );
                plan.actions.push(Action::warning(reference(pod), "FailedBinding", text));
                return plan;
            }
            None => plan.actions.push(create(pod, volume, name, template)),
        }
    }
    plan
}

fn create(pod: &Pod, volume: &str, name: String, template: &PersistentVolumeClaimTemplate) -> Action {
    let described = template.metadata.clone().unwrap_or_default();
    let failure = format!("ephemeral volume {volume}: create PVC {name}: {{error}}");
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            labels: described.labels,
            annotations: described.annotations,
            owner_references: Some(vec![owners::controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    };
    Action::create(&claim).announced(Announcement {
        about: reference(pod),
        success: None,
        failure: Some(("FailedBinding", failure)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{object, pod};

    fn claim(owner: &str) -> Arc<PersistentVolumeClaim> {
        Arc::new(object(json!({"metadata": {"name": "p-data", "namespace": "ns", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]}})))
    }

    #[test]
    fn each_such_volume_has_a_claim_of_the_pod() {
        let pod = pod(
            "p",
            json!({"spec": {"volumes": [
                {"name": "data", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}}, "spec": {"storageClassName": "fast"}}}},
                {"name": "other", "emptyDir": {}},
            ]}}),
        );
        let planned = plan(&pod, &[]);
        let [Action::Create { object: created, .. }] = &planned.actions[..] else { panic!("{planned:?}") };
        assert_eq!(created["metadata"]["name"], "p-data");
        assert_eq!(created["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(created["metadata"]["ownerReferences"][0]["uid"], "uid-p");
        assert_eq!(created["spec"]["storageClassName"], Value::from("fast"));
        assert_eq!(plan(&pod, &[claim("uid-p")]), Plan::default());
        let taken = plan(&pod, &[claim("uid-other")]);
        assert!(format!("{taken:?}").contains("pod is not owner"));
        assert_eq!(taken.actions.len(), 1);
    }
}
