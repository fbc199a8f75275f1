//! Tables of plans, and a cron job's days in a faulty world.

use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::types::batch::v1::{CronJob, Job};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reconcile::simulation::{Dice, Feed, Replica, Simulation, World};
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::testing::{context, now, object, told_status};

fn cron_job(changes: Value) -> CronJob {
    let mut cron_job = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "uid-c", "creationTimestamp": "2026-11-23T11:30:30Z"},
        "spec": {
            "schedule": "0 * * * *",
            "concurrencyPolicy": "Allow",
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"note": "x"}},
                "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
            },
        },
    });
    api::patch::merge_patch(&mut cron_job, changes);
    object(cron_job)
}

/// Minutes since 1970 at the tests' present, which is on the hour.
fn minutes() -> i64 {
    now().as_second() / 60
}

fn job(name: &str, changes: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "uid-c", "controller": true}]},
        "spec": {"template": {}},
    });
    api::patch::merge_patch(&mut job, changes);
    object(job)
}

fn ended(name: &str, kind: &str, at: &str) -> Job {
    let mut status = json!({
        "startTime": at, "conditions": [{"type": kind, "status": "True"}]});
    if kind == "Complete" {
        status["completionTime"] = at.into();
    }
    job(name, json!({"status": status}))
}

fn active(names: &[&str]) -> Value {
    let references = names.iter().map(|name| json!({"name": name, "uid": format!("uid-{name}")}));
    json!({"status": {"active": references.collect::<Vec<_>>()}})
}

fn plan_at(cron_job: &CronJob, jobs: Vec<Job>, now: Timestamp) -> Plan {
    let jobs = jobs.into_iter().map(Arc::new).collect();
    plan::plan(&Observed { cron_job: Arc::new(cron_job.clone()), jobs, zone: TimeZone::UTC }, now)
}

/// What a plan does, and the reasons of its events.
fn shape(plan: &Plan) -> Vec<String> {
    let text = |action: &Action| match action {
        Action::Create { object, .. } => {
            format!("create {}", object["metadata"]["name"].as_str().unwrap_or_default())
        }
        Action::Event(note) => note.reason.clone(),
        other => format!("{} {}", other.verb(), other.target().map_or("", |target| target.name.as_str())),
    };
    plan.actions.iter().map(text).collect()
}

#[test]
fn a_job_starts_when_its_time_has_come() {
    let due = format!("create c-{}", minutes());
    let merged = |mut one: Value, other: Value| {
        api::patch::merge_patch(&mut one, other);
        one
    };
    let forbid = json!({"spec": {"concurrencyPolicy": "Forbid"}});
    let replace = json!({"spec": {"concurrencyPolicy": "Replace"}});
    let table: Vec<(&str, Value, Vec<Job>, Vec<&str>)> = vec![
        ("now", json!({}), vec![], vec![&due]),
        (
            "not yet",
            json!({"spec": {"schedule": "1 * * * *"}, "metadata": {"creationTimestamp": "2026-11-23T11:59:00Z"}}),
            vec![],
            vec![],
        ),
        ("once only", json!({"status": {"lastScheduleTime": "2026-11-23T12:00:00Z"}}), vec![], vec![]),
        ("suspended", json!({"spec": {"suspend": true}}), vec![], vec![]),
        ("going", json!({"metadata": {"deletionTimestamp": "2026-11-23T11:00:00Z"}}), vec![], vec![]),
        ("beside another", active(&["a"]), vec![job("a", json!({}))], vec![&due]),
        (
            "not beside another",
            merged(forbid.clone(), active(&["a"])),
            vec![job("a", json!({}))],
            vec!["JobAlreadyActive"],
        ),
        (
            "after another",
            merged(forbid, active(&["a"])),
            vec![ended("a", "Complete", "2026-11-23T11:00:00Z")],
            vec!["patch c", "SawCompletedJob", &due],
        ),
        (
            "instead of another",
            merged(replace, active(&["a"])),
            vec![job("a", json!({}))],
            vec!["patch c", "delete a", &due],
        ),
        ("nonsense", json!({"spec": {"schedule": "x"}}), vec![], vec!["UnparseableSchedule"]),
        ("never", json!({"spec": {"schedule": "0 0 31 2 *"}}), vec![], vec!["InvalidSchedule"]),
        ("nowhere", json!({"spec": {"timeZone": "Nowhere/Else"}}), vec![], vec!["UnknownTimeZone"]),
        (
            "an old way to say where",
            json!({"spec": {"schedule": "TZ=UTC 0 * * * *"}}),
            vec![],
            vec!["UnsupportedSchedule", &due],
        ),
        (
            "elsewhere",
            json!({"spec": {"schedule": "30 17 * * *", "timeZone": "Asia/Kolkata"}}),
            vec![],
            vec![&due],
        ),
    ];
    for (name, changes, jobs, expected) in table {
        assert_eq!(shape(&plan_at(&cron_job(changes), jobs, now())), expected, "{name}");
    }
}

#[test]
fn a_late_start_has_its_limits() {
    let late: Timestamp = "2026-11-23T12:00:20Z".parse().expect("a time");
    let start = |seconds: i64, now| {
        shape(&plan_at(&cron_job(json!({"spec": {"startingDeadlineSeconds": seconds}})), vec![], now))
    };
    assert_eq!(start(30, late), [format!("create c-{}", minutes())]);
    assert_eq!(start(10, late), [""; 0], "its time is no longer looked for");
    let since = |last: &str, deadline: Value| {
        let spec = json!({"spec": {"schedule": "* * * * *", "startingDeadlineSeconds": deadline}, "status": {"lastScheduleTime": last}});
        shape(&plan_at(&cron_job(spec), vec![], now()))
    };
    assert_eq!(since("2026-11-23T11:50:00Z", Value::Null), [format!("create c-{}", minutes())]);
    assert_eq!(
        since("2026-11-23T08:00:00Z", Value::Null),
        ["TooManyMissedTimes".to_owned(), format!("create c-{}", minutes())]
    );
    assert_eq!(since("2026-11-23T08:00:00Z", json!(200)), [format!("create c-{}", minutes())]);
}

#[test]
fn it_looks_again_a_little_after_the_next_time() {
    let wake = |changes: Value| plan_at(&cron_job(changes), vec![], now()).wake_after;
    assert_eq!(wake(json!({})), Some(Duration::from_millis(3_600_100)));
    assert_eq!(wake(json!({"spec": {"schedule": "1 * * * *", "suspend": true}})), None);
    let quarter = json!({"spec": {"schedule": "15 * * * *"}, "metadata": {"creationTimestamp": "2026-11-23T11:59:00Z"}});
    assert_eq!(wake(quarter), Some(Duration::from_millis(900_100)));
}

#[test]
fn the_job_is_made_from_the_template() {
    let stamp = |zone: Value| {
        let plan =
            plan_at(&cron_job(json!({"spec": {"schedule": "@hourly", "timeZone": zone}})), vec![], now());
        let created = plan.actions.iter().find_map(|action| match action {
            Action::Create { object, .. } => Some(object.clone()),
            _ => None,
        });
        created.unwrap_or_default()["metadata"].clone()
    };
    let plain = stamp(Value::Null);
    assert_eq!(plain["labels"], json!({"app": "web"}));
    assert_eq!(
        plain["annotations"],
        json!({"note": "x", "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-11-23T12:00:00Z"})
    );
    assert_eq!(plain["ownerReferences"][0]["uid"], "uid-c");
    let berlin = &stamp(json!("Europe/Berlin"))["annotations"];
    assert_eq!(berlin["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-11-23T13:00:00+01:00");
}

#[test]
fn the_status_follows_the_jobs() {
    let name = format!("c-{}", minutes());
    let annotated = json!({"metadata": {"annotations": {
        "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-11-23T12:00:00Z"}}});
    let started = plan_at(&cron_job(json!({})), vec![job(&name, annotated.clone())], now());
    assert_eq!(shape(&started), ["patch c"]);
    assert_eq!(told_status(&started)["lastScheduleTime"], "2026-11-23T12:00:00Z");
    assert_eq!(told_status(&started)["active"][0]["uid"], format!("uid-{name}"));
    let mut quick = ended(&name, "Complete", "2026-11-23T12:00:01Z");
    quick.metadata.annotations = job(&name, annotated).metadata.annotations;
    let done = plan_at(&cron_job(json!({})), vec![quick], now());
    assert_eq!(shape(&done), ["patch c", "SawCompletedJob"]);
    assert_eq!(told_status(&done)["lastSuccessfulTime"], "2026-11-23T12:00:01Z");
    let served = json!({"status": {"lastScheduleTime": "2026-11-23T12:00:00Z"}});
    assert_eq!(
        shape(&plan_at(&cron_job(served.clone()), vec![job("by-hand", json!({}))], now())),
        ["UnexpectedJob"]
    );
    let mut lost = served;
    api::patch::merge_patch(&mut lost, active(&["a"]));
    let lost = plan_at(&cron_job(lost), vec![], now());
    assert_eq!(
        (shape(&lost), told_status(&lost)),
        (
            vec!["patch c".to_owned(), "MissingJob".to_owned()],
            json!({"active": null, "lastScheduleTime": "2026-11-23T12:00:00Z"})
        )
    );
}

#[test]
fn the_history_is_kept_short() {
    let served = |changes: Value| {
        let mut all = json!({"status": {"lastScheduleTime": "2026-11-23T12:00:00Z", "lastSuccessfulTime": "2026-11-23T12:00:00Z"}});
        api::patch::merge_patch(&mut all, changes);
        cron_job(all)
    };
    let jobs = || {
        vec![
            ended("s3", "Complete", "2026-11-23T08:03:00Z"),
            ended("s1", "Complete", "2026-11-23T08:01:00Z"),
            ended("s2", "Complete", "2026-11-23T08:02:00Z"),
            ended("f2", "Failed", "2026-11-23T08:02:00Z"),
            ended("f1", "Failed", "2026-11-23T08:01:00Z"),
        ]
    };
    assert_eq!(shape(&plan_at(&served(json!({})), jobs(), now())), ["delete f1"]);
    let none = json!({"spec": {"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}});
    assert_eq!(
        shape(&plan_at(&served(none), jobs(), now())),
        ["delete s1", "delete s2", "delete f1", "delete f2"]
    );
    let mut unlimited = served(json!({}));
    unlimited.spec.successful_jobs_history_limit = None;
    unlimited.spec.failed_jobs_history_limit = None;
    assert_eq!(shape(&plan_at(&unlimited, jobs(), now())), [""; 0]);
}

fn replica() -> Replica {
    let context = context();
    let loops = vec![super::start(&context)];
    Replica { loops, feeds: vec![Feed::of(&context.caches.cron_jobs()), Feed::of(&context.caches.jobs())] }
}

/// Ends jobs that run, and takes away those that are being deleted.
fn workers(world: &mut World, dice: &mut Dice) -> bool {
    let running: Vec<Job> =
        world.list::<Job>().into_iter().filter(|job| crate::job::finished(job).is_none()).collect();
    if running.is_empty() {
        return false;
    }
    let at = api::time::format(world.now);
    world.edit::<Job>(&ObjectKey::of(&running[dice.below(running.len())]), |job| {
        let end = json!([{"type": "Complete", "status": "True"}]);
        job.set_at(&["status"], json!({"startTime": at, "completionTime": at, "conditions": end}));
    });
    true
}

#[test]
fn in_any_order_and_with_faults_each_time_is_served_once() {
    for seed in 0..30 {
        let mut world = World::at(now());
        let every_minute =
            json!({"metadata": {"creationTimestamp": null}, "spec": {"schedule": "* * * * *"}});
        world.put(&cron_job(every_minute));
        let mut simulation = Simulation::new(seed, world, replica, Box::new(workers));
        for _ in 0..6 {
            simulation.disturb(60);
            simulation.settle(Duration::from_secs(20));
        }
        let created = simulation.world.history().iter().filter(|change| {
            change.resource.1 == "jobs"
                && change.object.as_ref().is_some_and(|job| job.get("status").is_none())
        });
        let mut names: Vec<String> = created.map(|change| change.key.name.clone()).collect();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "seed {seed}: {names:?}");
        assert!(all >= 2, "seed {seed}: {names:?}");
        let status = simulation.world.list::<CronJob>()[0].status.clone().unwrap_or_default();
        assert_eq!(status.active, None, "seed {seed}");
        assert!(status.last_successful_time.is_some(), "seed {seed}");
        assert!(simulation.world.list::<Job>().len() <= 3, "seed {seed}");
    }
}
