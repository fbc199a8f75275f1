//! A bound pod is not changed in ways that its node did not declare to know
//! (upstream's `NodeDeclaredFeatureValidator`).

use std::sync::Arc;

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::pods::list;
use super::reading::find_object;
use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

/// Features by upstream's names, in upstream's order, and whether a change needs them.
const FEATURES: [(&str, fn(&Object, &Object) -> bool); 2] = [
    ("InPlacePodLevelResourcesVerticalScaling", resizes_the_pod),
    ("InPlacePodVerticalScalingInitContainers", resizes_init_containers),
];

pub(super) struct NodeDeclaredFeatureValidator(Arc<WatchCache>);

impl NodeDeclaredFeatureValidator {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self(cache)
    }

    async fn judge(&self, request: &Request<'_>) -> Result<(), Status> {
        let is_meant = request.is("", "pods", "") || request.is("", "pods", "resize");
        if !is_meant || request.operation != Operation::Update {
            return Ok(());
        }
        let (Some(new), Some(old)) = (&request.object, &request.old) else { return Ok(()) };
        let name = new.text(&["spec", "nodeName"]);
        if name.is_empty() || new.generation() == old.generation() {
            return Ok(());
        }
        let needed: Vec<&str> =
            FEATURES.iter().filter(|(_, needs)| needs(old, new)).map(|(name, _)| *name).collect();
        if needed.is_empty() {
            return Ok(());
        }
        let node = find_object(&self.0, ("", "nodes"), "", name).await?;
        let node = node.ok_or_else(|| request.forbidden(&format!("node {name:?} not found")))?;
        let missing = missing(&needed, &node);
        if missing.is_empty() {
            return Ok(());
        }
        let features = missing.join(", ");
        Err(request.forbidden(&format!(
            "pod update requires features {features} which are not available on node {name:?}"
        )))
    }
}

impl Plugin for NodeDeclaredFeatureValidator {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.judge(request).await })
    }
}

fn missing<'a>(needed: &[&'a str], node: &Object) -> Vec<&'a str> {
    let declared = node.at(&["status", "declaredFeatures"]).and_then(Value::as_array);
    let is_declared = |name: &&str| declared.is_some_and(|all| all.iter().any(|one| one == name));
    needed.iter().copied().filter(|name| !is_declared(name)).collect()
}

fn resizes_the_pod(old: &Object, new: &Object) -> bool {
    let of = |pod: &Object| pod.at(&["spec", "resources"]).cloned().unwrap_or_default();
    of(old) != of(new)
}

fn resizes_init_containers(old: &Object, new: &Object) -> bool {
    let is_sidecar = |container: &Value| container["restartPolicy"] == "Always";
    let pairs = list(old, "initContainers").iter().zip(list(new, "initContainers"));
    pairs.filter(|(old, _)| !is_sidecar(old)).any(|(old, new)| old["resources"] != new["resources"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn features_that_changes_need() {
        let pod = |own: Value, init: Value, policy: Value| {
            let containers = json!([{"name": "i", "restartPolicy": policy, "resources": init}]);
            Object::from_value(json!({"spec": {"resources": own, "initContainers": containers}}))
                .expect("an object")
        };
        let needed = |old: &Object, new: &Object| {
            let all = FEATURES.iter().filter(|(_, needs)| needs(old, new));
            all.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let (one, two) = (json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}}));
        let plain = pod(Value::Null, one.clone(), Value::Null);
        assert!(needed(&plain, &plain).is_empty());
        assert_eq!(needed(&plain, &pod(Value::Null, two.clone(), Value::Null)), [FEATURES[1].0]);
        assert_eq!(needed(&plain, &pod(two.clone(), one.clone(), Value::Null)), [FEATURES[0].0]);
        let sidecar = |resources: &Value| pod(Value::Null, resources.clone(), json!("Always"));
        assert!(needed(&sidecar(&one), &sidecar(&two)).is_empty(), "sidecars are resized like containers");
    }

    #[test]
    fn nodes_declare_features() {
        let node = |features: Value| {
            Object::from_value(json!({"status": {"declaredFeatures": features}})).expect("an object")
        };
        assert_eq!(missing(&["a", "b"], &node(json!(["b", "c"]))), ["a"]);
        assert_eq!(missing(&["a", "b"], &node(Value::Null)), ["a", "b"]);
    }
}
