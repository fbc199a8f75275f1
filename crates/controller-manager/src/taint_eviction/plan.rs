//! Whether, and when, a pod must leave its node.

use std::time::Duration;

use api::types::core::v1::{Node, Pod, Toleration};
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Plan};

use crate::{nodes, owners, pods};

pub(super) fn plan(pod: &Pod, node: &Node, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if pods::is_being_deleted(pod) || pods::has_ended(pod) {
        return plan;
    }
    let tolerations: &[Toleration] =
        pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut left: Option<f64> = None;
    for taint in super::expelling(node) {
        let covering: Vec<&Toleration> =
            tolerations.iter().filter(|toleration| nodes::covers(toleration, taint)).collect();
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let passed = now.duration_since(since).as_secs_f64();
        if covering.is_empty() {
            left = Some(0.0);
        }
        // The most impatient of the tolerations that are used decides.
        for seconds in covering.iter().filter_map(|toleration| toleration.toleration_seconds) {
            let remains = (seconds.max(0) as f64 - passed).max(0.0);
            left = Some(left.map_or(remains, |before| before.min(remains)));
        }
    }
    match left {
        None => {}
        Some(left) if left > 0.0 => plan.wake(Duration::from_secs_f64(left)),
        Some(_) => {
            let text = "Taint manager: deleting due to NoExecute taint";
            plan.actions.extend(pods::mark_disrupted(pod, "DeletionByTaintManager", text, None, now));
            plan.actions.push(Action::delete(pod));
            let text = format!("Marking for deletion Pod {}/{}", owners::namespace(pod), pods::name(pod));
            plan.actions.push(Action::normal(reference(pod), "TaintManagerEviction", text));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{self, now};

    #[test]
    fn tolerations_decide_whether_and_when() {
        let tainted = json!({"spec": {"taints": [
            {"key": "k", "effect": "NoExecute", "timeAdded": "2026-11-23T11:59:00Z"}]}});
        let node = testing::node("a", tainted);
        let plan_of = |tolerations: serde_json::Value| {
            let pod = testing::pod("p", json!({"spec": {"nodeName": "a", "tolerations": tolerations}}));
            let plan = plan(&pod, &node, now());
            let deletes = plan.actions.iter().any(|action| action.verb() == "delete");
            (deletes, plan.wake_after.map(|after| after.as_secs()))
        };
        assert_eq!(plan_of(json!([])), (true, None));
        assert_eq!(plan_of(json!([{"key": "k", "operator": "Exists"}])), (false, None));
        assert_eq!(
            plan_of(json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 90}])),
            (false, Some(30))
        );
        assert_eq!(
            plan_of(json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 60}])),
            (true, None)
        );
    }
}
