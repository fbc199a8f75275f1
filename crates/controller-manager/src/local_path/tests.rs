//! Tables of plans.

use std::sync::Arc;

use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{PROVISIONER, Released, Wanted, cleanup, provision};
use crate::testing::{node, object, pod};

fn wanted(claim: Value, class: Value) -> Wanted {
    let mut of_claim = json!({
        "metadata": {"name": "data", "namespace": "ns", "uid": "u1", "annotations": {
            "volume.kubernetes.io/storage-provisioner": PROVISIONER, "volume.kubernetes.io/selected-node": "n1"}},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    api::patch::merge_patch(&mut of_claim, claim);
    let mut of_class = json!({"metadata": {"name": "local"}, "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer"});
    api::patch::merge_patch(&mut of_class, class);
    Wanted {
        claim: Arc::new(object(of_claim)),
        class: Arc::new(object(of_class)),
        node: Some(Arc::new(node(
            "n1",
            json!({"metadata": {"labels": {"kubernetes.io/hostname": "host-1"}}}),
        ))),
        root: "/var/lib/volumes".to_owned(),
    }
}

fn created(plan: &Plan) -> Value {
    match plan.actions.first() {
        Some(Action::Create { object, .. }) => object.clone(),
        _ => Value::Null,
    }
}

#[test]
fn a_claim_gets_a_directory_on_its_node() {
    let volume = created(&provision::plan(&wanted(json!({}), json!({}))));
    let spec = &volume["spec"];
    assert_eq!(
        spec["hostPath"],
        json!({"path": "/var/lib/volumes/pvc-u1_ns_data", "type": "DirectoryOrCreate"})
    );
    assert_eq!((&spec["claimRef"]["uid"], &spec["capacity"]), (&json!("u1"), &json!({"storage": "1Gi"})));
    assert_eq!(spec["persistentVolumeReclaimPolicy"], "Delete");
    let terms = &spec["nodeAffinity"]["required"]["nodeSelectorTerms"];
    assert_eq!(terms[0]["matchExpressions"][0]["values"], json!(["host-1"]));
    assert_eq!(volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"], PROVISIONER);
    let chosen = created(&provision::plan(&wanted(
        json!({}),
        json!({"parameters": {"path": "/data/"}, "reclaimPolicy": "Retain"}),
    )));
    assert_eq!(chosen["spec"]["hostPath"]["path"], "/data/pvc-u1_ns_data");
    assert_eq!(chosen["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    let mut nowhere = wanted(json!({}), json!({}));
    nowhere.node = None;
    assert_eq!(provision::plan(&nowhere), Plan::default());
}

#[test]
fn what_a_directory_cannot_be_is_refused() {
    for (claim, class) in [
        (json!({}), json!({"volumeBindingMode": "Immediate"})),
        (json!({"spec": {"volumeMode": "Block"}}), json!({})),
        (json!({"spec": {"accessModes": ["ReadWriteMany"]}}), json!({})),
        (json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}), json!({})),
    ] {
        let plan = provision::plan(&wanted(claim.clone(), class));
        assert!(format!("{plan:?}").contains("ProvisioningFailed"), "{claim}");
        assert_eq!(created(&plan), Value::Null);
    }
    let ours = |changes: Value| provision::is_ours(&wanted(changes, json!({})).claim);
    assert!(ours(json!({})));
    assert!(!ours(json!({"spec": {"volumeName": "v"}})));
    assert!(!ours(
        json!({"metadata": {"annotations": {"volume.kubernetes.io/storage-provisioner": "other"}}})
    ));
}

fn released(phase: Option<&str>, has_node: bool) -> Plan {
    let mut volume = created(&provision::plan(&wanted(json!({}), json!({}))));
    volume["metadata"]["uid"] = "uid-v".into();
    volume["status"] = json!({"phase": "Released"});
    let volume = Arc::new(object(volume));
    assert!(cleanup::is_due(&volume));
    let pod = phase.map(|phase| Arc::new(pod("clean", json!({"status": {"phase": phase}}))));
    cleanup::plan(&Released { volume, pod, has_node, image: "busybox".to_owned() })
}

#[test]
fn a_released_volume_goes_after_its_directory() {
    let verbs = |plan: &Plan| plan.actions.iter().map(Action::verb).collect::<Vec<_>>();
    let starts = released(None, true);
    let pod = created(&starts);
    assert_eq!(pod["metadata"]["name"], "clean-pvc-u1");
    assert_eq!(pod["spec"]["nodeSelector"], json!({"kubernetes.io/hostname": "host-1"}));
    assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], "/var/lib/volumes");
    assert_eq!(
        pod["spec"]["containers"][0]["command"],
        json!(["rm", "-rf", "--", "/volumes/pvc-u1_ns_data"])
    );
    assert_eq!(verbs(&released(Some("Running"), true)), [""; 0]);
    assert_eq!(verbs(&released(Some("Failed"), true)), ["event", "delete"]);
    assert_eq!(verbs(&released(Some("Succeeded"), true)), ["delete"]);
    assert_eq!(verbs(&released(None, false)), ["delete"], "it went with its node");
}
