//! Ports of the node: one pod each.

use api::types::core::v1::Pod;

use super::{ClusterEvent, Filter, Reasons};
use crate::snapshot::{HostPort, NodeState, host_ports};

/// Only nodes on which the pod's host ports are free.
pub(super) struct NodePorts;

impl Filter for NodePorts {
    const NAME: &'static str = "NodePorts";
    const UNBLOCKED_BY: &'static [ClusterEvent] = &[ClusterEvent::NodeAdded, ClusterEvent::PodRemoved];
    type Facts = Vec<HostPort>;

    fn facts(pod: &Pod) -> Option<Vec<HostPort>> {
        Some(host_ports(pod)).filter(|ports| !ports.is_empty())
    }

    fn check(wanted: &Vec<HostPort>, node: &NodeState) -> Reasons {
        if wanted.iter().any(|wanted| node.ports.keys().any(|taken| taken.conflicts(wanted))) {
            vec!["node(s) didn't have free ports for the requested pod ports".into()]
        } else {
            Vec::new()
        }
    }
}
