//! The nodes as one decision sees them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::types::core::v1::{Node, Pod};

use crate::resources::{Amounts, Requests, is_sidecar};

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
    /// The address; empty: all of the node's.
    pub address: String,
}

impl HostPort {
    /// Whether two pods cannot have these on one node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_empty() || other.address.is_empty() || self.address == other.address)
    }
}

/// What a pod takes of the node it runs on.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// Resources.
    pub requests: Requests,
    /// Ports.
    pub ports: Vec<HostPort>,
}

impl Footprint {
    /// What a pod takes.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        Self { requests: Requests::of(pod), ports: host_ports(pod) }
    }
}

/// The ports of the node that a pod asks for.
#[must_use]
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let address = port.host_ip.clone().unwrap_or_default();
            Some(HostPort {
                port: port.host_port.filter(|port| *port > 0)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                address: if matches!(address.as_str(), "0.0.0.0" | "::") { String::new() } else { address },
            })
        })
        .collect()
}

/// A node and what is taken of it.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// The node.
    pub node: Arc<Node>,
    /// What it has for pods.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub max_pods: i64,
    /// What its pods ask for.
    pub requested: Amounts,
    /// The same, with usual amounts for containers that ask for nothing.
    pub requested_for_scores: Amounts,
    /// How many pods it has.
    pub pods: i64,
    /// The ports that its pods take, and how many pods take each: two pods that
    /// were bound by hand may hold the same.
    pub ports: BTreeMap<HostPort, usize>,
}

impl NodeState {
    /// A node without pods.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let mut state = Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            node: Arc::default(),
            allocatable: Amounts::default(),
            max_pods: 0,
            requested: Amounts::default(),
            requested_for_scores: Amounts::default(),
            pods: 0,
            ports: BTreeMap::new(),
        };
        state.set_node(node);
        state
    }

    /// Takes a newer version of the node; its pods stay.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let map = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        self.allocatable = Amounts::from_map(map);
        let pods = map.and_then(|map| map.get("pods"));
        self.max_pods = pods.and_then(|pods| api::Quantity::try_from(pods).ok()).unwrap_or_default().units();
        self.node = node;
    }

    /// Counts a pod in.
    pub fn add(&mut self, footprint: &Footprint) {
        self.requested.add(&footprint.requests.asked);
        self.requested_for_scores.add(&footprint.requests.for_scores);
        for port in &footprint.ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        self.pods += 1;
    }

    /// Counts a pod out.
    pub fn remove(&mut self, footprint: &Footprint) {
        self.requested.subtract(&footprint.requests.asked);
        self.requested_for_scores.subtract(&footprint.requests.for_scores);
        for port in &footprint.ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
        self.pods -= 1;
    }
}

/// All nodes. Clones are cheap where nothing changes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeState>>,
    places: HashMap<String, usize>,
}

impl Snapshot {
    /// The nodes, in an order that changes only where nodes come and go.
    #[must_use]
    pub fn nodes(&self) -> &[Arc<NodeState>] {
        &self.nodes
    }

    /// Takes the newest state of one node; `None`: it is gone.
    pub fn set(&mut self, name: &str, state: Option<Arc<NodeState>>) {
        match (self.places.get(name).copied(), state) {
            (Some(place), Some(state)) => self.nodes[place] = state,
            (None, Some(state)) => {
                self.places.insert(name.to_owned(), self.nodes.len());
                self.nodes.push(state);
            }
            (Some(place), None) => {
                self.places.remove(name);
                self.nodes.swap_remove(place);
                if let Some(moved) = self.nodes.get(place) {
                    self.places.insert(moved.name.clone(), place);
                }
            }
            (None, None) => {}
        }
    }
}
