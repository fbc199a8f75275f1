//! Tables of calculations and plans.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::types::autoscaling::v2::HorizontalPodAutoscaler;
use api::types::core::v1::Pod;
use api::{ObjectKey, Status};
use client::Target;
use jiff::Timestamp;
use reconcile::{Action, Failure, Moment, Plan};
use serde_json::{Value, json};

use super::behavior::{History, Question};
use super::usage::{Fleet, Goal, Sample, Samples, Tolerance, Youth};
use super::{Observed, Scale, Settings, plan};
use crate::testing::{now, object, pod, running, told_status};

const YOUTH: Youth = Youth { initialization: Duration::from_secs(300), readiness: Duration::from_secs(30) };

/// Pods `p0`, `p1` and so on, running for long.
fn pods(phases: &[&str]) -> Vec<Arc<Pod>> {
    let one = |(number, phase): (usize, &&str)| {
        let mut changes = running("a", "10.0.0.1", *phase == "ready");
        changes["status"]["startTime"] = "2026-11-23T08:00:00Z".into();
        if *phase == "Pending" || *phase == "Failed" {
            changes["status"]["phase"] = (*phase).into();
        }
        changes["spec"]["containers"] =
            json!([{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]);
        Arc::new(pod(&format!("p{number}"), changes))
    };
    phases.iter().enumerate().map(one).collect()
}

fn samples(values: &[i64]) -> Samples {
    let sample = |value: i64| Sample { value, at: now(), window: Duration::from_secs(60) };
    values.iter().enumerate().map(|(number, value)| (format!("p{number}"), sample(*value))).collect()
}

fn by_pods(phases: &[&str], values: &[i64], goal: Goal) -> Result<(i32, i64), String> {
    let pods = pods(phases);
    let requests: BTreeMap<String, i64> =
        pods.iter().map(|pod| (crate::pods::name(pod).to_owned(), 1000)).collect();
    let replicas = i32::try_from(phases.len()).expect("few pods");
    let fleet = Fleet {
        pods: &pods,
        replicas,
        tolerance: Tolerance { down: 0.1, up: 0.1 },
        youth: YOUTH,
        now: now(),
    };
    fleet.by_pods(samples(values), true, goal, &requests).map(|found| (found.replicas, found.usage))
}

#[test]
fn use_calls_for_pods_in_proportion() {
    let three = ["ready", "ready", "ready"];
    let percent = Goal::Percent(50);
    let table: Vec<(&str, &[&str], &[i64], Goal, i32)> = vec![
        ("as it should be", &three, &[500, 500, 500], percent, 3),
        ("within the tolerance", &three, &[540, 540, 540], percent, 3),
        ("twice as much", &three, &[1000, 1000, 1000], percent, 6),
        ("half as much", &three, &[250, 250, 250], percent, 2),
        ("an amount", &three, &[300, 300, 300], Goal::Amount(100), 9),
        ("who is not measured uses nothing when growing", &three, &[1500, 1500], percent, 6),
        ("and all when shrinking", &three, &[100, 100], percent, 3),
        (
            "a pending pod uses nothing when growing",
            &["ready", "ready", "Pending"],
            &[1000, 1000],
            percent,
            4,
        ),
        ("a failed one does not count", &["ready", "ready", "Failed"], &[1000, 1000, 0], percent, 4),
    ];
    for (name, phases, values, goal, expected) in table {
        assert_eq!(by_pods(phases, values, goal).map(|(replicas, _)| replicas), Ok(expected), "{name}");
    }
    assert!(by_pods(&three, &[], percent).is_err());
    assert!(by_pods(&[], &[], percent).is_err());
}

#[test]
fn a_young_pod_that_is_not_ready_says_nothing_of_cpu() {
    let pods = pods(&["ready", "ready"]);
    let mut young = (*pods[1]).clone();
    let status = young.status.get_or_insert_default();
    status.start_time = Some(crate::status::time("2026-11-23T11:58:00Z".parse().expect("a time")));
    status.conditions.get_or_insert_default()[0].status = "False".to_owned();
    let pods = vec![Arc::clone(&pods[0]), Arc::new(young)];
    let fleet = Fleet {
        pods: &pods,
        replicas: 2,
        tolerance: Tolerance { down: 0.1, up: 0.1 },
        youth: YOUTH,
        now: now(),
    };
    let none = BTreeMap::new();
    let found = |is_cpu| {
        fleet.by_pods(samples(&[100, 900]), is_cpu, Goal::Amount(100), &none).map(|found| found.usage)
    };
    assert_eq!((found(true), found(false)), (Ok(100), Ok(500)));
}

fn history(recommendations: &[(i64, i32)], changes: &[(i64, i32)]) -> History {
    let at = |list: &[(i64, i32)]| -> Vec<(Timestamp, i32)> {
        list.iter()
            .map(|(ago, number)| (Timestamp::from_second(now().as_second() - ago).expect("a time"), *number))
            .collect()
    };
    History { recommendations: at(recommendations), changes: at(changes) }
}

#[test]
fn a_size_is_steadied_and_its_change_limited() {
    let answer = |behavior: Value, current: i32, wanted: i32, history: &History| {
        let behavior = (!behavior.is_null()).then(|| object(behavior));
        let answer = Question {
            behavior: behavior.as_ref(),
            history,
            least: 2,
            most: 20,
            current,
            wanted,
            downscale_stabilization: Duration::from_secs(300),
            now: now(),
        }
        .answer();
        (answer.replicas, answer.able.0, answer.limited.1)
    };
    let none = History::default();
    let ready = "ReadyForNewScale";
    let within = "DesiredWithinRange";
    assert_eq!(answer(Value::Null, 5, 7, &none), (7, ready, within));
    assert_eq!(answer(Value::Null, 5, 15, &none), (10, ready, "ScaleUpLimit"));
    assert_eq!(answer(Value::Null, 15, 30, &none), (20, ready, "TooManyReplicas"));
    assert_eq!(answer(Value::Null, 5, 1, &none), (2, ready, "TooFewReplicas"));
    assert_eq!(
        answer(Value::Null, 5, 3, &history(&[(200, 4), (400, 9)], &[])),
        (4, "ScaleDownStabilized", within)
    );
    let up = json!({"scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}});
    assert_eq!(answer(up.clone(), 5, 9, &none), (7, ready, "ScaleUpLimit"));
    assert_eq!(answer(up.clone(), 7, 9, &history(&[], &[(30, 2)])), (7, ready, "ScaleUpLimit"));
    assert_eq!(answer(up.clone(), 7, 9, &history(&[], &[(90, 2)])), (9, ready, within));
    assert_eq!(answer(up, 5, 7, &history(&[(30, 6)], &[])), (6, "ScaleUpStabilized", within));
    let down = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]}});
    assert_eq!(answer(down, 10, 3, &none), (9, ready, "ScaleDownLimit"));
    let never = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}});
    assert_eq!(answer(never, 10, 3, &none), (10, ready, "ScaleDownLimit"));
}

fn autoscaler(changes: Value) -> HorizontalPodAutoscaler {
    let mut autoscaler = json!({
        "metadata": {"name": "h", "namespace": "ns", "uid": "uid-h"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
    });
    api::patch::merge_patch(&mut autoscaler, changes);
    object(autoscaler)
}

/// A target of some pods, each of which uses this many thousandths of its one core.
fn observed(changes: Value, replicas: i32, usage: i64) -> Observed {
    let count = usize::try_from(replicas).expect("no debts");
    let items: Vec<Value> = (0..count)
        .map(|number| {
            json!({"metadata": {"name": format!("p{number}")}, "timestamp": "2026-11-23T11:59:50Z", "window": "30s",
                   "containers": [{"name": "c", "usage": {"cpu": format!("{usage}m"), "memory": "512Mi"}}]})
        })
        .collect();
    Observed {
        autoscaler: Arc::new(autoscaler(changes)),
        scale: Ok(Scale {
            place: Target {
                resource: "deployments".to_owned(),
                subresource: "scale".to_owned(),
                ..Target::default()
            },
            object: json!({"metadata": {"uid": "uid-web", "resourceVersion": "7"}, "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "app=web"}}),
        }),
        metrics: vec![Some(Arc::new(Ok(json!({"items": items}))))],
        pods: pods(&vec!["ready"; count]),
        rivals: vec![],
        history: History::default(),
        settings: Settings {
            period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            youth: YOUTH,
        },
    }
}

fn plan_of(observed: &Observed) -> Plan {
    plan::plan(observed, &Moment::at(now()))
}

/// The new size, and the reasons of the events.
fn shape(plan: &Plan) -> (Option<i64>, Vec<&str>) {
    let size = plan.actions.iter().find_map(|action| match action {
        Action::Update { object, .. } => object["spec"]["replicas"].as_i64(),
        _ => None,
    });
    let reasons = plan.actions.iter().filter_map(|action| match action {
        Action::Event(note) => Some(note.reason.as_str()),
        _ => None,
    });
    (size, reasons.collect())
}

fn condition(plan: &Plan, kind: &str) -> (String, String) {
    let conditions = told_status(plan)["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == kind).unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[test]
fn the_target_follows_its_metrics_within_its_bounds() {
    let grows = plan_of(&observed(json!({}), 2, 1000));
    assert_eq!(shape(&grows), (Some(4), vec!["SuccessfulRescale"]));
    let written = grows.actions.iter().find_map(|action| match action {
        Action::Update { object, .. } => Some(object["metadata"].clone()),
        _ => None,
    });
    assert_eq!(written, Some(json!({"uid": "uid-web"})), "whatever else has changed of it");
    let status = told_status(&grows);
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(2), &json!(4)));
    assert_eq!(status["lastScaleTime"], "2026-11-23T12:00:00Z");
    assert_eq!(
        status["currentMetrics"][0]["resource"]["current"],
        json!({"averageUtilization": 100, "averageValue": "1"})
    );
    assert_eq!(condition(&grows, "AbleToScale"), ("True".to_owned(), "SucceededRescale".to_owned()));
    assert_eq!(condition(&grows, "ScalingActive"), ("True".to_owned(), "ValidMetricFound".to_owned()));
    let stays = plan_of(&observed(json!({}), 2, 500));
    assert_eq!((shape(&stays), &told_status(&stays)["desiredReplicas"]), ((None, vec![]), &json!(2)));
    assert_eq!(condition(&stays, "ScalingLimited").1, "DesiredWithinRange");
    assert_eq!(shape(&plan_of(&observed(json!({"spec": {"maxReplicas": 3}}), 2, 1000))).0, Some(3));
    assert_eq!(shape(&plan_of(&observed(json!({"spec": {"maxReplicas": 3}}), 5, 1000))).0, Some(3));
    assert_eq!(shape(&plan_of(&observed(json!({"spec": {"minReplicas": 3}}), 2, 100))).0, Some(3));
    let off = plan_of(&observed(json!({}), 0, 0));
    assert_eq!((shape(&off).0, condition(&off, "ScalingActive").1), (None, "ScalingDisabled".to_owned()));
    let wider = json!({"spec": {"behavior": {"scaleUp": {"tolerance": "2"}}}});
    assert_eq!(shape(&plan_of(&observed(wider, 2, 1000))).0, None);
}

#[test]
fn metrics_of_all_kinds_are_read() {
    let with = |spec: Value, answer: Value| {
        let mut observed = observed(json!({"spec": {"metrics": [spec]}}), 2, 0);
        observed.metrics = vec![Some(Arc::new(Ok(answer)))];
        plan_of(&observed)
    };
    let target = |kind: &str, field: &str, value: &str| json!({"type": kind, field: value});
    let memory = json!({"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": target("AverageValue", "averageValue", "256Mi")}});
    let usage = json!({"items": (0..2).map(|number| json!({"metadata": {"name": format!("p{number}")}, "timestamp": "2026-11-23T11:59:50Z",
        "containers": [{"name": "c", "usage": {"memory": "512Mi"}}, {"name": "d", "usage": {"memory": "1Gi"}}]})).collect::<Vec<_>>()});
    let by_memory = with(memory, usage);
    assert_eq!(shape(&by_memory).0, Some(4));
    assert_eq!(
        told_status(&by_memory)["currentMetrics"][0]["containerResource"]["current"]["averageValue"],
        "512Mi"
    );
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": target("AverageValue", "averageValue", "10")}});
    let values = json!({"items": (0..2).map(|number| json!({"describedObject": {"name": format!("p{number}")}, "value": "20"})).collect::<Vec<_>>()});
    assert_eq!(shape(&with(pods, values)).0, Some(4));
    let queue = |target: Value| json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": target}});
    let length = || json!({"items": [{"value": "30"}, {"value": "10"}]});
    assert_eq!(shape(&with(queue(target("Value", "value", "20")), length())).0, Some(4));
    assert_eq!(shape(&with(queue(target("AverageValue", "averageValue", "10")), length())).0, Some(4));
    let ingress = json!({"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"}, "metric": {"name": "hits"}, "target": target("Value", "value", "10")}});
    assert_eq!(shape(&with(ingress, json!({"items": [{"value": "15"}]}))).0, Some(3));
}

#[test]
fn what_cannot_be_measured_is_said_and_shrinks_nothing() {
    let mut silent = observed(json!({}), 4, 100);
    silent.metrics = vec![Some(Arc::new(Err(Status::not_found("metrics.k8s.io", "pods", ""))))];
    let plan = plan_of(&silent);
    assert_eq!(shape(&plan), (None, vec!["FailedGetResourceMetric", "FailedComputeMetricsReplicas"]));
    assert_eq!(condition(&plan, "ScalingActive"), ("False".to_owned(), "FailedGetResourceMetric".to_owned()));
    let two = json!({"spec": {"metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
        {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}]}});
    let half = |usage: i64| {
        let mut half = observed(two.clone(), 4, usage);
        half.metrics.push(None);
        shape(&plan_of(&half)).0
    };
    assert_eq!((half(100), half(1000)), (None, Some(8)), "growth is trusted");
    let mut lost = observed(json!({}), 2, 500);
    lost.scale = Err("not found".to_owned());
    let lost = plan_of(&lost);
    assert_eq!(
        (shape(&lost).1, condition(&lost, "AbleToScale").1),
        (vec!["FailedGetScale"], "FailedGetScale".to_owned())
    );
    let mut shared = observed(json!({}), 2, 1000);
    shared.rivals = vec![ObjectKey::new("ns", "other")];
    let shared = plan_of(&shared);
    assert_eq!(
        (shape(&shared).0, condition(&shared, "ScalingActive").1),
        (None, "AmbiguousSelector".to_owned())
    );
    let mut blind = observed(json!({}), 2, 1000);
    blind.scale.as_mut().expect("a scale").object["status"]["selector"] = "".into();
    assert_eq!(condition(&plan_of(&blind), "ScalingActive").1, "InvalidSelector");
}

#[test]
fn a_refused_size_is_told_before_it_is_tried_again() {
    let failure = Some(Failure { verb: "update", message: "no".to_owned() });
    let plan = plan::plan(&observed(json!({}), 2, 1000), &Moment { failure, ..Moment::at(now()) });
    let verbs: Vec<&str> = plan.actions.iter().map(Action::verb).collect();
    assert_eq!(verbs, ["event", "patch", "update", "patch", "event"]);
    assert_eq!(shape(&plan).1, ["FailedRescale", "SuccessfulRescale"]);
}
