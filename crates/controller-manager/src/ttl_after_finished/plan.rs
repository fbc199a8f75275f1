//! Whether, and when, a finished job goes.

use std::time::Duration;

use api::types::batch::v1::Job;
use jiff::Timestamp;
use reconcile::{Action, Plan};

pub(super) fn plan(job: &Job, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let seconds = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let (Some(seconds), None) = (seconds, &job.metadata.deletion_timestamp) else { return plan };
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends =
        conditions.filter(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True");
    let Some(ended) = ends.find_map(|end| end.last_transition_time.as_ref()) else { return plan };
    let left = f64::from(seconds) - now.duration_since(ended.0).as_secs_f64();
    if left > 0.0 {
        plan.wake(Duration::from_secs_f64(left));
        return plan;
    }
    let mut delete = Action::delete(job);
    if let Action::Delete { options, .. } = &mut delete {
        options.propagation_policy = Some("Foreground".to_owned());
        if let Some(conditions) = &mut options.preconditions {
            // Should the time to live be changed meanwhile, the job stays.
            conditions.resource_version = job.metadata.resource_version.clone();
        }
    }
    plan.actions.push(delete);
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{now, object};

    #[test]
    fn a_job_goes_when_its_time_is_over() {
        let plan_of = |seconds: Option<i32>, kind: &str| {
            let job: Job = object(json!({
                "metadata": {"name": "j", "namespace": "ns", "uid": "u"},
                "spec": {"ttlSecondsAfterFinished": seconds, "template": {}},
                "status": {"conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T11:59:00Z"}]},
            }));
            let plan = plan(&job, now());
            (plan.actions.len(), plan.wake_after.map(|after| after.as_secs()))
        };
        assert_eq!(plan_of(Some(60), "Complete"), (1, None));
        assert_eq!(plan_of(Some(90), "Failed"), (0, Some(30)));
        assert_eq!(plan_of(None, "Complete"), (0, None));
        assert_eq!(plan_of(Some(0), "Suspended"), (0, None));
    }
}
