//! The subsets of an Endpoints object: addresses grouped by the ports they have.

use std::collections::BTreeMap;

use api::metav1::ObjectMeta;
use api::types::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use reconcile::{Action, Plan};

use super::Observed;
use crate::{pods, service_pods};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const US: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object.
const FULL: usize = 1000;

pub(super) fn plan(observed: &Observed) -> Plan {
    let Some(service) = &observed.service else {
        // Only what we wrote goes with its service; others' objects are theirs.
        let ours = observed.endpoints.as_ref().filter(|one| {
            one.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == US)
        });
        return Plan::of(ours.map(|one| Action::delete(&**one)).into_iter().collect());
    };
    if service_pods::selector(service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let mut subsets = subsets(service, &observed.pods);
    let truncated = truncate(&mut subsets);
    let labels = labels(service);
    let Some(now) = &observed.endpoints else {
        let created = Endpoints {
            metadata: ObjectMeta {
                name: service.metadata.name.clone(),
                namespace: service.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: truncated.then(|| [(OVER_CAPACITY.to_owned(), "truncated".to_owned())].into()),
                ..ObjectMeta::default()
            },
            subsets: Some(subsets),
        };
        return Plan::of(vec![Action::create(&created)]);
    };
    let was_truncated = now.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OVER_CAPACITY));
    let same = now.subsets.as_deref().unwrap_or_default() == subsets
        && now.metadata.labels.as_ref() == Some(&labels)
        && was_truncated == truncated;
    if same {
        return Plan::default();
    }
    let mut changed = (**now).clone();
    changed.subsets = Some(subsets);
    changed.metadata.labels = Some(labels);
    let annotations = changed.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    Plan::of(vec![Action::update(&changed)])
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), US.to_owned());
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn subsets(service: &Service, pods: &[std::sync::Arc<Pod>]) -> Vec<EndpointSubset> {
    let family = service_pods::families(service).first().copied().unwrap_or("IPv4");
    let not_ready_too = service_pods::publishes_not_ready(service);
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    for pod in pods {
        if pods::is_being_deleted(pod) && !not_ready_too {
            continue;
        }
        let Some(ip) = service_pods::addresses(pod, family).into_iter().next() else { continue };
        let ports = ports(service, pod);
        let has_ports = service.spec.iter().any(|spec| spec.ports.iter().flatten().next().is_some());
        if ports.is_empty() && has_ports {
            continue;
        }
        let address = EndpointAddress {
            ip,
            hostname: service_pods::hostname(pod, service),
            node_name: Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
            target_ref: Some(service_pods::reference(pod)),
        };
        let group = groups.entry(format!("{ports:?}")).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..EndpointSubset::default()
        });
        let list = if not_ready_too || pods::is_ready(pod) {
            &mut group.addresses
        } else {
            &mut group.not_ready_addresses
        };
        list.get_or_insert_default().push(address);
    }
    for subset in groups.values_mut() {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses] {
            list.iter_mut().for_each(|list| list.sort_by(|one, two| order(one).cmp(&order(two))));
        }
    }
    groups.into_values().collect()
}

fn order(address: &EndpointAddress) -> (&str, Option<&str>) {
    (&address.ip, address.target_ref.as_ref().and_then(|target| target.uid.as_deref()))
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let listed = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let resolve = |port: &api::types::core::v1::ServicePort| {
        Some(EndpointPort {
            name: port.name.clone().filter(|name| !name.is_empty()),
            port: service_pods::target_port(pod, port)?,
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    let mut ports: Vec<EndpointPort> = listed.filter_map(resolve).collect();
    ports.sort_by(|one, two| (&one.name, one.port).cmp(&(&two.name, two.port)));
    ports
}

/// Cuts what does not fit, ready addresses last; whether something was cut.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let mut room = FULL;
    let mut cut = false;
    let mut take = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(list) = list {
            cut |= list.len() > room;
            list.truncate(room);
            room -= list.len();
        }
    };
    subsets.iter_mut().for_each(|subset| take(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| take(&mut subset.not_ready_addresses));
    cut
}
