//! Tables of plans.

use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::Taint;
use jiff::SignedDuration;
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::testing::{node, now, object, pod, running};

fn plan_of(changes: Value, silent_seconds: i64, all_are_lost: bool) -> Plan {
    let observed = Observed {
        node: Arc::new(node("a", changes)),
        pods: vec![Arc::new(pod("p", running("a", "10.0.0.1", true)))],
        last_sign: Some(now() - SignedDuration::from_secs(silent_seconds)),
        grace: Duration::from_secs(40),
        all_are_lost,
    };
    plan::plan(&observed, now())
}

fn taints(plan: &Plan) -> Vec<String> {
    let taints = |action: &Action| match action {
        Action::Patch { patch: client::Patch::Merge(patch), .. } => {
            patch["spec"]["taints"].as_array().cloned()
        }
        _ => None,
    };
    let all: Vec<Value> = plan.actions.iter().find_map(taints).unwrap_or_default();
    let all = all.into_iter().map(object::<Taint>);
    all.map(|taint| {
        let short = taint.key.rsplit('/').next().unwrap_or_default().to_owned();
        format!("{short}:{}{}", taint.effect, if taint.time_added.is_some() { "@" } else { "" })
    })
    .collect()
}

fn ready(status: &str) -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": status}]}})
}

#[test]
fn silence_makes_the_conditions_unknown_after_the_grace() {
    let quiet = plan_of(json!({}), 39, false);
    assert!(quiet.actions.is_empty());
    assert!(quiet.wake_after.is_some_and(|after| after < Duration::from_secs(2)));
    let lost = plan_of(json!({}), 41, false);
    let text = format!("{lost:?}");
    assert!(text.contains("Kubelet stopped posting node status."), "{text}");
    assert!(
        text.contains("Kubelet never posted node status.")
            && text.contains("Node a status is now: NodeNotReady")
    );
    let known = plan_of(ready("Unknown"), 41, false);
    assert!(!format!("{known:?}").contains("NodeStatusUnknown"), "said once");
}

#[test]
fn taints_follow_the_conditions() {
    let cordoned = json!({"spec": {"unschedulable": true}});
    let pressed = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]}});
    let tainted = json!({"spec": {"taints": [
        {"key": "mine", "effect": "NoExecute"}, {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]}});
    let table: Vec<(&str, Value, bool, Vec<&str>)> = vec![
        ("well", json!({}), false, vec![]),
        ("not ready", ready("False"), false, vec!["not-ready:NoSchedule", "not-ready:NoExecute@"]),
        ("unreachable", ready("Unknown"), false, vec!["unreachable:NoSchedule", "unreachable:NoExecute@"]),
        ("everybody is lost", ready("Unknown"), true, vec!["unreachable:NoSchedule"]),
        ("cordoned", cordoned, false, vec!["unschedulable:NoSchedule"]),
        ("a full disk", pressed, false, vec!["disk-pressure:NoSchedule"]),
        ("well again, with a taint of others", tainted, false, vec!["mine:NoExecute@"]),
    ];
    for (name, changes, all_are_lost, expected) in table {
        assert_eq!(taints(&plan_of(changes, 1, all_are_lost)), expected, "{name}");
    }
}

#[test]
fn the_pods_of_a_lost_node_are_not_ready() {
    let plan = plan_of(ready("Unknown"), 100, false);
    let target = plan.actions[0].target().expect("a write");
    assert_eq!((target.resource.as_str(), target.subresource.as_str()), ("pods", "status"));
}
