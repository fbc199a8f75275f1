//! A node asked for by name, and nodes closed to new pods.

use api::types::core::v1::{Pod, Taint};

use super::taints::{NO_SCHEDULE, is_tolerated, tolerations};
use super::{ClusterEvent, Filter, Reasons};
use crate::snapshot::NodeState;

/// Only the node that the pod names.
pub(super) struct NodeName;

impl Filter for NodeName {
    const NAME: &'static str = "NodeName";
    const UNBLOCKED_BY: &'static [ClusterEvent] = &[ClusterEvent::NodeAdded];
    type Facts = String;

    fn facts(pod: &Pod) -> Option<String> {
        pod.spec.as_ref()?.node_name.clone().filter(|name| !name.is_empty())
    }

    fn check(name: &String, node: &NodeState) -> Reasons {
        if *name == node.name {
            Vec::new()
        } else {
            vec!["node(s) didn't match the requested node name".into()]
        }
    }
}

/// No node that was closed, unless the pod tolerates that.
pub(super) struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    const NAME: &'static str = "NodeUnschedulable";
    const UNBLOCKED_BY: &'static [ClusterEvent] = &[ClusterEvent::NodeAdded, ClusterEvent::NodeTaints];
    type Facts = ();

    fn facts(pod: &Pod) -> Option<()> {
        let closed = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: NO_SCHEDULE.to_owned(),
            ..Taint::default()
        };
        (!is_tolerated(&closed, tolerations(pod))).then_some(())
    }

    fn check((): &(), node: &NodeState) -> Reasons {
        let is_closed = node.node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        if is_closed { vec!["node(s) were unschedulable".into()] } else { Vec::new() }
    }
}
