//! A pod as decisions see it: what does not change from one decision to the
//! next is worked out once, when the pod is first seen or changes.

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Pod;
use jiff::Timestamp;

use crate::memory::Shape;
use crate::resources::{Requests, is_sidecar};
use crate::terms::Terms;

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
    /// The address; empty: all of the node's.
    pub address: String,
}

impl HostPort {
    /// Whether two pods cannot have these on one node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_empty() || other.address.is_empty() || self.address == other.address)
    }
}

/// A pod with what decisions need to know of it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its uid.
    pub uid: String,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its priority; 0 where it has none.
    pub priority: i32,
    /// What it takes.
    pub requests: Requests,
    /// The ports of the node that it takes.
    pub ports: Vec<HostPort>,
    /// Which pods it wants near, and which not.
    pub terms: Terms,
    /// What nodes look at in it.
    pub shape: Arc<Shape>,
    /// Whether it is being deleted.
    pub is_leaving: bool,
    /// When it started; `None`: it has not.
    pub started: Option<Timestamp>,
}

impl PodInfo {
    /// Looks at a pod.
    #[must_use]
    pub fn new(pod: Arc<Pod>) -> Self {
        let (requests, ports) = (Requests::of(&pod), host_ports(&pod));
        Self {
            shape: Arc::new(Shape::of(&pod, &requests.asked, &ports)),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            key: ObjectKey::of(&*pod),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            requests,
            ports,
            terms: Terms::of(&pod),
            is_leaving: pod.metadata.deletion_timestamp.is_some(),
            started: pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            pod,
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.key.namespace
    }

    /// The node that it is on; `None`: it has none.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The node on which room is being made for it, or that it is about to get.
    #[must_use]
    pub fn nominated(&self) -> Option<&str> {
        self.pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The claims that it uses, and whether they are made for it alone.
    pub fn claims(&self) -> impl Iterator<Item = (String, bool)> {
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some((claim.claim_name.clone(), false)),
            (None, Some(_)) => Some((format!("{}-{}", self.key.name, volume.name), true)),
            (None, None) => None,
        })
    }

    /// Which scheduler is to place it.
    #[must_use]
    pub fn scheduler(&self) -> &str {
        let name = self.pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.filter(|name| !name.is_empty()).unwrap_or(crate::config::DEFAULT_SCHEDULER)
    }

    /// Whether it counts like an earlier state of it that is on the same node.
    #[must_use]
    pub fn counts_like(&self, other: &Self) -> bool {
        self.is_leaving == other.is_leaving
            && self.pod.metadata.labels == other.pod.metadata.labels
            && self.requests == other.requests
            && self.ports == other.ports
            && self.terms == other.terms
    }

    /// Whether its containers are over for good.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

/// The ports of the node that a pod asks for.
fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let address = port.host_ip.clone().unwrap_or_default();
            Some(HostPort {
                port: port.host_port.filter(|port| *port > 0)?,
                protocol: port
                    .protocol
                    .clone()
                    .filter(|protocol| !protocol.is_empty())
                    .unwrap_or_else(|| "TCP".to_owned()),
                address: if matches!(address.as_str(), "0.0.0.0" | "::") { String::new() } else { address },
            })
        })
        .collect()
}
