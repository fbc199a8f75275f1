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
use crate::testing::{context, now, object, pod, told_status};

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

fn says(plan: &Plan, kind: &str) -> bool {
    let conditions = told_status(plan)["conditions"].as_array().cloned().unwrap_or_default();
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
    assert_eq!(told_status(&done)["uncountedTerminatedPods"]["succeeded"], json!(["uid-a"]));
    assert!(told_status(&done).get("succeeded").is_none(), "not booked yet");
    let waiting = json!({"status": {"uncountedTerminatedPods": {"succeeded": ["uid-a"]}}});
    let booked = plan_of(&job(waiting.clone()), vec![owned("a", "Succeeded", false)]);
    assert_eq!(
        (told_status(&booked)["succeeded"].clone(), told_status(&booked)["uncountedTerminatedPods"].clone()),
        (json!(1), json!({"succeeded": null}))
    );
    let still = plan_of(&job(waiting), vec![owned("a", "Succeeded", true)]);
    assert!(told_status(&still).get("succeeded").is_none(), "counted once");
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
    assert_eq!(
        (&told_status(&twice)["completedIndexes"], &told_status(&twice)["succeeded"]),
        (&json!("1"), &json!(1))
    );
    assert_eq!(told_status(&twice)["uncountedTerminatedPods"], json!({}), "the index says it all");
}

fn indexed(changes: Value) -> Job {
    let mut all = json!({"spec": {"completionMode": "Indexed"}});
    api::patch::merge_patch(&mut all, changes);
    job(all)
}

/// A pod of an index that ended a minute ago with a code, after others of its index.
fn failed_pod(name: &str, index: i32, code: i32, before: i32) -> Pod {
    let mut pod = owned(name, "Failed", true);
    pod.metadata.annotations = Some(
        [
            (super::indexes::INDEX.to_owned(), index.to_string()),
            ("batch.kubernetes.io/job-index-failure-count".to_owned(), before.to_string()),
        ]
        .into(),
    );
    pod.status.get_or_insert_default().container_statuses = Some(vec![object(json!({
        "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "finishedAt": "2026-11-23T11:59:00Z"}}}))]);
    pod
}

fn rule(action: &str, code: i32) -> Value {
    json!({"spec": {"podFailurePolicy": {"rules": [
        {"action": action, "onExitCodes": {"operator": "In", "values": [code]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]}}})
}

#[test]
fn the_failure_policy_decides_what_a_failure_does() {
    let uncounted = |policy: Value, pod: Pod| {
        let plan = plan_of(&job(policy), vec![pod]);
        let target = says(&plan, "FailureTarget");
        (
            told_status(&plan)["uncountedTerminatedPods"]["failed"].clone(),
            target,
            verbs(&plan).contains(&"create"),
        )
    };
    let of_code = |code| failed_pod("a", 0, code, 0);
    let counted = json!(["uid-a"]);
    assert_eq!(uncounted(rule("Count", 7), of_code(7)), (counted.clone(), false, true));
    assert_eq!(uncounted(rule("Ignore", 7), of_code(7)), (Value::Null, false, true));
    assert_eq!(uncounted(rule("Ignore", 7), of_code(8)), (counted.clone(), false, true));
    assert_eq!(uncounted(rule("FailJob", 7), of_code(7)), (counted, true, false));
    let mut evicted = of_code(143);
    evicted.status.get_or_insert_default().conditions =
        Some(vec![object(json!({"type": "DisruptionTarget", "status": "True"}))]);
    assert_eq!(uncounted(rule("FailJob", 7), evicted), (Value::Null, false, true));
    let fails = plan_of(&job(rule("FailJob", 7)), vec![of_code(7)]);
    let message = "Container c for pod ns/a failed with exit code 7 matching FailJob rule at index 0";
    assert_eq!(told_status(&fails)["conditions"][0]["message"], message);
}

#[test]
fn each_index_has_its_own_limit() {
    let limited = |changes: Value| {
        let mut all =
            json!({"spec": {"backoffLimit": i32::MAX, "backoffLimitPerIndex": 1, "parallelism": 1}});
        api::patch::merge_patch(&mut all, changes);
        indexed(all)
    };
    let first = plan_of(&limited(json!({})), vec![failed_pod("a", 0, 1, 0)]);
    assert_eq!(verbs(&first), ["patch", "create"], "the failed pod is kept for its replacement");
    assert_eq!(told_status(&first)["failedIndexes"], "");
    let Some(Action::Create { object, .. }) = first.actions.last() else { panic!("{first:?}") };
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["batch.kubernetes.io/job-index-failure-count"], "1");
    let mut next = owned("b", "Running", true);
    next.metadata.annotations = Some([(super::indexes::INDEX.to_owned(), "0".to_owned())].into());
    let replaced = plan_of(&limited(json!({})), vec![failed_pod("a", 0, 1, 0), next]);
    assert_eq!(verbs(&replaced), ["patch", "patch"], "now it is counted");
    let spent = plan_of(&limited(json!({})), vec![failed_pod("a", 0, 1, 1)]);
    assert_eq!(told_status(&spent)["failedIndexes"], "0");
    assert_eq!(verbs(&spent), ["patch", "patch", "create"], "another index goes on");
    let doomed = plan_of(&limited(rule("FailIndex", 7)), vec![failed_pod("a", 0, 7, 0)]);
    assert_eq!(told_status(&doomed)["failedIndexes"], "0");
    let most = plan_of(&limited(json!({"spec": {"maxFailedIndexes": 0}})), vec![failed_pod("a", 0, 1, 1)]);
    assert!(format!("{most:?}").contains("MaxFailedIndexesExceeded"));
    let over = json!({"status": {"completedIndexes": "1,2", "failedIndexes": "0"}});
    assert!(format!("{:?}", plan_of(&limited(over), vec![])).contains("FailedIndexes"));
}

#[test]
fn a_success_policy_ends_the_job_early() {
    let ends = |rules: Value, done: &str| {
        let policy = json!({"spec": {"completions": 5, "successPolicy": {"rules": rules}},
                            "status": {"completedIndexes": done}});
        let mut running = owned("a", "Running", true);
        running.metadata.annotations = Some([(super::indexes::INDEX.to_owned(), "4".to_owned())].into());
        let plan = plan_of(&indexed(policy), vec![running]);
        let stops = verbs(&plan).contains(&"delete");
        assert_eq!(says(&plan, "SuccessCriteriaMet"), stops);
        stops
    };
    let indexes = |text: &str| json!([{"succeededIndexes": text}]);
    assert!(ends(indexes("0,2"), "0-2"));
    assert!(!ends(indexes("0,3"), "0-2"));
    assert!(ends(json!([{"succeededCount": 2}]), "0,1"));
    assert!(!ends(json!([{"succeededCount": 2}]), "0"));
    assert!(ends(json!([{"succeededIndexes": "0-4", "succeededCount": 1}]), "3"));
    assert!(!ends(json!([{"succeededIndexes": "9"}]), "3"));
}

#[test]
fn a_suspended_job_has_no_pods_and_no_time_runs() {
    let running = || vec![owned("a", "Running", true)];
    let suspended = json!({"spec": {"suspend": true}, "status": {"startTime": "2026-11-23T11:00:00Z"}});
    let stops = plan_of(&job(suspended), running());
    assert_eq!(verbs(&stops), ["patch", "event", "patch", "delete"], "let go uncounted");
    assert_eq!(
        (&told_status(&stops)["startTime"], &told_status(&stops)["terminating"]),
        (&Value::Null, &json!(1))
    );
    let resumed =
        plan_of(&job(json!({"status": {"conditions": [{"type": "Suspended", "status": "True"}]}})), vec![]);
    assert_eq!(told_status(&resumed)["startTime"], "2026-11-23T12:00:00Z");
    assert_eq!(told_status(&resumed)["conditions"][0]["status"], "False");
}

#[test]
fn deleted_pods_are_replaced_when_the_policy_says() {
    let leaving = || {
        let mut pod = owned("a", "Running", true);
        pod.metadata.deletion_timestamp = Some(crate::status::time(now()));
        vec![pod]
    };
    let creates = |changes: Value| {
        let plan = plan_of(&job(changes), leaving());
        verbs(&plan).iter().filter(|verb| **verb == "create").count()
    };
    assert_eq!(creates(json!({"spec": {"podReplacementPolicy": "Failed"}})), 1);
    assert_eq!(creates(rule("Ignore", 7)), 1, "as with a failure policy");
    let now = plan_of(&job(json!({})), leaving());
    assert_eq!(told_status(&now)["uncountedTerminatedPods"]["failed"], json!(["uid-a"]));
}

#[test]
fn orphans_are_taken_with_the_finalizer_and_strangers_let_go_of_it() {
    let mut orphan = owned("a", "Running", false);
    orphan.metadata.owner_references = None;
    let mut stranger = owned("b", "Running", true);
    stranger.metadata.labels = Some([("app".to_owned(), "other".to_owned())].into());
    let plan = plan_of(&job(json!({})), vec![orphan, stranger]);
    let finalizers = |action: &Action| match action {
        Action::Patch { target, patch: client::Patch::Merge(patch) } if target.subresource.is_empty() => {
            Some((target.name.clone(), patch["metadata"]["finalizers"].clone()))
        }
        _ => None,
    };
    let found: Vec<(String, Value)> = plan.actions.iter().filter_map(finalizers).collect();
    assert_eq!(found, [("a".to_owned(), json!([TRACKING])), ("b".to_owned(), json!([]))]);
}

#[test]
fn jobs_of_other_managers_are_left_alone() {
    let managed = |by: &str| verbs(&plan_of(&job(json!({"spec": {"managedBy": by}})), vec![])).len();
    assert_eq!(managed("example.com/other"), 0);
    assert!(managed("kubernetes.io/job-controller") > 0);
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

/// Ends pods one way or the other.
fn fallible_workers(world: &mut World, dice: &mut Dice) -> bool {
    let all: Vec<Pod> = world.list();
    let running: Vec<&Pod> = all.iter().filter(|pod| crate::pods::is_active(pod)).collect();
    if running.is_empty() {
        return false;
    }
    let phase = if dice.chance(40) { "Failed" } else { "Succeeded" };
    let key = ObjectKey::of(running[dice.below(running.len())]);
    world.edit::<Pod>(&key, |pod| pod.set_at(&["status", "phase"], phase));
    true
}

#[test]
fn in_any_order_and_with_faults_each_failure_counts_once() {
    for seed in 0..25 {
        let mut world = World::at(now());
        world.put(&job(json!({"spec": {"completions": 5, "parallelism": 2, "backoffLimit": 1000}})));
        let mut simulation = Simulation::new(seed, world, replica, Box::new(fallible_workers));
        simulation.disturb(300);
        simulation.settle(Duration::from_secs(700));
        let ended = |phase: &str| {
            let pods: Vec<Pod> = simulation.world.list();
            i32::try_from(pods.iter().filter(|pod| crate::pods::phase(pod) == phase).count())
                .expect("few pods")
        };
        let status = simulation.world.list::<Job>()[0].status.clone().unwrap_or_default();
        assert_eq!(status.succeeded, Some(5), "seed {seed}");
        assert_eq!(status.failed.unwrap_or_default(), ended("Failed"), "seed {seed}");
        assert_eq!(ended("Succeeded"), 5, "seed {seed}");
        assert!(status.conditions.iter().flatten().any(|one| one.type_ == "Complete"), "seed {seed}");
    }
}
