//! When the announcement of a disruption is taken back: the pod said that it
//! would be ended, and nobody did it.

use std::time::Duration;

use api::types::core::v1::{Pod, PodCondition};
use jiff::Timestamp;
use reconcile::{Action, Plan};
use serde_json::json;

use crate::{pods, status};

/// How long an announcement holds.
const PATIENCE: Duration = Duration::from_secs(120);

const TARGET: &str = "DisruptionTarget";

/// The announcement on a pod, unless the pod ends anyhow. What a kubelet announces
/// always comes, however late.
pub(super) fn announced(pod: &Pod) -> Option<&PodCondition> {
    pods::condition(pod, TARGET).filter(|one| {
        one.status == "True" && one.reason.as_deref() != Some("TerminationByKubelet") && pods::is_active(pod)
    })
}

pub(super) fn plan(pod: &Pod, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(announced) = announced(pod) else { return plan };
    let since = announced.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let left = PATIENCE.as_secs_f64() - now.duration_since(since).as_secs_f64();
    if left > 0.0 {
        plan.wake(Duration::from_secs_f64(left));
        return plan;
    }
    let taken_back = PodCondition {
        type_: TARGET.to_owned(),
        status: "False".to_owned(),
        observed_generation: announced.observed_generation,
        last_transition_time: Some(status::time(now)),
        ..PodCondition::default()
    };
    let all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let conditions: Vec<&PodCondition> =
        all.map(|one| if one.type_ == TARGET { &taken_back } else { one }).collect();
    let version = &pod.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
    plan.actions.push(Action::patch_status(pod, patch));
    plan
}
