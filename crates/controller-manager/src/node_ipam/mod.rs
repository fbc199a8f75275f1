//! Gives each node a part of the cluster's pod addresses (upstream:
//! `pkg/controller/nodeipam`, range allocator).
//!
//! There is one key, so that no two plans give the same part away.

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Node;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's cache.
pub struct NodeIpam {
    nodes: Arc<Cache<Node>>,
    ranges: Vec<plan::Range>,
}

/// The loop, wired; without `--allocate-node-cidrs` there is nothing to give.
pub fn start(context: &Context) -> Loop {
    let nodes = context.caches.nodes();
    let flags = &context.flags;
    let cut = |range: &ipnet::IpNet| {
        let size = match range {
            ipnet::IpNet::V4(_) => flags.node_cidr_mask_size,
            ipnet::IpNet::V6(_) => flags.node_cidr_mask_size_ipv6,
        };
        plan::Range { range: *range, size }
    };
    let ranges =
        if flags.allocate_node_cidrs { flags.cluster_cidr.iter().map(cut).collect() } else { Vec::new() };
    Loop::new(NodeIpam { nodes: Arc::clone(&nodes), ranges }, 1).mapped(&nodes, |change| {
        let news = change.new.is_none() || change.new.is_some_and(|node| plan::parts_of(node).is_empty());
        news.then(|| ObjectKey::new("", "all")).into_iter().collect()
    })
}

impl Reconciler for NodeIpam {
    const NAME: &'static str = "node-ipam";
    type Observed = Vec<Arc<Node>>;

    fn observe(&self, _: &ObjectKey) -> Option<Vec<Arc<Node>>> {
        (!self.ranges.is_empty()).then(|| self.nodes.list())
    }

    fn plan(&self, observed: &Vec<Arc<Node>>, _: &Moment) -> Plan {
        plan::plan(observed, &self.ranges)
    }
}
