//! The cluster as decisions see it: nodes, the pods on them, and indexes that
//! keep the cost of a decision from growing with the pods of other nodes.
//!
//! Start reading in [`Snapshot`]. Everything here is plain data: [`crate::cluster`]
//! keeps it current, decisions only read it. The indexes fill as they are asked,
//! behind a lock that only one decision at a time ever takes.

mod budgets;
mod census;
mod counts;
mod holders;
mod node;
mod topology;
mod volumes;
mod workloads;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::LabelSelector;
use api::types::core::v1::Node;
use parking_lot::Mutex;

pub use budgets::Budgets;
pub use census::{Answer, Question, Scope};
pub use counts::Counts;
pub use holders::{Bond, Holder, bonds};
pub use node::NodeInfo;
pub use topology::Topology;
pub use volumes::{Volumes, class_of_claim, class_of_volume};
pub use workloads::Workloads;

use self::census::Census;
use self::holders::Holders;
use self::topology::Topologies;
use crate::pod::PodInfo;
use crate::terms::{Labels, Term};

/// The labels that say where a node stands, for the order in which nodes are tried.
const ZONE: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

#[derive(Debug, Default)]
struct Index {
    topologies: Topologies,
    census: Census,
    holders: Holders,
}

/// The cluster at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Nodes by slot.
    nodes: Vec<Option<Box<NodeInfo>>>,
    free: Vec<usize>,
    places: HashMap<Arc<str>, usize>,
    /// The slots in the order in which nodes are tried.
    order: Vec<usize>,
    is_order_old: bool,
    generation: u64,
    /// The generation of each node, by slot.
    generations: Vec<u64>,
    index: Mutex<Index>,
    /// How many nodes have an image.
    images: HashMap<String, usize>,
    namespaces: HashMap<String, Labels>,
    /// Pods for which room is being made, by node.
    nominated: HashMap<String, Vec<Arc<PodInfo>>>,
    /// Selectors of services and owners of pods.
    pub workloads: Workloads,
    /// Disruption budgets.
    pub budgets: Budgets,
    /// Claims, volumes, and what belongs to them.
    pub volumes: Arc<Volumes>,
}

impl Snapshot {
    /// The nodes, in an order that takes zones in turn.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        (0..self.order.len()).map(|place| self.node_at(place))
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The node at a place in the order, which starts again at its end.
    ///
    /// # Panics
    /// There are no nodes.
    #[must_use]
    pub fn node_at(&self, place: usize) -> &NodeInfo {
        self.node_in(self.slot_at(place))
    }

    /// The slot at a place in the order, which starts again at its end.
    ///
    /// # Panics
    /// There are no nodes.
    #[must_use]
    pub fn slot_at(&self, place: usize) -> usize {
        self.order[place % self.order.len()]
    }

    /// The node in a slot.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn node_in(&self, slot: usize) -> &NodeInfo {
        self.nodes[slot].as_deref().expect("the slot has a node")
    }

    /// A number that no other state of any node has.
    #[must_use]
    pub fn generation(&self, slot: usize) -> u64 {
        self.generations[slot]
    }

    /// Whether room is being made anywhere.
    #[must_use]
    pub fn has_nominated(&self) -> bool {
        !self.nominated.is_empty()
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes[*self.places.get(name)?].as_deref()
    }

    /// How many nodes have an image.
    #[must_use]
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// The labels of a namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> &Labels {
        self.namespaces.get(name).unwrap_or(&None)
    }

    /// The namespaces that a term means, with those it selects by labels.
    #[must_use]
    pub fn scope(&self, term: &Term) -> Scope {
        if term.namespace_selector.is_everything() {
            return Scope::All;
        }
        let mut names: BTreeSet<String> = term.namespaces.clone();
        if term.namespace_selector != LabelSelector::nothing() {
            let selected =
                self.namespaces.iter().filter(|(_, labels)| term.namespace_selector.matches(labels));
            names.extend(selected.map(|(name, _)| name.clone()));
        }
        Scope::Names(names)
    }

    /// Pods for which room is being made on a node.
    #[must_use]
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// The domains that a label of nodes makes.
    #[must_use]
    pub fn topology(&self, key: &str) -> Arc<Topology> {
        self.index.lock().topologies.of(key, self.nodes.iter().flatten().map(Box::as_ref))
    }

    /// How many pods on nodes answer to a question.
    #[must_use]
    pub fn count(&self, question: Question, key: &str) -> (Arc<Topology>, Answer) {
        let mut index = self.index.lock();
        let topology = index.topologies.of(key, self.nodes.iter().flatten().map(Box::as_ref));
        let answer = index.census.count(question, key, &topology);
        (topology, answer)
    }

    /// The terms of pods on nodes that mean a pod.
    #[must_use]
    pub fn terms_meaning(&self, pod: &PodInfo, wanted: impl Fn(Bond) -> bool) -> Vec<(Bond, String, Counts)> {
        let namespace = self.namespace(pod.namespace());
        let mut index = self.index.lock();
        let Index { topologies, holders, .. } = &mut *index;
        let meaning = holders.meaning(pod, namespace).filter(|holder| wanted(holder.bond));
        meaning
            .map(|holder| {
                let key = &holder.term.topology_key;
                let topology = topologies.of(key, self.nodes.iter().flatten().map(Box::as_ref));
                (holder.bond, key.clone(), Counts::new(topology, Arc::clone(&holder.by_domain)))
            })
            .collect()
    }

    /// Takes a node, new or changed. Its pods stay.
    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let Some(slot) = self.places.get(name).copied() else {
            self.add_node(node);
            return;
        };
        self.changed(slot);
        let Some(mut info) = self.nodes[slot].take() else { return };
        self.count_images(&info, false);
        if info.node.metadata.labels == node.metadata.labels {
            info.set_node(Arc::clone(node));
        } else {
            self.unindex(&info);
            info.set_node(Arc::clone(node));
            self.index_node(&info);
            self.is_order_old = true;
        }
        self.count_images(&info, true);
        self.nodes[slot] = Some(info);
    }

    /// Takes a node's end. Returns the pods that it had.
    pub fn remove_node(&mut self, name: &str) -> Vec<Arc<PodInfo>> {
        let Some(slot) = self.places.remove(name) else { return Vec::new() };
        let Some(info) = self.nodes[slot].take() else { return Vec::new() };
        self.count_images(&info, false);
        self.unindex(&info);
        self.free.push(slot);
        self.is_order_old = true;
        info.pods
    }

    /// Counts a pod in on a node. Returns whether the node is known.
    pub fn add_pod(&mut self, name: &str, pod: &Arc<PodInfo>) -> bool {
        let Some(slot) = self.places.get(name).copied() else { return false };
        self.changed(slot);
        let Some(info) = self.nodes[slot].as_mut() else { return false };
        info.add(Arc::clone(pod));
        self.index_pods(slot, std::slice::from_ref(pod));
        true
    }

    /// Counts a pod out. Returns whether it was there.
    pub fn remove_pod(&mut self, name: &str, uid: &str) -> bool {
        let Some(slot) = self.places.get(name).copied() else { return false };
        self.changed(slot);
        let Some(info) = self.nodes[slot].as_mut() else { return false };
        let Some(pod) = info.remove(uid) else { return false };
        let index = self.index.get_mut();
        index.census.remove(&pod, slot, &index.topologies);
        index.holders.remove(&pod, slot, &index.topologies);
        count_users(&mut self.volumes, &pod, false);
        true
    }

    /// Takes a pod of which nothing changed that is counted. Returns whether that
    /// is so.
    pub fn refresh_pod(&mut self, name: &str, pod: &Arc<PodInfo>) -> bool {
        let Some(slot) = self.places.get(name).copied() else { return false };
        let pods = self.nodes[slot].as_mut().map(|info| &mut info.pods);
        let known = pods.and_then(|pods| pods.iter_mut().find(|one| one.uid == pod.uid));
        match known {
            Some(known) if known.counts_like(pod) => {
                *known = Arc::clone(pod);
                true
            }
            _ => false,
        }
    }

    /// Takes the labels of a namespace; `None`: it is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
    }

    /// Says that room is being made for a pod on a node.
    pub fn nominate(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.nominated.entry(node.to_owned()).or_default().push(pod);
    }

    /// Ends a nomination.
    pub fn withdraw(&mut self, node: &str, uid: &str) {
        if let Some(pods) = self.nominated.get_mut(node) {
            pods.retain(|pod| pod.uid != uid);
            if pods.is_empty() {
                self.nominated.remove(node);
            }
        }
    }

    /// Brings the order of nodes up to date after nodes came or went.
    pub fn refresh(&mut self) {
        if std::mem::take(&mut self.is_order_old) {
            self.order = in_turn(self.nodes.iter().flatten().map(Box::as_ref));
        }
    }

    fn changed(&mut self, slot: usize) {
        self.generation += 1;
        if self.generations.len() <= slot {
            self.generations.resize(slot + 1, 0);
        }
        self.generations[slot] = self.generation;
    }

    fn add_node(&mut self, node: &Arc<Node>) {
        let slot = self.free.pop().unwrap_or(self.nodes.len());
        self.changed(slot);
        let mut info = NodeInfo::new(Arc::clone(node));
        info.slot = slot;
        self.places.insert(Arc::clone(&info.name), slot);
        self.count_images(&info, true);
        self.index_node(&info);
        if slot == self.nodes.len() {
            self.nodes.push(Some(Box::new(info)));
        } else {
            self.nodes[slot] = Some(Box::new(info));
        }
        self.is_order_old = true;
    }

    fn count_images(&mut self, info: &NodeInfo, comes: bool) {
        for name in info.images.keys() {
            if comes {
                *self.images.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.images.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(name);
                }
            }
        }
    }

    fn index_node(&mut self, info: &NodeInfo) {
        self.index.get_mut().topologies.add(info);
        self.index_pods(info.slot, &info.pods);
    }

    fn index_pods(&mut self, slot: usize, pods: &[Arc<PodInfo>]) {
        let index = self.index.get_mut();
        for pod in pods {
            for (_, term) in bonds(pod) {
                index.topologies.of(&term.topology_key, self.nodes.iter().flatten().map(Box::as_ref));
            }
            index.census.add(pod, slot, &index.topologies);
            index.holders.add(pod, slot, &index.topologies);
            count_users(&mut self.volumes, pod, true);
        }
    }

    fn unindex(&mut self, info: &NodeInfo) {
        let index = self.index.get_mut();
        for pod in &info.pods {
            index.census.remove(pod, info.slot, &index.topologies);
            index.holders.remove(pod, info.slot, &index.topologies);
            count_users(&mut self.volumes, pod, false);
        }
        index.topologies.remove(info);
    }
}

fn count_users(volumes: &mut Arc<Volumes>, pod: &PodInfo, comes: bool) {
    let claims: Vec<String> = pod.claims().map(|(name, _)| name).collect();
    if !claims.is_empty() {
        Arc::make_mut(volumes).count_users(pod.namespace(), claims.iter().map(String::as_str), comes);
    }
}

/// Slots, one node of each zone after the other.
fn in_turn<'a>(nodes: impl Iterator<Item = &'a NodeInfo>) -> Vec<usize> {
    let mut zones: BTreeMap<[&str; 2], Vec<usize>> = BTreeMap::new();
    for node in nodes {
        zones.entry(ZONE.map(|key| node.label(key).unwrap_or_default())).or_default().push(node.slot);
    }
    let longest = zones.values().map(Vec::len).max().unwrap_or(0);
    let rounds = (0..longest).flat_map(|round| zones.values().filter_map(move |zone| zone.get(round)));
    rounds.copied().collect()
}
