//! What the scheduler writes: bindings, the `PodScheduled` condition, events.

use api::types::core::v1::{Pod, PodCondition};
use api::{Reason, Status};
use client::{Client, Patch, Recorder, Target, WriteOptions, verbs};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pod::PodInfo;

/// What is said on a pod that has no node.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// `Unschedulable` or `SchedulerError`.
    pub(crate) reason: &'static str,
    /// Why, for people.
    pub(crate) message: String,
    /// The node on which room is made for it: `None` leaves it as it is,
    /// `Some(None)` takes it away.
    pub(crate) nominated: Option<Option<String>>,
}

/// Binds a pod to a node. The uid keeps a pod of the same name safe.
pub(crate) async fn bind(client: &Client, pod: &PodInfo, node: &str) -> Result<(), Status> {
    let (namespace, name) = (pod.namespace(), &pod.key.name);
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let target = Target { subresource: "binding".to_owned(), ..verbs::target::<Pod>(namespace, name) };
    client.create_json(target, binding.to_string().into(), &WriteOptions::default()).await.map(drop)
}

/// Says on the pod why it has no node, if that is not what it says already.
pub(crate) async fn say(client: &Client, pod: &PodInfo, verdict: &Verdict, now: Timestamp) {
    let Some(patch) = verdict_patch(&pod.pod, verdict, now) else { return };
    patch_status(client, pod, patch).await;
}

/// Changes the status of a pod; that the pod is gone is no failure.
pub(crate) async fn patch_status(client: &Client, pod: &PodInfo, patch: Value) -> bool {
    let (namespace, name) = (pod.namespace(), pod.key.name.as_str());
    match client.patch_status::<Pod>(namespace, name, &Patch::Strategic(patch)).await {
        Ok(_) => true,
        Err(status) if status.reason == Reason::NotFound => true,
        Err(status) => {
            tracing::warn!(kind = "Pod", namespace, name, error = %status, "cannot set the status");
            false
        }
    }
}

/// The event about a bound pod.
pub(crate) fn announce_bound(recorder: &Recorder, pod: &PodInfo, node: &str) {
    let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.key.name);
    recorder.normal(client::events::reference(&*pod.pod), "Scheduled", message);
}

/// The event about a pod that could not be scheduled.
pub(crate) fn announce_failed(recorder: &Recorder, pod: &PodInfo, message: &str) {
    recorder.warning(client::events::reference(&*pod.pod), "FailedScheduling", message);
}

/// A condition of a pod.
pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == kind)
}

fn verdict_patch(pod: &Pod, verdict: &Verdict, now: Timestamp) -> Option<Value> {
    let current = condition(pod, "PodScheduled").filter(|condition| condition.status == "False");
    let says_so = current.is_some_and(|one| {
        one.reason.as_deref() == Some(verdict.reason)
            && one.message.as_deref() == Some(&verdict.message)
            && one.observed_generation == pod.metadata.generation
    });
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
    let nominates = verdict.nominated.as_ref().filter(|node| **node != nominated);
    if says_so && nominates.is_none() {
        return None;
    }
    let mut status = json!({});
    if !says_so {
        let since = current.and_then(|one| one.last_transition_time.as_ref()).map_or(now, |time| time.0);
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "observedGeneration": pod.metadata.generation,
            "reason": verdict.reason,
            "message": verdict.message,
            "lastProbeTime": null,
            "lastTransitionTime": api::time::format(since),
        }]);
    }
    if let Some(node) = nominates {
        status["nominatedNodeName"] = json!(node);
    }
    Some(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_json;

    fn verdict(message: &str) -> Verdict {
        Verdict { reason: "Unschedulable", message: message.to_owned(), nominated: None }
    }

    #[test]
    fn the_condition_is_written_once_and_keeps_its_time() {
        let pod = pod_json("p", json!({"containers": []}));
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().expect("time");
        let first = verdict_patch(&pod, &verdict("m"), now).expect("a patch");
        assert_eq!(first["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:10Z");
        let mut said = serde_json::to_value(&pod).expect("encodes");
        said["status"] = first["status"].clone();
        let said: Pod = serde_json::from_value(said).expect("decodes");
        let later: Timestamp = "2026-01-01T00:01:00Z".parse().expect("time");
        assert_eq!(verdict_patch(&said, &verdict("m"), later), None);
        let second = verdict_patch(&said, &verdict("other"), later).expect("a patch");
        assert_eq!(second["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:10Z");
    }

    #[test]
    fn a_nomination_is_written_and_taken_away() {
        let mut pod = pod_json("p", json!({"containers": []}));
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().expect("time");
        let nominated =
            |node: Option<&str>| Verdict { nominated: Some(node.map(str::to_owned)), ..verdict("m") };
        let patch = verdict_patch(&pod, &nominated(Some("n")), now).expect("a patch");
        assert_eq!(patch["status"]["nominatedNodeName"], "n");
        pod.status.get_or_insert_default().nominated_node_name = Some("n".to_owned());
        let patch = verdict_patch(&pod, &nominated(None), now).expect("a patch");
        assert!(patch["status"].as_object().is_some_and(|status| status["nominatedNodeName"].is_null()));
        let patch = verdict_patch(&pod, &verdict("m"), now).expect("a patch");
        assert!(patch["status"].get("nominatedNodeName").is_none());
    }
}
