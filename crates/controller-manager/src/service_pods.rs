//! What both endpoint controllers derive from a service and its pods. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use api::types::core::v1::{ObjectReference, Pod, Service, ServicePort};
use api::{IntOrString, LabelSelector, ObjectKey};
use client::{Cache, Change};

use crate::caches::NAMESPACE;
use crate::{owners, pods};

/// The selector; `None` for services whose endpoints are somebody else's
/// business.
#[must_use]
pub fn selector(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| LabelSelector::from_map(selector))
}

/// Whether the service has no address of its own.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether pods that are not ready are published as well.
#[must_use]
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or_default()
}

/// The families, `IPv4` or `IPv6`, that the service's endpoints have.
#[must_use]
pub fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|spec| spec.ip_families.as_ref()).into_iter().flatten();
    let known = listed.filter_map(|family| ["IPv4", "IPv6"].into_iter().find(|one| one == family));
    let families: Vec<&'static str> = known.collect();
    if families.is_empty() { vec!["IPv4"] } else { families }
}

/// The pod's addresses of a family.
#[must_use]
pub fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut all: Vec<&String> = status.pod_ips.iter().flatten().map(|one| &one.ip).collect();
    if all.is_empty() {
        all.extend(&status.pod_ip);
    }
    let fits =
        |text: &&&String| text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6() == (family == "IPv6"));
    all.iter().filter(fits).map(|text| (*text).clone()).collect()
}

/// The port of the pod that a service port leads to; `None` where the pod has none.
#[must_use]
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(if *number == 0 { port.port } else { *number }),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let protocol = |text: &Option<String>| text.clone().unwrap_or_else(|| "TCP".to_owned());
    let found = ports
        .find(|one| one.name.as_ref() == Some(name) && protocol(&one.protocol) == protocol(&port.protocol));
    found.map(|one| one.container_port)
}

/// The name under which the service's DNS entry knows the pod.
#[must_use]
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|name| !name.is_empty())?;
    let same = spec.subdomain.as_deref() == service.metadata.name.as_deref()
        && pod.metadata.namespace == service.metadata.namespace;
    same.then_some(hostname)
}

/// The reference from an endpoint to its pod.
#[must_use]
pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

/// The pods that a service selects and that may serve.
#[must_use]
pub fn selected(service: &Service, cache: &Cache<Pod>) -> Vec<Arc<Pod>> {
    let Some(selector) = selector(service) else { return Vec::new() };
    let mut found = cache.indexed(NAMESPACE, owners::namespace(service));
    found.retain(|pod| selector.matches(&pod.metadata.labels) && !pods::has_ended(pod));
    found
}

/// The services that selected a pod before a change, or select it after.
#[must_use]
pub fn selecting(services: &Cache<Service>, change: &Change<'_, Pod>) -> Vec<ObjectKey> {
    let candidates = services.indexed(NAMESPACE, &change.key.namespace);
    let selects = |service: &Service| {
        let selector = selector(service);
        let mut pods = [change.old, change.new].into_iter().flatten();
        selector.is_some_and(|selector| pods.any(|pod| selector.matches(&pod.metadata.labels)))
    };
    candidates.iter().filter(|service| selects(service)).map(|service| ObjectKey::of(&**service)).collect()
}
