//! A table for each plugin.

mod interpod;
mod resources;
mod spread;

use std::sync::Arc;

use serde_json::{Value, json};

use super::affinity::NodeAffinity;
use super::features::NodeDeclaredFeatures;
use super::images::ImageLocality;
use super::name::{NodeName, NodeUnschedulable};
use super::ports::NodePorts;
use super::taints::TaintToleration;
use super::{Filter, Plugin, Prepared, Score, stretch};
use crate::cluster::Cluster;
use crate::events::Event;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::testing::{node_json, on_node, pod_info, pod_json};

/// A plugin with default arguments.
pub(super) fn plain<P: Plugin>() -> P {
    with::<P>(json!({}))
}

fn with<P: Plugin>(args: Value) -> P {
    P::new(serde_json::from_value(args).expect("arguments")).unwrap_or_else(|error| panic!("{error}"))
}

fn complaint<P: Plugin>(args: Value) -> String {
    match serde_json::from_value(args) {
        Ok(args) => P::new(args).err().unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

/// What a filter has against a node of a cluster.
pub(super) fn objection<F: Filter>(
    filter: &F,
    pod: &PodInfo,
    snapshot: &Snapshot,
    node: &str,
) -> Option<String> {
    let node = snapshot.node(node).expect("the node is there");
    let objection = match filter.prepare(pod, snapshot) {
        Prepared::Indifferent => None,
        Prepared::Facts(facts) | Prepared::Only(_, facts) => filter.check(&facts, node).err(),
        Prepared::Refused(objection) => Some(objection),
    };
    objection.map(|objection| objection.reasons.iter().map(|one| &*one.text).collect::<Vec<_>>().join(", "))
}

/// Scores of nodes of a cluster, brought into the range.
fn scores<S: Score>(score: &S, pod: &PodInfo, snapshot: &Snapshot, nodes: &[&str]) -> Option<Vec<i64>> {
    let nodes: Vec<&NodeInfo> = nodes.iter().filter_map(|node| snapshot.node(node)).collect();
    let facts = score.prepare(pod, snapshot, &nodes)?;
    let mut scores: Vec<i64> = nodes.iter().map(|node| score.score(&facts, node)).collect();
    score.normalize(&mut scores);
    Some(scores)
}

fn one_node(spec: Value, labels: Value) -> Cluster {
    let allocatable =
        json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "1Gi", "x.io/gpu": "2", "pods": "2"});
    crate::testing::cluster(vec![node_json("n1", allocatable, spec, labels)])
}

fn against<F: Filter>(spec: Value, cluster: &mut Cluster) -> Option<String> {
    objection(&plain::<F>(), &pod_info("p", spec), cluster.snapshot(), "n1")
}

fn raw_score<S: Score>(score: &S, spec: Value, cluster: &mut Cluster) -> i64 {
    let snapshot = cluster.snapshot();
    let node = snapshot.node("n1").expect("the node is there");
    let facts = score.prepare(&pod_info("p", spec), snapshot, &[node]);
    facts.map_or(0, |facts| score.score(&facts, node))
}

fn bare(spec: Value, labels: Value) -> NodeInfo {
    NodeInfo::new(Arc::new(node_json("n1", json!({"cpu": "4", "pods": "9"}), spec, labels)))
}

#[test]
fn node_name() {
    let mut cluster = one_node(json!({}), json!({}));
    for (spec, fits) in
        [(json!({}), true), (json!({"nodeName": "n1"}), true), (json!({"nodeName": "n2"}), false)]
    {
        assert_eq!(against::<NodeName>(spec.clone(), &mut cluster).is_none(), fits, "{spec}");
    }
}

#[test]
fn unschedulable() {
    let mut closed = one_node(json!({"unschedulable": true}), json!({}));
    let words = against::<NodeUnschedulable>(json!({}), &mut closed);
    assert_eq!(words.as_deref(), Some("node(s) were unschedulable"));
    let tolerates =
        json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
    assert_eq!(against::<NodeUnschedulable>(tolerates, &mut closed), None);
    assert_eq!(against::<NodeUnschedulable>(json!({}), &mut one_node(json!({}), json!({}))), None);
    let (pod, open, closed) = (
        pod_info("p", json!({})),
        bare(json!({}), json!({})),
        bare(json!({"unschedulable": true}), json!({})),
    );
    let helps = |event: &Event<'_>| plain::<NodeUnschedulable>().is_helped_by(&pod, event);
    assert!(helps(&Event::NodeChanged { old: &closed, new: &open }) && helps(&Event::NodeAdded(&open)));
    assert!(!helps(&Event::NodeChanged { old: &open, new: &open }) && !helps(&Event::NodeAdded(&closed)));
}

#[test]
fn taints() {
    let tainted = |effect: &str, value: &str| {
        one_node(json!({"taints": [{"key": "k", "value": value, "effect": effect}]}), json!({}))
    };
    let cases = [
        (json!([]), false),
        (json!([{"operator": "Exists"}]), true),
        (json!([{"key": "k", "operator": "Exists"}]), true),
        (json!([{"key": "k", "value": "5"}]), true),
        (json!([{"key": "k", "operator": "Equal", "value": "5", "effect": "NoSchedule"}]), true),
        (json!([{"key": "k", "value": "6"}]), false),
        (json!([{"key": "other", "operator": "Exists"}]), false),
        (json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"}]), false),
        (json!([{"key": "k", "operator": "Gt", "value": "4"}]), true),
        (json!([{"key": "k", "operator": "Lt", "value": "4"}]), false),
    ];
    for (tolerations, fits) in cases {
        let spec = json!({"tolerations": tolerations});
        let words = against::<TaintToleration>(spec.clone(), &mut tainted("NoSchedule", "5"));
        assert_eq!(words.is_none(), fits, "{spec}");
        assert_eq!(against::<TaintToleration>(spec, &mut tainted("PreferNoSchedule", "5")), None);
    }
    assert!(against::<TaintToleration>(json!({}), &mut tainted("NoExecute", "")).is_some());
    let score = |spec| raw_score(&plain::<TaintToleration>(), spec, &mut tainted("PreferNoSchedule", "5"));
    assert_eq!(score(json!({})), 1);
    assert_eq!(score(json!({"tolerations": [{"operator": "Exists"}]})), 0);
}

#[test]
fn a_taint_that_goes_helps_and_one_that_stays_does_not() {
    let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
    let (one, other, none) =
        (bare(taint("a"), json!({})), bare(taint("b"), json!({})), bare(json!({}), json!({})));
    let pod = pod_info("p", json!({"tolerations": [{"key": "b", "operator": "Exists"}]}));
    let helps = |old, new| plain::<TaintToleration>().is_helped_by(&pod, &Event::NodeChanged { old, new });
    assert!(helps(&one, &none) && helps(&one, &other));
    assert!(!helps(&none, &one) && !helps(&other, &none));
}

fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({"key": key, "operator": operator, "values": values})
}

fn required(terms: Value) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": terms}}}})
}

#[test]
fn affinity() {
    let mut cluster = one_node(json!({}), json!({"zone": "a", "size": "5"}));
    let labels = |one: Value| required(json!([{"matchExpressions": [one]}]));
    let fields = |one: Value| required(json!([{"matchFields": [one]}]));
    let cases = [
        (json!({"nodeSelector": {"zone": "a"}}), true),
        (json!({"nodeSelector": {"zone": "b"}}), false),
        (labels(expression("zone", "In", &["a", "b"])), true),
        (labels(expression("zone", "NotIn", &["a"])), false),
        (labels(expression("none", "NotIn", &["a"])), true),
        (labels(expression("zone", "Exists", &[])), true),
        (labels(expression("zone", "DoesNotExist", &[])), false),
        (labels(expression("size", "Gt", &["4"])), true),
        (labels(expression("size", "Lt", &["5"])), false),
        (labels(expression("size", "Gt", &["x"])), false),
        (labels(expression("zone", "Odd", &[])), false),
        (fields(expression("metadata.name", "In", &["n1"])), true),
        (fields(expression("metadata.name", "NotIn", &["n1"])), false),
        (fields(expression("metadata.uid", "In", &["n1"])), false),
        (required(json!([])), false),
        (required(json!([{}])), false),
        (required(json!([{}, {"matchExpressions": [expression("zone", "Exists", &[])]}])), true),
    ];
    for (spec, fits) in cases {
        assert_eq!(against::<NodeAffinity>(spec.clone(), &mut cluster).is_none(), fits, "{spec}");
    }
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 3, "preference": {"matchExpressions": [expression("zone", "In", &["a"])]}},
        {"weight": 4, "preference": {"matchExpressions": [expression("zone", "In", &["b"])]}},
        {"weight": 5, "preference": {}},
    ]}}});
    assert_eq!(raw_score(&plain::<NodeAffinity>(), preferred, &mut cluster), 3);
}

#[test]
fn affinity_to_names_narrows_the_search() {
    let mut cluster = one_node(json!({}), json!({}));
    let named = |lists: &[&[&str]]| {
        let fields: Vec<Value> = lists.iter().map(|list| expression("metadata.name", "In", list)).collect();
        required(json!([{"matchFields": fields}]))
    };
    let pod = pod_info("p", named(&[&["n1", "n2"], &["n2", "n3"]]));
    let names: Vec<String> = match Filter::prepare(&plain::<NodeAffinity>(), &pod, cluster.snapshot()) {
        Prepared::Only(names, _) => names.into_iter().collect(),
        _ => Vec::new(),
    };
    assert_eq!(names, ["n2"]);
    let conflict = against::<NodeAffinity>(named(&[&["n1"], &["n2"]]), &mut cluster);
    assert_eq!(conflict.as_deref(), Some("pod affinity terms conflict"));
}

#[test]
fn administrators_add_affinity() {
    let mut cluster = one_node(json!({}), json!({"zone": "a"}));
    let added = |zone: &str| {
        let terms = json!([{"matchExpressions": [expression("zone", "In", &[zone])]}]);
        let preferred =
            json!([{"weight": 7, "preference": {"matchExpressions": [expression("zone", "Exists", &[])]}}]);
        with::<NodeAffinity>(json!({"addedAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
            "preferredDuringSchedulingIgnoredDuringExecution": preferred,
        }}))
    };
    let pod = pod_info("p", json!({}));
    assert_eq!(objection(&added("a"), &pod, cluster.snapshot(), "n1"), None);
    assert_eq!(
        objection(&added("b"), &pod, cluster.snapshot(), "n1").as_deref(),
        Some("node(s) didn't match scheduler-enforced node affinity")
    );
    assert_eq!(raw_score(&added("a"), json!({}), &mut cluster), 7);
    let nothing = json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}});
    assert!(complaint::<NodeAffinity>(nothing).contains("requires nothing"));
    assert!(complaint::<NodeAffinity>(json!({"odd": 1})).contains("unknown field `odd`"));
}

#[test]
fn ports() {
    let with = |port: i32, protocol: &str, address: &str| {
        json!({"containers": [{"name": "c", "ports": [
            {"containerPort": port, "hostPort": port, "protocol": protocol, "hostIP": address},
        ]}]})
    };
    let mut cluster = one_node(json!({}), json!({}));
    cluster.set_pod(&on_node(pod_json("x", with(80, "TCP", "10.0.0.1")), "n1"));
    for (spec, fits) in [
        (with(80, "TCP", ""), false),
        (with(80, "TCP", "0.0.0.0"), false),
        (with(80, "TCP", "10.0.0.1"), false),
        (with(80, "TCP", "10.0.0.2"), true),
        (with(80, "UDP", ""), true),
        (with(81, "TCP", ""), true),
        (json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}), true),
    ] {
        assert_eq!(against::<NodePorts>(spec.clone(), &mut cluster).is_none(), fits, "{spec}");
        let (waiting, gone) = (pod_info("p", spec), pod_info("x", with(80, "TCP", "10.0.0.1")));
        assert_eq!(plain::<NodePorts>().is_helped_by(&waiting, &Event::PodRemoved(&gone)), !fits);
    }
}

#[test]
fn images_count_by_size_and_by_how_many_nodes_have_them() {
    let node = |name: &str, images: Value| {
        let mut node = node_json(name, json!({"pods": "9"}), json!({}), json!({}));
        node.status.get_or_insert_default().images = serde_json::from_value(images).expect("images");
        node
    };
    let image = |name: &str, megabytes: i64| json!({"names": [name], "sizeBytes": megabytes << 20});
    let mut cluster = crate::testing::cluster(vec![
        node("a", json!([image("big:1", 1000), image("reg:5000/odd:latest", 400)])),
        node("b", json!([image("big:1", 1000)])),
        node("c", json!([])),
        node("d", json!([])),
    ]);
    let plugin = plain::<ImageLocality>();
    let pod = |image: &str| pod_info("p", json!({"containers": [{"name": "c", "image": image}]}));
    let nodes = ["a", "b", "c", "d"];
    // Half of the nodes have it: 500 MB of 1000.
    assert_eq!(scores(&plugin, &pod("big:1"), cluster.snapshot(), &nodes), Some(vec![48, 48, 0, 0]));
    // A quarter has it: 100 MB.
    assert_eq!(scores(&plugin, &pod("reg:5000/odd"), cluster.snapshot(), &nodes), Some(vec![7, 0, 0, 0]));
    assert_eq!(scores(&plugin, &pod("none"), cluster.snapshot(), &nodes), None);
}

#[test]
fn nodes_declare_what_some_pods_need() {
    let node = |features: Value| {
        let mut node = node_json("n1", json!({"pods": "9"}), json!({}), json!({}));
        node.status.get_or_insert_default().declared_features =
            serde_json::from_value(features).expect("features");
        crate::testing::cluster(vec![node])
    };
    let shared = json!({"hostNetwork": true, "hostUsers": false});
    let restarts =
        json!({"containers": [{"name": "c", "restartPolicyRules": [{"action": "RestartAllContainers"}]}]});
    for (spec, features, fits) in [
        (json!({"hostNetwork": true}), json!([]), true),
        (shared.clone(), json!([]), false),
        (shared, json!(["UserNamespacesHostNetworkSupport"]), true),
        (restarts.clone(), json!(["UserNamespacesHostNetworkSupport"]), false),
        (restarts, json!(["RestartAllContainersOnContainerExits"]), true),
    ] {
        let words = against::<NodeDeclaredFeatures>(spec.clone(), &mut node(features));
        assert_eq!(words.is_none(), fits, "{spec}: {words:?}");
    }
}

#[test]
fn scores_are_stretched() {
    let mut scores = [0, 2, 4];
    stretch(&mut scores, false);
    assert_eq!(scores, [0, 50, 100]);
    stretch(&mut scores, true);
    assert_eq!(scores, [100, 50, 0]);
    let mut nothing = [0, 0];
    stretch(&mut nothing, true);
    assert_eq!(nothing, [100, 100]);
}
