//! What a quota's status says.

use std::time::Duration;

use api::quota::{self, Amounts};
use api::types::core::v1::ResourceQuota;
use api::{Object, Quantity};
use jiff::Timestamp;
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::Observed;

/// Time between recounts without a reason.
const RESYNC: Duration = Duration::from_mins(5);
/// Time until a cache that was behind is looked at again.
const SOON: Duration = Duration::from_millis(200);

/// What a quota says is used.
pub(super) fn used(quota: &ResourceQuota) -> Amounts {
    let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
    used.map(|used| quota::amounts(&json!(used))).unwrap_or_default()
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    plan.wake(RESYNC);
    let spec = json!(observed.quota.spec);
    let hard = quota::amounts(&spec["hard"]);
    let before = used(&observed.quota);
    let mut after = Amounts::new();
    for name in hard.keys() {
        let told = before.get(name).copied();
        let (counted, revision) = match count(observed, &spec, name, now) {
            Some(counted) => counted,
            None => {
                // Not followed yet, or of no kind that there is.
                plan.wake(SOON * 10);
                after.extend(told.map(|told| (name.clone(), told)));
                continue;
            }
        };
        let is_recent = observed.raised.get(name).is_none_or(|raised| revision >= *raised);
        match told {
            Some(told) if told > counted && !is_recent => {
                plan.wake(SOON);
                after.insert(name.clone(), told);
            }
            _ => {
                after.insert(name.clone(), counted);
            }
        }
    }
    let old_hard = json!(observed.quota.status.as_ref().and_then(|status| status.hard.as_ref()));
    let is_new = quota::amounts(&old_hard) != hard || old_hard.is_null();
    if is_new {
        // What was made before the limits held was not charged.
        plan.wake(SOON * 5);
    }
    if is_new || before != after {
        let mut quota = (*observed.quota).clone();
        let status = json!({"hard": quota::to_json(&hard), "used": quota::to_json(&after)});
        quota.status = serde_json::from_value(status).ok();
        plan.actions.push(Action::update_status(&quota));
    }
    plan
}

/// How much of a resource is used, and up to which revision that is so.
fn count(observed: &Observed, spec: &Value, name: &str, now: Timestamp) -> Option<(Quantity, u64)> {
    let source = observed.sources.iter().find(|source| quota::is_used_by("", source.resource, name));
    let Some(source) = source else {
        let (count, revision) = observed.counts.get(name)?;
        // Scopes are about pods and claims: nothing else is within one.
        let is_scoped = spec["scopes"].as_array().is_some_and(|scopes| !scopes.is_empty())
            || spec["scopeSelector"].is_object();
        let count = if is_scoped { 0 } else { i64::try_from(*count).unwrap_or(i64::MAX) };
        return Some((Quantity::from_units(count), *revision));
    };
    let is_covered = |object: &&Object| quota::covers(spec, &spec["hard"], "", source.resource, object);
    let mut total = Amounts::from([(name.to_owned(), Quantity::ZERO)]);
    for object in source.objects.iter().filter(is_covered) {
        let mut used = quota::usage("", source.resource, object, now);
        used.retain(|used, _| used == name);
        quota::add(&mut total, &used);
    }
    Some((total.get(name).copied().unwrap_or_default(), source.revision))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::resource_quota::Source;
    use crate::testing::{now, object, pod};

    fn observed(spec: Value, status: Value) -> Observed {
        let pods = [
            pod("a", json!({"spec": {"priorityClassName": "high"}})),
            pod("b", json!({})),
            pod("c", json!({"status": {"phase": "Succeeded"}})),
        ];
        let objects = pods.iter().map(|pod| Object::from_typed(pod).expect("an object")).collect();
        Observed {
            quota: Arc::new(object(json!({
                "metadata": {"name": "q", "namespace": "ns", "resourceVersion": "9"},
                "spec": spec, "status": status,
            }))),
            sources: vec![Source { resource: "pods", objects, revision: 7 }],
            counts: [("count/secrets".to_owned(), (4, 7))].into(),
            raised: [("pods".to_owned(), 7), ("count/secrets".to_owned(), 8)].into(),
        }
    }

    /// What the status becomes.
    fn status(observed: &Observed) -> Option<Value> {
        let plan = plan(observed, now());
        assert!(plan.wake_after.is_some_and(|after| after <= RESYNC));
        match plan.actions.as_slice() {
            [Action::Update { object, .. }] => Some(object["status"].clone()),
            [] => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_used_is_counted() {
        let hard = json!({"pods": "5", "count/pods": "5", "count/secrets": "5", "count/x.y.io": "1"});
        let expected = json!({"hard": hard, "used": {"pods": "2", "count/pods": "3", "count/secrets": "4"}});
        let fresh = observed(json!({"hard": hard}), json!({}));
        assert_eq!(status(&fresh), Some(expected.clone()));
        assert_eq!(status(&observed(json!({"hard": hard}), expected)), None);
        let scope = json!({"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]},
        ]});
        let scoped = observed(json!({"hard": {"pods": "5"}, "scopeSelector": scope}), json!({}));
        assert_eq!(status(&scoped), Some(json!({"hard": {"pods": "5"}, "used": {"pods": "1"}})));
    }

    #[test]
    fn a_charge_is_not_lost_to_a_cache_that_is_behind() {
        let hard = json!({"pods": "9", "count/secrets": "9"});
        let charged = json!({"hard": hard, "used": {"pods": "6", "count/secrets": "6"}});
        let lowered = json!({"hard": hard, "used": {"pods": "2", "count/secrets": "6"}});
        let behind = observed(json!({"hard": hard}), charged);
        assert_eq!(status(&behind), Some(lowered), "secrets are seen up to 7, but were charged at 8");
        assert_eq!(plan(&behind, now()).wake_after, Some(SOON));
        let missed = json!({"hard": hard, "used": {"pods": "1", "count/secrets": "6"}});
        let raised = status(&observed(json!({"hard": hard}), missed)).expect("an update");
        assert_eq!(raised["used"]["pods"], "2", "raising is safe");
    }
}
