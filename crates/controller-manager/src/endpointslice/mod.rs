//! Writes a service's ready and unready pods into endpoint slices (upstream:
//! `pkg/controller/endpointslice` and `k8s.io/endpointslice`).

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Node, Pod, Service};
use api::types::discovery::v1::EndpointSlice;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::TIED_TO;
use crate::controllers::Context;
use crate::{pods, service_pods};

/// The label that ties a slice to its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The loop's caches.
pub struct EndpointSlices {
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    slices: Arc<Cache<EndpointSlice>>,
}

/// What a plan is made of.
pub struct Observed {
    service: Arc<Service>,
    pods: Vec<Arc<Pod>>,
    /// Zones of the pods' nodes.
    zones: HashMap<String, String>,
    slices: Vec<Arc<EndpointSlice>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (services, pods) = (context.caches.services(), context.caches.pods());
    let (nodes, slices) = (context.caches.nodes(), context.caches.slices());
    let (by_pod, by_node) = (Arc::clone(&services), Arc::clone(&services));
    let reconciler = EndpointSlices {
        services: Arc::clone(&services),
        pods: Arc::clone(&pods),
        nodes: Arc::clone(&nodes),
        slices: Arc::clone(&slices),
    };
    Loop::new(reconciler, context.flags.concurrent_service_endpoint_syncs)
        .own(&services)
        .mapped(&pods, move |change| service_pods::selecting(&by_pod, change))
        .mapped(&slices, |change| {
            let labels = change.new.or(change.old).and_then(|slice| slice.metadata.labels.as_ref());
            let name = labels.and_then(|labels| labels.get(SERVICE_NAME));
            name.map(|name| ObjectKey::new(change.key.namespace.clone(), name.clone())).into_iter().collect()
        })
        .mapped(&nodes, move |change| {
            let moved = change.old.map(|node| plan::zone(node)) != change.new.map(|node| plan::zone(node));
            let all = if moved { by_node.list() } else { Vec::new() };
            all.iter().map(|service| ObjectKey::of(&**service)).collect()
        })
}

impl Reconciler for EndpointSlices {
    const NAME: &'static str = "endpointslice";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let service = self.services.get_key(key)?;
        service_pods::selector(&service)?;
        let pods = service_pods::selected(&service, &self.pods);
        let node_zone = |pod: &Arc<Pod>| {
            let node = self.nodes.get("", pods::node_name(pod))?;
            Some((pods::node_name(pod).to_owned(), plan::zone(&node)?))
        };
        let zones = pods.iter().filter_map(node_zone).collect();
        let slices = self.slices.indexed(TIED_TO, &key.to_string());
        Some(Observed { service, pods, zones, slices })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(observed)
    }
}
