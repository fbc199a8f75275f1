//! One node and what is taken of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::types::core::v1::{Node, Taint};

use crate::pod::{HostPort, PodInfo};
use crate::resources::Amounts;

/// A node and what is taken of it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its place in the snapshot; it keeps it as long as it exists.
    pub slot: usize,
    /// The node.
    pub node: Arc<Node>,
    /// Whether it was closed to new pods.
    pub is_closed: bool,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What it has for pods.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub max_pods: i64,
    /// What its pods ask for.
    pub requested: Amounts,
    /// The same, with usual amounts for containers that ask for nothing.
    pub requested_for_scores: Amounts,
    /// Its pods.
    pub pods: Vec<Arc<PodInfo>>,
    /// The ports that its pods take, and how many pods take each: two pods that
    /// were bound by hand may hold the same.
    pub ports: BTreeMap<HostPort, usize>,
    /// The images on it, with their sizes in bytes.
    pub images: Arc<HashMap<String, i64>>,
}

impl NodeInfo {
    /// A node without pods.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let mut info =
            Self { name: node.metadata.name.clone().unwrap_or_default().into(), ..Self::default() };
        info.set_node(node);
        info
    }

    /// Takes a newer version of the node; its pods stay.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        self.is_closed = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        self.taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let map = status.and_then(|status| status.allocatable.as_ref());
        self.allocatable = Amounts::from_map(map);
        let pods = map.and_then(|map| map.get("pods"));
        self.max_pods = pods.and_then(|pods| api::Quantity::try_from(pods).ok()).unwrap_or_default().units();
        let images = status.into_iter().flat_map(|status| status.images.iter().flatten());
        let images = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        });
        self.images = Arc::new(images.collect());
        self.node = node;
    }

    /// A label of the node.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// How many pods it has.
    #[must_use]
    pub fn pod_count(&self) -> i64 {
        i64::try_from(self.pods.len()).unwrap_or(i64::MAX)
    }

    /// Counts a pod in.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests.asked);
        self.requested_for_scores.add(&pod.requests.for_scores);
        for port in &pod.ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        self.pods.push(pod);
    }

    /// Counts a pod out. Returns it, if it was there.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let place = self.pods.iter().position(|pod| pod.uid == uid)?;
        let pod = self.pods.remove(place);
        self.uncount(&pod);
        Some(pod)
    }

    /// Takes back what a pod took that is not listed any more.
    pub fn uncount(&mut self, pod: &PodInfo) {
        self.requested.subtract(&pod.requests.asked);
        self.requested_for_scores.subtract(&pod.requests.for_scores);
        for port in &pod.ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
    }
}
