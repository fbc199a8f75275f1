//! Tables for the plan and the stages.

use api::types::core::v1::Pod;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::plan::{Plan, ProbeResults, plan};
use super::stage::{Action, Ending, Inputs, Stage, Verdict, advance};
use crate::pod::{self, Role};
use crate::runtime::record::{Exit, Observed, Record, Sandbox, State};

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).expect("a time")
}

pub(crate) fn a_pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .expect("a pod")
}

pub(crate) fn with_sandbox(containers: Vec<Record>) -> Observed {
    let sandbox = Sandbox {
        id: "box".to_owned(),
        attempt: 0,
        created_at: now(),
        is_ready: true,
        addresses: vec!["10.0.0.2".parse().expect("an address")],
    };
    Observed { sandboxes: vec![sandbox], containers }.sorted()
}

/// A container made ten seconds ago.
pub(crate) fn record(pod: &Pod, name: &str, attempt: u32, state: State) -> Record {
    let (role, container) = pod::container(pod, name).unwrap_or_else(|| panic!("no container {name}"));
    Record {
        id: format!("{name}-{attempt}"),
        name: name.to_owned(),
        role,
        attempt,
        hash: pod::container_hash(&container),
        image: "i".to_owned(),
        image_id: "i@sha256:0".to_owned(),
        sandbox_id: "box".to_owned(),
        shim: "box".to_owned(),
        backoff_seconds: 0,
        created_at: now() - SignedDuration::from_secs(10),
        state,
    }
}

pub(crate) const RUNNING: State = State::Running { pid: 1 };

pub(crate) fn exited(code: i32) -> State {
    let reason = if code == 0 { "Completed" } else { "Error" };
    State::Exited(Exit {
        code,
        reason: reason.to_owned(),
        message: None,
        finished_at: now() - SignedDuration::from_secs(1),
    })
}

fn planned(pod: &Pod, observed: &Observed, probes: &ProbeResults) -> Plan {
    plan(pod, observed, probes, now())
}

fn starts(plan: &Plan) -> Vec<(&str, u32, u32)> {
    plan.start.iter().map(|start| (start.name.as_str(), start.attempt, start.backoff_seconds)).collect()
}

#[test]
fn init_containers_run_in_order() {
    let pod = a_pod(json!({
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
        "containers": [{"name": "a"}, {"name": "b"}]
    }));
    let none = ProbeResults::default();
    assert_eq!(planned(&pod, &Observed::default(), &none).create_sandbox, Some(0));
    let started = ProbeResults { started: ["s-0".to_owned()].into(), ..ProbeResults::default() };
    let of = |list: &[(&str, State)]| {
        with_sandbox(list.iter().map(|(name, state)| record(&pod, name, 0, state.clone())).collect())
    };
    let (i, s, j) = (("i", exited(0)), ("s", RUNNING), ("j", exited(0)));
    let cases: [(&[(&str, State)], &ProbeResults, &[(&str, u32, u32)]); 7] = [
        (&[], &none, &[("i", 0, 0)]),
        (&[("i", RUNNING)], &none, &[]),
        (&[("i", exited(1))], &none, &[("i", 1, 10)]),
        (std::slice::from_ref(&i), &none, &[("s", 0, 0)]),
        (&[i.clone(), s.clone()], &none, &[]),
        (&[i.clone(), s.clone()], &started, &[("j", 0, 0)]),
        (&[i.clone(), s, j], &started, &[("a", 0, 0), ("b", 0, 0)]),
    ];
    for (have, probes, expected) in cases {
        assert_eq!(starts(&planned(&pod, &of(have), probes)), expected, "{have:?}");
    }
    // A sidecar that dies later is started again, beside the main containers.
    let later = of(&[("i", exited(0)), ("s", exited(1)), ("j", exited(0)), ("a", RUNNING), ("b", RUNNING)]);
    assert_eq!(starts(&planned(&pod, &later, &none)), [("s", 1, 10)]);
}

#[test]
fn back_off_grows_and_is_forgiven() {
    let pod = a_pod(json!({"containers": [{"name": "c"}]}));
    let none = ProbeResults::default();
    let with = |backoff_seconds, ran: i64, ended_ago: i64| {
        let finished_at = now() - SignedDuration::from_secs(ended_ago);
        let state = State::Exited(Exit { code: 1, reason: "Error".to_owned(), message: None, finished_at });
        let created_at = finished_at - SignedDuration::from_secs(ran);
        with_sandbox(vec![Record { backoff_seconds, created_at, ..record(&pod, "c", 3, state) }])
    };
    let cases: [(u32, i64, i64, &[(&str, u32, u32)], Option<u64>); 6] = [
        (0, 1, 1, &[("c", 4, 10)], None),
        (10, 1, 1, &[], Some(9)),
        (10, 1, 10, &[("c", 4, 20)], None),
        (160, 1, 200, &[("c", 4, 300)], None),
        (300, 1, 299, &[], Some(1)),
        (300, 601, 1, &[("c", 4, 10)], None),
    ];
    for (backoff, ran, ended_ago, expected, wake) in cases {
        let plan = planned(&pod, &with(backoff, ran, ended_ago), &none);
        assert_eq!(starts(&plan), expected, "{backoff} {ran} {ended_ago}");
        assert_eq!(plan.wake_after().map(|time| time.as_secs()), wake, "{backoff} {ran} {ended_ago}");
    }
}

#[test]
fn probes_and_changes_kill() {
    let pod = a_pod(
        json!({"containers": [{"name": "c", "image": "new", "livenessProbe": {"terminationGracePeriodSeconds": 3}}]}),
    );
    let healthy = with_sandbox(vec![record(&pod, "c", 0, RUNNING)]);
    assert!(planned(&pod, &healthy, &ProbeResults::default()).kill.is_empty());
    let failed = ProbeResults {
        started: ["c-0".to_owned()].into(),
        failed: [("c-0".to_owned(), "why".to_owned())].into(),
        ..ProbeResults::default()
    };
    let kill = planned(&pod, &healthy, &failed).kill;
    assert_eq!((kill[0].id.as_str(), kill[0].grace_override), ("c-0", Some(3)));
    let changed = with_sandbox(vec![Record { hash: "old".to_owned(), ..record(&pod, "c", 0, RUNNING) }]);
    assert_eq!(planned(&pod, &changed, &ProbeResults::default()).kill.len(), 1);
}

#[test]
fn a_lost_sandbox_is_replaced_only_if_something_is_to_run() {
    let pod = a_pod(json!({"restartPolicy": "OnFailure", "containers": [{"name": "c"}]}));
    let lost = |state: State| {
        let mut observed = with_sandbox(vec![record(&pod, "c", 0, state)]);
        observed.sandboxes[0].is_ready = false;
        planned(&pod, &observed, &ProbeResults::default())
    };
    let plan = lost(RUNNING);
    assert_eq!((plan.kill.len(), plan.create_sandbox), (1, Some(1)));
    assert_eq!(lost(exited(1)).create_sandbox, Some(1));
    assert_eq!(lost(exited(0)).create_sandbox, None);
}

#[test]
fn a_sandbox_that_came_late_is_pruned() {
    let pod = a_pod(json!({"containers": [{"name": "c"}]}));
    let mut observed = with_sandbox(vec![record(&pod, "c", 0, RUNNING)]);
    let created_at = now() + SignedDuration::from_secs(1);
    observed.sandboxes.push(Sandbox {
        id: "late".to_owned(),
        created_at,
        is_ready: false,
        ..observed.sandboxes[0].clone()
    });
    let plan = planned(&pod, &observed.sorted(), &ProbeResults::default());
    assert_eq!(plan, Plan { prune_sandboxes: vec!["late".to_owned()], ..Plan::default() });
}

#[test]
fn a_new_container_shares_the_shim_of_one_that_runs() {
    let pod = a_pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let of = |a, b| with_sandbox(vec![record(&pod, "a", 0, a), record(&pod, "b", 0, b)]);
    assert_eq!(of(exited(0), RUNNING).shim("box"), Some("box"));
    assert_eq!(of(RUNNING, RUNNING).shim("another"), None);
    assert_eq!(of(exited(0), State::Created).shim("box"), None);
}

#[test]
fn old_containers_are_pruned() {
    let pod = a_pod(json!({"containers": [{"name": "c"}]}));
    let observed = with_sandbox((0..4).map(|attempt| record(&pod, "c", attempt, exited(1))).collect());
    assert_eq!(planned(&pod, &observed, &ProbeResults::default()).prune, ["c-1", "c-0"]);
}

fn step(
    stage: Stage,
    pod: &Pod,
    observed: &Observed,
    change: impl FnOnce(&mut Inputs<'_>),
) -> (Stage, Vec<Action>) {
    let probes = ProbeResults::default();
    let mut inputs = Inputs {
        pod,
        is_gone: false,
        eviction: None,
        observed,
        probes: &probes,
        is_prepared: true,
        is_torn_down: false,
        is_status_final: false,
    };
    change(&mut inputs);
    advance(stage, &inputs, now())
}

const PLAIN: Ending = Ending { verdict: None };

#[test]
fn stages() {
    let pod = a_pod(
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 7, "containers": [{"name": "c"}]}),
    );
    let running = with_sandbox(vec![record(&pod, "c", 0, RUNNING)]);
    let over = with_sandbox(vec![record(&pod, "c", 0, exited(0))]);
    let mut deleted = pod.clone();
    deleted.metadata.deletion_timestamp = Some(crate::status::api_time(now()));
    deleted.metadata.deletion_grace_period_seconds = Some(2);

    assert_eq!(
        step(Stage::Syncing, &pod, &running, |inputs| inputs.is_prepared = false).1,
        [Action::Prepare]
    );
    let (stage, actions) = step(Stage::Syncing, &pod, &running, |_| {});
    assert!(stage == Stage::Syncing && matches!(actions[0], Action::Run(_)));

    let (stage, actions) = step(Stage::Syncing, &deleted, &running, |_| {});
    assert_eq!((stage, actions), (Stage::Terminating(PLAIN), vec![Action::Stop { grace_seconds: 2 }]));
    let (stage, actions) = step(Stage::Terminating(PLAIN), &deleted, &over, |_| {});
    assert_eq!((stage, actions), (Stage::Terminated(PLAIN), vec![Action::TearDown]));
    let ended = |change: fn(&mut Inputs<'_>)| step(Stage::Terminated(PLAIN), &deleted, &over, change).1;
    assert_eq!(ended(|inputs| inputs.is_torn_down = true), [], "the status must be written first");
    let final_actions = ended(|inputs| {
        inputs.is_torn_down = true;
        inputs.is_status_final = true;
    });
    assert_eq!(final_actions, [Action::Remove, Action::FinishDeletion]);
    let gone = ended(|inputs| {
        inputs.is_torn_down = true;
        inputs.is_gone = true;
    });
    assert_eq!(gone, [Action::Remove, Action::Retire]);

    // A pod that is over by itself stays until it is deleted.
    let (stage, actions) = step(Stage::Syncing, &pod, &over, |_| {});
    assert_eq!((stage, actions), (Stage::Terminated(PLAIN), vec![Action::TearDown]));
    assert_eq!(step(Stage::Terminated(PLAIN), &pod, &over, |inputs| inputs.is_torn_down = true).1, []);
    // One that is gone without a deletion gets a second.
    assert_eq!(
        step(Stage::Syncing, &pod, &running, |inputs| inputs.is_gone = true).1,
        [Action::Stop { grace_seconds: 1 }]
    );
}

#[test]
fn deadlines_and_evictions_are_verdicts() {
    let mut pod = a_pod(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "c"}]}));
    let running = with_sandbox(vec![record(&pod, "c", 0, RUNNING)]);
    let started = |seconds: i64| {
        let start_time = Some(crate::status::api_time(now() - SignedDuration::from_secs(seconds)));
        Some(api::types::core::v1::PodStatus { start_time, ..Default::default() })
    };
    pod.status = started(20);
    let actions = step(Stage::Syncing, &pod, &running, |_| {}).1;
    assert_eq!(actions.last(), Some(&Action::Wake(std::time::Duration::from_secs(40))));
    pod.status = started(60);
    let (stage, _) = step(Stage::Syncing, &pod, &running, |_| {});
    let Stage::Terminating(Ending { verdict: Some(verdict) }) = stage else { panic!("{stage:?}") };
    assert_eq!(verdict.reason, "DeadlineExceeded");
    let eviction = Verdict { reason: "Evicted".to_owned(), message: "memory".to_owned() };
    let (stage, _) = advance(
        Stage::Syncing,
        &Inputs {
            pod: &pod,
            is_gone: false,
            eviction: Some(&eviction),
            observed: &running,
            probes: &ProbeResults::default(),
            is_prepared: true,
            is_torn_down: false,
            is_status_final: false,
        },
        now(),
    );
    assert_eq!(stage, Stage::Terminating(Ending { verdict: Some(eviction) }));
}

#[test]
fn roles() {
    let pod = a_pod(
        json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "c"}]}),
    );
    assert_eq!(record(&pod, "s", 0, RUNNING).role, Role::Sidecar);
}
