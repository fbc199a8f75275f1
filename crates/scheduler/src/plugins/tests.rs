//! A table for each plugin.

use std::sync::Arc;

use serde_json::{Value, json};

use super::affinity::NodeAffinity;
use super::name::{NodeName, NodeUnschedulable};
use super::ports::NodePorts;
use super::resources::{BalancedAllocation, NodeResourcesFit};
use super::taints::TaintToleration;
use super::{Filter, Score, stretch};
use crate::snapshot::{Footprint, NodeState};
use crate::tests::{node_json, pod_json};

fn node(spec: Value, labels: Value) -> NodeState {
    let allocatable =
        json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "1Gi", "x.io/gpu": "2", "pods": "2"});
    NodeState::new(Arc::new(node_json("n1", allocatable, spec, labels)))
}

fn pod(mut spec: Value) -> api::types::core::v1::Pod {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    pod_json("p", spec)
}

fn refusals<F: Filter>(spec: Value, node: &NodeState) -> Vec<String> {
    F::facts(&pod(spec))
        .map(|facts| F::check(&facts, node))
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn fits<F: Filter>(spec: Value, node: &NodeState) -> bool {
    refusals::<F>(spec, node).is_empty()
}

fn score<S: Score>(spec: Value, node: &NodeState) -> i64 {
    S::score(&S::facts(&pod(spec)).expect("facts"), node)
}

#[test]
fn node_name() {
    let node = node(json!({}), json!({}));
    for (spec, expected) in
        [(json!({}), true), (json!({"nodeName": "n1"}), true), (json!({"nodeName": "n2"}), false)]
    {
        assert_eq!(fits::<NodeName>(spec.clone(), &node), expected, "{spec}");
    }
}

#[test]
fn unschedulable() {
    let closed = node(json!({"unschedulable": true}), json!({}));
    assert_eq!(refusals::<NodeUnschedulable>(json!({}), &closed), ["node(s) were unschedulable"]);
    let tolerates =
        json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
    assert!(fits::<NodeUnschedulable>(tolerates, &closed));
    assert!(fits::<NodeUnschedulable>(json!({}), &node(json!({}), json!({}))));
}

#[test]
fn taints() {
    let tainted = |effect: &str, value: &str| {
        node(json!({"taints": [{"key": "k", "value": value, "effect": effect}]}), json!({}))
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
    for (tolerations, expected) in cases {
        let spec = json!({"tolerations": tolerations});
        assert_eq!(fits::<TaintToleration>(spec.clone(), &tainted("NoSchedule", "5")), expected, "{spec}");
        assert!(fits::<TaintToleration>(spec, &tainted("PreferNoSchedule", "5")));
    }
    assert!(!fits::<TaintToleration>(json!({}), &tainted("NoExecute", "")));
    assert_eq!(score::<TaintToleration>(json!({}), &tainted("PreferNoSchedule", "5")), 1);
    assert_eq!(
        score::<TaintToleration>(
            json!({"tolerations": [{"operator": "Exists"}]}),
            &tainted("PreferNoSchedule", "5")
        ),
        0
    );
}

#[test]
fn affinity() {
    let node = node(json!({}), json!({"zone": "a", "size": "5"}));
    let expression = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
    let required = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
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
    for (spec, expected) in cases {
        assert_eq!(fits::<NodeAffinity>(spec.clone(), &node), expected, "{spec}");
    }
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 3, "preference": {"matchExpressions": [expression("zone", "In", &["a"])]}},
        {"weight": 4, "preference": {"matchExpressions": [expression("zone", "In", &["b"])]}},
        {"weight": 5, "preference": {}},
    ]}}});
    assert_eq!(score::<NodeAffinity>(preferred, &node), 3);
}

#[test]
fn ports() {
    let with = |port: i32, protocol: &str, address: &str| {
        json!({"containers": [{"name": "c", "ports": [
            {"containerPort": port, "hostPort": port, "protocol": protocol, "hostIP": address},
        ]}]})
    };
    let mut node = node(json!({}), json!({}));
    node.add(&Footprint::of(&pod(with(80, "TCP", "10.0.0.1"))));
    for (spec, expected) in [
        (with(80, "TCP", ""), false),
        (with(80, "TCP", "0.0.0.0"), false),
        (with(80, "TCP", "10.0.0.1"), false),
        (with(80, "TCP", "10.0.0.2"), true),
        (with(80, "UDP", ""), true),
        (with(81, "TCP", ""), true),
        (json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}), true),
    ] {
        assert_eq!(fits::<NodePorts>(spec.clone(), &node), expected, "{spec}");
    }
}

fn requests(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
}

#[test]
fn resources() {
    let mut node = node(json!({}), json!({}));
    node.add(&Footprint::of(&pod(requests(json!({"cpu": "3", "memory": "1Gi"})))));
    for (spec, expected) in [
        (json!({"cpu": "1"}), vec![]),
        (json!({"cpu": "1001m"}), vec!["Insufficient cpu"]),
        (json!({"cpu": "2", "memory": "8Gi"}), vec!["Insufficient cpu", "Insufficient memory"]),
        (json!({"ephemeral-storage": "2Gi"}), vec!["Insufficient ephemeral-storage"]),
        (json!({"x.io/gpu": "2"}), vec![]),
        (json!({"x.io/gpu": "3"}), vec!["Insufficient x.io/gpu"]),
        (json!({"x.io/other": "1"}), vec!["Insufficient x.io/other"]),
    ] {
        assert_eq!(refusals::<NodeResourcesFit>(requests(spec.clone()), &node), expected, "{spec}");
    }
    node.add(&Footprint::of(&pod(json!({}))));
    assert_eq!(refusals::<NodeResourcesFit>(json!({}), &node), ["Too many pods"]);
}

#[test]
fn scores() {
    let node = node(json!({}), json!({}));
    for (spec, free, balanced) in [
        (json!({"cpu": "2", "memory": "4Gi"}), 50, 100),
        (json!({"cpu": "4", "memory": "8Gi"}), 0, 100),
        (json!({"cpu": "4", "memory": "0"}), 50, 50),
        (json!({"cpu": "1", "memory": "4Gi"}), 62, 87),
    ] {
        assert_eq!(score::<NodeResourcesFit>(requests(spec.clone()), &node), free, "{spec}");
        assert_eq!(score::<BalancedAllocation>(requests(spec.clone()), &node), balanced, "{spec}");
    }
    let mut scores = [0, 2, 4];
    stretch(&mut scores, false);
    assert_eq!(scores, [0, 50, 100]);
    stretch(&mut scores, true);
    assert_eq!(scores, [100, 50, 0]);
    let mut nothing = [0, 0];
    stretch(&mut nothing, true);
    assert_eq!(nothing, [100, 100]);
}
