//! What nodes can do, as they declare it.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::types::core::v1::Pod;

use super::{Filter, NoArgs, Plugin, Prepared, Roles};
use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// Only nodes that declare what the pod needs.
pub(super) struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    const NAME: &'static str = "NodeDeclaredFeatures";
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
            Event::NodeAdded(_) => true,
            Event::NodeChanged { old, new } => declared(old) != declared(new),
            Event::Waiting { old, new } => needed(&old.pod) != needed(&new.pod),
            _ => false,
        }
    }
}

impl Filter for NodeDeclaredFeatures {
    type Facts = BTreeSet<&'static str>;
    const IS_LOCAL: bool = false;
    const LOOKS_AT_PODS: bool = false;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Prepared<Self::Facts> {
        let needed = needed(&pod.pod);
        if needed.is_empty() { Prepared::Indifferent } else { Prepared::Facts(needed) }
    }

    fn check(&self, needed: &Self::Facts, node: &NodeInfo) -> Result<(), Objection> {
        if needed.iter().all(|feature| declared(node).iter().any(|one| one == feature)) {
            return Ok(());
        }
        Err(Objection::lasting("node(s) didn't match Pod's required features"))
    }
}

/// The features that a node declares; they are sorted.
pub(crate) fn declared(node: &NodeInfo) -> &[String] {
    node.node.status.as_ref().and_then(|status| status.declared_features.as_deref()).unwrap_or_default()
}

/// The features that a pod needs a node to declare.
fn needed(pod: &Pod) -> BTreeSet<&'static str> {
    let mut needed = BTreeSet::new();
    let Some(spec) = &pod.spec else { return needed };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut rules = containers.flat_map(|container| container.restart_policy_rules.iter().flatten());
    if rules.any(|rule| rule.action == "RestartAllContainers") {
        needed.insert("RestartAllContainersOnContainerExits");
    }
    if spec.host_network == Some(true) && spec.host_users == Some(false) {
        needed.insert("UserNamespacesHostNetworkSupport");
    }
    needed
}
