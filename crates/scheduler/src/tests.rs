//! Objects for tests, and tests of decisions as a whole.

use std::sync::Arc;

use api::types::core::v1::{Node, Pod};
use daemon::{Clock as _, SystemClock};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::plugins::Plugins;
use crate::schedule::{Decision, Search, schedule};

pub(crate) fn pod_json(name: &str, spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": spec}))
        .expect("a pod")
}

pub(crate) fn node_json(name: &str, allocatable: Value, spec: Value, labels: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": allocatable},
    }))
    .expect("a node")
}

pub(crate) fn plain_node(name: &str) -> Node {
    node_json(name, json!({"cpu": "4", "memory": "8Gi", "pods": "10"}), json!({}), json!({}))
}

fn asking(name: &str, cpu: &str) -> Pod {
    pod_json(name, json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
}

fn search() -> Search {
    Search::new(StdRng::seed_from_u64(7))
}

fn decide(pod: &Pod, nodes: Vec<Node>) -> Decision {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(&Arc::new(node));
    }
    schedule(pod, cluster.snapshot(), &Plugins::default(), &mut search())
}

#[test]
fn the_message_is_upstreams() {
    let taint = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let big = json!({"cpu": "64", "memory": "64Gi", "pods": "10"});
    let cases = [
        (vec![], "no nodes available to schedule pods"),
        (vec![plain_node("a")], "0/1 nodes are available: 1 Insufficient cpu."),
        (
            vec![plain_node("a"), node_json("b", big, taint, json!({})), plain_node("c")],
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.",
        ),
    ];
    for (nodes, expected) in cases {
        match decide(&asking("p", "5"), nodes) {
            Decision::Nowhere(diagnosis) => assert_eq!(diagnosis.message(), expected),
            Decision::Node(node) => panic!("fits {node}"),
        }
    }
}

#[test]
fn equals_are_chosen_by_chance_and_emptier_nodes_first() {
    let mut cluster = Cluster::default();
    for name in ["a", "b", "c"] {
        cluster.set_node(&Arc::new(plain_node(name)));
    }
    let (plugins, mut search) = (Plugins::default(), search());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        if let Decision::Node(node) = schedule(&asking("p", "1"), cluster.snapshot(), &plugins, &mut search) {
            seen.insert(node);
        }
    }
    assert_eq!(seen.len(), 3);
    cluster.assume(&asking("x", "1"), "a");
    cluster.assume(&asking("y", "1"), "c");
    let decision = schedule(&asking("p", "1"), cluster.snapshot(), &plugins, &mut search);
    assert_eq!(decision, Decision::Node("b".to_owned()));
}

#[test]
fn assumed_pods_end_by_confirmation_failure_or_time() {
    let now = SystemClock.monotonic();
    let mut cluster = Cluster::default();
    cluster.set_node(&Arc::new(plain_node("a")));
    let cpu = |cluster: &mut Cluster| cluster.snapshot().nodes()[0].requested.cpu;
    cluster.assume(&asking("p", "1"), "a");
    assert_eq!(cpu(&mut cluster), 1000);
    assert!(cluster.forget("p"));
    assert_eq!(cpu(&mut cluster), 0);

    cluster.assume(&asking("p", "1"), "a");
    cluster.bound("p", now);
    cluster.expire(now + std::time::Duration::from_secs(59));
    assert_eq!(cpu(&mut cluster), 1000);
    cluster.expire(now + std::time::Duration::from_secs(60));
    assert_eq!(cpu(&mut cluster), 0);

    cluster.assume(&asking("p", "1"), "a");
    let mut confirmed = asking("p", "1");
    confirmed.spec.get_or_insert_default().node_name = Some("a".into());
    cluster.set_pod(&confirmed);
    assert!(!cluster.forget("p"), "a pod that the caches show is not forgotten");
    cluster.expire(now + std::time::Duration::from_secs(600));
    assert_eq!(cpu(&mut cluster), 1000);
}

#[test]
fn a_node_that_comes_after_its_pods_counts_them() {
    let mut cluster = Cluster::default();
    let mut pod = asking("p", "1");
    pod.spec.get_or_insert_default().node_name = Some("a".into());
    cluster.set_pod(&pod);
    cluster.set_node(&Arc::new(plain_node("a")));
    assert_eq!(cluster.snapshot().nodes()[0].requested.cpu, 1000);
    cluster.remove_node("a");
    assert!(cluster.snapshot().nodes().is_empty());
    cluster.set_node(&Arc::new(plain_node("a")));
    assert_eq!(cluster.snapshot().nodes()[0].pods, 1);
    cluster.remove_pod("p");
    assert_eq!((cluster.snapshot().nodes()[0].pods, cluster.snapshot().nodes()[0].requested.cpu), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Arrive { cpu: i64, memory: i64, port: Option<i32> },
    Leave(usize),
    BindingFails(usize),
    NodeGoes(usize),
    NodeComes(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3000_i64, 0..6000_i64, proptest::option::of(80..83_i32))
            .prop_map(|(cpu, memory, port)| Step::Arrive { cpu, memory, port }),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::BindingFails),
        1 => (0..4_usize).prop_map(Step::NodeGoes),
        1 => (0..4_usize).prop_map(Step::NodeComes),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn no_node_is_ever_overcommitted(steps in steps()) {
        let (plugins, mut search, mut cluster) = (Plugins::default(), search(), Cluster::default());
        for number in 0..4 {
            cluster.set_node(&Arc::new(plain_node(&format!("n{number}"))));
        }
        let mut here: Vec<String> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Arrive { cpu, memory, port } => {
                    let ports = port.map(|port| json!({"containerPort": port, "hostPort": port}));
                    let requests = json!({"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")});
                    let container = json!({
                        "name": "c", "resources": {"requests": requests},
                        "ports": ports.into_iter().collect::<Vec<_>>(),
                    });
                    let pod = pod_json(&format!("p{number}"), json!({"containers": [container]}));
                    if let Decision::Node(node) = schedule(&pod, cluster.snapshot(), &plugins, &mut search) {
                        cluster.assume(&pod, &node);
                        here.push(format!("p{number}"));
                    }
                }
                Step::Leave(_) | Step::BindingFails(_) if here.is_empty() => {}
                Step::Leave(which) => {
                    let uid = here.swap_remove(which % here.len());
                    prop_assert!(cluster.remove_pod(&uid));
                }
                Step::BindingFails(which) => {
                    let uid = here.swap_remove(which % here.len());
                    prop_assert!(cluster.forget(&uid));
                }
                Step::NodeGoes(which) => cluster.remove_node(&format!("n{which}")),
                Step::NodeComes(which) => cluster.set_node(&Arc::new(plain_node(&format!("n{which}")))),
            }
            for node in cluster.snapshot().nodes() {
                prop_assert!(node.requested.cpu <= node.allocatable.cpu);
                prop_assert!(node.requested.memory <= node.allocatable.memory);
                prop_assert!(node.pods <= node.max_pods);
                prop_assert!(node.ports.values().all(|count| *count == 1));
            }
        }
        for uid in here {
            cluster.remove_pod(&uid);
        }
        for node in cluster.snapshot().nodes() {
            prop_assert_eq!((node.pods, node.requested.cpu, node.requested.memory, node.ports.len()), (0, 0, 0, 0));
        }
    }
}
