//! Decisions a second at 1,000 and 5,000 nodes with thirty pods each:
//! `cargo bench -p scheduler`. A decision is made and its pod counted on the
//! node, as the loop does it; the pods before it stay.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use scheduler::cluster::Cluster;
use scheduler::pod::PodInfo;
use scheduler::profile::Profile;
use scheduler::schedule::{Decision, Search, schedule};
use serde_json::{Value, json};

const NODES: [usize; 2] = [1000, 5000];
const PODS_PER_NODE: usize = 30;

fn main() {
    divan::main();
}

/// Pods that only ask for resources.
#[divan::bench(args = NODES)]
fn basic(bencher: Bencher<'_, '_>, nodes: usize) {
    decide(bencher, cluster(nodes, "10m"), |_| json!({}));
}

/// Pods of a service, spread by the default constraints, in turn with others.
#[divan::bench(args = NODES)]
fn mixed_services(bencher: Bencher<'_, '_>, nodes: usize) {
    let mut cluster = cluster(nodes, "10m");
    for number in 0..20 {
        let service = json!({"metadata": {}, "spec": {"selector": {"app": format!("app{number}")}}});
        let service = serde_json::from_value(service).expect("a service");
        let key = api::ObjectKey::new("ns", format!("app{number}"));
        cluster.surroundings().workloads.set_service(&key, Some(&service));
    }
    decide(
        bencher,
        cluster,
        |number| json!({"metadata": {"labels": {"app": format!("app{}", number % 20)}}}),
    );
}

/// Pods that must be spread over zones and over nodes.
#[divan::bench(args = NODES)]
fn spreading(bencher: Bencher<'_, '_>, nodes: usize) {
    let constraint = |key: &str, skew: i64| {
        json!({"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
               "labelSelector": {"matchLabels": {"app": "web"}}})
    };
    let constraints =
        json!([constraint("topology.kubernetes.io/zone", 5), constraint("kubernetes.io/hostname", 5)]);
    decide(
        bencher,
        cluster(nodes, "10m"),
        |_| json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": constraints}}),
    );
}

/// Pods that must not share a node with others of their group of a hundred.
#[divan::bench(args = NODES)]
fn required_anti_affinity(bencher: Bencher<'_, '_>, nodes: usize) {
    decide(bencher, cluster(nodes, "10m"), |number| {
        let group = format!("g{}", number / 100);
        let term = json!({"labelSelector": {"matchLabels": {"group": group}}, "topologyKey": "kubernetes.io/hostname"});
        let away = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        json!({"metadata": {"labels": {"group": group}}, "spec": {"affinity": {"podAntiAffinity": away}}})
    });
}

/// Important pods on full nodes: the least important of these have to go.
#[divan::bench(args = NODES)]
fn preemption(bencher: Bencher<'_, '_>, nodes: usize) {
    let (profile, mut search, mut cluster) = (Profile::default(), search(), cluster(nodes, "1"));
    let mut number = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        number += 1;
        let spec = json!({"priority": 1000, "containers": [container("3")]});
        let pod = pod(number, json!({"spec": spec}));
        match schedule(&pod, cluster.snapshot(), &profile, &mut search) {
            Decision::Node(node) => panic!("fits {node}"),
            Decision::Nowhere(_, attempt) => divan::black_box(attempt),
        }
    });
}

fn search() -> Search {
    Search::new(StdRng::seed_from_u64(1))
}

fn decide(bencher: Bencher<'_, '_>, mut cluster: Cluster, pod_of: impl Fn(usize) -> Value) {
    let (profile, mut search) = (Profile::default(), search());
    let mut number = 0;
    // What a pod looks like is worked out where it arrives, beside the decisions.
    let pods: Vec<Arc<PodInfo>> = (0..20_000).map(|number| pod(number, pod_of(number))).collect();
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let pod = &pods[number % pods.len()];
        if number >= pods.len() {
            cluster.remove_pod(&pod.uid);
        }
        number += 1;
        match schedule(pod, cluster.snapshot(), &profile, &mut search) {
            Decision::Node(node) => cluster.assume(pod, &node),
            Decision::Nowhere(diagnosis, _) => panic!("{}", diagnosis.message()),
        }
    });
}

/// Nodes of thirty-two cores in three zones, with pods that ask for so much each.
fn cluster(nodes: usize, cpu: &str) -> Cluster {
    let mut cluster = Cluster::default();
    for number in 0..nodes {
        let name = format!("n{number}");
        let labels = json!({
            "topology.kubernetes.io/zone": format!("z{}", number % 3), "kubernetes.io/hostname": name,
        });
        let allocatable = json!({"cpu": "32", "memory": "128Gi", "pods": "200"});
        let node =
            json!({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}});
        cluster.set_node(&Arc::new(serde_json::from_value(node).expect("a node")));
        for place in 0..PODS_PER_NODE {
            let spec = json!({"nodeName": name, "priority": place, "containers": [container(cpu)]});
            let labels = json!({"app": format!("app{}", place % 20)});
            let number = 1_000_000 + number * PODS_PER_NODE + place;
            cluster.set_pod(&pod(number, json!({"metadata": {"labels": labels}, "spec": spec})));
        }
    }
    cluster
}

fn container(cpu: &str) -> Value {
    json!({"name": "c", "image": "registry/app:1", "resources": {"requests": {"cpu": cpu, "memory": "16Mi"}}})
}

fn pod(number: usize, more: Value) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": format!("p{number}"), "uid": number.to_string()},
        "spec": {"containers": [container("10m")]},
    });
    api::patch::merge_patch(&mut pod, more);
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).expect("a pod"))))
}
