//! The only pods that a node creates are mirrors of its own static pods: bound
//! to it, owned by it, and needing nothing of the cluster.

use api::Object;
use resources::kinds::pod::{MIRROR, references};
use serde_json::Value;

/// Whether a node may create a pod; `uid` is the node's, if there is such a node.
pub(super) fn judge(pod: &Object, node: &str, uid: Option<&str>) -> Result<(), String> {
    if pod.annotation(MIRROR).is_none() {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod.text(&["spec", "nodeName"]) != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let mut owners = pod.owner_references();
    let (owner, another) = (owners.next(), owners.next());
    if another.is_some() {
        return Err(format!(
            "node {node:?} can only create pods with a single owner reference set to itself"
        ));
    }
    let owner = owner.filter(|owner| (owner.api_version, owner.kind, owner.name) == ("v1", "Node", node));
    let Some(owner) = owner else {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    };
    if !owner.controller {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner.block_owner_deletion {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    if uid != Some(owner.uid) {
        return Err(format!(
            "node {node} UID mismatch: expected {} got {}",
            uid.unwrap_or_default(),
            owner.uid
        ));
    }
    match references::first(pod.get("spec").unwrap_or(&Value::Null)) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_mirrors_of_its_own() {
        let mirror = json!({
            "metadata": {"annotations": {MIRROR: "hash"}, "ownerReferences":
                [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n"},
        });
        let with = |change: fn(&mut Value)| {
            let mut pod = mirror.clone();
            change(&mut pod);
            judge(&Object::from_value(pod).expect("an object"), "n", Some("u"))
        };
        assert_eq!(with(|_| {}), Ok(()));
        let cases: [(fn(&mut Value), &str); 8] = [
            (|pod| pod["metadata"]["annotations"] = json!({}), "only create mirror pods"),
            (|pod| pod["spec"]["nodeName"] = "m".into(), "spec.nodeName set to itself"),
            (|pod| pod["metadata"]["ownerReferences"] = json!([]), "an owner reference set to itself"),
            (
                |pod| pod["metadata"]["ownerReferences"][0]["name"] = "m".into(),
                "an owner reference set to itself",
            ),
            (|pod| pod["metadata"]["ownerReferences"][0]["controller"] = false.into(), "a controller owner"),
            (
                |pod| pod["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = true.into(),
                "blockOwnerDeletion",
            ),
            (
                |pod| pod["metadata"]["ownerReferences"][0]["uid"] = "x".into(),
                "UID mismatch: expected u got x",
            ),
            (|pod| pod["spec"]["serviceAccountName"] = "x".into(), "reference serviceaccounts"),
        ];
        for (change, expected) in cases {
            let why = with(change).expect_err(expected);
            assert!(why.contains(expected), "{why}");
        }
        let pod = Object::from_value(mirror).expect("an object");
        assert!(judge(&pod, "n", None).is_err(), "a node that does not exist");
    }
}
