//! Whether, and when, a pod must give its devices up.

use std::time::Duration;

use api::types::resource::v1::{DeviceTaint, DeviceToleration};
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Plan};

use super::Observed;
use crate::pods;

const EXPELS: &str = "NoExecute";

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().unwrap_or("Equal");
    let same_value =
        toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    toleration.effect.as_deref() == Some(EXPELS)
        && (key.is_empty() || key == taint.key)
        && (operator == "Exists" || (operator == "Equal" && same_value))
}

/// How long a taint is still tolerated, in seconds; `None`: for ever.
fn left(taint: &DeviceTaint, tolerations: &[DeviceToleration], now: Timestamp) -> Option<f64> {
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    let passed = now.duration_since(since).as_secs_f64();
    let mut shortest: Option<i64> = None;
    for toleration in tolerations.iter().filter(|toleration| tolerates(toleration, taint)) {
        let seconds = toleration.toleration_seconds?.max(0);
        shortest = Some(shortest.map_or(seconds, |before| before.min(seconds)));
    }
    Some((shortest.unwrap_or_default() as f64 - passed).max(0.0))
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let pod = &*observed.pod;
    if !pods::is_active(pod) {
        return plan;
    }
    let times = observed.devices.iter().flat_map(|(result, taints)| {
        let tolerations = result.tolerations.as_deref().unwrap_or_default();
        let expelling = taints.iter().filter(|taint| taint.effect == EXPELS);
        expelling.filter_map(move |taint| left(taint, tolerations, now))
    });
    let Some(left) = times.min_by(f64::total_cmp) else { return plan };
    if left > 0.0 {
        plan.wake(Duration::from_secs_f64(left));
        return plan;
    }
    plan.actions.push(Action::normal(reference(pod), "DeviceTaintManagerEviction", "Marking for deletion"));
    let text = "Device Taint manager: deleting due to NoExecute taint";
    plan.actions.extend(pods::mark_disrupted(pod, "DeletionByDeviceTaintManager", text, None, now));
    plan.actions.push(Action::delete(pod));
    plan
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{now, object, pod};

    fn plan_of(effect: &str, tolerations: Value, phase: &str) -> (bool, Option<u64>) {
        let result = object(
            json!({"driver": "d", "pool": "p", "device": "x", "request": "r", "tolerations": tolerations}),
        );
        let taint = object(
            json!({"key": "broken", "value": "yes", "effect": effect, "timeAdded": "2026-11-23T11:59:00Z"}),
        );
        let pod = Arc::new(pod("p", json!({"spec": {"nodeName": "n"}, "status": {"phase": phase}})));
        let plan = plan(&Observed { pod, devices: vec![(result, vec![taint])] }, now());
        let verbs: Vec<&str> = plan.actions.iter().map(Action::verb).collect();
        (verbs == ["event", "patch", "delete"], plan.wake_after.map(|after| after.as_secs()))
    }

    #[test]
    fn a_pod_goes_when_its_devices_expel_it() {
        assert_eq!(plan_of("NoExecute", json!([]), "Running"), (true, None));
        assert_eq!(plan_of("NoSchedule", json!([]), "Running"), (false, None));
        assert_eq!(plan_of("NoExecute", json!([]), "Succeeded"), (false, None));
        let for_ever = json!([{"key": "broken", "operator": "Exists", "effect": "NoExecute"}]);
        assert_eq!(plan_of("NoExecute", for_ever, "Running"), (false, None));
        let a_while = |seconds: i64| json!([{"key": "broken", "value": "yes", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        assert_eq!(plan_of("NoExecute", a_while(90), "Running"), (false, Some(30)));
        assert_eq!(plan_of("NoExecute", a_while(30), "Running"), (true, None));
        let of_others = json!([{"key": "broken", "value": "no", "effect": "NoExecute"}]);
        assert_eq!(plan_of("NoExecute", of_others, "Running"), (true, None));
        let unsaid = json!([{"key": "broken", "operator": "Exists"}]);
        assert_eq!(plan_of("NoExecute", unsaid, "Running"), (true, None), "the effect must be named");
    }
}
