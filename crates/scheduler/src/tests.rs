//! Decisions as a whole.

use std::collections::BTreeSet;

use daemon::{Clock as _, SystemClock};
use proptest::prelude::*;
use serde_json::json;

use crate::cluster::Cluster;
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::schedule::{Decision, schedule};
use crate::testing::{
    asking, cluster, info, labelled_node, node_json, on_node, plain_node, pod_info, search,
};

fn decide(pod: &PodInfo, nodes: Vec<api::types::core::v1::Node>) -> Decision {
    schedule(pod, cluster(nodes).snapshot(), &Profile::default(), &mut search())
}

fn message(decision: Decision) -> String {
    match decision {
        Decision::Nowhere(diagnosis, _) => diagnosis.message(),
        Decision::Node(node) => panic!("fits {node}"),
    }
}

#[test]
fn the_message_is_upstreams() {
    let taint = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let big = json!({"cpu": "64", "memory": "64Gi", "pods": "10"});
    let cases = [
        (vec![], "no nodes available to schedule pods"),
        (
            vec![plain_node("a")],
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
             1 Preemption is not helpful for scheduling.",
        ),
        (
            vec![plain_node("a"), node_json("b", big, taint, json!({})), plain_node("c")],
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        ),
    ];
    for (nodes, expected) in cases {
        assert_eq!(message(decide(&info(asking("p", "5")), nodes)), expected);
    }
}

#[test]
fn nodes_that_need_not_be_asked_are_told_of() {
    let only = |name: &str| {
        let fields = json!([{"key": "metadata.name", "operator": "In", "values": [name]}]);
        let terms = json!({"nodeSelectorTerms": [{"matchFields": fields}]});
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
    };
    let spec = |name: &str| json!({"affinity": only(name), "containers": [{"name": "c", "resources": {"requests": {"cpu": "5"}}}]});
    let nodes = || vec![plain_node("a"), plain_node("b"), plain_node("c")];
    assert_eq!(
        message(decide(&pod_info("p", spec("b")), nodes())),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        message(decide(&pod_info("p", spec("none")), nodes())),
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
}

#[test]
fn equals_are_chosen_by_chance_and_emptier_nodes_first() {
    let mut cluster = cluster(["a", "b", "c"].map(plain_node).into());
    let (profile, mut search) = (Profile::default(), search());
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        if let Decision::Node(node) =
            schedule(&info(asking("p", "1")), cluster.snapshot(), &profile, &mut search)
        {
            seen.insert(node);
        }
    }
    assert_eq!(seen.len(), 3);
    cluster.assume(&info(asking("x", "1")), "a");
    cluster.assume(&info(asking("y", "1")), "c");
    let decision = schedule(&info(asking("p", "1")), cluster.snapshot(), &profile, &mut search);
    assert_eq!(decision.node(), Some("b"));
}

#[test]
fn zones_take_turns() {
    let node = |name: &str, zone: &str| labelled_node(name, json!({"topology.kubernetes.io/zone": zone}));
    let nodes = vec![node("a1", "a"), node("a2", "a"), node("a3", "a"), node("b1", "b"), node("b2", "b")];
    let mut cluster = cluster(nodes);
    let names = |cluster: &mut Cluster| -> Vec<String> {
        cluster.snapshot().nodes().map(|node| node.name.to_string()).collect()
    };
    assert_eq!(names(&mut cluster), ["a1", "b1", "a2", "b2", "a3"]);
    cluster.remove_node("a2");
    assert_eq!(names(&mut cluster), ["a1", "b1", "a3", "b2"]);
}

#[test]
fn a_pod_goes_first_to_the_node_where_room_was_made_for_it() {
    let mut cluster = cluster(["a", "b"].map(plain_node).into());
    cluster.assume(&info(asking("x", "1")), "b");
    let mut pod = asking("p", "1");
    pod.status.get_or_insert_default().nominated_node_name = Some("b".to_owned());
    let decision = |cluster: &mut Cluster, pod| {
        schedule(&info(pod), cluster.snapshot(), &Profile::default(), &mut search())
    };
    assert_eq!(decision(&mut cluster, pod.clone()).node(), Some("b"));
    pod.status.get_or_insert_default().nominated_node_name = Some("gone".to_owned());
    assert_eq!(decision(&mut cluster, pod).node(), Some("a"));
}

#[test]
fn room_that_is_made_for_a_pod_is_not_taken_by_less_important_ones() {
    let mut cluster = cluster(vec![plain_node("a")]);
    let with = |name: &str, priority: i32| {
        let mut pod = asking(name, "3");
        pod.spec.get_or_insert_default().priority = Some(priority);
        info(pod)
    };
    let decision = |cluster: &mut Cluster, pod: &PodInfo| {
        schedule(pod, cluster.snapshot(), &Profile::default(), &mut search())
    };
    cluster.nominate(&with("claims", 5), Some("a"));
    assert_eq!(
        message(decision(&mut cluster, &with("p", 5))),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
    assert_eq!(decision(&mut cluster, &with("p", 6)).node(), Some("a"));
    assert_eq!(decision(&mut cluster, &with("claims", 5)).node(), Some("a"));
    cluster.nominate(&with("claims", 5), None);
    assert_eq!(decision(&mut cluster, &with("p", 5)).node(), Some("a"));
}

#[test]
fn assumed_pods_end_by_confirmation_failure_or_time() {
    let now = SystemClock.monotonic();
    let mut cluster = cluster(vec![plain_node("a")]);
    let cpu = |cluster: &mut Cluster| cluster.snapshot().node_at(0).requested.cpu;
    let pod = info(asking("p", "1"));
    cluster.assume(&pod, "a");
    assert_eq!(cpu(&mut cluster), 1000);
    assert!(cluster.forget("p").is_some());
    assert_eq!(cpu(&mut cluster), 0);

    cluster.assume(&pod, "a");
    cluster.bound("p", now);
    cluster.expire(now + std::time::Duration::from_secs(59));
    assert_eq!(cpu(&mut cluster), 1000);
    cluster.expire(now + std::time::Duration::from_secs(60));
    assert_eq!(cpu(&mut cluster), 0);

    cluster.assume(&pod, "a");
    cluster.set_pod(&on_node(asking("p", "1"), "a"));
    assert!(cluster.forget("p").is_none(), "a pod that the caches show is not forgotten");
    cluster.expire(now + std::time::Duration::from_secs(600));
    assert_eq!(cpu(&mut cluster), 1000);
}

#[test]
fn a_node_that_comes_after_its_pods_counts_them() {
    let mut cluster = Cluster::default();
    cluster.set_pod(&on_node(asking("p", "1"), "a"));
    cluster.set_node(&std::sync::Arc::new(plain_node("a")));
    assert_eq!(cluster.snapshot().node_at(0).requested.cpu, 1000);
    cluster.remove_node("a");
    assert!(cluster.snapshot().is_empty());
    cluster.set_node(&std::sync::Arc::new(plain_node("a")));
    assert_eq!(cluster.snapshot().node_at(0).pods.len(), 1);
    cluster.remove_pod("p");
    let node = cluster.snapshot().node_at(0);
    assert_eq!((node.pods.len(), node.requested.cpu), (0, 0));
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
        let (profile, mut search) = (Profile::default(), search());
        let mut cluster = cluster((0..4).map(|number| plain_node(&format!("n{number}"))).collect());
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
                    let pod = pod_info(&format!("p{number}"), json!({"containers": [container]}));
                    if let Decision::Node(node) = schedule(&pod, cluster.snapshot(), &profile, &mut search) {
                        cluster.assume(&pod, &node);
                        here.push(format!("p{number}"));
                    }
                }
                Step::Leave(_) | Step::BindingFails(_) if here.is_empty() => {}
                Step::Leave(which) => {
                    let uid = here.swap_remove(which % here.len());
                    prop_assert!(cluster.remove_pod(&uid).is_some());
                }
                Step::BindingFails(which) => {
                    let uid = here.swap_remove(which % here.len());
                    prop_assert!(cluster.forget(&uid).is_some());
                }
                Step::NodeGoes(which) => cluster.remove_node(&format!("n{which}")),
                Step::NodeComes(which) => {
                    cluster.set_node(&std::sync::Arc::new(plain_node(&format!("n{which}"))));
                }
            }
            for node in cluster.snapshot().nodes() {
                prop_assert!(node.requested.cpu <= node.allocatable.cpu);
                prop_assert!(node.requested.memory <= node.allocatable.memory);
                prop_assert!(node.pod_count() <= node.max_pods);
                prop_assert!(node.ports.values().all(|count| *count == 1));
            }
        }
        for uid in here {
            cluster.remove_pod(&uid);
        }
        for node in cluster.snapshot().nodes() {
            let taken = (node.pod_count(), node.requested.cpu, node.requested.memory, node.ports.len());
            prop_assert_eq!(taken, (0, 0, 0, 0));
        }
    }
}
