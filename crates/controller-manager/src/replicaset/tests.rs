//! Tables of plans, and the loop in a faulty world.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::Pod;
use reconcile::simulation::{Feed, Replica, Simulation, World};
use reconcile::{Failure, Moment, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::pods;
use crate::testing::{context, kubelet, now, pod, replica_set, running};

fn owned(name: &str, changes: Value) -> Arc<Pod> {
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "uid-set", "controller": true,
    }]);
    let mut all = json!({"metadata": {"ownerReferences": owner}});
    api::patch::merge_patch(&mut all, changes);
    Arc::new(pod(name, all))
}

fn plan_of(replicas: i32, pods: Vec<Arc<Pod>>, failure: Option<Failure>) -> Plan {
    let observed = Observed { keeper: Arc::new(replica_set(replicas)), pods, neighbours: HashMap::new() };
    plan::plan(&observed, &Moment { now: now(), failure })
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.actions.iter().map(reconcile::Action::verb).collect()
}

#[test]
fn pods_are_created_deleted_adopted_and_released() {
    let ended = json!({"status": {"phase": "Failed"}});
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-11-23T11:59:00Z"}});
    let strange = json!({"metadata": {"labels": {"app": "other"}}});
    let table: Vec<(&str, i32, Vec<Arc<Pod>>, Vec<&str>)> = vec![
        ("none there", 2, vec![], vec!["create", "create", "patch"]),
        ("one too many", 0, vec![owned("a", json!({}))], vec!["delete", "patch"]),
        ("ended ones are replaced", 1, vec![owned("a", ended)], vec!["create", "patch"]),
        ("leaving ones are replaced", 1, vec![owned("a", leaving)], vec!["create", "patch"]),
        ("orphans are adopted", 1, vec![Arc::new(pod("a", json!({})))], vec!["patch", "patch"]),
        ("strangers are released", 1, vec![owned("a", strange)], vec!["patch", "create", "patch"]),
    ];
    for (name, replicas, pods, expected) in table {
        assert_eq!(verbs(&plan_of(replicas, pods, None)), expected, "{name}");
    }
    assert_eq!(plan_of(2000, vec![], None).actions.len(), 501, "a batch and the status");
}

#[test]
fn a_failure_is_told_before_it_is_tried_again() {
    let failure = Failure { verb: "create", message: "no quota".to_owned() };
    let plan = plan_of(1, vec![], Some(failure));
    assert_eq!(verbs(&plan), ["patch", "create"]);
    let text = format!("{:?}", plan.actions[0]);
    assert!(
        text.contains("ReplicaFailure") && text.contains("FailedCreate") && text.contains("no quota"),
        "{text}"
    );
}

#[test]
fn the_least_useful_pod_goes_first() {
    let cost = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}});
    let mut cheap = running("node-1", "10.0.0.3", true);
    api::patch::merge_patch(&mut cheap, cost);
    let mut restarted = running("node-3", "10.0.0.4", true);
    api::patch::merge_patch(
        &mut restarted,
        json!({"status": {"containerStatuses": [
        {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3}]}}),
    );
    let best = owned("best", running("node-3", "10.0.0.5", true));
    let crowded = owned("crowded", running("node-1", "10.0.0.6", true));
    let all = [
        best,
        owned("restarted", restarted),
        crowded,
        owned("cheap", cheap),
        owned("unready", running("node-2", "10.0.0.2", false)),
        owned("unscheduled", json!({})),
    ];
    let neighbours = HashMap::from([("node-1".to_owned(), 2), ("node-3".to_owned(), 1)]);
    let order = plan::ranked(&all.iter().collect::<Vec<_>>(), &neighbours, now());
    let names: Vec<&str> = order.iter().map(|pod| pods::name(pod)).collect();
    assert_eq!(names, ["unscheduled", "unready", "cheap", "crowded", "restarted", "best"]);
}

#[test]
fn availability_is_looked_at_again_when_it_may_come() {
    let mut set = replica_set(1);
    set.spec.get_or_insert_default().min_ready_seconds = Some(3600);
    let pods = vec![owned("a", running("node-1", "10.0.0.1", true))];
    let observed = Observed { keeper: Arc::new(set), pods, neighbours: HashMap::new() };
    let plan = plan::plan(&observed, &Moment::at(now()));
    assert_eq!(plan.wake_after, Some(Duration::from_secs(1800)));
    let text = format!("{plan:?}");
    assert!(text.contains("readyReplicas") && !text.contains("availableReplicas"), "{text}");
}

#[test]
fn in_any_order_and_with_faults_there_are_as_many_pods_as_asked_for() {
    for seed in 0..40 {
        let mut world = World::at(now());
        world.put(&replica_set(5));
        let mut simulation = Simulation::new(seed, world, replica, Box::new(kubelet));
        simulation.disturb(300);
        let key = api::ObjectKey::new("ns", "web");
        let size = [2, 9, 0][seed as usize % 3];
        simulation.world.edit::<api::types::apps::v1::ReplicaSet>(&key, |set| {
            set.set_at(&["spec", "replicas"], size);
        });
        simulation.disturb(300);
        simulation.settle(Duration::from_secs(30));
        let pods: Vec<Pod> = simulation.world.list();
        assert_eq!(pods.len(), size, "seed {seed}");
        let created = simulation.world.history().iter().filter(|change| {
            change.resource.1 == "pods"
                && change.object.as_ref().is_some_and(|pod| {
                    pod["metadata"]["generation"] == 1
                        && pod["spec"]["nodeName"].is_null()
                        && pod["metadata"]["deletionTimestamp"].is_null()
                })
        });
        assert_eq!(created.count(), 5.max(size), "seed {seed}: nothing is created twice");
        let sets: Vec<api::types::apps::v1::ReplicaSet> = simulation.world.list();
        let status = sets[0].status.clone().unwrap_or_default();
        assert_eq!(
            (status.replicas as usize, status.ready_replicas.unwrap_or(0) as usize),
            (size, size),
            "seed {seed}"
        );
    }
}

fn replica() -> Replica {
    let context = context();
    let loops = vec![super::start(&context)];
    Replica { loops, feeds: vec![Feed::of(&context.caches.replica_sets()), Feed::of(&context.caches.pods())] }
}

#[test]
fn replication_controllers_keep_pods_too() {
    let keeper = |labels: Value| -> Arc<api::types::core::v1::ReplicationController> {
        let value = json!({
            "metadata": {"name": "old", "namespace": "default", "uid": "uid-old", "generation": 2},
            "spec": {"replicas": 2, "selector": labels, "template": {"metadata": {"labels": {"app": "web"}}}},
            "status": {"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]},
        });
        Arc::new(serde_json::from_value(value).expect("a replication controller"))
    };
    let moment = Moment { now: now(), failure: None };
    let plan_for = |labels: Value| {
        let pods = vec![Arc::new(pod("a", json!({})))];
        plan::plan(&Observed { keeper: keeper(labels), pods, neighbours: HashMap::new() }, &moment)
    };
    let plan = plan_for(json!({"app": "web"}));
    assert_eq!(verbs(&plan), ["patch", "create", "patch"], "one is adopted, one is made, and it is told");
    let text = format!("{:?}", plan.actions);
    assert!(text.contains("ReplicationController") && !text.contains("terminatingReplicas"), "{text}");
    assert_eq!(
        verbs(&plan_for(json!({}))),
        ["create", "create", "patch"],
        "an empty selector selects nothing"
    );
}
