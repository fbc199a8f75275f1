//! Tells nodes how long they may keep secrets and config maps without asking
//! again: the larger the cluster, the longer (upstream: `pkg/controller/ttl`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Node;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's cache.
pub struct NodeTtl {
    nodes: Arc<Cache<Node>>,
}

/// What a plan is made of.
pub struct Observed {
    node: Arc<Node>,
    /// How many nodes there are.
    count: usize,
}

/// The loop, wired. A node is looked at when it changes, which its kubelet sees to.
pub fn start(context: &Context) -> Loop {
    let nodes = context.caches.nodes();
    Loop::new(NodeTtl { nodes: Arc::clone(&nodes) }, 5).own(&nodes)
}

impl Reconciler for NodeTtl {
    const NAME: &'static str = "ttl";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        Some(Observed { node: self.nodes.get_key(key)?, count: self.nodes.len() })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(&observed.node, observed.count)
    }
}
