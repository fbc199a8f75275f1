//! Ports of the node: one pod each.

use std::sync::Arc;

use super::{Filter, NoArgs, Plugin, Prepared, Roles};
use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::pod::{HostPort, PodInfo};
use crate::snapshot::{NodeInfo, Snapshot};

/// Only nodes on which the pod's host ports are free.
pub(super) struct NodePorts;

impl Plugin for NodePorts {
    const NAME: &'static str = "NodePorts";
    const HEEDS: Kinds = Kinds::NODE_ADDED.with(Kinds::POD_REMOVED);
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::PodRemoved(gone) => conflict(&pod.ports, gone.ports.iter()),
            _ => false,
        }
    }
}

impl Filter for NodePorts {
    type Facts = Vec<HostPort>;
    const IS_LOCAL: bool = true;
    const LOOKS_AT_PODS: bool = true;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Prepared<Vec<HostPort>> {
        if pod.ports.is_empty() { Prepared::Indifferent } else { Prepared::Facts(pod.ports.clone()) }
    }

    fn check(&self, wanted: &Vec<HostPort>, node: &NodeInfo) -> Result<(), Objection> {
        if conflict(wanted, node.ports.keys()) {
            return Err(Objection::passing("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}

fn conflict<'a>(wanted: &[HostPort], mut taken: impl Iterator<Item = &'a HostPort>) -> bool {
    taken.any(|taken| wanted.iter().any(|wanted| taken.conflicts(wanted)))
}
