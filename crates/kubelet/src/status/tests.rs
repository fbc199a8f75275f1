//! Tables for pod statuses.

use std::collections::HashMap;

use api::types::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::{Inputs, Waiting, pod_status};
use crate::runtime::record::{Observed, State};
use crate::worker::plan::ProbeResults;
use crate::worker::stage::{Ending, Stage, Verdict};
use crate::worker::tests::{RUNNING, a_pod, exited, now, record, with_sandbox};

fn of(pod: &Pod, observed: &Observed, stage: &Stage, waiting: &[(&str, &str)]) -> PodStatus {
    let ids = || observed.running().map(|record| record.id.clone()).collect();
    let probes = ProbeResults { started: ids(), ready: ids(), ..ProbeResults::default() };
    let waiting: HashMap<String, Waiting> = waiting
        .iter()
        .map(|(name, reason)| {
            ((*name).to_owned(), Waiting { reason: (*reason).to_owned(), message: String::new() })
        })
        .collect();
    let host = ["192.0.2.1".parse().expect("an address")];
    let inputs = Inputs { pod, stage, observed, probes: &probes, waiting: &waiting, host_addresses: &host };
    pod_status(&inputs, now())
}

fn phase(spec: Value, states: &[(&str, State)], stage: &Stage) -> String {
    let pod = a_pod(spec);
    let observed =
        with_sandbox(states.iter().map(|(name, state)| record(&pod, name, 0, state.clone())).collect());
    of(&pod, &observed, stage, &[]).phase.expect("a phase")
}

#[test]
fn phases() {
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    let with_init = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let syncing = Stage::Syncing;
    let over = Stage::Terminated(Ending { verdict: None });
    let evicted = Stage::Terminated(Ending {
        verdict: Some(Verdict { reason: "Evicted".to_owned(), message: String::new() }),
    });
    let cases: Vec<(Value, Vec<(&str, State)>, &Stage, &str)> = vec![
        (two("Always"), vec![], &syncing, "Pending"),
        (two("Always"), vec![("a", RUNNING)], &syncing, "Pending"),
        (two("Always"), vec![("a", RUNNING), ("b", RUNNING)], &syncing, "Running"),
        (two("Always"), vec![("a", exited(0)), ("b", exited(1))], &syncing, "Running"),
        (two("Never"), vec![("a", exited(0)), ("b", exited(0))], &syncing, "Succeeded"),
        (two("Never"), vec![("a", exited(0)), ("b", exited(1))], &syncing, "Failed"),
        (two("Never"), vec![("a", RUNNING), ("b", exited(1))], &syncing, "Running"),
        (two("OnFailure"), vec![("a", exited(0)), ("b", exited(1))], &syncing, "Running"),
        (two("Always"), vec![("a", exited(0)), ("b", exited(0))], &over, "Succeeded"),
        (two("Always"), vec![("a", exited(0)), ("b", exited(137))], &over, "Failed"),
        (two("Always"), vec![("a", exited(0)), ("b", exited(0))], &evicted, "Failed"),
        (with_init("Always"), vec![("i", RUNNING)], &syncing, "Pending"),
        (with_init("Always"), vec![("i", exited(1))], &syncing, "Pending"),
        (with_init("Never"), vec![("i", exited(1))], &syncing, "Failed"),
        (with_init("Never"), vec![("i", exited(0)), ("a", RUNNING)], &syncing, "Running"),
    ];
    for (spec, states, stage, expected) in cases {
        assert_eq!(phase(spec.clone(), &states, stage), expected, "{spec} {states:?} {stage:?}");
    }
}

#[test]
fn waiting_and_last_states() {
    let pod = a_pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let state = |observed: &Observed, waiting: &[(&str, &str)]| {
        let status = of(&pod, observed, &Stage::Syncing, waiting);
        let status = serde_json::to_value(&status.container_statuses.expect("statuses")[0]).expect("json");
        (status["state"].clone(), status["lastState"].clone(), status["restartCount"].clone())
    };
    let (now_, _, _) = state(&with_sandbox(vec![]), &[]);
    assert_eq!(now_["waiting"]["reason"], "ContainerCreating");
    let (now_, _, _) = state(&with_sandbox(vec![]), &[("c", "ErrImagePull")]);
    assert_eq!(now_["waiting"]["reason"], "ErrImagePull");
    let died = with_sandbox(vec![record(&pod, "c", 2, exited(3))]);
    let (now_, last, count) = state(&died, &[("c", "CrashLoopBackOff")]);
    assert_eq!(now_["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!((&last["terminated"]["exitCode"], count), (&json!(3), json!(2)));
    let restarted = with_sandbox(vec![record(&pod, "c", 2, exited(3)), record(&pod, "c", 3, RUNNING)]);
    let (now_, last, _) = state(&restarted, &[]);
    assert!(now_["running"].is_object() && last["terminated"]["exitCode"] == 3, "{now_} {last}");
    let with_init = a_pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    let status = of(&with_init, &with_sandbox(vec![]), &Stage::Syncing, &[]);
    let reason =
        status.container_statuses.expect("statuses")[0].state.clone().and_then(|state| state.waiting?.reason);
    assert_eq!(reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn conditions() {
    let mut pod = a_pod(
        json!({"readinessGates": [{"conditionType": "example.com/gate"}], "containers": [{"name": "c"}]}),
    );
    let get = |pod: &Pod, observed: &Observed, name: &str| {
        let status = of(pod, observed, &Stage::Syncing, &[]);
        let found =
            status.conditions.expect("conditions").into_iter().find(|condition| condition.type_ == name);
        let found = found.unwrap_or_else(|| panic!("no {name}"));
        (found.status, found.reason.unwrap_or_default())
    };
    let pair = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    let running = with_sandbox(vec![record(&pod, "c", 0, RUNNING)]);
    assert_eq!(get(&pod, &Observed::default(), "PodReadyToStartContainers"), pair("False", ""));
    assert_eq!(get(&pod, &Observed::default(), "Ready"), pair("False", "ContainersNotReady"));
    assert_eq!(get(&pod, &running, "ContainersReady"), pair("True", ""));
    assert_eq!(get(&pod, &running, "Ready"), pair("False", "ReadinessGatesNotReady"));
    pod.status = serde_json::from_value(json!({"conditions": [
        {"type": "example.com/gate", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
    ]}))
    .expect("a status");
    assert_eq!(get(&pod, &running, "Ready"), pair("True", ""));
    assert_eq!(get(&pod, &running, "example.com/gate"), pair("True", ""), "foreign conditions stay");
    let kept = of(&pod, &running, &Stage::Syncing, &[]).conditions.expect("conditions");
    let ready = kept.iter().find(|condition| condition.type_ == "Ready").expect("ready");
    assert_eq!(
        ready.last_transition_time.as_ref().map(|time| time.0.to_string()).as_deref(),
        Some("2020-01-01T00:00:00Z")
    );
}
