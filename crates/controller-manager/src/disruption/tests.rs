//! Tables of plans.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::Pod;
use api::types::policy::v1::PodDisruptionBudget;
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::size::Size;
use super::{Observed, plan, stale};
use crate::testing::{now, object, pod, running, told_status};

fn budget(changes: Value) -> PodDisruptionBudget {
    let mut budget = json!({
        "metadata": {"name": "b", "namespace": "ns", "uid": "uid-b", "generation": 2, "resourceVersion": "7"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
    });
    api::patch::merge_patch(&mut budget, changes);
    object(budget)
}

fn owned(name: &str, ready: bool) -> Pod {
    let mut changes = running("a", "10.0.0.1", ready);
    changes["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "uid-set", "controller": true}]);
    pod(name, changes)
}

fn three(ready: usize) -> Vec<Pod> {
    ["x", "y", "z"].iter().enumerate().map(|(number, name)| owned(name, number < ready)).collect()
}

fn plan_of(budget: PodDisruptionBudget, pods: Vec<Pod>, size: Size) -> Plan {
    let sizes = BTreeMap::from([("uid-set".to_owned(), size)]);
    let sizes = if plan::needs_sizes(&budget) { sizes } else { BTreeMap::new() };
    let pods = pods.into_iter().map(Arc::new).collect();
    plan::plan(&Observed { budget: Arc::new(budget), pods, sizes }, now())
}

fn wants(replicas: i32) -> Size {
    Size::Wants { uid: "uid-deployment".to_owned(), replicas }
}

/// Expected, desired, healthy, allowed.
fn counts(plan: &Plan) -> Vec<i64> {
    let status = told_status(plan);
    let fields = ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"];
    fields.iter().map(|field| status[*field].as_i64().unwrap_or(-1)).collect()
}

fn reasons(plan: &Plan) -> Vec<&str> {
    let notes = plan.actions.iter().filter_map(|action| match action {
        Action::Event(note) => Some(note.reason.as_str()),
        _ => None,
    });
    notes.collect()
}

#[test]
fn what_may_go_is_what_is_healthy_beyond_what_must_be() {
    let table: Vec<(&str, Value, Vec<Pod>, Size, Vec<i64>)> = vec![
        ("a number to keep", json!({"minAvailable": 2}), three(3), wants(9), vec![3, 2, 3, 1]),
        ("of pods that are there", json!({"minAvailable": 2}), three(1), wants(9), vec![3, 2, 1, 0]),
        ("a share to keep", json!({"minAvailable": "50%"}), three(3), wants(3), vec![3, 2, 3, 1]),
        ("of the controller's size", json!({"minAvailable": "50%"}), three(3), wants(10), vec![10, 5, 3, 0]),
        ("a number to miss", json!({"maxUnavailable": 1}), three(3), wants(3), vec![3, 2, 3, 1]),
        ("more than there are", json!({"maxUnavailable": 5}), three(3), wants(3), vec![3, 0, 3, 3]),
        (
            "a share to miss, rounded up",
            json!({"maxUnavailable": "10%"}),
            three(3),
            wants(3),
            vec![3, 2, 3, 1],
        ),
        ("nothing said", json!({}), three(3), wants(3), vec![0, 0, 3, 0]),
        ("no pods", json!({"minAvailable": 0}), vec![], wants(3), vec![0, 0, 0, 0]),
    ];
    for (name, spec, pods, size, expected) in table {
        let plan = plan_of(budget(json!({"spec": spec})), pods, size);
        assert_eq!(counts(&plan), expected, "{name}");
        let allowed = &told_status(&plan)["conditions"][0];
        let reason = if expected[3] > 0 { "SufficientPods" } else { "InsufficientPods" };
        assert_eq!(
            (&allowed["type"], &allowed["reason"]),
            (&json!("DisruptionAllowed"), &json!(reason)),
            "{name}"
        );
        assert_eq!(told_status(&plan)["observedGeneration"], 2);
    }
}

#[test]
fn evicted_pods_count_as_gone_until_they_outstay_it() {
    let evicted = |at: &str| {
        let status = json!({"spec": {"minAvailable": 1}, "status": {"disruptedPods": {"x": at, "gone": at}}});
        plan_of(budget(status), three(3), wants(3))
    };
    let recent = evicted("2026-11-23T11:59:30Z");
    assert_eq!(counts(&recent), [3, 1, 2, 1]);
    assert_eq!(told_status(&recent)["disruptedPods"], json!({"x": "2026-11-23T11:59:30Z", "gone": null}));
    assert_eq!(recent.wake_after, Some(Duration::from_secs(90)));
    let overdue = evicted("2026-11-23T11:58:00Z");
    assert_eq!(counts(&overdue), [3, 1, 3, 2]);
    assert_eq!(reasons(&overdue), ["NotDeleted"]);
}

#[test]
fn what_cannot_be_computed_allows_nothing() {
    let spec = json!({"spec": {"maxUnavailable": 1}, "status": {
        "disruptionsAllowed": 1, "expectedPods": 3, "observedGeneration": 1}});
    let missing = plan_of(budget(spec.clone()), three(3), Size::Missing);
    assert_eq!(told_status(&missing)["disruptionsAllowed"], 0);
    assert_eq!(told_status(&missing)["expectedPods"], 3, "the rest stays");
    assert_eq!(told_status(&missing)["conditions"][0]["reason"], "SyncFailed");
    assert_eq!(reasons(&missing), ["CalculateExpectedPodCountFailed"]);
    let unscalable = plan_of(budget(spec.clone()), three(3), Size::Unavailable("no scale".into()));
    assert_eq!(told_status(&unscalable)["conditions"][0]["message"], "no scale");
    let waits = plan_of(budget(spec), three(3), Size::Unknown);
    assert_eq!((waits.actions.len(), waits.wake_after), (0, Some(Duration::from_secs(5))));
    let stray = plan_of(budget(json!({"spec": {"maxUnavailable": 1}})), vec![pod("p", json!({}))], wants(3));
    assert_eq!((counts(&stray), reasons(&stray)), (vec![0, 0, 0, 0], vec!["UnmanagedPods"]));
}

#[test]
fn the_status_is_written_over_what_was_seen_only_and_not_twice() {
    let first = plan_of(budget(json!({"spec": {"minAvailable": 2}})), three(3), wants(3));
    let [Action::Patch { patch: client::Patch::Merge(patch), .. }] = &first.actions[..] else {
        panic!("{first:?}")
    };
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    let again = budget(json!({"spec": {"minAvailable": 2}, "status": told_status(&first)}));
    assert_eq!(plan_of(again, three(3), wants(3)), Plan::default());
}

#[test]
fn an_announcement_that_comes_to_nothing_is_taken_back() {
    let announced = |reason: &str, at: &str, changes: Value| {
        let mut all = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": at}]}});
        api::patch::merge_patch(&mut all, changes);
        stale::plan(&pod("p", all), now())
    };
    let late = "2026-11-23T11:58:00Z";
    let taken_back = announced("EvictionByEvictionAPI", late, json!({}));
    let conditions = &told_status(&taken_back)["conditions"];
    assert_eq!(conditions[0]["type"], "Ready");
    assert_eq!((&conditions[1]["status"], &conditions[1]["reason"]), (&json!("False"), &Value::Null));
    let waits = announced("EvictionByEvictionAPI", "2026-11-23T11:59:00Z", json!({}));
    assert_eq!((waits.actions.len(), waits.wake_after), (0, Some(Duration::from_secs(60))));
    for (reason, changes) in [
        ("TerminationByKubelet", json!({})),
        ("EvictionByEvictionAPI", json!({"metadata": {"deletionTimestamp": late}})),
        ("EvictionByEvictionAPI", json!({"status": {"phase": "Failed"}})),
    ] {
        assert_eq!(announced(reason, late, changes.clone()), Plan::default(), "{reason} {changes}");
    }
}
