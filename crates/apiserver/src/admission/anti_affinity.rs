//! Pods keep others away from their node only, not from a whole zone
//! (upstream's `LimitPodHardAntiAffinityTopology`; off unless it is asked for).

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Operation, Plugin, Request};

const ALLOWED: &str = "kubernetes.io/hostname";

pub(super) struct LimitPodHardAntiAffinityTopology;

impl Plugin for LimitPodHardAntiAffinityTopology {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let changes = matches!(request.operation, Operation::Create | Operation::Update);
            let pod = request.object.as_ref().filter(|_| changes && request.is("", "pods", ""));
            let Some(key) = pod.and_then(too_wide) else { return Ok(()) };
            Err(request.forbidden(&format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {ALLOWED} is allowed"
            )))
        })
    }
}

fn too_wide(pod: &Object) -> Option<&str> {
    let path = ["spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let mut keys = pod.at(&path).and_then(Value::as_array)?.iter().map(|term| &term["topologyKey"]);
    keys.find(|key| *key != ALLOWED).map(|key| key.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_nodes_are_kept_free() {
        let pod = |keys: &[&str]| {
            let terms: Vec<Value> = keys.iter().map(|key| json!({"topologyKey": key})).collect();
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
            Object::from_value(json!({"spec": {"affinity": {"podAntiAffinity": required}}})).expect("a pod")
        };
        assert_eq!(too_wide(&pod(&[])), None);
        assert_eq!(too_wide(&pod(&[ALLOWED])), None);
        assert_eq!(too_wide(&pod(&[ALLOWED, "zone"])), Some("zone"));
    }
}
