//! What a node's silence or its conditions call for.

use std::time::Duration;

use api::types::core::v1::{Node, NodeCondition, Pod, Taint};
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Plan};
use serde_json::json;

use super::Observed;
use crate::{nodes, owners, pods, status};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions that a silent node no longer vouches for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that, when true, keep new pods away.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];
/// Time that a node has for its first status.
const START: Duration = Duration::from_secs(60);

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let node = &*observed.node;
    let mut plan = Plan::default();
    if node.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let started = nodes::condition(node, "Ready").is_some();
    let grace = if started { observed.grace } else { START.max(observed.grace) };
    let since = observed.last_sign.or_else(|| node.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let silent = now.duration_since(since.unwrap_or(now)).as_secs_f64().max(0.0);
    if silent < grace.as_secs_f64() {
        plan.wake(Duration::from_secs_f64(grace.as_secs_f64() - silent) + Duration::from_millis(10));
    } else if nodes::condition(node, "Ready").is_none_or(|ready| ready.status != "Unknown") {
        // The taints follow when the conditions are there.
        plan.actions = declare_unknown(node, now);
        return plan;
    }
    let ready = nodes::condition(node, "Ready").map(|ready| ready.status.as_str());
    if ready != Some("True") {
        plan.actions.extend(observed.pods.iter().filter_map(|pod| mark_not_ready(pod, now)));
    }
    let taints = taints(observed, now);
    let have: Vec<Taint> = nodes::taints(node).cloned().collect();
    if taints != have {
        plan.actions.push(Action::patch_unchanged(node, json!({"spec": {"taints": taints}})));
    }
    plan
}

fn declare_unknown(node: &Node, now: Timestamp) -> Vec<Action> {
    let mut conditions =
        node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for kind in VOUCHED {
        let time = Some(status::time(now));
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = time;
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: time,
            }),
        }
    }
    let text = format!("Node {} status is now: NodeNotReady", owners::name(node));
    vec![
        Action::patch_status(
            node,
            json!({"metadata": {"resourceVersion": node.metadata.resource_version},
            "status": {"conditions": conditions}}),
        ),
        Action::normal(reference(node), "NodeNotReady", text),
    ]
}

/// Nobody vouches for the pods of a lost node.
fn mark_not_ready(pod: &Pod, now: Timestamp) -> Option<Action> {
    if !pods::is_ready(pod) {
        return None;
    }
    let mut conditions = pod.status.as_ref()?.conditions.clone()?;
    let ready = conditions.iter_mut().find(|condition| condition.type_ == "Ready")?;
    ready.status = "False".to_owned();
    ready.last_transition_time = Some(status::time(now));
    let change = json!({
        "metadata": {"resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": conditions},
    });
    Some(Action::patch_status(pod, change))
}

/// The taints as they should be: ours by the conditions, others' as they are.
fn taints(observed: &Observed, now: Timestamp) -> Vec<Taint> {
    let node = &*observed.node;
    let is = |kind: &str, value: &str| nodes::condition(node, kind).is_some_and(|one| one.status == value);
    let (not_ready, unreachable) = (is("Ready", "False"), is("Ready", "Unknown"));
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let mut ours: Vec<(&str, &str)> = vec![("node.kubernetes.io/unschedulable", "NoSchedule")];
    let mut rule = |holds: bool, key, effect| {
        ours.push((key, effect));
        if holds {
            wanted.push((key, effect));
        }
    };
    rule(not_ready, NOT_READY, "NoSchedule");
    rule(unreachable, UNREACHABLE, "NoSchedule");
    rule(cordoned, "node.kubernetes.io/unschedulable", "NoSchedule");
    for (kind, key) in PRESSURES {
        rule(is(kind, "True"), key, "NoSchedule");
    }
    rule(not_ready && !observed.all_are_lost, NOT_READY, "NoExecute");
    rule(unreachable && !observed.all_are_lost, UNREACHABLE, "NoExecute");
    let mut taints: Vec<Taint> = nodes::taints(node).cloned().collect();
    taints.retain(|taint| {
        let its = (taint.key.as_str(), taint.effect.as_str());
        // A node that never said how it is keeps what it was registered with.
        let unknown = nodes::condition(node, "Ready").is_none() && its.0 == NOT_READY;
        !ours.contains(&its) || wanted.contains(&its) || unknown
    });
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() });
        }
    }
    // Evictions count from the time at which a taint was put on.
    for taint in taints.iter_mut().filter(|taint| taint.effect == "NoExecute" && taint.time_added.is_none()) {
        taint.time_added = Some(status::time(now));
    }
    taints
}
