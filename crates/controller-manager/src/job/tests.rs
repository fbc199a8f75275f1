//! Tables of plans, and whole jobs in a faulty world.

use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::types::batch::v1::Job;
use api::types::core::v1::Pod;
use reconcile::simulation::{Dice, Feed, Replica, Simulation, World};
use reconcile::{Action, Moment, Plan};
use serde_json::{Value, json};

use super::{Observed, TRACKING, plan};
use crate::testing::{context, now, object, pod};

fn job(changes: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": "j", "namespace": "ns", "uid": "uid-job"},
        "spec": {
            "parallelism": 2, "completions": 3, "backoffLimit": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                         "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]}},
        },
    });
    api::patch::merge_patch(&mut job, changes);
    object(job)
}

fn owned(name: &str, phase: &str, tracked: bool) -> Pod {
    let finalizers: &[&str] = if tracked { &[TRACKING] } else { &[] };
    pod(
        name,
        json!({
            "metadata": {"finalizers": finalizers, "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "uid-job", "controller": true}]},
            "status": {"phase": phase},
        }),
    )
}

fn plan_of(job: &Job, pods: Vec<Pod>) -> Plan {
    let pods = pods.into_iter().map(Arc::new).collect();
    let observed = Observed { job: Some(Arc::new(job.clone())), pods, abandoned: vec![] };
    plan::plan(&observed, &Moment::at(now()))
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.actions.iter().map(Action::verb).collect()
}

fn told(plan: &Plan) -> Value {
    let status = |action: &Action| match action {
        Action::Patch { target, patch: client::Patch::Merge(patch) } if target.subresource == "status" => {
            Some(patch["status"].clone())
        }
        _ => None,
    };
    plan.actions.iter().find_map(status).unwrap_or_default()
}

fn says(plan: &Plan, kind: &str) -> bool {
    let conditions = told(plan)["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|one| one["type"] == kind && one["status"] == "True")
}

#[test]
fn pods_start_as_parallelism_and_completions_allow() {
    let table = [
        ("first two", json!({}), vec![], vec!["patch", "create", "create"]),
        ("suspended", json!({"spec": {"suspend": true}}), vec![], vec!["patch", "event"]),
        ("one runs", json!({}), vec![owned("a", "Running", true)], vec!["patch", "create"]),
        ("one left to do", json!({"status": {"succeeded": 2}}), vec![], vec!["patch", "create"]),
        (
            "too many",
            json!({"spec": {"parallelism": 0}}),
            vec![owned("a", "Running", true)],
            vec!["patch", "patch", "delete"],
        ),
    ];
    for (name, changes, pods, expected) in table {
        assert_eq!(verbs(&plan_of(&job(changes), pods)), expected, "{name}");
    }
}

#[test]
fn a_pod_is_counted_in_the_status_before_its_finalizer_goes() {
    let done = plan_of(&job(json!({})), vec![owned("a", "Succeeded", true)]);
    assert_eq!(verbs(&done), ["patch", "patch", "create", "create"]);
    assert_eq!(told(&done)["uncountedTerminatedPods"]["succeeded"], json!(["uid-a"]));
    assert!(told(&done).get("succeeded").is_none(), "not booked yet");
    let waiting = json!({"status": {"uncountedTerminatedPods": {"succeeded": ["uid-a"]}}});
    let booked = plan_of(&job(waiting.clone()), vec![owned("a", "Succeeded", false)]);
    assert_eq!(
        (told(&booked)["succeeded"].clone(), told(&booked)["uncountedTerminatedPods"].clone()),
        (json!(1), json!({"succeeded": null}))
    );
    let still = plan_of(&job(waiting), vec![owned("a", "Succeeded", true)]);
    assert!(told(&still).get("succeeded").is_none(), "counted once");
}

#[test]
fn the_end_is_declared_in_two_steps() {
    let all = json!({"status": {"succeeded": 3, "uncountedTerminatedPods": {}}});
    let complete = plan_of(&job(all.clone()), vec![]);
    assert!(says(&complete, "SuccessCriteriaMet") && says(&complete, "Complete"));
    let lingers = plan_of(&job(all), vec![owned("a", "Running", true)]);
    assert!(says(&lingers, "SuccessCriteriaMet") && !says(&lingers, "Complete"));
    assert!(verbs(&lingers).contains(&"delete"));
    let failed = json!({"status": {"failed": 3, "uncountedTerminatedPods": {}}});
    let fails = plan_of(&job(failed.clone()), vec![owned("a", "Running", true)]);
    assert!(says(&fails, "FailureTarget") && !says(&fails, "Failed"));
    let over = plan_of(&job(failed), vec![]);
    assert!(says(&over, "Failed") && format!("{over:?}").contains("BackoffLimitExceeded"));
    let late =
        json!({"spec": {"activeDeadlineSeconds": 60}, "status": {"startTime": "2026-11-23T11:00:00Z"}});
    assert!(format!("{:?}", plan_of(&job(late), vec![])).contains("DeadlineExceeded"));
}

#[test]
fn failures_delay_the_next_pod_more_and_more() {
    let failed = |name: &str, at: &str| {
        let mut pod = owned(name, "Failed", false);
        pod.status.get_or_insert_default().container_statuses = Some(vec![object(json!({
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": at}}}))]);
        pod
    };
    let one = plan_of(&job(json!({})), vec![failed("a", "2026-11-23T11:59:55Z")]);
    assert_eq!((verbs(&one), one.wake_after), (vec!["patch"], Some(Duration::from_secs(5))));
    let two = vec![failed("a", "2026-11-23T11:59:00Z"), failed("b", "2026-11-23T11:59:55Z")];
    assert_eq!(plan_of(&job(json!({})), two).wake_after, Some(Duration::from_secs(15)));
    let old = plan_of(&job(json!({})), vec![failed("a", "2026-11-23T11:59:00Z")]);
    assert_eq!(verbs(&old), ["patch", "create", "create"]);
}

#[test]
fn indexed_pods_know_their_index_and_each_counts_once() {
    let indexed = |changes: Value| {
        let mut all = json!({"spec": {"completionMode": "Indexed"}});
        api::patch::merge_patch(&mut all, changes);
        job(all)
    };
    let plan = plan_of(&indexed(json!({"status": {"completedIndexes": "0"}})), vec![]);
    let created: Vec<&Value> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Create { object, .. } => Some(object),
            _ => None,
        })
        .collect();
    let prefix: Vec<&Value> = created.iter().map(|pod| &pod["metadata"]["generateName"]).collect();
    assert_eq!(prefix, ["j-1-", "j-2-"]);
    assert_eq!(created[0]["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    let with_index = |name: &str| {
        let mut pod = owned(name, "Succeeded", true);
        pod.metadata.annotations = Some([(super::indexes::INDEX.to_owned(), "1".to_owned())].into());
        pod
    };
    let twice = plan_of(&indexed(json!({})), vec![with_index("a"), with_index("b")]);
    assert_eq!(told(&twice)["completedIndexes"], "1");
    assert_eq!(told(&twice)["uncountedTerminatedPods"]["succeeded"], json!(["uid-a"]));
}

#[test]
fn what_a_vanished_job_left_is_let_go() {
    let abandoned = vec![Arc::new(owned("a", "Running", true))];
    let plan = plan::plan(&Observed { job: None, pods: vec![], abandoned }, &Moment::at(now()));
    assert_eq!(verbs(&plan), ["patch"]);
}

fn replica() -> Replica {
    let context = context();
    let loops = vec![super::start(&context)];
    Replica { loops, feeds: vec![Feed::of(&context.caches.jobs()), Feed::of(&context.caches.pods())] }
}

/// Runs pods to their end; every fourth or so is deleted by a stranger when it
/// has ended, which must not confuse the count.
fn workers(world: &mut World, dice: &mut Dice) -> bool {
    let all: Vec<Pod> = world.list();
    let running: Vec<&Pod> = all.iter().filter(|pod| crate::pods::is_active(pod)).collect();
    if !running.is_empty() {
        let key = ObjectKey::of(running[dice.below(running.len())]);
        world.edit::<Pod>(&key, |pod| pod.set_at(&["status", "phase"], "Succeeded"));
        return true;
    }
    let gone = |pod: &&Pod| crate::pods::is_being_deleted(pod) && !super::counting::is_tracked(pod);
    if let Some(pod) = all.iter().find(gone) {
        world.take::<Pod>(&ObjectKey::of(pod));
        return true;
    }
    let ended: Vec<&Pod> = all.iter().filter(|pod| !crate::pods::is_being_deleted(pod)).collect();
    if !ended.is_empty() && dice.chance(25) {
        let target = ended[dice.below(ended.len())];
        world.act(&Action::delete(target)).expect("a deletion");
        return true;
    }
    false
}

#[test]
fn in_any_order_and_with_faults_each_success_counts_once() {
    for seed in 0..40 {
        let mut world = World::at(now());
        world.put(&job(json!({"spec": {"completions": 7, "parallelism": 3}})));
        let mut simulation = Simulation::new(seed, world, replica, Box::new(workers));
        simulation.disturb(500);
        simulation.settle(Duration::from_secs(30));
        let jobs: Vec<Job> = simulation.world.list();
        let status = jobs[0].status.clone().unwrap_or_default();
        assert_eq!((status.succeeded, status.failed), (Some(7), None), "seed {seed}");
        let complete =
            status.conditions.iter().flatten().any(|one| one.type_ == "Complete" && one.status == "True");
        assert!(complete, "seed {seed}: {status:?}");
    }
}
