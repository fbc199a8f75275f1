//! Which slices mirror endpoints: one for each set of ports and family of addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::metav1::ObjectMeta;
use api::types::core::v1::{EndpointAddress, EndpointPort as Port, Endpoints, Service};
use api::types::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use client::events::reference;
use reconcile::{Action, Plan};

use super::Observed;
use super::repack::{address, repack};
use crate::endpointslice::SERVICE_NAME;
use crate::owners;

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation are an old lock of elections.
const ELECTION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that mean something for the endpoints only.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

/// Whether we made a slice.
pub(super) fn is_ours(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == US)
}

/// Whether endpoints are shown: those of services that select no pods themselves.
fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let skipped = endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(SKIP));
    let is_lock = endpoints.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ELECTION));
    let selects = |service: &Service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty())
    };
    skipped.is_none_or(|skipped| skipped != "true") && !is_lock && service.is_some_and(|one| !selects(one))
}

pub(super) fn plan(observed: &Observed) -> Plan {
    let service = observed.service.as_deref();
    let mirrored = observed.endpoints.as_deref().filter(|endpoints| is_mirrored(endpoints, service));
    let Some(endpoints) = mirrored else {
        return Plan::of(observed.slices.iter().map(|slice| Action::delete(&**slice)).collect());
    };
    let mut plan = Plan::default();
    let wanted = wanted(endpoints, observed.limit, &mut plan);
    let mut spare: Vec<Arc<EndpointSlice>> = Vec::new();
    let mut kept: BTreeMap<Key, Arc<EndpointSlice>> = BTreeMap::new();
    for slice in &observed.slices {
        let key = (slice.address_type.clone(), key_of(slice.ports.as_deref().unwrap_or_default()));
        if wanted.contains_key(&key) && !kept.contains_key(&key) {
            kept.insert(key, Arc::clone(slice));
        } else {
            spare.push(Arc::clone(slice));
        }
    }
    let mut writes = Vec::new();
    for (key, (ports, shown)) in wanted {
        let existing = kept.remove(&key).or_else(|| {
            // A slice that would go is made to serve; its family is for life.
            let place = spare.iter().position(|slice| slice.address_type == key.0)?;
            Some(spare.remove(place))
        });
        writes.extend(write(endpoints, existing.as_deref(), &key.0, ports, shown));
    }
    plan.actions.extend(writes);
    plan.actions.extend(spare.iter().map(|slice| Action::delete(&**slice)));
    plan
}

/// The family of addresses, and the ports as text.
type Key = (String, String);

fn key_of(ports: &[EndpointPort]) -> String {
    let mut lines: Vec<String> = ports.iter().map(|port| format!("{port:?}")).collect();
    lines.sort();
    lines.join("\n")
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

/// What slices are to show; says in events what they cannot.
fn wanted(
    endpoints: &Endpoints,
    limit: usize,
    plan: &mut Plan,
) -> BTreeMap<Key, (Vec<EndpointPort>, BTreeMap<String, Endpoint>)> {
    let mut wanted: BTreeMap<Key, (Vec<EndpointPort>, BTreeMap<String, Endpoint>)> = BTreeMap::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<EndpointPort> = subset.ports.iter().map(port).collect();
        let mut shown = 0;
        for (one, is_ready) in &subset.addresses {
            if shown >= limit {
                skipped += 1;
                continue;
            }
            let Some((family, endpoint)) = endpoint(one, *is_ready) else {
                invalid += 1;
                continue;
            };
            shown += 1;
            let group =
                wanted.entry((family, key_of(&ports))).or_insert_with(|| (ports.clone(), BTreeMap::new()));
            group.1.insert(identity(&endpoint), endpoint);
        }
    }
    if invalid > 0 {
        let text = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        plan.actions.push(Action::warning(reference(endpoints), "InvalidIPAddress", text));
    }
    if skipped > 0 {
        let text = format!(
            "A max of {limit} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
            skipped + invalid
        );
        plan.actions.push(Action::warning(reference(endpoints), "TooManyAddressesToMirror", text));
    }
    wanted
}

fn endpoint(one: &EndpointAddress, is_ready: bool) -> Option<(String, Endpoint)> {
    let parsed = address(&one.ip)?;
    let family = if parsed.is_ipv4() { "IPv4" } else { "IPv6" };
    let endpoint = Endpoint {
        addresses: vec![parsed.to_string()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: one.hostname.clone().filter(|name| !name.is_empty()),
        node_name: one.node_name.clone(),
        target_ref: one.target_ref.clone(),
        ..Endpoint::default()
    };
    Some((family.to_owned(), endpoint))
}

/// What makes two endpoints the same, whatever else is said of them.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref().map(|target| (&target.namespace, &target.name));
    format!("{:?} {:?} {target:?}", endpoint.addresses, endpoint.hostname)
}

/// The write that makes a slice, or a new one, show endpoints; `None` where it does.
fn write(
    endpoints: &Endpoints,
    existing: Option<&EndpointSlice>,
    family: &str,
    ports: Vec<EndpointPort>,
    shown: BTreeMap<String, Endpoint>,
) -> Option<Action> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), owners::name(endpoints).to_owned());
    labels.insert(MANAGED_BY.to_owned(), US.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN.contains(&name.as_str()));
    let annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    let mut metadata = ObjectMeta {
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        annotations,
        owner_references: Some(vec![owners::controller_reference(endpoints)]),
        ..ObjectMeta::default()
    };
    let Some(existing) = existing else {
        if endpoints.metadata.deletion_timestamp.is_some() {
            return None;
        }
        metadata.generate_name = Some(format!("{}-", owners::name(endpoints)));
        return Some(Action::create(&slice(metadata, family, ports, shown)));
    };
    let is = &existing.metadata;
    let shows: BTreeMap<String, &Endpoint> =
        existing.endpoints.iter().flatten().map(|one| (identity(one), one)).collect();
    let same = (&is.labels, &is.annotations, &is.owner_references)
        == (&metadata.labels, &metadata.annotations, &metadata.owner_references)
        && key_of(existing.ports.as_deref().unwrap_or_default()) == key_of(&ports)
        && shows.iter().map(|(key, one)| (key, *one)).eq(shown.iter());
    if same {
        return None;
    }
    metadata.name.clone_from(&is.name);
    metadata.uid.clone_from(&is.uid);
    metadata.resource_version.clone_from(&is.resource_version);
    Some(Action::update(&slice(metadata, family, ports, shown)))
}

fn slice(
    metadata: ObjectMeta,
    family: &str,
    ports: Vec<EndpointPort>,
    shown: BTreeMap<String, Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata,
        address_type: family.to_owned(),
        endpoints: Some(shown.into_values().collect()),
        ports: Some(ports),
    }
}
