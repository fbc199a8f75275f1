//! Gives services of type LoadBalancer the addresses of nodes, for clusters
//! without a cloud: every node's kube-proxy forwards what comes for them. Off
//! unless `--service-load-balancer=nodes` asks for it, so that it is in nobody's
//! way who brings a load balancer.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Node, Service};
use api::types::discovery::v1::EndpointSlice;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::TIED_TO;
use crate::controllers::Context;
use crate::endpointslice::SERVICE_NAME;
use crate::flags::ServiceLoadBalancer;

/// The loop's caches.
pub struct NodeLoadBalancer {
    services: Arc<Cache<Service>>,
    nodes: Arc<Cache<Node>>,
    slices: Arc<Cache<EndpointSlice>>,
    is_wanted: bool,
}

/// What a plan is made of.
pub struct Observed {
    service: Arc<Service>,
    /// All services.
    others: Vec<Arc<Service>>,
    nodes: Vec<Arc<Node>>,
    /// The nodes on which the service has pods that are ready.
    serving: BTreeSet<String>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let caches = &context.caches;
    let (services, nodes, slices) = (caches.services(), caches.nodes(), caches.slices());
    let reconciler = NodeLoadBalancer {
        services: Arc::clone(&services),
        nodes: Arc::clone(&nodes),
        slices: Arc::clone(&slices),
        is_wanted: context.flags.service_load_balancer == ServiceLoadBalancer::Nodes,
    };
    let balanced = |services: &Cache<Service>| {
        let all = services.list();
        let ours = all.iter().filter(|service| plan::is_ours(service) || plan::has_addresses(service));
        ours.map(|service| ObjectKey::of(&**service)).collect::<Vec<_>>()
    };
    let (by_service, by_node) = (Arc::clone(&services), Arc::clone(&services));
    Loop::new(reconciler, 1)
        .mapped(&services, move |change| {
            // A port that one lets go may be what another waits for.
            let concerns =
                [change.old, change.new].into_iter().flatten().any(|service| plan::is_ours(service));
            if concerns { balanced(&by_service) } else { Vec::new() }
        })
        .mapped(&nodes, move |change| {
            let matters =
                change.old.map(|node| plan::concern(node)) != change.new.map(|node| plan::concern(node));
            if matters { balanced(&by_node) } else { Vec::new() }
        })
        .mapped(&slices, |change| {
            let slice = change.new.or(change.old);
            let name = slice.and_then(|slice| slice.metadata.labels.as_ref()?.get(SERVICE_NAME));
            name.map(|name| ObjectKey::new(change.key.namespace.clone(), name.clone())).into_iter().collect()
        })
}

impl Reconciler for NodeLoadBalancer {
    const NAME: &'static str = "service-load-balancer";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let service = self.services.get_key(key).filter(|_| self.is_wanted)?;
        let slices = self.slices.indexed(TIED_TO, &key.to_string());
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let ready = endpoints.filter(|one| one.conditions.as_ref().is_some_and(|is| is.ready == Some(true)));
        let serving = ready.filter_map(|one| one.node_name.clone()).collect();
        Some(Observed { service, others: self.services.list(), nodes: self.nodes.list(), serving })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(observed)
    }
}
