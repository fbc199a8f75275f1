//! Tables of plans.

use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::PersistentVolume;
use api::types::storage::v1::VolumeAttachment;
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{Observed, Use, plan};
use crate::testing::{node, now, object, pod};

const KNOWN_AS: &str = "kubernetes.io/csi/d^h-v";

fn volume(changes: Value) -> Arc<PersistentVolume> {
    let mut volume = json!({"metadata": {"name": "v"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "csi": {"driver": "d", "volumeHandle": "h-v"}}});
    api::patch::merge_patch(&mut volume, changes);
    Arc::new(object(volume))
}

fn attachment(node: &str, changes: Value) -> Arc<VolumeAttachment> {
    let mut attachment = json!({"metadata": {"name": format!("at-{node}"), "uid": "u"},
        "spec": {"attacher": "d", "nodeName": node, "source": {"persistentVolumeName": "v"}}});
    api::patch::merge_patch(&mut attachment, changes);
    Arc::new(object(attachment))
}

fn attached() -> Value {
    json!({"status": {"attached": true}})
}

/// A node, whether a pod on it uses the volume, the volume's attachments to it and to another.
fn plan_of(changes: Value, uses: bool, here: Option<Value>, elsewhere: bool, of_volume: Value) -> Plan {
    let mut managed = json!({"metadata": {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}}});
    api::patch::merge_patch(&mut managed, changes);
    let volume = volume(of_volume);
    let one = Use {
        volume: Arc::clone(&volume),
        pods: vec![Arc::new(pod("p", json!({})))],
        elsewhere: elsewhere.then(|| attachment("b", attached())).into_iter().collect(),
    };
    let observed = Observed {
        name: "a".to_owned(),
        node: Some(Arc::new(node("a", managed))),
        uses: uses.then(|| ("v".to_owned(), one)).into_iter().collect(),
        attachments: here.map(|changes| (attachment("a", changes), Some(volume))).into_iter().collect(),
    };
    plan::plan(&observed, now())
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.actions.iter().map(Action::verb).collect()
}

#[test]
fn a_volume_is_attached_where_a_pod_uses_it() {
    let none = || json!({});
    let first = plan_of(none(), true, None, false, none());
    let [Action::Create { object: created, .. }] = &first.actions[..] else { panic!("{first:?}") };
    // Computed with sha256sum over handle, driver and node.
    assert_eq!(
        created["metadata"]["name"],
        "csi-c9089c80e710230c12d1008df084317ad3bb6aa7b029b5da842d7b7047da5061"
    );
    assert_eq!(
        created["spec"],
        json!({"attacher": "d", "nodeName": "a", "source": {"persistentVolumeName": "v"}})
    );
    assert_eq!(verbs(&plan_of(none(), true, Some(none()), false, none())), [""; 0], "the driver works on it");
    let told = plan_of(none(), true, Some(attached()), false, none());
    assert_eq!(verbs(&told), ["patch"]);
    assert!(format!("{told:?}").contains(KNOWN_AS));
    let knows = json!({"status": {"volumesAttached": [{"name": KNOWN_AS, "devicePath": ""}]}});
    assert_eq!(plan_of(knows, true, Some(attached()), false, none()), Plan::default());
    let by_itself = json!({"metadata": {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": null}}});
    assert_eq!(plan_of(by_itself, true, None, false, none()), Plan::default());
    let broken = json!({"status": {"attached": false, "attachError": {"message": "no"}}});
    assert!(
        format!("{:?}", plan_of(none(), true, Some(broken), false, none())).contains("FailedAttachVolume")
    );
}

#[test]
fn a_volume_of_one_node_waits_until_the_other_has_let_it_go() {
    let waits = plan_of(json!({}), true, None, true, json!({}));
    assert_eq!(verbs(&waits), ["event"]);
    assert!(format!("{waits:?}").contains("Multi-Attach error"));
    let many = json!({"spec": {"accessModes": ["ReadWriteMany"]}});
    assert_eq!(verbs(&plan_of(json!({}), true, None, true, many)), ["create"]);
}

#[test]
fn nothing_is_detached_under_a_nodes_hands() {
    let detach = |changes: Value| {
        let mut all = json!({"status": {"volumesAttached": [{"name": KNOWN_AS, "devicePath": ""}]}});
        api::patch::merge_patch(&mut all, changes);
        plan_of(all, false, Some(attached()), false, json!({}))
    };
    let in_use = |ready: &str, since: &str| json!({"status": {"volumesInUse": [KNOWN_AS], "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]}});
    assert_eq!(verbs(&detach(json!({}))), ["patch", "delete"], "the node is told first");
    assert_eq!(verbs(&detach(in_use("True", "2026-11-23T11:00:00Z"))), [""; 0]);
    let waits = detach(in_use("Unknown", "2026-11-23T11:58:00Z"));
    assert_eq!((verbs(&waits), waits.wake_after), (vec![], Some(Duration::from_secs(240))));
    assert_eq!(verbs(&detach(in_use("Unknown", "2026-11-23T11:00:00Z"))), ["patch", "delete"]);
    let mut off = in_use("True", "2026-11-23T11:00:00Z");
    off["spec"] = json!({"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]});
    assert_eq!(verbs(&detach(off)), ["patch", "delete"]);
    let gone = Observed {
        name: "a".to_owned(),
        node: None,
        uses: [].into(),
        attachments: vec![(attachment("a", attached()), Some(volume(json!({}))))],
    };
    assert_eq!(verbs(&plan::plan(&gone, now())), ["delete"]);
}
