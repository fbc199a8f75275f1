//! Objects for tests.

use std::sync::Arc;

use api::types::core::v1::{Node, Pod};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::pod::PodInfo;
use crate::schedule::Search;

pub(crate) fn pod_json(name: &str, spec: Value) -> Pod {
    labelled(name, json!({}), spec)
}

pub(crate) fn labelled(name: &str, labels: Value, mut spec: Value) -> Pod {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    let metadata = json!({"namespace": "ns", "name": name, "uid": name, "labels": labels});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

pub(crate) fn pod_info(name: &str, spec: Value) -> Arc<PodInfo> {
    info(pod_json(name, spec))
}

pub(crate) fn info(pod: Pod) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(Arc::new(pod)))
}

pub(crate) fn on_node(mut pod: Pod, node: &str) -> Arc<PodInfo> {
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    info(pod)
}

pub(crate) fn asking(name: &str, cpu: &str) -> Pod {
    pod_json(name, json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
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
    labelled_node(name, json!({}))
}

pub(crate) fn labelled_node(name: &str, labels: Value) -> Node {
    node_json(name, json!({"cpu": "4", "memory": "8Gi", "pods": "10"}), json!({}), labels)
}

pub(crate) fn cluster(nodes: Vec<Node>) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(&Arc::new(node));
    }
    cluster
}

pub(crate) fn search() -> Search {
    Search::new(StdRng::seed_from_u64(7))
}
