//! Removes pods that nobody else will: of nodes that are gone, ended ones above
//! a threshold, and those deleted before they had a node (upstream:
//! `pkg/controller/podgc`).
//!
//! A key is a node's name, or empty for what concerns no node.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Node, Pod};
use client::Cache;
use daemon::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::TIED_TO;
use crate::controllers::Context;
use crate::pods;

/// The loop's caches.
pub struct PodGc {
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    clock: Arc<dyn Clock>,
    /// Since when a node with pods was seen to be missing.
    missing: Mutex<HashMap<String, Timestamp>>,
    threshold: usize,
}

/// What a plan is made of.
pub enum Observed {
    /// A node that is missing, since when, and its pods.
    Lost {
        /// The node's name.
        node: String,
        /// Since when.
        since: Timestamp,
        /// Its pods.
        pods: Vec<Arc<Pod>>,
    },
    /// Pods that have ended, or that were deleted before they had a node.
    Loose {
        /// The pods.
        pods: Vec<Arc<Pod>>,
        /// Ended ones that may stay.
        threshold: usize,
    },
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (pods, nodes) = (context.caches.pods(), context.caches.nodes());
    let reconciler = PodGc {
        pods: Arc::clone(&pods),
        nodes: Arc::clone(&nodes),
        clock: Arc::clone(&context.clock),
        missing: Mutex::default(),
        threshold: context.flags.terminated_pod_gc_threshold,
    };
    let known = Arc::clone(&nodes);
    let control = Loop::new(reconciler, 1)
        .mapped(&nodes, |change| change.new.is_none().then(|| change.key.clone()).into_iter().collect())
        .mapped(&pods, move |change| {
            let Some(pod) = change.new else { return Vec::new() };
            let node = pods::node_name(pod);
            if !node.is_empty() && known.get("", node).is_none() {
                return vec![ObjectKey::new("", node)];
            }
            let loose = node.is_empty() && pods::is_being_deleted(pod);
            loose.then(ObjectKey::default).into_iter().collect()
        });
    control.waker().wake(ObjectKey::default());
    control
}

impl Reconciler for PodGc {
    const NAME: &'static str = "pod-garbage-collector";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        if key.name.is_empty() {
            let mut pods = self.pods.list();
            pods.retain(|pod| pods::has_ended(pod) || pods::is_being_deleted(pod));
            return Some(Observed::Loose { pods, threshold: self.threshold });
        }
        let mut missing = self.missing.lock();
        let pods = self.pods.indexed(TIED_TO, &key.name);
        if pods.is_empty() || self.nodes.get_key(key).is_some() {
            missing.remove(&key.name);
            return None;
        }
        let since = *missing.entry(key.name.clone()).or_insert_with(|| self.clock.now());
        Some(Observed::Lost { node: key.name.clone(), since, pods })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
