//! A node asked for by name, and nodes closed to new pods.

use std::sync::Arc;

use api::types::core::v1::{Pod, Taint};

use super::taints::{NO_SCHEDULE, is_tolerated, tolerations};
use super::{Filter, NoArgs, Plugin, Prepared, Roles};
use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// Only the node that the pod names.
pub(super) struct NodeName;

impl Plugin for NodeName {
    const NAME: &'static str = "NodeName";
    const HEEDS: Kinds = Kinds::NODE_ADDED;
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self)
    }

    fn is_helped_by(&self, _: &PodInfo, _: &Event<'_>) -> bool {
        true
    }
}

impl Filter for NodeName {
    type Facts = String;
    const IS_LOCAL: bool = true;
    const LOOKS_AT_PODS: bool = false;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Prepared<String> {
        pod.node().map_or(Prepared::Indifferent, |name| Prepared::Facts(name.to_owned()))
    }

    fn check(&self, name: &String, node: &NodeInfo) -> Result<(), Objection> {
        if **name == *node.name {
            return Ok(());
        }
        Err(Objection::lasting("node(s) didn't match the requested node name"))
    }
}

/// No node that was closed, unless the pod tolerates that.
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    const NAME: &'static str = "NodeUnschedulable";
    const HEEDS: Kinds = Kinds::NODE_MADE.with(Kinds::WAITING);
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self)
    }

    fn is_helped_by(&self, _: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(node) => !node.is_closed,
            Event::NodeChanged { old, new } => old.is_closed && !new.is_closed,
            Event::Waiting { new, .. } => tolerates_closed(&new.pod),
            _ => false,
        }
    }
}

impl Filter for NodeUnschedulable {
    type Facts = ();
    const IS_LOCAL: bool = true;
    const LOOKS_AT_PODS: bool = false;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Prepared<()> {
        if tolerates_closed(&pod.pod) { Prepared::Indifferent } else { Prepared::Facts(()) }
    }

    fn check(&self, (): &(), node: &NodeInfo) -> Result<(), Objection> {
        if node.is_closed { Err(Objection::lasting("node(s) were unschedulable")) } else { Ok(()) }
    }
}

fn tolerates_closed(pod: &Pod) -> bool {
    let closed = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: NO_SCHEDULE.to_owned(),
        ..Taint::default()
    };
    is_tolerated(&closed, tolerations(pod))
}
