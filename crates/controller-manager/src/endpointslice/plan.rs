//! Which endpoints belong into which slice, with as few slices rewritten as can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::metav1::ObjectMeta;
use api::types::core::v1::{Node, Pod, Service};
use api::types::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use reconcile::{Action, Plan};

use super::{Observed, SERVICE_NAME};
use crate::{owners, pods, service_pods};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints in one slice.
const FULL: usize = 100;

/// A node's zone.
pub(super) fn zone(node: &Node) -> Option<String> {
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
}

/// Ports as a key; a pod whose named ports have other numbers needs a slice of its own.
type PortsKey = String;

struct Group {
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<String, Endpoint>,
}

pub(super) fn plan(observed: &Observed) -> Plan {
    let service = &*observed.service;
    if service.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let families = service_pods::families(service);
    let ours: Vec<&Arc<EndpointSlice>> = observed.slices.iter().filter(|slice| is_ours(slice)).collect();
    let mut actions = Vec::new();
    for family in &families {
        let existing: Vec<&EndpointSlice> =
            ours.iter().filter(|slice| slice.address_type == *family).map(|slice| &***slice).collect();
        place(service, family, wanted(observed, family), &existing, &mut actions);
    }
    // A family that the service no longer has.
    let gone = ours.iter().filter(|slice| !families.contains(&slice.address_type.as_str()));
    actions.extend(gone.map(|slice| Action::delete(&***slice)));
    Plan::of(actions)
}

fn is_ours(slice: &EndpointSlice) -> bool {
    let manager = slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    manager.is_some_and(|manager| manager == US) && slice.metadata.deletion_timestamp.is_none()
}

fn wanted(observed: &Observed, family: &str) -> BTreeMap<PortsKey, Group> {
    let mut groups: BTreeMap<PortsKey, Group> = BTreeMap::new();
    for pod in &observed.pods {
        let addresses = service_pods::addresses(pod, family);
        if addresses.is_empty() {
            continue;
        }
        let ports = ports(&observed.service, pod);
        let group =
            groups.entry(key_of(&ports)).or_insert_with(|| Group { ports, endpoints: BTreeMap::new() });
        group.endpoints.insert(owners::uid(&**pod).to_owned(), endpoint(observed, pod, addresses));
    }
    groups
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let listed = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let resolve = |port: &api::types::core::v1::ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(service_pods::target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    listed.filter_map(resolve).collect()
}

fn key_of(ports: &[EndpointPort]) -> PortsKey {
    let mut lines: Vec<String> = ports.iter().map(|port| format!("{port:?}")).collect();
    lines.sort();
    lines.join("\n")
}

fn endpoint(observed: &Observed, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pods::is_being_deleted(pod);
    let ready = service_pods::publishes_not_ready(&observed.service) || (serving && !terminating);
    let node = Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service_pods::hostname(pod, &observed.service),
        zone: node.as_ref().and_then(|node| observed.zones.get(node)).cloned(),
        node_name: node,
        target_ref: Some(service_pods::reference(pod)),
        ..Endpoint::default()
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), owners::name(service).to_owned());
    labels.insert(MANAGED_BY.to_owned(), US.to_owned());
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn new_slice(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owners::name(service))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owners::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

fn uid_of(endpoint: &Endpoint) -> &str {
    endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default()
}

/// Fits the groups into the existing slices of one family.
fn place(
    service: &Service,
    family: &str,
    mut groups: BTreeMap<PortsKey, Group>,
    existing: &[&EndpointSlice],
    actions: &mut Vec<Action>,
) {
    if groups.is_empty() {
        // One slice always says that the service is known.
        groups.insert(key_of(&[]), Group { ports: Vec::new(), endpoints: BTreeMap::new() });
    }
    let mut unwanted: Vec<&EndpointSlice> = Vec::new();
    let mut kept: BTreeMap<PortsKey, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        let key = key_of(slice.ports.as_deref().unwrap_or_default());
        if groups.contains_key(&key) {
            kept.entry(key).or_default().push(slice);
        } else {
            unwanted.push(slice);
        }
    }
    for (key, group) in groups {
        let slices = kept.remove(&key).unwrap_or_default();
        fill(service, family, group, slices, actions);
    }
    actions.extend(unwanted.into_iter().map(Action::delete));
}

fn fill(
    service: &Service,
    family: &str,
    group: Group,
    mut slices: Vec<&EndpointSlice>,
    actions: &mut Vec<Action>,
) {
    slices.sort_by_key(|slice| owners::name(*slice).to_owned());
    let Group { ports, endpoints: mut left } = group;
    // What is in a slice already stays there, as it is now.
    let mut contents: Vec<(&EndpointSlice, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let stay = slice.endpoints.iter().flatten().filter_map(|one| left.remove(uid_of(one)));
        contents.push((slice, stay.take(FULL).collect()));
    }
    let mut waiting = left.into_values();
    contents.sort_by_key(|(_, content)| std::cmp::Reverse(content.len()));
    for (_, content) in &mut contents {
        while content.len() < FULL {
            let Some(one) = waiting.next() else { break };
            content.push(one);
        }
    }
    let rest: Vec<Endpoint> = waiting.collect();
    let any = contents.iter().any(|(_, content)| !content.is_empty()) || !rest.is_empty();
    for chunk in rest.chunks(FULL) {
        actions.push(Action::create(&new_slice(service, family, &ports, chunk.to_vec())));
    }
    let mut placeholder = any;
    for (slice, content) in contents {
        if content.is_empty() && placeholder {
            actions.push(Action::delete(slice));
            continue;
        }
        placeholder |= content.is_empty();
        let labels = Some(labels(service));
        if slice.endpoints.as_deref().unwrap_or_default() != content || slice.metadata.labels != labels {
            let mut changed = slice.clone();
            changed.endpoints = Some(content);
            changed.metadata.labels = labels;
            actions.push(Action::update(&changed));
        }
    }
    if !placeholder {
        actions.push(Action::create(&new_slice(service, family, &ports, Vec::new())));
    }
}
