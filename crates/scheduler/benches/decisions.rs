//! Decisions a second at 1,000 and 5,000 nodes: `cargo bench -p scheduler`.

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use scheduler::cluster::Cluster;
use scheduler::plugins::Plugins;
use scheduler::schedule::{Decision, Search, schedule};
use serde_json::json;

fn main() {
    divan::main();
}

#[divan::bench(args = [1000, 5000])]
fn decide_and_assume(bencher: divan::Bencher<'_, '_>, nodes: usize) {
    let (plugins, mut cluster) = (Plugins::default(), Cluster::default());
    let mut search = Search::new(StdRng::seed_from_u64(1));
    for number in 0..nodes {
        let node = json!({
            "metadata": {"name": format!("n{number}"), "labels": {"zone": format!("z{}", number % 3)}},
            "status": {"allocatable": {"cpu": "32", "memory": "128Gi", "pods": "110"}},
        });
        cluster.set_node(&Arc::new(serde_json::from_value(node).expect("a node")));
    }
    let pod = json!({
        "metadata": {"namespace": "ns", "name": "p", "uid": "p"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]},
    });
    let mut pod: api::types::core::v1::Pod = serde_json::from_value(pod).expect("a pod");
    let mut number = 0_u64;
    bencher.counter(divan::counter::ItemsCount::new(1_usize)).bench_local(|| {
        number += 1;
        pod.metadata.uid = Some((number % 50_000).to_string());
        match schedule(&pod, cluster.snapshot(), &plugins, &mut search) {
            Decision::Node(node) => cluster.assume(&pod, &node),
            Decision::Nowhere(diagnosis) => panic!("{}", diagnosis.message()),
        }
    });
}
