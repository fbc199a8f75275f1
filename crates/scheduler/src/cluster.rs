//! The picture of the cluster between decisions: nodes, the pods on them, and
//! the pods that were given a node but whose binding the caches do not show yet.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::types::core::v1::Node;

use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// How long after a successful binding the caches may take to show it.
const ASSUMED_FOR: Duration = Duration::from_secs(60);

struct Placed {
    node: String,
    pod: Arc<PodInfo>,
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
    placed: HashMap<String, Placed>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<String, BTreeSet<String>>,
    /// Pods that were bound, and when to stop waiting for the caches to show it.
    bound: BTreeSet<(Instant, String)>,
    /// The node on which room is being made for a pod.
    nominations: HashMap<String, String>,
    snapshot: Snapshot,
}

impl Cluster {
    /// Takes a node, new or changed.
    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        self.snapshot.set_node(node);
        for uid in self.homeless.remove(name).unwrap_or_default() {
            if let Some(placed) = self.placed.get(&uid) {
                self.snapshot.add_pod(name, &placed.pod);
            }
        }
    }

    /// Takes a node's end; its pods are remembered until they end too.
    pub fn remove_node(&mut self, name: &str) {
        let uids: BTreeSet<String> =
            self.snapshot.remove_node(name).into_iter().map(|pod| pod.uid.clone()).collect();
        if !uids.is_empty() {
            self.homeless.insert(name.to_owned(), uids);
        }
    }

    /// Takes a pod that has a node, new or changed. Ends its assumption. Returns
    /// it as it was known before.
    pub fn set_pod(&mut self, pod: &Arc<PodInfo>) -> Option<Arc<PodInfo>> {
        let node = pod.node().unwrap_or_default().to_owned();
        self.withdraw(&pod.uid);
        self.place(pod, node, None)
    }

    /// Counts a pod on the node that was chosen for it.
    pub fn assume(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.withdraw(&pod.uid);
        self.place(pod, node.to_owned(), Some(Assumed::Binding));
    }

    /// The binding succeeded: the caches will show it.
    pub fn bound(&mut self, uid: &str, now: Instant) {
        if let Some(placed) = self.placed.get_mut(uid).filter(|placed| placed.assumed.is_some()) {
            let expires = now + ASSUMED_FOR;
            placed.assumed = Some(Assumed::Bound { expires });
            self.bound.insert((expires, uid.to_owned()));
        }
    }

    /// The binding failed. Returns the pod if it was only assumed.
    pub fn forget(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        if self.is_assumed(uid) { self.remove_pod(uid) } else { None }
    }

    /// Forgets pods whose binding the caches never showed.
    pub fn expire(&mut self, now: Instant) {
        while let Some((expires, uid)) = self.bound.first().filter(|(expires, _)| *expires <= now).cloned() {
            self.bound.remove(&(expires, uid.clone()));
            let is_over = |placed: &Placed| matches!(placed.assumed, Some(Assumed::Bound { expires }) if expires <= now);
            if self.placed.get(&uid).is_some_and(is_over) {
                tracing::warn!(%uid, "a bound pod never appeared; its place is free again");
                self.remove_pod(&uid);
            }
        }
    }

    /// Takes the end of a pod that had a node. Returns it, if it was known.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let placed = self.placed.remove(uid)?;
        if let Some(Assumed::Bound { expires }) = placed.assumed {
            self.bound.remove(&(expires, uid.to_owned()));
        }
        if !self.snapshot.remove_pod(&placed.node, uid)
            && let Some(uids) = self.homeless.get_mut(&placed.node)
        {
            uids.remove(uid);
            if uids.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
        Some(placed.pod)
    }

    /// Whether a pod is assumed or known to be on a node.
    #[must_use]
    pub fn has_pod(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// Whether only we know of the node of a pod.
    #[must_use]
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.placed.get(uid).is_some_and(|placed| placed.assumed.is_some())
    }

    /// Says on which node room is being made for a pod; `None`: on none any more.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        self.withdraw(&pod.uid);
        if let Some(node) = node.filter(|_| !self.has_pod(&pod.uid)) {
            self.nominations.insert(pod.uid.clone(), node.to_owned());
            self.snapshot.nominate(node, Arc::clone(pod));
        }
    }

    /// Ends the nomination of a pod. Returns the node.
    pub fn withdraw(&mut self, uid: &str) -> Option<String> {
        let node = self.nominations.remove(uid)?;
        self.snapshot.withdraw(&node, uid);
        Some(node)
    }

    /// The cluster as it is now. The cost grows with what changed.
    pub fn snapshot(&mut self) -> &Snapshot {
        self.snapshot.refresh();
        &self.snapshot
    }

    /// What else decisions depend on, to be kept current.
    pub const fn surroundings(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    fn place(&mut self, pod: &Arc<PodInfo>, node: String, assumed: Option<Assumed>) -> Option<Arc<PodInfo>> {
        if let Some(known) = self.placed.get_mut(&pod.uid)
            && known.node == node
            && self.snapshot.refresh_pod(&node, pod)
        {
            if let Some(Assumed::Bound { expires }) = known.assumed {
                self.bound.remove(&(expires, pod.uid.clone()));
            }
            known.assumed = assumed;
            return Some(std::mem::replace(&mut known.pod, Arc::clone(pod)));
        }
        let before = self.remove_pod(&pod.uid);
        if !self.snapshot.add_pod(&node, pod) {
            self.homeless.entry(node.clone()).or_default().insert(pod.uid.clone());
        }
        self.placed.insert(pod.uid.clone(), Placed { node, pod: Arc::clone(pod), assumed });
        before
    }
}
