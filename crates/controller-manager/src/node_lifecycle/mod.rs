//! Notices nodes that no longer give a sign of life, and taints nodes by their
//! conditions (upstream: `pkg/controller/nodelifecycle`).
//!
//! A sign of life is a change of the node's lease or of its heartbeat, timed by
//! our own clock when it is seen: the nodes' clocks need not agree with ours.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::types::coordination::v1::Lease;
use api::types::core::v1::{Node, Pod};
use client::Cache;
use jiff::Timestamp;
use parking_lot::Mutex;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::TIED_TO;
use crate::controllers::Context;
use crate::{nodes, owners};

/// When each node last gave a sign of life.
type Signs = Arc<Mutex<HashMap<String, Timestamp>>>;

/// The loop's caches; its keys are nodes.
pub struct NodeLifecycle {
    nodes: Arc<Cache<Node>>,
    pods: Arc<Cache<Pod>>,
    signs: Signs,
    grace: Duration,
}

/// What a plan is made of.
pub struct Observed {
    node: Arc<Node>,
    pods: Vec<Arc<Pod>>,
    last_sign: Option<Timestamp>,
    grace: Duration,
    /// Whether no node at all is well: then the fault may be ours, and nobody
    /// is to be evicted.
    all_are_lost: bool,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (nodes, leases, pods) = (context.caches.nodes(), context.caches.node_leases(), context.caches.pods());
    let signs = Signs::default();
    let reconciler = NodeLifecycle {
        nodes: Arc::clone(&nodes),
        pods: Arc::clone(&pods),
        signs: Arc::clone(&signs),
        grace: context.flags.node_monitor_grace_period,
    };
    let (clock, by_lease, by_node) = (Arc::clone(&context.clock), Arc::clone(&signs), signs);
    let now = Arc::clone(&clock);
    Loop::new(reconciler, 8)
        .reads(&pods)
        .mapped(&nodes, move |change| {
            let heartbeat =
                |node: &Arc<Node>| nodes::condition(node, "Ready").map(|one| one.last_heartbeat_time.clone());
            match change.new {
                None => drop(by_node.lock().remove(&change.key.name)),
                Some(new) if change.old.map(heartbeat) != Some(heartbeat(new)) => {
                    by_node.lock().insert(change.key.name.clone(), clock.now());
                }
                Some(_) => {}
            }
            vec![change.key.clone()]
        })
        .mapped(&leases, move |change| {
            let renewed = |lease: &Arc<Lease>| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
            let news = change.new.is_some() && change.old.map(renewed) != change.new.map(renewed);
            if news {
                by_lease.lock().insert(change.key.name.clone(), now.now());
            }
            // A renewal in time changes nothing; the key wakes when one is missed.
            Vec::new()
        })
}

impl Reconciler for NodeLifecycle {
    const NAME: &'static str = "node-lifecycle";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let node = self.nodes.get_key(key)?;
        let is_well =
            |node: &Arc<Node>| nodes::condition(node, "Ready").is_some_and(|ready| ready.status == "True");
        let well = is_well(&node) || self.nodes.list().iter().any(is_well);
        let last_sign = self.signs.lock().get(owners::name(&*node)).copied();
        let pods = self.pods.indexed(TIED_TO, &key.name);
        Some(Observed { node, pods, last_sign, grace: self.grace, all_are_lost: !well })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
