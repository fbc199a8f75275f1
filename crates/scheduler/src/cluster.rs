//! The picture of the cluster between decisions: nodes, the pods on them, and
//! the pods that were given a node but whose binding the caches do not show yet.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::types::core::v1::{Node, Pod};

use crate::snapshot::{Footprint, NodeState, Snapshot};

/// How long after a successful binding the caches may take to show it.
const ASSUMED_FOR: Duration = Duration::from_secs(60);

struct Placed {
    node: String,
    footprint: Footprint,
    /// Set while only we know of it.
    assumed: Option<Assumed>,
}

#[derive(Clone, Copy)]
enum Assumed {
    Binding,
    Bound { expires: Instant },
}

/// The picture. Pods are known by uid.
#[derive(Default)]
pub struct Cluster {
    nodes: HashMap<String, Arc<NodeState>>,
    placed: HashMap<String, Placed>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<String, BTreeSet<String>>,
    snapshot: Snapshot,
    /// Nodes that changed since the snapshot.
    changed: BTreeSet<String>,
}

impl Cluster {
    /// Takes a node, new or changed.
    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        if let Some(state) = self.nodes.get_mut(&name) {
            Arc::make_mut(state).set_node(Arc::clone(node));
        } else {
            let mut state = NodeState::new(Arc::clone(node));
            for uid in self.homeless.remove(&name).unwrap_or_default() {
                if let Some(placed) = self.placed.get(&uid) {
                    state.add(&placed.footprint);
                }
            }
            self.nodes.insert(name.clone(), Arc::new(state));
        }
        self.changed.insert(name);
    }

    /// Takes a node's end; its pods are remembered until they end too.
    pub fn remove_node(&mut self, name: &str) {
        if self.nodes.remove(name).is_some() {
            let here = self.placed.iter().filter(|(_, placed)| placed.node == name);
            let uids: BTreeSet<String> = here.map(|(uid, _)| uid.clone()).collect();
            if !uids.is_empty() {
                self.homeless.insert(name.to_owned(), uids);
            }
            self.changed.insert(name.to_owned());
        }
    }

    /// Takes a pod that has a node, new or changed. Ends its assumption.
    pub fn set_pod(&mut self, pod: &Pod) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        self.place(pod, node, None);
    }

    /// Counts a pod on the node that was chosen for it.
    pub fn assume(&mut self, pod: &Pod, node: &str) {
        self.place(pod, node.to_owned(), Some(Assumed::Binding));
    }

    /// The binding succeeded: the caches will show it.
    pub fn bound(&mut self, uid: &str, now: Instant) {
        if let Some(placed) = self.placed.get_mut(uid).filter(|placed| placed.assumed.is_some()) {
            placed.assumed = Some(Assumed::Bound { expires: now + ASSUMED_FOR });
        }
    }

    /// The binding failed. Returns whether the pod was only assumed.
    pub fn forget(&mut self, uid: &str) -> bool {
        let assumed = self.placed.get(uid).is_some_and(|placed| placed.assumed.is_some());
        if assumed {
            self.remove_pod(uid);
        }
        assumed
    }

    /// Forgets pods whose binding the caches never showed.
    pub fn expire(&mut self, now: Instant) {
        let is_over =
            |placed: &Placed| matches!(placed.assumed, Some(Assumed::Bound { expires }) if expires <= now);
        let over: Vec<String> =
            self.placed.iter().filter(|(_, placed)| is_over(placed)).map(|(uid, _)| uid.clone()).collect();
        for uid in over {
            tracing::warn!(%uid, "a bound pod never appeared; its place is free again");
            self.remove_pod(&uid);
        }
    }

    /// Takes the end of a pod that had a node. Returns whether it was known.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(placed) = self.placed.remove(uid) else { return false };
        if let Some(state) = self.nodes.get_mut(&placed.node) {
            Arc::make_mut(state).remove(&placed.footprint);
            self.changed.insert(placed.node);
        } else if let Some(uids) = self.homeless.get_mut(&placed.node) {
            uids.remove(uid);
            if uids.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
        true
    }

    /// Whether a pod is assumed or known to be on a node.
    #[must_use]
    pub fn has_pod(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// The nodes as they are now. The cost grows with what changed.
    pub fn snapshot(&mut self) -> &Snapshot {
        for name in std::mem::take(&mut self.changed) {
            let state = self.nodes.get(&name).cloned();
            self.snapshot.set(&name, state);
        }
        &self.snapshot
    }

    fn place(&mut self, pod: &Pod, node: String, assumed: Option<Assumed>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let footprint = Footprint::of(pod);
        if let Some(known) = self.placed.get_mut(&uid) {
            if known.node == node
                && known.footprint.requests == footprint.requests
                && known.footprint.ports == footprint.ports
            {
                known.assumed = assumed;
                return;
            }
            self.remove_pod(&uid);
        }
        if let Some(state) = self.nodes.get_mut(&node) {
            Arc::make_mut(state).add(&footprint);
            self.changed.insert(node.clone());
        } else {
            self.homeless.entry(node.clone()).or_default().insert(uid.clone());
        }
        self.placed.insert(uid, Placed { node, footprint, assumed });
    }
}
