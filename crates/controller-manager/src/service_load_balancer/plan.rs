//! Which nodes' addresses a service has.

use std::collections::BTreeSet;

use api::types::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, Service, ServiceStatus};
use client::events::reference;
use reconcile::{Action, Plan};

use super::Observed;
use crate::{nodes, owners, service_pods, status};

/// The label of nodes that are no load balancers.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Whether a service is to have addresses from us.
pub(super) fn is_ours(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    }) && service.metadata.deletion_timestamp.is_none()
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_deref()).unwrap_or_default()
}

/// Whether a service is told to have addresses.
pub(super) fn has_addresses(service: &Service) -> bool {
    !ingress(service).is_empty()
}

/// What of a node decides whether services have its address.
pub(super) fn concern(node: &Node) -> (bool, Vec<(String, String)>) {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses = addresses.map(|one| (one.type_.clone(), one.address.clone())).collect();
    let excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
    let ready = nodes::condition(node, "Ready").is_some_and(|ready| ready.status == "True");
    (ready && !excluded && node.metadata.deletion_timestamp.is_none(), addresses)
}

/// The ports that a service takes on every node.
fn ports(service: &Service) -> BTreeSet<(String, i32)> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    ports.map(|port| (protocol(&port.protocol), port.port)).collect()
}

/// The service that came first and has one of the ports already.
fn rival(observed: &Observed) -> Option<&Service> {
    let service = &*observed.service;
    let age = |service: &Service| {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, owners::namespace(service).to_owned(), owners::name(service).to_owned())
    };
    let wanted = ports(service);
    let mut earlier = observed.others.iter().map(|other| &**other).filter(|other| is_ours(other));
    earlier.find(|other| age(other) < age(service) && !ports(other).is_disjoint(&wanted))
}

/// The addresses of the nodes that forward for a service.
fn addresses(observed: &Observed) -> BTreeSet<String> {
    let service = &*observed.service;
    let local =
        service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local");
    let forwards = |node: &&std::sync::Arc<Node>| {
        concern(node).0 && (!local || observed.serving.contains(owners::name(&***node)))
    };
    let all: Vec<(String, String)> =
        observed.nodes.iter().filter(forwards).flat_map(|node| concern(node).1).collect();
    // What the world can reach goes before what only the cluster can.
    let kind = if all.iter().any(|(kind, _)| kind == "ExternalIP") { "ExternalIP" } else { "InternalIP" };
    let families = service_pods::families(service);
    let fits = |address: &str| {
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        families.contains(&family)
    };
    all.into_iter().filter(|(of, address)| of == kind && fits(address)).map(|(_, address)| address).collect()
}

pub(super) fn plan(observed: &Observed) -> Plan {
    let service = &*observed.service;
    let mut plan = Plan::default();
    let mut wanted = BTreeSet::new();
    if is_ours(service) {
        match rival(observed) {
            None => wanted = addresses(observed),
            Some(other) => {
                let other = format!("{}/{}", owners::namespace(other), owners::name(other));
                let text = format!("a port of this service is taken on every node by service {other}");
                plan.actions.push(Action::warning(reference(service), "PortConflict", text));
            }
        }
    } else if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer") {
        // Somebody else's, by its class.
        return plan;
    }
    let has: BTreeSet<String> = ingress(service).iter().filter_map(|one| one.ip.clone()).collect();
    if has == wanted {
        return plan;
    }
    let entry = |address: &String| LoadBalancerIngress {
        ip: Some(address.clone()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    };
    let ingress: Vec<LoadBalancerIngress> = wanted.iter().map(entry).collect();
    let ingress = Some(ingress).filter(|ingress| !ingress.is_empty());
    let told = ServiceStatus {
        load_balancer: Some(LoadBalancerStatus { ingress }),
        ..service.status.clone().unwrap_or_default()
    };
    plan.actions.extend(status::write_unchanged(service, service.status.as_ref(), &told));
    if !wanted.is_empty() {
        plan.actions.push(Action::normal(reference(service), "EnsuredLoadBalancer", "Ensured load balancer"));
    }
    plan
}
