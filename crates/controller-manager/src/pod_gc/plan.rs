//! Which pods go.

use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::{Node, Pod};
use client::verbs::target;
use jiff::Timestamp;
use reconcile::{Action, Guard, Plan};

use super::Observed;
use crate::pods;

/// Time for which a node must be missing before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Time between counts of ended pods.
const CHECK: Duration = Duration::from_secs(20);

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    match observed {
        Observed::Lost { node, since, pods } => lost(node, *since, pods, now),
        Observed::Loose { pods, threshold } => loose(pods, *threshold),
    }
}

fn lost(node: &str, since: Timestamp, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let passed = now.duration_since(since).as_secs_f64().max(0.0);
    if passed < QUARANTINE.as_secs_f64() {
        plan.wake(Duration::from_secs_f64(QUARANTINE.as_secs_f64() - passed));
        return plan;
    }
    plan.actions
        .push(Action::Require(Guard::Absent { target: target::<Node>("", node), uid: String::new() }));
    for pod in pods {
        let phase = (!pods::has_ended(pod)).then_some("Failed");
        let text = "PodGC: node no longer exists";
        plan.actions.extend(pods::mark_disrupted(pod, "DeletionByPodGC", text, phase, now));
        plan.actions.push(Action::delete_now(&**pod));
    }
    plan
}

fn loose(pods: &[Arc<Pod>], threshold: usize) -> Plan {
    let mut plan = Plan::default();
    plan.wake(CHECK);
    let never_bound =
        pods.iter().filter(|pod| pods::is_being_deleted(pod) && pods::node_name(pod).is_empty());
    plan.actions.extend(never_bound.map(|pod| Action::delete_now(&**pod)));
    let mut ended: Vec<&Arc<Pod>> =
        pods.iter().filter(|pod| pods::has_ended(pod) && !pods::is_being_deleted(pod)).collect();
    if threshold > 0 && ended.len() > threshold {
        ended.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let surplus = ended.len() - threshold;
        plan.actions.extend(ended.into_iter().take(surplus).map(|pod| Action::delete_now(&**pod)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::testing::{now, pod, running};

    fn verbs(plan: &Plan) -> Vec<&'static str> {
        plan.actions.iter().map(Action::verb).collect()
    }

    #[test]
    fn pods_of_a_lost_node_go_after_the_quarantine() {
        let pods = [Arc::new(pod("p", running("gone", "10.0.0.1", true)))];
        let after = |seconds| lost("gone", now() - SignedDuration::from_secs(seconds), &pods, now());
        assert_eq!((verbs(&after(10)), after(10).wake_after), (vec![], Some(Duration::from_secs(30))));
        assert_eq!(verbs(&after(40)), ["require", "patch", "delete"]);
    }

    #[test]
    fn the_oldest_ended_pods_go_above_the_threshold() {
        let ended = |name: &str, created: &str| {
            let changes =
                json!({"metadata": {"creationTimestamp": created}, "status": {"phase": "Succeeded"}});
            Arc::new(pod(name, changes))
        };
        let pods = [ended("young", "2026-11-23T11:30:00Z"), ended("old", "2026-11-23T11:00:00Z")];
        let plan = loose(&pods, 1);
        assert_eq!(
            plan.actions.iter().filter_map(Action::target).map(|one| &*one.name).collect::<Vec<_>>(),
            ["old"]
        );
        assert!(loose(&pods, 0).actions.is_empty(), "zero keeps all");
        let unbound = pod("u", json!({"metadata": {"deletionTimestamp": "2026-11-23T11:30:00Z"}}));
        assert_eq!(verbs(&loose(&[Arc::new(unbound)], 1)), ["delete"]);
    }
}
