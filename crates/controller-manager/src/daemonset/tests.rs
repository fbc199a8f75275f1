//! Tables of plans, and the loop in a faulty world.

use std::sync::Arc;
use std::time::Duration;

use api::types::apps::v1::{ControllerRevision, DaemonSet};
use api::types::core::v1::{Node, Pod};
use reconcile::simulation::{Feed, Replica, Simulation, World};
use reconcile::{Action, Moment, Plan};
use serde_json::{Value, json};

use super::{Observed, plan, template};
use crate::revisions::current;
use crate::testing::{context, kubelet, node, now, object, pod, running};

fn set(changes: Value) -> DaemonSet {
    let mut set = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "uid-set", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
        },
    });
    api::patch::merge_patch(&mut set, changes);
    object(set)
}

fn revision(set: &DaemonSet) -> ControllerRevision {
    let present = current(set, &[], None);
    let [Action::Create { object: created, .. }] = &present.actions[..] else {
        panic!("{:?}", present.actions)
    };
    object(created.clone())
}

fn hash(set: &DaemonSet) -> String {
    current(set, &[], None).hash
}

fn owned(name: &str, hash: &str, changes: Value) -> Pod {
    let mut all = json!({"metadata": {"labels": {template::HASH: hash}, "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "uid": "uid-set", "controller": true}]}});
    api::patch::merge_patch(&mut all, changes);
    pod(name, all)
}

fn plan_of(set: &DaemonSet, pods: Vec<Pod>, nodes: Vec<Node>) -> Plan {
    let observed = Observed {
        set: Arc::new(set.clone()),
        pods: pods.into_iter().map(Arc::new).collect(),
        nodes: nodes.into_iter().map(Arc::new).collect(),
        left: [("uid-later".to_owned(), Duration::from_secs(4))].into(),
        revisions: vec![Arc::new(revision(set))],
        namesake: None,
    };
    plan::plan(&observed, &Moment::at(now()))
}

fn shape(plan: &Plan) -> Vec<&'static str> {
    plan.actions.iter().map(Action::verb).filter(|verb| *verb != "patch").collect()
}

fn tainted(key: &str, effect: &str) -> Value {
    json!({"spec": {"taints": [{"key": key, "effect": effect}]}})
}

#[test]
fn each_node_that_fits_has_one_pod() {
    let set = set(json!({}));
    let now_hash = hash(&set);
    let on = |name: &str, node: &str| owned(name, &now_hash, running(node, "10.0.0.1", true));
    let plain = || node("a", json!({}));
    let table: Vec<(&str, Vec<Pod>, Node, Vec<&str>)> = vec![
        ("a node without pod", vec![], plain(), vec!["create"]),
        ("a node with its pod", vec![on("p", "a")], plain(), vec![]),
        ("two pods", vec![on("p", "a"), on("q", "a")], plain(), vec!["delete"]),
        ("a foreign taint keeps new ones out", vec![], node("a", tainted("x", "NoSchedule")), vec![]),
        ("but lets old ones stay", vec![on("p", "a")], node("a", tainted("x", "NoSchedule")), vec![]),
        ("unless it expels", vec![on("p", "a")], node("a", tainted("x", "NoExecute")), vec!["delete"]),
        (
            "cordoned nodes run daemons",
            vec![],
            node("a", tainted("node.kubernetes.io/unschedulable", "NoSchedule")),
            vec!["create"],
        ),
        (
            "a failed pod is replaced",
            vec![owned("p", &now_hash, json!({"spec": {"nodeName": "a"}, "status": {"phase": "Failed"}}))],
            plain(),
            vec!["event", "delete"],
        ),
        (
            "unless it is too soon",
            vec![owned(
                "later",
                &now_hash,
                json!({"spec": {"nodeName": "a"}, "status": {"phase": "Failed"}}),
            )],
            plain(),
            vec![],
        ),
    ];
    for (name, pods, node, expected) in table {
        assert_eq!(shape(&plan_of(&set, pods, vec![node])), expected, "{name}");
    }
}

#[test]
fn the_pod_is_pinned_to_its_node_and_tolerates_its_troubles() {
    let created = template::pod(&set(json!({})), "hash", "a");
    assert_eq!(template::node_of(&created).as_deref(), Some("a"));
    let tolerations = created.spec.and_then(|spec| spec.tolerations).unwrap_or_default();
    assert_eq!(tolerations.len(), 6);
}

#[test]
fn an_update_takes_down_no_more_than_allowed() {
    let set = set(json!({}));
    let new = hash(&set);
    let nodes = || vec![node("a", json!({})), node("b", json!({})), node("c", json!({}))];
    let on = |node: &str, hash: &str, ready| owned(node, hash, running(node, "10.0.0.1", ready));
    let all_old =
        plan_of(&set, vec![on("a", "old", true), on("b", "old", true), on("c", "old", true)], nodes());
    assert_eq!(shape(&all_old), ["delete"]);
    let waits =
        plan_of(&set, vec![on("a", &new, false), on("b", "old", true), on("c", "old", true)], nodes());
    assert_eq!(shape(&waits), [""; 0]);
    let broken =
        plan_of(&set, vec![on("a", &new, true), on("b", "old", false), on("c", "old", true)], nodes());
    assert_eq!(shape(&broken), ["delete"]);
    let mut on_delete = set;
    on_delete.spec.get_or_insert_default().update_strategy.get_or_insert_default().type_ =
        Some("OnDelete".into());
    let left =
        plan_of(&on_delete, vec![on("a", "old", true), on("b", "old", true), on("c", "old", true)], nodes());
    assert_eq!(shape(&left), [""; 0]);
}

#[test]
fn a_surge_starts_the_new_before_it_ends_the_old() {
    let strategy =
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}});
    let set = set(strategy);
    let new = hash(&set);
    let nodes = || vec![node("a", json!({})), node("b", json!({}))];
    let on = |name: &str, node: &str, hash: &str, ready| owned(name, hash, running(node, "10.0.0.1", ready));
    let first = plan_of(&set, vec![on("a", "a", "old", true), on("b", "b", "old", true)], nodes());
    assert_eq!(shape(&first), ["create"]);
    let waits = vec![on("a", "a", "old", true), on("a2", "a", &new, false), on("b", "b", "old", true)];
    assert_eq!(shape(&plan_of(&set, waits, nodes())), [""; 0]);
    let served = vec![on("a", "a", "old", true), on("a2", "a", &new, true), on("b", "b", "old", true)];
    assert_eq!(shape(&plan_of(&set, served, nodes())), ["delete"]);
}

#[test]
fn in_any_order_and_with_faults_each_node_ends_with_one_new_pod() {
    for seed in 0..15 {
        let mut world = World::at(now());
        for name in ["node-1", "node-2", "node-3"] {
            world.put(&node(name, json!({})));
        }
        world.put(&set(json!({})));
        let binds = |world: &mut World, dice: &mut reconcile::simulation::Dice| {
            for pod in world.list::<Pod>() {
                if crate::pods::node_name(&pod).is_empty() {
                    let node = template::node_of(&pod).unwrap_or_default();
                    world.edit::<Pod>(&api::ObjectKey::of(&pod), |pod| {
                        pod.set_at(&["spec", "nodeName"], node)
                    });
                    return true;
                }
            }
            kubelet(world, dice)
        };
        let mut simulation = Simulation::new(seed, world, replica, Box::new(binds));
        simulation.disturb(200);
        simulation.world.edit::<DaemonSet>(&api::ObjectKey::new("ns", "web"), |set| {
            set.set_at(&["spec", "template", "spec"], json!({"containers": [{"name": "c", "image": "two"}]}));
        });
        simulation.disturb(200);
        simulation.settle(Duration::from_secs(30));
        let sets: Vec<DaemonSet> = simulation.world.list();
        let status = sets[0].status.clone().unwrap_or_default();
        let counts =
            (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available);
        assert_eq!(counts, (3, Some(3), Some(3)), "seed {seed}");
        assert_eq!(simulation.world.list::<Pod>().len(), 3, "seed {seed}");
        assert_eq!(simulation.world.list::<ControllerRevision>().len(), 2, "seed {seed}");
    }
}

fn replica() -> Replica {
    let context = context();
    let loops = vec![super::start(&context)];
    let caches = &context.caches;
    let feeds = vec![
        Feed::of(&caches.daemon_sets()),
        Feed::of(&caches.pods()),
        Feed::of(&caches.nodes()),
        Feed::of(&caches.controller_revisions()),
    ];
    Replica { loops, feeds }
}
