//! Who has to go, and from where.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Attempt, Candidate, Preemption};
use crate::cluster::Cluster;
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::schedule::fitting;
use crate::testing::{cluster, info, labelled, node_json, plain_node, search};

/// A pod that asks for so many cores; on a node, if one is named.
fn pod(name: &str, cpu: &str, priority: i32, more: Value) -> Arc<PodInfo> {
    let mut pod = serde_json::to_value(labelled(name, json!({"app": "web"}), json!({"priority": priority})))
        .expect("encodes");
    pod["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
    api::patch::merge_patch(&mut pod, more);
    info(serde_json::from_value(pod).expect("a pod"))
}

fn on(node: &str) -> Value {
    json!({"spec": {"nodeName": node}})
}

fn started(node: &str, at: &str) -> Value {
    json!({"spec": {"nodeName": node}, "status": {"startTime": at}})
}

fn full(pods: &[Arc<PodInfo>]) -> Cluster {
    let mut cluster = cluster(["a", "b"].map(plain_node).into());
    for pod in pods {
        cluster.set_pod(pod);
    }
    cluster
}

fn attempt(cluster: &mut Cluster, pod: &PodInfo) -> Attempt {
    let (profile, mut search) = (Profile::default(), search());
    let snapshot = cluster.snapshot();
    let found = fitting(pod, snapshot, &profile, &mut search);
    assert!(found.nodes.is_empty(), "it fits without preemption");
    Preemption::default().attempt(pod, snapshot, found.checks.as_ref(), &found.diagnosis, &mut search)
}

fn chosen(cluster: &mut Cluster, pod: &PodInfo) -> (String, Vec<String>) {
    match attempt(cluster, pod) {
        Attempt::Found(candidates) => {
            let Candidate { node, victims, .. } = &candidates[0];
            (node.to_string(), victims.iter().map(|victim| victim.uid.clone()).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn words(cluster: &mut Cluster, pod: &PodInfo) -> String {
    match attempt(cluster, pod) {
        Attempt::NotMade(reason) => reason.to_owned(),
        Attempt::InVain(message) => message,
        Attempt::Found(candidates) => panic!("{candidates:?}"),
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_as_many_go_as_must_and_the_least_important() {
    let mut cluster = full(&[
        pod("a1", "2", 1, on("a")),
        pod("a2", "1", 2, on("a")),
        pod("a3", "1", 3, on("a")),
        pod("b1", "4", 20, on("b")),
    ]);
    assert_eq!(chosen(&mut cluster, &pod("p", "1", 10, json!({}))), ("a".to_owned(), names(&["a1"])));
    assert_eq!(chosen(&mut cluster, &pod("p", "3", 10, json!({}))), ("a".to_owned(), names(&["a2", "a1"])));
    assert_eq!(chosen(&mut cluster, &pod("p", "4", 30, json!({}))).0, "a");
}

#[test]
fn nobody_of_equal_or_higher_priority_goes() {
    let mut cluster = full(&[pod("a1", "4", 10, on("a")), pod("b1", "4", 11, on("b"))]);
    assert_eq!(
        words(&mut cluster, &pod("p", "1", 10, json!({}))),
        "0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    assert_eq!(chosen(&mut cluster, &pod("p", "1", 11, json!({}))), ("a".to_owned(), names(&["a1"])));
}

#[test]
fn what_does_not_help_is_told() {
    let mut cluster = full(&[pod("a1", "4", 1, on("a")), pod("a2", "0", 5, on("a"))]);
    // Larger than any node: nothing helps.
    assert_eq!(
        words(&mut cluster, &pod("p", "5", 10, json!({}))),
        "0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let mut cluster =
        full(&[pod("a1", "2", 1, on("a")), pod("a2", "2", 20, on("a")), pod("b1", "4", 20, on("b"))]);
    assert_eq!(
        words(&mut cluster, &pod("p", "3", 10, json!({}))),
        "0/2 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn a_pod_may_decline_to_preempt_or_wait_for_its_victims() {
    let mut cluster = full(&[pod("a1", "4", 1, on("a")), pod("b1", "4", 1, on("b"))]);
    let never = pod("p", "1", 10, json!({"spec": {"preemptionPolicy": "Never"}}));
    assert_eq!(words(&mut cluster, &never), "not eligible due to preemptionPolicy=Never.");
    let nominated = pod("p", "1", 10, json!({"status": {"nominatedNodeName": "a"}}));
    assert_eq!(chosen(&mut cluster, &nominated).1.len(), 1);
    let condition =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    let mut leaving = on("a");
    leaving["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    leaving["status"] = json!({"conditions": condition});
    cluster.set_pod(&pod("a1", "4", 1, leaving));
    assert_eq!(
        words(&mut cluster, &nominated),
        "not eligible due to a terminating pod on the nominated node."
    );
}

#[test]
fn nodes_are_chosen_by_upstreams_order() {
    let choose = |pods: &[Arc<PodInfo>]| chosen(&mut full(pods), &pod("p", "4", 10, json!({}))).0;
    // The highest victim is lower.
    assert_eq!(choose(&[pod("a1", "4", 3, on("a")), pod("b1", "4", 2, on("b"))]), "b");
    // The sum of priorities is smaller: fewer victims of the same priority.
    let two = [pod("a1", "2", 3, on("a")), pod("a2", "2", 3, on("a")), pod("b1", "4", 3, on("b"))];
    assert_eq!(choose(&two), "b");
    let negative = [pod("a1", "2", -3, on("a")), pod("a2", "2", -3, on("a")), pod("b1", "4", -3, on("b"))];
    assert_eq!(choose(&negative), "b");
    // The victim is younger.
    let (old, young) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    assert_eq!(choose(&[pod("a1", "4", 3, started("a", young)), pod("b1", "4", 3, started("b", old))]), "a");
    assert_eq!(choose(&[pod("a1", "4", 3, started("a", old)), pod("b1", "4", 3, on("b"))]), "b");
}

fn budget(cluster: &mut Cluster, allowed: i32, granted: Value) {
    let budget = json!({
        "metadata": {},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0,
                   "expectedPods": 0, "disruptedPods": granted},
    });
    let budget = serde_json::from_value(budget).expect("a budget");
    cluster.surroundings().budgets.set(&api::ObjectKey::new("ns", "b"), Some(&budget));
}

#[test]
fn budgets_are_kept_where_that_can_be() {
    let free = |name: &str, cpu: &str, node: &str| {
        let mut more = on(node);
        more["metadata"] = json!({"labels": {"app": "free"}});
        pod(name, cpu, 5, more)
    };
    // On one node: the pod under a budget stays, though it is less important.
    let mut cluster = full(&[pod("a1", "2", 1, on("a")), free("a2", "2", "a"), pod("b1", "4", 20, on("b"))]);
    budget(&mut cluster, 0, json!({}));
    assert_eq!(chosen(&mut cluster, &pod("p", "2", 10, json!({}))), ("a".to_owned(), names(&["a2"])));
    budget(&mut cluster, 1, json!({}));
    assert_eq!(chosen(&mut cluster, &pod("p", "2", 10, json!({}))), ("a".to_owned(), names(&["a1"])));
    // Between nodes: the one without a broken budget, though its victim is more important.
    let mut cluster = full(&[pod("a1", "4", 1, on("a")), free("b1", "4", "b")]);
    budget(&mut cluster, 0, json!({}));
    assert_eq!(chosen(&mut cluster, &pod("p", "2", 10, json!({}))), ("b".to_owned(), names(&["b1"])));
    budget(&mut cluster, 0, json!({"a1": "2026-01-01T00:00:00Z"}));
    assert_eq!(chosen(&mut cluster, &pod("p", "2", 10, json!({}))), ("a".to_owned(), names(&["a1"])));
    // Where it cannot be, it is broken.
    let mut cluster = full(&[pod("a1", "4", 1, on("a")), pod("b1", "4", 20, on("b"))]);
    budget(&mut cluster, 0, json!({}));
    assert_eq!(chosen(&mut cluster, &pod("p", "2", 10, json!({}))), ("a".to_owned(), names(&["a1"])));
}

#[test]
fn room_that_is_made_for_others_is_not_counted_twice() {
    let mut cluster = full(&[pod("a1", "4", 1, on("a")), pod("b1", "4", 20, on("b"))]);
    let other = pod("other", "3", 15, json!({}));
    cluster.nominate(&other, Some("a"));
    assert_eq!(chosen(&mut cluster, &pod("p", "1", 10, json!({}))).0, "a");
    assert_eq!(
        words(&mut cluster, &pod("p", "2", 10, json!({}))),
        "0/2 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn affinity_and_ports_are_judged_without_the_victims() {
    let away = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}]}}}});
    let mut cluster = Cluster::default();
    let big = json!({"cpu": "64", "memory": "8Gi", "pods": "10"});
    for (name, zone) in [("a", "1"), ("b", "2")] {
        cluster.set_node(&Arc::new(node_json(name, big.clone(), json!({}), json!({"zone": zone}))));
    }
    for one in [pod("a1", "1", 1, on("a")), pod("a2", "1", 1, on("a")), pod("b1", "1", 20, on("b"))] {
        cluster.set_pod(&one);
    }
    let found = chosen(&mut cluster, &pod("p", "1", 10, away));
    assert_eq!((found.0.as_str(), found.1.len()), ("a", 2));
}
