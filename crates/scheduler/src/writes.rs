//! What the scheduler writes: bindings, the `PodScheduled` condition, events.

use api::types::core::v1::Pod;
use api::{Reason, Status};
use client::{Client, Patch, Recorder, Target, WriteOptions, verbs};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Binds a pod to a node. The uid keeps a pod of the same name safe.
pub(crate) async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), Status> {
    let (namespace, name) = names(pod);
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let target = Target { subresource: "binding".to_owned(), ..verbs::target::<Pod>(namespace, name) };
    client.create_json(target, binding.to_string().into(), &WriteOptions::default()).await.map(drop)
}

/// Says on the pod why it has no node, if that is not what it says already.
pub(crate) async fn say_refused(client: &Client, pod: &Pod, message: &str, now: Timestamp) {
    let Some(patch) = refusal_patch(pod, message, now) else { return };
    let (namespace, name) = names(pod);
    match client.patch_status::<Pod>(namespace, name, &Patch::Strategic(patch)).await {
        Ok(_) => {}
        Err(status) if status.reason == Reason::NotFound => {}
        Err(status) => {
            tracing::warn!(kind = "Pod", namespace, name, error = %status, "cannot set a condition")
        }
    }
}

/// The event about a bound pod.
pub(crate) fn announce_bound(recorder: &Recorder, pod: &Pod, node: &str) {
    let (namespace, name) = names(pod);
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    recorder.normal(client::events::reference(pod), "Scheduled", message);
}

/// The event about a pod that could not be scheduled.
pub(crate) fn announce_failed(recorder: &Recorder, pod: &Pod, message: &str) {
    recorder.warning(client::events::reference(pod), "FailedScheduling", message);
}

fn names(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

fn refusal_patch(pod: &Pod, message: &str, now: Timestamp) -> Option<Value> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let current = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
    let says = |condition: &&api::types::core::v1::PodCondition| condition.status == "False";
    let same = current.filter(says);
    if same.is_some_and(|one| {
        one.reason.as_deref() == Some("Unschedulable") && one.message.as_deref() == Some(message)
    }) {
        return None;
    }
    let since = same.and_then(|one| one.last_transition_time.as_ref()).map_or(now, |time| time.0);
    Some(json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": api::time::format(since),
        }]},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::pod_json;

    #[test]
    fn the_condition_is_written_once_and_keeps_its_time() {
        let pod = pod_json("p", json!({"containers": []}));
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().expect("time");
        let first = refusal_patch(&pod, "m", now).expect("a patch");
        assert_eq!(first["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:10Z");
        let mut said = serde_json::to_value(&pod).expect("encodes");
        said["status"] = first["status"].clone();
        let said: Pod = serde_json::from_value(said).expect("decodes");
        let later: Timestamp = "2026-01-01T00:01:00Z".parse().expect("time");
        assert_eq!(refusal_patch(&said, "m", later), None);
        let second = refusal_patch(&said, "other", later).expect("a patch");
        assert_eq!(second["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:10Z");
    }
}
